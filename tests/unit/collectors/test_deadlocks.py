"""The linear algorithms against naive ones, on graphs of all shapes."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from loopwatch._collectors.deadlocks import cycles_in, stuck_in

NODES = st.integers(0, 11)
GRAPHS = st.dictionaries(NODES, st.lists(NODES, min_size=1, max_size=4, unique=True))


def naively_stuck(edges: dict[int, list[int]], any_of: set[int]) -> set[int]:
    """Let go whoever can go on, until nobody is left who can."""
    stuck = set(edges)
    while going := {node for node in stuck if goes(edges[node], stuck, node in any_of)}:
        stuck -= going
    return stuck


def goes(needed: list[int], stuck: set[int], one_is_enough: bool) -> bool:
    return (any if one_is_enough else all)(other not in stuck for other in needed)


def reachable(edges: dict[int, list[int]], start: int, within: set[int]) -> set[int]:
    """Return what is reached from a node by at least one step."""
    found: set[int] = set()
    waiting = [start]
    while waiting:
        new = {other for other in edges[waiting.pop()] if other in within} - found
        found |= new
        waiting += new
    return found


@given(GRAPHS, st.sets(NODES))
def test_stuck_is_whoever_cannot_be_let_go(edges: dict[int, list[int]], any_of: set[int]) -> None:
    assert stuck_in(edges, any_of) == naively_stuck(edges, any_of)


@given(GRAPHS, st.sets(NODES))
def test_each_group_of_nodes_that_need_each_other_has_one_cycle(
    edges: dict[int, list[int]], any_of: set[int]
) -> None:
    stuck = naively_stuck(edges, any_of)
    reaches = {node: reachable(edges, node, stuck) for node in stuck}
    groups = {
        frozenset(other for other in stuck if node in reaches[other] and other in reaches[node])
        for node in stuck
        if node in reaches[node]
    }
    cycles = cycles_in(edges, stuck)
    for cycle in cycles:
        assert len(set(cycle)) == len(cycle)
        assert all(after in edges[before] for before, after in pairwise((*cycle, cycle[0])))
    assert len(cycles) == len(groups)
    assert {group for group in groups for cycle in cycles if group.issuperset(cycle)} == groups


def test_layers_that_all_need_all_of_the_next_are_walked_once() -> None:
    """60 layers of 10 have 10**60 paths."""
    layers, width = 60, 10
    edges = {
        layer * width + node: range((layer + 1) * width, (layer + 2) * width)
        for layer in range(layers)
        for node in range(width)
    }
    assert stuck_in(edges, ()) == set()
    bottom = range(layers * width, (layers + 1) * width)
    edges |= {node: [0] for node in bottom}
    [cycle] = cycles_in(edges, stuck_in(edges, ()))
    assert len(cycle) == layers + 1


def test_a_long_chain_is_no_recursion() -> None:
    edges = {node: [node + 1] for node in range(100_000)} | {100_000: [0]}
    [cycle] = cycles_in(edges, stuck_in(edges, ()))
    assert len(cycle) == 100_001
