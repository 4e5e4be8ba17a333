"""What ``lint`` prints for a person: by file, each rule with why, whom and how [pure]."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby

from rich.text import Text

from lab.lint.checks import CHECKS
from lab.lint.finding import Finding
from lab.report.page import row

_STYLES = {"error": "red", "warning": "yellow", "note": "cyan"}
_NAMES = {check.id: check.name for check in CHECKS}


def render(findings: Sequence[Finding], files: int, columns: int = 0) -> Iterator[Text]:
    """Yield one block per rule that is wrong, then one sentence."""
    for (file, number), group in groupby(findings, key=lambda f: (f.file, f.line)):
        found = list(group)
        yield Text(f"{file}:{number}", "bold")
        yield Text(f"  {found[0].rule}", "cyan")
        for finding in found:
            yield from _finding(finding, columns)
        yield Text("")
    yield Text(_summary(findings, files), "bold red" if findings else "bold green")


def _finding(finding: Finding, columns: int) -> Iterator[Text]:
    head = Text(f"  {finding.severity} ", _STYLES[finding.severity])
    yield head.append(f"{finding.check} {_NAMES[finding.check]}", "bold")
    yield from row("  why", finding.why, columns)
    if finding.hurt:
        yield from row("  hurts", ", ".join(finding.hurt), columns)
    yield from row("  instead", finding.fix, columns, "green")


def _summary(findings: Sequence[Finding], files: int) -> str:
    read = f"{files} file{'s' * (files != 1)} read"
    if not findings:
        return f"no findings; {read}"
    counts = [
        f"{count} {severity}{'s' * (count != 1)}"
        for severity in _STYLES
        if (count := sum(f.severity == severity for f in findings))
    ]
    rules = len({(f.file, f.line) for f in findings})
    return f"{', '.join(counts)} in {rules} rule{'s' * (rules != 1)}; {read}"
