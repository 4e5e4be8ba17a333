"""The numbers as a page."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from benchmarks.experiments import Endurance, Size
from benchmarks.peers.compile import PATIENCE
from benchmarks.peers.race import Race, Result
from benchmarks.samples import Sample, number
from benchmarks.suite import COMMAND, Suite

Row = Sequence[str]


@dataclass(frozen=True, slots=True)
class Table:
    """A heading, what is to be known before reading, and rows below a row of names."""

    heading: str
    about: str
    names: Row
    rows: tuple[Row, ...]


def waits(one: Sample, every: Sample, through: Sample, directly: Sample) -> Table:
    """Tell what a person waits for."""
    own = Sample(tuple(a - b for a, b in zip(through.values, directly.values, strict=True)))
    return Table(
        "What a person waits for",
        "Wall clock from the shell's prompt to the next one, the launcher and start-up included.",
        ("command", "seconds: median (min – max)", "goal", "times"),
        (
            _wait("`./fwmark-lab check tailscale calico --iptables nft`", one, "≤ 2"),
            _wait("`./fwmark-lab check tailscale calico`, both variants", every, ""),
            _wait("`./fwmark-lab --version`, second start", through, ""),
            _wait("of which the launcher, before Python starts", own, "< 0.3"),
        ),
    )


def _wait(what: str, sample: Sample, goal: str) -> Row:
    return what, sample.text(), goal, str(len(sample.values))


def phases(found: Iterable[tuple[str, Sample]], variant: str) -> Table:
    """Tell where the time of an experiment goes."""
    return Table(
        f"One experiment by phase, iptables-{variant}",
        "Measured within the worker: `tailscale` then `calico@3.20`, IPv4, all flows of both. "
        "`watch` installs the recorder, `collect` makes the record.",
        ("phase", "milliseconds: median (min – max)"),
        tuple((name, sample.text()) for name, sample in found),
    )


def endurance(found: Sequence[tuple[str, Endurance]]) -> Table:
    """Tell whether the thousandth experiment costs what the first does."""
    rows = []
    for variant, one in found:
        first, last = one.milliseconds.first_tenth(), one.milliseconds.last_tenth()
        rows.append(
            (
                f"iptables-{variant}",
                str(len(one.milliseconds.values)),
                one.milliseconds.text(),
                number(first.median),
                number(last.median),
                one.in_hand.text(),
                " → ".join(f"{kibibytes / 1024:.0f}" for kibibytes in one.memory),
            )
        )
    return Table(
        "The same experiment again and again, by one worker",
        "From building the network to letting go of it, the record made. Goal: median ≤ 60 ms, "
        "flat. Then the same with the record handed over: from the request to the run in hand of "
        "the process that asked, which suites do without, since the worker judges. Memory is what "
        "the worker holds after the first one, half-way, and at the end.",
        ("variant", "times", "milliseconds: median (min – max)", "median of the first tenth",
         "of the last tenth", "handed over", "memory, MiB"),
        tuple(rows),
    )  # fmt: skip


def sizes(found: Iterable[Size]) -> Table:
    """Tell what the cost grows with."""
    return Table(
        "What the cost grows with",
        "All flows of all software that is installed together; IPv4, iptables-nft.",
        ("software", "rules", "flows", "packets seen", "milliseconds: median (min – max)",
         "per flow", "per flow and software"),
        tuple(_size(size) for size in found),
    )  # fmt: skip


def _size(size: Size) -> Row:
    median = size.milliseconds.median
    return (
        " + ".join(size.software),
        str(size.rules),
        str(size.flows),
        str(size.packets),
        size.milliseconds.text(),
        number(median / size.flows),
        number(median / size.flows / len(size.software)),
    )


def suite(found: Sequence[tuple[str, Suite]]) -> Table:
    """Tell what all pairs took each time; before it, how fast the machine was."""
    _, first = found[0]
    middle = Sample(tuple(one.seconds for _, one in found)).median
    return Table(
        "Every pair",
        f"All current software in pairs, both orders, families and variants, judged beside its "
        f"runs alone: `{' '.join(COMMAND)}`. These are {first.tests} tests and "
        f"{first.experiments} experiments, the runs alone among them: orders that leave the kernel "
        "in the same state have one run. Start-up is included. Goal: ≤ 60 s on 2 processors; the "
        f"median is {number(middle)} s. How fast the machine was is told by a million additions in "
        "Python on all processors at once, just before. Memory is that of the largest process so "
        "far.",
        ("run", "additions", "seconds", "tests per second", "seconds of processor time",
         "milliseconds of it per test", "memory, MiB"),
        tuple(_once(run, *one) for run, one in enumerate(found, 1)),
    )  # fmt: skip


def _once(run: int, speed: str, took: Suite) -> Row:
    return (
        str(run),
        speed,
        number(took.seconds),
        number(took.tests / took.seconds),
        number(took.processor),
        number(took.processor / took.tests * 1000),
        number(took.peak / 1024),
    )


def idle(found: Iterable[tuple[int, Sample]]) -> Table:
    """Tell that other namespaces do not matter."""
    return Table(
        "Beside namespaces that do nothing",
        "The subject above, while other network namespaces are alive in the same kernel.",
        ("idle namespaces", "milliseconds: median (min – max)"),
        tuple((str(count), sample.text()) for count, sample in found),
    )


def race(found: Race) -> Table:
    """Tell how peers compare."""
    return Table(
        "The same scenario by others",
        f"""\
