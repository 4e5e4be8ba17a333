"""Fragments of iptables-restore text made complete, so that they can be loaded alone [pure]."""

from __future__ import annotations

import re

from lab.native.iptables_text import BUILTIN, Change, changes
from lab.traffic.flow import Family

_SET = re.compile(r"--match-set (\S+) (\S+)")
_SET_TYPES = {1: "hash:net", 2: "hash:ip,port", 3: "hash:ip,port,ip"}
_TARGET = re.compile(r"(?:-j|-g|--jump|--goto) (\S+)")
_EXTENSIONS = frozenset(
    (
        *("ACCEPT", "DROP", "RETURN", "REJECT", "MARK", "CONNMARK", "MASQUERADE", "SNAT", "DNAT"),
        *("REDIRECT", "TPROXY", "NOTRACK", "CT", "LOG", "NFLOG", "QUEUE", "NFQUEUE", "TRACE"),
        *("TCPMSS", "NETMAP", "SET", "CLASSIFY", "DSCP", "TOS", "AUDIT", "SECMARK", "CHECKSUM"),
        *("CONNSECMARK", "HL", "TTL", "TEE", "IDLETIMER"),
    )
)


def completed(text: str) -> str:
    """Declare the chains that rules use and nobody declares, at the beginning of their table."""
    known = list(changes(text))
    lines: list[str] = []
    for line in text.split("\n"):
        lines.append(line)
        if line.strip().startswith("*"):
            table = line.strip()[1:]
            lines += [f":{chain} - [0:0]" for chain in _undeclared(table, known)]
    return "\n".join(lines)


def _undeclared(table: str, known: list[Change]) -> list[str]:
    here = [change for change in known if change.table == table]
    declared = {change.chain for change in here if change.verb == "declare"}
    used = [change.chain for change in here]
    used += [name for change in here for name in _TARGET.findall(change.spec)]
    free = {*declared, *BUILTIN[table], *_EXTENSIONS}
    return [name for name in dict.fromkeys(used) if name not in free]


def undeclared_sets(text: str, declared: str, family: Family) -> str:
    """Return ``ipset restore`` lines for the sets that rules use and ``declared`` does not make."""
    inet = "inet" if family == "ipv4" else "inet6"
    lines = [
        f"create {name} {_SET_TYPES[directions.count(',') + 1]} family {inet}"
        for name, directions in dict.fromkeys(_SET.findall(text))
        if f"create {name} " not in declared
    ]
    return "\n".join(dict.fromkeys(lines))
