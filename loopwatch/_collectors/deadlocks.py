"""Deadlocks in a graph of nodes that need each other. Every function takes time linear in the edges.

A node that is not among the keys of the edges needs no other.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from collections.abc import Set as AbstractSet

Edges = Mapping[int, Sequence[int]]
"""For each node the nodes that it needs: at least one, without repetition."""


def stuck_in(edges: Edges, any_of: Collection[int]) -> set[int]:
    """Return the nodes that cannot go on until another of them does.

    A node goes on once all nodes that it needs have or, if it is in ``any_of``, one of them has.
    """
    needed_by = _reversed(edges)
    missing = {node: 1 if node in any_of else len(needed) for node, needed in edges.items()}
    going = [node for node in needed_by if node not in edges]
    while going:
        for node in needed_by.get(going.pop(), ()):
            missing[node] -= 1
            if missing[node] == 0:
                going.append(node)
    return {node for node, count in missing.items() if count > 0}


def cycles_in(edges: Edges, stuck: AbstractSet[int]) -> list[tuple[int, ...]]:
    """Return cycles of stuck nodes, each before the one it needs; of cycles that share nodes, one."""
    return [
        _cycle_in(edges, component)
        for component in _components(edges, stuck)
        if len(component) > 1 or any(node in edges[node] for node in component)
    ]


def _cycle_in(edges: Edges, component: AbstractSet[int]) -> tuple[int, ...]:
    """Walk from node to node until one repeats: within a component there is always a next."""
    path: dict[int, int] = {}
    node = next(iter(component))
    while node not in path:
        path[node] = len(path)
        node = next(other for other in edges[node] if other in component)
    return tuple(path)[path[node] :]


def _components(edges: Edges, nodes: AbstractSet[int]) -> list[set[int]]:
    """Return the strongly connected components of the graph that ``nodes`` form (Kosaraju's algorithm)."""
    needed_by = _reversed({node: edges[node] for node in nodes})
    found: list[set[int]] = []
    left = set(nodes)
    for root in reversed(_finished(edges, nodes)):
        if root not in left:
            continue
        left.remove(root)
        component = [root]
        for node in component:  # grows meanwhile
            new = left.intersection(needed_by.get(node, ()))
            left -= new
            component += new
        found.append(set(component))
    return found


def _finished(edges: Edges, nodes: AbstractSet[int]) -> list[int]:
    """Return ``nodes`` in the order in which a depth-first search finishes them."""
    seen: set[int] = set()
    path: list[int] = []
    finished: list[int] = []
    walk = [iter(nodes)]  # first the roots, then for each node of the path the nodes it needs
    while walk:
        for node in walk[-1]:
            if node in nodes and node not in seen:
                seen.add(node)
                path.append(node)
                walk.append(iter(edges[node]))
                break
        else:
            walk.pop()
            finished += path[-1:]
            del path[-1:]
    return finished


def _reversed(edges: Edges) -> dict[int, list[int]]:
    needed_by: dict[int, list[int]] = {}
    for node, needed in edges.items():
        for other in needed:
            needed_by.setdefault(other, []).append(node)
    return needed_by
