"""``loopwatch explain``: each rule has its page, also away from the checkout."""

from pathlib import Path

import pytest
from click.testing import CliRunner
from rich.console import Console

from loopwatch._cli import explain
from loopwatch._cli.commands import cli
from loopwatch._rule_ids import RULE_IDS

PAGES = Path(__file__).parents[3] / "docs" / "rules"


@pytest.mark.parametrize("rule", RULE_IDS)
def test_the_page_of_each_rule(rule: str) -> None:
    shown = CliRunner().invoke(cli, ["explain", rule.lower()])
    assert shown.exit_code == 0
    assert shown.output == (PAGES / f"{rule}.md").read_text(encoding="utf-8")


def test_a_terminal_has_it_laid_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(explain, "Console", lambda: Console(force_terminal=True, width=60, color_system=None))
    shown = CliRunner().invoke(cli, ["explain", "LW101"])
    assert "LW101: Computation in the event loop" in shown.output
    assert "##" not in shown.output
    assert max(map(len, shown.output.splitlines())) <= 60


def test_a_rule_there_is_none_of() -> None:
    shown = CliRunner().invoke(cli, ["explain", "LW999"])
    assert shown.exit_code == 2
    assert "'LW999'" in shown.output
