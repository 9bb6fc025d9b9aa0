"""A library that is not as its reader knows it: one warning, less is seen of it, and it works as ever."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from loopwatch._collectors.pools.catalogue import READERS

from .libraries import LIBRARIES, Library
from .servers import SECRET

ROOT = Path(__file__).parents[2]

GAUGES = ("attribute missing", "read raising")
WAITS = ("method renamed", "signature different")
CASES = [
    pytest.param(library, alteration, id=f"{library.name}-{alteration}")
    for library in LIBRARIES
    for alteration in ("none", *GAUGES, *WAITS)
]

FACTS = {
    "database": {
        "gauges": {"database_connections", "database_limit", "database_waiters"},
        "waits": {"database_oldest_wait", "database_wait", "database_timeouts"},
    },
    "executor": {
        "gauges": {"executor_limit", "executor_workers", "executor_used", "executor_queue"},
        "waits": {"executor_oldest_wait", "executor_wait"},
    },
    "http": {
        "gauges": {"pool_usage", "pool_limit", "pool_idle", "pool_waiters"},
        "waits": {"pool_oldest_wait", "pool_wait", "pool_timeouts"},
    },
}
"""By family and feature, the facts that are there while a pool is in use, if the feature works."""
FACTS["other"] = FACTS["http"]
RECORDS = {"gauges": ("max", "used", "idle", "pending"), "waits": ("wait_count", "wait_sum", "timeouts")}


WITHOUT_WAITS = {"arq", "taskiq"}
"""What runs jobs, and has their own tests."""


def test_all_readers_are_here() -> None:
    kinds = {reader.kind for reader in READERS}
    assert {library.kind for library in LIBRARIES} == kinds - WITHOUT_WAITS


@pytest.mark.parametrize(("library", "alteration"), CASES)
def test_altered(library: Library, alteration: str, request: pytest.FixtureRequest) -> None:
    if importlib.util.find_spec(library.module.partition(".")[0]) is None:
        pytest.skip(f"needs: {library.module}")
    if not library.has_waits():
        pytest.skip(f"this version of {library.module} is read without its waits")
    url = request.getfixturevalue(library.server) if library.server else ""
    told = run(library.name, alteration, url)
    assert told["saw"] == ["1 waits", "one cancelled", "3 got"]
    broken = {feature for kind, feature, up in told["up"] if kind == library.kind and not up}
    expected = {"gauges"} if alteration in GAUGES else {"waits"} if alteration in WAITS else set()
    assert broken - {"holders"} == expected
    assert len(told["said"]) == bool(broken)
    for said in told["said"]:
        begins = f"WARNING loopwatch: pools of {library.kind} are watched without their "
        assert said.startswith(begins)
        gone, *_ = said.removeprefix(begins).partition(", since")
        assert set(gone.split(" and ")) == broken
        assert SECRET not in said
    family = next(reader.family for reader in READERS if reader.kind == library.kind)
    for n, (facts, pools) in enumerate(zip(told["facts"], told["pools"], strict=True)):
        (pool,) = (pool for pool in pools if pool["kind"] == library.kind)
        for feature in ("gauges", "waits"):
            known = {name for name in RECORDS[feature] if pool[name] is not None}
            if feature in broken:
                assert not known
                assert not FACTS[family][feature] & set(facts)
            elif n == 0:
                assert known == set(RECORDS[feature])
                assert FACTS[family][feature] <= set(facts)


def run(*arguments: str) -> Any:
    """Run the program, and return what it printed."""
    program = subprocess.run(
        [sys.executable, "-m", "tests.pools.altered", *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert program.returncode == 0, program.stderr
    return json.loads(program.stdout)
