"""What ``check`` and ``judge`` print for a person [pure]."""

from __future__ import annotations

from collections.abc import Iterator

from rich.text import Text

from lab.marks import bit_ranges, word
from lab.native.rule import Rule
from lab.points import priority_text
from lab.report import names as naming
from lab.report.conflicts import Conflict, Difference, FlowKey, Report
from lab.report.page import bar, row, wrapped
from lab.verdict.outcome import Culprit, Outcome, Verdict

_STYLES = {Outcome.SURVIVES: "green", Outcome.INCONCLUSIVE: "yellow"}


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


# --- one line per flow that differs --------------------------------------------------------------


def _differences(report: Report, columns: int) -> Iterator[Text]:
    found = report.differences()
    cells = [_cells(report, difference) for difference in found]
    widths = [max((len(row[n]) for row in cells), default=0) for n in range(3)]
    for difference, (outcome, flow, what, cases) in zip(found, cells, strict=True):
        style = _STYLES.get(difference.conflicts[0].outcome, "red")
        line = Text(f"{outcome:<{widths[0]}}", style)
        line.append(f"  {flow:<{widths[1]}}", "bold")
        line.append(f"  {what:<{widths[2]}}", "" if difference.effect.severity else "dim")
        if columns and len(line) + 2 + len(cases) > columns:
            yield line
            line = Text(" " * (widths[0] + 2))
        yield line.append(f"  {cases}")


def _cells(report: Report, difference: Difference) -> tuple[str, str, str, str]:
    outcomes = dict.fromkeys(c.outcome.name for c in difference.conflicts)
    owner, flow = difference.flow
    numbers = ",".join(str(c.number) for c in difference.conflicts)
    return (
        " ".join(outcomes),
        f"{report.names.short(owner)}/{flow}",
        difference.effect.text if difference.conflicts[0].outcome.is_conflict else "",
        f"{report.tried.phrase(difference.cases)}  [{numbers}]",
    )


# --- one explanation per conflict ----------------------------------------------------------------


def explain(report: Report, conflict: Conflict, columns: int = 0) -> Iterator[Text]:
    """Yield the block that explains one conflict."""
    lead = conflict.lead
    style = _STYLES.get(conflict.outcome, "red")
    yield bar(f"{conflict.number}. verdict: {conflict.outcome.value}", columns, f"bold {style}")
    yield from wrapped(_headline(report, conflict), columns, "bold", indent=2)
    if conflict.outcome is Outcome.FALSE_MATCH and lead.culprit:
        yield from _false_match(report, lead.culprit, columns)
    else:
        yield from _bits(lead, columns)
        if lead.culprit:
            yield from _culprit(report, lead, lead.culprit, columns)
        else:
            yield from row("because", report.names.everywhere(lead.reason), columns)
    yield from _fate(report, lead, columns)
    yield from _hits(report, conflict, columns)
    yield from row("in", report.tried.phrase(conflict.cases()), columns)
    yield from row("see it", trace_command(report, lead), columns)


def _headline(report: Report, conflict: Conflict) -> str:
    lead, names = conflict.lead, report.names
    others = naming.listed([names.full(title) for title in lead.beside])
    beside = f" beside {others}" if others else " alone"
    at = f", at {lead.point}" if lead.point else ""
    reply = ", reply" if lead.direction == "reply" else ""
    return f"{names.full(lead.owner)}{beside}, flow {lead.flow}{reply}{at}"


def _bits(lead: Verdict, columns: int) -> Iterator[Text]:
    if not lead.point:
        return
    field = "packet mark" if lead.field == "mark" else "conntrack mark"
    yield from row(f"bits {bit_ranges(lead.bits)}",
                   f"alone {word(lead.alone)}   together {word(lead.together)}   ({field})", columns)


def _culprit(report: Report, lead: Verdict, culprit: Culprit, columns: int) -> Iterator[Text]:
    verb = "written by" if lead.outcome is Outcome.CLOBBERED else "decided by"
    yield from _rule(report, verb, culprit, columns)
    if culprit.before != culprit.after:
        yield from row("", f"{word(culprit.before)} -> {word(culprit.after)}", columns, "red")
    else:
        yield from row("", f"with the packet mark {word(culprit.before)}", columns)


def _false_match(report: Report, culprit: Culprit, columns: int) -> Iterator[Text]:
    yield from _rule(report, "matched by", culprit, columns)
    yield from row("", f"on the word {word(culprit.before)}, whose bits are another's", columns, "red")
    yield from row("bits written", f"by {report.names.everywhere(culprit.writer)}", columns)


