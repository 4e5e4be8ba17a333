"""Whatever a file holds: findings, or one error with file and line, in bounded time."""

from __future__ import annotations

import os
import string
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lab import cli
from lab.errors import LabError, UsageError
from lab.lint import source
from lab.lint.hurt import Owners
from lab.lint.parse import Collected
from lab.lint.run import findings, lint

NOBODY = Owners(())
GOOD = "*mangle\n-A PREROUTING -j MARK --set-mark 0x1\nCOMMIT\n"


def error(path: Path) -> str:
    """Return the one error that linting a file gives."""
    with pytest.raises(UsageError) as caught:
        lint([path], NOBODY)
    return str(caught.value)


@pytest.mark.parametrize(
    ("content", "line", "said"),
    [
        (b"\x7fELF\x02\x01\x01\x00", 1, "not text"),
        (b"*mangle\n-A PREROUTING -j ACCEPT\n\x00\nCOMMIT\n", 3, "not text"),
        (b"*mangle\n\xff\xfe\nCOMMIT\n", 2, "not UTF-8 text"),
        (b"hello\n", 1, "unknown format: 'hello'"),
        (b"# nothing\n\nIyEK\n", 3, "unknown format"),
        (b"*mangle\n-A\nCOMMIT\n", 2, "'-A' is not a rule"),
        (b"*nonsense\nCOMMIT\n", 1, "unknown table 'nonsense'"),
        (b"*mangle\nCOMMIT\n-A X -j MARK\n", 3, "stands outside a *table"),
        (b"*mangle\n-A X -m mark --mark 0x1ffffffff -j ACCEPT\nCOMMIT\n", 2, "does not fit"),
        (b"*mangle\n-A X -j MARK --set-mark banana\nCOMMIT\n", 2, "'banana' is not a number"),
        (b"table ip t {\n chain c {\n  accept\n", 1, "'{' is never closed"),
        (b"table ip t {\n}\n}\n", 3, "'}' closes nothing"),
        (b'table ip t {\n chain c {\n  log prefix "x\n }\n}\n', 3, "that nothing ends"),
        (b'flush ruleset\ninclude "/etc/shadow"\n', 2, "is not followed"),
        (b"0:\tfrom all lookup local\nrm -rf /\n", 2, "is no policy rule"),
        (b"1:\tfrom all fwmark $(id) lookup 1\n", 1, "is not a number"),
        (b"net.ipv4.ip_forward = 1\nreboot\n", 2, "is no sysctl"),
        (b"*mangle\n" + b"x" * 70_000 + b"\n", 2, "a line of more than"),
    ],
)
def test_a_bad_file_is_one_error_with_file_and_line(
    content: bytes, line: int, said: str, tmp_path: Path
) -> None:
    """The place, what is wrong, and mostly what was expected."""
    path = tmp_path / "host.rules"
    path.write_bytes(content)
    told = error(path)
    assert told.startswith(f"{path}:{line}: ")
    assert said in told
    assert "\n" not in told


@pytest.mark.parametrize("content", [b"", b"\n\n", b"# only a comment\n"])
def test_a_file_without_rules_is_an_error(content: bytes, tmp_path: Path) -> None:
    """No findings would sound as if there had been something to check."""
    path = tmp_path / "empty"
    path.write_bytes(content)
    assert "nothing to lint" in error(path)


def test_an_uncommitted_table_is_an_error(tmp_path: Path) -> None:
    """The text is cut short."""
    path = tmp_path / "cut.rules"
    path.write_text("*mangle\n-A PREROUTING -j ACCEPT\n")
    assert "never committed" in error(path)


def test_what_is_no_file_is_an_error(tmp_path: Path) -> None:
    """Missing, a folder, a device."""
    assert "No such file" in error(tmp_path / "none")
    assert "neither a file nor a pipe" in error(tmp_path)
    assert "neither a file nor a pipe" in error(Path("/dev/zero"))


def test_fifty_megabytes_are_refused_at_once(tmp_path: Path) -> None:
    """The limit is stated; the file is not read to its end."""
    path = tmp_path / "large.rules"
    with path.open("wb") as file:
        file.write(b"*mangle\n")
        file.truncate(50 << 20)
    started = time.monotonic()
    assert f"larger than {source.LARGEST >> 20} MiB" in error(path)
    assert time.monotonic() - started < 1


LARGE = {
    "iptables": ("*mangle\n", "-A PREROUTING -m mark --mark 0x1/0x1 -j MARK --or-mark 2\n"),
    "unmasked": ("*mangle\n", "-A PREROUTING -j MARK --set-mark 0x1\n"),
    "nat": ("*nat\n", "-A PREROUTING -m mark ! --mark 0x1 -j MARK --or-mark 2\n"),
    "output": ("*filter\n", "-A OUTPUT -j MARK --or-mark 2\n"),
    "nft": ("table ip t {\n chain c {\n", "  meta mark & 1 == 1 meta mark set meta mark | 2\n"),
    "braces": ("table ip t {\n chain c {\n  ip saddr {", "{" * 64 + "\n"),
    "policy": ("", "1:\tfrom all fwmark 0x1/0x1 lookup 1\n"),
    "sysctl": ("", "net.ipv4.conf.all.src_valid_mark = 1\n"),
}
ENDS = {"nft": " }\n}\n", "policy": "", "sysctl": "", "braces": ""}


