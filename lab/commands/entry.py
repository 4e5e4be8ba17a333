"""``new`` and ``validate``: write a registry entry, and find out whether it is right."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from lab.record import Run
    from lab.registry.software import Software
    from lab.runner.pool import Pool


@click.command()
@click.argument("name")
@click.option(
    "--in",
    "folder",
    type=click.Path(file_okay=False, exists=True, path_type=Path),
    default=Path(),
    help="Write it to this folder, not to the current one.",
)
def new(name: str, folder: Path) -> int:
    """Write NAME.toml, a commented entry to start from. Never overwrites."""
    from lab.registry.template import write_new

    path = write_new(name, folder)
    click.echo(f"wrote {path}; next: fwmark-lab validate {path}")
    return 0


@click.command()
@click.argument(
    "files", nargs=-1, required=True, metavar="FILE...", type=click.Path(path_type=Path)
)
def validate(files: tuple[Path, ...]) -> int:
    """Check entries: format, masks, placeholders, rules on a real kernel, flows and marks.

    Exit code: 0 all hold, 1 a flow or mark is not as the entry says, 4 an entry cannot be used.
    """
    from lab.runner.pool import Pool

    readable = [entry for entry in map(_readable, files) if entry is not None]
    codes = [4] * (len(files) - len(readable))
    if readable:
        with Pool() as pool:
            codes += [_run(entry, pool) for entry in readable]
    return max(codes)


def _readable(path: Path) -> Software | None:
    """Read an entry, or tell what is wrong with the file itself."""
    from lab.errors import EntryError
    from lab.fidelity.validation import problems
    from lab.registry.loader import read

    try:
        entry = read(path)
        found = problems(entry)
    except EntryError as problem:
        _tell((str(problem),))
        return None
    _tell(found)
    return None if found else entry


def _run(entry: Software, pool: Pool) -> int:
    from lab.errors import EntryError, RuleRefused
    from lab.fidelity.validation import unborne
    from lab.scenario import Scenario

    experiments = list(Scenario((entry,)).experiments())
    try:
        runs = list(pool.run(experiments))
    except (EntryError, RuleRefused) as problem:
        _tell((str(problem),))
        return 4
    found = unborne(entry, runs)
    _tell(found or (_holds(entry, runs),), err=bool(found))
    return 1 if found else 0


def _holds(entry: Software, runs: Sequence[Run]) -> str:
    from lab.verdict.claims import claims, seen

    return (
        f"{entry.file}: {entry.title} holds; flows: {len(entry.flows)}, "
        f"named marks seen: {len(seen(entry, runs))} of {len(claims(entry))}, "
        f"combinations of address family and iptables variant: {len(runs)}"
    )


def _tell(lines: Sequence[str], err: bool = True) -> None:
    for line in lines:
        click.echo(line, err=err)
