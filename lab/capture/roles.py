"""What interfaces and addresses of a captured host stand for in the topology [pure].

Told from the rules that are an entry's: where the entry names the pods' network, the host has its
own. Then from the host's default route and addresses.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from ipaddress import IPv4Network, IPv6Network, ip_network

from lab.capture import mapping as maps
from lab.capture.known import Known
from lab.capture.listed import Item
from lab.capture.shapes import ROLE, key
from lab.capture.split import Party
from lab.native.normal import Normal

_PLACEHOLDER = re.compile(r"\{\{ ([\w.-]+) \}\}")
_DEVICES = {_PLACEHOLDER.sub(r"\1", text): role for role, text in maps.DEVICES.items()}
_ADDRESSES = {_PLACEHOLDER.sub(r"\1", text): role for role, text in maps.ADDRESSES.items()}
_PODS = ("pod-a", "pod-b")
_PORT = re.compile(r"(?<=[\d_\]]):\d+$")
_DEFAULT = re.compile(
    r"^default via (?P<gateway>\S+) dev (?P<device>\S+)(?!.* table )", re.MULTILINE
)
_OWN = re.compile(r"\binet6? (?P<address>[0-9a-f.:]+/\d+)")
_BEGIN = re.compile(r"^\d+: (?P<device>[^:@\s]+)")
_OF_DEVICE = {
    "uplink": ("node", ""),
    "lan": ("node-lan", "lan-net"),
    "tunnel": ("node-tunnel", ""),
}

Network = IPv4Network | IPv6Network
Pairs = Iterable[tuple[str, str]]


def mapping(
    parties: Iterable[Party],
    known: Iterable[Known],
    files: Mapping[str, str],
    asked: maps.Mapping,
) -> maps.Mapping:
    """Return what was asked for, completed by what the rules, then the addresses say."""
    by_title = {one.entry.title: one for one in known}
    pairs = [
        pair
        for party in parties
        if party.entry
        for item in party.items
        for pair in _pairs(item, by_title[party.entry.title])
    ]
    found = dict(asked.devices)
    found |= {name: role for name, role in _devices(pairs).items() if name not in found}
    found |= {name: role for name, role in _uplinks(files) if name not in found}
    wires = [device for device, _ in _own(files) if device not in found]
    found |= dict(maps.guess((*found, *wires), found))
    addresses = _Taken(asked.addresses)
    addresses.take(_voted(pairs))
    addresses.take(_host(files, found))
    return maps.Mapping(tuple(found.items()), tuple(addresses.found.items()))


# --- told by rules -------------------------------------------------------------------------------


def _pairs(item: Item, known: Known) -> Iterator[tuple[str, frozenset[str]]]:
    """Yield the host's words with what stands in their place in the entry's rules of that kind."""
    words: dict[str, set[str]] = {}
    for template in known.rules.get(key(item), ()):
        for ours, theirs in _aligned(item.normal, template):
            words.setdefault(ours, set()).add(theirs)
    for ours, found in words.items():
        yield ours, frozenset(found)


def _aligned(rule: Normal, template: Normal) -> Iterator[tuple[str, str]]:
    if len(rule) == len(template):
        for ours, theirs in zip(rule, template, strict=True):
            for word, wanted in zip(ours, theirs, strict=False):
                yield _PORT.sub("", word), _PORT.sub("", wanted)


def _devices(pairs: Iterable[tuple[str, frozenset[str]]]) -> dict[str, str]:
    votes: Counter[tuple[str, str]] = Counter()
    pods: dict[str, None] = {}
    for name, wanted in pairs:
        roles = set() if name in wanted else {_device(name, word) for word in wanted} - {""}
        if roles and roles <= {*_PODS}:
            pods[name] = None
        elif len(roles) == 1:
            votes[name, roles.pop()] += 1
    return dict(zip(pods, _PODS, strict=False)) | _most(votes)


def _device(name: str, wanted: str) -> str:
    found = ROLE.match(wanted)
    suffix = name[len(name.rstrip("+*")) :]
    return _DEVICES.get(found[1], "") if found and wanted[found.end() :] == suffix else ""


def _most(votes: Counter[tuple[str, str]]) -> dict[str, str]:
    """Give each name the role that most rules tell; only pods have several interfaces."""
    found: dict[str, str] = {}
    taken: dict[str, str] = {}
    for (name, role), _ in votes.most_common():
        bare = name.rstrip("+*")
        free = role == "pods" or taken.setdefault(role, bare) == bare
        if name not in found and free:
            found[name] = role
    return found


def _voted(pairs: Iterable[tuple[str, frozenset[str]]]) -> Pairs:
    """List addresses with their roles, those that most rules tell first."""
    votes: Counter[tuple[str, str]] = Counter()
    for address, wanted in pairs:
        network = _network(address)
        if network is not None:
            roles = {_role(network, word) for word in wanted} - {""}
            for role in sorted(roles):
                votes[address, role] += 1 if len(roles) > 1 else 1000
    return [pair for pair, _ in votes.most_common()]


def _role(network: Network, wanted: str) -> str:
    """Return the role, or the literal address, that the entry has there."""
    found = ROLE.fullmatch(wanted)
    if found:
        role = _ADDRESSES.get(found[1], "")
        return role if found[1].endswith(".net") == _is_net(network) else ""
    literal = _network(wanted)
    if literal is None or literal.version != network.version or literal == network:
        return ""
    return wanted if _is_net(literal) == _is_net(network) and not maps.is_kept(wanted) else ""


def _network(word: str) -> Network | None:
    try:
        return ip_network(word, strict=False) if "." in word or ":" in word else None
    except ValueError:
        return None


def _is_net(network: Network) -> bool:
    return network.prefixlen < network.max_prefixlen


# --- told by the host ----------------------------------------------------------------------------


class _Taken:
    """Addresses that have a role, and the roles that are taken: one of each family has each."""

    def __init__(self, asked: Pairs) -> None:
        self.found = dict(asked)
        self._roles = {(role, ":" in address) for address, role in self.found.items()}

    def take(self, pairs: Pairs) -> None:
        for address, role in pairs:
            wanted = role, ":" in address
            if address not in self.found and wanted not in self._roles and not _here(address):
                self.found[address] = role
                self._roles.add(wanted)


def _here(address: str) -> bool:
    """Tell whether the topology has an address, or a network that holds one of its own."""
    network = _network(address)
    if network is None or maps.is_kept(address):
        return True
    return maps.is_here(address) if _is_net(network) else maps.is_own(network)


def _uplinks(files: Mapping[str, str]) -> Pairs:
    return [(route["device"], "uplink") for route in _defaults(files)]


def _defaults(files: Mapping[str, str]) -> Iterator[re.Match[str]]:
    for name in ("ip-route.txt", "ip6-route.txt"):
        yield from _DEFAULT.finditer(files.get(name, ""))


def _host(files: Mapping[str, str], devices: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    yield from ((route["gateway"], "client") for route in _defaults(files))
    for device, address in _own(files):
        own, net = _OF_DEVICE.get(devices.get(device, ""), ("", ""))
        if own:
            yield address.partition("/")[0], own
        if net:
            yield str(ip_network(address, strict=False)), net


def _own(files: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """Read ``ip -o address`` output: each device with its addresses that others can reach."""
    device = ""
    for line in files.get("addresses.txt", "").split("\n"):
        if begin := _BEGIN.match(line):
            device = begin["device"]
        for address in _OWN.finditer(line):
            if not maps.is_kept(address["address"]):
                yield device, address["address"]
