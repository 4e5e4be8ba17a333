"""A small text language for eBPF programs at tc hooks, and its assembler [pure].

One line is one program::

    tc ingress lxc0: mark = mark & 0xff | 0x200, accept if udp and dport 53
    tc egress eth0: drop if mark & 0xf00 == 0xe00 and ip daddr != 10.0.0.0/8

Programs of one device and hook run in the order in which they stand. One whose conditions do not
hold, or that gives no verdict, leaves the packet to the next.

Instruction set: Documentation/bpf/standardization/instruction-set.rst; the packet loads are the
legacy ones (BPF_ABS, BPF_IND), which convert from network byte order. Outside the packet they end
the program with 0, which tc takes as accept.
"""

from __future__ import annotations

import ipaddress
import re
import struct
from collections.abc import Iterator, Mapping
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
_ETHERTYPES = {"ip": 0x0800, "ip6": 0x86DD}
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

    def may_match(self, mark: int, source: str, destination: str) -> bool:
        """Tell whether a packet may meet the conditions, as far as mark and addresses say."""
        return all(_may_hold(c, mark, source, destination) for c in self.conditions)

    def __str__(self) -> str:
        return f"tc {self.hook} {self.device}"


def _may_hold(condition: Condition, mark: int, source: str, destination: str) -> bool:
    if isinstance(condition, MarkIs):
        return (mark & condition.mask == condition.value) == condition.equal
    if isinstance(condition, Kind):
        return (condition.ethertype == _ETHERTYPES["ip6"]) == (":" in source)
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
    if text in _ETHERTYPES:
        return Kind(_ETHERTYPES[text])
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


# The assembler. r6 holds the context, r7 the ethertype, r8 the protocol, r9 the transport offset.

_MARK_OFFSET = 8  # offsetof(struct __sk_buff, mark), include/uapi/linux/bpf.h
_OK, _SHOT, _UNSPEC = 0, 2, -1  # TC_ACT_*, include/uapi/linux/pkt_cls.h
# Helper numbers, include/uapi/linux/bpf.h.
_STORE_BYTES, _REDIRECT, _CHANGE_TYPE, _REDIRECT_NEIGH, _REDIRECT_PEER = 9, 23, 32, 152, 155
_FROM_INGRESS = 1  # BPF_F_INGRESS
_MOV, _MOV_REG, _MOV32, _AND32, _OR32 = 0xB7, 0xBF, 0xB4, 0x54, 0x44
_ADD, _AND, _SHIFT = 0x07, 0x57, 0x67
_LOAD, _STORE, _CALL, _EXIT = 0x61, 0x63, 0x85, 0x95
_STACK_WORD, _STACK_HALF = 0x62, 0x6A
_ABS_BYTE, _ABS_HALF, _ABS_WORD, _IND_HALF = 0x30, 0x28, 0x20, 0x48
_GOTO, _EQUAL32, _DIFFERENT32 = 0x05, 0x16, 0x56
_ETHERNET = 14


@dataclass(frozen=True, slots=True)
class _Step:
    """One instruction; ``to`` names the label that a jump leads to."""

    code: int
    dst: int = 0
    src: int = 0
    offset: int = 0
    immediate: int = 0
    to: str = ""


_Item = _Step | str


def assemble(program: Program, indexes: Mapping[str, int]) -> bytes:
    """Return the instructions; ``indexes`` maps the devices redirected to to their numbers."""
    items: list[_Item] = [_Step(_MOV_REG, 6, 1)]
    if any(isinstance(c, Kind | Address | Protocol | Port) for c in program.conditions):
        items += [_Step(_ABS_HALF, immediate=12), _Step(_MOV_REG, 7, 0)]
    if any(isinstance(c, Protocol | Port) for c in program.conditions):
        items += _transport()
    for number, condition in enumerate(program.conditions):
        items += _test(condition, f"next{number}")
    items += _act(program, indexes)
    if program.conditions:
        items += ["fail", _Step(_MOV, immediate=_UNSPEC), _Step(_EXIT)]
    return _encode(items)


def _transport() -> list[_Item]:
    return [
        _Step(_DIFFERENT32, 7, immediate=_ETHERTYPES["ip"], to="six"),
        _Step(_ABS_BYTE, immediate=_ETHERNET + 9),
        _Step(_MOV_REG, 8, 0),
        _Step(_ABS_BYTE, immediate=_ETHERNET),
        _Step(_AND, immediate=0xF),
        _Step(_SHIFT, immediate=2),
        _Step(_ADD, immediate=_ETHERNET),
        _Step(_MOV_REG, 9, 0),
        _Step(_GOTO, to="known"),
        "six",
        _Step(_DIFFERENT32, 7, immediate=_ETHERTYPES["ip6"], to="fail"),
        _Step(_ABS_BYTE, immediate=_ETHERNET + 6),
        _Step(_MOV_REG, 8, 0),
        _Step(_MOV, 9, immediate=_ETHERNET + 40),
        "known",
    ]


