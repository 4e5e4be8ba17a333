"""A host that is captured is all there, and is as it was."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from started import run

import lab
from lab.capture import archive
from lab.capture.archive import Host
from lab.errors import SandboxError
from lab.marks import Mark
from lab.registry.find import find
from lab.registry.loader import load
from lab.scenario import Scenario
from lab.traffic.flow import FAMILIES, Family

pytestmark = pytest.mark.kernel

Inside = Callable[..., Any]
Done = subprocess.CompletedProcess[bytes]
PASSED_OVER = re.compile(r"net\..*\b(?:send_redirects|proxy_\w+|arp_ignore|nf_conntrack\w+) =")
"""Sysctls that some software sets and that give no mark a meaning."""


@contextmanager
def namespace(script: str = "", *, without: Sequence[str] = ()) -> Iterator[list[str]]:
    """Run a script in a new namespace; give the words before a command that is to run there.

    Then the programs named by ``without`` are not installed there.
    """
    hidden = "\n".join(f"mount --bind /dev/null $(readlink -f $(command -v {p}))" for p in without)
    script = f"set -e\n{script}\n{hidden}\necho ready\nexec sleep infinity"
    maker = ("unshare", "--net", "--mount", "sh")
    with subprocess.Popen(maker, stdin=-1, stdout=-1, text=True) as process:
        assert process.stdin
        assert process.stdout
        try:
            process.stdin.write(script)
            process.stdin.close()
            assert process.stdout.readline() == "ready\n"
            yield ["nsenter", "--target", str(process.pid), "--net", "--mount"]
        finally:
            process.kill()


def started(*arguments: str, inside: Sequence[str] = (), **options: Any) -> Done:
    """Run the command line, with the words of ``namespace`` before it."""
    return subprocess.run(
        (*inside, sys.executable, "-m", "lab", *arguments),
        capture_output=True,
        check=False,
        timeout=120,
        env=os.environ | {"PYTHONPATH": str(Path(lab.__file__).parents[1])},
        **options,
    )


def taken(inside: Sequence[str], *arguments: str) -> Host:
    """Capture a namespace."""
    done = started("capture", "-o", "-", *arguments, inside=inside)
    assert done.returncode == 0, done.stderr
    return archive.unpacked(done.stdout, "standard output")


@pytest.fixture
def root() -> None:
    """Skip where the user is not root: nsenter needs the namespace to be its own."""
    if os.geteuid():
        pytest.skip("needs root: namespaces are made by unshare(1)")


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize(
    ("others", "legacy"),
    [
        (("calico", "mullvad", "mwan3"), ("tailscale",)),
        (("kubernetes", "cilium", "tailscale"), ("mwan3", "wg-quick")),
        (("calico@3.32.1:nft", "openwrt-pbr", "aws-vpc-cni"), ("istio", "portmap")),
    ],
)
def test_every_rule_about_marks_is_in_the_archive(
    inside: Inside, tmp_path: Path, family: Family, others: tuple[str, ...], legacy: tuple[str, ...]
) -> None:
    """Of both variants of iptables, of nft and of ip, and the sysctls; the node is as it was."""
    known = load()
    path = tmp_path / "host.tar.gz"
    software = tuple(find(name, known) for name in others)
    scenario = Scenario(software, families=(family,), variants=("nft",))
    experiment = next(e for e in scenario.experiments() if len(e.software) == len(others))
    beside = tuple(find(n, known) for n in legacy)
    rules, before, after = inside("captured", (experiment, beside, ("-o", str(path))))
    host = archive.read(path)
    lines = [x for text in host.files.values() for x in text.splitlines()]
    shapes = {shape(line) for line in lines}
    wanted = {rule: shape(rule) for rule in rules if not PASSED_OVER.match(rule)}
    assert [rule for rule, found in wanted.items() if found not in shapes] == []
    kinds = ("-A ", "rule add", "net.")
    assert all(any(rule.startswith(kind) for rule in wanted) for kind in kinds)
    assert len(wanted) > 20
    assert {k: v for k, v in before.items() if after[k] != v} == {}
    assert ("direct-action" in host.files["tc.txt"]) == ("cilium" in others)
    unasked = {"tc.txt"} if os.geteuid() else set()  # an ordinary user may not ask for eBPF
    assert {gap.file for gap in host.manifest.gaps} <= unasked


def shape(line: str) -> tuple[str, ...]:
    """Return what a rule says, however ``ip`` orders and spells it; others are compared as text."""
    if not re.match(r"rule add |\d+:\s", line):
        return (" ".join(line.split()),)
    words = line.replace("table", "lookup").replace("unreachable", "lookup unreachable").split()
    mark = Mark.parse(words[words.index("fwmark") + 1]) if "fwmark" in words else None
    found = words[words.index("lookup") + 1] if "lookup" in words else ""
    return ("rule", str("not" in words), str(mark), found)


NATIVE = """nft -f - <<'END'
table inet mine {
    set ports { type inet_service; flags interval; elements = { 80, 443-500 }; }
    set seen { type ipv4_addr; flags dynamic,timeout; timeout 1m; elements = { 8.8.4.4 }; }
    map marks { type ipv4_addr : mark; elements = { 10.1.1.1 : 0x5, 8.8.8.8 : 0x6 }; }
    counter hits { packets 4 bytes 5; }
    chain pre {
        type filter hook prerouting priority mangle - 1; policy accept;
        tcp dport @ports counter meta mark set meta mark & 0xfffff0ff | 0x300 comment "of Ann"
        ip saddr @seen counter name hits meta mark set ip saddr map @marks
        iif lo ct mark set meta mark & 0xff00 log prefix "x" limit rate 5/second accept
    }
}
END
"""


@pytest.mark.parametrize("option", [[], ["--pseudonyms"]])
def test_a_ruleset_can_be_loaded_again(root: None, option: list[str]) -> None:
    """And is then what it was."""
    with namespace(NATIVE) as inside:
        text = taken(inside, *option).files["ruleset.nft"]
    again = subprocess.run(
        ("unshare", "--net", "sh", "-c", "nft -f - && nft -s -T list ruleset"),
        input=text, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert again.stderr == ""
    assert again.stdout == text
    assert "8.8.4.4" not in text
    assert ("8.8.8.8" in text) == ("of Ann" in text) == (option == [])


MASKED = (
    "iptables-nft -t mangle -A PREROUTING -j CONNMARK --restore-mark --nfmask 0xff --ctmask 0xff"
)
MIXED = f"""
{MASKED}
iptables-nft -t filter -A FORWARD -m mark --mark 0x40000/0xff0000 -j ACCEPT
nft add chain ip filter own
nft 'add rule ip filter own meta mark set meta mark & 0xff00ffff | 0x40000'
iptables-nft -t nat -A POSTROUTING -m addrtype --src-type LOCAL -j MASQUERADE
"""


def test_a_native_rule_among_those_of_iptables_hides_no_other_table(root: None) -> None:
    """At one, iptables-nft-save ends before it prints the tables after it."""
    with namespace(MIXED) as inside:
        host = taken(inside)
    saved = host.files["iptables-nft.save"]
    assert "-A PREROUTING -j CONNMARK --restore-mark --nfmask 0xff --ctmask 0xff" in saved
    assert "-A POSTROUTING -m addrtype --src-type LOCAL -j MASQUERADE" in saved
    assert "*filter" not in saved
    listed = host.files["ruleset.nft"]
    assert "meta mark & 0x00ff0000 == 0x00040000 counter accept" in listed
    assert "meta mark set meta mark & 0xff00ffff | 0x00040000" in listed.replace("ff04", "ff00")
    assert "table ip mangle" not in listed
    assert host.manifest.gaps == ()


BESIDE = """
iptables-nft -t filter -N DOCKER
iptables-nft -t filter -A FORWARD -m comment --comment docker -j DOCKER
iptables-nft -t filter -A DOCKER -j CONNMARK --save-mark --nfmask 0xf --ctmask 0xf
nft add chain ip filter ts-forward
nft insert rule ip filter FORWARD counter jump ts-forward
nft 'add rule ip filter ts-forward iifname ts0 meta mark set meta mark & 0xff00ffff | 0x40000'
nft 'add rule ip filter ts-forward oifname ts0 ip saddr 100.64.0.0/10 counter drop'
nft add chain ip filter last '{ type filter hook forward priority 10; }'
nft add rule ip filter last jump DOCKER
"""


def test_chains_of_a_mixed_table_are_each_in_the_form_that_is_true(root: None) -> None:
    """Those of Docker beside those that Tailscale makes by nft: together they load as they were."""
    everything = ("sh", "-c", "nft -s list ruleset; cat /proc/thread-self/net/ip_tables_names")
    with namespace(BESIDE) as inside:
        before = subprocess.run((*inside, *everything), capture_output=True, text=True, check=True)
        host = taken(inside)
        after = subprocess.run((*inside, *everything), capture_output=True, text=True, check=True)
    assert after.stdout == before.stdout
    assert host.manifest.gaps == ()
    assert host.files["iptables-nft.save"].splitlines()[1:] == [
        "*filter",
        ":FORWARD ACCEPT [0:0]",
        ":DOCKER - [0:0]",
        ":ts-forward - [0:0]",
        "-A FORWARD -j ts-forward",
        "-A FORWARD -m comment --comment docker -j DOCKER",
        "-A DOCKER -j CONNMARK --save-mark --nfmask 0xf --ctmask 0xf",
        "COMMIT",
    ]
    listed = host.files["ruleset.nft"]
    assert "meta mark set meta mark & 0xff04ffff | 0x00040000" in listed
    assert "\tchain DOCKER {\n\t}\n" in listed
    assert "CONNMARK" not in listed
    assert "ct mark" not in listed
    load = "iptables-nft-restore && nft -f - <<'END'\n" + listed + "END\nnft -s list ruleset"
    again = subprocess.run(
        ("unshare", "--net", "sh", "-c", load),
        input=host.files["iptables-nft.save"], capture_output=True, text=True, check=False,
    )  # fmt: skip
    rules = {line.strip() for line in before.stdout.splitlines() if line.startswith("\t\t")}
    assert {line.strip() for line in again.stdout.splitlines() if line.startswith("\t\t")} == rules


def test_what_no_program_lists_truly_is_left_out_and_told(root: None) -> None:
    """A native rule that iptables cannot say, in a chain with one that nft cannot."""
    hidden = "iptables-nft -t filter -A own -j CONNMARK --save-mark --nfmask 0xf --ctmask 0xf"
    with namespace(f"{MIXED}\n{hidden}") as inside:
        host = taken(inside)
    assert "0x00040000 counter accept" in host.files["ruleset.nft"]
    assert "meta mark set" not in host.files["ruleset.nft"]
    assert "ct mark" not in host.files["ruleset.nft"]
    (gap,) = host.manifest.gaps
    assert (gap.file, gap.lost) == ("iptables-nft.save", True)
    assert gap.reason.startswith("the rules of chain ip filter own are left out: 'iptables-nft -t ")


@pytest.mark.parametrize(
    ("without", "told"),
    [
        ("nft", {"ruleset.nft": "'nft' is not installed", "sets.txt": "sets of nftables"}),
        ("ipset", {"sets.txt": "sets of ipset: 'ipset' is not installed"}),
        ("tc", {"tc.txt": "'tc' is not installed; install the package 'iproute2'"}),
        ("iptables-nft", {"ruleset.nft": "'iptables-nft-save' is not installed"}),
        ("iptables-legacy", {"iptables-legacy.save": "'iptables-legacy-save' is not installed"}),
    ],
)
def test_a_missing_program_is_told_and_the_rest_is_there(
    root: None, without: str, told: dict[str, str]
) -> None:
    """What it would have listed is not taken for empty."""
    legacy = "iptables-legacy -t mangle -A OUTPUT -j MARK --set-mark 0x5/0xff"
    with namespace(f"{NATIVE}\n{MASKED}\n{legacy}", without=[without]) as inside:
        host = taken(inside)
    gaps = {gap.file: gap.reason for gap in host.manifest.gaps if gap.lost}
    remarks = [gap.reason for gap in host.manifest.gaps if not gap.lost]
    assert all(remark.startswith("elements of set inet mine seen") for remark in remarks)
    assert set(gaps) == set(told)
    assert all(part in gaps[name] for name, part in told.items())
    unread = {name for name in told if name not in host.files}
    assert unread == {name for name in told if name not in ("sets.txt", "ruleset.nft")} | (
        {"ruleset.nft"} if without == "nft" else set()
    )
    if without != "iptables-nft":
        assert "--restore-mark --nfmask 0xff --ctmask 0xff" in host.files["iptables-nft.save"]
    assert "ct mark and 0xff" not in host.files.get("ruleset.nft", "")


def test_capturing_makes_no_legacy_table(root: None) -> None:
    """Only those that are there are listed."""
    names = "cat /proc/thread-self/net/ip_tables_names"
    with namespace("iptables-legacy -t mangle -A OUTPUT -j MARK --set-mark 0x5/0xff") as inside:
        host = taken(inside)
        found = subprocess.run(
            (*inside, *names.split()), capture_output=True, text=True, check=True
        )
    assert found.stdout == "mangle\n"
    saved = host.files["iptables-legacy.save"]
    assert "-A OUTPUT -j MARK --set-xmark 0x5/0xff" in saved
    assert saved.count("COMMIT") == 1
    assert host.files["ip6tables-legacy.save"] == ""


def test_a_named_namespace_is_read_from_outside(root: None, tmp_path: Path) -> None:
    """By the path of one of its processes; the caller's own is not in the archive."""
    with namespace("ip link add inner type dummy || ip link add inner type veth") as inside:
        path = f"/proc/{inside[2]}/ns/net"
        done = started("capture", "--netns", path, "-o", str(tmp_path / "x.tar.gz"))
    assert done.returncode == 0, done.stderr
    assert "inner" in archive.read(tmp_path / "x.tar.gz").files["links.txt"]


