"""Networks and observation: no first packet is lost, nothing arrives late, nothing is disturbed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lab.native.iptables_text import changes
from lab.native.ledger import Ledger
from lab.native.rule import Rule
from lab.observe import places, probes
from lab.record import Run
from lab.registry.software import Software
from lab.scenario import VARIANTS, Scenario, Variant

pytestmark = pytest.mark.kernel

Inside = Callable[..., Any]
FORWARDED = {
    "name": "out",
    "from": "client",
    "to": "{{ pod-a.ip }}",
    "port": 6000,
    "answered-by": "pod-a",
}
MANGLE = {"tool": "iptables", "text": "*mangle\n-A FORWARD -j MARK --set-mark 0x5/0xff\nCOMMIT"}


def test_first_packets_are_never_lost(inside: Inside) -> None:
    """Of 200 networks, right after each was built, over five ways through it."""
    assert inside("first_packets", 200) == {"sent": 1000, "arrived": 1000}


def test_nothing_arrives_after_settling(inside: Inside) -> None:
    """What was sent before has arrived when settle returns, through two namespaces."""
    assert inside("settled", 500) == (2000, 2000, 0)


@pytest.mark.parametrize("noted", [True, False])
def test_the_recorder_is_the_same_without_nft_reading_it(inside: Inside, noted: bool) -> None:
    """The messages made from the kernel's dump install exactly what nft installs."""
    points = places.points("node", ()) if noted else places.ends("pod-a")
    chains = probes.chains(points, tracked=True, noted=noted)
    by_nft, by_messages = inside("installed_twice", (probes.frame(int(noted)), chains))
    assert by_messages == by_nft
    assert by_nft.count("chain p") == len(points)


def test_the_chains_of_a_recorder_go_with_sets_of_any_size(inside: Inside) -> None:
    """They were read with small sets; these are installed with the size that is wanted."""
    chains = probes.chains(places.points("node", ()), tracked=True, noted=True)
    small, _ = inside("installed_twice", (probes.frame(1), chains))
    _, large = inside("installed_twice", (probes.frame(512), chains))
    assert large == small.replace("size 1\n", "size 512\n") != small


def test_a_refused_transaction_raises_and_leaves_nothing(inside: Inside) -> None:
    """The recorder is there as a whole or not at all."""
    chains = probes.chains(places.ends("pod-a"), tracked=False, noted=False)
    refused = inside("refused_in_part", (probes.frame(0), chains))
    assert refused == ("netlink: No such file or directory", "")


def test_observation_does_not_switch_connection_tracking_on(
    inside: Inside, write_entry: Callable[..., Software]
) -> None:
    """Rules without conntrack users leave no conntrack entry, with the recorder and without."""
    experiment = next(Scenario((write_entry("plain", MANGLE, **FORWARDED),)).experiments())
    count, fates, passes = inside("observed", (experiment, True))
    assert passes > 0
    assert (count, fates) == inside("observed", (experiment, False))[:2]
    assert count == 0


def test_what_the_observation_missed_once_is_observed_again(
    inside: Inside, write_entry: Callable[..., Software]
) -> None:
    """By running the whole experiment once more; what is missed twice is told."""
    experiment = next(Scenario((write_entry("plain", MANGLE, **FORWARDED),)).experiments())
    assert inside("run_with_small_buffers", (experiment, 1)) == ()
    assert any("were lost" in told for told in inside("run_with_small_buffers", (experiment, 2)))


def test_observation_changes_no_fate_where_connections_are_tracked(
    inside: Inside, write_entry: Callable[..., Software]
) -> None:
    """And the entries are those of the flows."""
    nat = {"tool": "iptables", "text": "*nat\n-A POSTROUTING -j MASQUERADE\nCOMMIT"}
    experiment = next(Scenario((write_entry("nat", nat, **FORWARDED),)).experiments())
    count, fates, _ = inside("observed", (experiment, True))
    assert count > 0
    assert fates == inside("observed", (experiment, False))[1]


