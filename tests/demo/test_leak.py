"""``examples/leak.py`` in full: 50 tasks leak at one a second, among 500 healthy ones a second."""

import re
from contextlib import ExitStack
from pathlib import Path

from tests.machine import cpu_waited

from .programs import Program

IN_TIME = 5.0
"""Seconds from the last leaked task to the names of all; up to twice that where somebody waits for a CPU."""


def figures(said: str) -> tuple[float, ...]:
    """Return what the example measured: when the last task leaked, the others' p99, when the leak was named,
    and how long after the last one all were."""
    last, p99, named = re.findall(
        r"the last at (\S+) s; .* up to (\S+) s \(p99\); .* named at (\S+) s", said
    )[0]
    ((after, rest),) = re.findall(r"^named after (\S+) s: (.+) \(", said, re.MULTILINE)
    assert rest == "50 x leaked: handle, by __main__.accept"
    return float(last), float(p99), float(named), float(after)


def test_leaks_are_named_in_time(tmp_path: Path) -> None:
    """All within 5 s of the last where nothing can wake them; else the leak, within three times their p99."""
    before = cpu_waited()
    with ExitStack() as opened:
        never = Program(opened, tmp_path, "leak")
        perhaps = Program(opened, tmp_path, "leak", "--could-wake")
        said = never.end()
        last, _, named, after = figures(said)
        waited = min(cpu_waited() - before, IN_TIME)
        assert last >= 49
        assert named <= IN_TIME + waited
        assert after <= IN_TIME + waited
        assert "nothing can wake it" in said
        assert "does not seem to finish" not in said

        said = perhaps.end()
        last, p99, named, after = figures(said)
        assert last >= 49
        assert p99 > 0.1
        waited = min(cpu_waited() - before, IN_TIME)
        assert named - last <= 3 * p99 + waited
        assert after <= 3 * p99 + IN_TIME + waited
        assert "others created there take no more than" in said
        assert "nothing can wake it" not in said
        assert (never.status, perhaps.status) == (0, 0)
