"""Verdicts for CI systems, as JUnit XML [pure]."""

from __future__ import annotations

import re
from collections.abc import Sequence
from xml.etree import ElementTree

from lab.report.cases import Case
from lab.report.conflicts import Conflict, FlowKey, Report
from lab.report.explain import explain
from lab.report.page import plain
from lab.report.text import summary
from lab.verdict.outcome import Outcome, Verdict

_FORBIDDEN = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def text(report: Report) -> str:
    """Write one test case per owner, flow, order, family and variant."""
    groups: dict[tuple[FlowKey, Case], list[Verdict]] = {}
    for verdict in report.verdicts:
        key = (verdict.owner, verdict.flow), Case.of(verdict)
        groups.setdefault(key, []).append(verdict)
    suite = ElementTree.Element("testsuite", name="fwmark-lab", tests=str(len(groups)), skipped="0")
    suite.set("time", f"{sum(run.seconds for run in report.runs):.3f}")
    found = [_case(suite, report, *key, verdicts) for key, verdicts in groups.items()]
    suite.set("failures", str(found.count("failure")))
    suite.set("errors", str(found.count("error")))
    ElementTree.SubElement(suite, "system-out").text = _clean(summary(report))
    root = ElementTree.Element("testsuites")
    root.append(suite)
    ElementTree.indent(root)
    return '<?xml version="1.0" encoding="utf-8"?>\n' + ElementTree.tostring(root, "unicode") + "\n"


def _case(
    suite: ElementTree.Element, report: Report, flow: FlowKey, case: Case, verdicts: list[Verdict]
) -> str:
    order = " then ".join(report.names.short(title) for title in case.order)
    element = ElementTree.SubElement(
        suite,
        "testcase",
        classname=_clean(flow[0]),
        time="0",
        name=_clean(f"{flow[1]} [{order}, {case.family}, iptables-{case.variant}]"),
    )
    kind = _kind(verdicts)
    if kind:
        worst = next(
            v
            for v in verdicts
            if v.outcome.is_conflict == (kind == "failure") and v.outcome is not Outcome.SURVIVES
        )
        found = [c for c in report.conflicts if case in c.cases(flow)]
        problem = ElementTree.SubElement(
            element,
            kind,
            type=worst.outcome.name,
            message=_clean(report.names.everywhere(worst.reason)),
        )
        problem.text = _clean(_explained(report, found))
    return kind


def _kind(verdicts: Sequence[Verdict]) -> str:
    if any(v.outcome.is_conflict for v in verdicts):
        return "failure"
    return "error" if any(v.outcome is Outcome.INCONCLUSIVE for v in verdicts) else ""


def _explained(report: Report, conflicts: Sequence[Conflict]) -> str:
    return "\n" + "\n".join(plain(explain(report, conflict)) for conflict in conflicts)


def _clean(value: str) -> str:
    """Leave out what XML 1.0 cannot hold."""
    return _FORBIDDEN.sub("?", value)
