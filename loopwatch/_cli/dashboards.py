"""``loopwatch dashboards export``: the Grafana dashboards and Prometheus rules of this version."""

from __future__ import annotations

from pathlib import Path

import click

DOCS = "https://github.com/loopwatch/loopwatch/blob/main/docs"
"""Where the shipped dashboards and rules link to."""


@click.group()
def dashboards() -> None:
    """Grafana dashboards, and recording and alerting rules for Prometheus."""


@dashboards.command()
@click.argument("directory", metavar="DIR", type=click.Path(file_okay=False, path_type=Path))
@click.option(
    "--docs-url",
    default=DOCS,
    show_default=True,
    help="Where the pages of loopwatch's docs/ are, for the links to what to do.",
)
def export(directory: Path, docs_url: str) -> None:
    """Write the dashboards to DIR/grafana and the rules to DIR/rules.

    Files of the same names are overwritten, others are left alone.
    """
    home = _find_files()
    for source in sorted((*home.glob("grafana/*.json"), *home.glob("rules/*.yml"))):
        target = directory / source.relative_to(home)
        text = source.read_text(encoding="utf-8").replace(DOCS, docs_url.rstrip("/"))
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(text, encoding="utf-8")
        except OSError as error:
            raise click.ClickException(f"{target} cannot be written: {error.strerror}") from None
        click.echo(target)


def _find_files() -> Path:
    """Return the directory of the files, in the wheel or a checkout."""
    here = Path(__file__).parent
    for home in (here / "shipped", here.parents[1] / "dashboards"):
        if (home / "grafana").is_dir():
            return home
    raise click.ClickException(f"the dashboards are missing; they belong in {here / 'shipped'}")
