"""How findings write numbers."""

from __future__ import annotations

import pytest

from loopwatch._rules.words import span


@pytest.mark.parametrize(
    ("seconds", "written"),
    [
        (0.0042, "4.2 ms"),
        (0.612, "612 ms"),
        (4.2, "4.2 s"),
        (119.0, "119 s"),
        (152.0, "2.5 min"),
        (180.0, "3 min"),
        (900.0, "15 min"),
        (9000.0, "2.5 h"),
    ],
)
def test_a_span_is_no_more_than_a_tenth_off(seconds: float, written: str) -> None:
    assert span(seconds) == written
