"""What the kernel knows of nftables chains and rules: hooks, priorities and handles."""

from __future__ import annotations

import struct
from dataclasses import dataclass

from lab.kernel.netlink import Netfilter, attributes

_GETCHAIN, _GETRULE = (10 << 8) | 4, (10 << 8) | 7
_TABLE, _NAME, _RULE_HANDLE, _CHAIN_HOOK = 1, 3, 3, 4
_CHAIN_TYPE = 7
# The kernel runs all nat chains of a hook at the priority of its own nat hook (net/netfilter/
# nf_nat_core.c, nf_nat_register_fn); their own number only orders them among themselves.
_NAT = {"prerouting": -100, "input": 100, "output": -100, "postrouting": 100}
_FAMILIES = {1: "inet", 2: "ip", 5: "netdev", 10: "ip6"}
_IP_HOOKS = ("prerouting", "input", "forward", "output", "postrouting")


@dataclass(frozen=True, slots=True)
class Hooked:
    """Where a base chain hooks in, and its type: ``filter``, ``nat`` or ``route``."""

    hook: str
    priority: int
    kind: str = "filter"


ChainKey = tuple[str, str]
"""Table with its family, as ``ip mangle``, and chain."""


def base_chains(socket: Netfilter) -> dict[ChainKey, Hooked]:
    """Dump the base chains of the namespace, of the families that IP packets meet."""
    found = {}
    for family in (1, 2, 10):
        for chain in socket.dump(_GETCHAIN, family):
            if _CHAIN_HOOK in chain:
                hook = attributes(chain[_CHAIN_HOOK])
                number, priority = struct.unpack(">Ii", hook[1] + hook[2])
                where = _IP_HOOKS[number] if number < len(_IP_HOOKS) else "ingress"
                kind = _text(chain.get(_CHAIN_TYPE, b""))
                if kind == "nat":
                    priority = _NAT[where]
                key = (f"{_FAMILIES[family]} {_text(chain[_TABLE])}", _text(chain[_NAME]))
                found[key] = Hooked(where, priority, kind)
    return found


def rule_handles(socket: Netfilter) -> dict[ChainKey, list[int]]:
    """Dump the rules' handles in the order in which each chain tries them."""
    found: dict[ChainKey, list[int]] = {}
    for family in (1, 2, 10):
        for rule in socket.dump(_GETRULE, family):
            key = (f"{_FAMILIES[family]} {_text(rule[_TABLE])}", _text(rule[2]))
            found.setdefault(key, []).append(int.from_bytes(rule[_RULE_HANDLE], "big"))
    return found


def _text(value: bytes) -> str:
    return value.rstrip(b"\0").decode()
