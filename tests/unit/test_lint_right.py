"""Rules that keep to their own bits are right, whichever bits these are."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lab.lint import source
from lab.lint.hurt import Owners
from lab.lint.parse import Collected
from lab.lint.run import findings
from lab.marks import WORD
from lab.registry.loader import load

OWNERS = Owners(load())
masks = st.integers(1, WORD - 1)
words = st.integers(0, WORD)


def checks(kind: source.Format, text: str) -> list[str]:
    """List the checks that find something."""
    collected = Collected()
    collected.add(kind, text, "x")
    return [finding.check for finding in findings(collected.subject(), OWNERS)]


@given(masks, words, st.sampled_from(["MARK --set-xmark", "MARK --set-mark"]))
def test_masked_iptables_rules_are_right(mask: int, word: int, target: str) -> None:
    """Set, test, save and restore under one mask."""
    mark = f"{word & mask:#x}/{mask:#x}"
    both = f"--nfmask {mask:#x} --ctmask {mask:#x}"
    text = (
        f"*mangle\n-A PREROUTING -j CONNMARK --restore-mark {both}\n"
        f"-A PREROUTING -m mark --mark 0x0/{mask:#x} -j {target} {mark}\n"
        f"-A FORWARD -m mark ! --mark {mark} -j DROP\n"
        f"-A POSTROUTING -j CONNMARK --save-mark {both}\nCOMMIT\n"
    )
    assert checks("iptables", text) == []


@given(masks, words)
def test_masked_nft_rules_are_right(mask: int, word: int) -> None:
    """Set and test under one mask, one bit after the other copied to the connection."""
    value, bit, rest = word & mask, mask & -mask, WORD & ~mask
    text = (
        "table inet t {\n chain c {\n  type filter hook prerouting priority mangle;\n"
        f"  ct mark & {bit:#x} == 0 meta mark set meta mark & {WORD & ~bit:#x}\n"
        f"  ct mark & {bit:#x} == {bit:#x} meta mark set meta mark | {bit:#x}\n"
        f"  meta mark set meta mark & {rest:#x} ^ {value:#x}\n"
        f"  meta mark & {mask:#x} == {value:#x} accept\n }}\n}}\n"
    )
    assert checks("nft", text) == []


@given(masks, words)
def test_masked_policy_rules_are_right(mask: int, word: int) -> None:
    """A look-up by one's own bits."""
    assert checks("policy", f"7:\tfrom all fwmark {word & mask:#x}/{mask:#x} lookup 7\n") == []


@given(masks, words)
@pytest.mark.parametrize("target", ["MARK --set-xmark", "CONNMARK --set-xmark"])
def test_the_same_rule_without_its_mask_is_found(target: str, mask: int, word: int) -> None:
    """What makes the rules above right is the mask."""
    text = f"*mangle\n-A PREROUTING -j {target} {word & mask:#x}\nCOMMIT\n"
    assert "FWM001" in checks("iptables", text)
