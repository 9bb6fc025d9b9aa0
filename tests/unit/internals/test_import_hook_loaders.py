"""The import hook calls back once its module is there, and leaves imports and loaders as they were."""

import importlib
import importlib.util
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from loopwatch._internals.import_hook import ImportHook

NAMES = ("hooked", "other")


@pytest.fixture
def archive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Two modules in a zip file, which has one loader for all that is in it."""
    path = tmp_path / "modules.zip"
    with zipfile.ZipFile(path, "w") as file:
        for name in NAMES:
            file.writestr(f"{name}.py", "done = True\n")
    monkeypatch.syspath_prepend(str(path))
    yield
    for name in NAMES:
        sys.modules.pop(name, None)


@pytest.mark.usefixtures("archive")
def test_two_modules_that_share_a_loader_are_both_seen() -> None:
    seen: list[ModuleType] = []
    hook = ImportHook(dict.fromkeys(NAMES, seen.append))
    hook.install()
    try:
        modules = [importlib.import_module(name) for name in NAMES]
        assert hook not in sys.meta_path
    finally:
        hook.remove()
    assert seen == modules
    assert all("exec_module" not in vars(module.__loader__) for module in modules)


@pytest.mark.usefixtures("archive")
def test_looking_for_the_module_first_does_no_harm() -> None:
    seen: list[ModuleType] = []
    hook = ImportHook({"hooked": seen.append})
    hook.install()
    try:
        spec = importlib.util.find_spec("hooked")
        assert importlib.util.find_spec("hooked") is not None
        assert importlib.import_module("other").done
        assert seen == []
        module = importlib.import_module("hooked")
    finally:
        hook.remove()
    assert module.done
    assert seen == [module]
    assert spec is not None
    assert "exec_module" not in vars(spec.loader)
