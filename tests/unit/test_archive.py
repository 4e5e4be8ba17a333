"""An archive says what was put in, or is refused: one error that names archive and member."""

from __future__ import annotations

import gzip
import io
import json
import os
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lab.capture import archive
from lab.capture.archive import FORMAT, MANIFEST, NAMES, Gap, Manifest, Tool
from lab.errors import ArchiveError, LabError, UsageError

WRITTEN = Manifest(
    FORMAT,
    "node-1",
    "6.1.0",
    "2026-11-21T10:00:00Z",
    False,
    (Tool("nft", "1.0.6"),),
    (Gap("tc.txt", "'tc' is not installed", lost=True), Gap("sets.txt", "none")),
)
FILES = {name: f"# {name}\n" for name in NAMES if name != "tc.txt"}
PACKED = archive.packed(WRITTEN, FILES)
LINES = st.text(st.characters(exclude_categories=("Cc", "Cs")), max_size=40)
Change = Callable[[tarfile.TarInfo], None]


def tarred(
    *members: tuple[str, bytes], change: Change | None = None, kind: int = tarfile.USTAR_FORMAT
) -> bytes:
    """Make an archive of any members."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=kind) as tar:
        for name, raw in members:
            member = tarfile.TarInfo(name)
            member.size = len(raw)
            if change:
                change(member)
            tar.addfile(member, io.BytesIO(raw))
    return gzip.compress(stream.getvalue())


def manifest(**changes: object) -> bytes:
    """Make a manifest that excuses every file, with some keys changed or (None) left out."""
    gaps = [{"file": name, "reason": "not asked"} for name in NAMES]
    content: dict[str, object] = {
        "format": FORMAT, "host": "h", "kernel": "6", "date": "d", "pseudonymised": False,
        "tools": [], "gaps": gaps,
    }  # fmt: skip
    return json.dumps({k: v for k, v in (content | changes).items() if v is not None}).encode()


def refused(raw: bytes) -> str:
    """Return what is said of an archive that must not be read."""
    with pytest.raises(ArchiveError) as problem:
        archive.unpacked(raw, "host.tar.gz")
    text = str(problem.value)
    assert text.startswith("host.tar.gz: ")
    assert "\n" not in text
    return text


def test_what_is_written_is_read(tmp_path: Path) -> None:
    """Each file, and the manifest; only the owner may read it."""
    path = tmp_path / "host.tar.gz"
    archive.write(PACKED, path)
    host = archive.read(path)
    assert (host.source, host.manifest, dict(host.files)) == (str(path), WRITTEN, FILES)
    assert path.stat().st_mode & 0o777 == 0o600
    assert [p.name for p in tmp_path.iterdir()] == ["host.tar.gz"]
    assert archive.is_archive(path)


def test_any_tar_program_reads_it() -> None:
    """Python's own, here; times and owners are not in it."""
    with tarfile.open(fileobj=io.BytesIO(PACKED)) as tar:
        members = tar.getmembers()
    assert [m.name for m in members] == [MANIFEST, *(n for n in NAMES if n != "tc.txt")]
    assert {(m.mtime, m.uid, m.gid, m.uname, m.mode) for m in members} == {(0, 0, 0, "", 0o600)}


@given(st.dictionaries(st.sampled_from(NAMES), st.lists(LINES).map("\n".join)))
def test_any_text_comes_back(files: dict[str, str]) -> None:
    """Whatever is written in any order is read as it was, and equal content is equal bytes."""
    about = Manifest(FORMAT, "", "6", "d", True, (), tuple(Gap(n, "none") for n in NAMES))
    packed = archive.packed(about, files)
    assert dict(archive.unpacked(packed, "x").files) == files
    assert archive.packed(about, dict(reversed(files.items()))) == packed


@settings(max_examples=300)
@given(st.integers(0, len(PACKED) - 1), st.integers(1, 255))
def test_a_changed_byte_is_noticed_or_harmless(position: int, change: int) -> None:
    """One clear error, or what was written (a flag of the gzip header); nothing else."""
    broken = bytearray(PACKED)
    broken[position] ^= change
    try:
        host = archive.unpacked(bytes(broken), "x")
    except ArchiveError:
        return
    assert (host.manifest, dict(host.files)) == (WRITTEN, FILES)


