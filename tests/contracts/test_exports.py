"""Every public name has one home, and the façade lists what it offers."""

import importlib
import inspect
import pkgutil
from types import ModuleType

import pytest

import loopwatch
from loopwatch import _agent_records, _errors, _measures, _records


def public_modules() -> list[ModuleType]:
    """Import every module whose path has no underscore in it."""
    found = pkgutil.walk_packages(loopwatch.__path__, "loopwatch.")
    names = [info.name for info in found if not any(part.startswith("_") for part in info.name.split("."))]
    return [loopwatch, *map(importlib.import_module, names)]


def exported(module: ModuleType) -> set[str]:
    """Return what a module offers: what it lists, else the public classes and functions it defines."""
    if hasattr(module, "__all__"):
        return set(module.__all__)
    return {
        name
        for name, value in vars(module).items()
        if not name.startswith("_") and getattr(value, "__module__", None) == module.__name__
    }


def defined(module: ModuleType) -> set[str]:
    return {
        name for name, value in vars(module).items() if getattr(value, "__module__", None) == module.__name__
    }


def test_the_facade_lists_exactly_what_it_has() -> None:
    assert loopwatch.__all__ == sorted(set(loopwatch.__all__))
    submodules = {info.name for info in pkgutil.iter_modules(loopwatch.__path__)}
    has = {name for name in dir(loopwatch) if not name.startswith("_")} - submodules - {"TYPE_CHECKING"}
    assert has | {"__version__"} == set(loopwatch.__all__)


@pytest.mark.parametrize("module", public_modules(), ids=lambda module: module.__name__)
def test_what_a_module_lists_exists(module: ModuleType) -> None:
    assert {name for name in exported(module) if not hasattr(module, name)} == set()


def test_each_name_has_one_home() -> None:
    """That of a package which offers what its own modules define is the package."""
    homes: dict[int, list[str]] = {}
    modules = {module.__name__: module for module in public_modules()}
    for module in modules.values():
        package = modules.get(module.__name__.rpartition(".")[0], loopwatch)
        offered = set() if package is loopwatch else exported(package)
        for name in exported(module) - offered:
            value = getattr(module, name)
            if callable(value):
                homes.setdefault(id(value), []).append(f"{module.__name__}.{name}")
    assert [names for names in homes.values() if len(names) > 1] == []


@pytest.mark.parametrize(
    "module", [_records, _agent_records, _measures, _errors], ids=lambda module: module.__name__
)
def test_the_vocabulary_users_meet_is_in_the_facade(module: ModuleType) -> None:
    classes = {name for name in defined(module) if isinstance(getattr(module, name), type)}
    assert classes <= set(loopwatch.__all__)


@pytest.mark.parametrize("name", loopwatch.__all__)
def test_every_public_name_is_documented(name: str) -> None:
    value = getattr(loopwatch, name)
    assert value.__doc__ or not (inspect.isclass(value) or inspect.isroutine(value))
