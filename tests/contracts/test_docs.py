"""The pages say what is there: links lead somewhere, code compiles, metrics and settings exist."""

import inspect
import re
from dataclasses import fields
from pathlib import Path

import pytest

import loopwatch
from loopwatch import facts
from loopwatch._settings import PREFIX, Settings
from loopwatch._watchdog import verdict

pytestmark = pytest.mark.alike

ROOT = Path(__file__).parents[2]
README = ROOT / "README.md"
TOUR = ROOT / "docs" / "explanation" / "architecture.md"
PAGES = [README, ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").rglob("*.md"))]

each_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))


def anchors(page: Path) -> set[str]:
    """Return the anchors of a page's headings, as they are made of the titles."""
    titles = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}


@each_page
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\((?!https?:)([^)]+)\)", page.read_text(encoding="utf-8")):
        path, _, anchor = target.partition("#")
        there = (page.parent / path).resolve() if path else page
        assert there.exists(), target
        assert not anchor or anchor in anchors(there), target


@each_page
def test_python_compiles(page: Path) -> None:
    blocks = re.findall(r"^```python\n(.*?)^```", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    for block in blocks:
        compile(block, str(page), "exec")


@each_page
def test_metrics_exist(page: Path) -> None:
    known = {name for fact in facts.ALL for name in (fact.prometheus_name, *fact.prometheus_labels)}
    text = re.sub(r"^```ini\n.*?^```", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    for word in re.findall(r"(?<![/\w])(?:asyncio|loopwatch)_\w+", text):
        assert {word, re.sub(r"_(total|bucket|sum|count)$", "", word)} & known, word


def test_the_readme_lists_the_settings() -> None:
    rows = re.findall(r"^\| `(\w+)` \| `(\w+)` \|", README.read_text(encoding="utf-8"), re.MULTILINE)
    assert rows == [(field.name, PREFIX + field.name.upper()) for field in fields(Settings)]


def test_the_page_on_running_lists_the_settings() -> None:
    """As options, in the order of the README."""
    page = ROOT / "docs" / "how-to" / "run-any-program.md"
    rows = re.findall(r"^\| `--([\w-]+)` \| `(\w+)` \|", page.read_text(encoding="utf-8"), re.MULTILINE)
    names = [field.name for field in fields(Settings)]
    assert rows == [(name.replace("_", "-"), PREFIX + name.upper()) for name in names]


def test_the_page_on_causes_explains_all_evidence() -> None:
    page = (ROOT / "docs" / "explanation" / "causes.md").read_text(encoding="utf-8")
    table = page.partition("## The evidence")[2].partition("## ")[0]
    keys = re.findall(r"^\| (`.+?) \|", table, re.MULTILINE)
    explained = set(re.findall(r"\w+", " ".join(keys)))
    source = inspect.getsource(verdict._evidence)
    assert explained == set(re.findall(r'"(\w+)": ', source))


def test_the_tour_passes_through_every_module() -> None:
    package = Path(loopwatch.__file__).parent
    named = {name.rpartition("/")[2] for name in re.findall(r"`([\w/]+)`", TOUR.read_text(encoding="utf-8"))}
    assert {path.stem for path in package.rglob("*.py")} <= named
