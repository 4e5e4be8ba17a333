"""Which address is behind which interface, told from the rules that name both [pure].

``-i wg0 -s 10.8.0.0/24`` says that the prefix is behind ``wg0``; so do ``-o`` with ``-d``, nft's
``iifname`` with ``saddr`` and a route's ``dev``. Nothing is told from a negated match, from a set,
or of an address that two rules put behind different interfaces.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping

from lab.capture import mapping as maps

_ADDRESS = r"[0-9a-f][0-9a-f:./]+"
_XT = re.compile(
    r"(?<!! )(?:(?:-i|--in-interface) (?P<iif>[^\s!]+)|(?:-o|--out-interface) (?P<oif>[^\s!]+)"
    rf"|(?:-s|--source) (?P<from>{_ADDRESS})|(?:-d|--destination) (?P<to>{_ADDRESS}))"
)
_NFT = re.compile(
    r'\b(?:iif(?:name)? (?:== )?"?(?P<iif>[A-Za-z][\w.@*-]*)'
    r'|oif(?:name)? (?:== )?"?(?P<oif>[A-Za-z][\w.@*-]*)'
    rf"|saddr (?:== )?(?P<from>{_ADDRESS})|daddr (?:== )?(?P<to>{_ADDRESS}))"
)
_RULE = re.compile(
    rf"\b(?:iif (?P<iif>\S+)|oif (?P<oif>\S+)|from (?P<from>{_ADDRESS})|to (?P<to>{_ADDRESS}))"
)
_ROUTE = re.compile(
    r"(?:(?:ip (?:-[46] )?)?route (?:add|replace|append) )?(?:unicast )?"
    r"(?P<to>[0-9a-f]*[.:][0-9a-f:./]+)\b.*? dev (?P<oif>\S+)"
)
_PATTERNS = {"iptables": _XT, "nft": _NFT, "ip": _RULE}
_ROLES = {
    "uplink": ("wan", "wan-net"),
    "lan": ("lan", "lan-net"),
    "tunnel": ("tunnel", "tunnel-net"),
    "pod-a": ("pod-a", "pods-net"),
    "pod-b": ("pod-b", "pods-net"),
    "pods": ("", "pods-net"),
}
"""What stands for an address, and for a prefix, behind each kind of interface."""


def behind(tool: str, lines: Iterable[str]) -> Iterator[tuple[str, str]]:
    """Yield each interface with an address that a line puts behind it."""
    for line in lines:
        text = line.strip()
        if tool == "ip" and (route := _ROUTE.fullmatch(text) or _ROUTE.match(text)):
            yield route["oif"], route["to"]
            continue
        found: dict[str, str] = {}
        for one in _PATTERNS[tool].finditer(text):
            found |= {name: value for name, value in one.groupdict().items() if value}
        for device, address in (("iif", "from"), ("oif", "to")):
            if device in found and address in found:
                yield found[device], found[address]


def guess(
    pairs: Iterable[tuple[str, str]], devices: Mapping[str, str], told: Iterable[str] = ()
) -> tuple[tuple[str, str], ...]:
    """Map the addresses behind interfaces that have a role; one address to a role and family.

    What is ``told`` of some is not guessed.
    """
    roles: dict[str, set[str]] = {}
    for device, address in pairs:
        role = _role(devices.get(device, ""), address)
        if role and address not in told and list(maps.addresses(address)) == [address]:
            roles.setdefault(address, set()).add(role)
    found: dict[tuple[str, bool], str] = {}
    for address, possible in roles.items():
        if len(possible) == 1:
            (role,) = possible
            found.setdefault((role, ":" in address), address)
    return tuple((address, role) for (role, _), address in found.items())


def _role(device: str, address: str) -> str:
    one, several = _ROLES.get(device, ("", ""))
    _, slash, length = address.partition("/")
    return one if not slash or length == ("128" if ":" in address else "32") else several
