"""Whether the order of installation can make a difference to the kernel [pure].

Software that touches nothing in common leaves the same rules, routes and settings in whichever
order it is installed. Such orders are one experiment: packets cannot tell them apart. Whatever is
not known to commute does not; ``tests/kernel/test_same_state.py`` compares what the kernel lists.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache

from lab.errors import EntryError
from lab.order.alone import by_itself
from lab.order.footprint import Footprint, commute
from lab.order.read import footprint
from lab.registry.facts import facts
from lab.registry.placeholders import fill
from lab.registry.software import Ruleset, Software
from lab.scenario import Experiment, Variant
from lab.topology import library
from lab.traffic.flow import Family


@lru_cache(maxsize=256)
def representative(experiment: Experiment) -> Experiment:
    """Return the one of all experiments that leave the kernel in the same state that is to be run.

    Its software is in the first order, by title, that those which do not commute allow; where no
    rule of the family depends on the variant of iptables, it is nft. Software that neither
    installs nor sends anything in the family is left out; one that is left over is alone.
    """
    if not experiment.alone:
        experiment = _of_those_that_act(experiment)
        if experiment.alone:
            return by_itself(experiment, experiment.software[0])
    variant = experiment.variant if _depends_on_variant(experiment) else "nft"
    same = replace(
        experiment,
        variant=variant,
        beside=tuple(sorted(experiment.beside, key=lambda s: s.title)),
    )
    return replace(same, software=_first_order(same))


def _of_those_that_act(experiment: Experiment) -> Experiment:
    acting = tuple(s for s in experiment.software if _acts(s, experiment.family))
    if not acting or len(acting) == len(experiment.software):
        return experiment
    beside = tuple(s for s in experiment.beside if s in acting)
    return replace(experiment, software=acting, beside=beside)


def _acts(software: Software, family: Family) -> bool:
    sends = any(family in flow.families for flow in software.flows)
    return sends or bool(_of_family(software, family))


def _depends_on_variant(experiment: Experiment) -> bool:
    return any(
        ruleset.tool == "iptables" and not ruleset.variant
        for software in experiment.software
        for ruleset in _of_family(software, experiment.family)
    )


def _first_order(experiment: Experiment) -> tuple[Software, ...]:
    """Take again and again the first by title that no other before it must precede."""
    marks = _footprints(experiment)
    if marks is None:
        return experiment.software
    left, ordered = list(range(len(marks))), []
    while left:
        free = [n for n in left if _may_come_first(n, left, marks)]
        chosen = min(free, key=lambda n: experiment.software[n].title)
        left.remove(chosen)
        ordered.append(experiment.software[chosen])
    return tuple(ordered)


def _may_come_first(number: int, left: Sequence[int], marks: Sequence[Footprint]) -> bool:
    return all(commute(marks[other], marks[number]) for other in left if other < number)


def _footprints(experiment: Experiment) -> list[Footprint] | None:
    """Return what each software touches; None where that cannot be told."""
    try:
        return [
            _footprint(
                software,
                experiment.topology,
                experiment.pod_prefix,
                experiment.family,
                experiment.variant,
            )
            for software in experiment.software
        ]
    except (EntryError, ValueError):
        return None  # whoever installs it says what is wrong


@lru_cache(maxsize=1024)
def _footprint(
    software: Software, topology: str, pod_prefix: str, family: Family, variant: Variant
) -> Footprint:
    known = facts(software, library.find(topology, pod_prefix), family)
    filled = [
        replace(ruleset, text=fill(ruleset.text, known, ruleset.file, ruleset.line))
        for ruleset in _of_family(software, family)
    ]
    return footprint(filled, family, variant)


def _of_family(software: Software, family: Family) -> list[Ruleset]:
    return [ruleset for ruleset in software.rulesets if family in ruleset.families]
