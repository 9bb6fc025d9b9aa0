"""The applications that ``drive.py`` drives: what they serve, how they start, what their users do."""

from __future__ import annotations

import base64
import json
import random
import sqlite3
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

ROWS = 200_000
NOTEBOOK_BYTES = 20_000_000


@dataclass(frozen=True, slots=True)
class Reply:
    """What came back for one request."""

    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes

    @property
    def content(self) -> Any:
        """What the JSON says."""
        return json.loads(self.body)


class Send(Protocol):
    """Sends one request and waits for its reply."""

    def __call__(self, method: str, path: str, body: bytes | None = None) -> Reply: ...


@dataclass(frozen=True, slots=True)
class Application:
    """One application from PyPI, as its users install, start and use it."""

    name: str
    requirement: str
    package: str
    """Where the application's own functions live."""
    prepare: Callable[[Path], None]
    """Writes the data the application serves into a directory."""
    command: tuple[str, ...]
    """As typed into a shell in that directory, but for the port."""
    small: str
    """A page that costs next to nothing: how long it takes tells whether the loop is free."""
    use: Callable[[Send], Iterator[tuple[str, Reply]]]
    """Yields what a user does, in words, and what came back."""
    volatile: tuple[str, ...]
    """Keys of its JSON that differ from run to run: times, and what depends on them."""
    writes: tuple[str, ...] = ()
    """The files that its users have it write."""
    headers: tuple[tuple[str, str], ...] = ()


def _shop(directory: Path) -> None:
    choice = random.Random(0)
    rows = (
        (
            number,
            f"2026-{number % 12 + 1:02}-{number % 28 + 1:02}T10:00:00",
            f"customer-{choice.randrange(10_000)}",
            choice.choice(("Berlin", "Ghent", "Krakow", "Lyon", "Porto", "Turin")),
            round(choice.random() * 500, 2),
            "please ring twice " * choice.randrange(3),
        )
        for number in range(ROWS)
    )
    with sqlite3.connect(directory / "shop.db") as database:
        database.execute(
            "create table orders"
            " (id integer primary key, placed text, customer text, city text, amount real, note text)"
        )
        database.executemany("insert into orders values (?, ?, ?, ?, ?, ?)", rows)
    database.close()


def _read_orders(send: Send) -> Iterator[tuple[str, Reply]]:
    yield "a page of 100 orders as JSON", send("GET", "/shop/orders.json?_size=100")
    yield f"all {ROWS:,} orders as JSON", send("GET", "/shop/orders.json?_size=max")
    yield f"all {ROWS:,} orders as JSON objects", send("GET", "/shop/orders.json?_size=max&_shape=objects")


def _notebook(directory: Path) -> None:
    """Write a notebook of plots and tables, as a long analysis leaves one behind."""
    choice = random.Random(0)
    cells: list[dict[str, object]] = []
    size = 0
    while size < NOTEBOOK_BYTES:
        plot = base64.b64encode(choice.randbytes(90_000)).decode()
        table = "".join(f"<tr><td>{row}</td><td>{choice.random()}</td></tr>\n" for row in range(2_000))
        outputs = [
            {
                "output_type": "display_data",
                "metadata": {},
                "data": {"image/png": plot, "text/plain": ["<Figure>"]},
            },
            {
                "output_type": "execute_result",
                "execution_count": len(cells),
                "metadata": {},
                "data": {"text/html": table.splitlines(keepends=True), "text/plain": ["..."]},
            },
        ]
        cells.append(
            {
                "cell_type": "code",
                "id": f"cell-{len(cells)}",
                "execution_count": len(cells),
                "metadata": {},
                "source": [f"plot({len(cells)})\n", f"table({len(cells)})"],
                "outputs": outputs,
            }
        )
        size += len(plot) + len(table)
    notebook = {"cells": cells, "metadata": {}, "nbformat": 4, "nbformat_minor": 5}
    (directory / "analysis.ipynb").write_text(json.dumps(notebook, indent=1))


def _open_and_save(send: Send) -> Iterator[tuple[str, Reply]]:
    yield "list the directory", send("GET", "/api/contents?content=1")
    opened = send("GET", "/api/contents/analysis.ipynb?content=1")
    yield "open the notebook", opened
    model = json.dumps({"type": "notebook", "format": "json", "content": opened.content["content"]})
    yield "save the notebook", send("PUT", "/api/contents/analysis.ipynb", model.encode())
    yield "open it again", send("GET", "/api/contents/analysis.ipynb?content=1")


APPLICATIONS = (
    Application(
        name="datasette",
        requirement="datasette==0.65.5",
        package="datasette",
        prepare=_shop,
        command=(
            *("datasette", "serve", "shop.db"),
            *("--setting", "max_returned_rows", str(ROWS), "--setting", "sql_time_limit_ms", "60000"),
        ),
        small="/-/versions.json",
        use=_read_orders,
        volatile=("query_ms", "suggested_facets"),
    ),
    Application(
        name="jupyter server",
        requirement="jupyter-server==2.21.1",
        package="jupyter_server",
        prepare=_notebook,
        command=(
            "jupyter",
            "server",
            "--no-browser",
            "--allow-root",
            "--ServerApp.port_retries=0",
            "--IdentityProvider.token=t",
        ),
        small="/api",
        use=_open_and_save,
        volatile=("created", "last_modified"),
        writes=("analysis.ipynb",),
        headers=(("Authorization", "token t"),),
    ),
)
