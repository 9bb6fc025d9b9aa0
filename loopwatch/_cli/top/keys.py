"""The names of the keys, how a terminal sends them, and what they do, in words."""

from __future__ import annotations

from collections.abc import Iterator

_SEQUENCES = {
    "[A": "up",
    "[B": "down",
    "[C": "right",
    "[D": "left",
    "OA": "up",
    "OB": "down",
    "OC": "right",
    "OD": "left",
    "[H": "home",
    "[F": "end",
    "OH": "home",
    "OF": "end",
    "[1~": "home",
    "[4~": "end",
    "[5~": "page up",
    "[6~": "page down",
    "[Z": "back tab",
}
"""Sequences that terminals in use send after an escape character."""

_CHARACTERS = {
    "\r": "enter",
    "\n": "enter",
    "\t": "tab",
    "\x7f": "backspace",
    "\b": "backspace",
    " ": "space",
}

HELP: tuple[tuple[str, str], ...] = (
    ("1 to 9, Tab, Left, Right", "another page"),
    ("Up, Down, j, k", "the line before or after"),
    ("PgUp, PgDn, Home, End, g, G", "further up or down"),
    ("Enter", "all about the line: stack, people, tasks"),
    ("Esc, Backspace", "back; in a list, no filter"),
    ("s, S", "sort by the next column; the other way round"),
    ("/", "only lines with this text; Enter keep, Esc drop"),
    ("f, Space", "freeze what is shown, and go on"),
    ("w", "the next worker of the same port"),
    ("r", "fetch at once"),
    ("?", "this help"),
    ("q, Ctrl-C", "quit"),
)


def keys(text: str) -> Iterator[str]:
    """Yield the names of the keys in what a terminal has sent. A printable character is its own name.

    Unknown sequences are skipped. An escape character that nothing follows is the key Esc: a terminal sends
    a sequence in one piece.
    """
    at = 0
    while at < len(text):
        character = text[at]
        at += 1
        if character == "\x1b":
            length = _sequence(text, at)
            if not length:
                yield "esc"
            elif name := _SEQUENCES.get(text[at : at + length]):
                yield name
            at += length
        elif character in _CHARACTERS:
            yield _CHARACTERS[character]
        elif character.isprintable():
            yield character


def _sequence(text: str, at: int) -> int:
    """Return the length of the rest of a sequence: CSI up to its final byte, or SS3 and one byte more."""
    if text[at : at + 1] == "O":
        return min(2, len(text) - at)
    if text[at : at + 1] != "[":
        return 0
    end = at + 1
    while end < len(text) and not "@" <= text[end] <= "~":
        end += 1
    return min(end + 1, len(text)) - at
