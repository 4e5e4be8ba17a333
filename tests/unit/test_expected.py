"""Explanations: read strictly, held to what they say."""

from __future__ import annotations

from pathlib import Path

import pytest

from lab.errors import LabError
from lab.native.rule import Rule
from lab.registry.find import find
from lab.registry.loader import load as registry
from lab.scenario import Experiment
from lab.verdict.expected import Explanation, load, overdue
from lab.verdict.outcome import Culprit, Outcome, Verdict

ENTRIES = registry()
TAILSCALE, CALICO = find("tailscale", ENTRIES), find("calico", ENTRIES)
GOOD = """
[[conflict]]
owner = ["tailscale"]
beside = ["calico"]
outcome = ["clobbered"]
flows = ["bypass"]
rule = "--set-mark 0/0x1b0000"
reason = "Calico clears its scratch bits on every packet of the node"
"""


def read(folder: Path, text: str) -> tuple[Explanation, ...]:
    """Read one file."""
    (folder / "one.toml").write_text(text)
    return load(folder, ENTRIES)


def experiment(*order: object, family: str = "ipv4") -> Experiment:
    """Return both installed in an order."""
    software = order or (TAILSCALE, CALICO)
    return Experiment("kubernetes-node", "cali", software, software, family, "nft")  # type: ignore[arg-type]


def verdict(flow: str = "bypass", rule: str = "-j MARK --set-mark 0/0x1b0000") -> Verdict:
    """Return a verdict on Tailscale, which was installed first."""
    culprit = Culprit(
        Rule(CALICO.title, "iptables", "filter", "cali-OUTPUT", rule), "node", "output", 0, 1, 0
    )
    order = (TAILSCALE.title, CALICO.title)
    return Verdict(
        Outcome.CLOBBERED, TAILSCALE.title, order, "ipv4", "nft", flow, "", culprit=culprit
    )


def test_an_explanation_covers_its_rule_and_flow_only(tmp_path: Path) -> None:
    """Another rule or another flow must be explained by itself."""
    (one,) = read(tmp_path, GOOD)
    assert one.explains(verdict())
    assert not one.explains(verdict(rule="-j DROP"))
    assert not one.explains(verdict(flow="pod-to-tailnet"))


def test_an_explanation_that_no_longer_applies_is_reported(tmp_path: Path) -> None:
    """With the owner and the flow."""
    found = read(tmp_path, GOOD)
    assert overdue(found, experiment(), [verdict()]) == []
    (problem,) = overdue(found, experiment(), [])
    assert "no such verdict" in problem
    assert "bypass" in problem


def test_what_another_case_explains_is_not_due(tmp_path: Path) -> None:
    """Neither in another order nor in another family."""
    found = read(tmp_path, GOOD + 'installed = "last"\nfamily = ["ipv4"]\n')
    assert overdue(found, experiment(TAILSCALE, CALICO), []) == []
    assert overdue(found, experiment(CALICO, TAILSCALE, family="ipv6"), []) == []
    assert overdue(found, experiment(CALICO, TAILSCALE), []) != []


def test_what_depends_on_timing_is_never_due(tmp_path: Path) -> None:
    """It explains, but need not happen."""
    found = read(tmp_path, GOOD + "always = false\n")
    assert found[0].explains(verdict())
    assert overdue(found, experiment(), []) == []


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("tailscale", "tailscail", "unknown software 'tailscail'"),
        ("bypass", "by-pass", "unknown flow 'by-pass'"),
        ("clobbered", "broken", "'broken' is not one of"),
        ('rule = "--set-mark 0/0x1b0000"', "", "expected either rule"),
        ("[[conflict]]", "[[conflict]]\nwhy = 1", "unknown key"),
        ('reason = "', 'reason = "" # ', "expected one sentence"),
        ('["calico"]', "[]", "missing or empty"),
        ("[[conflict]]", "[[conflict]]\nfamily = ['ipx']", "expected some of ipv4, ipv6"),
    ],
)
def test_a_file_that_is_not_right_is_refused(tmp_path: Path, old: str, new: str, said: str) -> None:
    """An explanation with a typing error would explain nothing, silently."""
    with pytest.raises(LabError, match=said):
        read(tmp_path, GOOD.replace(old, new))
