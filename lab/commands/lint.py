"""``lint``: what can be told of rules without running anything."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from lab.commands import options
from lab.errors import UsageError

if TYPE_CHECKING:
    from lab.lint.finding import Finding


@click.command()
@click.argument(
    "files", nargs=-1, required=True, metavar="FILE...", type=click.Path(path_type=Path)
)
@click.option("--owner", metavar="NAME", default="", help="Whose rules they are, as in 'list'.")
@options.json_option
@click.option("--sarif", "as_sarif", is_flag=True, help="Print SARIF 2.1.0.")
def lint(files: tuple[Path, ...], owner: str, as_json: bool, as_sarif: bool) -> int:
    """Find rules that harm others' marks, without running anything; needs no root.

    FILE is iptables-save text, an nft ruleset, 'ip rule' output, a list of sysctls or a registry
    entry (.toml), or what 'iptables -S', 'tc filter show' or 'ip xfrm policy' prints; - is standard
    input. All files are taken as one host's.

    \b
    iptables-save | fwmark-lab lint -
    fwmark-lab lint node.rules ruleset.nft policy.txt --sarif > lint.sarif

    Exit code: 0 no findings, 1 findings, 4 a file that cannot be read.
    """  # noqa: D301 - click reads the backspace
    if as_json and as_sarif:
        raise UsageError("--json and --sarif exclude each other; choose one")
    from lab.errors import unknown
    from lab.lint.hurt import Owners
    from lab.lint.run import lint as find
    from lab.registry.loader import load

    entries = load()
    if owner and owner not in {entry.name for entry in entries}:
        raise unknown("software", owner, {entry.name for entry in entries})
    found = find(files, Owners(entries), owner)
    _print(found, files, as_json, as_sarif)
    return 1 if found else 0


def _print(found: Sequence[Finding], files: Sequence[Path], as_json: bool, as_sarif: bool) -> None:
    from lab.lint import sarif, text
    from lab.report import json_file, page

    if as_sarif:
        click.echo(json_file.text(sarif.sarif(found)))
    elif as_json:
        click.echo(json_file.text(sarif.content(found, [str(file) for file in files])))
    else:
        page.show(text.render(found, len(files), page.width(sys.stdout)), sys.stdout)
