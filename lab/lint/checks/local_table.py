"""src_valid_mark where a mark leads to a table of local routes."""

from __future__ import annotations

import re
from collections.abc import Iterator

from lab.lint.finding import Problem
from lab.lint.hurt import Owners
from lab.lint.model import Subject

_ON = re.compile(r"-?net[./]ipv4[./]conf[./](\S+?)[./]src_valid_mark\s*=\s*[1-9]\d*")
_LOCAL = re.compile(r"(?:^|route \w+ )local\b.*\btable (\S+)")
_LOOKUP = re.compile(r"\b(?:lookup|table) (\S+)")


def src_valid_mark(subject: Subject, owners: Owners) -> Iterator[Problem]:
    """Refuse ``src_valid_mark`` where a mark leads to local routes.

    With ``src_valid_mark=1`` the kernel checks the source address with the packet's own mark. If
    that mark leads to a table of ``local`` routes, as transparent proxies use, the source looks
    local and the packet is dropped as a martian, whatever rp_filter says, without a counter.

    Wrong::

        net.ipv4.conf.all.src_valid_mark = 1

    Right::

        net.ipv4.conf.all.src_valid_mark = 0
        net.ipv4.conf.all.rp_filter = 2

    Source: https://github.com/tailscale/tailscale/issues/19796,
    https://github.com/cilium/cilium/issues/46260
    """
    beside = _marked_local_tables(subject)
    whose = (*beside, *owners.local_tables(subject.owner))
    for line in subject.of("sysctl"):
        if _ON.fullmatch(line.text) and whose:
            yield Problem(
                line,
                "packets whose mark leads to a table of local routes are dropped as martians",
                "rp_filter = 2 needs no src_valid_mark; or accept_local = 1 on the device where "
                "such packets arrive",
                whose,
            )


def _marked_local_tables(subject: Subject) -> tuple[str, ...]:
    local = {m[1] for line in subject.of("route") if (m := _LOCAL.search(line.text))}
    rules = [line for line in subject.of("policy") if line.tests]
    return tuple(
        f"{rule.file}:{rule.number}: {rule.text}"
        for rule in rules
        if (found := _LOOKUP.search(rule.text)) and found[1] in local
    )
