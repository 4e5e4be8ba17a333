"""``matrix``: every pair beside each other, and who comes to harm."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from lab.commands import options
from lab.commands.check import _with_progress
from lab.errors import UsageError

if TYPE_CHECKING:
    from lab.registry.software import Software
    from lab.report.coexistence import Matrix
    from lab.verdict.expected import Explanation

_EXPECTED = Path(__file__).resolve().parents[2] / "scenarios" / "expected"


@click.command(epilog=options.ENTRY_HELP)
@click.argument("names", nargs=-1, metavar="[ENTRY]...")
@click.option("--all", "everything", is_flag=True, help="All software, not the registry's rows.")
@options.family_option("both", "ipv4", "ipv6", "both")
@options.variant_option("both", "nft", "legacy", "both")
@click.option(
    "--page", "as_page", is_flag=True, help="Print the page docs/coexistence.md, with evidence."
)
@options.json_option
@click.option(
    "--jobs",
    type=click.IntRange(min=1),
    metavar="N",
    help="Experiments at a time (default: processors, at most 4).",
)
def matrix(
    names: tuple[str, ...],
    everything: bool,
    family: str,
    variant: str,
    as_page: bool,
    as_json: bool,
    jobs: int | None,
) -> int:
    """Run every pair of programs and print who comes to harm beside whom.

    Without ENTRY: the newest release of each software that the public registry lists.

    \b
    fwmark-lab matrix tailscale calico cilium --family ipv4
    fwmark-lab matrix --all --page > docs/coexistence.md

    Exit code: 0 all survive, 1 a conflict, 2 inconclusive, 3 internal error, 4 usage.
    """  # noqa: D301 - click reads the backspace
    software = _software(names, everything)
    found = _run(software, family, variant, jobs)
    _print(found, as_page, as_json)
    for problem in found.unexpected:
        click.echo(f"neither predicted nor explained: {problem}", err=True)
    return _code(found)


def _software(names: tuple[str, ...], everything: bool) -> tuple[Software, ...]:
    from lab.pairs import current
    from lab.registry.loader import load

    if len(names) == 1:
        raise UsageError(f"{names[0]!r} has nobody beside it; name two entries or more")
    if names:
        return options.entries(names)
    return tuple(s for s in current(load()) if everything or s.registered)


def _run(software: tuple[Software, ...], family: str, variant: str, jobs: int | None) -> Matrix:
    from dataclasses import replace

    from lab.pairs import experiments, judge_all, pairs
    from lab.report.coexistence import matrix as put_together
    from lab.runner.pool import Pool

    known = _explanations()
    planned = list(
        experiments(pairs(software), options.families(family), options.variants(variant))
    )
    kernel = ""
    with Pool(jobs or 0) as pool:
        runs = _with_progress(planned, pool.run(planned))
        found = put_together(software, judge_all(runs, known), known)
        kernel = _kernel()
    return replace(found, kernel=kernel)


def _kernel() -> str:
    """Return the release without what a distribution appends."""
    import os

    return os.uname().release.partition("-")[0]


def _explanations() -> tuple[Explanation, ...]:
    """Return the explanations of a clone; an installed copy has none."""
    from lab.registry.loader import load
    from lab.verdict.expected import load as read

    return read(_EXPECTED, load()) if _EXPECTED.is_dir() else ()


def _print(found: Matrix, as_page: bool, as_json: bool) -> None:
    from lab.report import coexistence

    if as_json:
        from lab.report import json_file

        click.echo(json_file.text(coexistence.content(found)))
    elif as_page:
        click.echo(coexistence.page(found), nl=False)
    else:
        click.echo(_grid(found))


def _grid(found: Matrix) -> str:
    """Draw the matrix for a terminal: one line per owner and outcome that is not survival."""
    from lab.report.coexistence import short
    from lab.verdict.outcome import Outcome

    lines = []
    for owner in found.software:
        cells = [c for c in found.cells.values() if c.owner is owner]
        whole = [c.beside.name for c in cells if c.worst is Outcome.SURVIVES]
        lines.append(f"{owner.name} {owner.release}")
        for outcome in Outcome:
            beside = [c.beside.name for c in cells if c.worst is outcome]
            if beside and outcome is not Outcome.SURVIVES:
                lines.append(f"  {short(outcome):<12} beside {', '.join(beside)}")
        if whole:
            lines.append(f"  {'ok':<12} beside {', '.join(whole)}")
    return "\n".join(lines)


def _code(found: Matrix) -> int:
    from lab.verdict.outcome import Outcome

    outcomes = {cell.worst for cell in found.cells.values()}
    if any(outcome.is_conflict for outcome in outcomes):
        return 1
    return 0 if outcomes == {Outcome.SURVIVES} else 2
