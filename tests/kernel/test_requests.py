"""Policy rules and routes that are sent as requests are those that ip would have made."""

from __future__ import annotations

from typing import Any

import pytest

from lab.errors import UnsupportedError
from lab.registry.loader import load
from lab.registry.software import Ruleset, Software
from lab.rules import requests
from lab.runner.pool import Pool
from lab.runner.protocol import Task
from lab.scenario import Experiment, Scenario
from lab.traffic.flow import FAMILIES, Family

WITH_IP = [s for s in load() if any(ruleset.tool == "ip" for ruleset in s.rulesets)]
READ = (
    "rule add pref 5210 fwmark 0x80000/0xff0000 table main",
    "rule add pref 5250 fwmark 0x80000 type unreachable",
    "rule add pref 5250 from {{ pod-a.ip }} prohibit",
    "rule add priority 2061 fwmark 0x3d00/0x3f00 blackhole",
    "rule add not fwmark 51820 table 51820",
    "rule add not iif eth0 pref 76 lookup 1",
    "rule add pref 0 lookup default",
    "rule add fwmark 0x0/0x40000 lookup 255",
    "rule add fwmark 0/0 lookup 256",
    "rule add pref 4294967295 lookup 4294967295",
    "rule add from {{ pods.net }} to {{ lan.ip }} iif no.such-device lookup 11",
    "rule add lookup main suppress_prefixlength 0",
    "rule add pref 9 lookup 9\nrule add pref 9 lookup 9",
    "route add {{ relay.net }} dev eth0 table 52",
    "route add {{ relay.net }} dev eth0\nroute add {{ relay.net }} dev eth0",
    "route add {{ lan.ip }} dev nowhere",
    "route add {{ pod-a.ip }} dev lo table 256",
    "route add {{ peer.ip }} via {{ client.ip }} dev eth0",
    "route add {{ peer.ip }} via {{ peer.ip }} dev eth0",
    "route add default via {{ peer.ip }} dev eth0 onlink table 2021",
    "route add local default dev lo table 100",
    "route add local {{ any }} dev lo",
    "route add local {{ peer.ip }} dev lo scope link table 5",
    "route add {{ lan.ip }} dev eth0 scope link table 2",
)
"""All of these can be read; some of them the kernel refuses."""


def installed(entry: Software, family: Family) -> Experiment:
    """Return the experiment in which nothing else is installed."""
    return next(iter(Scenario((entry,), families=(family,), variants=("nft",)).experiments()))


def ask(worker: Pool, function: str, experiment: Experiment) -> Any:
    """Call a function in a worker; skip what this user may not install."""
    try:
        return worker.call(Task(f"tests.kernel.ip_lines:{function}", experiment))
    except UnsupportedError as problem:
        pytest.skip(str(problem))


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("entry", WITH_IP, ids=lambda entry: entry.title)
def test_an_entry_leaves_the_rules_and_routes_that_ip_would_have_made(
    worker: Pool, entry: Software, family: Family
) -> None:
    """On every node, by ip's own detailed listing."""
    sent, given = ask(worker, "both_ways", installed(entry, family))
    assert sent == given
    assert sent["refused"] == [""]


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("text", READ)
def test_a_line_that_is_read_does_what_ip_would_have_done(
    worker: Pool, text: str, family: Family
) -> None:
    """Only what the kernel refuses is given to ip, which says why."""
    ruleset = Ruleset("ip", text, file="a.toml")
    entry = Software("one", "1", "x", "bitwise", "", "", rulesets=(ruleset,))
    experiment = installed(entry, family)
    sent, given = ask(worker, "both_ways", experiment)
    assert sent == given
    assert ask(worker, "ip_is_started", experiment) == bool(sent["refused"][0])


@pytest.mark.parametrize(
    "line",
    [
        "rule",
        "rule add",
        "rule add not",
        "rule add pref 9",
        "rule add lookup",
        "rule add lookup 9 lookup 9",
        "rule add table 9 lookup 9",
        "rule add pref 9 not lookup 9",
        "rule add pref 010 lookup 9",
        "rule add pref 1_0 lookup 9",
        "rule add pref -1 lookup 9",
        "rule add pref 4294967296 lookup 9",
        "rule add lookup mine",
        "rule add lookup 9 blackhole",
        "rule add fwmark 1/ lookup 9",
        "rule add fwmark 1/2/3 lookup 9",
        "rule add from all lookup 9",
        "rule add from 10.1 lookup 9",
        "rule add from 10.0.0.0/33 lookup 9",
        "rule add from 10.0.0.0/255.0.0.0 lookup 9",
        "rule add from fd00::1 lookup 9",
        "rule add iif sixteen-letters-1 lookup 9",
        "rule add iif a/b lookup 9",
        "rule add goto 9",
        "rule del lookup 9",
        "route add",
        "route add default",
        "route add default via 10.0.0.1",
        "route add unreachable default",
        "route add 10.0.0.0/8 dev lo mtu 1400",
        "route add 10.0.0.0/8 dev lo scope site",
        "route add 10.0.0.0/8 dev lo onlink onlink",
        "route add 10.0.0.0/8 dev lo dev lo",
        "route add table 9 10.0.0.0/8 dev lo",
        "route replace 10.0.0.0/8 dev lo",
        "link set lo up",
        "",
    ],
)
def test_whatever_is_written_in_another_way_is_left_to_ip(line: str) -> None:
    """Half a reading would be a rule that nobody wrote."""
    assert requests.read(line, "ipv4") is None


def test_a_text_with_one_line_that_cannot_be_read_is_left_to_ip_as_a_whole() -> None:
    """Nothing is sent before that is known."""
    assert requests.send(["rule add pref 9 lookup 9", "rule add goto 9"], "ipv4") == 0
