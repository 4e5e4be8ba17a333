"""A captured host as one file: a gzip'd tar of plain text files with fixed names [pure].

Reading trusts nothing: sizes are bounded before and while unpacking, only regular files with the
known names are taken, nothing is put on disk and nothing in it is ever run.
"""

from __future__ import annotations

import io
import json
import os
import re
import stat
import tarfile
import tempfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from lab.codec import decode, encode
from lab.errors import ArchiveError, RecordError, UsageError
from lab.lint.source import LARGEST, LONGEST_LINE

FORMAT = 1
MANIFEST = "manifest.json"
NAMES = (
    "addresses.txt",
    "ip-route.txt",
    "ip-rule.txt",
    "ip6-route.txt",
    "ip6-rule.txt",
    "ip6tables-legacy.save",
    "ip6tables-nft.save",
    "iptables-legacy.save",
    "iptables-nft.save",
    "links.txt",
    "ruleset.nft",
    "sets.txt",
    "sysctl.txt",
    "tc.txt",
    "xfrm.txt",
)
"""The files of a host, besides the manifest. One that could not be read is not there, and the
manifest says why; one that is empty was read, and the host has nothing of the kind."""
MOST_TEXT = 3 * LARGEST
"""Bytes that all files may take together; one may take LARGEST."""
MOST_PACKED = LARGEST
_BLOCK = tarfile.BLOCKSIZE
_UNPACKED = MOST_TEXT + (len(NAMES) + 2) * 2 * _BLOCK + tarfile.RECORDSIZE
_MAGIC = b"\x1f\x8b"
_GZIP = 16 + zlib.MAX_WBITS
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
_ALL = ", ".join((MANIFEST, *NAMES))
_EXPECTED = "expected what 'fwmark-lab capture' wrote"


@dataclass(frozen=True, slots=True)
class Tool:
    """A program that was asked, and the version it gave."""

    name: str
    version: str


@dataclass(frozen=True, slots=True)
class Gap:
    """Something that is not in the archive: of which file, and why.

    ``lost`` where the rest does not say all that the host does to packets: rules are missing.
    """

    file: str
    reason: str
    lost: bool = False

    def __str__(self) -> str:
        return f"{self.file}: {self.reason}"


@dataclass(frozen=True, slots=True)
class Manifest:
    """What an archive says of itself; ``date`` is UTC in ISO 8601, ``host`` '' if pseudonymised."""

    format: int
    host: str
    kernel: str
    date: str
    pseudonymised: bool
    tools: tuple[Tool, ...]
    gaps: tuple[Gap, ...]


@dataclass(frozen=True, slots=True)
class Host:
    """A captured host: where it was read from, and the text of each file that could be read."""

    source: str
    manifest: Manifest
    files: Mapping[str, str]


def is_archive(path: Path) -> bool:
    """Tell by its first bytes whether a file is meant to be an archive; ``read`` says if it is."""
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            return False
        with path.open("rb") as file:
            return file.read(len(_MAGIC)) == _MAGIC
    except (OSError, ValueError):
        return False


def read(path: Path) -> Host:
    """Read an archive. Raises ArchiveError with the archive and the member at fault."""
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise ArchiveError(f"{path}: not a file; {_EXPECTED}")
        with path.open("rb") as file:
            packed = file.read(MOST_PACKED + 1)
    except (OSError, ValueError) as problem:
        reason = getattr(problem, "strerror", None) or problem
        raise ArchiveError(f"{path}: cannot be read: {reason}") from None
    return unpacked(packed, str(path))


def unpacked(packed: bytes, source: str) -> Host:
    """Read the bytes of an archive. Raises ArchiveError, which names ``source`` and the member."""
    if len(packed) > MOST_PACKED:
        raise ArchiveError(f"{source}: larger than {MOST_PACKED >> 20} MiB; {_EXPECTED}")
    found: dict[str, str] = {}
    for name, raw in _members(_inflated(packed, source), source):
        if name in found:
            raise ArchiveError(f"{source}: {name}: is there twice; {_EXPECTED}")
        found[name] = _text(raw, f"{source}: {name}")
    if MANIFEST not in found:
        raise ArchiveError(f"{source}: no {MANIFEST}; {_EXPECTED}")
    manifest = _manifest(found.pop(MANIFEST), f"{source}: {MANIFEST}")
    told = {gap.file for gap in manifest.gaps}
    for name in NAMES:
        if name not in found and name not in told:
            raise ArchiveError(f"{source}: {name}: is missing, and {MANIFEST} does not say why")
    return Host(source, manifest, MappingProxyType(found))


def _inflated(packed: bytes, source: str) -> bytes:
    if not packed.startswith(_MAGIC):
        raise ArchiveError(f"{source}: not a gzip'd archive; {_EXPECTED}")
    stream = zlib.decompressobj(_GZIP)
    try:
        content = stream.decompress(packed, _UNPACKED + 1)
    except zlib.error as problem:
        raise ArchiveError(f"{source}: damaged ({problem}); copy or capture it again") from None
    if len(content) > _UNPACKED:
        raise ArchiveError(f"{source}: unpacks to more than {MOST_TEXT >> 20} MiB; {_EXPECTED}")
    if not stream.eof:
        raise ArchiveError(f"{source}: cut short; copy or capture it again")
    if stream.unused_data:
        raise ArchiveError(f"{source}: something follows the archive; {_EXPECTED}")
    return content


