"""``bits``: which bits a new program may use, and what they would still meet."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import click

from lab.commands import options

if TYPE_CHECKING:
    from lab.bits.candidates import Candidate
    from lab.bits.proof import Proof
    from lab.registry.software import Software
    from lab.runner.pool import Pool


@click.command(epilog=options.ENTRY_HELP)
@click.option("--beside", metavar="ENTRY,...", default="", help="Beside these (default: all).")
@click.option(
    "--width",
    type=click.IntRange(1, 16),
    default=1,
    show_default=True,
    help="So many neighbouring bits.",
)
@click.option("--prove", is_flag=True, help="Try the best candidate in the lab beside each.")
@options.json_option
@options.verbose_option
def bits(beside: str, width: int, prove: bool, as_json: bool, verbose: bool) -> int:
    """Rank the bits that a new program may use beside others.

    Each with what it would still meet: who claims it, who acts on it, whose whole word contains
    it, and who overwrites the whole word.

    \b
    fwmark-lab bits --beside calico,tailscale,kubernetes
    fwmark-lab bits --width 2 --beside cilium,aws-vpc-cni --prove

    Exit code: 0 a free one (with --prove: it survives), 1 none (a conflict), 2 inconclusive.
    """  # noqa: D301 - click reads the backspace
    from lab.bits.candidates import candidates, defaults
    from lab.registry.loader import load

    registry = load()
    names = [name.strip() for name in beside.split(",") if name.strip()]
    partners = options.entries(names) if names else defaults(registry)
    ranked = candidates(partners, registry, width)
    proofs = list(_prove(ranked[0], partners)) if prove else None
    _print(ranked, [entry.name for entry in partners], proofs, as_json, verbose)
    if proofs is not None:
        from lab.bits.proof import code

        return code(proofs)
    return 0 if ranked[0].free else 1


def _prove(candidate: Candidate, partners: Sequence[Software]) -> Iterator[Proof]:
    from lab.runner.pool import Pool

    with Pool() as pool:
        for number, partner in enumerate(partners, 1):
            if sys.stderr.isatty():
                told = f"\r\033[K[{number}/{len(partners)}] {partner}"
                click.echo(told, err=True, nl=False)
            yield beside_one(pool, candidate.mask, partner)
    if sys.stderr.isatty():
        click.echo("\r\033[K", err=True, nl=False)


def beside_one(pool: Pool, mask: int, partner: Software) -> Proof:
    """Run the newcomer with a mask beside one partner, in both orders, and judge both."""
    from lab.bits.newcomer import newcomer
    from lab.bits.proof import Proof
    from lab.scenario import Scenario
    from lab.verdict.compare import compare

    scenario = Scenario((newcomer(mask), partner))
    return Proof(partner.name, tuple(compare(list(pool.run(scenario.experiments())))))


def _print(
    ranked: Sequence[Candidate],
    names: Sequence[str],
    proofs: Sequence[Proof] | None,
    as_json: bool,
    verbose: bool,
) -> None:
    from lab.bits import page as bits_page
    from lab.report import json_file, page

    if as_json:
        click.echo(json_file.text(bits_page.content(ranked, names, proofs)))
        return
    columns = page.width(sys.stdout)
    page.show(bits_page.render(ranked, names, columns, verbose), sys.stdout)
    if proofs is not None:
        page.show(bits_page.proof_lines(ranked[0], proofs, columns), sys.stdout)
