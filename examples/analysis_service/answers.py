"""From the LLM's answers to a report: plain functions that only compute."""

from __future__ import annotations

import difflib
import json
from itertools import pairwise


def parse(answers: list[bytes]) -> list[list[str]]:
    """Return what the LLM found in each section. Raises ValueError or KeyError if an answer was cut short."""
    found = []
    for answer in answers:
        choice = json.loads(answer)["choices"][0]
        found.append(json.loads(choice["message"]["content"])["findings"])
    return found


def merge(found: list[list[str]]) -> str:
    """Write the report: all findings, except those that the previous section has in similar words."""
    kept = list(found[0])
    for before, here in pairwise(found):
        for finding in here:
            for other in before:
                if difflib.SequenceMatcher(None, finding, other).ratio() > 0.9:
                    break
            else:
                kept.append(finding)
    return "\n".join(f"- {finding}" for finding in kept)
