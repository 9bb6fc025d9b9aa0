"""A program whose library is not as its reader knows it.

python -m tests.pools.altered NAME ALTERATION URL

The library is the real one, and works: a name is altered in all of its source, as that is imported. Prints
what the program saw and what loopwatch said, as JSON.
"""

from __future__ import annotations

import asyncio
import dataclasses
import importlib
import importlib.abc
import importlib.machinery
import importlib.util
import json
import logging
import os
import re
import sys
import threading
import traceback
from collections.abc import Callable, Sequence
from types import ModuleType
from typing import Any

import loopwatch
from loopwatch import Snapshot
from loopwatch._rule_ids import RULE_IDS

from .libraries import LIBRARIES, SIZE, Library, give_back
from .servers import SECRET

NEW = "_of_the_next_version"
OURS = os.path.dirname(loopwatch.__file__)
READS = 5
"""More than the failures after which a feature is switched off."""


class Renaming(importlib.machinery.PathFinder):
    """Imports a package with one identifier renamed throughout its source."""

    def __init__(self, package: str, name: str) -> None:
        self._package = package
        self._name = re.compile(rf"\b{name}\b")
        self._new = name + NEW

    def find_spec(  # type: ignore[override]
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if fullname.partition(".")[0] != self._package:
            return None
        spec = importlib.machinery.PathFinder.find_spec(fullname, path, target)
        if spec is None or not isinstance(spec.loader, importlib.machinery.SourceFileLoader):
            return spec
        source = spec.loader.get_source(fullname) or ""
        if self._name.search(source):
            spec.loader = _Renamed(self._name.sub(self._new, source), spec)
        return spec


class _Renamed(importlib.abc.InspectLoader):
    def __init__(self, source: str, spec: importlib.machinery.ModuleSpec) -> None:
        self._source = source
        self._origin = spec.origin
        self._package = spec.submodule_search_locations is not None

    def get_source(self, fullname: str) -> str:
        return self._source

    def get_code(self, fullname: str) -> Any:
        return compile(self._source, str(self._origin), "exec")

    def is_package(self, fullname: str) -> bool:
        return self._package


def alter(library: Library, alteration: str) -> None:
    """Import the library altered."""
    package = library.module.partition(".")[0]
    if library.compiled and alteration in COMPILED:
        COMPILED[alteration](getattr(importlib.import_module(library.module), library.cls), library)
        return
    if alteration in ("attribute missing", "read raising"):
        sys.meta_path.insert(0, Renaming(package, library.attribute))
    elif alteration == "method renamed":
        sys.meta_path.insert(0, Renaming(package, library.method))
    module = importlib.import_module(library.module)
    if alteration == "signature different":
        cls = getattr(module, library.cls)
        setattr(cls, library.method, of_any_signature(cls, library.method))
    elif alteration == "read raising":
        for cls in [found for found in vars(module).values() if isinstance(found, type)]:
            if cls.__module__.partition(".")[0] == package and not issubclass(cls, type):
                setattr(cls, library.attribute, property(broken))


class Hidden:
    """An attribute of a compiled class, which that finds as ever, and a reader does not."""

    def __init__(self, name: str, fail: Callable[[Any], Any]) -> None:
        self._name = name
        self._fail = fail

    def __get__(self, pool: Any, owner: type) -> Any:
        if pool is None:
            return self
        asks = sys._getframe(
            1
        ).f_code  # what is compiled has no frame: there it is what called that, maybe ours
        if asks.co_filename.startswith(OURS) and asks.co_name == "read":
            self._fail(pool)
        return vars(pool)[self._name]

    def __set__(self, pool: Any, value: Any) -> None:
        vars(pool)[self._name] = value


def rename(cls: Any, library: Library) -> None:
    """Rename a method of a compiled class, which goes on to find it by its old name in its instances."""
    old, new = library.method, library.method + NEW

    def find(self: Any, name: str) -> Any:
        if name == old:
            return getattr(self, new)
        raise AttributeError(name)

    setattr(cls, new, vars(cls)[old])
    delattr(cls, old)
    cls.__getattr__ = find


COMPILED: dict[str, Callable[[Any, Library], None]] = {
    "attribute missing": lambda cls, of: setattr(cls, of.attribute, Hidden(of.attribute, missing)),
    "read raising": lambda cls, of: setattr(cls, of.attribute, Hidden(of.attribute, broken)),
    "method renamed": rename,
}
"""How a class is altered that was not made of source at hand."""


def of_any_signature(cls: type, name: str) -> Any:
    """Return a method that does as the one of that name, and does not say which parameters it has."""
    original = vars(cls)[name]
    plain = getattr(original, "__func__", original)

    def method(*args: Any, **kwargs: Any) -> Any:
        return plain(*args, **kwargs)

    return type(original)(method) if plain is not original else method


def missing(pool: Any) -> None:
    raise AttributeError("no such attribute")


def broken(pool: Any) -> None:
    raise ZeroDivisionError(f"{SECRET} of {pool!r}")


async def use(library: Library, url: str, agent: loopwatch.Agent) -> tuple[list[str], list[Snapshot]]:
    """Do what programs do with a pool, which is read meanwhile, and return what came of both."""
    loop = asyncio.get_running_loop()
    saw = []

    async def read() -> Snapshot:
        done = loop.create_future()

        def ask() -> None:
            snapshots = [agent.snapshot() for _ in range(READS)]
            for _ in range(READS):
                agent.pools()  # which asks who holds, of any pool
            loop.call_soon_threadsafe(done.set_result, snapshots[-1])

        threading.Thread(target=ask).start()
        return await done

    async with library.pool(url) as (acquire, release):
        held = [await acquire() for _ in range(SIZE)]
        third = asyncio.ensure_future(acquire())
        _, waiting = await asyncio.wait([third], timeout=0.2)  # under test: it gets none before one is free
        saw.append(f"{len(waiting)} waits")
        full = await read()
        waiter = asyncio.ensure_future(acquire())
        await asyncio.sleep(0)
        waiter.cancel()
        try:
            await waiter
        except asyncio.CancelledError as error:
            files = {frame.filename for frame in traceback.extract_tb(error.__traceback__)}
            saw += [f"a frame in {file}" for file in files if file.startswith(OURS)]
            saw.append("one cancelled")
        for one in held:
            await give_back(release, one)
        await give_back(release, await third)
        saw.append(f"{len(held) + 1} got")
    return saw, [full, await read()]


def main(name: str, alteration: str, url: str) -> None:
    library = next(library for library in LIBRARIES if library.name == name)
    alter(library, alteration)
    said: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: said.append(f"{record.levelname} {record.getMessage()}")  # type: ignore[method-assign]
    logging.getLogger("loopwatch").addHandler(handler)
    # What a busy machine would have it say besides.
    agent = loopwatch.install(prometheus_port=None, stall_threshold=60, ignore=RULE_IDS)
    saw, snapshots = asyncio.run(use(library, url, agent))
    loopwatch.uninstall()
    facts = [sorted(snapshot.points) for snapshot in snapshots]
    pools = [[dataclasses.asdict(pool) for pool in snapshot.pools] for snapshot in snapshots]
    up = [(*point.labels, point.value) for point in snapshots[-1].points["reader_up"]]
    print(json.dumps({"saw": saw, "said": said, "up": up, "facts": facts, "pools": pools}))


if __name__ == "__main__":
    main(*sys.argv[1:])
