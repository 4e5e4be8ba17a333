"""A captured host that nobody prepared: divided, judged and shrunk as its programs would be."""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from started import run

from lab.capture import archive, pseudonyms
from lab.capture.known import known
from lab.capture.mapping import Mapping as Roles
from lab.capture.owners import divided
from lab.native import normal
from lab.native.iptables_text import changes
from lab.registry.find import find
from lab.registry.loader import load
from lab.scenario import Scenario
from lab.traffic.flow import FAMILIES, Family

pytestmark = pytest.mark.kernel
complete = pytest.mark.skipif(
    os.geteuid() != 0, reason="an archive made by an ordinary user lacks the eBPF programs"
)

Inside = Callable[..., Any]
Capture = Callable[..., Path]
MANGLE = "*mangle\n{}\nCOMMIT\n"
CLOBBER = "-A POSTROUTING -o eth1 -j MARK --set-xmark 0x0/0xff0000"


def owners(path: Path) -> dict[str, str]:
    """Divide an archive; return the titles by the owners' names."""
    host = archive.read(path)
    found = divided(str(path), host.files, known(load()), Roles(), {})
    return {owner.party.name: owner.software.title for owner in found.owners}


@complete
def test_the_programs_of_a_host_are_found_and_blamed(capture: Capture) -> None:
    """What ``check tailscale calico@3.20`` blames, with the line of the capture."""
    path = capture("tailscale", "calico@3.20")
    assert owners(path) == {
        "tailscale": "tailscale@1.102.3:iptables",
        "calico": "calico@3.20:iptables",
    }
    done = run("check", str(path), "--json")
    assert done.returncode == 1
    answer = json.loads(done.stdout)
    assert answer["host"]["left_out"] == []
    assert [o["strange"] for o in answer["host"]["owners"]] == [[], []]
    culprits = {
        (v["flow"], v["culprit"]["rule"]["chain"], v["culprit"]["rule"]["listed"])
        for v in answer["verdicts"]
        if v["outcome"] == "clobbered" and v["flow"] == "tailnet-to-lan"
    }
    rule = "-A cali-POSTROUTING -j MARK --set-xmark 0x0/0xf0000"
    assert culprits == {("tailnet-to-lan", "cali-POSTROUTING", rule)}
    (line,) = {
        v["culprit"]["rule"]["line"]
        for v in answer["verdicts"]
        if v["outcome"] == "clobbered" and v["flow"] == "tailnet-to-lan"
    }
    text = archive.read(path).files["iptables-nft.save"].split("\n")
    assert text[line - 1] == rule


@complete
def test_programs_that_coexist_come_out_green(capture: Capture) -> None:
    """In both families, each with rules of the kernel's own chains between each other's."""
    done = run("check", str(capture("kubernetes", "portmap")))
    assert done.returncode == 0, done.stdout
    assert "kubernetes 1.35 and portmap 1.9.1 coexist" in done.stdout
    assert "not of any program we know" not in done.stderr


@pytest.mark.parametrize(
    ("names", "family", "variant"),
    [
        (("tailscale@1.1.0", "calico@3.16"), "ipv4", "nft"),
        (("kubernetes@1.36:nft", "portmap:nft"), "ipv6", "nft"),
        (("mwan3", "wg-quick:iptables", "netavark@1.4.0"), "ipv4", "legacy"),
        (("cilium@1.20:native", "kubernetes"), "ipv4", "nft"),
        (("aws-vpc-cni@1.22.4", "calico@3.32.1:nft"), "ipv4", "nft"),
        (("firewalld:nft", "mullvad", "docker-overlay"), "ipv4", "nft"),
    ],
)
def test_each_owner_is_found_with_its_release(
    capture: Capture, names: tuple[str, ...], family: Family, variant: str
) -> None:
    """Nothing is left over, nothing is taken for another release."""
    entries = load()
    titles = {find(name, entries).title for name in names}
    host = archive.read(capture(*names, family=family, variant=variant))
    found = divided("host", host.files, known(entries), Roles(), {})
    assert {o.software.title for o in found.owners} == titles
    assert [o.party.strange for o in found.owners] == [()] * len(names)
    inet = ("mullvad",)  # its table has rules for the family that was not captured
    missing = [o.party.missing for o in found.owners if o.party.name not in inet]
    assert missing == [0] * len(missing)


