"""The name of a call, read from the bytecode of the frame that stands in it."""

import sys
from collections.abc import Callable

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


@pytest.mark.parametrize(
    ("call", "name"),
    [
        (lambda: here(), "here"),
        (Handler().finish, "super().finish"),
        (Handler().other, "self.finish_with"),
        (through_a_call, "finish"),
    ],
)
def test_a_call_is_named_as_it_is_written(call: Here, name: str) -> None:
    assert call() == name


def test_what_is_no_call_has_no_name() -> None:
    code = compile("1 + x", "<test>", "eval")
    assert call_at(code, len(code.co_code) - 2) is None
