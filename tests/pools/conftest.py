"""Real servers for the readers of pools, each started when the first test asks for it.

A server whose program is not on the machine skips its tests; ``.ci/run pools`` installs them all.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import cache

import pytest

import loopwatch

from . import servers
from .libraries import LIBRARIES, Library


def pytest_itemcollected(item: pytest.Item) -> None:
    """Let libraries use what others deprecate, as arq does of redis, and leave open what they opened.

    PyMongo does, of connects that are cancelled; a collection finds it in whichever test comes later.
    """
    item.add_marker(pytest.mark.filterwarnings("ignore::DeprecationWarning"))
    item.add_marker(pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning"))


@pytest.fixture
def agent() -> Iterator[loopwatch.Agent]:
    """An agent with no endpoint."""
    yield loopwatch.install(prometheus_port=None)
    loopwatch.uninstall()


@pytest.fixture(params=LIBRARIES, ids=lambda library: library.name)
def library(request: pytest.FixtureRequest) -> Library:
    """Each of the libraries that are read."""
    found: Library = request.param
    pytest.importorskip(found.module, reason=f"needs: {found.module}")
    if not found.has_waits():
        pytest.skip(f"this version of {found.module} is read without its waits")
    gc.collect()  # pools of earlier tests are gone, which a reader may find
    return found


@pytest.fixture
def url(library: Library, request: pytest.FixtureRequest) -> str:
    """The server of that library."""
    return request.getfixturevalue(library.server) if library.server else ""


@pytest.fixture(scope="session")
def postgres_url() -> Iterator[str]:
    """``SELECT pg_sleep(0.3)`` holds a connection for 0.3 s. User and password are required."""
    with servers.postgres() as url:
        yield url


@pytest.fixture(scope="session")
def redis_url() -> Iterator[str]:
    """``BLPOP nothing 0.3`` holds a connection for 0.3 s. A password is required."""
    with servers.redis() as url:
        yield url


@pytest.fixture(scope="session")
def mariadb_url() -> Iterator[str]:
    """``SELECT SLEEP(0.3)`` holds a connection for 0.3 s. User and password are required."""
    with servers.mariadb() as url:
        yield url


@pytest.fixture(scope="session")
def rabbitmq_url() -> Iterator[str]:
    """User and password are required."""
    with servers.rabbitmq() as url:
        yield url


@pytest.fixture(scope="session")
def mongodb_url() -> Iterator[str]:
    """``find_one({"delay": 0.3})`` takes 0.3 s. The URL has a password."""
    with servers.mongod() as url:
        yield url


@pytest.fixture(scope="session")
def h2_url() -> Iterator[Callable[[int], str]]:
    """Return the URL of a server that takes so many concurrent streams on an HTTP/2 connection.

    ``h2_url(3) + "/delay/0.3"`` answers after 0.3 s. There is no TLS in which to agree on HTTP/2: the client
    says ``http1=False, http2=True``.
    """
    with ExitStack() as running:
        yield cache(lambda streams: running.enter_context(servers.http(streams)))


@pytest.fixture(scope="session")
def http_url(h2_url: Callable[[int], str]) -> str:
    """``http_url + "/delay/0.3"`` answers after 0.3 s, over HTTP/1.1."""
    return h2_url(100)