def test_a_rule_that_nobody_knows_is_named_and_blamed(capture: Capture) -> None:
    """With its line; it is judged as the host's own."""
    extra = ((("iptables-nft-restore", "--noflush"), MANGLE.format(CLOBBER)),)
    path = capture("tailscale", extra=extra)
    done = run("check", str(path))
    assert done.returncode == 1
    assert "not of any program we know" in done.stderr
    assert f"mangle: {CLOBBER}" in done.stderr
    assert "written by   the host itself, node postrouting, table mangle" in done.stdout
    assert "tailscale/tailnet-to-lan" in done.stdout


def test_both_variants_of_iptables_and_nft_are_judged_at_once(capture: Capture) -> None:
    """As on a host on which each program has chosen its own."""
    native = (
        "table inet mine { chain p { type filter hook forward priority 5; policy drop; accept; }; }"
    )
    extra = (
        (("iptables-legacy-restore", "--noflush"), MANGLE.format(CLOBBER)),
        (("nft", "-f", "-"), native),
    )
    done = run("check", str(capture("tailscale", extra=extra)), "--flow", "tailnet-to-lan")
    assert done.returncode == 1
    assert "iptables-legacy.save:" in done.stdout
    assert "mine  " in done.stderr


OTHERS = (
    ("192.0.2.", "10.20.30."),
    ("192.168.50.", "172.22.9."),
    ("10.244.0.", "10.42.7."),
    ("172.30.0.", "10.43.0."),
    ("100.101.102.103", "100.88.1.2"),
    ("100.64.0.9", "100.77.2.3"),
    ("eth0", "ens5"),
    ("eth1", "ens6"),
    ("cali0000000000", "cali8f3a2b1c9d"),
)
"""What another host has in the place of the topology's names and addresses."""


def renamed(path: Path) -> Path:
    """Write the archive of a host on which everything has another name and address."""
    host = archive.read(path)
    files = {name: _replaced(text) for name, text in host.files.items()}
    other = path.with_name("other.tar.gz")
    other.write_bytes(archive.packed(host.manifest, files))
    return other


def _replaced(text: str) -> str:
    for ours, theirs in OTHERS:
        text = text.replace(ours, theirs)
    return text


@pytest.mark.parametrize(
    "names",
    [
        ("cilium@1.20:native", "kubernetes"),
        ("aws-vpc-cni@1.22.4", "calico@3.32.1:nft"),
        ("netbird", "mwan3"),
    ],
)
def test_a_host_is_judged_as_its_programs_are(capture: Capture, names: tuple[str, ...]) -> None:
    """The same flows are harmed by the same rules as when the entries are checked."""
    path = capture(*names)
    order = ("--order", "given", "--family", "ipv4", "--iptables", "nft", "--json")
    host, entries = run("check", str(path), "--json"), run("check", *names, *order)
    assert _harmed(host.stdout) == _harmed(entries.stdout)
    assert host.returncode == entries.returncode


def _harmed(text: str) -> set[tuple[object, ...]]:
    """Return what became of each flow, and the mark by which; rules are worded otherwise."""
    return {
        (v["owner"], v["flow"], v["outcome"], v.get("culprit", {}).get("rule", {}).get("chain"))
        for v in json.loads(text)["verdicts"]
        if v["outcome"] != "survives"
    }


def test_native_rules_in_the_tables_of_iptables_are_judged(capture: Capture) -> None:
    """One program in nft's own syntax, another by iptables-nft, in the same tables."""
    path = capture("tailscale:nft", "calico@3.20")
    assert owners(path) == {"tailscale": "tailscale@1.102.3:nft", "calico": "calico@3.20:iptables"}
    done = run("check", str(path), "--flow", "tailscale/tailnet-to-lan")
    assert done.returncode == 1
    assert "table mangle, chain cali-POSTROUTING" in done.stdout


