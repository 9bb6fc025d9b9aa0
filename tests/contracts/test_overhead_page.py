"""The page on the overhead has a place for each benchmark, and writing into one leaves the rest alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.benchmarks import page
from tests.benchmarks.__main__ import SECTIONS
from tests.benchmarks.report import CannotRunError, Verdict, table

pytestmark = pytest.mark.alike

PAGE = Path(__file__).parents[2] / "docs" / "explanation" / "overhead.md"


def test_each_benchmark_has_its_place() -> None:
    page.check(PAGE, SECTIONS)
    with pytest.raises(CannotRunError, match="nonsense"):
        page.check(PAGE, ["nonsense"])


@pytest.mark.parametrize("name", SECTIONS)
def test_what_was_measured_is_put_there(tmp_path: Path, name: str) -> None:
    """Again and again; whatever it says, the prose and the other places stay as they are."""
    copy = tmp_path / "page.md"
    copy.write_text(PAGE.read_text(encoding="utf-8"), encoding="utf-8")
    for said in ("before", r"1.5 \1 <!-- x -->"):
        page.write(copy, name, said, "CPython 3.99")
    before, after = (text.read_text(encoding="utf-8") for text in (PAGE, copy))
    opening, closing = f"<!-- measured: {name} -->\n", f"<!-- end of {name} -->\n"
    assert before.partition(opening)[0] == after.partition(opening)[0]
    assert before.partition(closing)[2] == after.partition(closing)[2]
    block = after.partition(opening)[2].partition(closing)[0]
    assert block.startswith("CPython 3.99, 20")
    assert block.endswith(":\n\n```text\n1.5 \\1 <!-- x -->\n```\n")


def test_a_section_is_overheard(capfd: pytest.CaptureFixture[str]) -> None:
    """And seen, while it runs."""

    def section() -> list[Verdict]:
        table(["what", "us"], [["a", "1.0"]])
        return [Verdict("a", 1.0, 2.0)]

    said, verdicts = page.overheard(section)
    assert said == "what   us\na     1.0\n\npass  a: 1.000x (budget 2x)"
    assert [each.what for each in verdicts] == ["a"]
    assert "a     1.0" in capfd.readouterr().out
