"""``loopwatch doctor --demo``: the verdict on real faults."""

import json
import subprocess
import sys
from typing import Any

import pytest

from .programs import TIMEOUT

LOOKS = (30, 240)
"""Seconds to watch for; the longer time where a busy machine has shown too little in the shorter one."""


def diagnose(*words: str) -> tuple[int, dict[str, Any]]:
    done = subprocess.run(
        [sys.executable, "-m", "loopwatch", "doctor", "--demo", "--json", *words],
        stdout=subprocess.PIPE,
        text=True,
        timeout=TIMEOUT,
        check=False,
    )
    return done.returncode, json.loads(done.stdout)


@pytest.mark.parametrize(
    ("faults", "rule", "named"),
    [("pool", {"LW301", "LW302"}, "analysis_service.workflow"), ("forget", {"LW201", "LW202"}, "Jobs.start")],
)
def test_a_fault_is_named_with_its_evidence(faults: str, rule: set[str], named: str) -> None:
    for seconds in LOOKS:
        status, written = diagnose(f"--faults={faults}", f"--for={seconds}")
        [process] = written["processes"]
        assert process["service"] == "analysis-service"
        found = [one for one in process["findings"] if one["rule"] in rule]
        if found:
            break
    assert (status, written["verdict"]) == (1, "findings")
    assert any(named in one["summary"] for one in found), process["findings"]
    assert all(one["fix"] and one["evidence"] and one["count"] >= 1 for one in found)
