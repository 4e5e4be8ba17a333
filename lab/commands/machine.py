"""``doctor``, ``clean`` and ``test``: this machine, its leftovers, the project's tests."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import click

from lab.errors import UsageError


@click.command()
def doctor() -> int:
    """Say what this machine can and cannot run, with reason and remedy."""
    from lab import doctor as doctors
    from lab.report.page import wants_colour

    findings = doctors.examine()
    click.echo(doctors.render(findings, wants_colour(sys.stdout)))
    return doctors.exit_code(findings)


@click.command()
@click.option("--kept", is_flag=True, help="End what check --keep left as well.")
def clean(kept: bool) -> int:
    """End what killed runs left behind, and nothing else."""
    from lab.kernel import keep
    from lab.vm import guest

    found = [leftover for leftover in keep.leftovers() if kept or not leftover.kept]
    for leftover in found:
        keep.end(leftover)
        what = "kept namespaces" if leftover.kept else "a worker whose command is gone"
        click.echo(f"ended process {leftover.pid}: {what}")
    guests = guest.sweep()
    if guests:
        click.echo(f"removed {guests} folders of guests whose command is gone")
    if not found and not guests:
        click.echo("nothing to clean")
    return 0


@click.command(add_help_option=False, context_settings={"ignore_unknown_options": True})
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED, metavar="[PYTEST ARGUMENTS]...")
def test(arguments: tuple[str, ...]) -> int:
    """Run the project's own tests on every processor; arguments go to pytest.

    The longer suites (every triple, every release, all orders that are said to make no difference)
    run with -m thorough; -n 0 keeps to one process.
    """
    root = Path(__file__).resolve().parents[2]
    if not (root / "tests").is_dir():
        raise UsageError("no tests here: this is an installed copy; run test in a clone")
    os.chdir(root)
    sys.stdout.flush()
    side_by_side = () if any(a.startswith("-n") for a in arguments) else ("-n", "auto")
    # pytest replaces this process: whatever it starts is not a child of the command line.
    os.execv(sys.executable, [sys.executable, "-m", "pytest", *side_by_side, *arguments])
