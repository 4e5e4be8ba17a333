"""What a reproducing script looks at: marks at a point, and how often the rule to blame matched."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from lab.points import FIRST, LAST, Point
from lab.shrink.shell import feed
from lab.traffic.flow import Direction, Family, Field, Flow
from lab.traffic.packets import MAGIC
from lab.verdict.outcome import Culprit, Outcome, Verdict

SIGN = "blamed-rule"
"""The comment by which a script finds the counter of the rule to blame."""
_QUOTED = re.compile(r'"[^"]*"')
_STATEMENT = re.compile(
    r"(?:^|(?<= ))(?:accept|drop|return|continue|jump|goto|queue|reject|log|limit|notrack"
    r"|masquerade|snat|dnat|redirect|tproxy|comment|vmap|(?:meta |ct )?[a-z]\w* set|add @|update @)"
)

_WORDS = """\
words() {
    on %s nft -n list set inet probe words | tr '\\n\\t' '  ' |
        sed -n 's/.*elements = { \\([^}]*\\) }.*/\\1/p'
}
"""
_RIGHT = """\
right() { on %s nft list counter inet probe right | sed -n 's/.*packets \\([0-9]*\\).*/\\1/p'; }
"""


@dataclass(frozen=True, slots=True)
class Probe:
    """Which packets of a flow are looked at where: ``field & bits == value`` is right."""

    point: Point
    field: Field
    bits: int
    value: int
    flow: Flow
    direction: Direction | None
    carried: Family | None = None
    """Where the tunnel's packet is looked at: the family of the packet that it carries."""


def signed(tool: str, rule: str) -> str:
    """Write a rule with a counter and the comment by which its counter is found."""
    if tool == "iptables":
        return f"{rule} -m comment --comment {SIGN}"
    return f'{_counting(_uncommented(rule))} comment "{SIGN}"'


def _uncommented(text: str) -> str:
    return re.sub(r' comment (?:"[^"]*"|\S+)', "", text)


def _counting(text: str) -> str:
    """Put a counter behind the matches of an nft rule, before its first statement."""
    bare = _QUOTED.sub(lambda quoted: "_" * len(quoted[0]), text)
    if re.search(r"\bcounter\b(?! name)", bare):
        return text
    found = _STATEMENT.search(bare)
    at = found.start() if found else len(text)
    return f"{text[:at]}counter {text[at:]}".rstrip()


def probe_for(verdict: Verdict, flow: Flow) -> Probe:
    """Choose the point: the verdict's, that of a false match, or the end of the node's path."""
    culprit = verdict.culprit
    if verdict.point is not None and verdict.alone is not None:
        wanted = verdict.point, verdict.field, verdict.direction
        outer = any(e.outer for e in flow.expectations if (e.point, e.field, e.direction) == wanted)
        return Probe(
            verdict.point,
            verdict.field,
            verdict.bits,
            verdict.alone,
            flow,
            verdict.direction,
            verdict.family if outer else None,
        )
    if culprit is not None and culprit.tested:
        point = Point(culprit.node, culprit.hook, _after(culprit))
        return Probe(point, "mark", culprit.tested, culprit.tested, flow, None)
    return Probe(Point("node", "postrouting", LAST), "mark", 0, 0, flow, None)


def _after(culprit: Culprit) -> int:
    if culprit.rule.tool == "ip":
        return FIRST if culprit.hook == "output" else LAST
    return culprit.priority + 1


def probe(probe: Probe, nodes: tuple[str, ...], *, counted: bool) -> str:
    """Write the functions that watch the flow's packets at the point and print what was seen.

    ``counted``: also how many of them are right.
    """
    word = "meta mark" if probe.field == "mark" else "ct mark"
    packets = [*_carried(probe, probe.carried)] if probe.carried else [_packets(probe)]
    node = probe.point.node if probe.point.node in nodes else "node"
    right = f"{word} & {probe.bits:#010x} == {probe.value:#010x} counter name right"
    table = [
        "table inet probe {",
        "  set words { type mark; size 64; flags dynamic; }",
        *(["  counter right { }"] if counted else []),
        "  chain probe {",
        f"    type filter hook {probe.point.hook} priority {probe.point.priority}; policy accept;",
        *(f"    {which} add @words {{ {word} }}" for which in packets),
        *(f"    {which} {right}" for which in packets if counted),
        "  }",
        "}",
    ]
    text = f"probe() {{\n{feed(f'on {node} nft -f -', table)}}}\n{_WORDS % node}"
    return text + (_RIGHT % node if counted else "")


