"""``list`` and ``show``: what the registry holds."""

from __future__ import annotations

import sys

import click

from lab.commands import options


@click.command("list")
@click.argument("name", required=False)
@options.json_option
def list_(name: str | None, as_json: bool) -> int:
    """List the entries: releases, modes and the bits that each says are its own."""
    from lab.errors import unknown
    from lab.registry.find import known
    from lab.registry.loader import load

    entries = load() if name is None else known(name)
    found = [entry for entry in entries if name in (None, entry.name)]
    if not found:
        raise unknown("software", name or "", {entry.name for entry in entries})
    if as_json:
        from lab.report import json_file

        click.echo(json_file.text([_row(entry) for entry in found]))
        return 0
    from lab.report import entries as report
    from lab.report import page

    page.show(report.listing(found, page.width(sys.stdout)), sys.stdout)
    return 0


def _row(entry: object) -> dict[str, object]:
    from lab.codec import encode

    whole = encode(entry)
    return {
        key: value
        for key, value in whole.items()
        if key not in ("rulesets", "flows", "facts", "deviations")
    }


@click.command(epilog=options.ENTRY_HELP)
@click.argument("name", metavar="ENTRY")
@click.option("--rules", is_flag=True, help="Print the rules in full, as written.")
@options.json_option
def show(name: str, rules: bool, as_json: bool) -> int:
    """Show all that an entry says: bits, rules, flows and where it deviates."""
    (entry,) = options.entries([name])
    if as_json:
        from lab.codec import encode
        from lab.report import json_file

        click.echo(json_file.text(encode(entry)))
        return 0
    from lab.report import entries as report
    from lab.report import page

    page.show(report.entry(entry, page.width(sys.stdout), rules), sys.stdout)
    return 0
