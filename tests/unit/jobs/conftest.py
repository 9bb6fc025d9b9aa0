"""Each test starts without jobs, drains and watched variables."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from loopwatch._store.jobs import JOBS


@pytest.fixture(autouse=True)
def no_jobs() -> Iterator[None]:
    JOBS.clear()
    yield
    JOBS.clear()
