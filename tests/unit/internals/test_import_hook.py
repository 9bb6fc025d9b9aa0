"""A function is called once a module has been imported, and nobody notices."""

import contextlib
import importlib
import importlib.util
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import pytest

from loopwatch._internals import import_hook
from loopwatch._internals.import_hook import ImportHook

NAME = "imported_one_day"


@pytest.fixture
def seen() -> list[ModuleType]:
    return []


@pytest.fixture
def hook(seen: list[ModuleType], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ImportHook]:
    """Provide a module that can be imported, and a hook that waits for it."""
    (tmp_path / f"{NAME}.py").write_text("done = True\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    hook = ImportHook({NAME: seen.append})
    before = list(sys.meta_path)
    yield hook
    hook.remove()
    sys.modules.pop(NAME, None)
    assert sys.meta_path == before


def test_it_is_called_after_the_import_with_the_whole_module(
    hook: ImportHook, seen: list[ModuleType]
) -> None:
    hook.install()
    assert seen == []
    module = importlib.import_module(NAME)
    assert seen == [module]
    assert module.done
    assert hook not in sys.meta_path


def test_it_is_called_at_once_for_what_is_imported_already(hook: ImportHook, seen: list[ModuleType]) -> None:
    module = importlib.import_module(NAME)
    hook.install()
    assert seen == [module]
    assert hook not in sys.meta_path


def test_the_module_and_its_loader_are_as_without(hook: ImportHook) -> None:
    hook.install()
    module = importlib.import_module(NAME)
    assert module.__loader__ is not None
    assert "exec_module" not in vars(module.__loader__)
    assert module.__spec__ is not None
    assert module.__spec__.loader is module.__loader__
    assert importlib.reload(module) is module


def test_one_finder_waits_for_several_modules(
    seen: list[ModuleType], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = ("inner_one_day", "outer_one_day", "never_imported")
    (tmp_path / "inner_one_day.py").write_text("")
    (tmp_path / "outer_one_day.py").write_text("import inner_one_day\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    hook = ImportHook(dict.fromkeys(names, seen.append))
    before = list(sys.meta_path)
    hook.install()
    try:
        outer = importlib.import_module("outer_one_day")
        assert seen == [sys.modules["inner_one_day"], outer]
        assert sys.meta_path == [hook, *before]
    finally:
        hook.remove()
        for name in names[:2]:
            sys.modules.pop(name, None)
    assert sys.meta_path == before


def test_looking_for_a_module_is_not_importing_it(hook: ImportHook, seen: list[ModuleType]) -> None:
    hook.install()
    assert importlib.util.find_spec(NAME) is not None
    assert seen == []
    importlib.import_module(NAME)
    assert len(seen) == 1


def test_a_module_that_is_not_there_is_missed_as_ever(hook: ImportHook, seen: list[ModuleType]) -> None:
    other = ImportHook({"no_such_module": seen.append})
    other.install()
    try:
        with pytest.raises(ModuleNotFoundError):
            importlib.import_module("no_such_module")
        assert other in sys.meta_path
    finally:
        other.remove()
    assert seen == []


def test_a_module_that_fails_fails_as_ever(hook: ImportHook, seen: list[ModuleType], tmp_path: Path) -> None:
    (tmp_path / f"{NAME}.py").write_text("raise LookupError('its own')\n")
    hook.install()
    with pytest.raises(LookupError, match="its own"):
        importlib.import_module(NAME)
    assert seen == []
    assert NAME not in sys.modules


def test_a_module_that_is_blocked_is_left_alone(
    hook: ImportHook, seen: list[ModuleType], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, NAME, None)  # type: ignore[arg-type]
    hook.install()
    with pytest.raises(ModuleNotFoundError):
        importlib.import_module(NAME)
    hook.remove()
    hook.remove()
    assert seen == []


def test_once_removed_it_is_not_called_for_an_import_that_has_begun(
    hook: ImportHook, seen: list[ModuleType]
) -> None:
    hook.install()
    spec = importlib.util.find_spec(NAME)
    assert spec is not None
    assert spec.loader is not None
    hook.remove()
    assert "exec_module" not in vars(spec.loader)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert module.done
    assert seen == []


class Gate(ModuleType):
    """What the module of the next tests imports, and stands still in."""

    def __init__(self) -> None:
        super().__init__("a_gate")
        self.reached = threading.Event()
        self.open = threading.Event()
        self.then: Callable[[], object] = int

    def through(self) -> None:
        self.reached.set()
        assert self.open.wait(TIMEOUT)
        self.then()


TIMEOUT = 30


@pytest.fixture
def gate(hook: ImportHook, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Gate:
    (tmp_path / f"{NAME}.py").write_text("import a_gate\na_gate.through()\ndone = True\n")
    gate = Gate()
    monkeypatch.setitem(sys.modules, "a_gate", gate)
    return gate


def import_in_a_thread(gate: Gate) -> threading.Thread:
    """Import the module in another thread, up to where it stands still."""

    def work() -> None:
        with contextlib.suppress(LookupError):
            importlib.import_module(NAME)

    importer = threading.Thread(target=work)
    importer.start()
    assert gate.reached.wait(TIMEOUT)
    return importer


def until_hooks_are_through() -> None:
    for thread in threading.enumerate():
        if thread.name == "loopwatch-import":
            thread.join(TIMEOUT)


def test_an_import_that_another_thread_is_in_the_middle_of_is_called_for_when_it_is_over(
    hook: ImportHook, seen: list[ModuleType], gate: Gate
) -> None:
    importer = import_in_a_thread(gate)
    hook.install()
    assert NAME in sys.modules
    assert (seen, hook in sys.meta_path) == ([], True)
    gate.open.set()
    importer.join(TIMEOUT)
    until_hooks_are_through()
    assert seen == [sys.modules[NAME]]
    assert hook not in sys.meta_path


def test_if_that_import_fails_the_next_one_is_called_for(
    hook: ImportHook, seen: list[ModuleType], gate: Gate
) -> None:
    def fail() -> None:
        raise LookupError("its own")

    gate.then = fail
    importer = import_in_a_thread(gate)
    hook.install()
    gate.open.set()
    importer.join(TIMEOUT)
    until_hooks_are_through()
    assert (seen, NAME in sys.modules, hook in sys.meta_path) == ([], False, True)
    gate.then = int
    assert seen == [importlib.import_module(NAME)]


def test_an_import_that_installs_the_hook_itself_is_called_for_when_it_is_over(
    hook: ImportHook, seen: list[ModuleType], gate: Gate
) -> None:
    gate.open.set()
    gate.then = hook.install
    module = importlib.import_module(NAME)
    until_hooks_are_through()
    assert seen == [module]


def test_once_removed_it_is_not_called_for_an_import_under_way(
    hook: ImportHook, seen: list[ModuleType], gate: Gate
) -> None:
    importer = import_in_a_thread(gate)
    hook.install()
    hook.remove()
    gate.open.set()
    importer.join(TIMEOUT)
    until_hooks_are_through()
    assert seen == []


def test_by_itself_it_imports_nothing_of_ours_though_an_import_is_under_way() -> None:
    """``loopwatch run`` has no other file of ours at hand, and asyncio may be what is under way."""
    program = """
import sys, threading
from importlib.machinery import SourceFileLoader
from types import ModuleType

module = ModuleType("loopwatch_import_hook")
SourceFileLoader("loopwatch_import_hook", sys.argv[1]).exec_module(module)
under_way = sys.modules["under_way"] = ModuleType("under_way")
under_way.__spec__ = ModuleType("spec")
under_way.__spec__._initializing = True
module.ImportHook({"under_way": print}).install()
for thread in threading.enumerate()[1:]:
    thread.join()
print(sorted(name for name in sys.modules if name.partition(".")[0] in ("loopwatch", "asyncio")))
"""
    file = str(import_hook.__file__)
    done = subprocess.run(
        [sys.executable, "-S", "-c", program, file], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.stdout, done.stderr) == ("[]\n", "")
