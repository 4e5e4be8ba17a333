"""Run the native text of a row: programs without a shell, nft in process, and a few of our own.

A line is one command: ``ip``, ``tc``, ``iptables-…`` and other programs as everybody writes them;
``nft RULESET``; ``sysctl KEY VALUE``; ``bpf PROGRAM`` (``lab.native.bpf_text``); and the words of
``lab.boundary.devices``. Lines that follow one another go to one ``ip -batch``.
"""

from __future__ import annotations

import os
import shlex
import socket
from collections.abc import Callable, Iterator, Mapping
from itertools import groupby
from textwrap import shorten

from lab.boundary import devices
from lab.errors import RuleRefused
from lab.kernel import bpf, command
from lab.kernel.netns import Netns
from lab.kernel.nftables import Nft
from lab.kernel.sysctl import write_sysctl
from lab.native import bpf_code, bpf_text

_BATCHED = ("ip", "tc")
_SHOWN = 160  # characters of a command in an error


def split(text: str) -> Iterator[tuple[str, str]]:
    """Yield (node, command) of each line of a row's text."""
    for line in text.strip().splitlines():
        node, _, rest = line.strip().partition(": ")
        yield node, rest


def run(text: str, namespaces: Mapping[str, Netns], home: Netns) -> None:
    """Run each line on its node. Raises RuleRefused with the line that was not taken."""
    names = {f"{{{node}}}": _path(netns) for node, netns in namespaces.items()}
    for (node, word), lines in groupby(split(text), lambda step: (step[0], step[1].split()[0])):
        commands = [_named(line, names) for _, line in lines]
        with namespaces[node].inside(home):
            run_here(word, commands)


def run_here(word: str, commands: list[str]) -> None:
    """Run commands that begin with the same word in the current namespace."""
    if word in _BATCHED and not any(_alone(line) for line in commands):
        _batch(word, commands)
        return
    for line in commands:
        _OWN.get(word, _program)(line)


def _alone(line: str) -> bool:
    """Tell whether a batch cannot hold a command: options are the batch's own."""
    first = line.split()[1]
    return first == "netns" or first.startswith("-")


def _path(netns: Netns) -> str:
    return f"/proc/{os.getpid()}/fd/{netns.fd}"


def _named(line: str, names: Mapping[str, str]) -> str:
    for name, path in names.items():
        line = line.replace(name, path)
    return line


def _batch(word: str, commands: list[str]) -> None:
    text = "".join(f"{line.partition(' ')[2]}\n" for line in commands)
    done = command.run((word, "-batch", "-"), text)
    if done.status:
        one = "" if len(commands) == 1 else "one of "
        raise RuleRefused(f"{one}{_short('; '.join(commands))!r} failed: {_cause(done.error)}")


def _program(line: str) -> None:
    done = command.run(tuple(shlex.split(line)))
    if done.status:
        raise RuleRefused(f"{_short(line)!r} failed: {_cause(done.error)}")


def _cause(error: str) -> str:
    lines = [line.strip() for line in error.splitlines() if line.strip()]
    telling = [line for line in lines if not line.startswith(("Try `", "Warning", "Command fail"))]
    return "; ".join((telling or lines)[:2]) or "it did not say why"


def _short(line: str) -> str:
    return shorten(line, _SHOWN, placeholder=" …")


def _nft(line: str) -> None:
    context = Nft()
    try:
        _, error = context.run(line.removeprefix("nft "))
    finally:
        context.close()
    if error:
        raise RuleRefused(f"{_short(line)!r} refused: {error.splitlines()[0]}")


def _sysctl(line: str) -> None:
    _, key, value = line.split()
    try:
        write_sysctl(key, value)
    except OSError as problem:
        raise RuleRefused(f"{line!r}: {problem.strerror}") from None


def _bpf(line: str) -> None:
    program = bpf_text.parse(line.removeprefix("bpf "))
    indexes = {program.target: socket.if_nametoindex(program.target)} if program.target else {}
    try:
        with bpf.loaded(bpf_code.assemble(program, indexes)) as fd:
            bpf.attach(fd, program.device, program.hook, 1)
    except (bpf.Refused, OSError) as problem:
        raise RuleRefused(f"{line!r}: {problem}") from None


def _device(line: str) -> None:
    try:
        devices.COMMANDS[line.split()[0]](*line.split()[1:])
    except OSError as problem:
        raise RuleRefused(f"{line!r}: {problem.strerror or problem}") from None


_OWN: dict[str, Callable[[str], None]] = {
    "nft": _nft,
    "sysctl": _sysctl,
    "bpf": _bpf,
    **dict.fromkeys(devices.COMMANDS, _device),
}
