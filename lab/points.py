"""Where on a packet's path a mark is read: node, hook and priority.

Priorities are the kernel's (include/uapi/linux/netfilter_ipv4.h, ``enum nf_ip_hook_priorities``);
the names are nft's. A point ``node forward filter - 1`` lies just before the chains at priority 0.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

HOOKS = ("ingress", "prerouting", "input", "forward", "output", "postrouting", "egress")
COMES_IN = ("prerouting", "output")
"""The hooks by which a packet comes into a namespace; connection tracking sees it there."""
FIRST, LAST = -450, 400
"""Before every netfilter chain (defragmentation is at -400), and after every one that rules use."""
CONNTRACK = -200
PRIORITIES = {
    "first": FIRST,
    "defrag": -400,
    "raw": -300,
    "conntrack": CONNTRACK,
    "mangle": -150,
    "dstnat": -100,
    "filter": 0,
    "security": 50,
    "srcnat": 100,
    "last": LAST,
}
_TEXT = re.compile(
    r"(?P<node>[a-z][\w-]*) (?P<hook>[a-z]+)(?: device (?P<device>\S+))?"
    r"(?: (?P<base>[a-z]+|-?\d+)(?: ?(?P<sign>[+-]) ?(?P<offset>\d+))?)?"
)


@dataclass(frozen=True, slots=True)
class Point:
    """One place where a packet's marks are read.

    ``device`` is empty except for the ``ingress`` and ``egress`` hooks of one interface.
    """

    node: str
    hook: str
    priority: int
    device: str = ""

    @classmethod
    def parse(cls, text: str) -> Point:
        """Read ``node postrouting srcnat - 1``; raises ValueError with what was expected."""
        found = _TEXT.fullmatch(text.strip())
        if not found:
            raise ValueError(f"{text!r} is not a point; expected e.g. 'node forward filter - 1'")
        if found["hook"] not in HOOKS:
            raise ValueError(f"unknown hook {found['hook']!r}; known: {' '.join(HOOKS)}")
        return cls(found["node"], found["hook"], _priority(found), found["device"] or "")

    def sort_key(self) -> tuple[int, int]:
        """Order points of one node along the path of a packet that passes both."""
        return HOOKS.index(self.hook), self.priority

    def __str__(self) -> str:
        device = f" device {self.device}" if self.device else ""
        return f"{self.node} {self.hook}{device} {priority_text(self.priority)}"


def _priority(found: re.Match[str]) -> int:
    base, offset = found["base"] or "filter", int(found["offset"] or 0)
    if base not in PRIORITIES and not base.lstrip("-").isdigit():
        raise ValueError(f"unknown priority {base!r}; known: {' '.join(PRIORITIES)}, or a number")
    number = PRIORITIES[base] if base in PRIORITIES else int(base)
    return number - offset if found["sign"] == "-" else number + offset


def priority_text(priority: int) -> str:
    """Write a priority near a named one by name: -151 is ``mangle - 1``."""
    name, base = min(PRIORITIES.items(), key=lambda item: abs(item[1] - priority))
    distance = priority - base
    if abs(distance) > 10:
        return str(priority)
    return name if not distance else f"{name} {'+' if distance > 0 else '-'} {abs(distance)}"
