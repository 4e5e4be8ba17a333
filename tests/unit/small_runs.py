"""Runs of two made-up programs, small enough to read: beta clears alpha's bits, or does not."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from lab.marks import Mark
from lab.native.rule import Rule
from lab.points import Point
from lab.record import (
    Dropped,
    Environment,
    Fate,
    FlowRun,
    Hit,
    PolicyRule,
    Reading,
    Routed,
    Run,
    Timeline,
    Write,
)
from lab.registry.software import Allocation, Ruleset, Software, Value
from lab.scenario import Experiment, Scenario
from lab.traffic.flow import Expectation, Flow

AT = Point.parse("node postrouting srcnat - 1")
BEFORE = Point.parse("node postrouting mangle - 1")
ARRIVAL = Point.parse("lan input last")
LOST = Fate(3, 0, 0, "", "", "request ended on lan in prerouting, not routed")
FINE = Fate(3, 3, 3, "lan", "192.0.2.1", "")


def software(name: str, *flows: Flow) -> Software:
    """Build an entry that owns bits 16-23."""
    return Software(
        name=name,
        release="1.10",
        mode="iptables",
        style="bitwise",
        summary=f"the {name} program",
        source=f"example/{name}@v1.10",
        aliases=("1.9",),
        allocations=(Allocation("mark", 0xFF0000, (Value("go", Mark(0x40000, 0xFF0000)),)),),
        rulesets=(
            Ruleset(
                "iptables",
                "*mangle\n#@ a.go#L1\n-A POSTROUTING -j ACCEPT\nCOMMIT\n",
                file=f"/x/lab/registry/data/{name}/1.toml",
                line=9,
            ),
        ),
        flows=flows,
        file=f"/x/lab/registry/data/{name}/1.toml",
    )


PING = Flow(
    "ping",
    "peer",
    "{{ lan.ip }}",
    7,
    answered_by="lan",
    expectations=(Expectation(AT, "mark", Mark(0x40000, 0xFF0000)),),
)
PONG = replace(PING, name="pong")
ALPHA, BETA = software("alpha", PING, PONG), software("beta")
RULE = Rule(
    BETA.title,
    "iptables",
    "mangle",
    "beta-POST",
    "-A beta-POST -j MARK --set-mark 0/0xf0000",
    "-A beta-POST -j MARK --set-xmark 0x0/0xf0000",
    "example/beta@v1.10:b.go#L2",
    "/x/lab/registry/data/beta/1.toml",
    12,
)
ACCEPT = Rule(
    ALPHA.title,
    "iptables",
    "filter",
    "a-fwd",
    "-A a-fwd -m mark --mark 0x40000/0xff0000 -j ACCEPT",
    file="/x/lab/registry/data/alpha/1.toml",
    line=5,
)
JUMP = Rule(ALPHA.title, "iptables", "filter", "FORWARD", "-A FORWARD -j a-fwd")
POLICY = PolicyRule(
    32766, 254, "lookup", None, False, "", "", "", "", None, "32766: from all lookup main"
)


def timeline(cleared: bool) -> Timeline:
    """Build one packet that keeps or loses alpha's bits."""

    def reading(point: Point, mark: int, ctmark: int | None = 0) -> Reading:
        return Reading(point, mark, ctmark, "100.64.0.9", "192.168.50.20")

    write = Write("node", "postrouting", -150, "mark", 0x40000, 0, 0)
    end = (
        Dropped("lan", "prerouting", 400, None, "not routed")
        if cleared
        else reading(ARRIVAL, 0, None)
    )
    return Timeline(
        "request",
        0,
        "ab",
        (
            reading(Point.parse("node prerouting first"), 0, None),
            reading(Point.parse("node prerouting raw + 1"), 0, None),
            Routed("node", "prerouting", 0, 0, "192.168.50.0/24 dev eth1", "eth1"),
            Hit("node", "forward", 0, 2, 0, 0, "jump"),
            Hit("node", "forward", 0, 1, 0x40000, 0x40000, "accept"),
            reading(BEFORE, 0x40000),
            *([write] if cleared else []),
            reading(AT, 0 if cleared else 0x40000),
            end,
        ),
    )


def run(experiment: Experiment, cleared: bool) -> Run:
    """Record an experiment in which beta clears the bits of ping, not of pong."""
    flows = [
        FlowRun(ALPHA.title, flow.name, (timeline(hit),), LOST if hit else FINE)
        for flow, hit in ((PING, cleared), (PONG, False))
        if ALPHA in experiment.software
    ]
    return Run(
        experiment,
        Environment("6.1", (("nft", "1.0.6"),)),
        (RULE, ACCEPT, JUMP),
        (POLICY,),
        tuple(flows),
        seconds=0.25,
    )


def runs(cleared: Callable[[Experiment], bool] = lambda _: True, **options: object) -> list[Run]:
    """Record alpha and beta, alone and together; ``cleared`` says where beta harms."""
    scenario = Scenario((ALPHA, BETA), **options)  # type: ignore[arg-type]
    return [run(e, not e.alone and cleared(e)) for e in scenario.experiments()]
