"""How places are worded."""

from __future__ import annotations

import pytest

from loopwatch import Frame
from loopwatch._words import place


@pytest.mark.parametrize(
    ("file", "expected"),
    [
        ("/srv/shop/orders.py", "shop/orders.py:7"),
        ("orders.py", "orders.py:7"),
        ("./orders.py", "orders.py:7"),
        ("shop/./orders.py", "shop/orders.py:7"),
        ("/orders.py", "orders.py:7"),
        ("<string>", "<string>:7"),
    ],
)
def test_a_place_is_its_file_and_the_directory_that_holds_it(file: str, expected: str) -> None:
    assert place(Frame("pay", "shop.orders", file, 7)) == expected
