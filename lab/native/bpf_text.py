"""A small text language for eBPF programs at tc hooks [pure]; ``bpf_code`` assembles it.

One line is one program::

    tc ingress lxc0: mark = mark & 0xff | 0x200, accept if udp and dport 53
    tc egress eth0: drop if mark & 0xf00 == 0xe00 and ip daddr != 10.0.0.0/8

Programs of one device and hook run in the order in which they stand. One whose conditions do not
hold, or that gives no verdict, leaves the packet to the next.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from lab.marks import WORD

TcHook = Literal["ingress", "egress"]
Verdict = Literal[
    "continue", "accept", "drop", "redirect", "redirect-ingress", "redirect-peer", "redirect-neigh"
]
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

_LINE = re.compile(
    r"tc (?P<hook>ingress|egress) (?P<device>[^\s:]+): *(?P<actions>.*?)"
    r"(?: if (?P<conditions>.+))?"
)
_MARK_TEST = re.compile(r"mark(?: & (?P<mask>\S+))? (?P<operator>==|!=) (?P<value>\S+)")
_ADDRESS = re.compile(r"(?P<family>ip6?) (?P<side>[sd])addr (?P<different>!= )?(?P<prefix>\S+)")
_PROTOCOLS = {"tcp": 6, "udp": 17, "icmp": 1, "icmp6": 58, "esp": 50}
ETHERTYPES = {"ip": 0x0800, "ip6": 0x86DD}
_REDIRECTS: dict[str, Verdict] = {
    "redirect": "redirect",
    "redirect-ingress": "redirect-ingress",
    "redirect-peer": "redirect-peer",
    "redirect-neigh": "redirect-neigh",
}


@dataclass(frozen=True, slots=True)
class Write:
    """A new mark: ``old & keep | bits``. Every mark expression of the language comes to this."""

    keep: int
    bits: int

    def apply(self, word: int) -> int:
        """Return the mark after the write."""
        return word & self.keep | self.bits


@dataclass(frozen=True, slots=True)
class MarkIs:
    """A condition ``mark & mask == value``, or ``!=``."""

    mask: int
    value: int
    equal: bool


@dataclass(frozen=True, slots=True)
class Kind:
    """A condition on the ethertype."""

    ethertype: int


@dataclass(frozen=True, slots=True)
class Protocol:
    """A condition on the transport protocol, of either address family."""

    number: int


@dataclass(frozen=True, slots=True)
class Port:
    """A condition on a port: ``offset`` 0 is the source port, 2 the destination port."""

    offset: int
    number: int


@dataclass(frozen=True, slots=True)
class Address:
    """A condition on the source or destination address; it implies the address family."""

    source: bool
    network: Network
    inside: bool


Condition = MarkIs | Kind | Protocol | Port | Address


@dataclass(frozen=True, slots=True)
class Program:
    """One line: where it is attached, when it acts and what it does.

    ``to_host`` makes the stack take the packet for its own whatever its MAC address says; ``mac``
    is the destination MAC address to write, six bytes or none.
    """

    hook: TcHook
    device: str
    conditions: tuple[Condition, ...]
    write: Write | None
    to_host: bool
    mac: bytes
    verdict: Verdict
    target: str

    def may_match(
        self,
        mark: int,
        source: str = "",
        destination: str = "",
        ports: tuple[int, int] | None = None,
    ) -> bool:
        """Tell whether a packet may meet the conditions, as far as mark, addresses and ports say.

        Addresses may be unknown, ports (of source and destination) as well.
        """
        return all(_may_hold(c, mark, source, destination, ports) for c in self.conditions)

    def __str__(self) -> str:
        return f"tc {self.hook} {self.device}"


def _may_hold(
    condition: Condition, mark: int, source: str, destination: str, ports: tuple[int, int] | None
) -> bool:
    if isinstance(condition, MarkIs):
        return (mark & condition.mask == condition.value) == condition.equal
    if isinstance(condition, Port):
        return ports is None or ports[condition.offset // 2] == condition.number
    if not source:
        return True
    if isinstance(condition, Kind):
        return (condition.ethertype == ETHERTYPES["ip6"]) == (":" in source)
    if isinstance(condition, Address):
        address = ipaddress.ip_address(source if condition.source else destination)
        same = address.version == condition.network.version
        return same and (address in condition.network) == condition.inside
    return True


def parse(line: str) -> Program:
    """Read one line; raises ValueError with the offender and what was expected."""
    found = _LINE.fullmatch(line)
    if not found or not found["actions"]:
        raise ValueError(
            f"{line!r} is not a program; "
            "expected e.g. 'tc ingress DEVICE: mark = 0x200 if udp and dport 53'"
        )
    write: Write | None = None
    verdict: Verdict = "continue"
    target, to_host, mac = "", False, b""
    for action in (part.strip() for part in found["actions"].split(",")):
        first, _, rest = action.partition(" ")
        if action.startswith("mark = "):
            write = _write(action.removeprefix("mark = "))
        elif action == "host":
            to_host = True
        elif first == "mac":
            mac = _mac(rest)
        elif action in ("accept", "drop"):
            verdict = "accept" if action == "accept" else "drop"
        elif first in _REDIRECTS and rest:
            verdict, target = _REDIRECTS[first], rest
        else:
            raise ValueError(
                f"unknown action {action!r}; known: mark = …, host, mac ADDRESS, accept, drop, "
                f"{', '.join(f'{name} DEVICE' for name in _REDIRECTS)}"
            )
    hook: TcHook = "ingress" if found["hook"] == "ingress" else "egress"
    conditions = tuple(_conditions(found["conditions"] or ""))
    return Program(hook, found["device"], conditions, write, to_host, mac, verdict, target)


def _write(text: str) -> Write:
    """Fold an expression of ``mark``, numbers, ``~``, ``&`` and ``|``; ``&`` binds closer."""
    keep = bits = 0
    for term in text.split("|"):
        factors = [factor.strip() for factor in term.split("&")]
        mask = WORD
        for factor in factors:
            mask &= WORD if factor == "mark" else _number(factor)
        if "mark" in factors:
            keep |= mask
        else:
            bits |= mask
    return Write(keep & ~bits & WORD, bits)


def _number(text: str) -> int:
    inverted = text.startswith("~")
    try:
        number = int(text.removeprefix("~").strip(), 0)
    except ValueError:
        raise ValueError(f"{text!r} is not a number; expected hex such as 0xf00") from None
    if not 0 <= number <= WORD:
        raise ValueError(f"{text} does not fit in 32 bits")
    return ~number & WORD if inverted else number


def _mac(text: str) -> bytes:
    if not re.fullmatch(r"(?:[0-9a-f]{2}:){5}[0-9a-f]{2}", text):
        raise ValueError(f"{text!r} is not a MAC address; expected e.g. 02:fc:00:00:01:02")
    return bytes.fromhex(text.replace(":", ""))


def _conditions(text: str) -> Iterator[Condition]:
    for part in (piece.strip() for piece in text.split(" and ") if piece.strip()):
        yield _condition(part)


def _condition(text: str) -> Condition:
    words = text.split()
    if found := _MARK_TEST.fullmatch(text):
        mask = _number(found["mask"]) if found["mask"] else WORD
        return MarkIs(mask, _number(found["value"]), found["operator"] == "==")
    if found := _ADDRESS.fullmatch(text):
        return _address(found)
    if text in ETHERTYPES:
        return Kind(ETHERTYPES[text])
    if text in _PROTOCOLS:
        return Protocol(_PROTOCOLS[text])
    if words[0] in ("sport", "dport") and len(words) == 2:
        return Port(0 if words[0] == "sport" else 2, _port(words[1]))
    raise ValueError(
        f"unknown condition {text!r}; known: mark [& MASK] ==|!= N, ip, ip6, "
        f"ip|ip6 saddr|daddr [!=] PREFIX, {', '.join(_PROTOCOLS)}, sport N, dport N"
    )


def _address(found: re.Match[str]) -> Address:
    network = ipaddress.ip_network(found["prefix"], strict=False)
    if network.version != (4 if found["family"] == "ip" else 6):
        raise ValueError(f"{found['prefix']} is no prefix of {found['family']}")
    return Address(found["side"] == "s", network, not found["different"])


def _port(text: str) -> int:
    number = _number(text)
    if number > 65535:
        raise ValueError(f"{text} is not a port; expected 0 to 65535")
    return number
