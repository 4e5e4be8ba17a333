"""A packet's way is told in order, in columns that stay readable."""

from __future__ import annotations

from small_runs import runs

from lab.record import FlowRun, Run
from lab.report import page
from lab.report.timeline import View, render


def shown(run: Run, columns: int = 0, verbose: bool = False) -> str:
    """Render the first flow of a run."""
    flow: FlowRun = run.flows[0]
    return page.plain(render(View(run, columns, verbose), flow, flow.timelines))


def test_a_packet_is_told_in_order() -> None:
    """Readings, routes, rules, writes and the end stand in the order in which they happened."""
    assert shown(runs()[2]) == (
        "alpha 1.10 then beta 1.10; ipv4, iptables-nft\n"
        "  flow         alpha/ping\n"
        "  fate         request ended on lan in prerouting, not routed\n"
        "\n"
        "-------------------------------- request 1 of 1 --------------------------------\n"
        "node     point                                   mark        ctmark\n"
        "         100.64.0.9 > 192.168.50.20\n"
        "node     prerouting first .. raw + 1             0x00000000  -\n"
        "         routed with mark 0x00000000: 192.168.50.0/24 dev eth1\n"
        "           ip rule 32766: from all lookup main\n"
        "         accept by alpha, forward, table filter, chain a-fwd\n"
        "           -A a-fwd -m mark --mark 0x40000/0xff0000 -j ACCEPT\n"
        "node     postrouting mangle - 1                  0x00040000  0x00000000\n"
        "         mark 0x00040000 -> 0x00000000 by beta, postrouting, table mangle, "
        "chain beta-POST\n"
        "           -A beta-POST -j MARK --set-mark 0/0xf0000\n"
        "node     postrouting srcnat - 1                  0x00000000  0x00000000\n"
        "         lan: ended in prerouting, not routed\n"
    )


def test_a_delivered_packet_says_so() -> None:
    """The last line tells where it was delivered."""
    assert shown(runs(lambda _: False)[2]).endswith("lan      delivered\n")


def test_verbose_hides_nothing() -> None:
    """-v shows every reading, every rule, the rule as listed and its source."""
    text = shown(runs()[2], verbose=True)
    for part in (
        "prerouting first ",
        "prerouting raw + 1 ",
        "-A FORWARD -j a-fwd",
        "listed as -A beta-POST -j MARK --set-xmark 0x0/0xf0000",
        "lab/registry/data/beta/1.toml:12  example/beta@v1.10:b.go#L2",
    ):
        assert part in text


def test_a_hundred_columns_are_enough() -> None:
    """No line is broken in a terminal of 100 columns."""
    assert shown(runs()[2], 100) == shown(runs()[2]).replace(
        "request 1 of 1".center(16).center(80, "-"), "request 1 of 1".center(16).center(100, "-")
    )


def test_what_was_lost_is_told() -> None:
    """A timeline with gaps says that it has gaps."""
    from dataclasses import replace

    assert "lost         3 messages" in shown(replace(runs()[2], lost=("3 messages",)))
