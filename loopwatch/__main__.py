"""The ``loopwatch`` command, also as ``python -m loopwatch``."""

from __future__ import annotations

import sys

from . import install


def main() -> None:
    """Run the command line; say which extra is missing if it cannot."""
    try:
        from ._cli import cli
    except ModuleNotFoundError as missing:
        if missing.name not in ("click", "rich"):
            raise
        sys.exit(f"loopwatch: the command line needs {missing.name}. Install it: pip install 'loopwatch[cli]'")
    cli(prog_name="loopwatch", obj=install)


if __name__ == "__main__":
    main()
