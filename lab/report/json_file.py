"""Verdicts for machines, as JSON [pure]."""

from __future__ import annotations

import json
from typing import Any

from lab.codec import encode
from lab.report.conflicts import Report
from lab.report.text import summary
from lab.verdict.outcome import exit_code

FORMAT = 1


def content(report: Report) -> dict[str, Any]:
    """Return the whole answer as JSON values; masks and words are numbers."""
    first = report.runs[0]
    return {
        "format": FORMAT,
        "summary": summary(report),
        "exit_code": exit_code(list(report.verdicts)),
        "software": [software.title for software in report.software],
        "environment": encode(first.environment),
        "counts": _counts(report),
        "verdicts": [encode(verdict) for verdict in report.verdicts],
    }


def _counts(report: Report) -> dict[str, int]:
    return {
        "flows": len(report.flows()),
        "conflicting": len(report.differing()),
        "inconclusive": len(report.undecided()),
        "surviving": len(report.surviving()),
        "runs": len(report.runs),
    }


def text(value: Any) -> str:
    """Write JSON for people and machines."""
    return json.dumps(value, indent=2, ensure_ascii=False)
