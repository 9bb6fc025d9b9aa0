"""What was given out is remembered for as long as it lives, and databases go by what is no secret."""

from __future__ import annotations

import pytest

from loopwatch._collectors.pools.given import given_out, note_given
from loopwatch._collectors.pools.protocol import place_of


class Thing:
    """Equal to all others, and hashed by nobody."""

    __hash__ = None  # type: ignore[assignment]

    def __eq__(self, other: object) -> bool:
        return True


def test_given_out() -> None:
    pool, one, other = Thing(), Thing(), Thing()
    assert given_out(pool) == []
    for thing in (one, other, one):
        note_given(pool, thing)
    assert list(map(id, given_out(pool))) == [id(one), id(other)]
    del one, thing
    assert [found is other for found in given_out(pool)] == [True]


@pytest.mark.parametrize(
    ("parts", "label"),
    [
        (("db.internal", 5432, "orders"), "db.internal:5432/orders"),
        (("db.internal", None, "orders"), "db.internal/orders"),
        (("db.internal", "5432", None), "db.internal:5432"),
        (("db.internal", 5432, ""), "db.internal:5432"),
        (("/var/run/postgresql", None, "orders"), "/var/run/postgresql/orders"),
        ((None, 5432, "orders"), None),
        (("", 5432, "orders"), None),
        ((["one", "two"], 5432, "orders"), None),
        (("of-the-password@db.internal", 5432, "orders"), None),
        (("db.internal", 5432, "of-the-password@db.internal:5432/orders"), "db.internal:5432"),
        (("db.internal", 5432, "postgresql://app:hunter2@db.internal/orders"), "db.internal:5432"),
        (("postgresql://app:hunter2", 5432, None), None),
        (("::1", 5432, "orders"), "::1:5432/orders"),
    ],
)
def test_the_place_of_a_database(parts: tuple[object, object, object], label: str | None) -> None:
    assert place_of(*parts) == label
