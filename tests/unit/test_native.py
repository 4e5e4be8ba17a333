"""Native text: iptables-restore, nft, and which bits a rule tests."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lab.marks import WORD, Mark
from lab.native import iptables_text, marktest, nft_text
from lab.native.iptables_text import Change, changes, saved
from lab.native.ledger import Ledger
from lab.native.lines import lines
from lab.native.marktest import MarkTest, restores, saves
from lab.native.rule import Rule

RESTORE = """\
*mangle
# a comment
:MINE - [0:0]
#@ src/rules.c#L1-L2
[12:3456] -A MINE -j MARK --set-mark 0x1

-I PREROUTING -j MINE
-I PREROUTING 2 -j RETURN
#@ other/repo@v2:file.c#L9
-D PREROUTING 1
COMMIT
*filter
--append FORWARD -j ACCEPT
COMMIT
"""


def test_restore_text_is_read_line_by_line() -> None:
    """Verb, table, chain, position, rule and number of every line, counters left out."""
    found = [(c.verb, c.table, c.chain, c.position, c.spec, c.number) for c in changes(RESTORE)]
    assert found == [
        ("declare", "mangle", "MINE", 0, "", 2),
        ("append", "mangle", "MINE", 1, "-j MARK --set-mark 0x1", 4),
        ("insert", "mangle", "PREROUTING", 1, "-j MINE", 6),
        ("insert", "mangle", "PREROUTING", 2, "-j RETURN", 7),
        ("delete", "mangle", "PREROUTING", 1, "", 9),
        ("append", "filter", "FORWARD", 1, "-j ACCEPT", 12),
    ]


def test_each_line_has_the_source_that_stands_above_it() -> None:
    """``#@`` gives a path of the entry's repository, or a whole place of its own."""
    found = [c.source for c in changes(RESTORE, "me/repo@v1:main.c")]
    assert found == [
        "me/repo@v1:main.c",
        "me/repo@v1:src/rules.c#L1-L2",
        "me/repo@v1:src/rules.c#L1-L2",
        "me/repo@v1:src/rules.c#L1-L2",
        "other/repo@v2:file.c#L9",
        "other/repo@v2:file.c#L9",
    ]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("-A FORWARD -j ACCEPT", "line 1: '-A FORWARD -j ACCEPT' stands outside a \\*table"),
        ("*filter\n-A FORWARD", "'filter' is never committed; expected a line COMMIT"),
        ("*fliter\nCOMMIT", "line 1: unknown table 'fliter'; known: raw, mangle"),
        ("\n*filter\nFORWARD -j ACCEPT\nCOMMIT", "line 3: 'FORWARD -j ACCEPT' is not a rule"),
        ("*filter\nCOMMIT\n:X - [0:0]", "line 3: ':X - .0:0.' stands outside a \\*table"),
    ],
)
def test_what_restore_would_not_take_is_refused_with_its_line(text: str, problem: str) -> None:
    """Lines count from 1 there."""
    with pytest.raises(ValueError, match=problem):
        list(changes(text))


def test_saved_text_gives_rules_in_order() -> None:
    """Chains without rules are there, and empty."""
    listing = "# x\n*nat\n:POSTROUTING ACCEPT [0:0]\n:A - [0:0]\n-A A -j B\n-A A -j C\nCOMMIT\n"
    assert saved(listing) == {("nat", "POSTROUTING"): [], ("nat", "A"): ["-A A -j B", "-A A -j C"]}


@given(st.lists(st.sampled_from(["x", "  x  ", "", "   ", "# c", "#@ p#L1"]), max_size=8))
def test_lines_keep_their_numbers(raw: list[str]) -> None:
    """Comments and empty lines are left out, and still counted."""
    found = list(lines("\n".join(raw)))
    assert [line.number for line in found] == [n for n, t in enumerate(raw) if t.strip() == "x"]
    assert all(line.text == "x" for line in found)


def change(verb: str, spec: str = "", position: int = 1, chain: str = "FORWARD") -> Change:
    """Make one change of ``filter``."""
    text = f"-{verb[0].upper()} {chain} {spec}"
    return Change(verb, "filter", chain, position, spec, text, 0, "")  # type: ignore[arg-type]


def rule(spec: str, chain: str = "FORWARD") -> Rule:
    """Make the rule of a change."""
    return Rule("x@1:m", "iptables", "filter", chain, f"-A {chain} {spec}")


