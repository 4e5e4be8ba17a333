"""Addresses of a captured host replaced by others, so that rules and routes still agree [pure].

Each address is followed bit by bit: whether a bit is flipped depends on a secret and on the bits
before it. So equal addresses stay equal, two that share a prefix share one of the same length, and
an address is in a prefix exactly if their pseudonyms are (the scheme of Xu, Fan, Ammar and Moon:
"Prefix-preserving IP address anonymization", 2002). The secret is made for one archive, and is
not kept.

No bit is flipped on the way to a range with a meaning of its own, such as 100.64.0.0/10, so that
it stays what it is and nothing else becomes one; nor where that would turn a range around.
"""

from __future__ import annotations

import hashlib
import re
import secrets
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from ipaddress import (
    IPv4Address,
    IPv4Network,
    IPv6Address,
    IPv6Network,
    ip_address,
    ip_interface,
    ip_network,
    summarize_address_range,
)

from lab.capture.archive import Gap, Manifest

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network
Node = tuple[int, int]
"""The first bits of an address, and how many they are."""

_KEPT = (  # with everything in them
    "0.0.0.0/8",
    "100.100.100.100/32",  # Tailscale's resolver
    "100.115.92.0/23",  # ChromeOS, which Tailscale leaves out of its range
    "127.0.0.0/8",
    "169.254.0.0/16",
    "192.0.0.0/24",
    "192.0.2.0/24",
    "198.51.100.0/24",
    "203.0.113.0/24",
    "224.0.0.0/3",
    "::/96",
    "2001:db8::/32",
    "ff00::/8",
)
_RECOGNISED = (  # but not what is in them
    "10.0.0.0/8",
    "100.64.0.0/10",
    "172.16.0.0/12",
    "192.168.0.0/16",
    "198.18.0.0/15",
    "64:ff9b::/96",
    "2000::/3",
    "2002::/16",
    "fc00::/8",
    "fd00::/8",
    "fd7a:115c:a1e0::/48",  # Tailscale's addresses
    "fe80::/64",
)
_MAPPED = ip_network("::ffff:0:0/96")
_V4 = r"(?:\d{1,3}\.){3}\d{1,3}"
_V6 = rf"(?=[0-9a-fA-F]*:[0-9a-fA-F]*:)[0-9a-fA-F:]{{2,39}}(?:(?<=:){_V4})?"
_ADDRESS = rf"(?:{_V4}|{_V6})"
_PLACE = re.compile(
    rf"(?<![\w.:-])(?<!\bfh )(?P<first>{_ADDRESS})(?:-(?P<last>{_ADDRESS}))?"
    r"(?:/(?P<length>\d{1,3})(?![\d.]))?(?!\w|\.\d)"
)
"""Not the handle of a u32 filter (``fh 800::800``), which is no address of IPv6."""
_MAC = re.compile(r"(?<![\w:])[0-9a-fA-F]{2}(?::[0-9a-fA-F]{2}){5,19}(?![\w:])")
_SAID = re.compile(
    r'(?P<key>--(?:comment|log-prefix|nflog-prefix)) (?:"(?:[^"\\]|\\.)*"|\S+)'
    r'|(?P<nft>(?<!\S)(?:comment|prefix)) "(?:[^"\\]|\\.)*"'
)
_ALIAS = re.compile(r" alias .*")
_NUMBERS = re.compile(r" --u32 | --bytecode |@(?:nh|ll),|\bmatch [0-9a-f]{8}/")


def replaced(
    manifest: Manifest, files: Mapping[str, str], secret: bytes = b""
) -> tuple[Manifest, dict[str, str]]:
    """Return manifest and files with pseudonyms for addresses, without host name and comments.

    Rules that hold addresses as mere numbers (u32, raw payload, bytecode) are left out, and the
    manifest says so.
    """
    gaps = list(manifest.gaps)
    bare = {name: _bare(name, text, gaps) for name, text in files.items()}
    names = Pseudonyms(secret or secrets.token_bytes(32))
    for text in bare.values():
        names.keep_ranges(text)
    told = tuple(replace(gap, reason=names.text(gap.reason)) for gap in gaps)
    about = replace(manifest, host="", pseudonymised=True, gaps=told)
    return about, {name: names.text(text) for name, text in bare.items()}


def _bare(name: str, text: str, gaps: list[Gap]) -> str:
    lines = [_SAID.sub(_unsaid, line) for line in text.split("\n")]
    kept = list(_without_numbers(lines))
    if len(kept) < len(lines):
        reason = f"{len(lines) - len(kept)} lines with addresses as numbers are left out"
        gaps.append(Gap(name, reason, lost=True))
    if name == "links.txt":
        kept = [_ALIAS.sub("", line) for line in kept]
    return "\n".join(kept)


def _unsaid(found: re.Match[str]) -> str:
    return f'{found["key"] or found["nft"]} "-"'


def _without_numbers(lines: Iterable[str]) -> Iterator[str]:
    """Leave out lines with such numbers, and what belongs to them up to the closing brace."""
    depth = 0
    for line in lines:
        if depth > 0 or _NUMBERS.search(line):
            depth += line.count("{") - line.count("}")
        else:
            yield line


