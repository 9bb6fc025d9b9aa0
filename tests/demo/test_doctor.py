"""``loopwatch doctor``: the verdict on real faults."""

import json
import os
import re
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from loopwatch._cli.verdict import STATUS

from .programs import TIMEOUT, Program


def diagnose(*words: str) -> tuple[int, dict[str, Any]]:
    done = subprocess.run(
        [sys.executable, "-m", "loopwatch", "doctor", "--json", *words],
        stdout=subprocess.PIPE,
        text=True,
        timeout=TIMEOUT,
        check=False,
    )
    return done.returncode, json.loads(done.stdout)


@pytest.mark.parametrize(
    ("faults", "rules", "named"),
    [
        ("pool", "LW301|LW302", r"`analysis_service\.workflow:\d+`"),
        ("forget", "LW201|LW202", r"created by `Jobs\.start`"),
    ],
)
def test_a_fault_is_named_with_its_evidence(tmp_path: Path, faults: str, rules: str, named: str) -> None:
    """Once the demo has logged the finding, which goes on for half a minute at least."""
    with ExitStack() as opened:
        demo = Program(opened, tmp_path, "loopwatch", "demo", "--seconds=900", f"--faults={faults}")
        [url] = re.findall(r"metrics at (\S+)", demo.line(r"metrics at http://"))
        demo.line(rf"  ({rules}) (warning|critical)  .*{named}")
        status, written = diagnose(url, "--for=0")
    assert (status, written["verdict"]) == (1, "findings")
    [process] = written["processes"]
    assert process["service"] == "analysis-service"
    found = [one for one in process["findings"] if re.fullmatch(rules, one["rule"])]
    assert any(re.search(named, one["summary"]) for one in found), process["findings"]
    assert all(one["fix"] and one["evidence"] and one["count"] >= 1 for one in found)


def test_the_demo_is_started_looked_at_and_ended() -> None:
    """What is said of it so soon is the machine's."""
    status, written = diagnose("--demo", "--faults=none", "--for=0")
    assert status == STATUS[written["verdict"]]
    [process] = written["processes"]
    assert process["service"] == "analysis-service"
    with pytest.raises(ProcessLookupError):
        os.kill(process["pid"], 0)


def test_it_is_the_demo_that_is_told_of_faults() -> None:
    words = [sys.executable, "-m", "loopwatch", "doctor", "--demo", "--faults=nonsense"]
    done = subprocess.run(words, capture_output=True, text=True, timeout=TIMEOUT, check=False)
    assert done.returncode == 1
    assert "the demo did not start: " in done.stderr
    assert "nonsense" in done.stderr
