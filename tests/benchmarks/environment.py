"""The benchmarks' own virtual environment: the agent's dependencies, a server, and the peers."""

from __future__ import annotations

import os
import platform
import subprocess
import tomllib
import venv
from pathlib import Path

from .report import CannotRunError
from .subjects import SUBJECTS

ROOT = Path(__file__).parents[2]
HOME = ROOT / ".ci" / "cache" / "benchmarks" / platform.python_version()
PYTHON = HOME / "bin" / "python"

ON_TOP: dict[str, str] = {}
"""Environment variables for everything measured, set by ``--otlp``."""


def prepare() -> dict[str, str]:
    """Create the environment if need be; return, by name, why some peers are missing from it."""
    if not PYTHON.exists():
        print(f"making {HOME.relative_to(ROOT)} ...", flush=True)
        venv.create(HOME, with_pip=True)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    needs = [need for need in (*extras["demo"], *extras["otlp"]) if not need.startswith("loopwatch")]
    reason = install([*project["dependencies"], *needs, "uvloop", "httptools"])
    if reason is not None:
        raise CannotRunError(f"the agent and a server to watch cannot be installed: {reason}")
    missing = {
        name: install(list(subject.requirements))
        for name, subject in SUBJECTS.items()
        if subject.requirements
    }
    return {name: reason for name, reason in missing.items() if reason is not None}


def install(requirements: list[str]) -> str | None:
    """Install packages; return pip's last line if that failed."""
    stamp = HOME / ("installed-" + "-".join(sorted(requirements)).replace("/", "_")[:150])
    if stamp.exists():
        return None
    pip = [str(PYTHON), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *requirements]
    done = subprocess.run(pip, capture_output=True, text=True, check=False)
    if done.returncode:
        return (done.stderr.strip().splitlines() or ["pip failed"])[-1]
    stamp.touch()
    return None


def variables(**more: str) -> dict[str, str]:
    """Return the environment variables of measured processes: few, and the same on every run."""
    kept = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    return {**kept, "PYTHONPATH": str(ROOT), "PYTHONHASHSEED": "0", "LC_ALL": "C.UTF-8", **ON_TOP, **more}


def module(name: str, *arguments: str) -> list[str]:
    """Return the command that runs ``tests.benchmarks.<name>`` in the environment."""
    return [str(PYTHON), "-m", f"{__package__}.{name}", *arguments]


def describe() -> str:
    """Return one line on what the figures were measured with."""
    model = next(
        (
            line.partition(":")[2].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if "model name" in line
        ),
        platform.machine(),
    )
    system = f"{platform.system()} {platform.release()}"
    return f"CPython {platform.python_version()}, {os.cpu_count()} cores ({model}), {system}"


def kind() -> str:
    """Return the kind of machine and interpreter, for the published page."""
    machine = f"{platform.system()} on {platform.machine()}, {os.cpu_count()} CPUs"
    return f"CPython {platform.python_version()}, {machine}"
