"""Asking programs that only list: what they say, or why there is nothing to say."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from lab.capture import listings
from lab.capture.archive import Gap, flaw
from lab.errors import UnsupportedError
from lab.kernel import command
from lab.kernel.command import Unfinished
from lab.lint.source import LARGEST

_REFUSED = re.compile(r"Operation not permitted|Permission denied|must be root", re.IGNORECASE)


class Unread(Exception):
    """Say why something of a host is not known."""


@dataclass(frozen=True, slots=True)
class Part:
    """One file of an archive: its text, or None where it is not known, and what is not in it."""

    name: str
    text: str | None
    gaps: tuple[Gap, ...]


@dataclass(slots=True)
class Notes:
    """What is to be said of a file: remarks, and what is lost of its rules."""

    remarks: list[str] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)

    def gaps(self, name: str) -> Iterator[Gap]:
        """Yield them for the manifest."""
        for lost, reasons in ((False, self.remarks), (True, self.lost)):
            yield from (Gap(name, " ".join(reason.split()), lost) for reason in reasons)


def part(name: str, read: Callable[[Notes], str]) -> Part:
    """Make a file of what a function reads; it adds what it had to leave out to its argument."""
    notes = Notes()
    text = None
    try:
        text = _fitting(read(notes))
    except Unread as problem:
        notes.lost.append(str(problem))
    return Part(name, text, tuple(notes.gaps(name)))


def _fitting(text: str) -> str:
    text = listings.clean(text)
    if found := flaw(text):
        raise Unread(f"line {found}")
    if len(text.encode()) > LARGEST:
        raise Unread(f"more than {LARGEST >> 20} MiB")
    return text


def ask(*arguments: str, most: int = LARGEST) -> str:
    """Return what a program lists. Raises Unread, or UnsupportedError where it is not allowed to.

    ``most`` bytes are read.
    """
    shown = " ".join(arguments)
    installed(arguments[0])
    try:
        done = command.bounded(arguments, most)
    except Unfinished as problem:
        raise Unread(f"{shown!r}: {problem}") from None
    if done.status == 0:
        return done.output
    if _REFUSED.search(done.error):
        raise UnsupportedError(remedy(f"{shown!r}: {_first(done.error)}"))
    raise Unread(f"{shown!r} failed: {_first(done.error)}")


def _first(text: str) -> str:
    return " ".join(text.partition("\n")[0][:200].split()) or "it does not say why"


def remedy(problem: str) -> str:
    """Return the error for a process that may not read the host."""
    return (
        f"cannot read this host: {problem}; expected root, or CAP_NET_ADMIN and CAP_NET_RAW in the "
        "network namespace: sudo fwmark-lab capture (docker: --cap-add NET_ADMIN --cap-add NET_RAW)"
    )


def is_installed(program: str) -> bool:
    """Tell whether a program is here."""
    try:
        command.find(program)
    except UnsupportedError:
        return False
    return True


def installed(program: str) -> str:
    """Return the program. Raises Unread where it is not here."""
    try:
        command.find(program)
    except UnsupportedError as problem:
        raise Unread(str(problem)) from None
    return program


def version(program: str, option: str = "--version") -> str:
    """Return the line that a program prints of its version, or nothing where it is not here."""
    try:
        said = command.bounded((program, option), 1 << 16, 10.0).output
    except (UnsupportedError, Unfinished):
        return ""
    return listings.clean(said.split("\n")[0]).strip()
