"""Comparing rules with upstream's: what may differ, what may not, and where a key stands."""

from __future__ import annotations

import pytest

from lab.fidelity.match import match
from lab.fidelity.restore import completed, undeclared_sets
from lab.fidelity.shape import concerns_marks, shape, without_comment
from lab.native.rule import Rule
from lab.registry.lines import key_lines, line_of


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        ("-A c -s 10.0.0.2/32 -i cali1 -j MARK --set-xmark 0x1/0x1",) * 2,
        (
            '-A c -s 10.0.0.2/32 -m comment --comment "a b" -j MARK --set-xmark 0x1/0x1',
            "-A d -s fd00::1/128 -j MARK --set-xmark 0x1/0x1",
        ),
        ('iifname "eni*" counter jump x comment "y"', 'iifname "lo" jump x'),
        ("ip saddr 10.1.0.0/16 tcp dport 80 accept", "ip saddr 10.2.3.4 tcp dport 8080 accept"),
    ],
)
def test_surroundings_may_differ(theirs: str, ours: str) -> None:
    """Chain, comment, addresses, devices, ports and counters."""
    assert shape(theirs) == shape(ours)


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        ("-A c -j MARK --set-xmark 0x1/0x1", "-A c -j MARK --set-xmark 0x1/0xffffffff"),
        ("-A c -m mark --mark 0x1 -j DROP", "-A c -m mark ! --mark 0x1 -j DROP"),
        ("-A c -s 10.0.0.1/32 -j DROP", "-A c -j DROP"),
        ("-A c ! -s 10.0.0.1/32 -j DROP", "-A c -s 10.0.0.1/32 -j DROP"),
        ("meta mark set ct mark", "meta mark set ct mark & 0x000000f0"),
        ("meta mark 0x00000001 drop", "meta mark 0x00000002 drop"),
    ],
)
def test_marks_conditions_and_verdicts_may_not(theirs: str, ours: str) -> None:
    """Nor may a condition be missing or inverted."""
    assert shape(theirs) != shape(ours)


def test_a_comment_on_marks_is_no_mark() -> None:
    """Only what the kernel acts on counts."""
    assert not concerns_marks('-A c -m comment --comment "a mark" -j DROP')
    assert not concerns_marks("-A AWS-CONNMARK-CHAIN-0 -d 10.0.0.0/8 -j RETURN")
    assert concerns_marks("-A c -j KUBE-MARK-MASQ")
    assert without_comment('tcp dport 80 accept comment "x"') == "tcp dport 80 accept"


def rule(chain: str, text: str) -> Rule:
    """Return a listed rule of the mangle table."""
    return Rule("x", "iptables", "mangle", chain, text, text)


def test_rules_are_found_in_their_chain_and_order() -> None:
    """What stands in another chain, or before the one found last, is missing."""
    one, two = (f"-A c -j MARK --set-xmark {n}" for n in ("0x1/0x1", "0x2/0x2"))
    ours = [rule("c", one), rule("c", two)]
    assert match([rule("c", one), rule("c", two)], ours).missing == ()
    assert match([rule("c", two), rule("c", one)], ours).missing == (rule("c", one),)
    assert match([rule("d", one)], ours).missing == (rule("d", one),)
    assert match([rule("c", two)], ours).positions == {1}


def test_a_rule_that_was_not_listed_is_never_found() -> None:
    """Two empty listings are not alike."""
    bare = Rule("x", "iptables", "mangle", "c", "-A c -j DROP")
    assert match([bare], [bare]).missing == (bare,)


def test_fragments_are_completed() -> None:
    """Chains and sets that rules use are declared."""
    text = "*nat\n-A KUBE-SERVICES -m set --match-set S dst,dst -j KUBE-MARK-MASQ\nCOMMIT\n"
    assert completed(text).split("\n")[1:3] == [
        ":KUBE-SERVICES - [0:0]",
        ":KUBE-MARK-MASQ - [0:0]",
    ]
    assert undeclared_sets(text, "", "ipv6") == "create S hash:ip,port family inet6"
    assert undeclared_sets(text, "create S hash:net\n", "ipv6") == ""


def test_keys_are_found_on_their_lines() -> None:
    """Also below headers, in repeated tables and after long texts."""
    source = (
        'name = "x"\n[[flow]]\nport = 1\n[[flow.relies]]\nat = "a"\n'
        "[[ruleset]]\ntext = '''\nport = 9\n[flow]\n'''\n"
        '[[flow]]\nport = 2\n[[flow.relies]]\nat = "b"\n[facts]\n"a.b" = "c"\n'
    )
    found = key_lines(source)
    lines = source.split("\n")
    assert lines[found["flow[1].port"] - 1] == "port = 2"
    assert lines[found["flow[1].relies[0].at"] - 1] == 'at = "b"'
    assert lines[found["facts.a.b"] - 1] == '"a.b" = "c"'
    assert line_of("flow[1].name", found) == found["flow[1]"]
    assert line_of("nothing", found) == 1
