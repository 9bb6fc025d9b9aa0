"""All dashboards, by the file each is written to."""

from __future__ import annotations

from . import fleet, instance, pools, shutdown

ALL = (fleet.BOARD, instance.BOARD, pools.BOARD, shutdown.BOARD)


def render() -> dict[str, str]:
    """Return the JSON of each, by its path below this directory."""
    return {f"grafana/{board.uid}.json": board.render() for board in ALL}
