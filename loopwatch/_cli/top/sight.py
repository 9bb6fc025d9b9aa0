"""What there is to see at one moment: the last document, how it came to that, and whether it is still so."""

from __future__ import annotations

from dataclasses import dataclass, field

from loopwatch._document import Document

from .history import History


@dataclass(frozen=True, slots=True)
class Sight:
    """What the view draws."""

    target: str
    """Who is asked."""
    document: Document | None = None
    """The last one there was."""
    history: History = field(default_factory=History)
    age: float = 0.0
    """Seconds since it came, or since the start if none ever has."""
    problem: str | None = None
    """Why there is no newer one; None while they come."""
