"""What can be told of an owner beside another software before anything is run [pure].

Read are the entries alone: allocations, masks, style, on which node each ruleset stands, and what
each rule writes, tests and decides. Addresses, ports and devices in a rule's conditions are not:
a prediction says that something *may* happen, names the rule that would do it, and how it shows.

Two programs that meet in no namespace, or of which neither does any of the following to the other,
must survive. Between owner A and B beside it these may go wrong:

- ``clobber``: B writes, in a namespace that A's packets pass, bits that are A's: all 32 where A
  takes the mark for one number, its allocations and what its flows rely on where it is bitwise. A
  write without a mask changes all bits whatever it means to set; copying the connection's mark
  (restore, save) changes every bit under the masks, those that come over clear as well.
- ``false match``: a rule of B holds on bits that A sets (in packets, connections or by SO_MARK), or
  a rule of A on bits that B sets. Only tests that need set bits count, and all of these bits.
- ``source check``: one sets ``src_valid_mark``, so the reverse-path look-up carries the mark. Where
  the other routes marked packets by a table of its own, that look-up finds the table's ``local``
  route, a martian whatever ``rp_filter`` says, or a device that is not the one the packet came by,
  which ``rp_filter`` refuses, even 2 where the interface has no address (a pod's).
- ``policy route``, ``translation``, ``accept``, ``drop``: no conflict of marks. B has a policy rule
  (without a mark, for all but its own mark, or for a mark that it sets itself), a source
  translation, a verdict that ends the chain in a table where A has rules, or a drop (by a rule or
  by a chain's policy), and nothing in it keeps A's packets out. A policy rule of A's own that
  names no priority goes before all that are there, so B's may stand on either side of it.
- ``capture``: B redirects to its own proxy, on the node or in a pod where A's flow begins or ends.
- ``pod network``: B routes the pods through a device of its own. A node has one pod network; of two
  that connect the pods the one installed last has them, or cannot be installed at all.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Literal

from lab.marks import WORD, bit_ranges
from lab.native.marktest import tests
from lab.native.markwrite import MarkWrite, writes
from lab.registry.software import Software
from lab.traffic.flow import Family, Flow
from lab.verdict.outcome import Outcome, Verdict
from lab.verdict.statements import Statement, statements

Kind = Literal[
    "clobber",
    "false match",
    "source check",
    "policy route",
    "translation",
    "accept",
    "drop",
    "capture",
    "pod network",
]
OF_MARKS: tuple[Kind, ...] = ("clobber", "false match", "source check")
"""The kinds that are conflicts of marks; the others would be there without any mark."""

_FATES = frozenset({Outcome.MISROUTED, Outcome.DROPPED, Outcome.REWRITTEN})
_SHOWS: dict[Kind, frozenset[Outcome]] = {
    "clobber": frozenset({Outcome.CLOBBERED}),
    "false match": frozenset({Outcome.FALSE_MATCH, Outcome.MISROUTED}),
    "source check": frozenset({Outcome.MISROUTED, Outcome.DROPPED}),
    "policy route": frozenset({Outcome.MISROUTED, Outcome.REWRITTEN}),
    "translation": frozenset({Outcome.REWRITTEN, Outcome.INCONCLUSIVE}),
    "accept": _FATES | {Outcome.INCONCLUSIVE},
    "drop": frozenset({Outcome.DROPPED, Outcome.INCONCLUSIVE}),
    "capture": frozenset({Outcome.MISROUTED, Outcome.DROPPED, Outcome.INCONCLUSIVE}),
    "pod network": _FATES | {Outcome.INCONCLUSIVE},
}
_MARTIAN = re.compile(r"by source validation|ended on (?P<node>\S+) .*source validation")
_CAPTURES = re.compile(r"(?:-j|--jump) (?:REDIRECT|TPROXY)\b|\b(?:redirect|tproxy) to\b")
_TRANSLATES = re.compile(
    r"(?:-j|--jump) (?:MASQUERADE|SNAT)\b|\bmasquerade\b|\bsnat (?:ip6? )?(?:prefix )?to\b"
)
_ACCEPTS = re.compile(r"(?:-j|--jump) ACCEPT\b|\baccept$")
_DROPS = re.compile(r"(?:-j|--jump) (?:DROP|REJECT)\b|\b(?:drop|reject)\b")
_SOURCE_CHECK = re.compile(r"src_valid_mark *= *1")
_MARK_ROUTE = re.compile(r"rule add (?!not ).*\bfwmark\b.*\b(?:lookup|table) (?!main|default)")
_POD_ROUTE = re.compile(r"route (?:add|del|replace) \{\{ *(?:pods\.net|pod-[ab]\.ip) *\}\}")
_POLICY = re.compile(r"rule add\b")
_NUMBERED = re.compile(r"\b(?:pref|preference|prio|priority|order) \d")
_POLICY_DROP = re.compile(r"\bpolicy drop\b")


@dataclass(frozen=True, slots=True)
class Hazard:
    """One way in which ``owner`` may come to harm, and the statement that would do it.

    ``flows`` are those that may be hit, empty for any. Without a statement no rule is to blame.
    """

    kind: Kind
    reason: str
    by: Statement | None = None
    bits: int = 0
    flows: tuple[str, ...] = ()

    def covers(self, verdict: Verdict) -> bool:
        """Tell whether the verdict is what was to be feared, done by the rule that was named."""
        if verdict.outcome not in _SHOWS[self.kind]:
            return False
        if self.flows and verdict.flow not in self.flows:
            return False
        if self.kind == "source check":
            found = _MARTIAN.search(verdict.reason)
            return found is not None and found["node"] in (None, self.by and self.by.node)
        if self.kind == "drop" and verdict.culprit is None:
            ended = f"rule: {self.by.software}" if self.by else "policy drop of"
            return ended in verdict.reason
        if self.by is None:
            return self.kind == "pod network" or verdict.culprit is None
        rule = verdict.culprit.rule if verdict.culprit else None
        return rule is not None and _place(rule.file, rule.line) == _place(
            self.by.file, self.by.line
        )

    def __str__(self) -> str:
        return f"{self.kind}: {self.reason}" + (f": {self.by.text}" if self.by else "")


def _place(file: str, line: int) -> tuple[str, int]:
    """Return what is the same for an entry's line in every clone."""
    return "/".join(file.split("/")[-2:]), line


