"""Policy rules that take more packets than meant."""

from __future__ import annotations

import re
from collections.abc import Iterator

from lab.lint.finding import Problem
from lab.lint.hurt import Owners
from lab.lint.model import Subject
from lab.lint.wording import masked_test
from lab.marks import WORD

_TERMINAL = re.compile(r"\b(unreachable|prohibit|blackhole)\b")
_NARROW = re.compile(
    r"\b(?:to (?!all|default|0/0|0\.0\.0\.0/0|::/0)|iif (?!lo\b)|uidrange |from (?!all))"
)
_REMOVES = re.compile(r"\brule (?:del|delete|flush)\b")


def policy_without_mask(subject: Subject, owners: Owners) -> Iterator[Problem]:
    """Warn of ``ip rule fwmark`` without a mask.

    A rule ``fwmark 0x1bd00`` compares the whole mark. When another program sets one of its own
    bits on the packet, the rule misses and the packet takes another route (``not fwmark`` catches
    it instead). xfrm's ``mark`` without ``mask`` compares it whole as well.

    Wrong::

        100:	from all fwmark 0x51821 lookup 180

    Right::

        100:	from all fwmark 0x40/0x60 lookup 180

    Source: https://github.com/siderolabs/talos/issues/4836
    """
    for line in subject.of("policy", "xfrm"):
        for test in line.tests:
            if test.mark.mask == WORD and not _REMOVES.search(line.text):
                yield Problem(
                    line,
                    "compares all 32 bits: any bit that another program sets makes the rule "
                    f"{'miss' if test.equal else 'match'}",
                    masked_test(line, "mark", test.mark.value)
                    if test.mark.value
                    else "a value and a mask, 0x0/M (M: the bits that are yours)",
                    owners.of("mark", WORD & ~test.mark.value, subject.owner),
                )


def terminal_policy(subject: Subject, owners: Owners) -> Iterator[Problem]:
    """Warn of a terminal policy rule chosen by a mark.

    ``fwmark V/M unreachable`` (``prohibit``, ``blackhole``) ends the look-up: a packet of another
    program whose bits look like V is lost, although a later rule has a route for it. A rule that
    is narrowed (``to``, ``iif``, ``from``, ``uidrange``) is not reported.

    Wrong::

        5250:	from all fwmark 0x80000/0xff0000 unreachable

    Right::

        5250:	from all to 100.64.0.0/10 fwmark 0x80000/0xff0000 unreachable

    Source: https://github.com/cilium/cilium/issues/46422,
    https://github.com/tailscale/tailscale/issues/21146
    """
    for line in subject.of("policy"):
        found = _TERMINAL.search(line.text)
        for test in line.tests:
            if found and not _REMOVES.search(line.text) and not _NARROW.search(line.text):
                yield Problem(
                    line,
                    f"{found[1]} ends the look-up for every packet whose mark is "
                    f"{'' if test.equal else 'not '}{test.mark}, whoever set it",
                    "narrow it to packets that are yours (to, iif or uidrange), e.g. to NET fwmark "
                    f"{test.mark} {found[1]}",
                    owners.of("mark", test.mark.mask, subject.owner),
                )
