"""Stalls by computing: pure Python, C code that holds the GIL, C code that releases it, and the collector."""

from __future__ import annotations

import gc
import hashlib
import importlib
import json
import random
import re
import sqlite3
import sys
import tempfile
import zlib
from pathlib import Path

from ._kind import LoopFactory, Short, Sized

LEAST_VECTOR = 600_000
"""This many floats make more than 10 MB of JSON."""


def _vector(length: int) -> list[float]:
    # Floats, since for a document of many objects the garbage collector would run half of the time.
    return [0.3712345678 * i for i in range(length)]


class JsonLoads(Sized):
    title = "json.loads, 10 MB and more"
    cause = "cpu"
    call = "json.loads"
    amount = LEAST_VECTOR

    def build(self, amount: int) -> None:
        self.text = json.dumps(_vector(amount))

    def work(self) -> None:
        json.loads(self.text)


class JsonLoadsAmidPython(JsonLoads):
    """When it begins, the watchdog is already looking, and reading files, for which it releases the GIL."""

    title = "json.loads amid Python"

    def run(self) -> None:
        with self.timed():
            self._count(0.1)
            self.work()
            self._count(0.02)

    def _count(self, seconds: float) -> None:
        until = self.clock() + seconds
        while self.clock() < until:
            pass


class ShortJsonLoads(Short, JsonLoads):
    title = "json.loads, 0.03 s"
    amount = 20_000


class JsonDumps(Sized):
    title = "json.dumps, 10 MB and more"
    cause = "cpu"
    call = "json.dumps"
    amount = LEAST_VECTOR

    def build(self, amount: int) -> None:
        self.answer = _vector(amount)

    def work(self) -> None:
        json.dumps(self.answer)


class Regex(Sized):
    title = "catastrophic regex"
    cause = "cpu"
    call = "re.match"
    amount = 14

    def build(self, amount: int) -> None:
        self.text = "a" * amount + "b"

    def prepare(self) -> None:
        # Each character doubles the time, so the first amount that takes long enough does not take too long.
        while self.tried(self.amount) < self.fits[0] * 1.2:
            self.amount += 1

    def work(self) -> None:
        re.match(r"(a+)+$", self.text)


class Pbkdf2(Sized):
    title = "hashlib.pbkdf2_hmac"
    cause = "cpu"
    call = "hashlib.pbkdf2_hmac"
    amount = 20_000

    def build(self, amount: int) -> None:
        self.rounds = amount

    def work(self) -> None:
        hashlib.pbkdf2_hmac("sha256", b"password", b"salt", self.rounds)


class PythonLoop(Sized):
    title = "pure Python loop"
    cause = "cpu"
    amount = 100_000

    def build(self, amount: int) -> None:
        self.rounds = amount

    def work(self) -> None:
        total = 0
        for i in range(self.rounds):
            total += i * i % 7


class ShortPythonLoop(Short, PythonLoop):
    title = "pure Python loop, 0.03 s"
    amount = 10_000


class SortByC(Sized):
    title = "sort, key in C"
    cause = "cpu"
    call = "sorted"
    amount = 50_000

    def build(self, amount: int) -> None:
        shuffled = random.Random(7)
        self.rows = [f"Customer {shuffled.randrange(amount)}" for _ in range(amount)]

    def work(self) -> None:
        sorted(self.rows, key=str.casefold)


class SortByPython(Sized):
    title = "sort, key in Python"
    cause = "cpu"
    culprit = "rank"
    amount = 10_000

    def build(self, amount: int) -> None:
        shuffled = random.Random(7)
        self.rows = [f"Customer {shuffled.randrange(amount)}" for _ in range(amount)]

    def work(self) -> None:
        self.rows.sort(key=self.rank)

    def rank(self, row: str) -> int:
        weight = 0
        for letter in row:
            weight = weight * 31 + ord(letter)
        return weight


class Zlib(Sized):
    title = "zlib.compress"
    cause = "cpu"
    call = "zlib.compress"
    amount = 1_000_000

    def build(self, amount: int) -> None:
        words = random.Random(7).choices([b"alpha ", b"beta ", b"gamma ", b"delta "], k=amount // 5)
        self.page = b"".join(words)

    def work(self) -> None:
        zlib.compress(self.page, 6)


class Sqlite(Sized):
    title = "SQLite query"
    cause = "cpu"
    call = "self.database.execute"
    amount = 50_000

    def __init__(self, loop_factory: LoopFactory) -> None:
        super().__init__(loop_factory)
        self.database = sqlite3.connect(":memory:")

    def build(self, amount: int) -> None:
        self.query = (
            "WITH RECURSIVE number(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM number "
            f"WHERE n < {amount}) SELECT sum(n) FROM number"
        )

    def work(self) -> None:
        self.database.execute(self.query)


class GcCollect(Sized):
    title = "gc.collect over millions of objects"
    cause = "gc"
    call = "gc.collect"
    amount = 1_000_000

    def build(self, amount: int) -> None:
        gc.disable()
        # Two objects each, one holding the other.
        self.objects = [[[None]] for _ in range(amount // 2)]
        gc.enable()

    def work(self) -> None:
        gc.collect()


class SlowImport(Sized):
    """A big library, compiled on first use: the function that imports it is at fault."""

    title = "slow import of a library"
    cause = "cpu"
    call: str | None = "importlib.import_module"
    amount = 500
    builds = 0

    def __init__(self, loop_factory: LoopFactory) -> None:
        super().__init__(loop_factory)
        self.folder = tempfile.TemporaryDirectory()
        self.path = Path(self.folder.name, "site-packages")
        self.path.mkdir()
        sys.path.append(str(self.path))

    def build(self, amount: int) -> None:
        self.builds += 1
        self.module = f"slow_module_{self.builds}"
        Path(self.path, f"{self.module}.py").write_text(self.source(amount))
        importlib.invalidate_caches()

    def source(self, amount: int) -> str:
        return "".join(
            f"def price_{i}(x, y=({i}, 'net')):\n    return [x + {i}, y, x * {i}]\n" for i in range(amount)
        )

    def work(self) -> None:
        importlib.import_module(self.module)


class SlowOwnImport(SlowImport):
    """A module of the application that computes while it is imported: its own body is at fault."""

    title = "slow import of a module of ours"
    call = None
    amount = 50_000

    def __init__(self, loop_factory: LoopFactory) -> None:
        super().__init__(loop_factory)
        self.path = Path(self.folder.name, "application")
        self.path.mkdir()
        sys.path.append(str(self.path))

    def source(self, amount: int) -> str:
        return f"PRIMES = 0\nfor i in range({amount}):\n    PRIMES += i * i % 7\n"

    def culprit_name(self) -> str:
        return f"{self.module}.<module>"