@pytest.mark.parametrize("rules_at", ["node", "client"])
def test_packets_enter_as_frames_unless_the_sender_has_rules_to_pass(
    write_entry: Callable[..., Software], run_alone: Callable[..., Run], rules_at: str
) -> None:
    """A frame begins at the node's prerouting; a sender's own rules see what it sends."""
    entry = write_entry("entering", {"on": rules_at} | MANGLE, **FORWARDED)
    (flow,) = run_alone(entry).flows
    assert flow.fate.answered == flow.fate.sent
    starts = {t.readings()[0].point.node for t in flow.timelines if t.direction == "request"}
    assert starts == {rules_at}


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize(("mark", "found"), [("0x6", 1), ("0x5", 0)])
def test_a_rule_that_is_not_where_it_was_put_is_noticed(
    inside: Inside, write_entry: Callable[..., Software], variant: Variant, mark: str, found: int
) -> None:
    """The kernel's rule writes another mark than the one that was installed there."""
    entry = write_entry("moved", MANGLE, **FORWARDED)
    experiment = next(Scenario((entry,), families=("ipv4",), variants=(variant,)).experiments())
    replaced = f"-t mangle -R FORWARD 1 -j MARK --set-mark {mark}/0xff".split()
    problems = inside("listed_otherwise", (experiment, [f"iptables-{variant}", *replaced]))
    assert len(problems) == found
    assert all("--set-xmark 0x6/0xff" in problem for problem in problems)


LINE = st.one_of(
    st.tuples(st.just("A"), st.just(0)),
    st.tuples(st.just("I"), st.integers(1, 9)),
    st.tuples(st.just("D"), st.integers(1, 9)),
    st.tuples(st.just("R"), st.integers(1, 9)),
    st.tuples(st.just("X"), st.just(0)),
)


def script(steps: list[tuple[str, int]], chain: str) -> Iterator[str]:
    """Write restore lines whose positions exist; each rule sets another mark."""
    length = 0
    for number, (verb, position) in enumerate(steps, 1):
        target = f"-j MARK --set-xmark {number:#x}/0xffffffff"
        if verb == "A":
            yield f"-A {chain} {target}"
        elif verb == "I":
            yield f"-I {chain} {1 + (position - 1) % (length + 1)} {target}"
        elif verb == "R" and length:
            yield f"-R {chain} {1 + (position - 1) % length} {target}"
        elif verb == "D" and length:
            yield f"-D {chain} {1 + (position - 1) % length}"
            length -= 2
        elif verb == "X":
            yield f"-F {chain}"
            length = -1
        else:
            continue
        length += verb not in ("R",)


def loads(texts: list[list[tuple[str, int]]], chain: str) -> Iterator[str]:
    """Write texts to load: iptables-nft 1.8 misplaces rules after a change in one load."""
    declare = f":{chain} - [0:0]\n" if chain == "MINE" else ""
    parts = [declare]
    for line in script([step for part in texts for step in part], chain):
        if line.startswith(("-R", "-D", "-F")):
            parts += [f"{line}\n", ""]
        else:
            parts[-1] += f"{line}\n"
    yield from (f"*mangle\n{part}COMMIT\n" for part in parts if part)


@pytest.mark.parametrize("program", ["iptables-nft", "iptables-legacy", "ip6tables-nft"])
@pytest.mark.parametrize("chain", ["FORWARD", "MINE"])
@settings(
    max_examples=12,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(texts=st.lists(st.lists(LINE, min_size=1, max_size=8), min_size=1, max_size=2))
def test_the_ledger_has_the_order_of_the_kernel(
    inside: Inside, program: str, chain: str, texts: list[list[tuple[str, int]]]
) -> None:
    """Whatever was appended, inserted, replaced, deleted and flushed, in several loads."""
    ledger = Ledger()
    written = list(loads(texts, chain))
    for text in written:
        for change in changes(text):
            ledger.apply(change, Rule("x", "iptables", "mangle", chain, change.text))
    listed = inside("restored", (program, written))
    mine = [r.written.partition("--set-xmark")[2] for r in ledger.chains.get(("mangle", chain), [])]
    kernels = listed.get(("mangle", chain), [])
    assert mine == [text.partition("--set-xmark")[2] for text in kernels]