@dataclass(frozen=True, slots=True)
class Prediction:
    """What may happen to one owner beside one other software; nothing means it must survive."""

    owner: str
    beside: str
    hazards: tuple[Hazard, ...]

    @property
    def survives(self) -> bool:
        """Tell whether every flow of the owner must survive."""
        return not self.hazards

    @property
    def marks_apart(self) -> bool:
        """Tell whether no conflict of marks is possible."""
        return not any(hazard.kind in OF_MARKS for hazard in self.hazards)

    def covers(self, verdict: Verdict) -> bool:
        """Tell whether a verdict on the owner is as predicted."""
        if verdict.outcome is Outcome.SURVIVES:
            return True
        return any(hazard.covers(verdict) for hazard in self.hazards)


@cache
def predict(owner: Software, beside: Software, family: Family) -> Prediction:
    """Predict what may happen to the flows of ``owner`` beside another software."""
    nodes = passed(owner, family)
    theirs = tuple(s for s in statements(beside, family) if s.node in nodes)
    mine = statements(owner, family)
    hazards = (
        *_clobbers(owner, theirs),
        *_false_matches(owner, beside, mine, theirs),
        *_source_check(mine, theirs),
        *_decisions(mine, theirs),
        *_unnumbered(mine, theirs),
        *_policy_drops(beside, family),
        *_let_through(owner, mine, theirs),
        *_captures(owner, theirs),
        *_pod_network(owner, beside, family),
    )
    return Prediction(owner.title, beside.title, tuple(hazards))