def _members(content: bytes, source: str) -> Iterator[tuple[str, bytes]]:
    """Yield names and contents; headers that extend others (pax, GNU, sparse) are refused."""
    position = 0
    while any(header := content[position : position + _BLOCK]):
        member = _header(header, source)
        begin, position = position + _BLOCK, position + _BLOCK
        position += -(-member.size // _BLOCK) * _BLOCK
        if position > len(content):
            raise ArchiveError(f"{source}: {member.name}: cut short; copy or capture it again")
        yield member.name, content[begin : begin + member.size]
    if not header:
        raise ArchiveError(f"{source}: cut short after {position} bytes; copy or capture it again")
    if content[position:].strip(b"\0"):
        raise ArchiveError(f"{source}: something follows the last member; {_EXPECTED}")


def _header(block: bytes, source: str) -> tarfile.TarInfo:
    try:
        member = tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
    except tarfile.HeaderError as problem:
        raise ArchiveError(f"{source}: not a tar archive ({problem}); {_EXPECTED}") from None
    if member.name not in (MANIFEST, *NAMES):
        raise ArchiveError(f"{source}: {member.name!r}: unknown member; expected one of {_ALL}")
    if member.type not in (tarfile.REGTYPE, tarfile.AREGTYPE):
        raise ArchiveError(f"{source}: {member.name}: not a regular file; {_EXPECTED}")
    if not 0 <= member.size <= LARGEST:
        raise ArchiveError(f"{source}: {member.name}: larger than {LARGEST >> 20} MiB")
    return member


def _text(raw: bytes, where: str) -> str:
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError as problem:
        line = raw.count(b"\n", 0, problem.start) + 1
        raise ArchiveError(f"{where}:{line}: not UTF-8 text") from None
    if found := flaw(text):
        raise ArchiveError(f"{where}:{found}")
    return text


def flaw(text: str) -> str:
    """Return what keeps a text out of an archive, after the number of the line, or nothing."""
    if found := _CONTROL.search(text):
        number = text.count("\n", 0, found.start()) + 1
        return f"{number}: a control character ({found[0]!r}); expected text"
    for number, line in enumerate(text.split("\n"), 1):
        if len(line) > LONGEST_LINE:
            return f"{number}: a line of more than {LONGEST_LINE} characters"
    return ""


def _manifest(text: str, where: str) -> Manifest:
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as problem:
        raise ArchiveError(f"{where}: not valid JSON: {problem}") from None
    if not isinstance(content, dict) or "format" not in content:
        raise ArchiveError(f"{where}: key 'format': missing; {_EXPECTED}")
    if content["format"] != FORMAT or isinstance(content["format"], (bool, float)):
        raise ArchiveError(
            f"{where}: key 'format': {str(content['format'])[:40]!r} is unknown here; this release "
            f"reads {FORMAT}; capture the host again"
        )
    try:
        manifest = decode(Manifest, content, where)
    except RecordError as problem:
        raise ArchiveError(str(problem)) from None
    for gap in manifest.gaps:
        if gap.file not in NAMES:
            raise ArchiveError(f"{where}: key 'gaps': {gap.file!r}: expected one of {_ALL}")
    for word in _words(manifest):
        if _CONTROL.search(word) or "\n" in word or not word.isprintable():
            raise ArchiveError(f"{where}: {word[:40]!r}: expected one line of printable text")
    return manifest


def _words(manifest: Manifest) -> Iterator[str]:
    yield from (manifest.host, manifest.kernel, manifest.date)
    for tool in manifest.tools:
        yield from (tool.name, tool.version)
    for gap in manifest.gaps:
        yield gap.reason


def packed(manifest: Manifest, files: Mapping[str, str]) -> bytes:
    """Return the bytes of an archive: equal content gives equal bytes."""
    about = json.dumps(encode(manifest), indent=2, ensure_ascii=False) + "\n"
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for name, text in ((MANIFEST, about), *sorted(files.items())):
            raw = text.encode()
            member = tarfile.TarInfo(name)
            member.size, member.mode = len(raw), 0o600
            tar.addfile(member, io.BytesIO(raw))
    gzip = zlib.compressobj(9, zlib.DEFLATED, _GZIP)  # its header has no time and no name
    return gzip.compress(stream.getvalue()) + gzip.flush()


def write(content: bytes, path: Path) -> None:
    """Put an archive where only its owner reads it; it is whole or not there. Raises UsageError.

    A pipe or a device is written to, and never replaced by a file.
    """
    try:
        if path.exists() and not path.is_file() and not path.is_dir():
            path.write_bytes(content)
        else:
            _replace(content, path.resolve())
    except OSError as problem:
        raise UsageError(f"cannot write {str(path)!r}: {problem.strerror}") from None


def _replace(content: bytes, path: Path) -> None:
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name[:100]}.")
    made = Path(name)  # mkstemp gives it mode 0600
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
        made.replace(path)
    finally:
        with suppress(FileNotFoundError):
            made.unlink()
