"""Read the policy rules of a node back, and tell whose they are."""

from __future__ import annotations

import ipaddress
import itertools
import socket
import struct
from dataclasses import replace

from lab.kernel.netlink import attributes
from lab.kernel.route import TABLES, Router
from lab.marks import WORD, Mark
from lab.native.rule import Rule
from lab.record import PolicyRule
from lab.rules.installed import Installed

_ACTIONS = {1: "lookup", 2: "goto", 3: "nop", 6: "blackhole", 7: "unreachable", 8: "prohibit"}
_KERNEL_RULES = (0, 32766, 32767)


def policy_rules(
    router: Router, installed: Installed, rules: tuple[Rule, ...]
) -> tuple[PolicyRule, ...]:
    """Read the policy rules in the order in which the kernel tries them, with their owners."""
    family = socket.AF_INET if installed.family == "ipv4" else socket.AF_INET6
    found = [_policy_rule(payload, family) for payload in router.dump_rules(family)]
    owners = {id(rule): number for number, rule in enumerate(rules)}
    # A rule that names its preference is known by it; the others are among those left over.
    for written in sorted(installed.policy, key=lambda r: _preference(r.written) is None):
        index = next(
            (n for n, p in enumerate(found) if p.rule is None and _is(p, written.written)), None
        )
        if index is not None:
            found[index] = replace(found[index], rule=owners.get(id(written)))
    return tuple(found)


def _preference(written: str) -> int | None:
    values = dict(itertools.pairwise(written.split()))
    given = (values[k] for k in ("pref", "priority", "preference", "prio") if k in values)
    return next(map(int, given), None)


def _is(policy: PolicyRule, written: str) -> bool:
    """Tell whether a kernel rule is the written one: same preference, selectors and table."""
    values = dict(itertools.pairwise(written.split()))
    preference = _preference(written)
    if preference is None and policy.priority in _KERNEL_RULES:
        return False
    if preference not in (None, policy.priority):
        return False
    table = values.get("lookup", values.get("table", ""))
    numbers = {name: number for number, name in TABLES.items()}
    if table and numbers.get(table, int(table) if table.isdigit() else None) != policy.table:
        return False
    mark = values.get("fwmark")
    return (
        (Mark.parse(mark) if mark else None) == policy.mark
        and values.get("iif", "") == policy.iif
        and _network(values.get("from", "")) == policy.source
        and _network(values.get("to", "")) == policy.destination
        and int(values.get("suppress_prefixlength", "-1")) == policy.suppress
    )


def _network(written: str) -> str:
    """Return a prefix as the kernel's is written; ``all`` is none."""
    known = written and written not in ("all", "any", "default")
    return str(ipaddress.ip_network(written, strict=False)) if known else ""


def _policy_rule(payload: bytes, family: int) -> PolicyRule:
    found = attributes(payload, 12)
    word = {
        kind: struct.unpack("=I", value)[0]
        for kind, value in found.items()
        if len(value) == 4 and kind in (6, 10, 15, 16)
    }
    inverted = bool(struct.unpack_from("=I", payload, 8)[0] & 0x2)
    suppress = struct.unpack("=i", found[14])[0] if 14 in found else -1
    mark = Mark(word[10], word.get(16, WORD)) if 10 in word else None
    action = _ACTIONS.get(payload[7], str(payload[7]))
    table = word.get(15, payload[4])
    source, destination = (
        _prefix(found.get(2), payload[2], family),
        _prefix(found.get(1), payload[1], family),
    )
    iif, oif = _name(found.get(3)), _name(found.get(17))
    parts = [
        f"{word.get(6, 0)}:",
        "not" if inverted else "",
        f"from {source or 'all'}",
        f"to {destination}" if destination else "",
        f"fwmark {mark}" if mark else "",
        f"iif {iif}" if iif else "",
        f"oif {oif}" if oif else "",
        f"lookup {TABLES.get(table, table)}" if action == "lookup" else action,
        f"suppress_prefixlength {suppress}" if suppress >= 0 else "",
    ]
    return PolicyRule(
        word.get(6, 0),
        table,
        action,
        mark,
        inverted,
        iif,
        oif,
        source,
        destination,
        None,
        " ".join(part for part in parts if part),
        suppress,
    )


def _prefix(value: bytes | None, bits: int, family: int) -> str:
    return f"{socket.inet_ntop(family, value)}/{bits}" if value else ""


def _name(value: bytes | None) -> str:
    return value.rstrip(b"\0").decode() if value else ""