@pytest.mark.parametrize("kind", LARGE)
def test_time_grows_with_the_size_and_no_faster(kind: str, tmp_path: Path) -> None:
    """Four times the rules may take some four times as long, not sixteen.

    A machine that does other things at times takes longer at times: once of five is enough.
    """
    path = tmp_path / "large.rules"

    def seconds(size: int) -> float:
        head, line = LARGE[kind]
        path.write_text(head + line * (size // len(line)) + ENDS.get(kind, "COMMIT\n"))
        started = time.process_time()
        try:
            lint([path], NOBODY)
        except UsageError:
            assert kind == "braces"
        return time.process_time() - started

    seconds(1 << 10)
    taken = ((seconds(1 << 17), seconds(1 << 19)) for _ in range(5))
    assert any(large < 10 * small + 0.2 for small, large in taken)


def test_a_pipe_is_read(tmp_path: Path) -> None:
    """``fwmark-lab lint <(iptables-save)``."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    writer = threading.Thread(target=pipe.write_text, args=(GOOD,))
    writer.start()
    found = lint([pipe], NOBODY)
    writer.join()
    assert [finding.check for finding in found] == ["FWM001"]


def test_unknown_matches_and_targets_are_passed_over(tmp_path: Path) -> None:
    """The check is of marks; an extension nobody knows is no reason to stop."""
    path = tmp_path / "odd.rules"
    path.write_text(
        '*mangle\n:odd - [0:0]\n-A odd -m telepathy --thinks "of; {x}" -j FROBNICATE --hard\n'
        "-A odd -m telepathy --knows 7 -j MARK --set-mark 0x1\nCOMMIT\n"
    )
    assert [(f.check, f.line) for f in lint([path], NOBODY)] == [("FWM001", 4)]


def test_nothing_in_a_file_is_run(tmp_path: Path) -> None:
    """Shell and nft syntax that would write a file leaves none."""
    bait = tmp_path / "bait"
    path = tmp_path / "evil"
    for text in (
        f"*mangle\n-A X -m comment --comment $(touch {bait}) -j ACCEPT\nCOMMIT\n",
        f'table ip t {{\n chain c {{\n  accept comment "`touch {bait}`"\n }}\n}}\n',
        f"net.core.x = |touch {bait}\n",
    ):
        path.write_text(text)
        assert lint([path], NOBODY) == []
    assert not bait.exists()


def test_a_bad_registry_entry_is_the_loaders_error(tmp_path: Path) -> None:
    """With file and key."""
    path = tmp_path / "bad.toml"
    path.write_text('name = "x"\n')
    with pytest.raises(LabError, match=r"bad\.toml.*style"):
        lint([path], NOBODY)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=200)
@given(content=st.binary(max_size=300))
def test_any_bytes_give_findings_or_one_error(content: bytes, tmp_path: Path) -> None:
    """Never another exception."""
    path = tmp_path / "fuzz"
    path.write_bytes(content)
    told = outcome(lambda: lint([path], NOBODY))
    assert told == "" or told.startswith(str(path))


def outcome(call: Callable[[], object]) -> str:
    """Return the error that a call gives, or nothing; any other exception fails the test."""
    try:
        call()
    except UsageError as problem:
        return str(problem)
    return ""


LANGUAGE = """*mangle *nat COMMIT -A -I PREROUTING OUTPUT -j -m mark connmark MARK CONNMARK TPROXY !
--mark --set-mark --set-xmark --restore-mark --save-mark --nfmask --ctmask --mask --or-mark 0x1
0x1/0x1 0xffffffff 4294967296 -1 / :x table ip inet t chain c { } ; type filter route hook output
priority mangle 0 meta ct set & | ^ ( ) and or xor == != vmap @m map elements = jump goto accept
" # 1: from all fwmark lookup unreachable not rule add del route local default dev lo
net.ipv4.conf.all.src_valid_mark define $x include add"""
WORDS = st.sampled_from([*LANGUAGE.split(), "\n", "\n", "\\", "\t"])


@settings(max_examples=400)
@given(st.lists(WORDS, max_size=40), st.sampled_from(["iptables", "nft", "policy", "sysctl"]))
def test_any_words_of_the_languages_are_read_or_refused(
    words: list[str], kind: source.Format
) -> None:
    """Whatever order they come in, each reader ends, and so does every check."""
    text, collected = " ".join(words), Collected()
    told = outcome(lambda: collected.add(kind, text, "fuzz"))
    assert told == "" or told.startswith("fuzz:")
    last = text.count("\n") + 1
    places = [(f.file, 1 <= f.line <= last) for f in findings(collected.subject(), NOBODY)]
    assert set(places) <= {("fuzz", True)}


@settings(max_examples=15)
@given(st.text(string.printable, max_size=200))
def test_the_command_never_fails_on_its_own(text: str) -> None:
    """Exit code 3 would be a defect."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "text"
        path.write_text(text)
        assert cli.run(["lint", str(path)]) in (0, 1, 4)