@complete
def test_flows_that_a_host_does_not_bear_out_are_named_and_replaced(capture: Capture) -> None:
    """Its services have other ports than those of the entry; what passes its rules is asked for."""
    path = capture("kubernetes", "portmap")
    host = archive.read(path)
    text = re.sub(
        r"(-[AD] \S*(?:SERVICES|NODEPORTS|DNAT)\b.* --dports? )(\d+)",
        lambda found: f"{found[1]}{int(found[2]) + 11}",
        host.files["iptables-nft.save"],
    )
    path.write_bytes(archive.packed(host.manifest, {**host.files, "iptables-nft.save": text}))
    done = run("check", str(path))
    assert "kubernetes: not asked for, as these rules alone do not do it: " in done.stderr
    assert "asked for instead: any-out" in done.stderr
    assert done.returncode == 0, done.stdout
    assert re.search(r"kubernetes 1.35: (\d+) of \1 flows survive", done.stdout)


def test_an_archive_with_pseudonyms_is_judged_alike(capture: Capture) -> None:
    """What an address stands for is told from the rules, not from the address."""
    path = capture("tailscale", "calico@3.20")
    host = archive.read(path)
    other = path.with_name("pseudonyms.tar.gz")
    other.write_bytes(archive.packed(*pseudonyms.replaced(host.manifest, host.files, b"x" * 32)))
    here, there = (run("check", str(p), "--json") for p in (path, other))
    assert _judged(here.stdout) == _judged(there.stdout)
    assert "=pods-net" in there.stderr


def test_a_host_with_other_names_and_addresses_is_judged_alike(capture: Capture) -> None:
    """Its interfaces and addresses stand for those of the topology, and are shown."""
    path = capture("tailscale", "calico@3.20", "kubernetes", "portmap")
    here, there = (run("check", str(p), "--json") for p in (path, renamed(path)))
    assert "ens5=uplink" in there.stderr
    assert "10.42.7.0/24=pods-net" in there.stderr
    assert here.returncode == there.returncode == 1
    assert _judged(here.stdout) == _judged(there.stdout)


def _judged(text: str) -> set[tuple[object, ...]]:
    return {
        (v["owner"], v["flow"], v["outcome"], str(v["point"]), v["together"])
        for v in json.loads(text)["verdicts"]
    }


@complete
def test_what_may_be_installed_is_answered(capture: Capture) -> None:
    """Where it harms nobody, and where it is harmed; conflicts that are there already are told."""
    path = capture("kubernetes")
    done = run("check", str(path), "portmap")
    assert done.returncode == 0, done.stdout
    assert "portmap 1.9.1 may be installed here" in done.stdout
    harmed = run("check", str(capture("calico@3.20")), "tailscale")
    assert harmed.returncode == 1
    assert "tailscale 1.102.3: not without harm:" in harmed.stdout
    assert "harmed by calico" in harmed.stdout


@complete
def test_what_was_wrong_before_is_not_the_candidates_fault(
    capture: Capture, write_entry: Callable[..., Any]
) -> None:
    """The host has a conflict, the candidate none: it may be installed."""
    entry = write_entry(
        "mine",
        {
            "tool": "iptables",
            "text": "*mangle\n-A PREROUTING -i lo -j MARK --set-xmark 0x1/0x1\nCOMMIT\n",
        },
        name="in",
        **{"from": "client"},
        to="{{ node.ip }}",
        port=7101,
        answered_by="node",
    )
    path = capture("tailscale", "calico@3.20")
    done = run("check", str(path), entry.file)
    assert "mine 1 may be installed here" in done.stdout
    assert "of what is here in conflict without it" in done.stdout
    assert done.returncode == 0


def test_a_candidate_that_is_there_already_is_refused(capture: Capture) -> None:
    """It would be judged beside itself."""
    done = run("check", str(capture("tailscale")), "tailscale@1.1.0")
    assert done.returncode == 4
    assert "tailscale is on" in done.stderr


