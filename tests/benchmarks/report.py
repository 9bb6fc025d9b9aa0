"""What the sections return: verdicts on budgets; and how tables are printed."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass


class CannotRunError(Exception):
    """A section cannot measure here. The text says what is missing."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """One budget and what was measured against it."""

    what: str
    measured: float
    limit: float
    unit: str = "x"

    @property
    def kept(self) -> bool:
        """Whether the budget was kept."""
        return self.measured <= self.limit

    def __str__(self) -> str:
        word = "pass" if self.kept else "MISS"
        return f"{word}  {self.what}: {self.measured:.3f}{self.unit} (budget {self.limit:g}{self.unit})"


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print ``rows`` under ``head``: the first column flush left, the others flush right."""
    lines = [head, *rows]
    widths = [max(len(line[i]) for line in lines) for i in range(len(head))]
    for line in lines:
        first, *others = (
            cell.ljust(w) if i == 0 else cell.rjust(w)
            for i, (cell, w) in enumerate(zip(line, widths, strict=True))
        )
        print("  ".join([first, *others]).rstrip())