@settings(max_examples=300)
@given(st.data())
def test_a_changed_tar_is_a_clear_error_or_a_host(data: st.DataObject) -> None:
    """With a checksum that fits: nothing but ArchiveError comes out."""
    content = bytearray(gzip.decompress(PACKED))
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, 4095))] = data.draw(st.integers(0, 255))
    for begin in range(0, 4096, 512):
        if content[begin + 257 : begin + 262] == b"ustar":
            total = (
                sum(content[begin : begin + 148]) + 256 + sum(content[begin + 156 : begin + 512])
            )
            content[begin + 148 : begin + 156] = b"%06o\0 " % total
    try:
        archive.unpacked(gzip.compress(bytes(content), 1), "x")
    except ArchiveError:
        return


@given(st.binary(max_size=400), st.booleans())
def test_garbage_is_a_clear_error(raw: bytes, zipped: bool) -> None:
    """Also garbage that is gzip'd."""
    refused(gzip.compress(raw, 1) if zipped else raw)


@pytest.mark.parametrize("length", range(0, len(PACKED), 7))
def test_an_archive_that_is_cut_short_is_refused(length: int) -> None:
    """Wherever it ends."""
    assert "cut short" in refused(PACKED[:length]) or length < 2


def test_a_tar_that_is_cut_short_is_refused() -> None:
    """In a header, in a file, and where the end should be."""
    whole = gzip.decompress(PACKED)
    for length in (100, 600, 1024, 5000):
        refused(gzip.compress(whole[:length]))
    assert "cut short after 0 bytes" in refused(gzip.compress(b""))


def linked(member: tarfile.TarInfo) -> None:
    """Turn a member into a symbolic link out of the archive."""
    member.type, member.linkname, member.size = tarfile.SYMTYPE, "/etc/shadow", 0


@pytest.mark.parametrize(
    "name",
    ["../tc.txt", "/etc/passwd", "./tc.txt", "tc.txt/", "x/tc.txt", "TC.TXT", "a\u202eb", ""],
)
def test_unknown_names_are_refused(name: str) -> None:
    """A path that leads anywhere is not a known name."""
    assert "member" in refused(tarred((MANIFEST, manifest()), (name, b"")))


@pytest.mark.parametrize("kind", [tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE,
                                  tarfile.FIFOTYPE, tarfile.DIRTYPE, tarfile.GNUTYPE_SPARSE,
                                  tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.GNUTYPE_LONGNAME,
                                  tarfile.CONTTYPE, b"Z"])  # fmt: skip
def test_only_regular_files_are_taken(kind: bytes) -> None:
    """No link, device, folder, sparse file, nor a header that changes the next one."""

    def change(member: tarfile.TarInfo) -> None:
        member.type = kind

    assert "tc.txt: not a regular file" in refused(tarred(("tc.txt", b""), change=change))
    assert "not a regular file" in refused(tarred(("tc.txt", b""), change=linked))


def test_extended_headers_are_refused() -> None:
    """A pax header could give a member another name or size."""

    def change(member: tarfile.TarInfo) -> None:
        member.pax_headers = {"size": "1"}

    refused(tarred(("tc.txt", b"x"), change=change, kind=tarfile.PAX_FORMAT))


def test_a_bomb_does_not_unpack() -> None:
    """Four kilobytes that would be many gigabytes, and a header that only claims to be."""
    bomb = gzip.compress(b"\0" * (archive.MOST_TEXT + (2 << 20)))
    assert "unpacks to more than 48 MiB" in refused(bomb)
    assert "larger than 16 MiB" in refused(bytes(archive.MOST_PACKED + 1))

    block = tarfile.TarInfo("tc.txt")
    block.size = 1 << 40
    claim = block.tobuf(tarfile.GNU_FORMAT)
    assert "tc.txt: larger than 16 MiB" in refused(gzip.compress(claim + bytes(1024)))
    block.size = 1 << 20
    claim = block.tobuf(tarfile.USTAR_FORMAT)
    assert "tc.txt: cut short" in refused(gzip.compress(claim + bytes(1024)))
    block.size = -1
    refused(gzip.compress(block.tobuf(tarfile.GNU_FORMAT) + bytes(1024)))