def _test(condition: Condition, label: str) -> list[_Item]:
    if isinstance(condition, MarkIs):
        jump = _DIFFERENT32 if condition.equal else _EQUAL32
        return [
            _Step(_LOAD, 0, 6, _MARK_OFFSET),
            _Step(_AND32, immediate=condition.mask),
            _Step(jump, immediate=condition.value, to="fail"),
        ]
    if isinstance(condition, Kind):
        return [_Step(_DIFFERENT32, 7, immediate=condition.ethertype, to="fail")]
    if isinstance(condition, Protocol):
        return [_Step(_DIFFERENT32, 8, immediate=condition.number, to="fail")]
    if isinstance(condition, Port):
        return [
            _Step(_IND_HALF, src=9, immediate=condition.offset),
            _Step(_DIFFERENT32, immediate=condition.number, to="fail"),
        ]
    return _test_address(condition, label)


def _test_address(condition: Address, label: str) -> list[_Item]:
    network = condition.network
    four = network.version == 4
    start = _ETHERNET + (
        (12 if condition.source else 16) if four else (8 if condition.source else 24)
    )
    items: list[_Item] = [
        _Step(_DIFFERENT32, 7, immediate=_ETHERTYPES["ip" if four else "ip6"], to="fail")
    ]
    words = struct.iter_unpack("!I", network.network_address.packed)
    masks = struct.iter_unpack("!I", network.netmask.packed)
    for number, ((word,), (mask,)) in enumerate(zip(words, masks, strict=True)):
        if mask:
            items += [
                _Step(_ABS_WORD, immediate=start + 4 * number),
                _Step(_AND32, immediate=mask),
                _Step(_DIFFERENT32, immediate=word, to="fail" if condition.inside else label),
            ]
    if not condition.inside:
        items += [_Step(_GOTO, to="fail"), label]
    return items


def _act(program: Program, indexes: Mapping[str, int]) -> list[_Item]:
    items: list[_Item] = []
    if program.write is not None:
        items += [
            _Step(_LOAD, 0, 6, _MARK_OFFSET),
            _Step(_AND32, immediate=program.write.keep),
            _Step(_OR32, immediate=program.write.bits),
            _Step(_STORE, 6, 0, _MARK_OFFSET),
        ]
    if program.to_host:
        items += [_Step(_MOV_REG, 1, 6), _Step(_MOV, 2), _Step(_CALL, immediate=_CHANGE_TYPE)]
    if program.mac:
        items += _readdress(program.mac)
    if program.target:
        return items + _redirect(program.verdict, indexes[program.target])
    code = {"accept": _OK, "drop": _SHOT}.get(program.verdict, _UNSPEC)
    return [*items, _Step(_MOV, immediate=code), _Step(_EXIT)]


def _readdress(mac: bytes) -> list[_Item]:
    """Write the destination MAC address, by way of the stack."""
    high, low = struct.unpack("<IH", mac)
    return [
        _Step(_STACK_WORD, 10, offset=-8, immediate=high),
        _Step(_STACK_HALF, 10, offset=-4, immediate=low),
        _Step(_MOV_REG, 1, 6),
        _Step(_MOV, 2),
        _Step(_MOV_REG, 3, 10),
        _Step(_ADD, 3, immediate=0xFFFFFFF8),
        _Step(_MOV, 4, immediate=6),
        _Step(_MOV, 5),
        _Step(_CALL, immediate=_STORE_BYTES),
    ]


def _redirect(verdict: Verdict, index: int) -> list[_Item]:
    head: list[_Item] = [_Step(_MOV32, 1, immediate=index)]
    flags = _FROM_INGRESS if verdict == "redirect-ingress" else 0
    if verdict == "redirect-neigh":
        return [
            *head,
            _Step(_MOV, 2),
            _Step(_MOV, 3),
            _Step(_MOV, 4),
            _Step(_CALL, immediate=_REDIRECT_NEIGH),
            _Step(_EXIT),
        ]
    helper = _REDIRECT_PEER if verdict == "redirect-peer" else _REDIRECT
    return [*head, _Step(_MOV, 2, immediate=flags), _Step(_CALL, immediate=helper), _Step(_EXIT)]


def _encode(items: list[_Item]) -> bytes:
    labels: dict[str, int] = {}
    steps: list[_Step] = []
    for item in items:
        if isinstance(item, str):
            labels[item] = len(steps)
        else:
            steps.append(item)
    return b"".join(_instruction(step, number, labels) for number, step in enumerate(steps))


def _instruction(step: _Step, number: int, labels: Mapping[str, int]) -> bytes:
    offset = labels[step.to] - number - 1 if step.to else step.offset
    immediate = step.immediate - (1 << 32) if step.immediate > 0x7FFFFFFF else step.immediate
    return struct.pack("<BBhi", step.code, step.src << 4 | step.dst, offset, immediate)
