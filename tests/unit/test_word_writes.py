"""What a write makes of the whole word: the kernel's arithmetic, bit by bit."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lab.marks import WORD, Mark
from lab.native.nft_blocks import Place, statements
from lab.native.nft_expression import bitwise
from lab.native.wordwrite import WordWrite, word_writes

words = st.integers(0, WORD)
numbers = st.sampled_from([str, hex])
OPERATORS = ("&", "^", "|")


def applied(write: WordWrite, old: int, other: int) -> int:
    """Compute what stands in the mark afterwards."""
    return (old & write.kept) ^ (other & write.copied) ^ write.xor


@given(
    old=words,
    terms=st.lists(st.tuples(st.sampled_from(OPERATORS), words, numbers), max_size=5),
)
def test_an_nft_expression_is_computed_as_python_does(
    old: int, terms: list[tuple[str, int, type]]
) -> None:
    """Python's ``&``, ``^`` and ``|`` bind in nft's order."""
    text = "meta mark" + "".join(f" {op} {form(number)}" for op, number, form in terms)
    expected = eval(text.replace("meta mark", str(old)), {"__builtins__": {}})
    found = bitwise(text)
    assert found is not None
    assert (old & found.mark) ^ found.constant == expected


@given(old=words, value=words, mask=words)
def test_set_xmark_is_the_xmark_rule(old: int, value: int, mask: int) -> None:
    """As :class:`Mark` has it."""
    (write,) = word_writes(f"-A X -j MARK --set-xmark {value:#x}/{mask:#x}")
    assert applied(write, old, 0) == Mark(value, mask).write(old)


@pytest.mark.parametrize(
    ("options", "after"),
    [
        ("--set-mark 0x5/0xf", 0x35),
        ("--or-mark 0x6", 0x3E),
        ("--and-mark 0xf0", 0x30),
        ("--xor-mark 0xff", 0xC5),
        ("--set-mark 0xf5/0x0f", 0xF5),
    ],
)
def test_what_the_kernel_made_of_0x3a(options: str, after: int) -> None:
    """Measured with iptables-legacy and iptables-nft."""
    (write,) = word_writes(f"-A PREROUTING -j MARK {options}")
    assert applied(write, 0x3A, 0) == after


def test_a_save_clears_by_ctmask_and_takes_by_nfmask() -> None:
    """Measured: ``--nfmask 0xff --ctmask 0xf00`` on 0x3a gave ctmark 0x3a."""
    (write,) = word_writes("-A X -j CONNMARK --save-mark --nfmask 0xff --ctmask 0xf00")
    assert (write.field, applied(write, 0xF00, 0x3A)) == ("ctmark", 0x3A)


def test_a_masked_copy_in_nft_stores_the_whole_word() -> None:
    """Which is not what CONNMARK does with the same masks."""
    (stored,) = word_writes("counter meta mark set ct mark & 0x80")
    (masked,) = word_writes("-A X -j CONNMARK --restore-mark --nfmask 0x80 --ctmask 0x80")
    assert applied(stored, 0x01000000, 0x80) == 0x80
    assert applied(masked, 0x01000000, 0x80) == 0x01000080


def test_what_cannot_be_read_is_said_to_be_opaque() -> None:
    """A map, a hash, another mark of the packet."""
    for text in ("numgen inc mod 2", "ip saddr map @m", "meta mark & ct mark", "0x1ffffffff"):
        (write,) = word_writes(f"meta mark set {text}")
        assert (write.opaque, write.whole) == (True, True)


def test_nft_text_is_divided_as_its_grammar_says() -> None:
    """Whole tables on a line, sets over many, commands, continued lines and variables."""
    text = (
        "define bit = 0x20\n"
        "table ip t { chain c { accept; meta mark set $bit } }\n"
        "table inet u {\n  set s {\n    type ipv4_addr\n  }\n  chain d {\n"
        "    ip saddr {\n 1.1.1.1,\n 2.2.2.2 } \\\n      drop\n  }\n}\n"
        "insert rule ip t c counter drop\n"
    )
    found = [(s.place.table, s.place.name, s.text, s.line) for s in statements(text)]
    assert found == [
        ("t", "c", "accept", 2),
        ("t", "c", "meta mark set 0x20", 2),
        ("u", "s", "type ipv4_addr", 5),
        ("u", "d", "ip saddr { 1.1.1.1, 2.2.2.2 } drop", 8),
        ("t", "c", "counter drop", 14),
    ]


def test_statements_outside_of_blocks_have_no_place() -> None:
    """``flush ruleset`` belongs to no chain."""
    (found,) = statements("flush ruleset\n")
    assert found.place == Place()
