"""What terminals send becomes the names of keys."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loopwatch._cli.top.keys import keys


@pytest.mark.parametrize(
    ("sent", "pressed"),
    [
        ("q", ["q"]),
        ("jk?/", ["j", "k", "?", "/"]),
        ("\x1b[A\x1b[B\x1b[C\x1b[D", ["up", "down", "right", "left"]),
        ("\x1bOA\x1bOB", ["up", "down"]),
        ("\x1b[5~\x1b[6~", ["page up", "page down"]),
        ("\x1b[H\x1b[F\x1b[1~\x1b[4~\x1bOH\x1bOF", ["home", "end", "home", "end", "home", "end"]),
        ("\t\x1b[Z", ["tab", "back tab"]),
        ("\r\n", ["enter", "enter"]),
        ("\x7f\b", ["backspace", "backspace"]),
        ("\x1b", ["esc"]),
        ("\x1bq", ["esc", "q"]),
        ("\x1b\x1b[A", ["esc", "up"]),
        (" ", ["space"]),
        ("\x1b[1;5A", []),
        ("\x1b[200~x", ["x"]),
        ("\x1b[", []),
        ("\x1bO", []),
        ("\x00\x01\x1a", []),
        ("é", ["é"]),
    ],
)
def test_each_key_has_a_name(sent: str, pressed: list[str]) -> None:
    assert list(keys(sent)) == pressed


@given(st.text(alphabet="\x1b[O~;05AZq \t\r\x00é"))
def test_whatever_is_sent_is_taken_and_nothing_unprintable_comes_of_it(sent: str) -> None:
    for key in keys(sent):
        assert key.isprintable()
        assert (
            len(key) == 1 or key in "esc up down left right home end enter space tab backspace" or " " in key
        )