def _packets(probe: Probe) -> str:
    flow = probe.flow
    if flow.protocol == "udp":
        which = {"request": " @th,96,8 0", "reply": " @th,96,8 1"}.get(probe.direction or "", "")
        return f"meta l4proto udp @th,64,16 {MAGIC:#x}{which}"
    ports = ", ".join(sorted({str(flow.port), str(flow.answer_port or flow.port)}))
    end = {"request": "dport", "reply": "sport"}.get(probe.direction or "", "")
    return f"tcp {end} {{ {ports} }}" if end else "meta l4proto tcp"


def _carried(probe: Probe, family: Family) -> Iterator[str]:
    """Match tunnels' packets with the flow's inside: Ethernet in UDP, IP in IP and GRE.

    Offsets count bits from the outer transport header.
    """
    four = family == "ipv4"
    ethertype = "0x0800" if four else "0x86dd"
    size, protocol = (160, 72) if four else (320, 48)
    turn = {"request": 0, "reply": 1}.get(probe.direction or "")
    for match, at in (
        (f"meta l4proto udp @th,224,16 {ethertype}", 240),
        (f"meta l4proto {4 if four else 41}", 0),
        (f"meta l4proto 47 @th,16,16 {ethertype}", 32),
    ):
        if probe.flow.protocol == "tcp":
            yield f"{match} @th,{at + protocol},8 6"
        else:
            tag = at + size + 64
            which = "" if turn is None else f" @th,{tag + 32},8 {turn}"
            yield f"{match} @th,{tag},16 {MAGIC:#x}{which}"


def matched(counted: Culprit | None, listing: str) -> str:
    """Write the function that prints how often the rule to blame matched.

    ``counted`` is the culprit whose rule is signed, if any; ``listing`` is the program that lists
    iptables' rules with their counters.
    """
    if counted is None:
        return ""
    find = f"s/.*counter packets \\([0-9]*\\) .*{SIGN}.*/\\1/p"
    if counted.rule.tool == "iptables":
        find = f"s/^\\[\\([0-9]*\\):.*{SIGN}.*/\\1/p"
    else:
        listing = "nft list ruleset 2>/dev/null"
    return f"""
matched() {{ # 0 where it is not installed
    on {counted.node} {listing} | sed -n '{find}' | grep . || echo 0
}}
"""


def show(probe: Probe, counted: Culprit | None) -> str:
    """Write the function that prints what one measurement saw."""
    word = "packet mark" if probe.field == "mark" else "ctmark"
    if probe.carried:
        word += " of the tunnel's packet"
    told = f"{word} at {probe.point}: ${{words:-no packet}}; $fate"
    if counted is not None:
        told += "; the rule to blame matched $matched times"
    return f'show() {{ echo "$1: {told}"; }}\n'


def condition(verdict: Verdict, counted: Culprit | None) -> str:
    """Say in shell when the conflict shows: ``$alone_…`` and ``$together_…`` hold the counts."""
    differs = '[ "$alone_fate" != "$together_fate" ]'
    if verdict.outcome in (Outcome.MISROUTED, Outcome.DROPPED, Outcome.REWRITTEN):
        return differs
    if verdict.outcome is not Outcome.FALSE_MATCH:
        return '[ "$together_right" -lt "$alone_right" ]'
    if counted is not None:
        return '[ "$together_matched" -gt "$alone_matched" ]'
    if verdict.fate_alone != verdict.fate_together:
        return differs
    return '[ "$together_right" -gt 0 ]'
