"""``python -m service``: a program whose loop does what each line on its standard input asks for.

It answers each with a line of JSON after ``answer``. Between them it has nothing to do.
"""

from __future__ import annotations

import asyncio
import gc
import json
import logging
import sys
import threading
import time
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from opentelemetry.context import attach
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags, set_span_in_context

import loopwatch
from tests.loops.provoked import block
from tests.machine import CpuWaits

cpu_waits = CpuWaits()
narrow = ThreadPoolExecutor(max_workers=1, thread_name_prefix="narrow")
emptied = threading.Event()

Answer = dict[str, Any]


def hold_up(seconds: float) -> None:
    """Sleep, in the loop's thread."""
    time.sleep(seconds)


async def stall(seconds: str) -> Answer:
    """Hold up the loop. Say when that was, for how long, and how long threads have waited for a CPU."""
    await asyncio.sleep(0.05)
    held = block(lambda: hold_up(float(seconds)))
    await asyncio.sleep(0.01)
    return {"began": held.began, "seconds": held.seconds, "waited": cpu_waits.seconds()}


async def fail() -> None:
    """Fail, and nobody will ask."""
    raise LookupError("nobody asks")


async def wait_for_nobody() -> None:
    """Wait for what only this task holds."""
    await asyncio.get_running_loop().create_future()


LOSSES: dict[str, Callable[[], Coroutine[Any, Any, None]]] = {"fail": fail, "wait": wait_for_nobody}


async def lose(kind: str, number: str) -> Answer:
    """Start tasks that nobody holds, and let the collector have them."""
    for _ in range(int(number)):
        asyncio.create_task(LOSSES[kind]())  # noqa: RUF006 - to be lost
    await asyncio.sleep(0.01)
    gc.collect()
    return {}


async def fill() -> Answer:
    """Keep a pool of one thread full until ``empty``, with two that wait for it."""
    for _ in range(3):
        asyncio.get_running_loop().run_in_executor(narrow, emptied.wait)
    return {}


async def empty() -> Answer:
    """Let them go."""
    emptied.set()
    return {}


async def size() -> Answer:
    """Count what the process holds."""
    gc.collect()
    return {"objects": len(gc.get_objects())}


async def dropped() -> Answer:
    """Return what the agent has dropped, by component."""
    points = await asyncio.to_thread(lambda: loopwatch.install().snapshot().points["dropped"])
    return {point.labels[0]: point.value for point in points}


ASKED: dict[str, Callable[..., Coroutine[Any, Any, Answer]]] = {
    "stall": stall,
    "lose": lose,
    "fill": fill,
    "empty": empty,
    "size": size,
    "dropped": dropped,
}


def say(line: str) -> None:
    """Print a line at once: print() would let lines of the log in between."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


async def obey(line: str) -> None:
    """Do what a line asks for: ``TRACE:SPAN COMMAND ARGUMENT...``, within that span, or ``- COMMAND ...``."""
    span, command, *arguments = line.split()
    if span != "-":
        trace_id, span_id = (int(part, 16) for part in span.split(":"))
        of_request = SpanContext(
            trace_id, span_id, is_remote=True, trace_flags=TraceFlags(TraceFlags.SAMPLED)
        )
        attach(set_span_in_context(NonRecordingSpan(of_request)))
    # In a task made within the span: before Python 3.12 a task's context can be read at its creation alone.
    answer = await asyncio.create_task(ASKED[command](*arguments))
    say(f"answer {json.dumps(answer)}")


async def main() -> None:
    """Obey until there are no more lines."""
    loop = asyncio.get_running_loop()
    over = asyncio.Event()

    def listen() -> None:
        for line in sys.stdin:
            asyncio.run_coroutine_threadsafe(obey(line), loop).result()
        loop.call_soon_threadsafe(over.set)

    threading.Thread(target=listen, daemon=True).start()
    say(f"serving {loopwatch.install().prometheus_url}")
    await over.wait()


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, stream=sys.stdout, format="%(levelname)s %(name)s %(message)s")
    logging.getLogger("asyncio").setLevel(logging.CRITICAL)  # of what is lost on purpose
    loopwatch.install()
    asyncio.run(main())
    say(f"ended {time.time()}")
