"""Entries have the rules that the real programs install, and packets meet the same fate.

Each program runs on a node of its own, with the addresses of the lab's topology. Where a program is
not installed, or does not run in a user namespace, its tests are skipped with what it said.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from lab.errors import UnsupportedError, UsageError
from lab.fidelity.match import said
from lab.fidelity.programs import (
    CONFIRMS,
    Confirms,
    Job,
    Listing,
    both_ways,
    fates,
    packets,
    rules,
    with_real_rules,
)
from lab.plugin import Lab, entries
from lab.record import Run
from lab.registry.find import find
from lab.registry.software import Software
from lab.runner.pool import Pool
from lab.runner.protocol import Task
from lab.scenario import VARIANTS, Scenario, Variant
from lab.traffic.flow import FAMILIES, Family

pytestmark = [pytest.mark.kernel, pytest.mark.xdist_group("real programs")]

PROGRAMS = pytest.mark.parametrize("confirms", CONFIRMS, ids=lambda confirms: confirms.program)
EVERY_FAMILY = pytest.mark.parametrize("family", FAMILIES)
EVERY_VARIANT = pytest.mark.parametrize("variant", VARIANTS)


Real = Callable[[Job], Listing]


@pytest.fixture(scope="module")
def run_real() -> Iterator[Real]:
    """Give a function that runs a program, once for each job, and returns what it installed."""
    known: dict[Job, Listing | UnsupportedError] = {}
    with Pool(1) as pool:
        yield lambda job: _or_skip(known.setdefault(job, known.get(job) or _install(pool, job)))


def _install(pool: Pool, job: Job) -> Listing | UnsupportedError:
    try:
        listing = pool.call(Task("lab.fidelity.real:install", job))
    except UnsupportedError as reason:
        return reason
    assert isinstance(listing, Listing)
    return listing


def _or_skip(listing: Listing | UnsupportedError) -> Listing:
    if isinstance(listing, UnsupportedError):
        pytest.skip(str(listing))
    return listing


def described(confirms: Confirms) -> Software:
    """Return the entry that describes a program."""
    try:
        return find(confirms.entry, entries())
    except UsageError:
        pytest.skip(f"the registry has no entry {confirms.entry}")


def run_entry(lab: Lab, software: Software, family: Family, variant: Variant) -> Run:
    """Run an entry alone."""
    scenario = Scenario((software,), families=(family,), variants=(variant,))
    (experiment,) = scenario.experiments()
    return lab.run(experiment)


@PROGRAMS
@EVERY_FAMILY
@EVERY_VARIANT
def test_the_entry_has_the_programs_rules(
    lab: Lab, run_real: Real, confirms: Confirms, family: Family, variant: Variant
) -> None:
    """Rule for rule, in the same chains and order, as the kernel lists both."""
    entry = described(confirms)
    job = Job(confirms.program, family, variant, entry.pod_prefix or "veth")
    real = rules(run_real(job), job)
    ours = run_entry(lab, entry, family, variant).rules
    theirs_in_ours, ours_in_theirs = both_ways(real, ours, confirms.exact)
    assert real
    assert [said(rule) for rule in theirs_in_ours.missing] == []
    assert [said(rule) for rule in ours_in_theirs.missing] == []


@pytest.mark.parametrize(
    "confirms", [c for c in CONFIRMS if c.exact], ids=lambda confirms: confirms.program
)
@EVERY_FAMILY
@EVERY_VARIANT
def test_packets_fare_alike_under_the_real_rules(
    lab: Lab, run_real: Real, confirms: Confirms, family: Family, variant: Variant
) -> None:
    """Every packet of every flow has the same marks and addresses at every point."""
    entry = described(confirms)
    listing = run_real(Job(confirms.program, family, variant, entry.pod_prefix or "veth"))
    ours = run_entry(lab, entry, family, variant)
    theirs = run_entry(lab, with_real_rules(entry, listing), family, variant)
    assert packets(ours)
    assert fates(theirs) == fates(ours)
    assert packets(theirs) == packets(ours)


@EVERY_VARIANT
def test_the_real_portmap_lets_loopback_addresses_out(run_real: Real, variant: Variant) -> None:
    """It sets route_localnet on the pod's interface, as the entry does."""
    listing = run_real(Job("portmap", "ipv4", variant))
    assert listing.route_localnet == ("veth0000000000a",)


@EVERY_FAMILY
@EVERY_VARIANT
def test_the_real_netavark_marks_as_portmap_does(
    run_real: Real, family: Family, variant: Variant
) -> None:
    """The same bit, set and tested with its mask; podman and the CNI plugin share it."""
    job = Job("netavark", family, variant)
    marking = {said(rule) for rule in rules(run_real(job), job) if "mark 0x" in rule.listed}
    assert marking == {
        "nat: -A NETAVARK-HOSTPORT-MASQ -m mark --mark 0x2000/0x2000 -j MASQUERADE",
        "nat: -A NETAVARK-HOSTPORT-SETMARK -j MARK --set-xmark 0x2000/0x2000",
    }


@EVERY_FAMILY
def test_the_real_wg_quick_saves_and_restores_whole_marks(run_real: Real, family: Family) -> None:
    """It restores all 32 bits to every UDP packet that comes in, whoever's they are."""
    job = Job("wg-quick", family)
    marking = [said(rule) for rule in rules(run_real(job), job) if "mark" in rule.listed]
    table = f"{'ip' if family == 'ipv4' else 'ip6'} wg-quick-tailscale0"
    assert marking == [
        f"{table} premangle: meta l4proto udp meta mark set ct mark",
        f"{table} postmangle: meta l4proto udp meta mark 0x0000ca6c ct mark set meta mark",
    ]


@EVERY_FAMILY
@EVERY_VARIANT
def test_wg_quick_without_nft_marks_alike_with_iptables(
    run_real: Real, family: Family, variant: Variant
) -> None:
    """The same save and restore of all 32 bits, in mangle."""
    job = Job("wg-quick without nft", family, variant)
    marking = {said(rule) for rule in rules(run_real(job), job) if "mark" in rule.listed}
    assert {
        "mangle: -A PREROUTING -p udp -j CONNMARK --restore-mark "
        "--nfmask 0xffffffff --ctmask 0xffffffff",
        "mangle: -A POSTROUTING -p udp -m mark --mark 0xca6c -j CONNMARK --save-mark "
        "--nfmask 0xffffffff --ctmask 0xffffffff",
    } <= marking


@pytest.mark.parametrize("program", ["wg-quick", "wg-quick without nft"])
@EVERY_FAMILY
def test_wg_quick_routes_by_the_whole_mark(run_real: Real, program: str, family: Family) -> None:
    """Whatever does not carry exactly 51820 goes into the tunnel."""
    policy = run_real(Job(program, family)).policy
    assert "not from all fwmark 0xca6c lookup 51820" in policy


def test_nothing_is_left_of_the_programs() -> None:
    """A second run of the same program, in the same worker, installs the same rules once."""
    job = Job("portmap", "ipv4")
    with Pool(1) as pool:
        first, second = (_or_skip(_install(pool, job)) for _ in range(2))
    assert [said(rule) for rule in rules(first, job)] == [said(rule) for rule in rules(second, job)]
