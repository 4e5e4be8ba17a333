"""kube-proxy and the CNI port mapping plugin coexist on one node.

Both masquerade by a mark that they set in nat PREROUTING or OUTPUT and test in nat POSTROUTING.
Their bits are apart (0x4000 and 0x2000; kube-proxy before 1.28 also 0x8000), both set their bit
with a mask, and kube-proxy alone clears its own after use. So nothing of either is lost or taken
for the other's, whichever is installed first.
"""

from __future__ import annotations

import pytest

from lab.plugin import Lab, scenarios
from lab.scenario import Scenario

pytestmark = pytest.mark.pairs


@pytest.mark.parametrize("scenario", scenarios("kubernetes", "portmap"))
def test_kubernetes_and_portmap_coexist(lab: Lab, scenario: Scenario) -> None:
    """Every flow of both survives, at every point."""
    assert lab.check(scenario).survives


@pytest.mark.parametrize("scenario", scenarios("kubernetes@1.18.6", "portmap"))
def test_kubernetes_with_a_drop_mark_and_portmap_coexist(lab: Lab, scenario: Scenario) -> None:
    """Until 1.28 kubelet dropped what carried bit 15; portmap never sets it."""
    assert lab.check(scenario).survives
