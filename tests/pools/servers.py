"""Real servers, each started on loopback, on a free port, with a directory that is thrown away."""

from __future__ import annotations

import glob
import importlib.util
import json
import os
import re
import select
import shlex
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

HERE = Path(__file__).parent

USER = "app"
SECRET = "pl4nted-s3cret"
"""The password of every server that has one. It may be in nothing that loopwatch says."""

START_TIMEOUT = 120.0
"""Seconds after which a server that is not ready is a failure."""

PLACES = (  # where Debian keeps programs that are on no user's PATH
    *sorted(glob.glob("/usr/lib/postgresql/*/bin"), reverse=True),
    "/usr/lib/rabbitmq/bin",  # the one in /usr/sbin is for the system's own broker
    *os.get_exec_path(),
    "/usr/sbin",
)


def program(name: str) -> str:
    """Return the path of a server's program, quoted for ``sh``; skip the test where there is none."""
    path = shutil.which(name, path=os.pathsep.join(PLACES))
    if path is None:
        pytest.skip(f"needs: {name}")
    return shlex.quote(path)


def python(script: str, *arguments: object, needs: str = "sys") -> list[str]:
    """Return the command that runs a script that lies here; skip the test where a module it needs is missing.

    Its imports are not to be looked for here. Nothing is imported to find out: that is for the tests to do.
    """
    if importlib.util.find_spec(needs) is None:
        pytest.skip(f"needs: {needs}")
    return [sys.executable, "-P", str(HERE / script), *map(str, arguments)]


_kept: list[socket.socket] = []
"""What keeps the ports that were returned."""


def free_port() -> int:
    """Return a port that the kernel gives to nobody who asks for any port, nor to a connection: on Linux.

    Until this process ends, so also while a server is away that will come back. It is bound, and nobody
    listens. A server that names it gets it, as all set SO_REUSEADDR; elsewhere it would not, so is not kept.
    """
    bound = socket.socket()
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    bound.bind(("127.0.0.1", 0))
    port: int = bound.getsockname()[1]
    if sys.platform == "linux":
        _kept.append(bound)
    else:
        bound.close()
    return port


def login(url: str) -> dict[str, Any]:
    """Return the host, port, user and password of a URL, as the keywords that most libraries take."""
    parts = urlsplit(url)
    return {
        "host": parts.hostname,
        "port": parts.port,
        "user": parts.username,
        "password": parts.password,
    }


def _first_line(supervisor: subprocess.Popen[str]) -> str:
    assert supervisor.stdout is not None
    readable, _, _ = select.select([supervisor.stdout], [], [], START_TIMEOUT)
    return supervisor.stdout.readline() if readable else ""


@contextmanager
def server(
    script: str,
    *,
    ready: str,
    account: str | None = None,
    stop: signal.Signals = signal.SIGKILL,
    files: dict[str, str] | None = None,
) -> Iterator[int]:
    """Run a shell script that ends in a server, from when its output says it is ready to the block's end.

    Gives its process id. Root runs it as that account: some servers refuse root.
    """
    spec = {
        "script": script,
        "ready": ready,
        "account": account if os.geteuid() == 0 else None,
        "stop": stop,
        "files": files or {},
    }
    with subprocess.Popen(
        python("supervise.py", json.dumps(spec)),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,  # no Ctrl-C: it has to stop the server
    ) as supervisor:
        ready_with_pid = re.fullmatch(r"ready (\d+)\n", line := _first_line(supervisor))
        if ready_with_pid is None:
            said, _ = supervisor.communicate("stop")
            pytest.fail(f"no server after {START_TIMEOUT:g} s, or it ended: {line}{said}", pytrace=False)
        try:
            yield int(ready_with_pid[1])
        finally:
            supervisor.communicate("stop")  # not only the end of stdin: what a test forked may hold that open


@contextmanager
def postgres() -> Iterator[str]:
    port = free_port()
    script = f"""
        {program("initdb")} -D data --username={USER} --pwfile=password --auth=scram-sha-256 --no-sync
        exec {program("postgres")} -D data -h 127.0.0.1 -p {port} -k '' -F
    """
    with server(
        script,
        ready="ready to accept connections",
        account="postgres",
        stop=signal.SIGINT,  # disconnects everybody, and frees the shared memory
        files={"password": SECRET},
    ):
        yield f"postgresql://{USER}:{SECRET}@127.0.0.1:{port}/postgres"


