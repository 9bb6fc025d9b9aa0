"""What the agent weighs in a process that only has it: a full collection looks at every object there is."""

import json
import subprocess
import sys

MOST = 13_500 if sys.version_info < (3, 14) else 17_500
"""Objects that the collector looks at. 10,200 to 12,500 are, where nothing but asyncio is imported; from
Python 3.14 on, which makes more of each annotation, 15,000 to 16,000."""
UNWANTED = {
    "difflib",
    "email",
    "http.client",
    "prometheus_client",
    "rich",
    "click",
    "opentelemetry",
    "aiomonitor",
}
"""Of use to some programs, or once something is asked: imported then."""

CHILD = """
import asyncio, gc, json, sys
gc.collect()
before = len(gc.get_objects())
import loopwatch
loopwatch.install(prometheus_port=None, console_socket=False, otlp=False)
asyncio.run(asyncio.sleep(0))
gc.collect()
print(json.dumps([len(gc.get_objects()) - before, sorted(sys.modules)]))
"""


def test_an_installed_agent_has_few_objects_and_imports_only_what_it_needs_at_once() -> None:
    child = subprocess.run([sys.executable, "-c", CHILD], capture_output=True, text=True, check=True)
    objects, modules = json.loads(child.stdout)
    assert 1_000 < objects < MOST
    assert UNWANTED.isdisjoint(modules)
