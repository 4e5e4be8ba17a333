"""A candidate tried on the kernel: a free bit survives, a claimed one does not."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from lab.bits.newcomer import newcomer
from lab.bits.proof import Proof
from lab.commands.bits import beside_one
from lab.errors import UnsupportedError
from lab.record import Run
from lab.registry.find import find
from lab.registry.loader import load
from lab.runner.pool import Pool
from lab.traffic.flow import FAMILIES, Family
from lab.verdict.compare import compare
from lab.verdict.outcome import Outcome

pytestmark = pytest.mark.kernel
REGISTRY = load()
FREE, TAILSCALES = 0x10, 0x40000


@pytest.fixture(scope="module")
def pool() -> Iterator[Pool]:
    """Start workers."""
    with Pool(2) as workers:
        yield workers


def proof(pool: Pool, mask: int, partner: str) -> Proof:
    """Try a mask beside one partner; skip where this machine cannot."""
    try:
        return beside_one(pool, mask, find(partner, REGISTRY))
    except UnsupportedError as problem:
        pytest.skip(str(problem))


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("mask", [0x80000000, 0x60])
def test_alone_every_mark_is_where_the_newcomer_relies_on_it(
    mask: int, family: Family, run_alone: Callable[..., Run]
) -> None:
    """Set, saved, restored and routed by, in both directions."""
    verdicts = compare([run_alone(newcomer(mask), family)])
    assert {verdict.flow for verdict in verdicts} == {"forwarded", "from-node"}
    assert {verdict.outcome for verdict in verdicts} == {Outcome.SURVIVES}


@pytest.mark.parametrize("partner", ["calico", "kubernetes", "tailscale"])
def test_a_free_bit_survives_in_both_orders(partner: str, pool: Pool) -> None:
    """Beside programs that keep to their own bits; and they survive it."""
    tried = proof(pool, FREE, partner)
    assert tried.outcome is Outcome.SURVIVES
    owners = {verdict.owner for verdict in tried.verdicts}
    assert owners == {"newcomer@1:bits", find(partner, REGISTRY).title}
    assert len({verdict.order for verdict in tried.verdicts}) == 2


def test_a_whole_word_restore_is_named_as_the_culprit(pool: Pool) -> None:
    """No bit survives beside the VPC CNI 1.23.0."""
    tried = proof(pool, FREE, "aws-vpc-cni@1.23.0:nft")
    assert tried.outcome is Outcome.CLOBBERED
    assert tried.decisive is not None
    assert tried.decisive.culprit is not None
    assert "meta mark set ct mark &" in tried.decisive.culprit.rule.listed


def test_a_claimed_bit_does_not_survive(pool: Pool) -> None:
    """Tailscale masquerades what bears its 0x40000."""
    assert proof(pool, TAILSCALES, "tailscale").outcome.is_conflict
