"""Pseudonyms: rules and routes agree as before, and nothing says whose they were."""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lab.capture.archive import FORMAT, Gap, Manifest
from lab.capture.pseudonyms import Address, Pseudonyms, replaced

SECRET = bytes(range(32))
MANIFEST = Manifest(FORMAT, "node-1", "6", "d", False, (), (Gap("tc.txt", "no route to 8.8.4.4"),))
V4 = st.integers(0, 2**32 - 1).map(IPv4Address)
V6 = st.integers(0, 2**128 - 1).map(IPv6Address)
SAME_FAMILY = st.one_of(st.lists(V4, min_size=2, max_size=8), st.lists(V6, min_size=2, max_size=8))


def near(data: st.DataObject, address: Address) -> Address:
    """Draw an address that shares some bits with another."""
    size = address.max_prefixlen
    low = data.draw(st.integers(0, size))
    return type(address)(int(address) ^ data.draw(st.integers(0, (1 << low) - 1)))


def shared(one: Address, other: Address) -> int:
    """Count the bits that two addresses have in common before the first that differs."""
    return one.max_prefixlen - (int(one) ^ int(other)).bit_length()


def files(**texts: str) -> dict[str, str]:
    """Replace the addresses in files, of which the names are without their dots."""
    names = {"rules": "ip-rule.txt", "saved": "iptables-nft.save", "nft": "ruleset.nft",
             "links": "links.txt", "tc": "tc.txt", "routes": "ip-route.txt"}  # fmt: skip
    _, found = replaced(MANIFEST, {names[k]: v for k, v in texts.items()}, SECRET)
    return {key: found[names[key]] for key in texts}


def one(text: str) -> str:
    """Replace the addresses in one text."""
    return files(nft=text)["nft"]


@given(st.data(), st.one_of(V4, V6))
def test_addresses_share_as_many_bits_as_before(data: st.DataObject, address: Address) -> None:
    """So whatever was in a prefix is in the pseudonym of the prefix, and nothing else is."""
    names = Pseudonyms(SECRET)
    other = near(data, address)
    assert shared(names.address(address), names.address(other)) == shared(address, other)
    network = ip_network(f"{address}/{data.draw(st.integers(0, address.max_prefixlen))}", False)
    assert (other in network) == (names.address(other) in names.network(network))


@given(st.one_of(V4, V6))
def test_an_address_has_one_pseudonym(address: Address) -> None:
    """Under one secret; of the same family."""
    assert Pseudonyms(SECRET).address(address) == Pseudonyms(SECRET).address(address)
    assert Pseudonyms(SECRET).address(address).version == address.version


RANGES = (
    "0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12",
    "192.168.0.0/16", "224.0.0.0/4", "240.0.0.0/4", "100.115.92.0/23", "198.18.0.0/15", "::/96",
    "::ffff:0:0/96", "64:ff9b::/96", "fc00::/7", "fe80::/64", "ff00::/8", "2000::/3",
    "2001:db8::/32", "fd7a:115c:a1e0::/48",
)  # fmt: skip


@pytest.mark.parametrize("text", RANGES)
@settings(max_examples=25)
@given(data=st.data())
def test_ranges_with_a_meaning_keep_it(text: str, data: st.DataObject) -> None:
    """What is in one stays in it, what is not does not get in, and it is written as it was."""
    names, network = Pseudonyms(SECRET), ip_network(text)
    inner = network[data.draw(st.integers(0, network.num_addresses - 1))]
    outer = near(data, inner)
    assert names.address(inner) in network
    assert (names.address(outer) in network) == (outer in network)
    assert one(text) == text


@pytest.mark.parametrize(
    "text",
    ["127.0.0.1", "0.0.0.0/0", "::/0", "::1", "255.255.255.0", "100.100.100.100", "224.0.0.22",
     "ff02::1", "169.254.169.254", "169.254.1.1", "198.51.100.7", "::"],
)  # fmt: skip
def test_addresses_with_a_meaning_stay(text: str) -> None:
    """On every host they are the same."""
    assert one(text) == text


