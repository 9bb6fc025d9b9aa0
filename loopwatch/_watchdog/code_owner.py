"""Whose code a frame is: the application's, a library's, the standard library's, ours, or nobody's."""

from __future__ import annotations

import os
import re
import site
import sys
import sysconfig
from collections.abc import Iterable
from typing import Literal

Owner = Literal["app", "library", "stdlib", "own", "generated"]

OWN = os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + os.sep

LAUNCHERS = frozenset(
    {"uvicorn", "gunicorn", "hypercorn", "granian", "daphne", "celery", "arq", "taskiq", "dramatiq"}
    | {"aiohttp", "django", "fastapi", "fastapi_cli", "flask", "litestar", "quart", "sanic"}
    | {"loopwatch", "opentelemetry", "ddtrace", "newrelic", "pytest", "_pytest", "coverage", "debugpy"}
    | {"IPython", "memray", "pyinstrument", "scalene", "viztracer"}
)
"""Programs that run somebody else's code: being the started program does not make them the application."""

_CONSOLE_SCRIPT = re.compile(
    r"^from (?P<module>[\w.]+) import (?P<name>\w+)$.*^ +sys\.exit\((?P=name)(\.\w+)*\(\)\)$",
    re.MULTILINE | re.DOTALL,
)
"""What installers write. A user's own script may import from a library too, but does not belong to it."""

FILES = 4096
"""Files remembered: more than a program has, but a notebook invents one for each cell that is run."""

_LIBRARY_DIRS = (f"{os.sep}site-packages{os.sep}", f"{os.sep}dist-packages{os.sep}")


class CodeOwner:
    """Decides by file and module, once per file.

    Application code is what lies outside the standard library and outside site-packages and dist-packages
    (checked first, since a ``.venv`` lies within the project), the package that was started as the program,
    and what ``app_packages`` names. Generated code never is.
    """

    def __init__(self, app_packages: Iterable[str] = ()) -> None:
        self._named = tuple(app_packages)
        self._program: str | None = None
        self._stdlib = tuple(
            os.path.abspath(sysconfig.get_path(name)) + os.sep for name in ("stdlib", "platstdlib")
        )
        installed = [*site.getsitepackages(), site.getusersitepackages()]
        self._libraries = tuple(os.path.abspath(path) + os.sep for path in installed)
        self._by_file: dict[str, Owner] = {}

    def of(self, file: str, module: str) -> Owner:
        """Return the owner of the code in ``file``, imported as ``module``."""
        if file.startswith("<") or not module:
            return "generated"  # and not remembered: such names can be new each time
        owner = self._by_file.get(file)
        if owner is None:
            if len(self._by_file) >= FILES:
                self._by_file.clear()
            owner = self._by_file[file] = self._decide(file, module)
        return owner

    def _decide(self, file: str, module: str) -> Owner:
        if any(module == name or module.startswith(name + ".") for name in self._named):
            return "app"
        path = os.path.abspath(file)
        if path.startswith(OWN):
            return "own"
        if path.startswith(self._libraries) or any(part in path for part in _LIBRARY_DIRS):
            return "app" if self._is_program(module) else "library"
        return "stdlib" if path.startswith(self._stdlib) else "app"

    def _is_program(self, module: str) -> bool:
        """Whether ``module`` belongs to the package that was started as the program."""
        if self._program is None:
            self._program = _program() or ""
        return bool(self._program) and module.partition(".")[0] in (self._program, "__main__")


def _program() -> str | None:
    """Return the top-level package of the started program: of ``-m MODULE`` or of a console script.

    A console script imports a function and exits with its result, so the script is read. Asking which
    distribution owns it would walk over all of them, a tenth of a second of GIL where many are installed.
    """
    spec = getattr(sys.modules.get("__main__"), "__spec__", None)
    name = str(spec.name) if spec is not None else _imported_by(sys.argv[0] if sys.argv else "")
    package = (name or "").partition(".")[0]
    return package if package and package not in LAUNCHERS else None


def _imported_by(script: str) -> str | None:
    """Return the module that a console script imports its function from; None if ``script`` does more."""
    try:
        with open(script, encoding="utf-8", errors="replace") as lines:
            text = lines.read(4096)  # generated scripts are a few hundred bytes
    except (OSError, ValueError):
        return None
    found = _CONSOLE_SCRIPT.search(text)
    return found["module"] if found else None
