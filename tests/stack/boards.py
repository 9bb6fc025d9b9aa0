"""The queries of the shipped dashboards, as a Grafana would ask them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

DASHBOARDS = Path(__file__).parents[2] / "dashboards"

WINDOW = "5s"
"""What Grafana would make of ``$__rate_interval`` if it scraped as often as these tests do."""


@dataclass(frozen=True)
class Asked:
    """One query, and where it stands."""

    board: str
    title: str
    ref: str
    text: str

    def of(self, job: str) -> str:
        """Return it as it is asked when this job is chosen, and all there is of it."""
        text = self.text.replace("$__rate_interval", WINDOW).replace("$__range", "60s")
        text = text.replace('"$job"', f'"{job}"').replace('"$process"', '".*"')
        text = text.replace('"$instance"', '".+"').replace('"$loop"', '".+"')
        assert "$_" not in text
        return text

    def __str__(self) -> str:
        return f"{self.board}: {self.title} {self.ref}"


def asked() -> list[Asked]:
    """Return all, those of annotations too."""
    found = []
    for path in sorted(DASHBOARDS.glob("grafana/*.json")):
        board = json.loads(path.read_text(encoding="utf-8"))
        name = path.stem.removeprefix("loopwatch-")
        for panel in board["panels"]:
            found += [
                Asked(name, panel["title"], target["refId"], target["expr"])
                for target in panel.get("targets", ())
            ]
        found += [Asked(name, each["name"], "mark", each["expr"]) for each in board["annotations"]["list"]]
    return found