@cache
def passed(owner: Software, family: Family) -> frozenset[str]:
    """Name the namespaces through which the owner's packets pass."""
    ends = {end for flow in owner.flows for end in (flow.sender, flow.listener) if end}
    return frozenset({"node", *ends, *(s.node for s in statements(owner, family))})


def relied(owner: Software) -> int:
    """Return the bits that the owner counts on, in the packet mark or in the ctmark."""
    if owner.style == "whole-mark" and owner.allocations:
        return WORD
    mask = owner.owned("mark") | owner.owned("ctmark")
    for flow in owner.flows:
        for expectation in flow.expectations:
            mask |= expectation.mark.mask
    return mask


@cache
def set_by(software: Software, family: Family) -> int:
    """Return the bits that its rules and its sockets can set themselves."""
    bits = 0
    for flow in software.flows:
        bits |= flow.socket_mark
    for statement in statements(software, family):
        for write in writes(statement.text):
            bits |= write.sets
    return bits


def _clobbers(owner: Software, theirs: tuple[Statement, ...]) -> Iterator[Hazard]:
    own = relied(owner)
    for statement in theirs:
        for write in writes(statement.text):
            if write.changes & own:
                yield Hazard("clobber", _about(write, own), statement, write.changes & own)


def _about(write: MarkWrite, own: int) -> str:
    field = "packet mark" if write.field == "mark" else "connection's mark"
    if write.changes == WORD:
        return f"writes the whole {field}, without a mask"
    return f"writes bits {bit_ranges(write.changes & own)} of the {field}, which are the owner's"


def _false_matches(
    owner: Software, beside: Software, mine: tuple[Statement, ...], theirs: tuple[Statement, ...]
) -> Iterator[Hazard]:
    family: Family = "ipv4"
    for tested, strangers in (
        (theirs, set_by(owner, family) | set_by(owner, "ipv6")),
        (mine, set_by(beside, family) | set_by(beside, "ipv6")),
    ):
        for statement in tested:
            bits = _taken(statement, strangers)
            if bits:
                yield Hazard(
                    "false match", f"bits {bit_ranges(bits)} look like its own", statement, bits
                )


def _taken(statement: Statement, strangers: int) -> int:
    """Return the bits of a stranger that make a statement's condition true, if they can."""
    for test in tests(statement.text):
        if test.equal and test.mark.value and not test.mark.value & ~strangers:
            return test.mark.value
        if not test.equal and not test.mark.value and test.mark.mask & strangers:
            return test.mark.mask & strangers
    return 0


def _source_check(mine: tuple[Statement, ...], theirs: tuple[Statement, ...]) -> Iterator[Hazard]:
    for checking, routing in ((theirs, mine), (mine, theirs), (theirs, theirs)):
        checks = [s for s in checking if s.tool == "sysctl" and _SOURCE_CHECK.search(s.text)]
        if checks and any(s.tool == "ip" and _MARK_ROUTE.search(s.text) for s in routing):
            reason = "the reverse-path look-up finds another table by the mark"
            yield Hazard("source check", reason, checks[0])


def _decisions(mine: tuple[Statement, ...], theirs: tuple[Statement, ...]) -> Iterator[Hazard]:
    tables = {(s.tool, s.node, s.table) for s in mine}
    for statement in theirs:
        where = (statement.tool, statement.node, statement.table)
        if statement.tool == "ip" and _POLICY.match(statement.text):
            yield Hazard("policy route", "a policy rule that may take any packet", statement)
        elif statement.tool not in ("iptables", "nft"):
            continue
        elif _TRANSLATES.search(statement.text):
            yield Hazard("translation", "translates sources, and ends the table", statement)
        elif _ACCEPTS.search(statement.text) and where in tables:
            yield Hazard("accept", "ends the table before the owner's rules", statement)
        elif _DROPS.search(statement.text):
            yield Hazard("drop", "drops what it does not know", statement)


