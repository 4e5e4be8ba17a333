"""``reported``: conflicts that people met upstream, run here and explained."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING

import click

from lab.commands import options
from lab.errors import UsageError

if TYPE_CHECKING:
    from rich.text import Text

    from lab.record import Run
    from lab.reported.catalogue import Case, Trial
    from lab.runner.pool import Pool


@click.command()
@click.argument("number", required=False, metavar="[THREAD]")
@options.json_option
@options.verbose_option
@click.option(
    "--script",
    "output",
    metavar="FILE",
    type=click.Path(dir_okay=False, allow_dash=True),
    help="Write the conflict as a shell script that needs no lab (- prints it) and stop there.",
)
def reported(number: str | None, as_json: bool, verbose: bool, output: str | None) -> int:
    """List conflicts that were reported upstream, or run one and explain it.

    The conflict must show as its thread describes it, and what the maintainers did or advised
    must cure it.

    \b
    fwmark-lab reported
    fwmark-lab reported tailscale#591
    fwmark-lab reported tailscale#591 --script reproduce.sh

    Exit code: 0 it shows and every cure helps, 1 a cure does not help, 2 it does not show.
    """  # noqa: D301 - click reads the backspace
    from lab.report import json_file, page
    from lab.report import reported as report
    from lab.reported.catalogue import find, load

    cases = load()
    if output is not None and (number is None or as_json):
        raise UsageError("--script writes the conflict of one thread; expected THREAD, no --json")
    if number is None:
        if as_json:
            click.echo(json_file.text([report.row_content(case) for case in cases]))
        else:
            page.show(report.listing(cases, page.width(sys.stdout)), sys.stdout)
        return 0
    case = find(number, cases)
    if case.bug is None:
        raise UsageError(f"{case.number} does not run here: {case.missing}")
    from lab.runner.pool import Pool

    if output is not None:
        return _script(case, case.bug, output)
    with Pool() as pool:
        tried = _tried(case, pool)
    if as_json:
        click.echo(json_file.text(report.content(case, tried)))
    else:
        page.show(_told(case, tried, verbose), sys.stdout)
    return _exit_code(case, tried)


def _script(case: Case, bug: Trial, output: str) -> int:
    """Reduce the first combination that shows the conflict to a script."""
    from lab.commands import shrink
    from lab.runner.pool import Pool
    from lab.verdict.compare import compare

    with Pool(2) as pool:
        scenario = case.scenario(bug)
        verdicts = compare(pool.run(scenario.experiments()))
        shown = next((v for v in verdicts if case.sign and case.sign.fits(v)), None)
        if shown is None:
            click.echo(f"{case.number} does not show here; nothing was written", err=True)
            return 2
        found = shrink.reduced(pool, scenario, shown)
    shrink.write(found, output)
    return 0


def _tried(case: Case, pool: Pool) -> tuple[tuple[Run, ...], ...]:
    return tuple(
        tuple(pool.run(case.scenario(trial).experiments()))
        for trial in (case.bug, *case.cures)
        if trial is not None
    )


def _told(case: Case, tried: tuple[tuple[Run, ...], ...], verbose: bool) -> Iterator[Text]:
    from lab.report import page
    from lab.report import reported as report

    columns = page.width(sys.stdout)
    yield from report.thread(case, columns)
    yield from report.bug(case, tried[0], columns, verbose)
    yield from report.cures(case, tried[1:], columns)


def _exit_code(case: Case, tried: tuple[tuple[Run, ...], ...]) -> int:
    from lab.verdict.compare import compare

    if not case.shows(compare(tried[0])):
        return 2
    return 0 if all(case.cured(compare(runs)) for runs in tried[1:]) else 1
