"""Every check finds what is wrong, and nothing in rules that are right."""

from __future__ import annotations

import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest

from lab.lint import page
from lab.lint.checks import CHECKS
from lab.lint.finding import Check, Finding
from lab.lint.hurt import Owners
from lab.lint.run import lint
from lab.registry.loader import load
from lab.registry.software import Software

Found = Callable[..., list[Finding]]
ENTRIES = load()
EXPECTED = tomllib.loads(Path(__file__).with_name("lint_findings.toml").read_text())
DOCS = Path(__file__).parents[2] / "docs" / "lint.md"


@pytest.fixture(scope="module")
def owners() -> Owners:
    """Return the registry's allocations."""
    return Owners(ENTRIES)


@pytest.fixture
def found(tmp_path: Path, owners: Owners) -> Found:
    """Return what lints texts, each as a file of its own, and returns the findings."""

    def lint_texts(*texts: str, owner: str = "") -> list[Finding]:
        paths = [tmp_path / f"{number}.rules" for number, _ in enumerate(texts)]
        for path, text in zip(paths, texts, strict=True):
            path.write_text(text)
        return lint(paths, owners, owner)

    return lint_texts


def ids(findings: list[Finding]) -> list[str]:
    """List the checks that found something."""
    return [finding.check for finding in findings]


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.id)
def test_a_check_finds_its_own_wrong_example(check: Check, found: Found) -> None:
    """The documentation's example is what the check is for."""
    assert check.id in ids(found(page.examples(check).wrong))


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.id)
def test_nothing_is_found_in_the_right_example(check: Check, found: Found) -> None:
    """By no check at all: what is recommended is clean."""
    assert found(page.examples(check).right) == []


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.title)
def test_the_registrys_entries_have_the_findings_that_are_explained(
    entry: Software, owners: Owners
) -> None:
    """``lint_findings.toml`` gives the reason of each; the others are clean."""
    assert sorted(set(ids(lint([Path(entry.file)], owners)))) == sorted(
        EXPECTED.get(entry.title, {})
    )


def test_every_explained_entry_is_there() -> None:
    """A table of findings of an entry that is gone would explain nothing."""
    assert set(EXPECTED) <= {entry.title for entry in ENTRIES}


def test_docs_lint_md_is_up_to_date() -> None:
    """It is made from the docstrings: write ``page.markdown()`` to it."""
    assert DOCS.read_text() == page.markdown()


def test_checks_are_numbered_in_order_and_explain_their_source() -> None:
    """Each docstring names where the claim can be looked up."""
    assert [check.id for check in CHECKS] == [f"FWM{n:03}" for n in range(1, len(CHECKS) + 1)]
    assert [check.id for check in CHECKS if "\nSource: " not in check.explanation] == []


MANGLE = "*mangle\n{}\nCOMMIT\n"
PREROUTING = "table ip t {{\n chain c {{\n  type {} hook {} priority 0;\n  {}\n }}\n}}\n"


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        ("-A PREROUTING -j MARK --set-mark 0x1", ["FWM001"]),
        ("-A PREROUTING -j MARK --set-mark 0x1/0x1", []),
        ("-A PREROUTING -j MARK --set-xmark 0x4000/0x0", []),
        ("-A PREROUTING -j MARK --or-mark 0x1", []),
        ("-A PREROUTING -j MARK --and-mark 0xfffffffe", []),
        ("-A PREROUTING -j MARK --xor-mark 0x1", []),
        ("-A PREROUTING -m mark --mark 0x0 -j MARK --set-mark 0x1", []),
        ("-A PREROUTING -m mark --mark 0x0/0xff -j MARK --set-mark 0x1", ["FWM001"]),
        ("-A PREROUTING -j CONNMARK --save-mark", ["FWM002"]),
        ("-A PREROUTING -j CONNMARK --save-mark --mask 0x80", []),
        ("-A PREROUTING -j CONNMARK --save-mark --nfmask 0x80 --ctmask 0x80", []),
        ("-A PREROUTING -m connmark --mark 0x0 -j CONNMARK --save-mark", []),
        ("-A PREROUTING -p tcp -j TPROXY --on-port 80 --tproxy-mark 0x1/0x1", []),
        ("-A PREROUTING -p tcp -j TPROXY --on-port 80 --tproxy-mark 0x1", ["FWM001"]),
        ("-A PREROUTING -m mark --mark 0x1 -j ACCEPT", ["FWM004"]),
        ("-A PREROUTING -m mark --mark 0x1/0x1 -j ACCEPT", []),
        ("-A PREROUTING -m mark --mark 0x3/0x1 -j ACCEPT", ["FWM013"]),
        ('-A PREROUTING -m comment --comment "-j MARK --set-mark 1" -j ACCEPT', []),
    ],
)
def test_iptables_rules(rule: str, expected: list[str], found: Found) -> None:
    """One rule in mangle."""
    assert ids(found(MANGLE.format(rule))) == expected


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        ("meta mark set 0x1", ["FWM001"]),
        ("meta mark set meta mark | 0x1", []),
        ("mark set mark or 0x1", []),
        ("meta mark set meta mark & 0xfffffffe ^ 0x1", []),
        ("meta mark set (meta mark & 0xfffffffe) | 0x1", []),
        ("meta mark set ct mark", ["FWM002"]),
        ("meta mark 0 meta mark set ct mark", []),
        ("meta mark set ct mark & 0x80", ["FWM003"]),
        ("ct mark set meta mark | 0x1000", ["FWM003"]),
        ("meta mark set meta mark & 0x80 ^ 0x80", ["FWM014"]),
        ("meta mark set meta mark ^ 0x80", []),
        ("meta mark { 0x1, 0x2 } accept", ["FWM004"]),
        ("meta mark & 0x3 == 0x1 accept", []),
        ("meta mark set numgen inc mod 2", ["FWM001"]),
        ('accept comment "meta mark set 0x1"', []),
    ],
)
def test_nft_rules(rule: str, expected: list[str], found: Found) -> None:
    """One rule in a prerouting chain."""
    assert ids(found(PREROUTING.format("filter", "prerouting", rule))) == expected