def _unnumbered(mine: tuple[Statement, ...], theirs: tuple[Statement, ...]) -> Iterator[Hazard]:
    if not any(s.tool == "ip" and _POLICY.match(s.text) for s in theirs):
        return
    for statement in mine:
        policy = statement.tool == "ip" and _POLICY.match(statement.text)
        if policy and statement.node == "node" and not _NUMBERED.search(statement.text):
            reason = (
                "a policy rule without a priority stands where the order of installation puts it"
            )
            yield Hazard("policy route", reason, statement)


def _policy_drops(beside: Software, family: Family) -> Iterator[Hazard]:
    texts = [r.text for r in beside.rulesets if r.tool == "nft" and family in r.families]
    if any(_POLICY_DROP.search(text) for text in texts):
        yield Hazard("drop", f"policy drop of {beside.name}, which knows its own traffic only")


def _captures(owner: Software, theirs: tuple[Statement, ...]) -> Iterator[Hazard]:
    captures = [s for s in theirs if _CAPTURES.search(s.text)]
    for statement in captures:
        hit = _ending_at(owner, statement.node)
        if statement.node == "node" or hit:
            where = "" if statement.node == "node" else f" in {statement.node}"
            yield Hazard("capture", f"redirects to a proxy of its own{where}", statement, flows=hit)
    for node in sorted({s.node for s in captures} - {"node"}):
        if hit := _ending_at(owner, node):
            yield Hazard("capture", f"redirects to a proxy of its own in {node}", flows=hit)


def _let_through(
    owner: Software, mine: tuple[Statement, ...], theirs: tuple[Statement, ...]
) -> Iterator[Hazard]:
    dropped = tuple(flow.name for flow in owner.flows if not flow.answered_by)
    tables = {(s.node, s.table) for s in mine if s.tool == "iptables"}
    accepts = [s for s in theirs if s.tool == "iptables" and _ACCEPTS.search(s.text)]
    if dropped and any((s.node, s.table) in tables for s in accepts):
        yield Hazard("accept", "accepts what the owner would drop", flows=dropped)


def _ending_at(owner: Software, node: str) -> tuple[str, ...]:
    """Name the flows that begin or end in a pod; empty for the node, which all of them pass."""
    if node == "node":
        return ()
    return tuple(f.name for f in owner.flows if node in _ends(f))


def _pod_network(owner: Software, beside: Software, family: Family) -> Iterator[Hazard]:
    taken = takes_pods(beside, family)
    both = _connects_pods(owner, family) and _connects_pods(beside, family)
    if both and (taken or takes_pods(owner, family)):
        yield Hazard("pod network", "both are the pod network of the node")
        return
    hit = tuple(f.name for f in owner.flows if any(map(_is_pod, _ends(f))))
    if taken and hit:
        yield Hazard("pod network", "routes the pods through a device of its own", flows=hit)


def _connects_pods(software: Software, family: Family) -> bool:
    return bool(software.pod_prefix) or takes_pods(software, family)


def _ends(flow: Flow) -> tuple[str, str]:
    return flow.sender, flow.listener


def _is_pod(node: str) -> bool:
    return node.startswith("pod-")


@cache
def takes_pods(software: Software, family: Family) -> bool:
    """Tell whether a software routes the pods anew: it is the pod network of the node."""
    return any(
        ruleset.tool == "ip" and ruleset.node == "node" and _moves_pods(ruleset.text)
        for ruleset in software.rulesets
        if family in ruleset.families
    )


def _moves_pods(text: str) -> bool:
    return bool(
        re.search(r"route (?:add|del|replace) \{\{ *(?:pods\.net|pod-[ab]\.ip) *\}\}", text)
    )
