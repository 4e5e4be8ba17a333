"""Interfaces and addresses of another host, put in place of those of the topology [pure]."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import IPv4Network, IPv6Network, ip_network

from lab.errors import UsageError, unknown
from lab.topology import library

DEVICES = {
    "uplink": "{{ client.dev }}",
    "lan": "{{ lan.dev }}",
    "tunnel": "{{ peer.dev }}",
    "pod-a": "{{ pod-a.dev }}",
    "pod-b": "{{ pod-b.dev }}",
    "pods": "{{ pods.prefix }}",
    "lo": "lo",
}
"""What an interface can be mapped to; ``pods`` stands for all names with the pods' prefix."""
ADDRESSES = {
    "node": "{{ node.ip }}",
    "node-lan": "{{ node.lan-ip }}",
    "node-tunnel": "{{ node.tailnet-ip }}",
    "client": "{{ client.ip }}",
    "wan": "{{ wan.ip }}",
    "wan-net": "{{ wan.net }}",
    "lan": "{{ lan.ip }}",
    "lan-net": "{{ lan.net }}",
    "tunnel": "{{ peer.ip }}",
    "tunnel-net": "{{ tailnet.net }}",
    "pod-a": "{{ pod-a.ip }}",
    "pod-b": "{{ pod-b.ip }}",
    "pods-net": "{{ pods.net }}",
    "services-net": "{{ services.net }}",
    "relay": "{{ relay.ip }}",
    "relay-net": "{{ relay.net }}",
}
_XT = re.compile(
    r"(?P<before>(?:^| )(?:-i|-o|--in-interface|--out-interface|--physdev-in|--physdev-out)"
    r" (?:! )?)(?P<name>\S+)"
)
_NFT = re.compile(
    r"(?P<before>\b[io]if(?:name)?(?: [!=]=)? )"
    r'(?P<name>(?:vmap )?\{[^}]*\}|"[^"]+"'
    r"|(?!(?:[io]if|type|v?map|present|check)\b)[A-Za-z_][\w.@*-]*)"
)
_IP = re.compile(r"(?P<before>\b(?:iif|oif|dev) )(?P<name>\S+)")
_ONE = re.compile(r'"?([A-Za-z_][\w.@:+*-]*)"?')
_QUOTED = re.compile(r'"([^"]+)"')
_ADDRESS = re.compile(
    r"(?<![\w.:/-])((?:\d{1,3}\.){3}\d{1,3}(?:/\d+)?(?![\w/]|\.\d)"
    r"|(?=[0-9a-f]*:[0-9a-f:]*:)[0-9a-f:]{3,39}(?:/\d+)?(?![\w:/]|\.\d))"
)
_HOST = re.compile(r"/(?:32|128)$")
_GUESSES = (
    ("pods", re.compile(r"cali|lxc|veth|eni|cni|gke|azv|docker|br-|weave|vethwe")),
    ("tunnel", re.compile(r"wg|tun|tailscale|utun|ppp|wt|nordlynx|kubespan|vpn")),
    ("wire", re.compile(r"eth|en[opsx]|wlan|wl[opsx]|bond|wan|br|lan|vlan")),
)
SAME = {"lo": "lo", "eth0": "uplink", "eth1": "lan"}
_KEPT = ("127.", "0.0.0.0", "224.", "255.255.255.255", "169.254.", "::", "fe80", "ff0")


@dataclass(frozen=True, slots=True)
class Mapping:
    """Foreign names and what stands for each; what is in none of them stays as it is.

    What stands for an address is a role of ``ADDRESSES``, or an address.
    """

    devices: tuple[tuple[str, str], ...] = ()
    addresses: tuple[tuple[str, str], ...] = ()

    def device(self, name: str) -> str:
        """Return what stands for an interface, its wildcard kept."""
        bare = name.rstrip("+*")
        role = dict(self.devices).get(name) or dict(self.devices).get(bare)
        if role is None:
            return name
        ours = DEVICES[role]
        return ours + ("*" if "*" in name else "+") if _any(name, role) else ours

    def applied(self, tool: str, text: str) -> str:
        """Return a line of a tool's native text with names and addresses replaced."""
        replaced = _PATTERNS[tool].sub(lambda found: self._named(tool, found), text)
        return _ADDRESS.sub(self._address, replaced) if self.addresses else replaced

    def _named(self, tool: str, found: re.Match[str]) -> str:
        def one(name: re.Match[str]) -> str:
            ours = self.device(name[1])
            return f'"{ours}"' if tool == "nft" else ours

        before = found["before"]
        if tool == "nft":  # an index must exist when the rule is loaded, a name need not
            before = re.sub(r"\b([io])if(?!name)", r"\1ifname", before)
        return before + _one(found["name"]).sub(one, found["name"])

    def _address(self, found: re.Match[str]) -> str:
        known = dict(self.addresses)
        role = known.get(found[1]) or known.get(_HOST.sub("", found[1]))
        return found[1] if role is None else ADDRESSES.get(role, role)