@given(SAME_FAMILY)
def test_a_range_stays_a_range(addresses: list[Address]) -> None:
    """Every address that was in it is in it; every other is not; it does not turn around."""
    addresses = sorted(addresses)  # type: ignore[type-var]
    names = Pseudonyms(SECRET)
    text = " ".join(f"{first}-{last}" for first, last in pairwise(addresses))
    names.keep_ranges(text)
    for (first, last), made in zip(pairwise(addresses), names.text(text).split(), strict=True):
        begin, end = (int(ip_address(part)) for part in made.split("-"))
        assert end - begin == int(last) - int(first)
        for address in addresses:
            inside = int(first) <= int(address) <= int(last)
            assert (begin <= int(names.address(address)) <= end) == inside


def test_rules_routes_and_sets_agree() -> None:
    """The same address is the same everywhere, with a port, in brackets or before a prefix."""
    found = files(
        saved="-A P -d 10.1.2.3/32 -j DNAT --to-destination 10.1.2.3:80\n"
        "-A P -j DNAT --to-destination [fd00:1::2]:80\n"
        "-A P -m iprange --src-range 10.1.2.3-10.1.2.3",
        nft="elements = { 10.1.2.3 . 80, fd00:1::2 }\n ip6 daddr fd00:1::2 accept",
        routes="10.1.2.0/24 dev eth0 src 10.1.2.3\ndefault via 10.1.2.3",
    )
    inner = str(Pseudonyms(SECRET).address(ip_address("10.1.2.3")))
    outer = str(Pseudonyms(SECRET).address(ip_address("fd00:1::2")))
    assert inner != "10.1.2.3"
    assert outer != "fd00:1::2"
    assert found["saved"] == (
        f"-A P -d {inner}/32 -j DNAT --to-destination {inner}:80\n"
        f"-A P -j DNAT --to-destination [{outer}]:80\n"
        f"-A P -m iprange --src-range {inner}-{inner}"
    )
    assert found["nft"] == f"elements = {{ {inner} . 80, {outer} }}\n ip6 daddr {outer} accept"
    network = ip_network(found["routes"].split()[0])
    assert ip_address(inner) in network
    assert found["routes"] == f"{network} dev eth0 src {inner}\ndefault via {inner}"


def test_the_address_of_an_interface_stays_in_its_network() -> None:
    """``10.1.2.3/24`` has bits after its prefix."""
    assert one("inet 10.1.2.3/24") == f"inet {one('10.1.2.3')}/24"


def test_an_ipv4_address_in_ipv6_is_the_same_one() -> None:
    """As sockets see it."""
    assert ip_address(one("::ffff:10.1.2.3")) == ip_address(f"::ffff:{one('10.1.2.3')}")


def test_interfaces_of_ethernet_are_replaced() -> None:
    """All but broadcast, groups and none; the result is one that nobody was given."""
    mac = one("86:cd:78:85:e6:1a")
    assert mac != "86:cd:78:85:e6:1a"
    assert int(mac[:2], 16) & 3 == 2
    assert one("a 86:CD:78:85:E6:1A b") == f"a {mac} b"
    same = "link/ether brd ff:ff:ff:ff:ff:ff 00:00:00:00:00:00 01:00:5e:00:00:01 33:33:00:00:00:01"
    assert one(same) == same
    wide = ":".join(["a0", *["00"] * 18, "0f"])  # InfiniBand
    assert one(wide) != wide
    assert len(one(wide)) == len(wide)


