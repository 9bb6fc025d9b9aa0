"""Every fact is born, kept, read, exported and documented under one stem."""

import re
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

import loopwatch
from loopwatch import facts
from loopwatch._agent_records import Snapshot
from loopwatch._journal import Journal
from loopwatch._measures import Distribution, Point
from loopwatch._parts import COMPONENTS
from loopwatch.exporters.exposition import TEXT
from loopwatch.exporters.prometheus import SnapshotCollector

PACKAGE = Path(loopwatch.__file__).parent
GENERATOR = PACKAGE.parent / "docs" / "reference" / "generate.py"

BORN = ("_probes", "_watchdog", "_context", "_jobs")
KEPT = ("_store", "_context")
READ = ("_collectors",)

OF_OURSELVES = {"overhead", "dropped", "internal_errors", "log_suppressed", "unwatched"}
"""What loopwatch counts about itself, and keeps where it happens; the engine shows the collector where."""
OF_POOLS = {
    fact.stem for fact in facts.ALL if fact.stem.startswith(("pool_", "database_", "http_", "executor_"))
} | {"reader_up"}
"""What readers of pools tell under words of their own, and the census of pools sorts by family."""
OF_THE_RULES = {"finding_count"}
"""What the rules tell of a snapshot, and add to it."""
OF_THE_ENDPOINT = {"worker_up"}
"""What an endpoint tells of those that share it, which no process knows of itself."""
OF_THE_MOMENT = {"info", "ready", "timers"} | OF_POOLS
"""What the collector asks the loop or the library for, so that there is nothing to keep."""

BORN_AS = {
    "loop_time": "idle_time",
    "block_duration": "Stall",
    "block_time": "Stall",
    "task_count": "created",
    "task_site_count": "created",
    "task_created": "created",
    "task_finished": "cancelled",
    "task_duration": "TASK_BUCKETS",
    "task_age_max": "started",
    "task_lost": "Loss",
    "task_leaked": "leaked",
    "task_context_lost": "LostContexts",
    "unretrieved_exceptions": "unretrieved_exception",
}
"""Facts that come from what is born under another word."""
KEPT_AS = {
    "loop_time": "idle_time",
    "task_count": "live",
    "task_site_count": "live",
    "task_created": "created",
    "task_finished": "cancelled",
    "task_duration": "buckets",
    "task_age_max": "started",
    "task_lost": "reasons",
    "task_leaked": "leaked",
    "task_context_lost": "LostContexts",
    "unretrieved_exceptions": "unretrieved",
}
"""Facts that a collector makes of what is kept under another word."""


@cache
def words_by_part() -> list[tuple[str, set[str]]]:
    """Return the words in each module, with the part of the package that it belongs to."""
    return [
        (
            path.relative_to(PACKAGE).parts[0].removesuffix(".py"),
            set(re.findall(r"\w+", path.read_text(encoding="utf-8"))),
        )
        for path in PACKAGE.rglob("*.py")
    ]


def spelled(stem: str, parts: tuple[str, ...]) -> bool:
    """Whether the stem stands as a word in the source of one of these parts of the package."""
    return any(stem in words for part, words in words_by_part() if part in parts)


@pytest.fixture(scope="module")
def exposition() -> str:
    """Render a snapshot that holds one point of every fact."""
    distribution = Distribution(facts.BUCKETS, (1,) * (len(facts.BUCKETS) + 1), 1.0)
    points = {
        fact.stem: (Point(fact.labels, distribution if fact.kind == "histogram" else 1.0),)
        for fact in facts.ALL
    }
    snapshot = Snapshot(taken_at=0.0, service_name="test", points=points, loops=(), stalls=(), lost=())
    return TEXT.write(SnapshotCollector(lambda: snapshot, Journal())).decode()


@pytest.mark.parametrize("fact", facts.ALL, ids=lambda fact: fact.stem)
class TestFact:
    """The way of each fact through the layers."""

    def test_it_is_born(self, fact: facts.Fact) -> None:
        parts = (*BORN, "_parts") if fact.stem in OF_OURSELVES else BORN
        elsewhere = OF_THE_MOMENT | OF_THE_ENDPOINT | OF_THE_RULES
        assert fact.stem in elsewhere or spelled(BORN_AS.get(fact.stem, fact.stem), parts)

    def test_it_is_kept(self, fact: facts.Fact) -> None:
        own_place = fact.stem in OF_OURSELVES | OF_THE_MOMENT | OF_THE_ENDPOINT | OF_THE_RULES
        assert own_place or spelled(KEPT_AS.get(fact.stem, fact.stem), KEPT)

    def test_it_is_read(self, fact: facts.Fact) -> None:
        later = {**dict.fromkeys(OF_THE_ENDPOINT, ("exporters",)), **dict.fromkeys(OF_THE_RULES, ("_rules",))}
        assert spelled(fact.stem, later.get(fact.stem, READ))

    def test_it_is_exported(self, fact: facts.Fact, exposition: str) -> None:
        suffix = {"counter": "_total", "histogram": "_bucket"}.get(fact.kind, "")
        labels = "".join(rf".*{name}=" for name in sorted(fact.prometheus_labels))
        assert re.search(rf"^{fact.prometheus_name}{suffix}\b{labels}", exposition, re.MULTILINE)

    def test_its_name_is_one_in_opentelemetry_too(self, fact: facts.Fact) -> None:
        assert re.fullmatch(r"[a-z][a-z0-9_]*(\.[a-z][a-z0-9_]*)+", fact.name)
        assert fact.unit != "1"


def test_stems_and_names_are_unique() -> None:
    assert len(facts.BY_STEM) == len(facts.ALL) == len({fact.prometheus_name for fact in facts.ALL})


def test_every_part_that_may_fail_shows_as_zero_before() -> None:
    sources = [path.read_text(encoding="utf-8") for path in PACKAGE.rglob("*.py")]
    named = r'(?:failure|_done)\(\s*"(\w+)"|^COMPONENT = "(\w+)"$|_failed\["(\w+)"\]'
    found = {word for text in sources for groups in re.findall(named, text, re.MULTILINE) for word in groups}
    assert found - {""} == set(COMPONENTS)


def test_the_reference_is_up_to_date() -> None:
    done = subprocess.run([sys.executable, GENERATOR, "--check"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
