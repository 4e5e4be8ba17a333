"""One form for all texts of a policy rule or route: as written and as ``ip`` lists them [pure]."""

from __future__ import annotations

import re
from collections.abc import Iterator

from lab.marks import Mark
from lab.native.normal import Normal, Part

_TABLES = {"local": "255", "main": "254", "default": "253"}
_KEYS = {
    "priority": "pref",
    "preference": "pref",
    "prio": "pref",
    "order": "pref",
    "lookup": "table",
    "tos": "dsfield",
    "suppress_pl": "suppress_prefixlength",
}
_ACTIONS = ("unreachable", "blackhole", "prohibit", "nop")
_ROUTES = ("local", "unicast", "broadcast", "multicast", "throw", "anycast", *_ACTIONS[:3])
_NUMBERS = {
    "2": "local",
    "3": "broadcast",
    "4": "anycast",
    "5": "multicast",
    "6": "blackhole",
    "7": "unreachable",
    "8": "prohibit",
    "9": "throw",
}
"""Types as ``ip -N`` lists them (RTN_* of linux/rtnetlink.h)."""
_TOLD_BY_KERNEL = ("proto", "scope", "metric", "src", "pref", "mtu", "error", "hoplimit")
_FLAGS = ("onlink", "linkdown", "dead", "pervasive", "offload", "rt_offload", "rt_trap")
_LISTED = re.compile(r"(?P<pref>\d+):\s*(?P<rest>.*)")
_COMMAND = re.compile(r"(?:ip )?(?:-[46] )?(?:rule|route)(?: (?:add|append|replace|prepend))?\s+")


def policy(text: str) -> Normal:
    """Return what a policy rule says, from ``ip rule`` output or a command.

    Raises ValueError for a mark that is none.
    """
    bare = _COMMAND.sub("", text.strip())
    if found := _LISTED.fullmatch(bare):
        bare = f"pref {found['pref']} {found['rest']}"
    return tuple(sorted(_policy(bare.replace("[detached]", "").split())))


def _policy(words: list[str]) -> Iterator[Part]:
    left = iter(words)
    for word in left:
        key = _KEYS.get(word, word)
        if key == "not":
            yield ("not",)
        elif key in _ACTIONS or key in _NUMBERS:
            yield "type", _NUMBERS.get(key, key)
        else:
            value = next(left, "")
            if (key, value) not in (("from", "all"), ("to", "all")) and key not in ("proto",):
                yield key, _value(key, value)


def _value(key: str, value: str) -> str:
    if key == "fwmark":
        return str(Mark.parse(value))
    return _TABLES.get(value, value) if key == "table" else value


def route(text: str) -> Normal:
    """Return where a route leads: destination, type, gateway, device and table."""
    return tuple(sorted(_route(_COMMAND.sub("", text.strip()).split())))


def _route(words: list[str]) -> Iterator[Part]:
    if words and (words[0] in _ROUTES or words[0] in _NUMBERS):
        word = words.pop(0)
        yield "type", _NUMBERS.get(word, word)
    if words:
        to = words.pop(0)
        yield "to", "default" if to in ("0.0.0.0/0", "::/0") else to
    left = iter(word for word in words if word not in _FLAGS)
    for key in left:
        value = next(left, "")
        if key not in _TOLD_BY_KERNEL:
            yield key, _value(key, value)


def command(rule: Normal) -> str:
    """Write a policy rule as ``ip -batch`` takes it."""
    names = {number: name for name, number in _TABLES.items()}
    words = ["not"] if ("not",) in rule else []
    words += [f"pref {part(rule, 'pref')}"] if part(rule, "pref") else []
    for key, *values in rule:
        if key == "type":
            words += values
        elif key not in ("pref", "not"):
            words += [key, names.get(values[0], values[0]) if key == "table" else values[0]]
    return " ".join(["rule add", *words])


def route_command(text: str) -> str:
    """Write a listed route as ``ip -batch`` takes it, its type by name."""
    first, _, rest = text.strip().partition(" ")
    return f"route add {_NUMBERS.get(first, first)} {rest}"


def part(rule: Normal, key: str) -> str:
    """Return the value of a part of a policy rule or route, or nothing."""
    return next((p[1] for p in rule if p[0] == key and len(p) > 1), "")