def test_an_ordinary_user_is_told_what_is_missing(root: None, tmp_path: Path) -> None:
    """In one line; nothing is written."""
    done = subprocess.run(
        ("setpriv", "--reuid=65534", "--clear-groups", sys.executable, "-m", "lab", "capture"),
        capture_output=True, text=True, check=False, cwd="/",
        env=os.environ | {"PYTHONPATH": str(Path(lab.__file__).parents[1])},
    )  # fmt: skip
    if "No module" in done.stderr or "Permission" in done.stderr.split("error:")[0]:
        pytest.skip("another user cannot read this clone")
    assert done.returncode == 4
    assert done.stderr.startswith(
        "fwmark-lab: error: cannot read this host: this process lacks CAP_"
    )
    assert "sudo fwmark-lab capture" in done.stderr


KEY = "aJ9zQ0rYlM3pX5tVwB7cD1eF2gH4iK6nO8qS+uU/xEc="


def test_no_key_is_in_an_archive(root: None, tmp_path: Path) -> None:
    """Neither of xfrm, nor of WireGuard; the marks of both are."""
    states = (
        ("esp", "auth 'hmac(sha1)' 0x1111111111111111111111111111111111111111 enc 'cbc(aes)' "
                "0x22222222222222222222222222222222 mark 0x3 mask 0xff"),
        ("ah", "auth 'hmac(sha1)' 0x1111111111111111111111111111111111111111 mark 0x3 mask 0xff"),
    )  # fmt: skip
    script = "\n".join(
        f"ip xfrm state add src 10.0.0.1 dst 10.0.0.2 proto {p} spi {n} {rest} || true"
        for n, (p, rest) in enumerate(states, 256)
    )
    script += "\nip xfrm policy add dir out mark 0x7 mask 0xf tmpl proto esp mode tunnel"
    key = tmp_path / "key"
    key.write_text(f"{KEY}\n")
    script += (
        f"\nip link add wg0 type wireguard && wg set wg0 fwmark 0x77 private-key {key} || true"
    )
    with namespace(script) as inside:
        host = taken(inside)
        states_there = subprocess.run(
            (*inside, "ip", "xfrm", "state"), capture_output=True, text=True, check=True
        ).stdout
        links = subprocess.run(
            (*inside, "ip", "-o", "link"), capture_output=True, text=True, check=True
        ).stdout
    text = "\n".join(host.files.values())
    assert "11111111" not in text
    assert "22222222" not in text
    assert KEY not in text
    assert "mark 0x7/0xf" in host.files["xfrm.txt"]
    assert ("mark 0x3/0xff" in host.files["xfrm.txt"]) == ("11111111" in states_there)
    assert ("wg show wg0 fwmark: 0x77" in text) == ("wg0" in links)