def test_who_is_hurt_is_named_by_the_registry(found: Found) -> None:
    """The owners of the erased bits, without the software whose rules they are."""
    (finding,) = found(MANGLE.format("-A PREROUTING -j MARK --set-xmark 0x40000"))
    assert "tailscale (bits 16-23)" in finding.hurt
    (finding,) = found(
        MANGLE.format("-A PREROUTING -j MARK --set-xmark 0x40000"), owner="tailscale"
    )
    assert not any(who.startswith("tailscale") for who in finding.hurt)


def test_a_magic_number_is_told_with_whose_bit_it_contains(found: Found) -> None:
    """wg-quick's 51820 holds the bit on which kubelet drops."""
    findings = found("100:\tnot from all fwmark 0xca6c lookup 51820\n")
    assert ids(findings) == ["FWM005", "FWM007"]
    assert "kubernetes@1.18.6 (tests 0x8000)" in findings[1].hurt


def test_a_finding_names_file_and_line(found: Found, tmp_path: Path) -> None:
    """Of the rule itself, also behind comments and blank lines."""
    (finding,) = found("# host\n\n*mangle\n:x - [0:0]\n-A x -j MARK --set-mark 1\nCOMMIT\n")
    assert (finding.file, finding.line) == (str(tmp_path / "0.rules"), 5)


POLICY = "100:\tfrom all fwmark 0x20/0x60 lookup 180\n"
MARKED = "meta mark set meta mark & 0xffffff9f | 0x20"
READ = "meta mark & 0x60 == 0x20 accept"


@pytest.mark.parametrize(
    ("kind", "hook", "rules", "policy", "expected"),
    [
        ("filter", "output", MARKED, True, ["FWM008"]),
        ("filter", "output", f"{MARKED}\n{READ}", True, ["FWM008"]),
        ("filter", "output", f"{MARKED}\n{READ}", False, []),
        ("filter", "output", MARKED, False, ["FWM008"]),
        ("route", "output", MARKED, True, []),
        ("filter", "prerouting", MARKED, True, []),
        ("filter", "output", "meta mark set meta mark | 0x1", True, []),
    ],
)
def test_a_mark_for_the_routing_needs_a_chain_that_reroutes(
    kind: str, hook: str, rules: str, policy: bool, expected: list[str], found: Found
) -> None:
    """Where a policy rule wants the mark, or nothing else reads it."""
    texts = [PREROUTING.format(kind, hook, rules), *([POLICY] if policy else [])]
    assert ids(found(*texts)) == expected


def test_a_chain_is_known_by_the_chains_that_jump_to_it(found: Found) -> None:
    """Also through a map; a chain that prerouting shares is left alone."""
    through = (
        "table ip t {\n map m { type inet_service : verdict; elements = { 80 : jump marks } }\n"
        " chain marks {\n  meta mark set meta mark | 0x20\n }\n"
        " chain out {\n  type filter hook output priority 0;\n  tcp dport vmap @m\n }\n%s}\n"
    )
    shared = " chain pre {\n  type filter hook prerouting priority 0;\n  jump marks\n }\n"
    assert ids(found(through % "", POLICY)) == ["FWM008"]
    assert ids(found(through % shared, POLICY)) == []


