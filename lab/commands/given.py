"""Rules that are given as files of native text: shown, tried alone, then treated as an entry."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import click

from lab.commands import options
from lab.errors import UsageError

if TYPE_CHECKING:
    from lab.capture.parse import Given
    from lab.record import Run
    from lab.registry.software import Software
    from lab.runner.pool import Pool
    from lab.scenario import Scenario
    from lab.traffic.flow import Family, Flow

owns_option = click.option(
    "--owns",
    multiple=True,
    metavar="[NAME=]VALUE/MASK",
    help="Bits that given rules own, instead of those told from what they write and test.",
)
map_option = click.option(
    "--map",
    "maps",
    multiple=True,
    metavar="NAME=ROLE",
    help="What an interface or address in given rules stands for, as eth0=uplink.",
)
HELP = """Rules can be given as they are, too: the path of iptables-save text, of an nft ruleset, of
'ip rule' output or of sysctls; files of one program are joined by +. Their bits are told from what
they write and test, their interfaces from their names; both are shown, and --owns and --map
override them. What they rely on is what a run of them alone shows."""


def native(names: Sequence[str]) -> bool:
    """Tell whether any of the arguments names files of native text."""
    from lab.capture.parse import is_native

    return any(is_native(name) for name in names)


def parties(
    names: Sequence[str], maps: Sequence[str], owns: Sequence[str]
) -> tuple[tuple[Software, ...], tuple[Given, ...]]:
    """Find entries and read files, in the order of the names. Raises LabError."""
    from dataclasses import replace

    from lab.capture import mapping
    from lab.capture.parse import given, is_native

    wanted = mapping.parsed(maps)
    read = {name: given(name, wanted) for name in names if is_native(name)}
    if not read and (maps or owns):
        raise UsageError("--map and --owns are about rules given as files; there are none")
    for name, mask in _owned(owns, read):
        read[name] = given(name, wanted, mask)
    repeated = repeats(maps, owns)
    read = {n: replace(g, software=options.asked(g.software, *repeated)) for n, g in read.items()}
    entries = iter(options.entries([name for name in names if name not in read]))
    software = tuple(read[name].software if name in read else next(entries) for name in names)
    for one in software:
        if [s.title for s in software].count(one.title) > 1:
            raise UsageError(f"two parties are named {one.title!r}; rename one of the files")
    return software, tuple(read.values())


def chosen(
    names: Sequence[str], maps: Sequence[str], owns: Sequence[str], places: Sequence[str]
) -> tuple[Software, ...]:
    """Find entries and read files, say how files are understood, and place what is to be placed."""
    software, read = parties(names, maps, owns)
    for one in read:
        show(one)
    return options.placed(software, places)


def repeats(maps: Sequence[str], owns: Sequence[str]) -> list[tuple[str, str]]:
    """Return the options about given rules, as a command about the same rules repeats them."""
    return [*(("--map", one) for one in maps), *(("--owns", one) for one in owns)]


def _owned(owns: Sequence[str], read: dict[str, Given]) -> list[tuple[str, str]]:
    """Give each mask its file: the one that is named, or the only one."""
    from lab.errors import unknown

    names = {one.software.name: name for name, one in read.items()}
    found = []
    for option in owns:
        name, equals, mask = option.rpartition("=")
        if equals and name not in names and name not in read:
            raise unknown("given rules", name, names)
        if not equals and len(read) > 1:
            raise UsageError(f"--owns {option!r}: whose bits? expected one of NAME={option}")
        found.append((names.get(name, name) if equals else next(iter(read)), mask))
    return found


def show(given: Given) -> None:
    """Say on standard error how given rules are understood."""
    lines = [f"{given.software.source}: {_rules(given.software)}", f"  owns        {given.owned}"]
    if given.mapping.devices:
        pairs = "  ".join(f"{name}={role}" for name, role in given.mapping.devices)
        lines.append(f"  interfaces  {pairs}")
    if given.mapping.addresses:
        pairs = "  ".join(f"{name}={role}" for name, role in given.mapping.addresses)
        lines.append(f"  addresses   {pairs}")
    if given.foreign:
        shown = ", ".join(given.foreign[:8]) + (", …" if len(given.foreign) > 8 else "")
        lines.append(f"  kept as is  {shown}  (nothing here has that name; see --map)")
    lines += [f"  note        {note}" for note in given.notes]
    click.echo("\n".join(lines), err=True)


def _rules(software: Software) -> str:
    from lab.shrink.units import units

    tools = ", ".join(dict.fromkeys(ruleset.tool for ruleset in software.rulesets))
    return f"{len(units((software,)))} rules of {tools}"


def learned(
    pool: Pool, scenario: Scenario, spare: Mapping[str, Sequence[Flow]] | None = None
) -> Scenario:
    """Let given rules rely on what a run of them alone shows. Raises UsageError for nothing.

    ``spare`` are flows by title, for entries whose own flows do not hold on a host's rules.
    """
    from dataclasses import replace

    from lab.capture.parse import RELEASE

    known = tuple(
        _learned(pool, scenario, one)
        if one.release == RELEASE
        else _held(pool, scenario, one, spare[one.title])
        if spare and one.title in spare
        else one
        for one in scenario.software
    )
    if not any(one.flows for one in known):
        raise UsageError("nothing to judge: no flow of the lab passes a rule with marks there")
    return replace(scenario, software=known)


def _alone(pool: Pool, scenario: Scenario, software: Software) -> list[Run]:
    from dataclasses import replace

    everybody = (software if s.title == software.title else s for s in scenario.software)
    whole = replace(
        scenario, software=tuple(everybody), variants=scenario.variants[:1], flows=()
    )  # alone, yet among the interfaces that all of them will have
    alone = (e for e in whole.experiments() if e.order == (software.title,))
    return list(pool.run(alone))


def _held(pool: Pool, scenario: Scenario, software: Software, spare: Sequence[Flow]) -> Software:
    """Keep the flows that hold on a host's rules; instead of the others ask what holds there."""
    from dataclasses import replace

    from lab.capture.learn import held
    from lab.capture.learn import learned as learn

    known, broken = held(software, _alone(pool, scenario, software))
    if not broken:
        return known
    instead = replace(software, flows=tuple(spare))
    shown = learn(instead, _alone(pool, scenario, instead)).flows if spare else ()
    more = tuple(flow for flow in shown if flow.answered_by)  # no route here is no rule's doing
    click.echo(_set_aside(software, broken, more), err=True)
    return replace(known, flows=(*known.flows, *more))


