"""Marks of tc, xfrm and eBPF, what ``iptables -S`` prints, files that look like another kind."""

from __future__ import annotations

from pathlib import Path

import pytest

from lab.errors import UsageError
from lab.lint.hurt import Owners
from lab.lint.parse import Collected
from lab.lint.run import findings, lint
from lab.lint.source import Format, detect
from lab.registry.loader import load

NOBODY = Owners(())
EVERYBODY = Owners(load())


def found(text: str, kind: Format, owners: Owners = NOBODY) -> list[tuple[str, int]]:
    """Return check and line of each finding."""
    collected = Collected()
    collected.add(kind, text, "file")
    return [(f.check, f.line) for f in findings(collected.subject(), owners)]


@pytest.mark.parametrize(
    ("line", "checks"),
    [
        ("filter add dev eth0 parent 1: protocol ip handle 0x10 fw flowid 1:10", ["FWM004"]),
        ("filter parent 1: protocol ip pref 1 fw chain 0 handle 0x10 classid 1:1", ["FWM004"]),
        ("filter add dev eth0 parent 1: protocol ip handle 0x10/0xf0 fw flowid 1:10", []),
        ("filter add dev eth0 parent 1: u32 match mark 0x1 0xff flowid 1:1", []),
        ("filter add dev eth0 parent 1: u32 match mark 0x1 0xffffffff flowid 1:1", ["FWM004"]),
        ("filter add dev eth0 parent 1: u32 match mark 0x3 0x1 flowid 1:1", ["FWM013"]),
        ("filter add dev eth0 egress matchall action skbedit mark 0x1", ["FWM001"]),
        ("filter add dev eth0 egress matchall action skbedit mark 0x1/0xff", []),
        ("filter add dev eth0 egress matchall action connmark", ["FWM002"]),
        ("filter add dev eth0 ingress matchall action connmark", []),
        ("filter add dev eth0 parent ffff: matchall action ctinfo cpmark", []),
        ("filter add dev eth0 ingress matchall action skbedit mark 0x1", []),
        ("action order 1:  skbedit  mark 1 pipe", []),
    ],
)
def test_marks_of_tc(line: str, checks: list[str]) -> None:
    """What comes in bears no mark yet; a listing does not say where its actions stand."""
    assert [check for check, _ in found(line, "tc")] == checks


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("xfrm policy add dir out mark 0x3e00 mask 0xff00 tmpl proto esp", []),
        ("xfrm policy add dir out mark 0x3e00 tmpl proto esp", [("FWM005", 1)]),
        ("ip xfrm state add proto esp spi 1 output-mark 0xe00/0xf00", []),
        ("ip xfrm state add proto esp spi 1 output-mark 0xe00", [("FWM001", 1)]),
        ("ip xfrm state add proto esp spi 1 set-mark 0xe00 mask 0xf00", []),
        ("ip xfrm state add proto esp spi 1 mark 0x3 mask 0x1", [("FWM013", 1)]),
    ],
)
def test_marks_of_xfrm_commands(text: str, expected: list[tuple[str, int]]) -> None:
    """They stand among policy rules and routes."""
    assert found(text, "policy") == expected


def test_marks_of_xfrm_listings() -> None:
    """As ``ip xfrm policy`` and ``ip xfrm state`` print them."""
    text = (
        "src 10.1.0.0/24 dst 10.2.0.0/24\n\tdir out priority 0\n\tmark 0x3e00/0xff00\n"
        "src 192.0.2.1 dst 192.0.2.2\n\tproto esp spi 0x1\n\tmark 0x1\n\toutput-mark 0xe00\n"
    )
    assert detect(Path("host"), text) == "xfrm"
    assert found(text, "xfrm") == [("FWM001", 7), ("FWM005", 6)]


@pytest.mark.parametrize(
    ("line", "checks"),
    [
        ("tc ingress lxc0: mark = 0x200 if udp", []),
        ("tc egress eth0: mark = 0x200 if udp", ["FWM001"]),
        ("tc egress eth0: mark = mark & 0xfffff0ff | 0x200", []),
        ("tc egress eth0: drop if mark == 0x200", ["FWM004"]),
        ("tc egress eth0: drop if mark & 0xf00 == 0x200", []),
    ],
)
def test_marks_of_ebpf_lines(line: str, checks: list[str]) -> None:
    """In the lab's own words, as entries write them."""
    assert [check for check, _ in found(line, "bpf")] == checks


