"""``loopwatch dashboards export``: what is shipped arrives, and leads to where its reader has the docs."""

from pathlib import Path

from click.testing import CliRunner

from loopwatch._cli.commands import cli
from loopwatch._cli.dashboards import DOCS

SHIPPED = Path(__file__).parents[3] / "dashboards"


def files(directory: Path) -> dict[str, str]:
    """Read all dashboards and rules, by their path."""
    return {
        path.relative_to(directory).as_posix(): path.read_text(encoding="utf-8")
        for kind in ("grafana/*.json", "rules/*.yml")
        for path in directory.glob(kind)
    }


def export(*words: str) -> tuple[int, str]:
    shown = CliRunner().invoke(cli, ["dashboards", "export", *words])
    return shown.exit_code, shown.output


def test_everything_is_written(tmp_path: Path) -> None:
    """And told; what was there already is overwritten."""
    there = tmp_path / "new" / "place"
    (there / "rules").mkdir(parents=True)
    (there / "rules" / "loopwatch.yml").write_text("old")
    (there / "rules" / "other.yml").write_text("kept")
    status, output = export(str(there))
    assert status == 0
    written = files(there)
    assert written.pop("rules/other.yml") == "kept"
    assert written == files(SHIPPED)
    assert len(written) == 5
    assert output.split() == sorted(str(there / name) for name in written)


def test_links_lead_to_the_docs_that_are_named(tmp_path: Path) -> None:
    status, _ = export(str(tmp_path), "--docs-url", "https://docs.shop.example/loopwatch/")
    assert status == 0
    written, shipped = files(tmp_path), files(SHIPPED)
    for name, text in written.items():
        assert DOCS not in text
        links = text.count("https://docs.shop.example/loopwatch/")
        assert links == shipped[name].count(f"{DOCS}/") > 0


def test_where_nothing_can_be_written_one_line_says_so(tmp_path: Path) -> None:
    (tmp_path / "grafana").write_text("a file")
    status, output = export(str(tmp_path))
    assert status == 1
    assert output.startswith(f"Error: {tmp_path / 'grafana'}")
    assert output.count("\n") == 1
