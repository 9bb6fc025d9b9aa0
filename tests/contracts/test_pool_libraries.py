"""No library of the pools' tests is left out of their run on the oldest versions."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[2]
TOOLS = {"hypercorn"}


def _name(requirement: str) -> str:
    found = re.match(r"[\w.-]+", requirement)
    assert found, requirement
    return re.sub(r"[-_.]+", "-", found[0]).lower()


def test_each_has_an_oldest_version() -> None:
    groups = tomllib.loads((ROOT / "pyproject.toml").read_text())["dependency-groups"]
    listed = [one for group in ("pools", "arq") for one in groups[group] if isinstance(one, str)]
    tested = {_name(requirement) for requirement in listed} - TOOLS
    lines = (ROOT / "tests/pools/oldest.txt").read_text().splitlines()
    oldest = {_name(line) for line in lines if re.fullmatch(r"[\w.-]+==[\w.]+", line)}
    assert len(tested) >= 17
    assert tested <= oldest, f"no version in tests/pools/oldest.txt: {sorted(tested - oldest)}"