def test_a_deleted_rule_is_found_by_its_text() -> None:
    """The first equal one goes, as in the kernel."""
    ledger = Ledger()
    for spec in ("-j A", "-j B", "-j A"):
        ledger.apply(change("append", spec), rule(spec))
    ledger.apply(change("delete", "-j A"), rule("-j A"))
    assert [r.written for r in ledger.chains["filter", "FORWARD"]] == [
        "-A FORWARD -j B",
        "-A FORWARD -j A",
    ]


def test_declaring_flushes_a_user_chain_and_keeps_a_built_in_one() -> None:
    """What ``--noflush`` does."""
    ledger = Ledger()
    for chain in ("FORWARD", "mine"):
        ledger.apply(change("append", "-j A", chain=chain), rule("-j A", chain))
        ledger.apply(change("declare", chain=chain), rule("", chain))
    assert len(ledger.chains["filter", "FORWARD"]) == 1
    assert ledger.chains["filter", "mine"] == []


def test_a_position_without_a_rule_has_no_owner() -> None:
    """Positions count from 1."""
    ledger = Ledger()
    ledger.apply(change("append", "-j A"), rule("-j A"))
    assert ledger.at("filter", "FORWARD", 1) == rule("-j A")
    assert [ledger.at("filter", "FORWARD", n) for n in (-1, 0, 2)] == [None] * 3
    assert ledger.at("filter", "OUTPUT", 1) is None


def test_a_listing_of_another_length_names_nothing() -> None:
    """Better no listed text than that of another rule."""
    ledger = Ledger()
    ledger.apply(change("append", "-j A"), rule("-j A"))
    ledger.name({("filter", "FORWARD"): ["-A FORWARD -j A", "-A FORWARD -j B"]})
    assert ledger.chains["filter", "FORWARD"][0].listed == ""
    ledger.name({("filter", "FORWARD"): ["-A FORWARD -j A"]})
    assert ledger.chains["filter", "FORWARD"][0].listed == "-A FORWARD -j A"


NFT = """\
table ip filter {
  set known { type ipv4_addr; elements = { 192.0.2.1,
     192.0.2.2 } }
  map verdicts {
    type mark : verdict
  }
  chain forward {
    type filter hook forward priority filter - 5; policy accept;
    meta mark & 0xff == 0x1 accept; counter
    ct state { established, related } accept
    log prefix "a; b" drop
  }
  chain short { meta mark set 0x1; }
}
table inet other {
  chain pre { type filter hook prerouting priority -300; accept; }
}
add rule ip6 filter forward drop
insert rule filter forward meta mark 0x2 drop
"""


def test_nft_rules_are_read_in_order() -> None:
    """Blocks of other objects are passed over, ``;`` within braces and quotes divides nothing."""
    found = [(r.family, r.table, r.chain, r.text, r.position) for r in nft_text.rules(NFT)]
    assert found == [
        ("ip", "filter", "forward", "meta mark & 0xff == 0x1 accept", 0),
        ("ip", "filter", "forward", "counter", 0),
        ("ip", "filter", "forward", "ct state { established, related } accept", 0),
        ("ip", "filter", "forward", 'log prefix "a; b" drop', 0),
        ("ip", "filter", "short", "meta mark set 0x1", 0),
        ("inet", "other", "pre", "accept", 0),
        ("ip6", "filter", "forward", "drop", 0),
        ("ip", "filter", "forward", "meta mark 0x2 drop", 1),
    ]


def test_an_index_says_before_which_rule_one_comes() -> None:
    """Nft counts rules from 0; ``insert`` puts before that one, ``add`` after it."""
    text = "insert rule inet a c index 2 drop\nadd rule inet a c index 2 accept"
    assert [(r.text, r.position) for r in nft_text.rules(text)] == [("drop", 3), ("accept", 4)]


def test_a_table_on_one_line_keeps_its_rules() -> None:
    """Nft takes it so; rules that were not read would be loaded without an owner."""
    text = "table inet a { chain c { type filter hook forward priority 0; accept; drop; } }"
    assert [r.text for r in nft_text.rules(text)] == ["accept", "drop"]


def test_base_chains_are_found_with_their_priority() -> None:
    """By name, by number, with an offset."""
    found = [(c.kind, c.hook, c.priority) for c in nft_text.base_chains(NFT)]
    assert found == [("filter", "forward", -5), ("filter", "prerouting", -300)]


@pytest.mark.parametrize(
    "text", ['include "/etc/x"', ' include "x"', 'table ip a {\n\tinclude "b"']
)
def test_a_ruleset_cannot_read_other_files(text: str) -> None:
    """A ruleset is complete in itself."""
    with pytest.raises(ValueError, match="'include' is not allowed"):
        nft_text.check(text)


