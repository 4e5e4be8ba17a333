"""One form for all texts of a rule: the registry's and the one in which the kernel lists it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from lab.native import normal
from lab.plugin import Lab
from lab.registry.loader import load
from lab.scenario import Scenario
from lab.traffic.flow import FAMILIES, Family

pytestmark = pytest.mark.kernel


@pytest.mark.thorough
@pytest.mark.parametrize("family", FAMILIES)
def test_every_rule_of_the_registry_is_known_as_the_kernel_lists_it(
    lab: Lab, family: Family
) -> None:
    """Else a program would be found on no host, or its rules would be called strange."""
    differing = []
    seen = 0
    for entry in load():
        bare = replace(entry, flows=())
        (experiment,) = Scenario((bare,), families=(family,), variants=("nft",)).experiments()
        for rule in lab.run(experiment).rules:
            said = {"iptables": normal.iptables, "nft": normal.nft}.get(rule.tool)
            if said and rule.listed:
                seen += 1
                if said(rule.written) != said(rule.listed):
                    differing.append((entry.title, rule.written, rule.listed))
    assert differing == []
    assert seen > 1000
