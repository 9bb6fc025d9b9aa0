"""What there is to see at one moment: the last document, the history up to it, and whether it is current."""

from __future__ import annotations

from dataclasses import dataclass, field

from loopwatch._document import Document

from .history import History


@dataclass(frozen=True, slots=True)
class Sight:
    """What the view draws."""

    target: str
    """Name of the target."""
    document: Document | None = None
    """The last document."""
    history: History = field(default_factory=History)
    age: float = 0.0
    """Seconds since it arrived, or since the start if none has."""
    problem: str | None = None
    """Why there is no newer document; None while they arrive."""
