"""An entry that stands in a pod can be put on the node."""

from __future__ import annotations

import pytest

from lab.errors import UsageError
from lab.registry.loader import DATA, read
from lab.registry.place import place

ISTIO = DATA / "istio" / "1.31-tproxy.toml"
CALICO = DATA / "calico" / "3.20-iptables.toml"


def test_rules_flows_points_and_addresses_move() -> None:
    """Nothing of the entry is left in the pod."""
    moved = place(read(ISTIO), "node")
    assert {ruleset.node for ruleset in moved.rulesets} == {"node"}
    assert {e.point.node for flow in moved.flows for e in flow.expectations} == {"node"}
    assert not any("pod-a.ip" in text for r in moved.rulesets for text in (r.text,))
    assert not any("pod-a" in (f.sender, f.answered_by) for f in moved.flows)


def test_what_stands_on_the_node_already_is_refused() -> None:
    """There is no pod to move from."""
    with pytest.raises(UsageError, match="stands on node"):
        place(read(CALICO), "node")
