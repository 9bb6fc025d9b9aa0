"""The kinds of stall in the table of ``tests/benchmarks/stalls.py``, in its order."""

from __future__ import annotations

from . import computing, dispatched, outside, waiting
from ._kind import Kind, Truth

KINDS: tuple[type[Kind], ...] = (
    waiting.Sleep,
    waiting.SleepTwoDeep,
    computing.JsonLoads,
    computing.JsonLoadsAmidPython,
    computing.JsonDumps,
    computing.Regex,
    computing.Pbkdf2,
    computing.PythonLoop,
    computing.SortByC,
    computing.SortByPython,
    computing.Zlib,
    waiting.SocketRecv,
    waiting.SubprocessRun,
    waiting.LockAcquire,
    waiting.ThreadJoin,
    waiting.FutureResult,
    waiting.Fsync,
    computing.Sqlite,
    computing.GcCollect,
    dispatched.Flood,
    dispatched.CallLater,
    dispatched.DataReceived,
    dispatched.AddReader,
    dispatched.Finalizer,
    dispatched.AsyncGenerator,
    computing.SlowImport,
    computing.SlowOwnImport,
    outside.GilHog,
    outside.Suspended,
    outside.Starved,
    outside.TwoLoops,
    waiting.ShortSleep,
    computing.ShortPythonLoop,
    computing.ShortJsonLoads,
)

__all__ = ["KINDS", "Kind", "Truth"]
