"""What interfaces and addresses of a captured host stand for in the topology [pure].

Told from the rules that are an entry's: where the entry names the pods' network, the host has its
own. Then from the host's addresses and default route.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from ipaddress import ip_interface

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
_DEFAULT = re.compile(r"^default via (?P<gateway>\S+) dev (?P<device>\S+)", re.MULTILINE)
_OWN = re.compile(r"\binet6? (?P<address>[0-9a-f.:]+/\d+)")
_BEGIN = re.compile(r"^\d+: (?P<device>[^:@\s]+)")


Pairs = tuple[tuple[str, str], ...]


def mapping(
    parties: Iterable[Party],
    known: Iterable[Known],
    files: Mapping[str, str],
    asked: maps.Mapping,
) -> maps.Mapping:
    """Return what was asked for, completed by what the rules, then the addresses say."""
    by_title = {one.entry.title: one for one in known}
    devices, addresses = Counter[tuple[str, str]](), Counter[tuple[str, str]]()
    pods: dict[str, None] = {}
    for party in parties:
        if party.entry:
            for name, value, roles in _unified(party.items, by_title[party.entry.title]):
                if name == "device" and len(roles) > 1:
                    pods[value] = None
                elif name == "device":
                    devices[value, next(iter(roles))] += 1
                elif len(roles) == 1 and not maps.is_here(value):
                    addresses[value, next(iter(roles))] += 1
    told = dict(zip(pods, _PODS, strict=False))
    found_devices = told | _most(devices) | dict(asked.devices)
    found = maps.Mapping(tuple(found_devices.items()), tuple(_most(addresses).items()))
    return _completed(found, files, asked)


def _most(votes: Counter[tuple[str, str]]) -> dict[str, str]:
    """Give each name the role that most rules tell."""
    return {name: role for (name, role), _ in reversed(votes.most_common())}


def _unified(items: Sequence[Item], known: Known) -> Iterator[tuple[str, str, frozenset[str]]]:
    """Yield the host's words where the entry has placeholders, with the roles they may have."""
    for item in items:
        roles: dict[tuple[str, str], set[str]] = {}
        for template in known.rules.get(key(item), ()):
            for value, name in _pairs(item.normal, template):
                kind = "device" if name in _DEVICES else "address"
                role = _DEVICES.get(name) or _ADDRESSES.get(name)
                if role:
                    roles.setdefault((kind, value), set()).add(role)
        for (kind, value), found in roles.items():
            yield kind, value, frozenset(found)


def _pairs(rule: Normal, template: Normal) -> Iterator[tuple[str, str]]:
    if len(rule) != len(template):
        return
    for ours, theirs in zip(rule, template, strict=True):
        for value, wanted in zip(ours, theirs, strict=False):
            found = ROLE.match(wanted)
            if found and wanted[found.end() :] == value[len(value.rstrip("+*")) :]:
                yield value, found[1]


def _completed(found: maps.Mapping, files: Mapping[str, str], asked: maps.Mapping) -> maps.Mapping:
    """Add what the default routes and the addresses of the host say, where nothing was told."""
    devices = {**dict(_uplinks(files)), **dict(found.devices)}
    addresses = {**dict(_host(files, devices)), **dict(found.addresses), **dict(asked.addresses)}
    return maps.Mapping(tuple(devices.items()), tuple(addresses.items()))


def _uplinks(files: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    for name in ("ip6-route.txt", "ip-route.txt"):
        for route in _DEFAULT.finditer(files.get(name, "")):
            if " table " not in route.string[route.end() : route.string.find("\n", route.end())]:
                yield route["device"], "uplink"


def _host(files: Mapping[str, str], devices: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    roles = {
        "uplink": ("node", "wan-net"),
        "lan": ("node-lan", "lan-net"),
        "tunnel": ("node-tunnel", ""),
    }
    for name in ("ip-route.txt", "ip6-route.txt"):
        for route in _DEFAULT.finditer(files.get(name, "")):
            if not maps.is_here(route["gateway"]):
                yield route["gateway"], "client"
    for device, address in _own(files.get("addresses.txt", "")):
        role = devices.get(device) or dict(maps.guess((device,))).get(device, "")
        if role not in roles or maps.is_here(address):
            continue
        own, net = roles[role]
        bare = ip_interface(address)
        yield str(bare.ip), own
        if net == "lan-net":
            yield str(bare.network), net


def _own(text: str) -> Iterator[tuple[str, str]]:
    """Read ``ip address`` or ``ip -o address`` output: each device with its addresses."""
    device = ""
    for line in text.split("\n"):
        if begin := _BEGIN.match(line):
            device = begin["device"]
        for address in _OWN.finditer(line):
            if not address["address"].startswith(("127.", "::1/", "fe80:")):
                yield device, address["address"]
