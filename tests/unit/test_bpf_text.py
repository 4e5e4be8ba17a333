"""The text language for eBPF programs: what it means, and the instructions it becomes.

The golden bytes come from LLVM's assembler (``llvm-mc -triple bpfel -mcpu=v3``), fed with the
assembly text beside each; only what its syntax lacks,
the offset of ``skb[r9 + 2]`` and constants stored on the stack, is by hand.
"""

from __future__ import annotations

import pytest

from lab.native.bpf_code import assemble
from lab.native.bpf_text import Write, parse

MARK_IF_UDP_PORT = """
bf16000000000000  r6 = r1
280000000c000000  r0 = *(u16 *)skb[12]
bf07000000000000  r7 = r0
5607080000080000  if w7 != 0x800 goto +8
3000000017000000  r0 = *(u8 *)skb[23]
bf08000000000000  r8 = r0
300000000e000000  r0 = *(u8 *)skb[14]
570000000f000000  r0 &= 15
6700000002000000  r0 <<= 2
070000000e000000  r0 += 14
bf09000000000000  r9 = r0
0500040000000000  goto +4
56070c00dd860000  if w7 != 0x86dd goto +12
3000000014000000  r0 = *(u8 *)skb[20]
bf08000000000000  r8 = r0
b709000036000000  r9 = 54
5608080011000000  if w8 != 17 goto +8
4890000002000000  r0 = *(u16 *)skb[r9 + 2]
5600060035000000  if w0 != 53 goto +6
6160080000000000  r0 = *(u32 *)(r6 + 8)
54000000ff000000  w0 &= 255
4400000000020000  w0 |= 512
6306080000000000  *(u32 *)(r6 + 8) = r0
b700000000000000  r0 = 0
9500000000000000  exit
b7000000ffffffff  r0 = -1
9500000000000000  exit
"""
DROP_OUTSIDE_PREFIX = """
bf16000000000000  r6 = r1
280000000c000000  r0 = *(u16 *)skb[12]
bf07000000000000  r7 = r0
6160080000000000  r0 = *(u32 *)(r6 + 8)
54000000000f0000  w0 &= 0xf00
56000700000e0000  if w0 != 0xe00 goto +7
5607060000080000  if w7 != 0x800 goto +6
200000001e000000  r0 = *(u32 *)skb[30]
54000000000000ff  w0 &= 0xff000000
560001000000000a  if w0 != 0x0a000000 goto +1
0500020000000000  goto +2
b700000002000000  r0 = 2
9500000000000000  exit
b7000000ffffffff  r0 = -1
9500000000000000  exit
"""
TO_THE_PEER = """
bf16000000000000  r6 = r1
6160080000000000  r0 = *(u32 *)(r6 + 8)
5400000000000000  w0 &= 0
4400000000053412  w0 |= 0x12340500
6306080000000000  *(u32 *)(r6 + 8) = r0
bf61000000000000  r1 = r6
b702000000000000  r2 = 0
8500000020000000  call 32
b401000007000000  w1 = 7
b702000000000000  r2 = 0
850000009b000000  call 155
9500000000000000  exit
"""

READDRESSED = """
bf16000000000000  r6 = r1
620af8ff02fc0000  *(u32 *)(r10 - 8) = 02:fc:00:00
6a0afcff01020000  *(u16 *)(r10 - 4) = 01:02
bf61000000000000  r1 = r6
b702000000000000  r2 = 0
bfa3000000000000  r3 = r10
07030000f8ffffff  r3 += -8
b704000006000000  r4 = 6
b705000000000000  r5 = 0
8500000009000000  call 9
b401000007000000  w1 = 7
b702000000000000  r2 = 0
8500000017000000  call 23
9500000000000000  exit
"""


@pytest.mark.parametrize(
    ("line", "listing"),
    [
        (
            "tc ingress lxc0: mark = mark & 0xff | 0x200, accept if udp and dport 53",
            MARK_IF_UDP_PORT,
        ),
        (
            "tc egress eth0: drop if mark & 0xf00 == 0xe00 and ip daddr != 10.0.0.0/8",
            DROP_OUTSIDE_PREFIX,
        ),
        ("tc ingress eth0: mark = 0x12340500, host, redirect-peer lxc0", TO_THE_PEER),
        ("tc egress eth0: mac 02:fc:00:00:01:02, redirect lxc0", READDRESSED),
    ],
)
def test_a_line_becomes_the_instructions_that_llvm_makes(line: str, listing: str) -> None:
    """Every kind of condition and action, byte for byte."""
    wanted = [text.split()[0] for text in listing.strip().splitlines()]
    made = assemble(parse(line), {"lxc0": 7}).hex()
    assert [made[i : i + 16] for i in range(0, len(made), 16)] == wanted


@pytest.mark.parametrize(
    ("expression", "keep", "bits"),
    [
        ("0x200", 0, 0x200),
        ("mark | 0x1500", 0xFFFFEAFF, 0x1500),
        ("mark & ~0xf00 | 0x300", 0xFFFFF0FF, 0x300),
        ("mark & 0xff00 | 0x12340000", 0xFF00, 0x12340000),
        ("0x12340000 | mark & 0xff00 & 0xf00", 0xF00, 0x12340000),
        ("mark & 0xffff0000 & ~0x10000 | mark & 0xf", 0xFFFE000F, 0),
    ],
)
def test_a_mark_expression_comes_to_one_mask_and_one_value(
    expression: str, keep: int, bits: int
) -> None:
    """``&`` binds closer than ``|``, as in C; the order of the terms does not matter."""
    assert parse(f"tc ingress eth0: mark = {expression}").write == Write(keep, bits)


def test_an_ipv6_prefix_compares_only_the_words_it_covers() -> None:
    """A /48 is two comparisons: 32 bits and 16 bits."""
    longer = assemble(parse("tc egress eth0: drop if ip6 saddr fd00:10:244::/64"), {})
    shorter = assemble(parse("tc egress eth0: drop if ip6 saddr fd00::/16"), {})
    assert len(longer) - len(shorter) == 3 * 8


def test_whether_a_packet_may_match_is_told_from_mark_and_addresses() -> None:
    """Ports are unknown to the question, so they never speak against a match."""
    program = parse("tc ingress a: mark = 1 if mark & 0xf == 2 and ip saddr 10.0.0.0/8 and dport 1")
    assert program.may_match(0x12, "10.1.2.3", "192.0.2.1")
    assert not program.may_match(0x11, "10.1.2.3", "192.0.2.1")
    assert not program.may_match(0x12, "192.0.2.1", "10.1.2.3")
    assert not program.may_match(0x12, "fd00::1", "fd00::2")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("ingress eth0: drop", "is not a program"),
        ("tc ingress eth0: reject", "unknown action 'reject'; known: mark"),
        ("tc ingress eth0: mac 02:fc", "'02:fc' is not a MAC address"),
        ("tc ingress eth0: mark = blue", "'blue' is not a number"),
        ("tc ingress eth0: mark = 0x100000000", "does not fit in 32 bits"),
        ("tc ingress eth0: drop if vlan 5", "unknown condition 'vlan 5'; known: mark"),
        ("tc ingress eth0: drop if dport 70000", "70000 is not a port"),
        ("tc ingress eth0: drop if ip daddr fd00::/8", "is no prefix of ip"),
        ("tc ingress eth0: drop if ip daddr 10.0.0.300", "10.0.0.300"),
    ],
)
def test_what_is_no_program_is_named(line: str, message: str) -> None:
    """The error names the offender and what was expected."""
    with pytest.raises(ValueError, match=message):
        parse(line)
