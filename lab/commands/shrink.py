"""``shrink``: a conflict as the smallest script that shows it anywhere."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from lab.commands import given, host, options
from lab.errors import UsageError

if TYPE_CHECKING:
    from lab.registry.software import Software
    from lab.runner.pool import Pool
    from lab.scenario import Orders, Scenario
    from lab.shrink.search import Shrunk
    from lab.verdict.outcome import Verdict


@click.command(epilog=f"{options.ENTRY_HELP}\n\n{given.HELP}")
@click.argument("names", nargs=-1, required=True, metavar="ENTRY...")
@click.option("--flow", metavar="NAME", help="The flow, by name or software/name.")
@click.option(
    "--order",
    type=click.Choice(["all", "given", "reverse"]),
    default="all",
    show_default=True,
    help="Order of installation.",
)
@options.family_option("ipv4", "ipv4", "ipv6")
@options.variant_option("nft", "nft", "legacy")
@options.place_option
@given.map_option
@given.owns_option
@click.option("-o", "--output", type=click.Path(dir_okay=False), help="Write the script there.")
def shrink(
    names: tuple[str, ...],
    flow: str | None,
    order: Orders,
    family: str,
    variant: str,
    places: tuple[str, ...],
    maps: tuple[str, ...],
    owns: tuple[str, ...],
    output: str | None,
) -> int:
    """Reduce a conflict to the fewest rules, as a shell script to attach to an issue.

    The worst conflict is taken, or the one of --flow. The script needs no lab: only a shell,
    iproute2, python3 and iptables or nft. It works in namespaces of its own, prints what it sees,
    and exits 1 when the conflict shows.

    \b
    fwmark-lab shrink tailscale calico@3.20 --flow tailnet-to-lan -o reproduce.sh
    sh reproduce.sh
    fwmark-lab shrink host.tar.gz -o reproduce.sh
    """  # noqa: D301 - click reads the backspace
    from lab.runner.pool import Pool

    question = host.question(names, maps, owns, places)
    software = question.every if question else given.chosen(names, maps, owns, places)
    wanted = _scenario(question, software, flow, order, family, variant)
    with Pool(2) as pool:
        scenario = given.learned(pool, wanted, question.spare if question else None)
        found = reduced(pool, scenario, _worst(pool, scenario))
    write(found, output or "-")
    return 0


def write(found: Shrunk, output: str) -> None:
    """Write the script of a shrunk conflict to a file, or print it for ``-``; tell what it is."""
    from lab.shrink.script import script

    text = script(found, "fwmark-lab")
    told = f"{found.rules_before} rules reduced to {found.rules_after} in {found.tried} experiments"
    click.echo(f"{found.verdict}\n{told}", err=True)
    if output == "-":
        click.echo(text, nl=False)
        return
    try:
        Path(output).write_text(text)
    except OSError as problem:
        raise UsageError(f"cannot write {output!r}: {problem.strerror}") from None
    click.echo(f"written: sh {output}", err=True)


def _scenario(
    question: host.Question | None,
    software: tuple[Software, ...],
    flow: str | None,
    order: Orders,
    family: str,
    variant: str,
) -> Scenario:
    from lab.scenario import Scenario

    flows = (flow,) if flow else ()
    if len(software) < 2:
        raise UsageError("a conflict takes at least two entries; expected ENTRY ENTRY…")
    options.check_flows(flows, software)
    if question:
        return host.scenario(question, order, family, "both", flows)
    return Scenario(
        software,
        families=options.families(family),
        variants=options.variants(variant),
        orders=order,
        flows=flows,
    )


def _worst(pool: Pool, scenario: Scenario) -> Verdict:
    from lab.verdict.compare import compare
    from lab.verdict.outcome import Outcome

    verdicts = [v for v in compare(pool.run(scenario.experiments())) if v.outcome.is_conflict]
    if not verdicts:
        raise UsageError("there is no conflict to shrink; 'fwmark-lab check' shows every verdict")
    ranking = list(Outcome)
    return min(verdicts, key=lambda v: (v.fate_alone == v.fate_together, ranking.index(v.outcome)))


def reduced(pool: Pool, scenario: Scenario, verdict: Verdict) -> Shrunk:
    """Leave out rules and packets while the verdict stays; a terminal sees how far it is."""
    from lab.shrink.search import shrink as search

    def tell(what: str) -> None:
        if sys.stderr.isatty():
            click.echo(f"\r\033[Ktrying with {what}", err=True, nl=False)

    found = search(scenario, verdict, pool.run, tell)
    if sys.stderr.isatty():
        click.echo("\r\033[K", err=True, nl=False)
    return found
