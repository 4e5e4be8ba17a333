"""Files that may hold anything: rules, or one error that names the file, in bounded memory."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lab.capture import parse
from lab.errors import LabError, UsageError

LINES = st.sampled_from(
    [
        "*mangle", "*nat", "COMMIT", ":X - [0:0]", "-A X -j MARK --set-mark 1", "-A X -i {{ a }}",
        "[1:2] -A OUTPUT -m mark --mark 0x/1 -j DROP", "table ip x {", "chain y {", "}", "# c",
        "type filter hook output priority -1;", "meta mark set ct mark & 0xff", "flush ruleset",
        "iifname { \"a\",", "elements = { 1,", "100: from all fwmark 1 lookup 2", "a.b = 1",
        "default dev x table 9", "-A X -m set --match-set s src -j MARK --set-xmark 1/",
    ]
)  # fmt: skip


@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(LINES | st.text(max_size=30), max_size=12))
def test_any_text_is_read_or_refused(tmp_path: Path, lines: list[str]) -> None:
    """Never another exception, whatever is in the file."""
    path = tmp_path / "any.rules"
    path.write_text("\n".join(lines), encoding="utf-8", errors="replace")
    try:
        found = parse.given(str(path)).software.rulesets[0].text
    except LabError:
        found = ""
    assert "{{ a }}" not in found


def test_a_large_file_is_refused_before_it_is_read_to_its_end(tmp_path: Path) -> None:
    """Fifty megabytes take neither time nor memory."""
    path = tmp_path / "large.rules"
    with path.open("wb") as file:
        file.write(b"*mangle\n")
        file.truncate(50 << 20)
    tracemalloc.start()
    with pytest.raises(UsageError, match=r"large\.rules: larger than 16 MiB"):
        parse.given(str(path))
    assert tracemalloc.get_traced_memory()[1] < 40 << 20
    tracemalloc.stop()


@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=300))
def test_any_bytes_are_read_or_refused(tmp_path: Path, content: bytes) -> None:
    """One error that names the file, or rules; never another exception."""
    path = tmp_path / "any.rules"
    path.write_bytes(content)
    assert refusal(path) == "" or str(path) in refusal(path)


def refusal(path: Path) -> str:
    """Return the error that reading a file gives, or nothing."""
    try:
        parse.given(str(path))
    except LabError as problem:
        return str(problem)
    return ""