def test_a_member_may_not_be_there_twice() -> None:
    """The later one would hide the earlier one."""
    twice = ("tc.txt", b"")
    assert "tc.txt: is there twice" in refused(tarred((MANIFEST, manifest()), twice, twice))


def test_nothing_follows() -> None:
    """Neither after the gzip stream, nor after the end of the tar."""
    assert "something follows" in refused(PACKED + b"x")
    assert "something follows" in refused(PACKED + PACKED)
    assert "something follows" in refused(gzip.compress(gzip.decompress(PACKED) + b"x"))


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        (b"a\nb\xff", "tc.txt:2: not UTF-8 text"),
        (b"a\n\n\x00", "tc.txt:3: a control character"),
        (b"\x1b[2J", "tc.txt:1: a control character"),
        (b"x" * 70_000, "tc.txt:1: a line of more than"),
    ],
)
def test_what_is_not_text_is_refused(raw: bytes, said: str) -> None:
    """With its line."""
    assert said in refused(tarred((MANIFEST, manifest()), ("tc.txt", raw)))


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        (b"", "not valid JSON"),
        (b"[" * 100_000, "a line of more than"),
        (b"[\n" * 100_000, "not valid JSON"),
        (b"9" * 5_000, "not valid JSON"),
        (b"[]", "key 'format': missing"),
        (manifest(format=2), "key 'format': '2' is unknown here"),
        (manifest(format=True), "key 'format': 'True' is unknown here"),
        (manifest(format=1.0), "key 'format': '1.0' is unknown here"),
        (manifest(kernel=None), "key 'kernel': missing"),
        (manifest(kernel=6), "key 'kernel': expected"),
        (manifest(extra=1), "key 'extra': unknown key"),
        (manifest(tools=[{"name": "nft"}]), "key 'tools[0].version': missing"),
        (manifest(gaps=[{"file": "x", "reason": "y"}]), "key 'gaps': 'x': expected one of"),
        (manifest(host="a\x1b[2J"), "expected one line of printable text"),
        (manifest(host="\ud800"), "expected one line of printable text"),
        (manifest(gaps=[]), "addresses.txt: is missing, and manifest.json does not say why"),
    ],
)
def test_a_manifest_that_does_not_fit_is_refused(raw: bytes, said: str) -> None:
    """With the key."""
    assert said in refused(tarred((MANIFEST, raw)))


def test_an_archive_has_a_manifest() -> None:
    """Nothing is known of files without one."""
    assert "no manifest.json" in refused(tarred(*((name, b"") for name in NAMES)))


def test_only_files_are_opened(tmp_path: Path) -> None:
    """A named pipe would wait for ever."""
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "rules").write_text("*filter\nCOMMIT\n")
    for name in ("pipe", "rules", "missing", "", "a\0b"):
        assert not archive.is_archive(tmp_path / name)
    for name in ("pipe", "missing", "a\0b", ""):
        with pytest.raises(ArchiveError, match=r"not a file|cannot be read"):
            archive.read(tmp_path / name)


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path: Path) -> None:
    """Nothing is left behind where it cannot be written."""
    (tmp_path / "folder").mkdir()
    with pytest.raises(UsageError, match="cannot write"):
        archive.write(PACKED, tmp_path / "folder")
    with pytest.raises(LabError, match="cannot write"):
        archive.write(PACKED, tmp_path / "missing" / "x.tar.gz")
    assert [p.name for p in tmp_path.rglob("*")] == ["folder"]


def test_a_pipe_is_written_to_and_a_link_is_followed(tmp_path: Path) -> None:
    """Neither is replaced by a file: root may well say ``-o /dev/null``."""
    pipe, link, there = (tmp_path / name for name in ("pipe", "link", "there"))
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    try:
        archive.write(b"whole", pipe)
        assert os.read(reader, 100) == b"whole"
    finally:
        os.close(reader)
    assert pipe.is_fifo()
    link.symlink_to(there)
    archive.write(b"first", link)
    archive.write(b"whole", link)
    assert link.is_symlink()
    assert there.read_bytes() == b"whole"