@contextmanager
def redis() -> Iterator[str]:
    port = free_port()
    script = f"exec {program('redis-server')} redis.conf"
    config = f'bind 127.0.0.1\nport {port}\nrequirepass {SECRET}\nsave ""\n'
    with server(script, ready="Ready to accept connections", account="redis", files={"redis.conf": config}):
        yield f"redis://:{SECRET}@127.0.0.1:{port}/0"


@contextmanager
def sentinel(master: str) -> Iterator[int]:
    """Yield the port of a Redis Sentinel that watches the server at this URL, under the name ``mymaster``."""
    port = free_port()
    script = f"exec {program('redis-server')} sentinel.conf --sentinel"
    config = (
        f"bind 127.0.0.1\nport {port}\nsentinel monitor mymaster 127.0.0.1 {urlsplit(master).port} 1\n"
        f"sentinel auth-pass mymaster {SECRET}\n"
    )
    with server(script, ready="monitor master mymaster", account="redis", files={"sentinel.conf": config}):
        yield port


@contextmanager
def mariadb() -> Iterator[str]:
    port = free_port()
    script = f"""
        {program("mariadb-install-db")} --no-defaults --datadir="$PWD/data" --skip-test-db \
            --auth-root-authentication-method=normal
        exec {program("mariadbd")} --no-defaults --datadir="$PWD/data" --init-file="$PWD/account.sql" \
            --bind-address=127.0.0.1 --port={port} --socket="$PWD/socket" --pid-file="$PWD/pid" \
            --skip-name-resolve --innodb-flush-method=nosync
    """
    account = f"CREATE DATABASE app;\nGRANT ALL ON app.* TO '{USER}'@'%' IDENTIFIED BY '{SECRET}';\n"
    with server(
        script,
        ready="ready for connections",
        account="mysql",
        files={"account.sql": account},
    ):
        yield f"mysql://{USER}:{SECRET}@127.0.0.1:{port}/app"


@contextmanager
def rabbitmq() -> Iterator[str]:
    port, epmd_port, node_port = free_port(), free_port(), free_port()
    config = f"""
listeners.tcp.default = 127.0.0.1:{port}
default_user = {USER}
default_pass = {SECRET}
"""
    settings = {
        "ERL_EPMD_ADDRESS": "127.0.0.1",
        "ERL_EPMD_PORT": epmd_port,
        "RABBITMQ_CONF_ENV_FILE": "/dev/null",
        "RABBITMQ_CONFIG_FILE": "$PWD/rabbitmq.conf",
        "RABBITMQ_DIST_PORT": node_port,
        "RABBITMQ_ENABLED_PLUGINS_FILE": "$PWD/enabled_plugins",
        "RABBITMQ_LOG_BASE": "$PWD/log",
        "RABBITMQ_LOGS": "-",
        "RABBITMQ_MNESIA_BASE": "$PWD/mnesia",
        "RABBITMQ_NODENAME": f"loopwatch-{port}@localhost",
        # The name server is one of ours and stops with us; the one that Erlang starts would stay.
        "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": (
            "-start_epmd false -kernel inet_dist_use_interface {127,0,0,1}"
        ),
    }
    variables = "\n".join(f'export {name}="{value}"' for name, value in settings.items())
    with (
        server(
            f"exec {program('epmd')} -debug -debug -address 127.0.0.1 -port {epmd_port}",
            ready="entering the main select",
            account="rabbitmq",
        ),
        server(
            f"{variables}\nexec {program('rabbitmq-server')}",
            ready="completed with [0-9]+ plugins",
            account="rabbitmq",
            files={"rabbitmq.conf": config, "enabled_plugins": "[]."},
        ),
    ):
        yield f"amqp://{USER}:{SECRET}@127.0.0.1:{port}/"


@contextmanager
def http(max_concurrent_streams: int) -> Iterator[str]:
    port = free_port()
    command = shlex.join(python("http_server.py", port, max_concurrent_streams, needs="hypercorn"))
    with server(f"exec {command}", ready="Running on"):
        yield f"http://127.0.0.1:{port}"


@contextmanager
def mongod() -> Iterator[str]:
    port = free_port()
    command = shlex.join(python("mongod.py", port, needs="bson"))
    with server(f"exec {command}", ready="serving"):
        yield f"mongodb://{USER}:{SECRET}@127.0.0.1:{port}/?authMechanism=PLAIN&authSource=$external"
