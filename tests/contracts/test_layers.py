"""The house rules that a reader relies on: who imports whom, and who may touch what."""

import ast
import sys
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

import pytest

import loopwatch

pytestmark = pytest.mark.alike

PACKAGE = Path(loopwatch.__file__).parent
MODULES = sorted(PACKAGE.rglob("*.py"))

VOCABULARY = {
    "facts",
    "_settings",
    "_otlp",
    "_agent_records",
    "_arguments",
    "_records",
    "_document",
    "_measures",
    "_events",
    "_allowance",
    "_pace",
    "_places",
    "_words",
    "_clock",
    "_errors",
    "_journal",
    "_threads",
    "_server",
    "_user_directory",
    "_consoles",
    "_rule_ids",
    "_version",
}
BASE = {"_internals", "_store", "_context"}
SOURCES = {"_probes", "_watchdog", "_collectors", "_jobs", "_blackbox"}
READERS = {"_reader", "_rules"}
FACES = {"exporters", "_console", "_cli"}

MAY_IMPORT = {
    **dict.fromkeys(VOCABULARY, VOCABULARY),
    **dict.fromkeys({"_internals", "_store"}, VOCABULARY),
    "_context": VOCABULARY | {"_internals", "_store"},
    **dict.fromkeys(SOURCES, VOCABULARY | BASE),
    **dict.fromkeys(READERS, VOCABULARY | BASE | SOURCES),
    **dict.fromkeys(FACES, VOCABULARY | {"_internals"}),
    "_cli": VOCABULARY | {"_internals", "_console"},  # whose tables it shows
    "_parts": VOCABULARY | BASE | SOURCES | READERS | FACES,
    "_engine": VOCABULARY | BASE | SOURCES | READERS | FACES | {"_parts"},
    "_agent": VOCABULARY | {"_engine"},
    "_install": VOCABULARY | {"_agent", "_engine", "exporters", "__init__"},  # for what it is annotated with
    "__init__": VOCABULARY | {"_agent", "_install", "_context", "_jobs", "_store"},
    "__main__": {"__init__", "integrations"} | FACES,
    "_cli/bootstrap": {"__init__", "_internals"},  # runs in the program, which it brings the agent into
    "integrations": {"__init__"},
    "testing": {"__init__", "_clock"},
}
"""What each part of the package may import besides itself."""

POOL_READERS = PACKAGE / "_collectors" / "pools"
"""Where each reader is one trespass on one library, as each file of ``_internals`` is on CPython."""

THIRD_PARTY_AT_TOP = FACES | {"_cli/bootstrap", "testing"}
LONGEST = 400
OURS = "_loopwatch_"
"""How attributes begin that we give to objects of others."""


def part_of(path: Path) -> str:
    """Return the part of the package that ``path`` belongs to: mostly what lies directly below it."""
    inside = path.relative_to(PACKAGE).with_suffix("")
    return "_cli/bootstrap" if inside.is_relative_to("_cli/bootstrap") else inside.parts[0]


def parts_imported(node: ast.AST, path: Path) -> Iterator[str]:
    """Name the parts of loopwatch that ``node`` imports, if it is an import."""
    if isinstance(node, ast.Import):
        targets = [alias.name for alias in node.names]
    elif isinstance(node, ast.ImportFrom):
        package = ["loopwatch", *path.relative_to(PACKAGE).parts[:-1]]
        above = package[: len(package) - node.level + 1] if node.level else []
        base = ".".join([*above, *([node.module] if node.module else [])])
        targets = [f"{base}.{alias.name}" for alias in node.names]
    else:
        return
    for target in targets:
        name, *rest = target.split(".")
        if name == "loopwatch":
            yield rest[0] if rest and rest[0] in MAY_IMPORT else "__init__"


def nodes_run_at_import(tree: ast.Module) -> Iterator[ast.AST]:
    """Yield what runs when the module is imported: no bodies of functions, nothing for type checkers."""
    waiting: list[ast.AST] = [tree]
    while waiting:
        node = waiting.pop()
        yield node
        for child in ast.iter_child_nodes(node):
            typing_only = isinstance(child, ast.If) and ast.unparse(child.test) == "TYPE_CHECKING"
            if not typing_only and not isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef):
                waiting.append(child)


