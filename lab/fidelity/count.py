"""How faithful an entry is, in numbers [pure]."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from lab.native import nft_text
from lab.native.iptables_text import changes
from lab.native.lines import lines
from lab.native.rule import Rule
from lab.registry.facts import facts
from lab.registry.placeholders import fill
from lab.registry.software import Ruleset, Software
from lab.topology import library
from lab.verdict.claims import claims

_RULES = ("append", "insert", "replace")


@dataclass(frozen=True, slots=True)
class Written:
    """What the file alone says: its rules by line, and where each comes from."""

    rules: tuple[int, ...]
    sourced: int
    flows: int
    claimed: int
    excused: int
    deviations: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Fidelity:
    """One entry's numbers; ``program`` is the real program that was run, empty where none is."""

    title: str
    rules: int
    sourced: int
    golden: int
    program: str
    by_program: int
    flows: int
    seen: int
    claimed: int
    excused: int
    deviations: tuple[str, ...]


def written(software: Software) -> Written:
    """Count what the file says."""
    found = dict(_rules(software))
    claimed = claims(software)
    return Written(
        tuple(sorted(found)),
        sum(":" in source.partition("@")[2] for source in found.values()),
        len(software.flows),
        len(claimed),
        sum(bool(claim.unseen) for claim in claimed),
        software.deviations,
    )


def fidelity(
    software: Software,
    seen: int,
    golden: Iterable[Rule],
    program: str = "",
    by_program: Iterable[Rule] = (),
) -> Fidelity:
    """Put together what the file says and what was confirmed; rules count once, by their line."""
    said = written(software)
    return Fidelity(
        software.title,
        len(said.rules),
        said.sourced,
        len(_lines(golden, said.rules)),
        program,
        len(_lines(by_program, said.rules)),
        said.flows,
        seen,
        said.claimed,
        said.excused,
        said.deviations,
    )


def _lines(rules: Iterable[Rule], known: Sequence[int]) -> set[int]:
    return {rule.line for rule in rules} & set(known)


def _rules(software: Software) -> Iterator[tuple[int, str]]:
    """Yield the line of each rule in the file, and its source."""
    topology = library.find("kubernetes-node", software.pod_prefix or "veth")
    for ruleset in software.rulesets:
        known = facts(software, topology, ruleset.families[0])
        text = fill(ruleset.text, known, ruleset.file, ruleset.line)
        for number, source in _numbered(replace(ruleset, text=text)):
            yield ruleset.line + number, source


def _numbered(ruleset: Ruleset) -> Iterator[tuple[int, str]]:
    if ruleset.tool == "iptables":
        for change in changes(ruleset.text, ruleset.source):
            if change.verb in _RULES:
                yield change.number, change.source
    elif ruleset.tool == "nft":
        for rule in nft_text.rules(ruleset.text, ruleset.source):
            yield rule.number, rule.source
    else:
        for line in lines(ruleset.text, ruleset.source):
            yield line.number, line.source