def _node(network: Network) -> Node:
    size = network.max_prefixlen
    return int(network.network_address) >> (size - network.prefixlen), network.prefixlen


@dataclass(slots=True)
class _Family:
    """One family's tree of bits: the nodes at which nothing is flipped, and what is known."""

    size: int
    straight: set[Node] = field(default_factory=set)
    whole: set[Node] = field(default_factory=set)
    known: dict[Node, int] = field(default_factory=dict)

    def keep(self, network: Network, above: int = 0) -> None:
        """Flip no bit on the way to a network, from ``above`` bits on."""
        value, length = _node(network)
        self.straight.update((value >> (length - n), n) for n in range(above, length))

    def flips(self, value: int, secret: bytes) -> int:
        """Return the bits to flip in an address."""
        found = prefix = 0
        inside = False
        for length in range(self.size):
            node = prefix, length
            inside = inside or node in self.whole
            flip = 0 if inside or node in self.straight else self._random(node, secret)
            found = found << 1 | flip
            prefix = prefix << 1 | value >> (self.size - 1 - length) & 1
        return found

    def _random(self, node: Node, secret: bytes) -> int:
        """Return one bit of a digest for the eight levels from a whole byte on."""
        prefix, length = node
        begin = length & ~7
        top = prefix >> (length - begin), begin
        digest = self.known.get(top)
        if digest is None:
            content = self.size.to_bytes(1, "big") + begin.to_bytes(1, "big")
            content += top[0].to_bytes(16, "big")
            digest = int.from_bytes(hashlib.blake2b(content, key=secret, digest_size=32).digest())
            self.known[top] = digest
        place = 1 << (length - begin) | prefix & ((1 << (length - begin)) - 1)
        return digest >> place & 1


class Pseudonyms:
    """Pseudonyms under one secret of up to 64 bytes; all ranges must be known before the first."""

    def __init__(self, secret: bytes) -> None:
        self._secret = secret
        self._families = {4: _Family(32), 6: _Family(128)}
        self._done: dict[Address, Address] = {}
        for text in (*_KEPT, *_RECOGNISED, str(_MAPPED)):
            network = ip_network(text)
            self._families[network.version].keep(network)
            if text in _KEPT:
                self._families[network.version].whole.add(_node(network))

    def keep_ranges(self, text: str) -> None:
        """Keep the order of every range ``first-last`` in a text."""
        for found in _PLACE.finditer(text):
            blocks = _blocks(found)
            if not blocks:
                continue
            first, last = blocks[0][0], blocks[-1][-1]
            shared = first.max_prefixlen - (int(first) ^ int(last)).bit_length()
            for block in blocks:
                self._families[first.version].keep(block, shared)

    def address(self, address: Address) -> Address:
        """Return the pseudonym of one address."""
        done = self._done.get(address)
        if done is None:
            done = self._done[address] = self._made(address)
        return done

    def _made(self, address: Address) -> Address:
        if isinstance(address, IPv6Address) and address in _MAPPED:
            inner = self.address(IPv4Address(int(address) & 0xFFFFFFFF))
            return IPv6Address(int(_MAPPED.network_address) | int(inner))
        family = self._families[address.version]
        return type(address)(int(address) ^ family.flips(int(address), self._secret))

    def network(self, network: Network) -> Network:
        """Return the pseudonym of a prefix: it holds those of the addresses in it."""
        first = self.address(network.network_address)
        return ip_network(f"{first}/{network.prefixlen}", strict=False)

    def text(self, text: str) -> str:
        """Return a text with every address in it replaced, those of Ethernet as well."""
        return _PLACE.sub(self._place, _MAC.sub(self._mac, text))

    def _place(self, found: re.Match[str]) -> str:
        if found["last"]:
            blocks = _blocks(found)
            ends = [self.network(blocks[n]) for n in (0, -1)] if blocks else []
            return f"{ends[0][0]}-{ends[1][-1]}" if ends else found[0]
        try:
            if found["length"] is None:
                return str(self.address(ip_address(found["first"])))
            whole = ip_interface(found[0])
        except ValueError:  # it only looks like one
            return found[0]
        if whole.ip == whole.network.network_address:
            made = self.network(whole.network)
            return found[0] if made == whole.network else str(made)
        return f"{self.address(whole.ip)}/{whole.network.prefixlen}"

    def _mac(self, found: re.Match[str]) -> str:
        octets = bytes.fromhex(found[0].replace(":", ""))
        if octets[0] & 1 or not any(octets) or len(octets) == 8:  # a group, none, or IPv6
            return found[0]
        made = hashlib.blake2b(octets, key=self._secret, digest_size=len(octets)).digest()
        return bytes((made[0] & 0xFC | 2, *made[1:])).hex(":")


def _blocks(found: re.Match[str]) -> list[Network]:
    """Return the prefixes that make up a range; none where it is not one."""
    try:
        first, last = ip_address(found["first"]), ip_address(found["last"] or "")
        return list(summarize_address_range(first, last))
    except (ValueError, TypeError):
        return []
