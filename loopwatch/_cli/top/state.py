"""Where the person at the terminal is, and what each key does. Nothing here draws or fetches."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from loopwatch._document import Document

from .listing import Listing, Order
from .listings import LISTINGS

OVERVIEW = "overview"
PAGES = (OVERVIEW, *(listing.name for listing in LISTINGS))
BY_NAME: Mapping[str, Listing] = {listing.name: listing for listing in LISTINGS}
LONGEST_FILTER = 60

Wish = Literal["quit", "fetch", "worker"]
"""What a key asks of the session: to end, to fetch at once, to switch to the next worker."""


@dataclass(frozen=True, slots=True)
class Spot:
    """A position in a list."""

    order: Order = field(default_factory=Order)
    selected: Hashable | None = None
    """The identity of the selected row; None for the first row, whichever it is."""
    at: int = 0
    """Index of the row when it was last seen, used once it is gone."""


@dataclass(frozen=True, slots=True)
class State:
    """What is looked at."""

    page: str = OVERVIEW
    spots: Mapping[str, Spot] = field(default_factory=dict)
    """By page; a page not visited yet has the default."""
    opened: Any = None
    """The row whose details are shown, as it was when opened; None in the list."""
    scrolled: int = 0
    """Lines by which a text is scrolled down."""
    helping: bool = False
    typing: bool = False
    """Whether a filter is being typed."""
    frozen: bool = False

    @property
    def listing(self) -> Listing | None:
        """The list of this page; None on the overview."""
        return BY_NAME.get(self.page)

    @property
    def spot(self) -> Spot:
        """The position in that list."""
        return self.spots.get(self.page, Spot())

    @property
    def reading(self) -> bool:
        """Whether a scrollable text is shown rather than a list."""
        return self.helping or self.opened is not None or self.listing is None

    def with_spot(self, spot: Spot) -> State:
        """Return the state with another position in the list."""
        return replace(self, spots={**self.spots, self.page: spot})

    def rows(self, document: Document | None) -> list[Any]:
        """Return the rows of this page's list, in order."""
        if document is None or self.listing is None:
            return []
        return self.listing.shown(document, self.spot.order)

    def position(self, rows: list[Any]) -> int:
        """Return the index of the selected row."""
        spot, listing = self.spot, self.listing
        if listing is not None and spot.selected is not None:
            for at, row in enumerate(rows):
                if listing.identity(row) == spot.selected:
                    return at
        return max(0, min(spot.at, len(rows) - 1))


def press(state: State, key: str, document: Document | None, height: int) -> tuple[State, Wish | None]:
    """Return the state after a key, and what the key asks for. ``height`` is that of a page, in lines."""
    if state.typing:
        return _type(state, key), None
    if key == "q":
        return state, "quit"
    if key == "r":
        return state, "fetch"
    if key == "w":
        return replace(state, opened=None), "worker"
    if key in ("f", "space"):
        return replace(state, frozen=not state.frozen), None
    if key == "?":
        return replace(state, helping=not state.helping, scrolled=0), None
    if (page := _page(state, key)) is not None:
        return replace(state, page=page, opened=None, helping=False, scrolled=0), None
    if key in ("esc", "backspace"):
        return _back(state), None
    if (step := _step(key, height)) is not None:
        return _move(state, step, document), None
    return _in_list(state, key, document), None


def _page(state: State, key: str) -> str | None:
    """Return the page that a key leads to; None if it leads to none."""
    at = PAGES.index(state.page)
    if key in ("tab", "right"):
        return PAGES[(at + 1) % len(PAGES)]
    if key in ("back tab", "left"):
        return PAGES[at - 1]
    if len(key) == 1 and key in "123456789"[: len(PAGES)]:
        return PAGES[int(key) - 1]
    return None


def _back(state: State) -> State:
    if state.helping:
        return replace(state, helping=False, scrolled=0)
    if state.opened is not None:
        return replace(state, opened=None, scrolled=0)
    return state.with_spot(replace(state.spot, order=replace(state.spot.order, filter="")))


def _step(key: str, height: int) -> int | None:
    """Return how many lines a key moves; None if it moves nothing."""
    far = 1_000_000
    steps = {"up": -1, "k": -1, "down": 1, "j": 1, "home": -far, "g": -far, "end": far, "G": far}
    return {**steps, "page up": -max(1, height), "page down": max(1, height)}.get(key)


def _move(state: State, step: int, document: Document | None) -> State:
    if state.reading:
        return replace(state, scrolled=max(0, state.scrolled + step))
    rows = state.rows(document)
    listing = state.listing
    if not rows or listing is None:
        return state
    at = max(0, min(state.position(rows) + step, len(rows) - 1))
    return state.with_spot(replace(state.spot, at=at, selected=listing.identity(rows[at]) if at else None))


def _in_list(state: State, key: str, document: Document | None) -> State:
    """Handle a key that works only in a list."""
    listing, spot = state.listing, state.spot
    if listing is None or state.reading or document is None:
        return state
    if key == "/":
        return replace(state, typing=True)
    if key == "s":
        columns = len(listing.columns(document))
        following = 0 if spot.order.column is None else spot.order.column + 1
        column = following if following < columns else None
        return state.with_spot(replace(spot, order=replace(spot.order, column=column, turned=False)))
    if key == "S":
        return state.with_spot(replace(spot, order=replace(spot.order, turned=not spot.order.turned)))
    if key == "enter" and (rows := state.rows(document)):
        return replace(state, opened=rows[state.position(rows)], scrolled=0)
    return state


def _type(state: State, key: str) -> State:
    """Add a key to the filter, or end it."""
    words = state.spot.order.filter
    if key == "enter":
        return replace(state, typing=False)
    if key == "esc":
        words, state = "", replace(state, typing=False)
    elif key == "backspace":
        words = words[:-1]
    elif key == "space":
        words += " "
    elif len(key) == 1 and len(words) < LONGEST_FILTER:
        words += key
    return state.with_spot(Spot(replace(state.spot.order, filter=words)))
