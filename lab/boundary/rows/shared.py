"""Texts that many rows have in common [pure]."""

from __future__ import annotations

UDP = "udp dport 5000"


def marked(node: str, hook: str, mark: int, match: str = UDP, priority: int = -300) -> str:
    """Write the line that marks packets at an inet hook, the ctmark for a match of ``ct mark``."""
    chain = f"type filter hook {hook} priority {priority}; {match} meta mark set {mark:#x};"
    return f"{node}: nft table inet m_{hook} {{ chain c {{ {chain} }}; }}\n"


def tracked(node: str, hook: str, mark: int, match: str = UDP, priority: int = -100) -> str:
    """Write the line that sets the ctmark at an inet hook."""
    chain = f"type filter hook {hook} priority {priority}; {match} ct mark set {mark:#x};"
    return f"{node}: nft table inet ct_{hook} {{ chain c {{ {chain} }}; }}\n"


def marked_at(node: str, hook: str, device: str, mark: int, match: str = UDP) -> str:
    """Write the line that marks packets at a device's ``ingress`` or ``egress`` hook."""
    chain = (
        f'type filter hook {hook} device "{device}" priority 0; {match} meta mark set {mark:#x};'
    )
    return f"{node}: nft table netdev m_{hook} {{ chain c {{ {chain} }}; }}\n"


def leg(node: str, device: str, far: str, far_device: str, number: int) -> str:
    """Write the lines that join two nodes by one more veth pair, 10.0.NUMBER.1 and .2."""
    return (
        f"{node}: ip link add {device} type veth peer name {far_device} netns {{{far}}}\n"
        f"{node}: ip addr add 10.0.{number}.1/24 dev {device}\n"
        f"{node}: ip link set {device} up\n"
        f"{far}: ip addr add 10.0.{number}.2/24 dev {far_device}\n"
        f"{far}: ip link set {far_device} up\n"
    )
