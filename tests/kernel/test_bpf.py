"""eBPF programs of registry entries on a real kernel: marks, drops, redirects and refusals."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from lab.errors import EntryError, RuleRefused, UnsupportedError
from lab.kernel import bpf
from lab.record import Dropped, Reading, Run, Timeline, Write
from lab.registry.find import find
from lab.registry.loader import load
from lab.registry.software import Ruleset, Software
from lab.runner.pool import Pool
from lab.scenario import Experiment
from lab.traffic.flow import Family, Flow

pytestmark = pytest.mark.kernel

ROOT = Path(__file__).parents[2]
POD_A, POD_B = "veth0000000000a", "veth0000000000b"


def _may_load() -> bool:
    try:
        with bpf.loaded(bytes.fromhex("b7000000000000009500000000000000")):
            return True
    except UnsupportedError:
        return False


UNDER_SIGNALS = """
import signal
import time
from lab.kernel import bpf

long = bytes.fromhex("b700000000000000") * 4000 + bytes.fromhex("9500000000000000")
began = time.perf_counter()
with bpf.loaded(long):
    often = max(0.005, 2 * (time.perf_counter() - began))
signal.signal(signal.SIGALRM, lambda *_: None)
signal.setitimer(signal.ITIMER_REAL, often, often)
for _ in range(300):
    with bpf.loaded(long):
        pass
signal.setitimer(signal.ITIMER_REAL, 0)
"""


@pytest.mark.usefixtures("pool")
def test_a_program_is_loaded_also_where_signals_come() -> None:
    """Of 300, with 200 signals a second: each makes the verifier give up what it is at.

    Fewer come on a machine where one program takes longer than from one signal to the next.
    """
    subprocess.run((sys.executable, "-c", UNDER_SIGNALS), cwd=ROOT, check=True)


@pytest.fixture(scope="module")
def pool() -> Iterator[Pool]:
    """Give workers that run experiments; skips where no program may be loaded."""
    if not _may_load():
        pytest.skip("loading eBPF programs needs root of the machine")
    with Pool(1) as workers:
        yield workers


FLOW = Flow("pod-to-lan", "pod-a", "{{ lan.ip }}", 5000, answered_by="lan")


def _run(pool: Pool, *texts: str, flow: Flow = FLOW, family: Family = "ipv4") -> Run:
    rulesets = tuple(Ruleset("bpf", text, file="entry.toml", line=3) for text in texts)
    software = Software(
        "stand-in", "1", "default", "bitwise", "", "lab/lab@v1", rulesets=rulesets, flows=(flow,)
    )
    experiment = Experiment("kubernetes-node", "veth", (software,), (software,), family, "nft")
    return next(iter(pool.run([experiment])))


def _request(run: Run) -> Timeline:
    return run.flows[0].timelines[0]


def _first(line: Timeline, node: str, hook: str) -> Reading:
    return next(r for r in line.readings() if (r.point.node, r.point.hook) == (node, hook))


@pytest.mark.parametrize("family", ["ipv4", "ipv6"])
def test_a_program_at_ingress_marks_packets_before_prerouting(pool: Pool, family: Family) -> None:
    """The mark stands at the first point of the node, and the program is named as its writer."""
    run = _run(
        pool, "tc ingress {{ pod-a.dev }}: mark = mark & ~0xf00 | 0x12340f00\n", family=family
    )
    line = _request(run)
    assert _first(line, "node", "prerouting").mark == 0x12340F00
    write = next(e for e in line.events if isinstance(e, Write))
    rule = run.rule(write.rule)
    assert rule is not None
    assert (write.before, write.after, write.hook) == (0, 0x12340F00, "ingress")
    assert (rule.tool, rule.table) == ("bpf", f"tc ingress {POD_A}")
    assert rule.written == f"tc ingress {POD_A}: mark = mark & ~0xf00 | 0x12340f00"
    assert run.flows[0].fate.answered == 3
    assert not run.lost


@pytest.mark.parametrize("family", ["ipv4", "ipv6"])
def test_conditions_choose_the_packets(pool: Pool, family: Family) -> None:
    """Address, protocol and port must all hold; a line that does not match leaves the packet."""
    run = _run(
        pool,
        """
tc ingress {{ pod-a.dev }}: mark = 0x1 if {{ ip }} daddr {{ pod-b.ip }}
tc ingress {{ pod-a.dev }}: mark = 0x2 if tcp
tc ingress {{ pod-a.dev }}: mark = 0x4 if udp and dport 5001
tc ingress {{ pod-a.dev }}: mark = 0x8 if {{ ip }} daddr != {{ lan.net }}
tc ingress {{ pod-a.dev }}: mark = mark | 0x10 if {{ ip }} daddr {{ lan.net }} and dport 5000
tc ingress {{ pod-a.dev }}: mark = mark | 0x20 if mark & 0x30 == 0x10
""",
        family=family,
    )
    assert _first(_request(run), "node", "prerouting").mark == 0x30


def test_a_verdict_ends_the_list(pool: Pool) -> None:
    """After ``accept`` no later program of the hook sees the packet."""
    run = _run(
        pool,
        "tc ingress {{ pod-a.dev }}: mark = 0x1, accept\n",
        "tc ingress {{ pod-a.dev }}: mark = 0x2\n",
    )
    assert _first(_request(run), "node", "prerouting").mark == 0x1


def test_a_program_at_egress_drops_by_the_mark(pool: Pool) -> None:
    """What one program marked, another one drops on the way out."""
    run = _run(
        pool,
        """
