"""Whose code a frame is."""

import json
import os
import subprocess
import sys
import sysconfig
from pathlib import Path
from types import SimpleNamespace

import pytest

import loopwatch
from loopwatch._watchdog import code_owner
from loopwatch._watchdog.code_owner import CodeOwner

SITE = Path(sysconfig.get_path("purelib"))
STDLIB = Path(os.__file__).parent

PIP = """#!/bin/python
import sys
from shop.cli import main
if __name__ == '__main__':
    sys.argv[0] = sys.argv[0].removesuffix('.exe')
    sys.exit(main())
"""
DISTLIB = """#!/bin/python
# -*- coding: utf-8 -*-
import re
import sys
from shop.cli import Command
if __name__ == '__main__':
    sys.argv[0] = re.sub(r'(-script\\.pyw|\\.exe)?$', '', sys.argv[0])
    sys.exit(Command.run())
"""


@pytest.fixture(autouse=True)
def plain_script(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Pretend that the program is a script of the user's."""
    script = tmp_path / "serve.py"
    script.write_text("from fastapi import FastAPI\napp = FastAPI()\n", encoding="utf-8")
    monkeypatch.setitem(sys.modules, "__main__", SimpleNamespace(__spec__=None))  # type: ignore[arg-type]
    monkeypatch.setattr("sys.argv", [str(script)])
    return script


def started_as(module: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pretend that the program was started with ``python -m``."""
    spec = SimpleNamespace(name=module)
    monkeypatch.setitem(sys.modules, "__main__", SimpleNamespace(__spec__=spec))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("file", "module", "owner"),
    [
        ("/srv/shop/orders.py", "shop.orders", "app"),
        ("orders.py", "orders", "app"),
        (__file__, __name__, "app"),
        (json.__file__, "json", "stdlib"),
        (str(STDLIB / "asyncio" / "base_events.py"), "asyncio.base_events", "stdlib"),
        (str(SITE / "httpx" / "_client.py"), "httpx._client", "library"),
        ("/srv/shop/.venv/lib/python3.12/site-packages/httpx/_client.py", "httpx._client", "library"),
        ("/usr/lib/python3/dist-packages/requests/api.py", "requests.api", "library"),
        (loopwatch.__file__, "loopwatch", "own"),
        (code_owner.__file__, "loopwatch._watchdog.code_owner", "own"),
        ("<string>", "shop.orders", "generated"),
        ("<frozen importlib._bootstrap>", "importlib._bootstrap", "generated"),
        ("<template>", "jinja2", "generated"),
        ("/srv/shop/orders.py", "", "generated"),
    ],
)
def test_files_tell_whose_they_are(file: str, module: str, owner: str) -> None:
    assert CodeOwner().of(file, module) == owner


def test_a_virtual_environment_in_the_working_directory_holds_no_application(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    library = tmp_path / ".venv/lib/python3.13/site-packages/httpx/_client.py"
    assert CodeOwner().of(str(library), "httpx._client") == "library"
    assert CodeOwner().of("orders.py", "orders") == "app"


class TestNamedPackages:
    """app_packages says what is application code though installed like a library."""

    @pytest.mark.parametrize("module", ["shop", "shop.orders", "jobs.nightly", "jobs.nightly.report"])
    def test_they_and_what_is_in_them(self, module: str) -> None:
        assert CodeOwner(["shop", "jobs.nightly"]).of(str(SITE / "x.py"), module) == "app"

    @pytest.mark.parametrize("module", ["shopping", "jobs", "jobs.daily"])
    def test_and_nothing_of_a_like_name(self, module: str) -> None:
        assert CodeOwner(["shop", "jobs.nightly"]).of(str(SITE / "x.py"), module) == "library"

    def test_even_of_ours(self) -> None:
        assert CodeOwner(["loopwatch.testing"]).of(loopwatch.__file__, "loopwatch.testing") == "app"

    def test_but_no_generated_code(self) -> None:
        assert CodeOwner(["shop"]).of("<string>", "shop") == "generated"


class TestTheStartedProgram:
    """The package that was started is the application, wherever it is installed."""

    def test_python_dash_m(self, monkeypatch: pytest.MonkeyPatch) -> None:
        started_as("datasette.__main__", monkeypatch)
        owner = CodeOwner()
        assert owner.of(str(SITE / "datasette/app.py"), "datasette.app") == "app"
        assert owner.of(str(SITE / "datasette/__main__.py"), "__main__") == "app"
        assert owner.of(str(SITE / "httpx/_client.py"), "httpx._client") == "library"

    @pytest.mark.parametrize("launcher", ["uvicorn.__main__", "celery", "fastapi", "loopwatch.__main__"])
    def test_a_launcher_is_not_what_it_launches(self, launcher: str, monkeypatch: pytest.MonkeyPatch) -> None:
        started_as(launcher, monkeypatch)
        package = launcher.partition(".")[0]
        assert CodeOwner().of(str(SITE / package / "server.py"), f"{package}.server") == "library"

    @pytest.mark.parametrize("text", [PIP, DISTLIB])
    def test_a_console_script(self, text: str, plain_script: Path) -> None:
        plain_script.write_text(text, encoding="utf-8")
        assert CodeOwner().of(str(SITE / "shop/orders.py"), "shop.orders") == "app"

    def test_a_script_that_merely_imports_from_a_library_does_not_own_it(self) -> None:
        assert CodeOwner().of(str(SITE / "fastapi/routing.py"), "fastapi.routing") == "library"

    def test_a_script_that_cannot_be_read_owns_nothing(self, monkeypatch: pytest.MonkeyPatch) -> None:
        for argv in ([], ["-c"], [""], ["/no/such/file"], ["bad\0name"]):
            monkeypatch.setattr("sys.argv", argv)
            assert CodeOwner().of(str(SITE / "shop/orders.py"), "shop.orders") == "library"

    def test_a_real_console_script_is_told(self, tmp_path: Path) -> None:
        """As pip writes them: the environment's own pytest and its like."""
        scripts = Path(sysconfig.get_path("scripts"))
        seen = {
            script.name: code_owner._imported_by(str(script))
            for script in scripts.iterdir()
            if script.is_file() and script.name in {"pytest", "hypothesis", "httpx"}
        }
        expected = {"pytest": "_pytest.config", "hypothesis": "hypothesis.extra.cli", "httpx": "httpx"}
        assert all(expected[name] == module for name, module in seen.items())


def test_names_of_generated_code_are_not_kept() -> None:
    owner = CodeOwner()
    for number in range(1_000):
        owner.of(f"<template {number}>", "jinja2")
    assert not owner._by_file


def test_an_editable_install_is_the_application(tmp_path: Path) -> None:
    """Its files stay where the project is, so nothing about them says library."""
    source = tmp_path / "src" / "shop"
    source.mkdir(parents=True)
    (source / "__init__.py").write_text("")
    code = (
        "from loopwatch._watchdog.code_owner import CodeOwner; import shop;"
        "print(CodeOwner().of(shop.__file__, shop.__name__))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={
            **os.environ,
            "PYTHONPATH": os.pathsep.join([str(tmp_path / "src"), os.environ.get("PYTHONPATH", "")]),
        },
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "app\n"
