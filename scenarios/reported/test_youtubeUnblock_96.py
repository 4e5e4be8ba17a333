"""youtubeUnblock#96: youtubeUnblock's mark is the router's mark for its VPN.

Thread   Waujito/youtubeUnblock#96, seen 2024-08-29; closed: the mark can be chosen.
Parties  youtubeUnblock, VPN policy of a GL.iNet router.
Symptom  As soon as the router's VPN is on, the packets of youtubeUnblock have no effect, and
         videos come through the VPN.
Cause    youtubeUnblock marks its own packets with 0x8000, which is the router's mark for the VPN:
         its policy rule sends them into the tunnel.
Cure     Another mark: --packet-mark=524288 (0x80000), which was made for this router.
"""

from __future__ import annotations

import pytest

from lab.plugin import Result
from lab.reported.catalogue import Case
from lab.reported.evidence import preferences

pytestmark = [pytest.mark.pairs, pytest.mark.kernel]

THREAD = "youtubeUnblock#96"


def test_the_reported_conflict_shows(case: Case, bug: Result) -> None:
    """In every order, family and variant that the thread is about, with the rule to blame."""
    assert case.shows(bug.verdicts)


def test_what_was_done_upstream_cures_it(case: Case, cured: Result) -> None:
    """The flow that was harmed is as without the other party."""
    assert case.cured(cured.verdicts)


def test_its_own_packets_go_into_the_tunnel(bug: Result) -> None:
    """By the router's rule for 0x8000/0xf000."""
    together = [run for run in bug.runs if not run.experiment.alone]
    assert preferences(together) == {(6000, "tailscale0")}
