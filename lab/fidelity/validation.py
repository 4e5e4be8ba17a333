"""What is wrong with an entry, each with file, line and key [pure].

``problems`` tells what the file alone shows; ``unborne`` what runs of the entry alone show.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from lab.errors import EntryError
from lab.marks import WORD
from lab.record import Run
from lab.registry.lines import key_lines, line_of
from lab.registry.placeholders import fill
from lab.registry.software import Software
from lab.topology import library
from lab.traffic.flow import FAMILIES, Family, Flow
from lab.verdict.alone import unmet_flow
from lab.verdict.claims import not_seen, strays


def problems(entry: Software) -> tuple[str, ...]:
    """List what can be told without running anything: placeholders, nodes, masks, flows."""
    place = _Places(entry)
    found = [
        *_masks(entry, place),
        *_nodes(entry, place),
        *_placeholders(entry, place),
        *_completeness(entry, place),
    ]
    return tuple(dict.fromkeys(found))


def unborne(entry: Software, runs: Sequence[Run]) -> tuple[str, ...]:
    """List what runs of the entry alone do not bear out: flows, named marks, bits left alone."""
    place = _Places(entry)
    found = [problem for run in runs for problem in _unmet(entry, run, place)]
    for claim in not_seen(entry, runs):
        number = _allocation(entry, claim.field, claim.name)
        key = f"values.{claim.name}" if claim.name else "mask"
        found.append(
            place(
                f"allocation[{number}].{key}",
                f"no packet of any flow carries {claim}; "
                "expected a flow that shows it, or a reason in 'unseen'",
            )
        )
    found += [place("style", f"bitwise, but {stray}") for stray in strays(entry, runs)]
    return tuple(dict.fromkeys(found))


class _Places:
    """Say a problem with the file, line and key that it is about."""

    def __init__(self, entry: Software) -> None:
        self._file = entry.file
        self._lines: Mapping[str, int] = key_lines(Path(entry.file).read_text(encoding="utf-8"))

    def __call__(self, key: str, problem: str) -> str:
        return f"{self._file}:{line_of(key, self._lines)}: key {key!r}: {problem}"


def _masks(entry: Software, place: _Places) -> Iterator[str]:
    for number, allocation in enumerate(entry.allocations):
        if not allocation.mask:
            yield place(f"allocation[{number}].mask", "no bit is set; expected the bits it owns")
    for number, flow in enumerate(entry.flows):
        for which, relied in enumerate(flow.expectations):
            if relied.mark.value & ~relied.mark.mask & WORD:
                key = f"flow[{number}].relies[{which}].{relied.field}"
                yield place(
                    key, f"{relied.mark} never matches: its value has bits outside its mask"
                )


def _nodes(entry: Software, place: _Places) -> Iterator[str]:
    known = library.find("kubernetes-node").node_names()
    named = [(f"ruleset[{n}].on", r.node) for n, r in enumerate(entry.rulesets)]
    for number, flow in enumerate(entry.flows):
        key = f"flow[{number}]"
        named += [(f"{key}.from", flow.sender), (f"{key}.answered-by", flow.answered_by)]
        named += [(f"{key}.listens", flow.listens)]
        named += [(f"{key}.relies[{n}].at", e.point.node) for n, e in enumerate(flow.expectations)]
    for key, node in named:
        if node and node not in known:
            yield place(key, f"unknown node {node!r}; known: {', '.join(sorted(known))}")


def _placeholders(entry: Software, place: _Places) -> Iterator[str]:
    for family in FAMILIES:
        topology = library.find("kubernetes-node", entry.pod_prefix or "veth")
        base = topology.facts_for(family)
        own = {name: v4 if family == "ipv4" else v6 for name, v4, v6 in entry.facts}
        for name, text in own.items():
            yield from _filled(text, base, place, f"facts.{name}")
        known = base | own
        for ruleset in entry.rulesets:
            if family in ruleset.families:
                yield from _rules_filled(ruleset.text, known, ruleset.file, ruleset.line)
        for number, flow in enumerate(entry.flows):
            yield from _flow_filled(flow, number, family, known, place)


def _flow_filled(
    flow: Flow, number: int, family: Family, known: Mapping[str, str], place: _Places
) -> Iterator[str]:
    if family not in flow.families:
        return
    for key, text in (
        ("to", flow.to),
        ("seen-from", flow.seen_from),
        ("source-address", flow.source_address),
    ):
        yield from _filled(text, known, place, f"flow[{number}].{key}")


def _filled(text: str, known: Mapping[str, str], place: _Places, key: str) -> Iterator[str]:
    try:
        fill(text, known, "")
    except EntryError as problem:
        yield place(key, str(problem).split(": ", 1)[1])


def _rules_filled(text: str, known: Mapping[str, str], file: str, line: int) -> Iterator[str]:
    try:
        fill(text, known, file, line)
    except EntryError as problem:
        yield str(problem)


def _completeness(entry: Software, place: _Places) -> Iterator[str]:
    if not entry.flows:
        yield place("flow", "no flow; expected at least one, or nothing can be judged")
    for number, flow in enumerate(entry.flows):
        if not flow.expectations:
            yield place(
                f"flow[{number}]", "relies on no mark; expected at least one [[flow.relies]]"
            )


def _unmet(entry: Software, run: Run, place: _Places) -> Iterator[str]:
    where = f"{run.experiment.family}, iptables-{run.experiment.variant}"
    for number, flow in enumerate(entry.flows):
        seen = run.flow(entry.title, flow.name)
        if seen is not None:
            for problem in unmet_flow(flow, seen):
                yield place(f"flow[{number}]", f"{flow.name!r} with {where}: {problem}")


def _allocation(entry: Software, field: str, value: str) -> int:
    return next(
        number
        for number, allocation in enumerate(entry.allocations)
        if allocation.field == field and (not value or value in {v.name for v in allocation.values})
    )