def _rule(report: Report, label: str, culprit: Culprit, columns: int) -> Iterator[Text]:
    rule = culprit.rule
    where = f"{report.names.full(rule.software)}, {culprit.node} {culprit.hook}, {chain(rule, culprit.priority)}"
    yield from row(label, where, columns)
    yield from row("", rule.written, columns, "cyan")
    if rule.listed and rule.listed != rule.written:
        yield from row("  listed as", rule.listed, columns, "cyan")
    yield from row("  from", "  ".join(filter(None, (naming.place(rule.file, rule.line), rule.source))),
                   columns, "dim")


def chain(rule: Rule, priority: int) -> str:
    """Say where a rule stands: table and chain, or policy routing."""
    if rule.tool == "ip":
        return "policy routing (ip rule)"
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
    label = "flows hit"
    unharmed: list[str] = []
    everywhere = conflict.cases()
    for flow in sorted(conflict.flows(), key=lambda f: -_harm(report, conflict, f)):
        cases = conflict.cases(flow)
        text = f"{report.names.short(flow[0])}/{flow[1]}"
        if not _harm(report, conflict, flow):
            unharmed.append(text)
            continue
        only = "" if cases == everywhere else f" (only {report.tried.phrase(cases)})"
        yield from row(label, f"{text}: {report.worst_effect(flow, cases).text}{only}", columns)
        label = ""
    if unharmed and conflict.outcome.is_conflict:
        yield from row(label, f"marks differ, but it arrives: {', '.join(unharmed)}", columns)
    elif unharmed:
        yield from row(label, ", ".join(unharmed), columns)


def _harm(report: Report, conflict: Conflict, flow: FlowKey) -> int:
    return report.worst_effect(flow, conflict.cases(flow)).severity


def trace_command(report: Report, lead: Verdict) -> str:
    """Return the command that shows the packet of a verdict."""
    names = report.names
    parts = ["fwmark-lab trace", *(names.argument(title) for title in lead.order),
             "--flow", names.flow(lead.owner, lead.flow)]
    parts += [] if lead.family == "ipv4" else ["--family", lead.family]
    parts += [] if lead.variant == "nft" else ["--iptables", lead.variant]
    return " ".join(parts)


# --- who survives, and the sentence --------------------------------------------------------------


def _survivors(report: Report, columns: int, verbose: bool) -> Iterator[Text]:
    surviving = report.surviving()
    for software in report.software:
        mine = [flow for owner, flow in surviving if owner == software.title]
        total = len([1 for owner, _ in report.flows() if owner == software.title])
        if not total:
            yield Text(f"{report.names.full(software.title)}: no flow was judged", "yellow")
            continue
        line = f"{report.names.full(software.title)}: {len(mine)} of {_plural(total, 'flow')} " \
               f"{'hold' if report.alone else 'survive'}"
        yield from wrapped(f"{line}{': ' + ', '.join(mine) if verbose and mine else ''}", columns,
                           "green" if len(mine) == total else "", indent=2)


def summary(report: Report) -> str:
    """Say in one sentence whether the software coexists."""
    flows, broken, undecided = report.flows(), report.differing(), report.undecided()
    verb = "" if report.alone else _verb(report, "coexist")
    who = f"{report.names.all()}{' alone' if report.alone else ''}"
    if not report.verdicts:
        return f"{who}: nothing was judged"
    if broken:
        return f"{who} {_negated(report)}: {_harm_told(report, broken, len(flows))}"
    if undecided:
        return f"{who}: no conflict seen, but {len(undecided)} of {_plural(len(flows), 'flow')} " \
               "could not be judged"
    claims = f"all {_expectations(report)} expectations of {_plural(len(flows), 'flow')}"
    if report.alone:
        return f"{who}: {claims} hold in every family and variant tried"
    return f"{who} {verb}: {claims} survive in every order and variant"


def _verb(report: Report, verb: str) -> str:
    return verb if len(report.software) > 1 else f"{verb}s"


def _negated(report: Report) -> str:
    return "does not hold" if report.alone else "do not coexist"


def _harm_told(report: Report, broken: list[FlowKey], total: int) -> str:
    cases = report.tried.cases
    harmed = [flow for flow in broken if report.worst_effect(flow, cases).severity]
    rest = len(broken) - len(harmed)
    of = f" of {_plural(total, 'flow')}"
    if not harmed:
        return f"{rest}{of} {_lose(rest)} marks, yet arrive as alone"
    told = f"{len(harmed)}{of} {'breaks' if len(harmed) == 1 else 'break'}"
    return f"{told}, {rest} more {_lose(rest)} marks but arrive as alone" if rest else told


def _lose(count: int) -> str:
    return "has wrong" if count == 1 else "have wrong"


def _expectations(report: Report) -> int:
    judged = set(report.flows())
    return sum(len(flow.expectations) for software in report.software for flow in software.flows
               if (software.title, flow.name) in judged)


def _plural(count: int, word_: str) -> str:
    return f"{count} {word_}" if count == 1 else f"{count} {word_}s"
