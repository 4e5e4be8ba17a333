"""What a rule writes is read from its text as the kernel would do it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lab.marks import WORD, Mark
from lab.native.markwrite import MarkWrite, writes

words = st.integers(0, WORD)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("-A X -j MARK --set-mark 0x40000/0xff0000", MarkWrite("mark", 0xFF0000, 0x40000)),
        ("-A X -j MARK --set-mark 1337", MarkWrite("mark", WORD, 1337)),
        ("-A K --jump MARK --or-mark 0x4000", MarkWrite("mark", 0x4000, 0x4000)),
        ("-A K -j MARK --and-mark 0xffffbfff", MarkWrite("mark", 0x4000, 0)),
        ("-A K -j MARK --xor-mark 0x4000", MarkWrite("mark", 0x4000, 0x4000)),
        ("-A K -j CONNMARK --set-mark 0x80/0x80", MarkWrite("ctmark", 0x80, 0x80)),
        ("-A K -j CONNMARK --save-mark", MarkWrite("ctmark", WORD, 0, WORD)),
        (
            "-I P 1 -j CONNMARK --restore-mark --nfmask 0xff0000 --ctmask 0xff",
            MarkWrite("mark", 0xFF00FF, 0, 0xFF),
        ),
        ("-A T -p tcp -j TPROXY --tproxy-mark 0x1/0x1 --on-port 1", MarkWrite("mark", 1, 1)),
        ("meta mark set mark or 0x80000", MarkWrite("mark", 0x80000, 0x80000)),
        ("ip daddr . th dport @services mark set 0x1745ec", MarkWrite("mark", WORD, 0x1745EC)),
        ("meta mark set mark & 0xffe4ffff", MarkWrite("mark", 0x1B0000, 0)),
        (
            'iifname "t*" counter meta mark set meta mark & 0xff00ffff ^ 0x00040000',
            MarkWrite("mark", 0xFF0000, 0x40000),
        ),
        ("ct mark set ct mark | 0x80", MarkWrite("ctmark", 0x80, 0x80)),
        ("ct state new meta mark set ct mark & 0x80", MarkWrite("mark", WORD, 0, 0x80)),
        ("meta mark set jhash ip saddr mod 2", MarkWrite("mark", WORD, WORD)),
        ("tc ingress eth0: mark = mark & 0xf000 | 0xf00", MarkWrite("mark", 0xFFFF0FFF, 0xF00)),
    ],
)
def test_a_write_is_known_by_the_bits_it_may_change(text: str, expected: MarkWrite) -> None:
    """A mask without a complement, as in the last copies, leaves no other bit alone."""
    assert list(writes(text)) == [expected]


def test_two_statements_of_one_rule_are_two_writes() -> None:
    """The second copies what the first has set."""
    found = list(writes("meta mark set 0x00002023 ct mark set meta mark counter return"))
    assert found == [MarkWrite("mark", WORD, 0x2023), MarkWrite("ctmark", WORD, 0, WORD)]


@pytest.mark.parametrize(
    "text",
    [
        "-A X -m mark --mark 0x1/0x1 -j ACCEPT",
        "meta mark & 0x4000 != 0 masquerade",
        "rule add pref 9 fwmark 0x200/0xf00 lookup 2004",
        "tc egress eth0: drop if mark & 0xf00 == 0xe00",
    ],
)
def test_a_test_is_no_write(text: str) -> None:
    """Whoever only asks changes nothing."""
    assert list(writes(text)) == []


@given(words, words, words)
def test_no_write_changes_a_bit_that_was_not_named(value: int, mask: int, word: int) -> None:
    """Whatever stood there, ``changes`` covers the difference that xmark makes."""
    (write,) = writes(f"-j MARK --set-xmark {value:#x}/{mask:#x}")
    assert (Mark(value, mask).write(word) ^ word) & ~write.changes == 0


@given(words, words, words)
def test_an_nft_expression_is_evaluated_as_nft_does(keep: int, flip: int, word: int) -> None:
    """``&`` before ``^``: a bit outside ``changes`` is kept, whatever stood there."""
    (write,) = writes(f"meta mark set meta mark & {keep:#x} ^ {flip:#x}")
    assert ((word & keep ^ flip) ^ word) & ~write.changes == 0
    assert write.sets == flip
