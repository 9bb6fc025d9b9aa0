"""Write the dashboards and the rules: ``python dashboards/build.py``, with ``--check`` only to compare.

``--time-scale 60 DIR`` writes the rules alone, into another directory, with every duration divided by 60.
They are for tests: five minutes become five seconds.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))  # as a script is started, only its own directory is there

from dashboards import rule_file  # noqa: E402
from dashboards.alerts import ALERTS  # noqa: E402

RULES = "rules/loopwatch.yml"


def generated() -> dict[str, str]:
    """Return the text of each file, by its path below this directory."""
    from dashboards import boards  # needs grafana-foundation-sdk, which the rules do not

    return {RULES: rule_file.render(ALERTS), **boards.render()}


def main() -> int:
    """Write the files or check them; the exit status says whether they were up to date."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--check", action="store_true", help="change nothing; exit 1 if a file is out of date"
    )
    parser.add_argument("--time-scale", type=float, metavar="FACTOR", help="divide every duration; needs DIR")
    parser.add_argument("directory", nargs="?", type=Path, metavar="DIR", help="where to write such rules")
    options = parser.parse_args()
    if (options.time_scale is None) != (options.directory is None):
        parser.error("--time-scale and DIR go together: such rules are never shipped")
    if options.time_scale is not None:
        if options.time_scale < 1:
            parser.error(f"--time-scale {options.time_scale:g}: it divides, so give 1 or more")
        options.directory.mkdir(parents=True, exist_ok=True)
        (options.directory / Path(RULES).name).write_text(
            rule_file.render(ALERTS, options.time_scale), encoding="utf-8"
        )
        return 0
    stale = [name for name, text in generated().items() if _differs(HERE / name, text)]
    if options.check:
        for name in stale:
            print(f"dashboards/{name} is out of date: run python dashboards/build.py", file=sys.stderr)
        return bool(stale)
    for name, text in generated().items():
        (HERE / name).parent.mkdir(exist_ok=True)
        (HERE / name).write_text(text, encoding="utf-8")
    return 0


def _differs(path: Path, text: str) -> bool:
    return not path.exists() or path.read_text(encoding="utf-8") != text


if __name__ == "__main__":
    raise SystemExit(main())
