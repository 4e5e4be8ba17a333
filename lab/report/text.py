"""What ``check`` and ``judge`` print for a person [pure]."""

from __future__ import annotations

from collections.abc import Iterator

from rich.text import Text

from lab.report.conflicts import Difference, FlowKey, Report
from lab.report.explain import STYLES, explain
from lab.report.page import wrapped


def render(report: Report, columns: int = 0, verbose: bool = False) -> Iterator[Text]:
    """Yield the whole answer: what differs, each conflict once, who survives, one sentence."""
    yield from _differences(report, columns)
    for conflict in report.conflicts:
        yield Text("")
        yield from explain(report, conflict, columns)
    if report.conflicts:
        yield Text("")
    yield from _survivors(report, columns, verbose)
    yield from wrapped(summary(report), columns, f"bold {_style(report)}")


def _style(report: Report) -> str:
    if report.differing():
        return "red"
    return "yellow" if report.undecided() or not report.verdicts else "green"


def _differences(report: Report, columns: int) -> Iterator[Text]:
    found = report.differences()
    cells = [_cells(report, difference) for difference in found]
    widths = [max((len(row[n]) for row in cells), default=0) for n in range(3)]
    for difference, (outcome, flow, what, cases) in zip(found, cells, strict=True):
        line = Text(f"{outcome:<{widths[0]}}", STYLES.get(difference.outcome, "red"))
        line.append(f"  {flow:<{widths[1]}}", "bold")
        line.append(
            f"  {what:<{widths[2]}}" if widths[2] else "",
            "" if difference.effect.severity else "dim",
        )
        if columns and len(line) + 2 + len(cases) > columns:
            yield line
            line = Text(" " * widths[0])
        yield line.append(f"  {cases}")


def _cells(report: Report, difference: Difference) -> tuple[str, str, str, str]:
    owner, flow = difference.flow
    numbers = ",".join(str(c.number) for c in difference.conflicts)
    return (
        difference.outcome.name,
        f"{report.names.short(owner)}/{flow}",
        difference.effect.short if difference.outcome.is_conflict else "",
        f"{report.tried.phrase(difference.cases)}  [{numbers}]",
    )


def _survivors(report: Report, columns: int, verbose: bool) -> Iterator[Text]:
    surviving = report.surviving()
    for software in report.software:
        name = report.names.full(software.title)
        mine = [flow for owner, flow in surviving if owner == software.title]
        total = sum(owner == software.title for owner, _ in report.flows())
        if not total and report.runs[0].experiment.flows:
            continue  # none of its flows was asked for
        if not total:
            yield Text(f"{name}: no flow was judged", "yellow")
            continue
        verb = ("hold" if report.alone else "survive") + "s" * (1 in (len(mine), total))
        line = f"{name}: {len(mine)} of {_plural(total, 'flow')} {verb}"
        listed = f": {', '.join(mine)}" if verbose and mine else ""
        yield from wrapped(line + listed, columns, "green" if len(mine) == total else "", indent=2)


def summary(report: Report) -> str:
    """Say in one sentence whether the software coexists."""
    flows, broken, undecided = report.flows(), report.differing(), report.undecided()
    who = f"{report.names.all()}{' alone' if report.alone else ''}"
    if not report.verdicts:
        return f"{who}: nothing was judged"
    if broken:
        verb = "does not hold" if report.alone else "do not coexist"
        return f"{who} {verb}: {_harm(report, broken, len(flows))}"
    if undecided:
        of = f"{len(undecided)} of {_plural(len(flows), 'flow')}"
        return f"{who}: no conflict seen, but {of} could not be judged"
    expectations = _plural(_expectations(report), "expectation")
    claims = f"all {expectations} of {_plural(len(flows), 'flow')}"
    if report.alone:
        return f"{who}: {claims} hold in every family and variant tried"
    return f"{who} coexist: {claims} survive in every order and variant"


def _harm(report: Report, broken: list[FlowKey], total: int) -> str:
    cases = report.tried.cases
    harmed = sum(report.worst_effect(flow, cases).severity > 0 for flow in broken)
    marks = len(broken) - harmed
    of = f" of {_plural(total, 'flow')}"
    have = "has" if marks == 1 else "have"
    if not harmed:
        return f"{marks}{of} {have} wrong marks, but nothing is lost"
    told = f"{harmed}{of} {'breaks' if harmed == 1 else 'break'}"
    return f"{told}, {marks} more {have} wrong marks" if marks else told


def _expectations(report: Report) -> int:
    judged = set(report.flows())
    return sum(
        len(flow.expectations)
        for software in report.software
        for flow in software.flows
        if (software.title, flow.name) in judged
    )


def _plural(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"