@pytest.mark.parametrize(
    "text",
    ["qdisc clsact ffff: parent ffff:fff1", "u32 fh 800::800 order 2048", "a::b::c",
     "v1.8.9 10:20:30 1.2.3 1.2.3.4.5 300.1.1.1",
     "-A cali-x -m set --match-set cali40s:abc src", ":PREROUTING ACCEPT [0:0]", "eth0.10.1.2.3",
     "mark 0x10/0xff", "--set-xmark 0x10000000/0xff000000", "10.1.2.9-10.1.2.3", "1.2.3.4-::1"],
)  # fmt: skip
def test_what_is_no_address_stays(text: str) -> None:
    """Versions, times, handles, names and marks."""
    assert one(text) == text


def test_comments_prefixes_aliases_and_the_host_go() -> None:
    """They are free text."""
    found = files(
        saved='-A P -m comment --comment "of \\"Ann\\" 1" -j LOG --log-prefix "Ann: "\n'
        "-A P -m comment --comment ann -j NFLOG --nflog-prefix ann --nflog-group 2",
        nft='accept comment "ann"\n log prefix "ann" accept\n snat ip prefix to ip saddr map @a',
        links="1: eth0: mtu 1500 alias of ann, floor 2\n2: eth1: mtu 1500",
    )
    assert found == {
        "saved": '-A P -m comment --comment "-" -j LOG --log-prefix "-"\n'
        '-A P -m comment --comment "-" -j NFLOG --nflog-prefix "-" --nflog-group 2',
        "nft": 'accept comment "-"\n log prefix "-" accept\n snat ip prefix to ip saddr map @a',
        "links": "1: eth0: mtu 1500\n2: eth1: mtu 1500",
    }
    manifest, _ = replaced(MANIFEST, {}, SECRET)
    assert (manifest.host, manifest.pseudonymised) == ("", True)
    assert "8.8.4.4" not in manifest.gaps[0].reason


def test_addresses_as_numbers_are_left_out_and_that_is_said() -> None:
    """They would stay as they are; a rule goes with all its lines."""
    text = {
        "iptables-nft.save": '-A P -m u32 --u32 "0xc=0xa010203" -j ACCEPT\n-A P -j ACCEPT',
        "ruleset.nft": "\t\t@nh,96,32 { 0xa010203,\n\t\t\t0xa010204 } accept\n\t\taccept",
        "tc.txt": "filter u32\n  match 0a010203/ffffffff at 12\n",
    }
    manifest, found = replaced(MANIFEST, text, SECRET)
    assert found == {
        "iptables-nft.save": "-A P -j ACCEPT",
        "ruleset.nft": "\t\taccept",
        "tc.txt": "filter u32\n",
    }
    assert [gap.file for gap in manifest.gaps[1:]] == list(text)
    assert "1 lines with addresses as numbers" in str(manifest.gaps[1])


def test_each_archive_has_a_secret_of_its_own() -> None:
    """Two captures cannot be joined by their addresses."""
    text = " ".join(f"10.{n}.{n}.{n}" for n in range(1, 9))
    found = {replaced(MANIFEST, {"tc.txt": text})[1]["tc.txt"] for _ in range(3)}
    assert len(found) == 3


def words() -> Iterator[str]:
    """Yield addresses of which none has a meaning of its own."""
    yield from ("8.8.4.4", "10.20.30.40", "100.101.102.103", "192.168.77.88", "172.20.1.9")
    yield from ("2a00:1450:4001::8a", "fd12:3456::9", "fe80::86cd:78ff:fe85:e61a", "52.1.2.3")


@pytest.mark.parametrize("address", list(words()))
def test_no_address_of_the_host_stays(address: str) -> None:
    """Whatever stands around it."""
    for text in ("{}", "[{}]:80", "{}/32", "-s {} -j", '"{}"', "({})", "{},{}", "={}", "!{}"):
        assert address not in one(text.format(address, address)), text


@given(st.text(max_size=200))
def test_any_text_is_taken(text: str) -> None:
    """Nothing is raised, and doing it again with the same secret gives the same."""
    assert one(text) == one(text)
