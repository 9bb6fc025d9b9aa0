"""Draws the screen, as a given number of lines and columns. Everything is passed in, nothing is kept."""

from __future__ import annotations

from collections.abc import Sequence

from rich.text import Text

from loopwatch._console.tables import cells, cut
from loopwatch._document import Document
from loopwatch._words import clean, span

from .keys import HELP
from .overview import MARK, overview
from .sight import Sight
from .state import OVERVIEW, PAGES, State

SELECTED = "reverse"
HEADING = "bold"
AROUND = 4
"""Lines outside the page: two above it and two below."""
NARROWEST = 40
"""Fewest columns that a page is laid out for; on a narrower screen some are beyond its edge."""
FRESH = 3.0
"""Seconds without a document after which its age is shown."""


def page_height(height: int) -> int:
    """Return the number of lines of a page on a screen of this height."""
    return max(1, height - AROUND)


def draw(state: State, sight: Sight, width: int, height: int) -> list[Text]:
    """Return the screen: ``height`` lines, none wider than ``width``."""
    body = _body(state, sight, max(width, NARROWEST), page_height(height))
    lines = [_title(state, sight, width), _tabs(state, sight, width), *body]
    lines += [Text() for _ in range(height - 2 - len(lines))]
    lines += [_note(state, sight, width), _foot(state, width)]
    for line in lines:
        line.truncate(width, overflow="ellipsis")
    return lines[:height]


def _title(state: State, sight: Sight, width: int) -> Text:
    document = sight.document
    said = "loopwatch top"
    if document is not None:
        process = document.process
        said += f"  {document.snapshot.service_name}  pid {process.pid}  Python {process.python}"
        if len(document.workers) > 1:
            said += f"  (one of {len(document.workers)} workers)"
    said += f"  {sight.target}"
    status, style = _status(state, sight)
    room = width - cells(status) - 2
    line = Text(_fitted(said, room), HEADING)
    line.append(f"  {status}", style)
    return line


def _status(state: State, sight: Sight) -> tuple[str, str]:
    """Return whether what is shown is current, in words, and the style of that text."""
    if state.frozen:
        return "FROZEN", "bold black on cyan"
    if sight.problem is not None:
        return f"NO ANSWER for {span(sight.age)}", "bold white on red"
    if sight.age > FRESH:
        return f"{span(sight.age)} old", "bold yellow"
    return "live" if sight.document is not None else "asking", "green"


def _fitted(text: str, width: int) -> str:
    """Return a text of exactly ``width`` columns, without control characters."""
    text = cut(clean(text), max(0, width))
    return text + " " * (width - cells(text))


def _tabs(state: State, sight: Sight, width: int) -> Text:
    counts = _counts(sight.document)
    named = [f"{at} {name}{counts.get(name, '')}" for at, name in enumerate(PAGES, 1)]
    if sum(map(len, named)) + 2 * len(named) > width:
        named = [f"{at} {name}" for at, name in enumerate(PAGES, 1)]
    gap = " " if sum(map(len, named)) + 2 * len(named) > width else "  "
    line = Text(no_wrap=True)
    for name, text in zip(PAGES, named, strict=True):
        line.append(text, SELECTED if name == state.page else "cyan")
        line.append(gap)
    line.right_crop(len(gap))
    return line


def _counts(document: Document | None) -> dict[str, str]:
    if document is None:
        return {}
    snapshot = document.snapshot
    counts = {
        "stalls": len(snapshot.stalls),
        "tasks": sum(site.live for site in document.sites),
        "pools": len(snapshot.pools),
        "lost": len(snapshot.lost),
        "findings": len(snapshot.findings),
    }
    return {name: f" ({count})" for name, count in counts.items() if count}


def _body(state: State, sight: Sight, width: int, height: int) -> list[Text]:
    if state.helping:
        return _scrolled(_help(), state.scrolled, height)
    if sight.document is None:
        return [Text(), Text(_fitted(f"  {sight.problem or 'Waiting for the first answer.'}", width))]
    if state.page == OVERVIEW:
        return _scrolled(overview(sight.document, sight.history, width, height), state.scrolled, height)
    if state.opened is not None:
        return _scrolled(_details(state, sight.document, width), state.scrolled, height)
    return _list(state, sight.document, width, height)


def _help() -> list[Text]:
    widest = max(len(keys) for keys, _ in HELP)
    return [Text(), *(Text.assemble((f"  {keys:{widest}}  ", "cyan"), what) for keys, what in HELP)]


def _scrolled(lines: Sequence[Text], by: int, height: int) -> list[Text]:
    """Return the part of a text that is scrolled to, at most with its last line at the bottom."""
    first = max(0, min(by, len(lines) - height))
    return list(lines[first : first + height])


def _details(state: State, document: Document, width: int) -> list[Text]:
    listing = state.listing
    if listing is None:
        return []
    same = listing.identity(state.opened)
    row = next((row for row in listing.rows(document) if listing.identity(row) == same), None)
    texts = listing.details(row or state.opened, document, width)
    lines = [Text(), *(Text(_line(text, width)) for text in texts)]
    lines[1].stylize(HEADING)
    for line in lines:
        if line.plain.startswith(MARK):
            line.stylize("bold yellow")
    if row is None:
        lines[0] = Text("  It is gone; this is how it was last seen.", "yellow")
    return lines


def _line(text: str, width: int) -> str:
    return cut(clean(text), width)


def _list(state: State, document: Document, width: int, height: int) -> list[Text]:
    listing = state.listing
    rows = state.rows(document)
    if listing is None:
        return []
    if not rows:
        filtered = state.spot.order.filter.strip()
        said = f"No line has {filtered!r} in it." if filtered else listing.empty
        return [Text(), Text(_line(f"  {said}", width))]
    room = max(1, height - 1)
    at = state.position(rows)
    first = max(0, min(at - room // 2, len(rows) - room))
    heading, *lines = listing.lines(document, rows[first : first + room], width, state.spot.order)
    shown = [Text(heading, HEADING)]
    for place, (row, text) in enumerate(zip(rows[first:], lines, strict=False), first):
        if place == at:
            shown.append(Text(text.ljust(width - len(text) + cells(text)), SELECTED))
        else:
            shown.append(Text(text, listing.style(row)))
    return shown


def _note(state: State, sight: Sight, width: int) -> Text:
    """Return the line above the keys: what is wrong, or how the list is filtered."""
    if sight.problem is not None and sight.document is not None:
        return Text(_line(f"{sight.problem}; asking again", width), "red")
    order = state.spot.order
    if state.typing:
        return Text(_line(f"/{order.filter}_", width), "bold")
    said = [f"only lines with {order.filter!r}"] if order.filter.strip() else []
    if order.turned and order.column is None:
        said.append("turned round")
    return Text(_line(", ".join(said), width), "dim")


def _foot(state: State, width: int) -> Text:
    if state.typing:
        said = "Enter keep  Esc drop"
    elif state.helping:
        said = "? back  q quit"
    elif state.opened is not None:
        said = "Esc back  Up Down scroll  f freeze  ? help  q quit"
    elif state.listing is not None:
        said = "Enter open  Tab page  s sort  / filter  f freeze  w worker  ? help  q quit"
    else:
        said = "Tab or 1-9 page  f freeze  w worker  r fetch  ? help  q quit"
    return Text(_fitted(said, width), "black on white")
