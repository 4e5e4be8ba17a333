"""What the placeholders of an entry stand for in a topology and address family [pure]."""

from __future__ import annotations

from lab.registry.placeholders import fill
from lab.registry.software import Software
from lab.topology.plan import Topology
from lab.traffic.flow import Family, Flow


def facts(software: Software, topology: Topology, family: Family) -> dict[str, str]:
    """Return the texts of the topology's facts and of the entry's own.

    Raises EntryError for an entry's fact that refers to an unknown placeholder.
    """
    base = topology.facts_for(family)
    own = {name: v4 if family == "ipv4" else v6 for name, v4, v6 in software.facts}
    return base | {name: fill(text, base, software.file) for name, text in own.items()}


def addresses(
    software: Software, flow: Flow, topology: Topology, family: Family
) -> tuple[str, str, str]:
    """Return a flow's source and destination, and the address it is to be seen from."""
    known = facts(software, topology, family)
    where = f"{software.file}: flow {flow.name!r}"
    source = flow.source_address or f"{{{{ {flow.sender}.ip }}}}"
    return (
        fill(source, known, where),
        fill(flow.to, known, where),
        fill(flow.seen_from, known, where),
    )
