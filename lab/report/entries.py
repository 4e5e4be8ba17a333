"""What ``list`` and ``show`` print [pure]."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich.text import Text

from lab.marks import bit_ranges
from lab.native.lines import lines as rule_lines
from lab.registry.find import newest
from lab.registry.software import Allocation, Ruleset, Software
from lab.report import names as naming
from lab.report.page import row, wrapped
from lab.traffic.flow import Field, Flow

FIELDS: tuple[Field, ...] = ("mark", "ctmark")


def listing(entries: Sequence[Software], columns: int = 0) -> Iterator[Text]:
    """Yield one block per software: its releases, modes, bits, and what is listed elsewhere."""
    width = max((len(argument(s)) for s in entries), default=0)
    for number, name in enumerate(dict.fromkeys(s.name for s in entries)):
        if number:
            yield Text("")
        yield from _software([s for s in entries if s.name == name], columns, width)


def _software(releases: list[Software], columns: int, width: int) -> Iterator[Text]:
    default = newest(releases)
    for entry in releases:
        line = Text(f"{argument(entry):<{width}}", "bold")
        line.append(f" {entry.style:<11} {bits(entry)}")
        if entry is default:
            line.append(f"  (= {entry.name})", "green")
        yield line
        yield from _indented(f"also {', '.join(entry.aliases)}" if entry.aliases else "", columns)
        yield from _indented(registered(entry), columns, "yellow")


def argument(entry: Software) -> str:
    """Return what names the entry on the command line."""
    return f"{entry.name}@{entry.release}" + ("" if entry.default_mode else f":{entry.mode}")


def bits(entry: Software) -> str:
    """Say which bits an entry says are its own: ``mark 16-23, ctmark 16-23``."""
    found = [
        f"{field} bits {bit_ranges(entry.owned(field))}" for field in FIELDS if entry.owned(field)
    ]
    return ", ".join(found) or "no bits"


def registered(entry: Software) -> str:
    """Say what the public registry lists where that does not hold; empty where it does."""
    row_ = entry.registered
    if row_ is None or row_.verdict.startswith("holds"):
        return ""
    return f"the public registry lists {row_.mark}: {row_.verdict or 'not compared'}"


def _indented(text: str, columns: int, style: str = "dim") -> Iterator[Text]:
    if text:
        for line in wrapped(text, columns - 4 if columns else 0, style, indent=2):
            yield Text("    ").append_text(line)


def entry(software: Software, columns: int = 0, with_rules: bool = False) -> Iterator[Text]:
    """Yield everything that an entry says."""
    yield Text(argument(software), "bold")
    yield from wrapped(software.summary, columns)
    yield from row("mode", software.mode, columns)
    yield from row("style", _style(software), columns)
    yield from row("released", software.released, columns)
    yield from row("stands for", ", ".join(software.aliases) or "this release only", columns)
    yield from row("source", software.source, columns)
    yield from row("file", naming.place(software.file, 1), columns)
    if software.registered:
        listed = software.registered
        yield from row("registry", f"{listed.mark} ({listed.table}): {listed.verdict}", columns)
    yield from _section("allocations", [_allocation(a, columns) for a in software.allocations])
    yield from _section("rulesets", [_ruleset(r, columns, with_rules) for r in software.rulesets])
    yield from _section("flows", [_flow(f, columns) for f in software.flows])
    yield from _section(
        "deviations", [wrapped(f"- {d}", columns, indent=2) for d in software.deviations]
    )


def _style(software: Software) -> str:
    if software.style == "bitwise":
        return "bitwise: only its own bits of the packet mark are its own"
    return "whole-mark: all 32 bits of the packet mark are its own"


def _section(title: str, blocks: Sequence[Sequence[Text] | Iterator[Text]]) -> Iterator[Text]:
    if blocks:
        yield Text("")
        yield Text(title, "bold underline")
    for block in blocks:
        yield from block


def _allocation(allocation: Allocation, columns: int) -> Iterator[Text]:
    named = ", ".join(f"{value.name} {value.mark}" for value in allocation.values)
    yield from row(
        allocation.field,
        f"bits {bit_ranges(allocation.mask)} ({allocation.mask:#x}){': ' + named if named else ''}",
        columns,
    )
    yield from row("", allocation.source, columns, "dim")
    if allocation.unseen:
        yield from row("", f"in no flow: {allocation.unseen}", columns, "dim")


def _ruleset(ruleset: Ruleset, columns: int, with_rules: bool) -> Iterator[Text]:
    count = len(
        [
            line
            for line in rule_lines(ruleset.text)
            if line.text[:1] not in "*:" and line.text != "COMMIT"
        ]
    )
    yield from row(
        ruleset.tool,
        f"{count} lines on {ruleset.node}, {'+'.join(ruleset.families)}; "
        f"{naming.place(ruleset.file, ruleset.line)}",
        columns,
    )
    if with_rules:
        for text in ruleset.text.strip("\n").split("\n"):
            yield Text(f"    {text}", "dim" if text.startswith("#") else "cyan")


def _flow(flow: Flow, columns: int) -> Iterator[Text]:
    yield Text(f"  {flow}", "bold")
    for text in filter(None, (flow.summary, _fate(flow), _families(flow))):
        yield from row("", text, columns)
    for expectation in flow.expectations:
        yield from row("  relies on", str(expectation), columns)


def _fate(flow: Flow) -> str:
    socket = f", sent by a socket with mark {flow.socket_mark:#x}" if flow.socket_mark else ""
    if not flow.answered_by:
        return f"must be dropped{socket}"
    seen = f", which sees it from {flow.seen_from}" if flow.seen_from else ""
    return f"answered by {flow.answered_by}{seen}{socket}"


def _families(flow: Flow) -> str:
    return "" if len(flow.families) > 1 else f"{flow.families[0]} only"
