"""The ``loopwatch`` command, also as ``python -m loopwatch``."""

from __future__ import annotations

import sys

from . import drain, install, watch_var
from .integrations.logging import ContextFilter


def main() -> None:
    """Run the command line; say which extra is missing if it cannot.

    ``run`` works without any extra: it lives in the environment of the application.
    """
    if sys.argv[1:2] == ["run"]:
        from ._cli import run

        sys.exit(run.main(sys.argv[2:]))
    try:
        from ._cli.commands import cli
        from ._cli.demo_stage import Calls
    except ModuleNotFoundError as missing:
        if missing.name not in ("click", "rich"):
            raise
        extra = "demo" if sys.argv[1:2] == ["demo"] else "cli"
        sys.exit(f"loopwatch: this needs {missing.name}. Run: pip install 'loopwatch[{extra}]'")
    cli(prog_name="loopwatch", obj=Calls(install, watch_var, drain, ContextFilter))


if __name__ == "__main__":
    main()
