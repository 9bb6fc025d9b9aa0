"""``python -m tests.benchmarks [SECTION...]``: measure, print, and exit 1 if a budget is missed."""

from __future__ import annotations

import argparse
import contextlib
import functools
import sys
import time
from pathlib import Path

from . import acquires, crowd, environment, idle, imports, instructions, memory, outage, page, server
from .report import CannotRunError
from .sink import serve, variables_for

SECTIONS = {
    "instructions": instructions.run,
    "server": server.run,
    "idle": idle.run,
    "memory": memory.run,
    "crowd": crowd.run,
    "acquires": acquires.run,
    "outage": outage.run,
    "outage_by_default": outage.run_by_default,
    "import": imports.run,
}


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__)
    parser.add_argument(
        "sections", nargs="*", metavar="SECTION", help=f"{', '.join(SECTIONS)}; all without any"
    )
    parser.add_argument("--otlp", action="store_true", help="have loopwatch export, to a sink on loopback")
    parser.add_argument(
        "--write",
        type=Path,
        metavar="PAGE",
        help="put what was measured into it: docs/explanation/overhead.md",
    )
    arguments = parser.parse_args()
    chosen = arguments.sections or list(SECTIONS)
    unknown = sorted(set(chosen) - {*SECTIONS, "all"})
    if unknown:
        parser.error(f"no section {', '.join(unknown)}; there are {', '.join(SECTIONS)} and all")
    chosen = list(SECTIONS) if "all" in chosen else chosen
    verdicts = []
    try:
        if arguments.write:
            page.check(arguments.write, chosen)
        skip = environment.prepare()
        print(environment.describe())
        with contextlib.ExitStack() as stack:
            if arguments.otlp:
                environment.ON_TOP.update(variables_for(stack.enter_context(serve())))
            for name in chosen:
                began = time.perf_counter()
                print(f"\n== {name}", flush=True)
                said, judged = page.overheard(functools.partial(SECTIONS[name], skip))
                verdicts += judged
                if arguments.write:
                    page.write(arguments.write, name, said, environment.kind())
                print(f"({time.perf_counter() - began:.0f} s)", flush=True)
    except CannotRunError as reason:
        print(f"cannot run: {reason}", file=sys.stderr)
        return 2
    print("\n== budgets")
    for verdict in verdicts:
        print(verdict)
    return 0 if all(verdict.kept for verdict in verdicts) else 1


if __name__ == "__main__":
    sys.exit(main())