def _set_aside(
    software: Software, broken: Sequence[tuple[Flow, Family, str]], more: Sequence[Flow]
) -> str:
    names = list(dict.fromkeys(flow.name for flow, _, _ in broken))
    flow, family, problem = broken[0]
    lines = [
        f"  {software.name}: not asked for, as these rules alone do not do it: {', '.join(names)}",
        f"      {flow.name}, {family}: {problem}",
    ]
    if more:
        asked = list(dict.fromkeys(flow.name for flow in more))
        told = ", ".join(asked[:10]) + (f" and {len(asked) - 10} more" if len(asked) > 10 else "")
        lines.append(f"      asked for instead: {told}")
    return "\n".join(lines)


def _learned(pool: Pool, scenario: Scenario, software: Software) -> Software:
    from lab.capture.learn import learned as learn

    known = learn(software, _alone(pool, scenario, software))
    if not known.flows:
        click.echo(
            f"  {software.name} relies on nothing that was seen (no flow of the lab passes a rule "
            "with marks there): only what it does to others is judged",
            err=True,
        )
        return known
    names = list(dict.fromkeys(flow.name for flow in known.flows))
    more = f" and {len(names) - 10} more" if len(names) > 10 else ""
    click.echo(f"  {software.name} relies on: {', '.join(names[:10])}{more}", err=True)
    return known
