"""``vm``: the same work under another kernel."""

from __future__ import annotations

import sys
from pathlib import Path

import click


@click.group()
def vm() -> None:
    """Run the lab under another kernel, in a virtual machine that sees this machine's files.

    \b
    fwmark-lab vm list
    fwmark-lab vm run --kernel debian-12 -- fwmark-lab check tailscale calico
    fwmark-lab vm run --kernel debian-12 -- uname -r

    Needs QEMU and virtme-ng (fwmark-lab doctor says what is missing), no root, no KVM.
    """  # noqa: D301 - click reads the backspace


@vm.command(name="list")
def list_() -> None:
    """List the kernels that have a name, and which of them are here."""
    from lab.vm.kernels import known

    for kernel in known():
        here = kernel.release() or "not fetched yet"
        click.echo(f"{kernel.name:<12}{here:<28}{kernel.package} of Debian {kernel.suite}")


@vm.command()
@click.argument("names", nargs=-1, required=True, metavar="KERNEL...")
def fetch(names: tuple[str, ...]) -> None:
    """Fetch the newest release of kernels, in the place of an older one; installs nothing."""
    from lab.errors import UsageError
    from lab.vm import download
    from lab.vm.kernels import Kernel, find

    for kernel in map(find, names):
        if not isinstance(kernel, Kernel):
            raise UsageError(f"{str(kernel)!r} is a file; expected names, see fwmark-lab vm list")
        download.fetch(kernel)
        click.echo(f"{kernel.name}: {kernel.release()}")


@vm.command(context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False})
@click.option(
    "--kernel",
    "name",
    required=True,
    metavar="NAME|PATH",
    help="A name from vm list, fetched at first use, or a kernel image with its modules.",
)
@click.option(
    "--timeout",
    type=click.FloatRange(min=1),
    default=1800,
    show_default=True,
    metavar="SECONDS",
    help="End the guest after this time, its boot included.",
)
@click.option(
    "--write",
    type=click.Path(file_okay=False, exists=True, path_type=Path),
    help="A folder that the program may write to; all others are read-only.",
)
@click.option(
    "--kvm", is_flag=True, help="Use the processor's virtualization: faster, where it works."
)
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED, metavar="COMMAND...")
def run(name: str, timeout: float, write: Path | None, kvm: bool, command: tuple[str, ...]) -> int:
    """Run COMMAND under another kernel, as root of the guest, and return its exit code.

    COMMAND sees this machine's files at the same paths, /tmp is its own; fwmark-lab and python in
    it are this lab and its Python. What it prints comes out here. It has no network and no input.
    """
    from lab.vm import guest
    from lab.vm.kernels import Kernel, find

    kernel = find(name)
    if isinstance(kernel, Kernel) and not kernel.image() and not guest.lacking():
        click.echo(f"fetching {kernel} ...", err=True)
    job = guest.Job(command, Path.cwd(), timeout, write and write.resolve(), kvm)
    return guest.run(kernel, job, sys.stdout.buffer, sys.stderr.buffer)