def test_the_word_include_in_a_comment_is_no_directive() -> None:
    """Only a statement at the beginning of a line counts."""
    nft_text.check("table ip a { # does include\n}")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("-m mark --mark 0x4000/0x4000 -j X", MarkTest("mark", Mark(0x4000, 0x4000), True)),
        ("-m mark ! --mark 0x0/0xff0000", MarkTest("mark", Mark(0, 0xFF0000), False)),
        ("-m connmark --mark 0x80/0xff", MarkTest("ctmark", Mark(0x80, 0xFF), True)),
        ("-m mark --mark 0x1", MarkTest("mark", Mark(1, WORD), True)),
        (
            "rule add fwmark 0x80000/0xff0000 table main",
            MarkTest("mark", Mark(0x80000, 0xFF0000), True),
        ),
        ("rule add not fwmark 0x1 table 5", MarkTest("mark", Mark(1, WORD), False)),
        ("meta mark & 0xff == 0x1 accept", MarkTest("mark", Mark(1, 0xFF), True)),
        ("meta mark and 0xff != 0x0 drop", MarkTest("mark", Mark(0, 0xFF), False)),
        ("ct mark & 0xff0000 != 0x0 accept", MarkTest("ctmark", Mark(0, 0xFF0000), False)),
        ("meta mark 0x5 accept", MarkTest("mark", Mark(5, WORD), True)),
        ("meta mark != 7 accept", MarkTest("mark", Mark(7, WORD), False)),
        ("ct mark 0x80000000/1 accept", MarkTest("ctmark", Mark(1 << 31, 1 << 31), True)),
        ("mark 0x5 accept", MarkTest("mark", Mark(5, WORD), True)),
        ("mark and 0xff00 != 0x100 return", MarkTest("mark", Mark(0x100, 0xFF00), False)),
        (
            "tc ingress a: mark = 0x5, accept if mark & 0xf == 0x1",
            MarkTest("mark", Mark(1, 0xF), True),
        ),
    ],
)
def test_conditions_on_marks_are_understood(text: str, expected: MarkTest) -> None:
    """In iptables, nft and ip-rule notation."""
    assert list(marktest.tests(text)) == [expected]


@pytest.mark.parametrize(
    "text",
    [
        "-j MARK --set-xmark 0x1/0x1",
        "-j CONNMARK --restore-mark --nfmask 0xff --ctmask 0xff",
        "meta mark set 0x1",
        "mark set 0x1",
        "tc filter add dev a ingress u32 match u32 0 0 action skbedit mark 5",
        "meta mark set meta mark & 0xff00ffff ^ 0x40000",
        "ct mark set meta mark & 0xff",
        "-p udp --dport 41641 -j ACCEPT",
        "rule add pref 5270 table 52",
    ],
)
def test_writes_are_no_conditions(text: str) -> None:
    """Only what decides whether a rule matches counts."""
    assert list(marktest.tests(text)) == []


def test_the_condition_before_a_write_counts_and_the_write_does_not() -> None:
    """The restore rule of Tailscale's nft mode."""
    text = "ct mark & 0x00ff0000 != 0 meta mark set ct mark & 0x00ff0000"
    assert list(marktest.tests(text)) == [MarkTest("ctmark", Mark(0, 0xFF0000), False)]
    assert restores(text)
    assert not saves(text)


def test_two_conditions_of_one_rule_are_both_found() -> None:
    """In the order of the text."""
    text = "-m mark --mark 0x1/0x1 -m connmark ! --mark 0x2/0x2 -j X"
    assert [t.field for t in marktest.tests(text)] == ["mark", "ctmark"]


def test_save_and_restore_are_told_apart() -> None:
    """In both notations."""
    assert restores("-j CONNMARK --restore-mark --nfmask 0xff")
    assert saves("-j CONNMARK --save-mark")
    assert saves("meta mark & 0xff != 0 ct mark set meta mark & 0xff")
    assert not saves("-j CONNMARK --restore-mark")
    assert not restores("-j CONNMARK --set-xmark 0x1/0x1")


@given(st.integers(0, WORD), st.integers(0, WORD))
def test_only_set_bits_make_a_condition_true_by_being_set(value: int, mask: int) -> None:
    """``! --mark 0/m`` holds because bits are set, ``--mark 0/m`` because none is."""
    assert MarkTest("mark", Mark(0, mask), True).bits(value) == 0
    assert MarkTest("mark", Mark(0, mask), False).bits(value) == value & mask
    assert MarkTest("mark", Mark(value & mask, mask), True).bits(value) == value & mask


def test_every_table_of_iptables_is_known() -> None:
    """With the chains that keep their rules under ``--noflush``."""
    assert set(iptables_text.BUILTIN) == {"raw", "mangle", "nat", "filter", "security"}
