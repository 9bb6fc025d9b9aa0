"""``loopwatch doctor --demo``: the verdict on real faults."""

import json
import subprocess
import sys
from typing import Any

import pytest

from .programs import TIMEOUT


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
    status, written = diagnose(f"--faults={faults}", "--for=30")
    assert (status, written["verdict"]) == (1, "findings")
    [process] = written["processes"]
    assert process["service"] == "analysis-service"
    found = [one for one in process["findings"] if one["rule"] in rule]
    assert any(named in one["summary"] for one in found)
    assert all(one["fix"] and one["evidence"] and one["count"] >= 1 for one in found)
