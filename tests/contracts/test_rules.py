"""Every rule has its page, and every page its rule; what findings say of them leads there."""

from __future__ import annotations

import re
from pathlib import Path
from typing import get_args

import pytest

from loopwatch import Severity
from loopwatch._rule_ids import RULE_IDS
from loopwatch._rules.catalogue import RULES
from loopwatch._rules.course import Course
from loopwatch._rules.rule import Rule, Symptom

pytestmark = pytest.mark.alike

ROOT = Path(__file__).parents[2]
PAGES = ROOT / "docs" / "rules"
HEADINGS = ["What it means", "How to confirm it", "How to fix it", "When to ignore it"]

each_rule = pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.id)


def test_settings_know_the_rules_there_are() -> None:
    assert list(RULE_IDS) == [rule.id for rule in RULES]
    assert len(set(RULE_IDS)) == len(RULE_IDS)


def test_each_page_has_its_rule() -> None:
    assert {path.stem for path in PAGES.glob("*.md")} == {"README", *RULE_IDS}


@each_rule
def test_each_rule_has_its_page(rule: Rule) -> None:
    assert re.fullmatch(r"LW[1-5]\d\d", rule.id)
    assert rule.severity in get_args(Severity)
    page = (PAGES / f"{rule.id}.md").read_text(encoding="utf-8")
    assert page.startswith(f"# {rule.id}: {rule.title}\n")
    assert re.findall(r"^## (.+)$", page, re.MULTILINE) == HEADINGS
    sections = re.split(r"^## .+$", page, flags=re.MULTILINE)[1:]
    assert all(len(section.split()) >= 5 for section in sections)


@each_rule
def test_its_findings_lead_to_its_page(rule: Rule) -> None:
    symptom = Symptom(rule.id, (), rule.severity, "it is slow", {}, "be quick")
    finding = Course(rule, symptom, 0.0).finding()
    assert (ROOT / finding.docs_url).is_file()


def test_the_index_lists_all_rules_as_they_are() -> None:
    page = (PAGES / "README.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| \[(LW\d+)\]\(\1\.md\) \| (.+?) \| (\w+) \|$", page, re.MULTILINE)
    assert rows == [(rule.id, rule.title, rule.severity) for rule in RULES]
