"""A Collector for each test, and who sends to it.

Without its program the tests are skipped; ``.ci/run stack`` builds it.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from .collector import Collector

PROTOCOLS = ("grpc", "http/protobuf")


@pytest.fixture(params=PROTOCOLS)
def protocol(request: pytest.FixtureRequest) -> str:
    """How the agent sends: each of the two ways that a Collector takes."""
    return str(request.param)


@pytest.fixture
def collector(tmp_path: Path) -> Iterator[Collector]:
    """A Collector that runs, and has received nothing."""
    with Collector(tmp_path) as running:
        yield running
