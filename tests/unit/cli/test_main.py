"""The command line's entry point."""

import subprocess
import sys

import pytest
from click.testing import CliRunner

from loopwatch import __main__ as entry
from loopwatch._cli import demo
from loopwatch._cli.commands import cli


def test_help_lists_every_command() -> None:
    shown = CliRunner().invoke(cli, ["--help"])
    assert shown.exit_code == 0
    assert {"dashboards", "demo", "run"} <= set(shown.output.split())


@pytest.mark.parametrize(("words", "extra"), [(["demo"], "demo"), ([], "cli")])
def test_without_click_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, words: list[str], extra: str
) -> None:
    """The one line has the pip command; there is no traceback."""
    monkeypatch.setitem(sys.modules, "click", None)
    monkeypatch.delitem(sys.modules, "loopwatch._cli.commands")
    monkeypatch.setattr(sys, "argv", ["loopwatch", *words])
    with pytest.raises(SystemExit, match=rf"needs click\. Run: pip install 'loopwatch\[{extra}\]'"):
        entry.main()


def test_demo_without_its_libraries_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo, "NEEDED", ("fastapi", "no_such_library"))
    shown = CliRunner().invoke(cli, ["demo"])
    assert shown.exit_code == 1
    assert "the demo needs no_such_library. Run: pip install 'loopwatch[demo]'" in shown.output


@pytest.mark.parametrize("words", [["demo", "--seconds"], ["doctor", "--for"], ["top", "--every"]])
@pytest.mark.parametrize("number", ["nan", "inf", "-inf", "-1", "x"])
def test_what_is_no_number_is_refused(words: list[str], number: str) -> None:
    shown = CliRunner().invoke(cli, [*words, number])
    assert shown.exit_code == 2
    assert f"Invalid value for '{words[1]}'" in shown.output


def test_demo_refuses_an_unknown_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    """It says what was got and what there is."""
    monkeypatch.syspath_prepend("")  # restores sys.path afterwards
    shown = CliRunner().invoke(cli, ["demo", "--faults", "json,jsom"])
    assert shown.exit_code == 2
    assert "no fault is called 'jsom'; known are all, none, json, " in " ".join(shown.output.split())


def test_module_and_console_script_are_one() -> None:
    shown = subprocess.run(
        [sys.executable, "-m", "loopwatch", "--version"],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert shown.stdout.startswith("loopwatch, version ")
