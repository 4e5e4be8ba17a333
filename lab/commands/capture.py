"""``capture``: what a real host has, in one file."""

from __future__ import annotations

import sys
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

import click

from lab.commands import options
from lab.errors import UsageError

if TYPE_CHECKING:
    from lab.capture.archive import Host, Manifest


@click.command()
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Write there instead of fwmark-lab-HOST-DATE.tar.gz; - is standard output.",
)
@click.option("--netns", metavar="NAME", help="Read a namespace of 'ip netns', or of a path.")
@click.option("--pseudonyms", is_flag=True, help="Replace addresses, host name and comments.")
@click.option(
    "--list",
    "listed",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Show what is in an archive instead; needs no root.",
)
@options.json_option
def capture(
    output: Path | None, netns: str | None, pseudonyms: bool, listed: Path | None, as_json: bool
) -> int:
    """Put the rules of this host that concern marks into one file, to be checked elsewhere.

    Read are rules of iptables (nft and legacy) and nftables, policy rules, routes, links,
    addresses, tc filters, xfrm, names of sets, and the sysctls that give marks meaning. Nothing is
    changed, and no key is read. It needs root.

    \b
    sudo fwmark-lab capture
    sudo fwmark-lab capture --pseudonyms -o node.tar.gz
    sudo fwmark-lab capture -o - | ssh desk 'cat > node.tar.gz'
    fwmark-lab capture --list node.tar.gz

    Exit code: 0 written (what could not be read is told), 4 not allowed, or nowhere to write.
    """  # noqa: D301 - click reads the backspace
    if listed:
        if output or netns or pseudonyms:
            raise UsageError("--list only shows an archive; give it alone or with --json")
        return _list(listed, as_json)
    if as_json:
        raise UsageError("--json is for --list; an archive has its own format")
    if output == Path("-") and sys.stdout.isatty():
        raise UsageError("an archive is not for a terminal; give -o FILE, or a pipe")
    return _capture(output, netns, pseudonyms)


def _capture(output: Path | None, netns: str | None, pseudonyms: bool) -> int:
    from lab.capture import archive, host
    from lab.capture import pseudonyms as other

    with host.inside(netns) if netns else nullcontext():
        manifest, files = host.capture()
    if pseudonyms:
        manifest, files = other.replaced(manifest, files)
    content = archive.packed(manifest, files)
    if output == Path("-"):
        sys.stdout.buffer.write(content)
    else:
        output = output or Path(_name(manifest))
        archive.write(content, output)
        rules = sum(text.count("\n") for text in files.values())
        click.echo(
            f"{output}: {len(files)} files, {rules} lines, {len(content) >> 10} KiB", err=True
        )
    for gap in manifest.gaps:
        click.echo(f"  not in it  {gap}", err=True)
    return 0


def _name(manifest: Manifest) -> str:
    host = "".join(c if c.isalnum() or c in "-._" else "_" for c in manifest.host) or "host"
    stamp = manifest.date.replace("-", "").replace(":", "").removesuffix("Z")
    return f"fwmark-lab-{host}-{stamp}.tar.gz"


def _list(path: Path, as_json: bool) -> int:
    from lab.capture import archive
    from lab.codec import encode
    from lab.report import json_file

    host = archive.read(path)
    if as_json:
        lines = {name: text.count("\n") for name, text in host.files.items()}
        click.echo(json_file.text({"manifest": encode(host.manifest), "lines": lines}))
    else:
        click.echo("\n".join(_described(host)))
    return 0


def _described(host: Host) -> list[str]:
    manifest = host.manifest
    name = "pseudonymised" if manifest.pseudonymised else manifest.host
    lines = [f"{host.source}: host {name}, kernel {manifest.kernel}, {manifest.date}"]
    lines += [f"  {tool.name:<16} {tool.version}" for tool in manifest.tools]
    lines.append("")
    lines += [f"  {text.count(chr(10)):>7} lines  {name}" for name, text in host.files.items()]
    lines += [f"  not in it      {gap}" for gap in manifest.gaps]
    return lines
