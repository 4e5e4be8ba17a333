"""A line that a program does not take is named with file and line, in whatever company it was."""

from __future__ import annotations

import re

import pytest
from flows import FORWARDED

from lab.errors import RuleRefused
from lab.plugin import Lab
from lab.registry.software import Ruleset, Software, Tool
from lab.scenario import Experiment, Scenario

REFUSED: tuple[tuple[Tool, str, str, str], ...] = (
    (
        "ip",
        "rule add pref 9 lookup 9",
        "# twice\nrule add pref 10 lookup 9\n\nrule add pref 9 lookup 9",
        "b.toml:10: ip refused 'rule add pref 9 lookup 9': RTNETLINK answers: File exists",
    ),
    (
        "ip",
        "route add {{ relay.net }} dev lo table 9",
        "route add {{ relay.net }} dev nowhere table 9",
        "b.toml:7: ip refused 'route add 203.0.113.0/24 dev nowhere table 9': "
        'Cannot find device "nowhere"',
    ),
    (
        "ip",
        "link set lo up",
        "link set lo mtu none",
        "b.toml:7: ip refused 'link set lo mtu none': "
        'Error: argument "none" is wrong: Invalid "mtu" value',
    ),
    (
        "ipset",
        "create a hash:ip\nadd a 192.0.2.1",
        "create b hash:ip\n# none\nadd b 192.0.2.300\nadd b 192.0.2.1",
        "b.toml:9: ipset refused 'add b 192.0.2.300': "
        "Syntax error: cannot parse 192.0.2.300: resolving to IPv4 address failed",
    ),
    (
        "tc",
        "qdisc add dev lo clsact",
        "qdisc add dev eth0 clsact\nqdisc add dev lo clsact",
        "b.toml:8: tc refused 'qdisc add dev lo clsact': "
        "Error: Exclusivity flag on, cannot modify.",
    ),
    (
        "sysctl",
        "net.ipv4.ip_forward = 1",
        "net.ipv4.ip_forward = 1\nnet.ipv4.no_such = 1",
        "b.toml:8: sysctl net.ipv4.no_such: No such file or directory",
    ),
    (
        "iptables",
        "*filter\n-A FORWARD -j ACCEPT\nCOMMIT",
        "*mangle\n-A FORWARD -j ACCEPT\n-A FORWARD -j NOWHERE\nCOMMIT",
        "b.toml:9: iptables-nft-restore refused '-A FORWARD -j NOWHERE': ",
    ),
)


def experiments(tool: Tool, *texts: str) -> list[Experiment]:
    """Give a software rulesets of one tool, in files a.toml, b.toml, …, each from line 7 on."""
    rulesets = tuple(
        Ruleset(tool, text, file=f"{letter}.toml", line=7)
        for letter, text in zip("ab", texts, strict=True)
    )
    one = Software("one", "1", "x", "bitwise", "", "", rulesets=rulesets, flows=(FORWARDED,))
    two = Software("two", "1", "x", "bitwise", "", "", flows=(FORWARDED,))
    scenario = Scenario((two, one), families=("ipv4",), variants=("nft",), orders="given")
    return list(scenario.experiments())


@pytest.mark.parametrize(("tool", "first", "second", "said"), REFUSED)
def test_a_refused_line_of_the_second_ruleset_is_named(
    lab: Lab, tool: Tool, first: str, second: str, said: str
) -> None:
    """Both are given to one process; the file, the line and the reason are the second's."""
    _, alone, _ = experiments(tool, first, second)
    with pytest.raises(RuleRefused, match=f"^{re.escape(said)}"):
        lab.run(alone)


@pytest.mark.parametrize(("tool", "first", "second", "said"), REFUSED)
def test_what_is_refused_beside_another_is_a_result(
    lab: Lab, tool: Tool, first: str, second: str, said: str
) -> None:
    """It names the line as well."""
    *_, together = experiments(tool, first, second)
    assert lab.run(together).refused.startswith(said)
