"""Mark arithmetic: the xmark rule, what matches, and the notation."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lab.marks import WORD, Mark, bit_ranges, word

words = st.integers(0, WORD)
marks = st.builds(Mark, words, words)


@given(marks, words)
def test_writing_zeroes_the_mask_and_xors_the_value_in(mark: Mark, before: int) -> None:
    """The rule of ``--set-xmark`` (xt_mark.c): ``(mark & ~mask) ^ value``, bit by bit."""
    after = mark.write(before)
    for bit in range(32):
        kept = 0 if mark.mask >> bit & 1 else before >> bit & 1
        assert after >> bit & 1 == kept ^ (mark.value >> bit & 1)


@given(marks, words)
def test_a_written_word_fits_and_bits_outside_value_and_mask_stay(mark: Mark, before: int) -> None:
    """Nothing but the bits of value and mask changes."""
    after = mark.write(before)
    outside = WORD & ~(mark.mask | mark.value)
    assert 0 <= after <= WORD
    assert after & outside == before & outside


@given(words, words, words)
def test_what_is_written_within_its_mask_matches(value: int, mask: int, before: int) -> None:
    """The mark that one rule sets is the mark that the next rule finds."""
    mark = Mark(value & mask, mask)
    assert mark.matches(mark.write(before))
    assert mark.write(mark.write(before)) == mark.write(before)


@given(marks, words, words)
def test_matching_looks_at_masked_bits_only(mark: Mark, one: int, noise: int) -> None:
    """Bits outside the mask never decide."""
    assert mark.matches(one) == mark.matches(one ^ (noise & ~mark.mask & WORD))


@given(words, words)
def test_a_value_outside_its_mask_never_matches(value: int, mask: int) -> None:
    """``--mark 0x3/0x1`` matches no word at all."""
    stray = value & ~mask
    assert not stray or not any(Mark(value, mask).matches(w) for w in (value, mask, 0, WORD))


@given(marks)
def test_text_round_trips(mark: Mark) -> None:
    """What is printed can be read back."""
    assert Mark.parse(str(mark)) == mark


@given(words, words)
def test_hex_and_decimal_are_the_same(value: int, mask: int) -> None:
    """Iptables takes both."""
    assert Mark.parse(f"{value}/{mask}") == Mark.parse(f"{value:#x}/{mask:#X}")


@given(marks, marks)
def test_overlapping_is_symmetric_and_means_a_common_bit(one: Mark, other: Mark) -> None:
    """Values do not count, masks do."""
    assert one.overlaps(other) == other.overlaps(one) == bool(one.mask & other.mask)


@pytest.mark.parametrize("text", ["", "0x", "-1", "0x1/", "/0xff", "4000h", "0x1/0x2/0x3", "1_0"])
def test_text_that_is_no_mark_is_refused(text: str) -> None:
    """The offender is quoted."""
    with pytest.raises(ValueError, match="is not a number; expected hex"):
        Mark.parse(text)


@pytest.mark.parametrize("text", ["0x100000000", "1/0x100000000", "4294967296"])
def test_more_than_32_bits_are_refused(text: str) -> None:
    """A mark is one word."""
    with pytest.raises(ValueError, match="does not fit in 32 bits"):
        Mark.parse(text)


@pytest.mark.parametrize(
    ("mask", "text"),
    [
        (0, "none"),
        (1, "0"),
        (0xC001, "0,14-15"),
        (0xFF0000, "16-23"),
        (WORD, "0-31"),
        (0x80000000, "31"),
    ],
)
def test_bit_ranges_are_readable(mask: int, text: str) -> None:
    """Neighbours join."""
    assert bit_ranges(mask) == text


@given(words)
def test_bit_ranges_name_every_bit_once(mask: int) -> None:
    """The ranges add up to the mask."""
    total = 0
    for part in bit_ranges(mask).replace("none", "").split(","):
        first, _, last = part.partition("-")
        if first:
            total += sum(1 << bit for bit in range(int(first), int(last or first) + 1))
    assert total == mask


def test_a_word_that_was_not_read_is_a_dash() -> None:
    """Zero is a word, None is none."""
    assert (word(None), word(0), word(0x40000)) == ("-", "0x00000000", "0x00040000")
