"""Lines of ``ip``, ``tc`` and ``ipset`` as requests of our own, where they say nothing unknown.

Starting one takes 1.5 ms and more, a request 20 µs. A line becomes the message that the program
makes of it (include/uapi/linux/rtnetlink.h, fib_rules.h, if_link.h, pkt_cls.h); what is written in
any other way is left to the program.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Callable, Sequence
from contextlib import closing
from functools import lru_cache

from lab.kernel.route import Router
from lab.registry.software import Tool
from lab.rules.requests import devices, filters, routing, sets
from lab.rules.requests.request import Request
from lab.traffic.flow import Family

_READERS: dict[tuple[Tool, str], Callable[[list[str], int], Request]] = {
    ("ip", "rule add"): routing.add_rule,
    ("ip", "rule del"): routing.delete_rule,
    ("ip", "route add"): routing.add_route,
    ("ip", "route del"): routing.delete_route,
    ("ip", "link add"): devices.add_link,
    ("ip", "link set"): devices.set_link,
    ("ip", "link show"): devices.show_link,
    ("ip", "address add"): devices.add_address,
    ("ip", "neighbour add"): devices.add_neighbour,
    ("ip", "neigh add"): devices.add_neighbour,
    ("tc", "qdisc replace"): filters.replace_qdisc,
    ("tc", "filter add"): filters.add_filter,
}


def send(tool: Tool, lines: Sequence[str], family: Family) -> int:
    """Do in the current namespace what lines of a tool say; return how many of them are done.

    The rest is for the tool: all of them where one cannot be read, or those from the first that
    the kernel refuses, because the tool says why.
    """
    return sets.send(lines) if tool == "ipset" else _send(tool, lines, family)


def learn(tool: Tool, lines: Sequence[str]) -> None:
    """See what a tool has made of lines in the current namespace."""
    if tool == "ipset":
        sets.learn(lines)


def _send(tool: Tool, lines: Sequence[str], family: Family) -> int:
    requests = [request for line in lines if (request := read(tool, line, family))]
    if len(requests) != len(lines):
        return 0
    with closing(Router()) as router:
        for done, request in enumerate(requests):
            try:
                router.send(request.encoded(), 1)
            except OSError:
                return done
    return len(lines)


@lru_cache(maxsize=1024)
def read(tool: Tool, line: str, family: Family) -> Request | None:
    """Read a line of ``ip`` or ``tc``; None where it says anything else than is known here."""
    number = socket.AF_INET if family == "ipv4" else socket.AF_INET6
    words = line.split()
    reader = _READERS.get((tool, " ".join(words[:2])))
    try:
        return reader(words[2:], number) if reader else None
    except (KeyError, ValueError, IndexError, OSError, struct.error):
        return None
