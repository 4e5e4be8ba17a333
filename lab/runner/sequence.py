"""The only sequencer: build, install, observe, send, collect, tear down."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from functools import lru_cache

from lab.errors import RuleRefused, UnsupportedError
from lab.kernel import command, keep
from lab.kernel.keep import Kept
from lab.kernel.sandbox import Sandbox
from lab.observe import places
from lab.observe.recorder import Recorder
from lab.record import Dropped, Environment, Run, Timeline
from lab.rules.listing import Listings
from lab.runner import bench as benches
from lab.runner.bench import Bench, Stock
from lab.runner.collect import Ran, keep_books, missed, record, sort_out
from lab.scenario import Experiment
from lab.traffic.send import Call, Switchboard

_TOOLS = ("iptables-nft", "iptables-legacy", "nft", "ip")


def run(experiment: Experiment, sandbox: Sandbox, stock: Stock) -> Run:
    """Run one experiment from nothing and return what was seen.

    A software that is refused only beside another gives a Run with ``refused``; one that is
    refused alone raises RuleRefused, and a bad entry EntryError. Where the observation missed
    something, the experiment is run once more: a machine that was held up for long enough has TCP
    repeat itself. So it is where a connection was not even refused.
    """
    found = _once(experiment, sandbox, stock)
    return _once(experiment, sandbox, stock) if found.lost or swallowed(found) else found


def swallowed(run: Run) -> bool:
    """Tell whether a packet of TCP was delivered, and nothing at all came back.

    The kernel answers each, if only by a reset. On a busy machine it has been seen not to, once in
    thousands of connections, and not again in the next run.
    """
    tcp = {
        (s.title, f.name) for s in run.experiment.software for f in s.flows if f.protocol == "tcp"
    }
    return any(
        (flow.owner, flow.name) in tcp
        and all(line.direction == "request" for line in flow.timelines)
        and any(_delivered(line) for line in flow.timelines)
        for flow in run.flows
    )


def _delivered(line: Timeline) -> bool:
    read = line.readings()
    ended = any(isinstance(event, Dropped) for event in line.events)
    return bool(read) and read[-1].point.hook == "input" and not ended


def _once(experiment: Experiment, sandbox: Sandbox, stock: Stock) -> Run:
    started = time.perf_counter()
    with ExitStack() as stack:
        bench = benches.set_up(experiment, sandbox, stack, stock.lends(experiment))
        found = _run(bench, sandbox, stock.listings, stack)
        bench.network.ended_well = not (found.lost or found.refused)
    return replace(found, seconds=round(time.perf_counter() - started, 4))


def run_and_keep(experiment: Experiment, sandbox: Sandbox, stock: Stock) -> tuple[Run, Kept]:
    """Run one experiment and leave its namespaces to a process that holds them."""
    with ExitStack() as stack:
        bench = benches.set_up(experiment, sandbox, stack)
        run_ = _run(bench, sandbox, stock.listings, stack)
        return run_, keep.hold(bench.network.namespaces)


def _run(bench: Bench, sandbox: Sandbox, listings: Listings, stack: ExitStack) -> Run:
    experiment = bench.experiment
    try:
        benches.install(bench)
    except RuleRefused as problem:
        if experiment.alone:
            raise
        return Run(experiment, environment(), (), (), (), refused=str(problem))
    recorder = Recorder(carries=benches.has_tunnels(experiment))
    stack.callback(recorder.close)
    calls = benches.calls(bench)
    _watch(bench, recorder, sum(call.most_packets() for call in calls))
    strange = _list_rules(bench, listings)
    ran, late = sort_out(_send(bench, recorder, calls, sandbox, stack))
    notes = recorder.notes()
    late += (p for met in recorder.cut().values() for mine in met.values() for p in mine)
    books = keep_books(bench, recorder, notes)
    flows = tuple(record(one, books) for one in ran)
    return Run(
        experiment=experiment,
        environment=environment(),
        rules=books.rules,
        policy=books.policy,
        flows=flows,
        lost=(*strange, *missed(recorder, notes, books, late)),
    )


def _watch(bench: Bench, recorder: Recorder, packets: int) -> None:
    everybody = bench.experiment.beside
    for node in bench.network.topology.node_names():
        ruled = node in bench.nodes.anew
        points = places.points(node, everybody) if ruled else places.ends(node)
        recorder.watch(
            bench.network,
            node,
            points,
            tracked=ruled and benches.tracks_connections(bench, node),
            legacy=ruled and bool(bench.sites[node].installed.legacy.chains),
            packets=packets if ruled else 0,
        )


def _list_rules(bench: Bench, listings: Listings) -> list[str]:
    strange: list[str] = []
    for node in bench.nodes.anew:
        with bench.network.namespaces[node].inside(bench.network.home):
            strange += listings.name(bench.sites[node].installed, bench.sites[node].nft)
    return strange


def _send(
    bench: Bench,
    recorder: Recorder,
    calls: Sequence[Call],
    sandbox: Sandbox,
    stack: ExitStack,
) -> list[Ran]:
    def settle() -> None:
        sandbox.settler.settle()
        recorder.relieve(switchboard.sent)

    one_by_one = recorder.carries or recorder.tight
    switchboard = Switchboard(bench.network, settle, bench.nodes.ruled, one_by_one=one_by_one)
    stack.callback(switchboard.close)
    switchboard.listen(calls)
    recorder.cut()
    return [Ran(call, switchboard.run(call), recorder.cut()) for call in calls]


@lru_cache(maxsize=1)
def environment() -> Environment:
    """Return the kernel release and the versions of the tools, asked once per process."""
    return Environment(os.uname().release, tuple((tool, _version(tool)) for tool in _TOOLS))


def _version(tool: str) -> str:
    try:
        flag = "-V" if tool == "ip" else "--version"
        return command.run((tool, flag)).output.strip().splitlines()[0]
    except (UnsupportedError, IndexError):
        return "not installed"