`tailscale` then `calico@3.20` on the topology `kubernetes-node`, IPv4, iptables-nft, Tailscale's
{found.flows} flows with 3 packets each way: build 6 namespaces, install both in
{found.commands} commands, send, read the marks at every point that the flows rely on, tear down.
One experiment at a time; all take turns, and the ratio is taken within each turn. What each saw is
compared with the lab: as many packets answered and as many right and wrong marks at every point,
else there is no number. The lab also reads wherever else anything is done, and names each rule that
wrote a mark. The others are installed into an environment that is thrown away afterwards.

- *shell*: one script per experiment as the kernel's selftests are written: `ip netns exec`, one
  `iptables -A` per rule, senders in Python without site-packages, nftables counters as probes.
- *Mininet*: Debian's package, its hosts and links without switches, the same commands by
  `host.cmd`.
- *munet*: `munet.base`, its hosts and point-to-point links, the same commands by
  `host.cmd_raises`.

{found.lost} of the packets are never answered, because of the conflict. The lab knows when all
packets have come to their end; the others wait {PATIENCE} s for each. Computed from that are the
columns without these waits, and with the 1 s that such scripts usually wait. Goal: ratio ≥ 20.""",
        ("by", "seconds: median (min – max)", "experiments per second",
         "ratio: median (min – max)", "without waits", "waiting 1 s", "times"),
        tuple(_raced(result, found) for result in found.results),
    )  # fmt: skip


def _raced(result: Result, found: Race) -> Row:
    if not result.seconds:
        why = result.missing or f"failed every time: {result.failures[0]}"
        return result.name, f"none: {why}", "", "", "", "", ""
    sample = result.sample()
    ratios = ("1", "", "")
    if result.ratios:
        own = found.results[0].sample().median
        unwaited = sample.median - found.lost * PATIENCE
        ratios = (
            Sample(tuple(result.ratios)).text(),
            number(unwaited / own),
            number((unwaited + found.lost) / own),
        )
    rate = number(1 / sample.median)
    times = str(len(sample.values))
    if result.failures:
        reasons = ", ".join(sorted(set(result.failures)))
        times += f"; {len(result.failures)} more failed ({reasons})"
    return result.name, sample.text(), rate, *ratios, times


def markdown(tables: Sequence[Table], machine: Sequence[tuple[str, str]], command: str) -> str:
    """Write the whole page."""
    head = f"""\
# Benchmarks

Generated by `{command}`. Absolute numbers depend on the machine and wander with what else it
does; ratios within one table hold. Measured on:

"""
    facts = "".join(f"- {name}: {value}\n" for name, value in machine)
    return head + facts + "".join(_markdown(table) for table in tables)


def _markdown(table: Table) -> str:
    lines = [table.names, ["---"] * len(table.names), *table.rows]
    body = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    return f"\n## {table.heading}\n\n{table.about}\n\n{body}\n"


def plain(table: Table) -> str:
    """Write a table for the terminal."""
    lines = [table.names, *table.rows]
    widths = [max(len(line[n]) for line in lines) for n in range(len(table.names))]
    rows = ["  ".join(c.ljust(w) for c, w in zip(line, widths, strict=True)) for line in lines]
    return "\n".join([f"\n{table.heading}", *(f"  {row.rstrip()}" for row in rows)])
