"""One block per conflict: who, where, which bits, which rule, what became of the packet [pure]."""

from __future__ import annotations

import shlex
from collections.abc import Collection, Iterator

from rich.text import Text

from lab.marks import bit_ranges, word
from lab.native.marktest import tests
from lab.native.rule import Rule
from lab.points import priority_text
from lab.report import names as naming
from lab.report.cases import Case
from lab.report.conflicts import Conflict, FlowKey, Report
from lab.report.page import bar, row, wrapped
from lab.verdict.outcome import Culprit, Outcome, Verdict

STYLES = {Outcome.SURVIVES: "green", Outcome.INCONCLUSIVE: "yellow"}
_FIELDS = {"mark": "packet mark", "ctmark": "conntrack mark"}


def explain(
    report: Report, conflict: Conflict, columns: int = 0, *, commands: bool = True
) -> Iterator[Text]:
    """Yield the block that explains one conflict, with the commands that show it again."""
    lead = conflict.lead
    style = STYLES.get(conflict.outcome, "red")
    yield bar(f"{conflict.number}. verdict: {conflict.outcome.value}", columns, f"bold {style}")
    yield from wrapped(_headline(report, lead), columns, "bold", indent=2)
    yield from _cause(report, lead, columns)
    yield from _fate(report, lead, columns)
    yield from _hits(report, conflict, columns)
    yield from row("in", report.tried.phrase(conflict.cases()), columns)
    if not commands:
        return
    yield from row("see it", trace_command(report, lead), columns)
    if conflict.outcome.is_conflict:
        yield from row("reproduce", shrink_command(report, lead), columns)


def _headline(report: Report, lead: Verdict) -> str:
    names = report.names
    others = naming.listed([names.full(title) for title in lead.beside])
    beside = f" beside {others}" if others else " alone"
    last = len(lead.order) > 1 and lead.order[-1] == lead.owner
    installed = " (installed last)" if last and len(report.tried.orders) > 1 else ""
    reply = ", reply" if lead.direction == "reply" else ""
    at = f", at {lead.point}" if lead.point else ""
    return f"{names.full(lead.owner)}{beside}{installed}, flow {lead.flow}{reply}{at}"


def _cause(report: Report, lead: Verdict, columns: int) -> Iterator[Text]:
    if lead.culprit and lead.outcome is Outcome.FALSE_MATCH:
        yield from _false_match(report, lead.culprit, columns)
        return
    if lead.point:
        compared = f"alone {word(lead.alone)}   together {word(lead.together)}"
        yield from row(
            f"bits {bit_ranges(lead.bits)}", f"{compared}   ({_FIELDS[lead.field]})", columns
        )
    if lead.culprit is None or lead.outcome is not Outcome.CLOBBERED:
        yield from row("because", report.names.everywhere(lead.reason), columns)
    if lead.culprit:
        yield from _culprit(report, lead, lead.culprit, columns)


def _culprit(report: Report, lead: Verdict, culprit: Culprit, columns: int) -> Iterator[Text]:
    clobbered = lead.outcome is Outcome.CLOBBERED
    if culprit.before != culprit.after:
        change = f"{word(culprit.before)} -> {word(culprit.after)}"
    else:
        change = f"on the packet mark {word(culprit.before)}"
    label = "written by" if clobbered else "decided by"
    yield from _rule(report, label, culprit, columns, change)


def _false_match(report: Report, culprit: Culprit, columns: int) -> Iterator[Text]:
    tested = _tested(culprit)
    label = f"bits {bit_ranges(tested)}" if tested else "bits"
    whose = report.names.everywhere(culprit.writer)
    yield from row(label, f"{word(culprit.before)}, set by {whose}", columns)
    yield from _rule(report, "taken by", culprit, columns)


def _tested(culprit: Culprit) -> int:
    """Return the bits of the word that made the rule match."""
    found = 0
    for test in tests(culprit.rule.written):
        found |= test.bits(culprit.before)
    return found