def test_list_shows_what_is_in_an_archive(root: None, tmp_path: Path) -> None:
    """For people, and as JSON; a missing or damaged one is an error."""
    path = tmp_path / "x.tar.gz"
    with namespace() as inside:
        done = started("capture", "-o", str(path), inside=inside)
    assert done.returncode == 0
    assert done.stdout == b""
    shown = started("capture", "--list", str(path)).stdout.decode()
    assert f"{path}: host " in shown
    assert re.search(r"^ +\d+ lines  sysctl.txt$", shown, re.MULTILINE)
    content = json.loads(started("capture", "--list", str(path), "--json").stdout)
    assert set(content["lines"]) == set(archive.NAMES)
    path.write_bytes(path.read_bytes()[:200])
    broken = started("capture", "--list", str(path))
    assert broken.returncode == 4
    assert broken.stderr.decode() == (
        f"fwmark-lab: error: {path}: cut short; copy or capture it again\n"
    )


def test_programs_at_tcx_are_told(inside: Inside) -> None:
    """They are no filters, and ``tc`` does not show them."""
    try:
        before, attached, after = inside("attached_at_tcx")
    except SandboxError as problem:
        pytest.skip(f"no tcx here: {problem}")
    assert before == after == []
    assert attached == [("lo", "tcx ingress", ("lab",))]


def test_a_host_with_pseudonyms_is_judged_alike(inside: Inside, tmp_path: Path) -> None:
    """Rules and routes still agree: the same owners, and the same becomes of their flows."""
    known = load()
    software = (find("calico", known), find("kubernetes", known))
    scenario = Scenario(software, families=("ipv4",), variants=("nft",))
    experiment = next(e for e in scenario.experiments() if len(e.software) == len(software))
    found = []
    for options in ((), ("--pseudonyms",)):
        path = tmp_path / f"{len(options)}.tar.gz"
        inside("captured", (experiment, (find("tailscale", known),), ("-o", str(path), *options)))
        done = run("check", str(path), "--family", "ipv4", "--json")
        assert done.returncode == 1, done.stderr
        verdicts = json.loads(done.stdout)["verdicts"]
        told = ((v["outcome"], v["owner"], v["flow"], str(v.get("point"))) for v in verdicts)
        found.append(sorted(told))
    assert found[0] == found[1]
    assert {outcome for outcome, *_ in found[0]} > {"survives", "clobbered"}
