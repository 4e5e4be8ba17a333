"""What a real program installed, beside what its entry installs [pure]."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from lab.fidelity.match import Match, match
from lab.native import nft_text
from lab.native.iptables_text import saved
from lab.native.rule import Rule
from lab.record import Fate, Reading, Run, Write
from lab.registry.software import Ruleset, Software, Tool
from lab.scenario import Variant
from lab.traffic.flow import Direction, Family


@dataclass(frozen=True, slots=True)
class Job:
    """Which program to run, and what it finds: the addresses of the topology's first pod."""

    program: str
    family: Family
    variant: Variant = "nft"
    pod_prefix: str = "veth"


@dataclass(frozen=True, slots=True)
class Listing:
    """What stood in the namespace after the program ran, as the tools list it."""

    iptables: str
    nft: str
    policy: str
    route_localnet: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Confirms:
    """A program, the entry that describes it, and whether both use the very same names."""

    program: str
    entry: str
    exact: bool = False


CONFIRMS = (
    Confirms("portmap", "portmap:iptables", exact=True),
    Confirms("netavark", "netavark:iptables", exact=True),
    Confirms("wg-quick", "wg-quick:nft", exact=True),
    Confirms("wg-quick without nft", "wg-quick:iptables", exact=True),
)


def program_of(entry: Software) -> Confirms | None:
    """Return the program whose rules this entry describes, by name and mode."""
    named = f"{entry.name}:{entry.mode}"
    return next((c for c in CONFIRMS if c.entry == named), None)


def rules(listing: Listing, job: Job) -> tuple[Rule, ...]:
    """Read the listing as rules; nft's is read only where iptables has none."""
    found = tuple(_iptables(listing, job))
    return found or tuple(_nft(listing, job))


def _iptables(listing: Listing, job: Job) -> Iterator[Rule]:
    for (table, chain), texts in saved(listing.iptables).items():
        for text in texts:
            yield Rule(job.program, "iptables", table, chain, text, text)


def _nft(listing: Listing, job: Job) -> Iterator[Rule]:
    for rule in nft_text.rules(listing.nft):
        table = f"{rule.family} {rule.table}"
        yield Rule(job.program, "nft", table, rule.chain, rule.text, rule.text)


def both_ways(real: Sequence[Rule], ours: Sequence[Rule], exact: bool) -> tuple[Match, Match]:
    """Match theirs in ours, and of ours those of the same tool in theirs."""
    tools = {rule.tool for rule in real}
    comparable = [rule for rule in ours if rule.tool in tools]
    return match(real, ours, exact), match(comparable, real, exact)


def with_real_rules(entry: Software, listing: Listing) -> Software:
    """Return the entry with the program's own rules, as they were listed, instead of its own."""
    tool: Tool = "iptables" if "-A " in listing.iptables else "nft"
    text = listing.iptables if tool == "iptables" else listing.nft
    kept = "\n".join(line for line in text.splitlines() if not line.startswith("#"))
    real = Ruleset(tool, kept + "\n", source="the real program", file=f"{tool} listing")
    return replace(entry, rulesets=(*(r for r in entry.rulesets if r.tool != tool), real))


Told = frozenset[tuple[bool, tuple[Reading | Write, ...]]]


def packets(run: Run) -> dict[tuple[str, Direction], Told]:
    """Tell what happened to the packets of each flow: marks and addresses everywhere, and writes.

    The first packet of a direction stands apart from the later ones, whose number is not told: how
    many segments TCP makes of a conversation depends on timing.
    """
    found: dict[tuple[str, Direction], set[tuple[bool, tuple[Reading | Write, ...]]]] = {}
    for flow in run.flows:
        for line in flow.timelines:
            told = (line.ordinal == 0, tuple(map(_told, _events(line.events))))
            found.setdefault((flow.name, line.direction), set()).add(told)
    return {key: frozenset(told) for key, told in found.items()}


def fates(run: Run) -> dict[str, Fate]:
    """Tell how each flow ended, without the text of the rule that ended it."""
    return {
        flow.name: replace(flow.fate, end=flow.fate.end.partition(":")[0]) for flow in run.flows
    }


def _events(events: Sequence[object]) -> Iterator[Reading | Write]:
    return (event for event in events if isinstance(event, Reading | Write))


def _told(event: Reading | Write) -> Reading | Write:
    return replace(event, rule=None) if isinstance(event, Write) else event
