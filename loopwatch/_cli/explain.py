"""``loopwatch explain LW101``: the page of a rule, for people with a log line and no browser at hand."""

from __future__ import annotations

from pathlib import Path

import click
from rich.console import Console
from rich.markdown import Markdown

from loopwatch._rule_ids import RULE_IDS


@click.command()
@click.argument("rule", type=click.Choice(RULE_IDS, case_sensitive=False))
def explain(rule: str) -> None:
    """Explain what findings of a RULE mean, how to confirm and fix them, and when to ignore the rule."""
    text = _find_page(rule).read_text(encoding="utf-8")
    console = Console()
    if console.is_terminal:
        console.print(Markdown(text))
    else:
        click.echo(text, nl=False)


def _find_page(rule: str) -> Path:
    """Return the path of a rule's page, in the wheel or a checkout."""
    here = Path(__file__).parent
    for home in (here / "shipped" / "pages", here.parents[1] / "docs" / "rules"):
        if (page := home / f"{rule}.md").is_file():
            return page
    raise click.ClickException(f"the page of {rule} is missing; it belongs in {here / 'shipped' / 'pages'}")
