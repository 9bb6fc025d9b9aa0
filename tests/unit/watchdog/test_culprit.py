"""Which part of a stack is shown, and whose frame is named."""

from __future__ import annotations

import json
from typing import Any
from unittest.mock import Mock

import loopwatch
from loopwatch._collectors.pools.thread_pool import _runs
from loopwatch._places import Place
from loopwatch._probes.gc import GcProbe
from loopwatch._probes.iterations import _keeping
from loopwatch._watchdog.code_owner import CodeOwner
from loopwatch._watchdog.culprit import find, theirs


def place(function: Any) -> Place:
    return function.__code__, 0, function.__module__


def application() -> None:
    """Stand for the program's code."""


PROBE, STDLIB, APP = place(GcProbe._on_gc), place(json.loads), place(application)


def test_a_probe_called_in_the_middle_of_a_function_is_not_shown() -> None:
    """The collector calls ours wherever it starts; the function it interrupted is what the loop ran."""
    assert theirs((PROBE, STDLIB, APP), CodeOwner()) == (STDLIB, APP)
    assert theirs((STDLIB, APP), CodeOwner()) == (STDLIB, APP)


def test_the_select_of_ours_is_not_shown_when_the_one_within_it_stands() -> None:
    """A wait that ended late, since the thread had no CPU, is seen there."""
    select = place(_keeping)
    assert theirs((STDLIB, select, APP), CodeOwner()) == (STDLIB, APP)


def test_the_wrapper_around_the_work_of_an_executor_is_not_shown() -> None:
    code = _runs(Mock(), application).__code__  # type: ignore[attr-defined]
    wrapper = code, 0, _runs.__module__
    assert theirs((APP, wrapper, STDLIB), CodeOwner()) == (APP, STDLIB)


def test_an_api_of_ours_that_the_program_called_is_shown() -> None:
    assert theirs((STDLIB, place(loopwatch.install), APP), CodeOwner())[1] == place(loopwatch.install)


def test_the_innermost_application_frame_is_named() -> None:
    outer = place(test_the_innermost_application_frame_is_named)
    assert find((STDLIB, APP, outer), CodeOwner()) == APP
    assert find((STDLIB,), CodeOwner()) is None
