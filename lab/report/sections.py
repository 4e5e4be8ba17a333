"""What was judged, as sections of a failed test's report [pure]."""

from __future__ import annotations

from collections.abc import Iterator

from lab.report.conflicts import report
from lab.report.explain import explain
from lab.report.page import plain
from lab.verdict.result import Result

_SHOWN = 8


def evidence(result: Result) -> Iterator[tuple[str, str]]:
    """Yield heading and text of each conflict or doubt, worst first, then one line on them all.

    Before that comes what was run in the stead of another order.
    """
    judged = report(result.runs, result.verdicts)
    for conflict in judged.conflicts[:_SHOWN]:
        _, *lines = explain(judged, conflict)  # the first is a bar with the heading
        yield f"verdict: {conflict.outcome.value}", plain(lines).rstrip()
    for run in result.runs:
        if run.ran_as:
            same = "the kernel ends in the same state"
            yield "one run for both", f"{run.experiment}\nran as {run.ran_as}: {same}"
    left = len(judged.conflicts) - _SHOWN
    yield "verdicts", repr(result).strip("<>") + (f"; {left} more are not shown" * (left > 0))