def test_the_conflict_of_a_host_is_traced_and_shrunk(capture: Capture, tmp_path: Path) -> None:
    """The script shows it without the lab, by the same rule."""
    path, script = capture("tailscale", "calico@3.20"), tmp_path / "reproduce.sh"
    flow = ("--flow", "tailscale/tailnet-to-lan")
    traced = run("trace", str(path), *flow)
    assert "by calico, postrouting, table mangle, chain cali-POSTROUTING" in traced.stdout
    done = run("shrink", str(path), *flow, "-o", str(script))
    assert done.returncode == 0, done.stderr
    text = script.read_text()
    assert text.count("\n-A ") + text.count("\n-I ") < 12
    assert "cali-POSTROUTING -j MARK --set-xmark 0x0/0xf0000" in text
    shown = subprocess.run(("sh", str(script)), capture_output=True, text=True, check=False)
    assert shown.returncode == 1, shown.stdout + shown.stderr


BETWEEN = """*mangle
:mine - [0:0]
-I PREROUTING 1 -i eth1 -j mine
-A mine -j MARK --set-xmark 0x7/0x7
-A PREROUTING -i eth1 -m mark --mark 0x7/0x7 -j ACCEPT
COMMIT
*filter
-I FORWARD 2 -i eth1 -m mark --mark 0x7/0x7 -j ACCEPT
COMMIT
"""


@pytest.mark.parametrize("family", FAMILIES)
def test_every_rule_stands_where_it_was_captured(
    capture: Capture, inside: Inside, family: Family
) -> None:
    """Owners are installed one after the other; the kernel then lists the chains as captured."""
    program = "iptables" if family == "ipv4" else "ip6tables"
    extra = (((f"{program}-nft-restore", "--noflush"), BETWEEN),)
    host = archive.read(capture("tailscale", "calico@3.20", "portmap", extra=extra, family=family))
    found = divided("host", host.files, known(load()), Roles(), {})
    scenario = Scenario(found.software, families=(family,), variants=("nft",), orders="given")
    experiment = list(scenario.experiments())[-1]
    again = archive.unpacked(inside("packed", (experiment, ())), "again")
    name = f"{program}-nft.save"
    assert _chains(again.files) == _chains(host.files)
    assert len(_chains(host.files)[name]) > 100


def _chains(files: Mapping[str, str]) -> dict[str, list[object]]:
    """Return the rules of each file in the order of each chain; tables come in any."""
    return {
        name: sorted(
            ((c.table, c.chain), n, normal.iptables(c.text))
            for n, c in enumerate(sorted(changes(files[name]), key=lambda c: (c.table, c.chain)))
            if c.verb == "append"
        )
        for name in ("iptables-nft.save", "ip6tables-nft.save")
    }


@pytest.mark.parametrize(
    ("rule", "told"),
    [
        ("-A OUTPUT -m nosuchmatch -j MARK --set-xmark 0x1/0x1", "refused"),
        ("-A OUTPUT -j MARK --set-xmark 'x", "No closing quotation"),
        ("-D OUTPUT 1", "expected what is listed"),
    ],
)
def test_rules_that_cannot_be_loaded_here_name_their_line(
    capture: Capture, rule: str, told: str
) -> None:
    """Never left out without a word."""
    path = capture("portmap")
    host = archive.read(path)
    text = host.files["iptables-nft.save"] + MANGLE.format(rule)
    line = text.split("\n").index(rule) + 1
    path.write_bytes(archive.packed(host.manifest, {**host.files, "iptables-nft.save": text}))
    done = run("check", str(path))
    assert done.returncode == 4
    assert f"{path}:iptables-nft.save:{line}" in done.stderr
    assert told in done.stderr


def test_what_is_not_in_the_archive_makes_no_answer_green(capture: Capture) -> None:
    """Rules that could not be captured could do anything."""
    path = capture("kubernetes", "portmap")
    host = archive.read(path)
    files = {name: text for name, text in host.files.items() if name != "ruleset.nft"}
    gap = archive.Gap("ruleset.nft", "'nft' is not installed", lost=True)
    manifest = archive.Manifest(
        host.manifest.format, "h", "k", "2026-01-01T00:00:00Z", False, (), (gap,)
    )
    path.write_bytes(archive.packed(manifest, files))
    done = run("check", str(path))
    assert done.returncode == 2
    assert "LEFT OUT" in done.stderr
    assert "could not be installed here" in done.stdout