def _rule(
    report: Report, label: str, culprit: Culprit, columns: int, change: str = ""
) -> Iterator[Text]:
    rule = culprit.rule
    hook = f"{culprit.node} {culprit.hook}"
    software = report.names.full(rule.software)
    yield from row(label, f"{software}, {hook}, {chain(rule, culprit.priority)}", columns)
    yield from row("", rule.written, columns, "cyan")
    if change:
        yield from row("", change, columns, "red")
    if rule.listed and rule.listed != rule.written:
        yield from row("  listed as", rule.listed, columns, "cyan")
    for label_, text in (("  from", naming.place(rule.file, rule.line)), ("", rule.source)):
        if text:
            yield from row(label_, text, columns, "dim")


def chain(rule: Rule, priority: int) -> str:
    """Say where a rule stands: table and chain, policy routing, or a sysctl."""
    if rule.tool == "ip":
        return "policy routing (ip rule)"
    if rule.tool == "sysctl":
        return "sysctl"
    table = f"table {rule.table}" if rule.table else f"priority {priority_text(priority)}"
    return f"{table}, chain {rule.chain}" if rule.chain else table


def _fate(report: Report, lead: Verdict, columns: int) -> Iterator[Text]:
    if lead.fate_alone == lead.fate_together:
        if lead.fate_alone:
            yield from row("fate", f"{lead.fate_alone}, alone and together", columns)
        return
    yield from row("fate", f"alone:    {lead.fate_alone}", columns)
    yield from row("", f"together: {report.names.everywhere(lead.fate_together)}", columns)


def _hits(report: Report, conflict: Conflict, columns: int) -> Iterator[Text]:
    """List the flows hit: one line where it hurts, one for all where only marks differ."""
    harm = {flow: report.worst_effect(flow, conflict.cases(flow)) for flow in conflict.flows()}
    label = "flows hit"
    for flow in sorted((f for f in harm if harm[f].severity), key=lambda f: -harm[f].severity):
        yield from row(label, f"{_flow(report, flow)}: {_effects(report, conflict, flow)}", columns)
        label = ""
    for text in _unharmed(report, conflict, [f for f in harm if not harm[f].severity]):
        yield from row(label, text, columns)
        label = ""


def _effects(report: Report, conflict: Conflict, flow: FlowKey) -> str:
    """Say what becomes of a flow, and where that depends on the case, in which."""
    alike: dict[str, list[Case]] = {}
    for case in (c for c in report.tried.cases if c in conflict.cases(flow)):
        alike.setdefault(report.effect(flow, case).short, []).append(case)
    told = [
        report.worst_effect(flow, cases).text + _only(report, conflict, cases)
        for cases in alike.values()
    ]
    return "; ".join(told)


def _unharmed(report: Report, conflict: Conflict, flows: list[FlowKey]) -> Iterator[str]:
    together: dict[str, list[str]] = {}
    for flow in flows:
        together.setdefault(_only(report, conflict, conflict.cases(flow)), []).append(
            _flow(report, flow)
        )
    for only, names in together.items():
        what = "marks only" if conflict.outcome.is_conflict else "not judged"
        yield f"{what}{only}: {', '.join(names)}"


def _only(report: Report, conflict: Conflict, cases: Collection[Case]) -> str:
    some = set(cases) != conflict.cases()
    return f" (only {report.tried.difference(cases)})" if some else ""


def _flow(report: Report, flow: FlowKey) -> str:
    return f"{report.names.short(flow[0])}/{flow[1]}"


def trace_command(report: Report, lead: Verdict) -> str:
    """Return the command that shows the packet of a verdict."""
    return shlex.join(_command(report, lead, "trace"))


def shrink_command(report: Report, lead: Verdict) -> str:
    """Return the command that makes a stand-alone script of a verdict."""
    last = ("--order", "given", "-o", "reproduce.sh")
    return shlex.join([*_command(report, lead, "shrink"), *last])


def _command(report: Report, lead: Verdict, name: str) -> list[str]:
    names = report.names
    parts = [
        "fwmark-lab",
        name,
        *dict.fromkeys(names.argument(title) for title in lead.order),
        "--flow",
        names.flow(lead.owner, lead.flow),
    ]
    parts += names.options(lead.order)
    parts += [] if lead.family == "ipv4" else ["--family", lead.family]
    parts += [] if lead.variant == "nft" else ["--iptables", lead.variant]
    return parts
