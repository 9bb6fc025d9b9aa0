"""The name of a call, read from the bytecode of the frame that stands in it."""

import sys
from collections.abc import Callable, Iterator

import pytest

from loopwatch._watchdog.calls import call_at

Here = Callable[[], "str | None"]


def here() -> str | None:
    """Return what the caller calls when it calls this."""
    caller = sys._getframe(1)
    return call_at(caller.f_code, caller.f_lasti)


class Base:
    def finish(self) -> str | None:
        caller = sys._getframe(1)
        return call_at(caller.f_code, caller.f_lasti)

    def with_keyword(self, **_: object) -> str | None:
        caller = sys._getframe(1)
        return call_at(caller.f_code, caller.f_lasti)

    def itself(self) -> "Base":
        return self


class Handler(Base):
    def finish(self) -> str | None:
        return super().finish()

    def other(self) -> str | None:
        return self.finish_with(1)[0]

    def finish_with(self, _: object) -> list[str | None]:
        caller = sys._getframe(1)
        return [call_at(caller.f_code, caller.f_lasti)]


def through_a_call() -> str | None:
    return Base().itself().finish()


def with_a_keyword() -> str | None:
    base, rest = Base(), {"more": 2}
    return base.with_keyword(secret="secret", **rest)


class Joins:
    """Joined by a text, it notes what the joining code says it calls."""

    def __init__(self) -> None:
        self.seen: str | None = None

    def __iter__(self) -> Iterator[str]:
        caller = sys._getframe(1)
        self.seen = call_at(caller.f_code, caller.f_lasti)
        return iter(())


def of_a_text() -> str | None:
    joins = Joins()
    "secret".join(joins)
    return joins.seen


@pytest.mark.parametrize(
    ("call", "name"),
    [
        (lambda: here(), "here"),
        (Handler().finish, "super().finish"),
        (Handler().other, "self.finish_with"),
        (through_a_call, "finish"),
        (with_a_keyword, "base.with_keyword"),
        (of_a_text, "join"),
    ],
)
def test_a_call_is_named_as_it_is_written(call: Here, name: str) -> None:
    assert call() == name


def test_what_is_no_call_has_no_name() -> None:
    code = compile("1 + x", "<test>", "eval")
    assert call_at(code, len(code.co_code) - 2) is None