def test_a_local_table_beside_src_valid_mark_is_named(found: Found) -> None:
    """The policy rule that leads there is the first who is hurt."""
    policy = "9:\tfrom all fwmark 0x200/0xf00 lookup 2004\nlocal default dev lo table 2004\n"
    (finding,) = found("net.ipv4.conf.all.src_valid_mark=1\n", policy)
    assert finding.check == "FWM009"
    assert finding.hurt[0].endswith("1.rules:1: 9:\tfrom all fwmark 0x200/0xf00 lookup 2004")


NAT = "*nat\n-A PREROUTING -j MARK --set-xmark 0x1/0x1\n{}COMMIT\n"


@pytest.mark.parametrize(
    ("in_nat", "elsewhere", "expected"),
    [
        ("", "*filter\n-A FORWARD -m mark --mark 0x1/0x1 -j ACCEPT\nCOMMIT\n", ["FWM010"]),
        ("", "*filter\n-A FORWARD -m mark --mark 0x1/0x1 -j DROP\nCOMMIT\n", []),
        ("", "*filter\n-A FORWARD -m mark --mark 0x2/0x2 -j ACCEPT\nCOMMIT\n", []),
        (
            "-A POSTROUTING -m mark --mark 0x1/0x1 -j MASQUERADE\n",
            "*filter\n-A FORWARD -m mark --mark 0x1/0x1 -j ACCEPT\nCOMMIT\n",
            [],
        ),
        (
            "",
            "*mangle\n-A PREROUTING -j CONNMARK --restore-mark --mask 0x1\nCOMMIT\n"
            "*filter\n-A FORWARD -m mark --mark 0x1/0x1 -j ACCEPT\nCOMMIT\n",
            [],
        ),
    ],
)
def test_a_mark_of_nat_is_seen_by_the_first_packet_only(
    in_nat: str, elsewhere: str, expected: list[str], found: Found
) -> None:
    """What nat itself tests, drops by, or mangle restores is right."""
    assert ids(found(NAT.format(in_nat) + elsewhere)) == expected


def test_a_policy_rule_may_not_rest_on_a_mark_of_nat(found: Found) -> None:
    """Later packets take another route."""
    assert ids(found(NAT.format(""), "1:\tfrom all fwmark 0x1/0x1 lookup 7\n")) == ["FWM010"]


LISTED = """\
table ip mangle {
\tchain PREROUTING {
\t\ttype filter hook prerouting priority mangle; policy accept;
\t\tct state related,established counter packets 0 bytes 0 meta mark set ct mark and 0xff0000
\t\tcounter packets 0 bytes 0 meta mark set mark and 0xff00ffff xor 0x40000
\t}
}
"""
WARNING = "# Warning: table ip mangle is managed by iptables-nft, do not touch!\n"


def test_a_listing_of_xt_rules_is_no_clobbering_rule(found: Found) -> None:
    """As nft 1.0.6 prints CONNMARK and MARK of iptables 1.8.9: the kernel runs them masked."""
    assert ids(found(LISTED)) == ["FWM012"]
    assert ids(found(WARNING + LISTED.replace("packets 0 bytes 0 ", ""))) == ["FWM012"]


TRANSLATED = """\
nft 'add rule ip mangle PREROUTING counter meta mark set ct mark and 0x80'
nft 'add rule ip mangle OUTPUT counter ct mark set mark and 0x80'
nft 'add rule ip mangle OUTPUT counter ct mark set ct mark xor 0x16 and 0xffffffed'
nft 'add rule ip mangle OUTPUT counter meta mark set mark or 0x16'
"""


def test_what_iptables_translate_1_8_9_writes_is_known(found: Found) -> None:
    """Its MARK is right, its CONNMARK is not."""
    findings = found(TRANSLATED)
    assert [(f.check, f.line) for f in findings] == [("FWM011", n) for n in (1, 2, 3)]


def test_a_narrowed_terminal_rule_is_right(found: Found) -> None:
    """A rule for every destination is not narrowed by naming all of them."""
    rule = "9:\tfrom all to {} fwmark 0x1/0xff unreachable\n"
    assert found(rule.format("10.0.0.0/8")) == []
    assert ids(found(rule.format("0.0.0.0/0"))) == ["FWM006"]
