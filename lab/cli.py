"""The command line: arguments and exit codes, nothing else."""

from __future__ import annotations

import gc
import os
import sys
import traceback
from collections.abc import Sequence

import click

from lab.commands.bits import bits
from lab.commands.capture import capture
from lab.commands.check import check, judge
from lab.commands.docs import docs
from lab.commands.entry import new, validate
from lab.commands.lint import lint
from lab.commands.machine import clean, doctor, test
from lab.commands.matrix import matrix
from lab.commands.registry import list_, show
from lab.commands.reported import reported
from lab.commands.shrink import shrink
from lab.commands.trace import trace
from lab.commands.vm import vm
from lab.errors import LabError, SandboxError

_INTERNAL, _USAGE, _INTERRUPTED, _NO_READER = 3, 4, 130, 141


def _print_version(context: click.Context, _: click.Parameter, wanted: bool) -> None:
    if wanted:
        from importlib.metadata import PackageNotFoundError, version

        try:
            click.echo(f"fwmark-lab {version('fwmark-lab')}")
        except PackageNotFoundError:
            click.echo("fwmark-lab, not installed: run from its folder")
        context.exit()


@click.group(invoke_without_command=True, context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_print_version,
    help="Print the version.",
)
@click.pass_context
def cli(context: click.Context) -> None:
    """Prove on real network namespaces whether programs that set packet marks coexist.

    \b
    fwmark-lab check tailscale calico          do they coexist?
    fwmark-lab trace tailscale calico --flow tailnet-to-lan
                                               what happens to a packet?
    fwmark-lab list                            which programs are known?
    fwmark-lab doctor                          can this machine run it?

    Exit code: 0 all survive, 1 a conflict, 2 inconclusive, 3 internal error, 4 usage.
    """  # noqa: D301 - click reads the backspace
    if context.invoked_subcommand is None:
        click.echo(context.get_help())


for command in (
    check,
    matrix,
    trace,
    list_,
    show,
    judge,
    doctor,
    clean,
    test,
    new,
    validate,
    docs,
    shrink,
    lint,
    bits,
    reported,
    capture,
    vm,
):
    cli.add_command(command)


def run(arguments: Sequence[str]) -> int:
    """Run one command and return its exit code; every error is one line on standard error."""
    try:
        code = cli.main(list(arguments), prog_name="fwmark-lab", standalone_mode=False)
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # or the interpreter's last flush complains
        return _NO_READER
    except (KeyboardInterrupt, click.Abort):
        return _INTERRUPTED
    except click.ClickException as problem:
        return _fail(_told(problem), _USAGE)
    except LabError as problem:
        return _fail(str(problem), _USAGE)
    except SandboxError as problem:
        return _fail(str(problem), _INTERNAL)
    except Exception:  # a defect must not look like the conflict that exit code 1 means
        traceback.print_exc()
        return _fail("internal error; please report it with the lines above", _INTERNAL)
    return code if isinstance(code, int) else 0


def _told(problem: click.ClickException) -> str:
    """Put click's message into the lab's form: lower case, no final period, then the remedy."""
    message = problem.format_message().rstrip(".")
    context = getattr(problem, "ctx", None)
    hint = f"; see {context.command_path} --help" if context else ""
    return message[:1].lower() + message[1:] + hint


def _fail(message: str, code: int) -> int:
    click.echo(f"fwmark-lab: error: {message}", err=True)
    return code


def main() -> None:
    """Run the command line and exit."""
    # Entries and runs are many small values without cycles, in a process that soon ends.
    gc.set_threshold(200_000, 20, 100)
    sys.exit(run(sys.argv[1:]))
