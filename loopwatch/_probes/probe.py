"""What all probes have in common."""

from __future__ import annotations

from typing import Protocol


class Probe(Protocol):
    """Something that is put into the program, and taken out of it again."""

    def install(self) -> None:
        """Begin watching."""

    def remove(self) -> None:
        """Leave everything as it was. Does no harm where nothing was installed."""
