"""``ip rule`` and ``ip route`` lines as requests (include/uapi/linux/fib_rules.h, rtnetlink.h)."""

from __future__ import annotations

import socket
import struct

from lab.rules.requests.request import (
    Request,
    attributes,
    device,
    pairs,
    prefix,
    table,
    word,
)

_NEWROUTE, _DELROUTE, _NEWRULE, _DELRULE = 24, 25, 32, 33
_RTA_DST, _RTA_GATEWAY, _TABLE = 1, 5, 15
_TO_DEVICE = struct.pack("=HH", 8, 4)  # RTA_OIF; the device's index comes behind
_FRA_DST, _FRA_SRC, _FRA_IIFNAME, _FRA_GOTO, _FRA_PRIORITY = 1, 2, 3, 4, 6
_FRA_FWMARK, _FRA_FWMASK, _FRA_SUPPRESS = 10, 16, 14
_INVERT, _ONLINK = 0x2, 0x4
_LOOK_UP, _GOTO = 1, 2
_ACTIONS = {"nop": 3, "blackhole": 6, "unreachable": 7, "prohibit": 8}
_UNICAST, _LOCAL, _BOOT = 1, 2, 3
_GLOBAL, _LINK, _HOST, _NOWHERE = 0, 253, 254, 255
_RULE = ("pref", "from", "to", "fwmark", "iif", "table", "goto", "suppress_prefixlength")
_ROUTE = ("dev", "via", "table", "scope")
_HEADER = struct.Struct("=BBBBBBBBI")


def add_rule(words: list[str], family: int) -> Request:
    """Read what follows ``rule add``."""
    words, inverted = _without_not(words)
    action = _ACTIONS.get("".join(words[-1:]), _LOOK_UP)
    if action != _LOOK_UP:
        words = words[: -2 if words[-2:-1] == ["type"] else -1]
    given = pairs(words, _RULE)
    if "goto" in given:
        action = _GOTO if action == _LOOK_UP else 0
    if (action == _LOOK_UP) != ("table" in given) or not action:
        raise ValueError(words)
    to_table, large = table(given.get("table", "0"))
    source, source_bits = prefix(given.get("from", ""), family)
    destination, bits = prefix(given.get("to", ""), family)
    mark, *mask = given.get("fwmark", "").split("/", 1)
    flags = _INVERT if inverted else 0
    header = _HEADER.pack(family, bits, source_bits, 0, to_table, 0, 0, action, flags)
    selectors = attributes(
        (_FRA_DST, destination),
        (_FRA_SRC, source),
        (_FRA_IIFNAME, f"{device(given['iif'])}\0".encode() if "iif" in given else b""),
        (_FRA_PRIORITY, word(given.get("pref"))),
        (_FRA_FWMARK, word(mark if "fwmark" in given else None)),
        (_FRA_FWMASK, word(mask[0] if mask else None)),
        (_FRA_GOTO, word(given.get("goto"))),
        (_FRA_SUPPRESS, word(given.get("suppress_prefixlength"))),
        (_TABLE, large),
    )
    return Request(_NEWRULE, header + selectors)


def _without_not(words: list[str]) -> tuple[list[str], bool]:
    """Take ``not`` away where a word may begin; the pairs show whether one did."""
    if "not" not in words:
        return words, False
    place = words.index("not")
    if place % 2:
        raise ValueError(words)
    return words[:place] + words[place + 1 :], True


def delete_rule(words: list[str], family: int) -> Request:
    """Read what follows ``rule del``: the preference alone."""
    given = pairs(words, ("pref",))
    header = _HEADER.pack(family, 0, 0, 0, 0, 0, 0, 0, 0)
    preference = (_FRA_PRIORITY, word(given["pref"]))
    return Request(_DELRULE, header + attributes(preference), flags=0)


def add_route(words: list[str], family: int) -> Request:
    """Read what follows ``route add``."""
    local, onlink = words[:1] == ["local"], "onlink" in words
    if onlink:
        words.remove("onlink")
    to, *others = words[local:]
    given = pairs(others, _ROUTE)
    destination, bits = _destination(to, family)
    gateway, _ = prefix(given.get("via", ""), family)
    in_table, large = table(given.get("table", "local" if local else "main"))
    nearest = _GLOBAL if gateway or family == socket.AF_INET6 else _LINK
    unsaid = _HOST if local and family == socket.AF_INET else nearest
    scope = {"link": _LINK}[given["scope"]] if "scope" in given else unsaid
    header = (family, bits, 0, 0, in_table, _BOOT, scope, _LOCAL if local else _UNICAST)
    body = _HEADER.pack(*header, _ONLINK if onlink else 0) + attributes(
        (_RTA_DST, destination), (_RTA_GATEWAY, gateway), (_TABLE, large)
    )
    return Request(_NEWROUTE, body + _TO_DEVICE, device(given["dev"]))


def delete_route(words: list[str], family: int) -> Request:
    """Read what follows ``route del``: destination, device and table."""
    to, *others = words
    given = pairs(others, ("dev", "table"))
    destination, bits = _destination(to, family)
    in_table, large = table(given.get("table", "main"))
    header = _HEADER.pack(family, bits, 0, 0, in_table, 0, _NOWHERE, 0, 0)
    body = header + attributes((_RTA_DST, destination), (_TABLE, large))
    return Request(_DELROUTE, body + _TO_DEVICE, device(given["dev"]), flags=0)


def _destination(written: str, family: int) -> tuple[bytes, int]:
    anywhere = "0.0.0.0/0" if family == socket.AF_INET else "::/0"
    return prefix(anywhere if written == "default" else written, family)