def names_imported(node: ast.AST) -> list[str]:
    """Return what ``node`` imports from outside the package, if it is an import."""
    if isinstance(node, ast.Import):
        names = [alias.name for alias in node.names]
    elif isinstance(node, ast.ImportFrom) and not node.level:
        names = [f"{node.module}.{alias.name}" for alias in node.names]
    else:
        names = []
    return [name for name in names if name.partition(".")[0] != "loopwatch"]


def is_private(name: str) -> bool:
    special = name.startswith("__") and name.endswith("__")
    return name.startswith("_") and not special and name != "_" and not name.startswith(OURS)


@lru_cache(maxsize=8)
def names_defined(path: Path) -> frozenset[str]:
    """Collect every name that the module defines: functions, classes, variables, attributes of ``self``."""
    names = set()
    for node in nodes(path):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.Name | ast.Attribute) and isinstance(node.ctx, ast.Store):
            owner, _, name = ast.unparse(node).rpartition(".")
            if owner in ("", "self"):
                names.add(name)
    return frozenset(names)


def names_inherited(path: Path) -> set[str]:
    """Collect the names defined where the base classes are, of those next to the module."""
    bases = {
        ast.unparse(base) for node in nodes(path) if isinstance(node, ast.ClassDef) for base in node.bases
    }
    homes = {
        path.parent / f"{node.module}.py"
        for node in nodes(path)
        if isinstance(node, ast.ImportFrom) and node.level == 1
        for alias in node.names
        if alias.name in bases
    }
    return {name for home in homes for name in names_defined(home)}


def private_names_touched(path: Path) -> Iterator[str]:
    """Yield private names reached by attribute, by ``getattr`` and its like, or by import."""
    for node in nodes(path):
        if isinstance(node, ast.Attribute) and is_private(node.attr):
            yield node.attr
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            if node.func.id in ("getattr", "setattr", "hasattr", "delattr"):
                asked = node.args[1]
                if isinstance(asked, ast.Constant) and is_private(str(asked.value)):
                    yield str(asked.value)
        else:
            for name in names_imported(node):
                yield from filter(is_private, name.split("."))


@pytest.mark.parametrize(
    "path",
    MODULES,
    ids=lambda path: str(path.relative_to(PACKAGE)),
    scope="class",  # all rules for one module, then for the next
)
class TestModule:
    """Each rule, for each module."""

    def test_imports_point_one_way(self, path: Path) -> None:
        part = part_of(path)
        imported = {name for node in nodes(path) for name in parts_imported(node, path)}
        assert imported - {part} <= MAY_IMPORT[part]

    def test_private_names_of_others_are_touched_in_internals_alone(self, path: Path) -> None:
        if part_of(path) != "_internals" and path.parent != POOL_READERS:
            own = names_defined(path) | names_inherited(path)
            assert set(private_names_touched(path)) - own == set()

    def test_only_the_clock_imports_time(self, path: Path) -> None:
        imported = {name for node in nodes(path) for name in names_imported(node)}
        assert path.name == "_clock.py" or "time" not in {name.partition(".")[0] for name in imported}

    def test_no_task_is_asked_for_its_coroutine(self, path: Path) -> None:
        """``get_coro()`` of one that ended in its eager first step crashes CPython 3.12.1."""
        asked = {node.attr for node in nodes(path) if isinstance(node, ast.Attribute)}
        assert "get_coro" not in asked

    def test_third_parties_are_imported_by_the_functions_that_need_them(self, path: Path) -> None:
        imported = {name for node in nodes_run_at_import(parse(path)) for name in names_imported(node)}
        third_party = {name.partition(".")[0] for name in imported} - sys.stdlib_module_names
        assert third_party == set() or part_of(path) in THIRD_PARTY_AT_TOP

    def test_it_is_short_enough_to_read(self, path: Path) -> None:
        assert path.read_text(encoding="utf-8").count("\n") <= LONGEST


@lru_cache(maxsize=8)  # those that are looked at together: all of them would be a million objects
def parse(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


@lru_cache(maxsize=8)
def nodes(path: Path) -> tuple[ast.AST, ...]:
    """Return all of a module's tree, each node once."""
    return tuple(ast.walk(parse(path)))
