"""Which policy rule led to a routing table, given the rules and the kernel's answer [pure]."""

from __future__ import annotations

import errno
import ipaddress
import os
from collections.abc import Sequence

from lab.kernel.route import Answer, Lookup
from lab.record import PolicyRule

# What a node that does not forward says of whatever it does not let in (net/ipv4/route.c,
# ip_route_input_slow).
_NOT_FORWARDED = os.strerror(errno.EHOSTUNREACH)


def choose(policy: Sequence[PolicyRule], question: Lookup, answer: Answer, iif: str) -> int | None:
    """Return the index of the first rule that matches and leads to the answering table.

    The kernel names the table that answered but not the rule; of the rules that match the packet
    it tries them in order, so the first one with that table is the one, unless it passes over
    routes of so short a prefix (suppress_prefixlength). With an error, the first
    matching rule that refuses with it is the one. A local packet has ``iif`` ``lo``.
    """
    for index, rule in enumerate(policy):
        if not _matches(rule, question, iif):
            continue
        if rule.refusal and answer.error in (rule.refusal, _NOT_FORWARDED):
            return index
        leads = rule.action == "lookup" and rule.table == answer.table
        if not answer.error and leads and _length(answer.prefix) > rule.suppress:
            return index
    return None


def _length(prefix: str) -> int:
    """Return the length of a route's prefix; ``default`` and none have 0."""
    return int(prefix.partition("/")[2] or 0)


def _matches(rule: PolicyRule, question: Lookup, iif: str) -> bool:
    matched = (
        (rule.mark is None or rule.mark.matches(question.mark))
        and (not rule.iif or rule.iif == iif)
        and not rule.oif
        and _inside(question.source, rule.source)
        and _inside(question.destination, rule.destination)
    )
    return matched != rule.inverted


def _inside(address: str, prefix: str) -> bool:
    if not prefix:
        return True
    return bool(address) and ipaddress.ip_address(address) in ipaddress.ip_network(prefix, False)
