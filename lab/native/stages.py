"""Where the tables of iptables hook into a packet's path [pure].

Priorities are those of ``enum nf_ip_hook_priorities`` (include/uapi/linux/netfilter_ipv4.h).
"""

from __future__ import annotations

XTABLES = {
    "raw": {"prerouting": -300, "output": -300},
    "mangle": dict.fromkeys(("prerouting", "input", "forward", "output", "postrouting"), -150),
    "nat": {"prerouting": -100, "input": 100, "output": -100, "postrouting": 100},
    "filter": {"input": 0, "forward": 0, "output": 0},
    "security": {"input": 50, "forward": 50, "output": 50},
}
SECURITY_NFT = 150
"""Where iptables-nft hooks the security table, instead of the kernel's 50."""


def stage(table: str, hook: str) -> int | None:
    """Return the priority at which an iptables table hooks in, None where it does not."""
    return XTABLES.get(table, {}).get(hook)
