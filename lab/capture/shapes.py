"""What rules have in common that differ in addresses, devices and generated names [pure]."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import lru_cache

from lab.capture.listed import Item
from lab.native.normal import Normal, Part

Key = tuple[str, str, str, Normal]
"""Kind, table without its family, shape of the chain's name, shape of the rule."""

ROLE = re.compile(r"_role_([a-z][\w.-]*?)_(?=[/+*:]|$)")
"""How a placeholder of the topology is written in a known rule, so that it is one word."""
_SEGMENT = re.compile(r"[^-_]*[-_]")
_PLACES = {
    "-s": "ADDRESS",
    "-d": "ADDRESS",
    "--to": "ADDRESS",
    "--on-ip": "ADDRESS",
    "--src-range": "ADDRESS",
    "--dst-range": "ADDRESS",
    "-i": "DEVICE",
    "-o": "DEVICE",
    "--physdev-in": "DEVICE",
    "--physdev-out": "DEVICE",
    "from": "ADDRESS",
    "to": "ADDRESS",
    "via": "ADDRESS",
    "iif": "DEVICE",
    "oif": "DEVICE",
    "dev": "DEVICE",
}
_PORTS = ("--dport", "--sport", "--dports", "--sports", "--to-ports", "--probability")
_ADDRESS = re.compile(
    r"(?:\d{1,3}\.){3}\d{1,3}(?:/\d+)?|(?=[0-9a-f:]*:[0-9a-f]*:)[0-9a-f:]+(?:/\d+)?"
    r"|_role_[\w.-]*(?:ip|net)_\S*"
)
_DEVICES = ("iif", "oif", "iifname", "oifname")
_SYSCTL = re.compile(r"(net\.ipv[46]\.(?:conf|neigh)\.)(?!all\.|default\.|lo\.)(.+)(\.\w+)")


def key(item: Item) -> Key:
    """Return what tells a rule from others wherever it was installed."""
    table = table_shape(item.table) if item.kind in ("iptables", "nft", "default") else ""
    free = item.kind != "iptables" or not item.built_in
    return item.kind, table, chain_shape(item.chain), shape(item.kind, item.normal, free)


def table_shape(name: str) -> str:
    """Leave out a table's family, and what is generated of its name."""
    return chain_shape(name.rpartition(" ")[2])


@lru_cache(maxsize=1 << 16)
def chain_shape(name: str) -> str:
    """Keep the first two words of a chain's name: the rest is often generated."""
    words = _SEGMENT.findall(name)
    return name if len(words) < 2 else "".join(words[:2]) + "*"


@lru_cache(maxsize=1 << 16)
def prefix(name: str) -> str:
    """Return the first word of a chain's name with what ends it; the whole name has no other."""
    found = _SEGMENT.match(name)
    return found[0] if found and len(found[0]) > 1 else name


def shape(kind: str, rule: Normal, free: bool = True) -> Normal:
    """Reduce a rule to what it does; ports are kept unless ``free``."""
    if kind == "nft":
        return tuple(_nft(rule))
    if kind == "sysctl":
        return tuple((_SYSCTL.sub(r"\1DEVICE\3", name), value) for name, value in rule)
    return tuple(sorted({_part(part, kind, free) for part in rule}))


def _part(part: Part, kind: str, free: bool) -> Part:
    name = part[0].removeprefix("! ")
    if len(part) == 1:
        return part
    if kind == "route" and part == ("to", "default"):
        return part
    if name in _PLACES:
        return part[0], _PLACES[name]
    if name in ("-j", "-g"):
        return part[0], chain_shape(part[1])
    if name == "--match-set":
        return part[0], "SET", *part[2:]
    return (part[0], "PORT") if free and name in _PORTS else part


def _nft(rule: Normal) -> Iterator[Part]:
    previous = ""
    for part in rule:
        word = part[0]
        if len(part) > 1:
            yield part
        elif previous in _DEVICES:
            yield ("DEVICE",)
        elif previous in ("jump", "goto"):
            yield (chain_shape(word),)
        elif previous in ("dport", "sport") and not word.startswith("@"):
            yield ("PORT",)
        elif _ADDRESS.fullmatch(word):
            yield ("ADDRESS",)
        else:
            yield ("SET",) if word.startswith("@") else part
        if word not in ("!",):
            previous = word
