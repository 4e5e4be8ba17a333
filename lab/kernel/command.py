"""Starting programs: never through a shell, always with a fixed environment."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from io import FileIO
from select import POLLIN, poll, select

from lab.errors import UnsupportedError

_PATH = "/usr/local/sbin:/usr/sbin:/sbin:/usr/local/bin:/usr/bin:/bin"
_TIMEOUT = 60.0
_SAID = 1 << 16
"""Bytes of error messages that are kept."""
_PACKAGES = {"ip": "iproute2", "tc": "iproute2", "nft": "nftables", "ipset": "ipset",
             "ping": "iputils-ping"}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Result:
    """What a finished program printed, and its exit status."""

    status: int
    output: str
    error: str


class Unfinished(Exception):
    """Say why a program was ended before it had said everything."""


def run(arguments: tuple[str, ...], text: str = "", patience: float = _TIMEOUT) -> Result:
    """Run a program in the current namespaces with ``text`` on its input.

    It reads from memory and writes to memory, so nobody has to wait for a pipe, and what it leaves
    running does not count. Raises UnsupportedError where the program is not installed, and
    TimeoutError where it had to be ended after ``patience`` seconds.
    """
    with _memory("input") as given, _memory("output") as output, _memory("error") as error:
        given.write(text.encode())
        given.seek(0)
        status = _finish((find(arguments[0]), *arguments[1:]), (given, output, error), patience)
        return Result(status, _content(output), _content(error).strip())


def _finish(arguments: tuple[str, ...], files: tuple[FileIO, ...], patience: float) -> int:
    given, output, error = files
    with subprocess.Popen(
        arguments, stdin=given, stdout=output, stderr=error, env=_environment(), cwd="/"
    ) as process:
        try:
            ended = _ends(process.pid, patience)
        finally:
            process.kill()  # does nothing to one that has ended
    if not ended:
        raise TimeoutError(f"{arguments[0]}: no end within {patience:g} s")
    return process.returncode


def _ends(process: int, patience: float) -> bool:
    """Wait for a child to end. Popen.wait with a timeout would sleep and look, again and again."""
    with FileIO(os.pidfd_open(process)) as handle:
        end = poll()
        end.register(handle, POLLIN)
        return bool(end.poll(patience * 1000))


def _memory(name: str) -> FileIO:
    return FileIO(os.memfd_create(name), "w+")


def _content(file: FileIO) -> str:
    file.seek(0)
    return file.readall().decode(errors="replace")


def _environment() -> dict[str, str]:
    environment = {"PATH": _PATH, "LC_ALL": "C", "XTABLES_LOCKFILE": "/run/xtables.lock"}
    marker = os.environ.get("FWMARK_LAB_RUN")
    return environment | {"FWMARK_LAB_RUN": marker} if marker else environment


def bounded(arguments: tuple[str, ...], most: int, patience: float = _TIMEOUT) -> Result:
    """Run a program that only lists, and end it after ``most`` bytes or ``patience`` seconds.

    Raises Unfinished with the reason where it had to be ended, and UnsupportedError where it is
    not installed.
    """
    until = time.monotonic() + patience
    with (
        tempfile.TemporaryFile() as errors,
        subprocess.Popen(
            (find(arguments[0]), *arguments[1:]),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=errors,
            env=_environment(),
            cwd="/",
        ) as process,
    ):
        try:
            output = _read(process, most, until)
            status = process.wait(max(0.0, until - time.monotonic()))
        except (TimeoutError, subprocess.TimeoutExpired):
            raise Unfinished(f"no end within {patience:g} s") from None
        finally:
            process.kill()  # does nothing to one that has ended
        errors.seek(0)
        said = errors.read(_SAID).decode(errors="replace").strip()
    return Result(status, output.decode(errors="replace"), said)


def _read(process: subprocess.Popen[bytes], most: int, until: float) -> bytes:
    assert process.stdout is not None
    content = bytearray()
    while select((process.stdout,), (), (), max(0.0, until - time.monotonic()))[0]:
        part = os.read(process.stdout.fileno(), 1 << 16)
        content += part
        if not part:
            return bytes(content)
        if len(content) > most:
            raise Unfinished(f"more than {most >> 20} MiB")
    raise TimeoutError


@contextmanager
def silent() -> Iterator[None]:
    """Discard what a C library writes to standard error within the block."""
    kept = os.dup(2)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(nowhere)
        os.close(kept)


@lru_cache(maxsize=64)
def find(program: str) -> str:
    """Return the path of a program; raises UnsupportedError with the package that has it."""
    path = shutil.which(program, path=_PATH)
    if path is None:
        package = _PACKAGES.get(program, "iptables" if "tables" in program else program)
        raise UnsupportedError(f"{program!r} is not installed; install the package {package!r}")
    return path
