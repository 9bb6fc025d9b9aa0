"""What the agent finds wrong, on a terminal: ranked, with the evidence and what to do."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from rich.text import Text

from loopwatch._agent_records import Finding, Severity
from loopwatch._words import span

_STYLE: Mapping[Severity, str] = {"critical": "bold red", "warning": "yellow", "info": "dim"}


def headline(finding: Finding) -> Text:
    """Return in one line what is wrong."""
    line = Text(f"{finding.rule} ")
    line.append(finding.severity, _STYLE[finding.severity])
    line.append(f"  {finding.summary}")
    if finding.more:
        line.append(f" (and {finding.more} more like it)")
    return line


def lines(findings: Sequence[Finding]) -> Iterator[Text]:
    """Yield the lines on each finding, in order; consequences stand below their cause."""
    number = 0
    for finding in findings:
        number += finding.because is None
        yield Text(f"  {number:2}. " if finding.because is None else "      because of that: ") + headline(
            finding
        )
        yield Text(f"      {evidence(finding)}", "dim")
        yield Text(f"      what to do: {finding.fix} ({finding.docs_url})")


def evidence(finding: Finding) -> str:
    """Write the numbers that a finding is based on, leaving out zeros."""
    return ", ".join(
        f"{name.removesuffix('_s').replace('_', ' ')} {span(value) if name.endswith('_s') else f'{value:g}'}"
        for name, value in finding.evidence.items()
        if value
    )