def _any(name: str, role: str) -> bool:
    return role == "pods" and name[-1:] in "+*"


_PATTERNS = {"iptables": _XT, "nft": _NFT, "ip": _IP}


def _one(names: str) -> re.Pattern[str]:
    """Return what finds single names; in a verdict map they stand in quotes, chains do not."""
    return _QUOTED if names.startswith("vmap") else _ONE


def devices(tool: str, text: str) -> Iterator[str]:
    """Yield the interfaces that a text of a tool names, in its order."""
    for found in _PATTERNS[tool].finditer(text):
        yield from (name[1] for name in _one(found["name"]).finditer(found["name"]))


def addresses(text: str) -> Iterator[str]:
    """Yield the addresses and prefixes in a text that could be of the host's own networks."""
    for found in _ADDRESS.finditer(text):
        if not is_kept(found[1]) and not is_here(found[1]):
            yield found[1]


def is_kept(address: str) -> bool:
    """Tell whether an address means the same on every host."""
    return address.startswith(_KEPT)


def is_own(address: IPv4Network | IPv6Network) -> bool:
    """Tell whether a host of the topology has exactly this address."""
    return address in _own()


def is_here(address: str) -> bool:
    """Tell whether an address or prefix holds one of the topology's own."""
    try:
        network = ip_network(address, strict=False)
    except ValueError:
        return False
    return any(network.version == own.version and own.overlaps(network) for own in _own())


@lru_cache(maxsize=1)
def _own() -> tuple[IPv4Network | IPv6Network, ...]:
    found = [ip_network(a) for _, *both in library.find("kubernetes-node").facts for a in _in(both)]
    return tuple(network for network in found if network.prefixlen)


def _in(texts: Sequence[str]) -> Iterator[str]:
    return (text for text in texts if _ADDRESS.fullmatch(text))


def guess(names: Iterable[str], told: dict[str, str] | None = None) -> tuple[tuple[str, str], ...]:
    """Map interfaces by what their names usually mean; others are left out.

    What is ``told`` of some is not asked again, and its roles are taken.
    """
    taken = told or {}
    wanted = [name for name in dict.fromkeys(names) if name not in taken]
    roles = set(taken.values())
    found = {name: SAME[name] for name in wanted if name in SAME}
    found = {name: role for name, role in found.items() if role not in roles}
    roles |= set(found.values())
    wires = iter([role for role in ("uplink", "lan") if role not in roles])
    pods = iter([role for role in ("pod-a", "pod-b") if role not in roles])
    for name in wanted:
        role = found.get(name) or _role(name, wires, pods)
        if told and role in ("tunnel", "lo") and role in roles:
            continue  # another tunnel is none of the topology's
        if role:
            found[name] = role
    return tuple((name, found[name]) for name in wanted if name in found)


def _role(name: str, wires: Iterator[str], pods: Iterator[str]) -> str:
    kind = next((kind for kind, begins in _GUESSES if begins.match(name)), "")
    if kind == "wire":
        return next(wires, "")
    if kind == "pods":
        return "pods" if name[-1] in "+*" else next(pods, "")
    return kind


def parsed(options: Sequence[str]) -> Mapping:
    """Read ``--map NAME=ROLE`` options. Raises UsageError."""
    wanted: tuple[list[tuple[str, str]], list[tuple[str, str]]] = ([], [])
    for option in options:
        name, equals, role = option.partition("=")
        if not name or not equals:
            raise UsageError(f"--map {option!r} is not NAME=ROLE; expected e.g. eth0=uplink")
        is_address = _ADDRESS.fullmatch(name) is not None
        kind, known = ("address", ADDRESSES) if is_address else ("interface", DEVICES)
        literal = is_address and _ADDRESS.fullmatch(role)
        if role not in known and not literal:
            raise unknown(f"role of an {kind}", role, known)
        wanted[is_address].append((name, role))
    return Mapping(*map(tuple, wanted))
