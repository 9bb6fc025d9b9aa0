"""Every example runs, and the demo's service needs one line of loopwatch."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"
COMMANDS = {
    "analysis_service": ("loopwatch", "demo", "--seconds=5", "--factor=100"),
    "kill_on_deploy.py": ("examples.kill_on_deploy",),
    "lost_context.py": ("examples.lost_context",),
}
"""How each example is run, as ``python -m``."""


def test_every_example_is_run_here() -> None:
    assert set(COMMANDS) == {path.name for path in EXAMPLES.iterdir() if path.name[0].islower()}


@pytest.mark.parametrize("words", COMMANDS.values(), ids=COMMANDS)
def test_example_runs(words: tuple[str, ...], tmp_path: Path) -> None:
    """It ends with 0 and has nothing to complain of."""
    done = subprocess.run(
        [sys.executable, "-m", *words],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    said = [line for line in done.stderr.splitlines() if "RuntimeWarning" not in line]
    assert (done.returncode, said) == (0, [])  # a request cut short at the end may leave anyio's coroutine


def test_service_has_one_line_of_loopwatch() -> None:
    """What the demo shows is therefore what any service gets."""
    mentions = [
        (path.name, ast.unparse(node))
        for path in sorted((EXAMPLES / "analysis_service").rglob("*.py"))
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.alias | ast.Call) and "loopwatch" in ast.unparse(node)
    ]
    assert mentions == [("app.py", "loopwatch"), ("app.py", "loopwatch.install()")]