tc ingress {{ pod-a.dev }}: mark = 0xe00
tc egress eth1: drop if mark & 0xf00 == 0xe00 and ip
""",
    )
    assert run.flows[0].fate.arrived == 0
    dropped = [e for e in _request(run).events if isinstance(e, Dropped)]
    assert dropped[-1].hook == "egress"
    assert dropped[-1].rule is not None
    assert "drop if mark" in run.rules[dropped[-1].rule].written


def test_a_packet_is_redirected_past_the_stack(pool: Pool) -> None:
    """From pod to pod by neighbour look-up: no hook of the node sees the request."""
    flow = Flow("pod-to-pod", "pod-a", "{{ pod-b.ip }}", 5000, answered_by="pod-b")
    run = _run(
        pool,
        f"tc ingress {POD_A}: redirect-neigh {POD_B} if ip daddr {{{{ pod-b.ip }}}}\n",
        flow=flow,
    )
    assert run.flows[0].fate.arrived == 3
    assert "node" not in {r.point.node for r in _request(run).readings()}


def test_a_redirect_to_the_peer_carries_the_mark_into_the_pod(pool: Pool) -> None:
    """bpf_redirect_peer skips the veth, which would have erased it."""
    flow = Flow("lan-to-pod", "lan", "{{ pod-b.ip }}", 5000, answered_by="pod-b")
    run = _run(pool, f"tc ingress eth1: mark = 0x22, redirect-peer {POD_B} if udp\n", flow=flow)
    assert run.flows[0].fate.answered == 3
    assert _first(_request(run), "pod-b", "prerouting").mark == 0x22


@pytest.mark.parametrize(
    ("name", "mark", "table"),
    [
        ("proxy-to-other-node", 0x800, "tc egress cilium_host"),
        ("l7-ingress", 0x39300200, "tc ingress lxc0000000000a"),
    ],
)
def test_a_write_inside_one_namespace_is_attributed(
    pool: Pool, name: str, mark: int, table: str
) -> None:
    """A program at egress, or one that redirects, is named where the packet comes in again."""
    software = find("cilium@1.20:native", load())
    experiment = Experiment(
        "kubernetes-node", "lxc", (software,), (software,), "ipv4", "nft", flows=(name,)
    )
    run = next(iter(pool.run([experiment])))
    writes = [e for e in _request(run).events if isinstance(e, Write) and e.after == mark]
    rule = run.rule(writes[0].rule)
    assert rule is not None
    assert rule.table == table


def test_a_line_that_is_no_program_is_named_with_file_and_line(pool: Pool) -> None:
    """Line 2 of a text that begins on line 3 is line 4."""
    with pytest.raises(EntryError, match=r"entry\.toml:4: unknown action 'reject'"):
        _run(pool, "tc ingress eth0: mark = 1\ntc ingress eth0: reject\n")


def test_an_unknown_device_is_refused_with_file_and_line(pool: Pool) -> None:
    """The device is named by the line that stands in the message."""
    with pytest.raises(RuleRefused, match=r"entry\.toml:3: tc refused 'tc ingress eth9: drop'"):
        _run(pool, "tc ingress eth9: drop\n")


def test_the_verifier_is_quoted(pool: Pool) -> None:
    """A program that reads what it never wrote is refused with the verifier's own words."""
    with (
        pytest.raises(bpf.Refused, match="R2 !read_ok"),
        bpf.loaded(bytes.fromhex("bf200000000000009500000000000000")),
    ):
        pass


_AS_NOBODY = """
import os
from lab.errors import UnsupportedError
from lab.kernel import bpf
if os.geteuid() == 0:
    os.setuid(65534)
try:
    with bpf.loaded(bytes.fromhex("b7000000000000009500000000000000")):
        print("loaded")
except UnsupportedError as problem:
    print(problem)
"""


def test_an_ordinary_user_is_told_what_is_missing() -> None:
    """Where bpf(2) is for root only, the lab says so and what would help."""
    done = subprocess.run(
        [sys.executable, "-c", _AS_NOBODY], capture_output=True, text=True, check=True
    )
    if done.stdout == "loaded\n":
        pytest.skip("this kernel lets ordinary users load programs")
    assert "run as root of the machine" in done.stdout