def test_a_magic_number_is_one_wherever_it_is_set() -> None:
    """0xca6c has kubelet's bit."""
    for text, kind in (
        ("filter add dev eth0 ingress matchall action skbedit mark 0xca6c", "tc"),
        ("ip xfrm state add proto esp spi 1 output-mark 0xca6c", "xfrm"),
        ("tc ingress lxc0: mark = 0xca6c", "bpf"),
    ):
        assert "FWM007" in [check for check, _ in found(text, kind, EVERYBODY)]  # type: ignore[arg-type]


FILTER = "-P INPUT ACCEPT\n-P FORWARD ACCEPT\n-P OUTPUT ACCEPT\n"
NAT = "-P PREROUTING ACCEPT\n-P INPUT ACCEPT\n-P OUTPUT ACCEPT\n-P POSTROUTING ACCEPT\n"
MANGLE = NAT + "-P FORWARD ACCEPT\n"


@pytest.mark.parametrize(
    ("text", "table"),
    [
        (FILTER + "-A FORWARD -m mark --mark 0x1/0x1 -j DROP\n", "filter"),
        (NAT + "-A PREROUTING -j MARK --set-xmark 0x1/0x1\n", "nat"),
        (MANGLE + "-N mine\n-A mine -j MARK --set-xmark 0x1/0x1\n", "mangle"),
        ("-P PREROUTING ACCEPT\n-P OUTPUT ACCEPT\n-A OUTPUT -j MARK --or-mark 0x1\n", "raw"),
        ("-A FORWARD -m mark --mark 0x1/0x1 -j DROP\n", "filter"),
        ("-N PREROUTING\n-A PREROUTING -j MARK --or-mark 0x1\n", "filter"),
    ],
)
def test_what_iptables_s_prints_is_read(text: str, table: str, tmp_path: Path) -> None:
    """Its policies tell which table it is."""
    path = tmp_path / "listing"
    path.write_text(text)
    assert detect(path, text) == "listing"
    collected = Collected()
    collected.add("listing", text, str(path))
    assert {line.chain[1] for line in collected.lines} == {table}


def test_several_listings_may_follow_one_another(tmp_path: Path) -> None:
    """The mark that nat sets is asked for in filter: line 5 and line 9."""
    path = tmp_path / "listing"
    path.write_text(
        NAT
        + "-A PREROUTING -j MARK --set-xmark 0x100/0x100\n"
        + FILTER
        + "-A FORWARD -m mark --mark 0x100/0x100 -j ACCEPT\n"
    )
    (finding,) = lint([path], NOBODY)
    assert (finding.check, finding.line) == ("FWM010", 5)
    assert "listing:9 asks" in finding.why


def test_a_broken_listing_names_file_and_line(tmp_path: Path) -> None:
    """As a dump does."""
    path = tmp_path / "listing"
    path.write_text("-P INPUT ACCEPT\n-Z\n")
    with pytest.raises(UsageError, match=r"listing:2: '-Z' is not a rule"):
        lint([path], NOBODY)


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("rule add pref 9 fwmark 0x200/0xf00 lookup 2004\n", "policy"),
        ("rule del pref 0\n", "policy"),
        ("ip rule add fwmark 0x1 lookup 1\n", "policy"),
        ("add rule ip t c meta mark 0x1 accept\n", "nft"),
        ("rule ip t c meta mark 0x1 accept\n", "nft"),
        ("chain ip t c {\n}\n", "nft"),
        ("filter protocol ip pref 1 fw chain 0\n", "tc"),
        ("tc qdisc add dev eth0 clsact\n", "tc"),
        ("ip xfrm policy add dir out mark 0x1 mask 0x1\n", "policy"),
    ],
)
def test_a_file_is_told_by_its_first_line(text: str, kind: str) -> None:
    """``rule add pref …`` is iproute2's, ``rule ip …`` is nft's."""
    assert detect(Path("x"), text) == kind


def test_what_can_only_be_linted_is_not_run(tmp_path: Path) -> None:
    """``check`` says what it wants instead."""
    from lab.capture.parse import given

    path = tmp_path / "listing.txt"
    path.write_text(FILTER)
    with pytest.raises(UsageError, match="expected what iptables-save prints"):
        given(str(path))
