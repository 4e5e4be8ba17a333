"""Read from native text what it touches, tool by tool [pure]."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from itertools import pairwise

from lab.native import nft_blocks, nft_text
from lab.native.iptables_text import BUILTIN, Change, changes
from lab.native.lines import lines
from lab.native.stages import SECURITY_NFT, stage
from lab.order.footprint import Footprint, Key
from lab.points import CONNTRACK, PRIORITIES
from lab.registry.software import Ruleset
from lab.scenario import Variant
from lab.traffic.flow import Family

_WORD = re.compile(r"[\w@-]+")
_MADE = re.compile(r"(?:^link add(?: (?:name|dev))?|\bname) ([\w.@-]+)")
_LEGACY = "legacy"
_TABLES_OF_PACKETS = ("ip", "ip6", "inet")
_KERNELS_OWN = (PRIORITIES["defrag"], CONNTRACK)
"""Where the kernel hooks in as soon as any rule asks for connection tracking."""
_OBJECTS = ("rule", "route", "link", "address", "addr", "neighbour", "neigh", "tunnel")
_MAIN = ("main", "default", "local")
_PASSED_ON = ("forwarding", "ip_forward", "disable_ipv6")
"""Sysctls that the kernel writes to every device, or to the devices that are made afterwards."""


def footprint(rulesets: Iterable[Ruleset], family: Family, variant: Variant) -> Footprint:
    """Return what the rulesets of one software touch; their placeholders are filled.

    Raises ValueError for text that its tool would not take.
    """
    found = Footprint()
    keyword = "ip" if family == "ipv4" else "ip6"
    for ruleset in rulesets:
        found.unknown |= ruleset.listed  # its rules are put before those of others
        for line in lines(ruleset.text):
            found.words |= {*line.text.split(), *_WORD.findall(line.text)}
        if ruleset.tool == "iptables":
            _iptables(found, ruleset, keyword if (ruleset.variant or variant) == "nft" else _LEGACY)
        else:
            _READERS[ruleset.tool](found, ruleset)
    return found


def _iptables(found: Footprint, ruleset: Ruleset, backend: str) -> None:
    tables = set()
    for change in changes(ruleset.text):
        tables.add(change.table)
        if not change.only_names_built_in:
            found.add(_way(change), *_chain(ruleset, f"{backend} {change.table}", change.chain))
    for table in tables:
        for name in BUILTIN[table]:
            chain = _chain(ruleset, f"{backend} {table}", name)
            _hook_table(found, chain, backend, table)


def _chain(ruleset: Ruleset, table: str, name: str) -> Key:
    return ruleset.node, "chain", table, name


def _way(change: Change) -> str:
    if change.verb == "append":
        return "append"
    return "insert" if change.verb == "insert" and change.position == 1 else "other"


def _hook_table(found: Footprint, chain: Key, backend: str, table: str) -> None:
    hook = chain[-1].lower()
    priority = stage(table, hook)
    if priority is None:
        return
    if table == "security" and backend != _LEGACY:
        priority = SECURITY_NFT
    _hook(found, chain, nft_text.BaseChain(table, hook, priority))


def _hook(found: Footprint, chain: Key, base: nft_text.BaseChain) -> None:
    node, hook = chain[0], base.hook
    nat = stage("nat", hook) if base.kind == "nat" else None
    if nat is None:
        found.hook(chain, node, hook, str(base.priority))
    else:  # the kernel's own hook calls the chains of this type
        dispatcher = (node, "nat", hook)
        found.hook(dispatcher, node, hook, str(nat))
        found.hook(chain, node, "nat", hook, str(base.priority))
    found.unknown |= base.priority in _KERNELS_OWN


def _nft(found: Footprint, ruleset: Ruleset) -> None:
    for rule in nft_text.rules(ruleset.text):
        way = {0: "append", 1: "insert"}.get(rule.position, "other")
        found.add(way, *_chain(ruleset, f"{rule.family} {rule.table}", rule.chain))
    for statement in nft_blocks.statements(ruleset.text):
        _nft_statement(found, ruleset, statement)


def _nft_statement(found: Footprint, ruleset: Ruleset, statement: nft_blocks.Statement) -> None:
    place = statement.place
    table = f"{place.family} {place.table}"
    if place.kind == "chain" and place.family in _TABLES_OF_PACKETS:
        chain = _chain(ruleset, table, place.name)
        for base in nft_text.base_chains(statement.text):
            _hook(found, chain, base)
        if statement.text.startswith("policy ") and "accept" not in statement.text:
            found.add("other", *chain)
    elif place.kind in ("set", "map", "object"):
        found.exclusive.add((ruleset.node, place.kind, table, place.name))
    else:  # a command, a flag, a family that is hooked in elsewhere
        found.unknown = True


def _ip(found: Footprint, ruleset: Ruleset) -> None:
    for line in lines(ruleset.text):
        words = line.text.split()
        values = dict(pairwise(words))
        if words[0] not in _OBJECTS or not words[1:]:
            found.unknown = True  # an option, or an object in short
        elif words[0] == "rule":
            _policy_rule(found, ruleset.node, values)
        elif words[0] == "route":
            _route(found, ruleset.node, words, values)
        elif words[1:2] != ["show"]:
            _device(found, ruleset.node, words[0], line.text)


def _policy_rule(found: Footprint, node: str, values: Mapping[str, str]) -> None:
    given = (values[key] for key in ("pref", "priority", "preference", "prio") if key in values)
    preference = next(given, None)
    # Without one, the kernel puts the rule before the first of all that are there.
    found.agree("numbered" if preference else "unnumbered", node, "rules")
    found.exclusive.add((node, "rule", preference or "unnumbered"))


def _route(found: Footprint, node: str, words: list[str], values: Mapping[str, str]) -> None:
    table = values.get("table", "local" if "local" in words[2:3] else "main")
    found.exclusive.add((node, "route", table))
    if table in _MAIN:
        _changes_ways(found, node, values.get("dev"))
    if "via" in values:  # of IPv6 also with onlink
        _looks_for_gateway(found, node, values.get("dev"))


def _looks_for_gateway(found: Footprint, node: str, device: str | None) -> None:
    """Note that a route is taken only if its gateway is found: of one device only by its ways.

    net/ipv4/fib_semantics.c, fib_check_nh; net/ipv6/route.c, ip6_route_check_nh.
    """
    found.agree("looks for", node, "gateways", device or "of any device")
    if device:
        found.agree("looks for", node, "gateways", "of all devices")


def _changes_ways(found: Footprint, node: str, device: str | None) -> None:
    """Note a change of the ways of one device, or of all where it is not told of which."""
    found.agree("changes", node, "gateways", "of any device")
    found.agree("changes", node, "gateways", device or "of all devices")


def _device(found: Footprint, node: str, kind: str, text: str) -> None:
    kind = {"addr": "address", "neigh": "neighbour"}.get(kind, kind)
    found.exclusive.add((node, kind))
    words = text.split()
    device = dict(pairwise(words)).get("dev")
    if kind in ("address", "tunnel"):
        _changes_ways(found, node, device)
    elif kind == "link" and words[1] != "add":  # a new one has no ways yet
        _changes_ways(found, node, device or next(iter(words[2:]), None))
    if kind in ("link", "tunnel"):
        found.agree("takes", node, "defaults of devices")
        found.devices.update(_MADE.findall(text))


def _ipset(found: Footprint, ruleset: Ruleset) -> None:
    for line in lines(ruleset.text):
        verb, *names = line.text.split()
        both = verb in ("swap", "rename")
        found.exclusive |= {(ruleset.node, "ipset", name) for name in names[: 2 if both else 1]}
        found.unknown |= not names


def _sysctl(found: Footprint, ruleset: Ruleset) -> None:
    for line in lines(ruleset.text):
        key, _, value = (part.strip() for part in line.text.partition("="))
        leaf = key.rpartition(".")[2]
        if leaf in _PASSED_ON:
            protocol = key.split(".")[1]
            found.agree(f"{key} = {value}", ruleset.node, "sysctl", protocol, "passed on")
        else:
            found.agree(value, ruleset.node, "sysctl", key)
        if ".default." in key:
            found.agree(f"{key} = {value}", ruleset.node, "defaults of devices")


def _device_programs(found: Footprint, ruleset: Ruleset) -> None:
    found.exclusive.add((ruleset.node, "programs of devices"))


_READERS: dict[str, Callable[[Footprint, Ruleset], None]] = {
    "nft": _nft,
    "ip": _ip,
    "ipset": _ipset,
    "sysctl": _sysctl,
    "tc": _device_programs,
    "bpf": _device_programs,
}
