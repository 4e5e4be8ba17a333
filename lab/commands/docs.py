"""``docs``: write the pages that are made from the registry and from running it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lab.fidelity.count import Fidelity
    from lab.fidelity.golden import Golden
    from lab.native.rule import Rule
    from lab.record import Run
    from lab.registry.software import Software
    from lab.runner.pool import Pool

_ROOT = Path(__file__).resolve().parents[2]


@click.command(hidden=True)
@click.option(
    "--in",
    "folder",
    type=click.Path(file_okay=False, exists=True, path_type=Path),
    default=_ROOT / "docs",
    help="Write them to this folder.",
)
def docs(folder: Path) -> int:
    """Write docs/registry.md, registry.json, fidelity.md and fidelity.json."""
    from dataclasses import asdict

    from lab.fidelity.page import page
    from lab.registry.loader import load
    from lab.report import registry_page

    entries = load()
    measured = measure(entries)
    _write(folder / "registry.md", registry_page.page(entries))
    _write(folder / "registry.json", _json(registry_page.values(entries)))
    _write(folder / "fidelity.md", page(measured))
    _write(folder / "fidelity.json", _json([asdict(row) for row in measured]))
    return 0


def measure(entries: tuple[Software, ...]) -> tuple[Fidelity, ...]:
    """Run every entry, the golden rules and the real programs, and count."""
    from lab.fidelity.golden import entry_of, read
    from lab.runner.pool import Pool

    goldens = read(_ROOT / "tests" / "golden")
    by_entry = {(entry_of(golden, entries).title, golden) for golden in goldens}
    with Pool() as pool:
        return tuple(
            _one(entry, [g for title, g in by_entry if title == entry.title], pool)
            for entry in entries
        )


def _one(entry: Software, goldens: list[Golden], pool: Pool) -> Fidelity:
    from lab.fidelity.count import fidelity
    from lab.scenario import Scenario
    from lab.verdict.claims import seen

    runs = list(pool.run(Scenario((entry,)).experiments()))
    golden = [rule for one in goldens for rule in _confirmed(one, entry, runs, pool)]
    program, by_program = _by_program(entry, runs, pool)
    return fidelity(entry, len(seen(entry, runs)), golden, program, by_program)


def _confirmed(golden: Golden, entry: Software, runs: list[Run], pool: Pool) -> Iterator[Rule]:
    from lab.fidelity.golden import compare
    from lab.scenario import Scenario

    ours = next(run.rules for run in runs if run.experiment.family == golden.family)
    alone = Scenario((golden.as_software(entry),), families=(golden.family,), variants=("nft",))
    (theirs,) = pool.run(alone.experiments())
    for position in compare(golden, theirs.rules, ours).confirmed:
        yield ours[position]


def _by_program(entry: Software, runs: list[Run], pool: Pool) -> tuple[str, list[Rule]]:
    from lab.errors import UnsupportedError
    from lab.fidelity.match import match
    from lab.fidelity.programs import Job, Listing, program_of, rules
    from lab.runner.protocol import Task

    confirms = program_of(entry)
    if confirms is None:
        return "", []
    found: list[Rule] = []
    for run in runs:
        experiment = run.experiment
        job = Job(confirms.program, experiment.family, experiment.variant, experiment.pod_prefix)
        try:
            listing = pool.call(Task("lab.fidelity.real:install", job))
        except UnsupportedError as reason:
            click.echo(f"{entry.title}: not compared with {confirms.program}: {reason}", err=True)
            return "", []
        if isinstance(listing, Listing):
            result = match(rules(listing, job), run.rules, confirms.exact)
            found += [run.rules[position] for position in result.positions]
    return confirms.program.partition(" ")[0], found


def _json(value: object) -> str:
    return json.dumps(value, indent=1, ensure_ascii=False) + "\n"


def _write(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")
    click.echo(f"wrote {path}")
