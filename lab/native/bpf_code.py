"""Instructions of the eBPF programs that ``bpf_text`` describes [pure].

Instruction set: Documentation/bpf/standardization/instruction-set.rst; the packet loads are the
legacy ones (BPF_ABS, BPF_IND), which convert from network byte order. Outside the packet they end
the program with 0, which tc takes as accept. r6 holds the context, r7 the ethertype, r8 the
protocol, r9 the transport offset.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass

from lab.native.bpf_text import (
    ETHERTYPES,
    Address,
    Condition,
    Kind,
    MarkIs,
    Port,
    Program,
    Protocol,
    Verdict,
)

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
        _Step(_DIFFERENT32, 7, immediate=ETHERTYPES["ip"], to="six"),
        _Step(_ABS_BYTE, immediate=_ETHERNET + 9),
        _Step(_MOV_REG, 8, 0),
        _Step(_ABS_BYTE, immediate=_ETHERNET),
        _Step(_AND, immediate=0xF),
        _Step(_SHIFT, immediate=2),
        _Step(_ADD, immediate=_ETHERNET),
        _Step(_MOV_REG, 9, 0),
        _Step(_GOTO, to="known"),
        "six",
        _Step(_DIFFERENT32, 7, immediate=ETHERTYPES["ip6"], to="fail"),
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
        _Step(_DIFFERENT32, 7, immediate=ETHERTYPES["ip" if four else "ip6"], to="fail")
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
