"""The name of a call, read from the bytecode of the frame that stands in it."""

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

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


def star_arguments() -> str | None:
    base, names = Base(), {"a": 1}
    return base.with_keyword(*(), **names)


def of_an_item() -> str | None:
    bases = [Base()]
    return bases[0].finish()


def on_several_lines() -> str | None:
    base = Base()
    # fmt: off
    return (
        base
        .finish()
    )
    # fmt: on


def as_an_argument() -> str | None:
    return str(Base().finish())


def in_a_comprehension() -> str | None:
    base = Base()
    return [base.finish() for _ in range(1)][0]  # noqa: RUF015 - as people write it


def of_a_closure() -> str | None:
    base = Base()

    def inner() -> str | None:
        return base.finish()

    return inner()


def as_a_decorator() -> str | None:
    seen: list[str | None] = []

    def decorate(function: Callable[[], None]) -> Callable[[], None]:
        caller = sys._getframe(1)
        seen.append(call_at(caller.f_code, caller.f_lasti))
        return function

    @decorate
    def decorated() -> None: ...

    return seen[0]


class Opens:
    def __enter__(self) -> str | None:
        caller = sys._getframe(1)
        return call_at(caller.f_code, caller.f_lasti)

    def __exit__(self, *_: object) -> None: ...

    def __iter__(self) -> Iterator[str | None]:
        caller = sys._getframe(1)
        yield call_at(caller.f_code, caller.f_lasti)

    def __add__(self, _: object) -> str | None:
        caller = sys._getframe(1)
        return call_at(caller.f_code, caller.f_lasti)

    @property
    def shown(self) -> str | None:
        caller = sys._getframe(1)
        return call_at(caller.f_code, caller.f_lasti)


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
        (star_arguments, "base.with_keyword"),
        (of_an_item, "finish"),
        (on_several_lines, "base.finish"),
        (as_an_argument, "finish"),
        (in_a_comprehension, "base.finish"),
        (of_a_closure, "base.finish"),
    ],
)
def test_a_call_is_named_as_it_is_written(call: Here, name: str) -> None:
    assert call() == name


def test_what_is_no_call_has_no_name() -> None:
    code = compile("1 + x", "<test>", "eval")
    assert call_at(code, len(code.co_code) - 2) is None


def test_operators_properties_and_the_like_are_no_calls() -> None:
    opens = Opens()
    with opens as entered:
        assert entered is None
    assert opens + 1 is None
    assert opens.shown is None


def test_a_decorator_is_named_or_not_at_all() -> None:
    assert as_a_decorator() in ("decorate", None)


def test_an_import_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str | None] = []

    def look() -> None:
        frame = sys._getframe(1)
        while frame.f_code is not importing.__code__:
            assert frame.f_back is not None
            frame = frame.f_back
        seen.append(call_at(frame.f_code, frame.f_lasti))

    def importing() -> None:
        import slow_to_import  # type: ignore[import-not-found]  # noqa: F401

    (tmp_path / "slow_to_import.py").write_text("import sys; sys.look()")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(sys, "look", look, raising=False)
    importing()
    assert seen == ["import slow_to_import"]


def test_code_without_positions_names_nothing() -> None:
    code = compile("f(x)", "<test>", "eval")
    bare = code.replace(co_linetable=b"")
    assert [call_at(bare, offset) for offset in range(0, len(code.co_code), 2)] == [None] * (
        len(code.co_code) // 2
    )


def test_an_offset_before_all_instructions_names_nothing() -> None:
    assert call_at(compile("f(x)", "<test>", "eval"), -1) is None
