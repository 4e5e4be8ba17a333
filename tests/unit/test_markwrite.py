"""What a rule writes is read from its text as the kernel would do it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lab.marks import WORD, Mark
from lab.native.markwrite import MarkWrite, writes
from lab.native.nft_expression import bitwise

words = st.integers(0, WORD)
numbers = st.sampled_from([str, hex])
OPERATORS = ("&", "^", "|")


@pytest.mark.parametrize(
    ("text", "field", "changes", "sets", "copies"),
    [
        ("-A X -j MARK --set-mark 0x40000/0xff0000", "mark", 0xFF0000, 0x40000, 0),
        ("-A X -j MARK --set-mark 1337", "mark", WORD, 1337, 0),
        ("-A K --jump MARK --or-mark 0x4000", "mark", 0x4000, 0x4000, 0),
        ("-A K -j MARK --and-mark 0xffffbfff", "mark", 0x4000, 0, 0),
        ("-A K -j MARK --xor-mark 0x4000", "mark", 0x4000, 0x4000, 0),
        ("-A K -j CONNMARK --set-mark 0x80/0x80", "ctmark", 0x80, 0x80, 0),
        ("-A K -j CONNMARK --save-mark", "ctmark", WORD, 0, WORD),
        (
            "-I P 1 -j CONNMARK --restore-mark --nfmask 0xff0000 --ctmask 0xff",
            "mark",
            0xFF00FF,
            0,
            0xFF,
        ),
        ("-A T -p tcp -j TPROXY --tproxy-mark 0x1/0x1 --on-port 1", "mark", 1, 1, 0),
        ("meta mark set mark or 0x80000", "mark", 0x80000, 0x80000, 0),
        ("ip daddr . th dport @services mark set 0x1745ec", "mark", WORD, 0x1745EC, 0),
        ("meta mark set mark & 0xffe4ffff", "mark", 0x1B0000, 0, 0),
        (
            'iifname "t*" counter meta mark set meta mark & 0xff00ffff ^ 0x00040000',
            "mark",
            0xFF0000,
            0x40000,
            0,
        ),
        ("ct mark set ct mark | 0x80", "ctmark", 0x80, 0x80, 0),
        ("ct state new meta mark set ct mark & 0x80", "mark", WORD, 0, 0x80),
        ("meta mark set jhash ip saddr mod 2", "mark", WORD, WORD, 0),
        ("tc ingress eth0: mark = mark & 0xf000 | 0xf00", "mark", 0xFFFF0FFF, 0xF00, 0),
    ],
)
def test_a_write_is_known_by_the_bits_it_may_change(
    text: str, field: str, changes: int, sets: int, copies: int
) -> None:
    """A mask without a complement, as in the last copies, leaves no other bit alone."""
    (found,) = writes(text)
    assert (found.field, found.changes, found.sets, found.copies) == (field, changes, sets, copies)


def test_two_statements_of_one_rule_are_two_writes() -> None:
    """The second copies what the first has set."""
    found = list(writes("meta mark set 0x00002023 ct mark set meta mark counter return"))
    assert found == [MarkWrite("mark", 0, xor=0x2023), MarkWrite("ctmark", 0, copies=WORD)]


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


def applied(write: MarkWrite, old: int, other: int) -> int:
    """Compute what stands in the mark afterwards."""
    return (old & write.kept) ^ (other & write.copies) ^ write.xor


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
    (write,) = writes(f"-A X -j MARK --set-xmark {value:#x}/{mask:#x}")
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
    (write,) = writes(f"-A PREROUTING -j MARK {options}")
    assert applied(write, 0x3A, 0) == after


def test_a_save_clears_by_ctmask_and_takes_by_nfmask() -> None:
    """Measured: ``--nfmask 0xff --ctmask 0xf00`` on 0x3a gave ctmark 0x3a."""
    (write,) = writes("-A X -j CONNMARK --save-mark --nfmask 0xff --ctmask 0xf00")
    assert (write.field, applied(write, 0xF00, 0x3A)) == ("ctmark", 0x3A)


def test_a_masked_copy_in_nft_stores_the_whole_word() -> None:
    """Which is not what CONNMARK does with the same masks."""
    (stored,) = writes("counter meta mark set ct mark & 0x80")
    (masked,) = writes("-A X -j CONNMARK --restore-mark --nfmask 0x80 --ctmask 0x80")
    assert applied(stored, 0x01000000, 0x80) == 0x80
    assert applied(masked, 0x01000000, 0x80) == 0x01000080


def test_what_cannot_be_read_is_said_to_be_opaque() -> None:
    """A map, a hash, another mark of the packet."""
    for text in (
        "numgen inc mod 2",
        "ip saddr map @m",
        "meta mark & ct mark",
        "0x1ffffffff",
        "meta mark << 8",
        "meta mark map { 0x1 : 0x2 }",
        "0x1 & map",
    ):
        (write,) = writes(f"meta mark set {text}")
        assert (write.opaque, write.whole) == (True, True)


@pytest.mark.parametrize(
    ("text", "xor"),
    [("meta mark set 0x1 ip saddr 192.0.2.1 accept", 0x1), ("mark set 0x2 jump x", 0x2)],
)
def test_what_follows_a_value_is_no_part_of_it(text: str, xor: int) -> None:
    """Matches may stand after statements."""
    (write,) = writes(text)
    assert (write.opaque, write.xor) == (False, xor)


@pytest.mark.parametrize(
    "text",
    [
        '-A X -m comment --comment "-j MARK --set-mark 0x1" -j ACCEPT',
        'ip saddr 192.0.2.1 accept comment "meta mark set 0x1"',
        "socket mark 0x1 accept",
    ],
)
def test_a_comment_writes_nothing(text: str) -> None:
    """Nor does a test of the socket's mark."""
    assert list(writes(text)) == []
