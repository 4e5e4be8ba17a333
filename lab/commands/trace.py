"""``trace``: one experiment, and every packet of one flow."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from lab.commands import given, host, options
from lab.errors import UsageError

if TYPE_CHECKING:
    from lab.record import FlowRun, Run, Timeline
    from lab.registry.software import Software
    from lab.scenario import Orders, Scenario


@click.command(epilog=f"{options.ENTRY_HELP}\n\n{given.HELP}")
@click.argument("names", nargs=-1, required=True, metavar="ENTRY...")
@click.option("--flow", metavar="NAME", help="The flow, by name or software/name.")
@click.option(
    "--order",
    type=click.Choice(["given", "reverse"]),
    default="given",
    show_default=True,
    help="Order of installation.",
)
@options.family_option("ipv4", "ipv4", "ipv6")
@options.variant_option("nft", "nft", "legacy")
@options.place_option
@given.map_option
@given.owns_option
@click.option(
    "--packet",
    default="1",
    metavar="N|all",
    help="Which packet of each direction, counted from 1 (default: 1).",
)
@options.json_option
@options.verbose_option
def trace(
    names: tuple[str, ...],
    flow: str | None,
    order: Orders,
    family: str,
    variant: str,
    packet: str,
    places: tuple[str, ...],
    maps: tuple[str, ...],
    owns: tuple[str, ...],
    as_json: bool,
    verbose: bool,
) -> int:
    """Show a packet's whole way: marks, rules, routes, and where it ended.

    All entries are installed together, in the order given. Rules that neither touch nor test a mark
    are left out, and readings that say the same share a line; -v shows everything.

    \b
    fwmark-lab trace tailscale calico@3.20 --flow tailnet-to-lan
    fwmark-lab trace calico@3.20 --flow pod-to-lan --packet all --family ipv6
    fwmark-lab trace host.tar.gz --flow tailscale/tailnet-to-lan
    """  # noqa: D301 - click reads the backspace
    question = host.question(names, maps, owns, places)
    software = question.every if question else given.chosen(names, maps, owns, places)
    _check_flow(software, flow)
    scenario = (
        host.scenario(question, order, family, "both", (flow or "",))
        if question
        else _scenario(software, flow, order, family, variant)
    )
    ordinal = _ordinal(packet)
    from lab.runner.pool import Pool

    with Pool(1) as pool:
        scenario = given.learned(pool, scenario, question.spare if question else None)
        run = next(iter(pool.run([list(scenario.experiments())[-1]])))
    if run.refused:
        raise UsageError(f"cannot be installed together: {run.refused}")
    if not run.flows:
        raise UsageError(f"flow {flow!r} does not exist over {family}; try the other --family")
    found = [_narrowed(one, ordinal, packet) for one in run.flows]
    _print(run, found, as_json, verbose)
    return 0


def _narrowed(flow: FlowRun, ordinal: int | None, packet: str) -> tuple[FlowRun, list[Timeline]]:
    lines = [line for line in flow.timelines if ordinal in (None, line.ordinal)]
    if not lines:
        raise UsageError(f"no packet {packet!r} of {flow.name}; it has {_counts(flow)}")
    return flow, lines


def _check_flow(software: tuple[Software, ...], flow: str | None) -> None:
    if flow is None:
        known = ", ".join(sorted(options.flow_names(software)))
        raise UsageError(f"which flow? add --flow NAME; known: {known}")
    options.check_flows([flow], software)


def _scenario(
    software: tuple[Software, ...], flow: str | None, order: Orders, family: str, variant: str
) -> Scenario:
    from lab.scenario import Scenario

    return Scenario(
        software,
        families=options.families(family),
        variants=options.variants(variant),
        orders=order,
        flows=(flow or "",),
    )


def _ordinal(packet: str) -> int | None:
    if packet == "all":
        return None
    if not packet.isdigit() or packet == "0":
        raise UsageError(f"--packet {packet!r}: expected a number from 1, or all")
    return int(packet) - 1


def _counts(flow: FlowRun) -> str:
    requests = sum(line.direction == "request" for line in flow.timelines)
    return f"{requests} requests and {len(flow.timelines) - requests} replies"


def _print(
    run: Run, flows: list[tuple[FlowRun, list[Timeline]]], as_json: bool, verbose: bool
) -> None:
    if as_json:
        click.echo(_json(run, flows))
        return
    from lab.report import page, timeline

    view = timeline.View(run, page.width(sys.stdout), verbose)
    for number, (flow, lines) in enumerate(flows):
        if number:
            click.echo()
        page.show(timeline.render(view, flow, lines), sys.stdout)


def _json(run: Run, flows: list[tuple[FlowRun, list[Timeline]]]) -> str:
    from dataclasses import replace

    from lab.codec import encode
    from lab.report import json_file

    shown = [encode(replace(flow, timelines=tuple(lines))) for flow, lines in flows]
    return json_file.text(
        {
            "experiment": str(run.experiment),
            "flows": shown,
            "rules": [encode(rule) for rule in run.rules],
            "policy": [encode(rule) for rule in run.policy],
        }
    )
