"""The page that shows the measurements: each section's output is placed between a pair of markers.

The prose is kept; the text between ``<!-- measured: NAME -->`` and ``<!-- end of NAME -->`` is replaced.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import io
import re
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

from .report import CannotRunError, Verdict


class _Copy(io.StringIO):
    """Keeps what is printed, and prints it."""

    def write(self, text: str) -> int:
        sys.__stdout__.write(text)  # type: ignore[union-attr]
        sys.__stdout__.flush()  # type: ignore[union-attr]
        return super().write(text)


def overheard(section: Callable[[], list[Verdict]]) -> tuple[str, list[Verdict]]:
    """Run a section; return what it printed, followed by its verdicts, and the verdicts themselves."""
    with contextlib.redirect_stdout(_Copy()) as said:
        verdicts = section()
    return "\n\n".join(filter(None, [said.getvalue().strip("\n"), "\n".join(map(str, verdicts))])), verdicts


def check(page: Path, names: Iterable[str]) -> None:
    """Fail unless the page has a place for each section, before anything is measured for minutes."""
    text = page.read_text(encoding="utf-8")
    for name in names:
        if len(_place(name).findall(text)) != 1:
            raise CannotRunError(f"{page} has not one place between the markers of {name}")


def write(page: Path, name: str, said: str, how: str) -> None:
    """Put a section's output into its place, with what it was measured on, and when."""
    date = dt.datetime.now(tz=dt.UTC).date()
    block = f"{how}, {date}:\n\n```text\n{said}\n```\n"
    text = page.read_text(encoding="utf-8")
    replaced = _place(name).sub(lambda found: f"{found[1]}{block}{found[2]}", text)
    page.write_text(replaced, encoding="utf-8")


def _place(name: str) -> re.Pattern[str]:
    """Find the place of a section: its markers, and what is between them."""
    return re.compile(rf"(<!-- measured: {name} -->\n).*?(<!-- end of {name} -->\n)", re.DOTALL)
