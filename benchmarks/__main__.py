"""Measure, print, and write the page."""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from benchmarks import commands, experiments, machine, page, suite
from benchmarks.page import Table
from benchmarks.peers import race
from lab.scenario import VARIANTS

_PAGE = Path(__file__).parents[1] / "docs" / "benchmarks.md"
_COMMAND = "python -m benchmarks"


def _waits(times: int) -> Iterator[Table]:
    yield page.waits(*commands.check(times), *commands.launcher(times))


def _experiments(times: int) -> Iterator[Table]:
    many = times * 50
    yield page.endurance([(v, experiments.endurance(many, v)) for v in VARIANTS])
    for variant in VARIANTS:
        yield page.phases(experiments.phases(times * 3, variant), variant)
    yield page.sizes(experiments.sizes(times * 2))
    yield page.idle(experiments.beside_idle_namespaces(times * 3))


def _pairs(times: int) -> Iterator[Table]:
    yield page.suite([(machine.crowded(), suite.pairs()) for _ in range(max(1, times // 2))])


def _peers(times: int) -> Iterator[Table]:
    yield page.race(race.race(times))


SECTIONS: dict[str, Callable[[int], Iterator[Table]]] = {
    "waits": _waits,
    "experiments": _experiments,
    "pairs": _pairs,
    "peers": _peers,
}


def main() -> int:
    """Run the sections that were asked for; only a complete run writes the page."""
    options = _options()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # clean up then, too
    before, fast, crowded = machine.load(), machine.speed(), machine.crowded()
    tables = []
    try:
        for name in options.sections or SECTIONS:
            for table in SECTIONS[name](options.times):
                tables.append(table)
                _say(page.plain(table))
    except KeyboardInterrupt:
        _say("\ninterrupted: nothing is written")
        return 130
    if not options.sections:
        busy = f"{before} when it began, {machine.load()} at the end"
        speed = f"{fast} before, {machine.speed()} behind the benchmark"
        facts = [
            *machine.describe(),
            ("load average, this benchmark included", busy),
            ("a million additions in Python", speed),
            ("the same on all processors at once", crowded),
        ]
        command = _COMMAND if options.times == _TIMES else f"{_COMMAND} --times {options.times}"
        _PAGE.write_text(page.markdown(tables, facts, command), encoding="utf-8")
        _say(f"\nwritten: docs/{_PAGE.name}")
    return 0


_TIMES = 10


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog=_COMMAND, description=__doc__)
    parser.add_argument(
        "sections",
        nargs="*",
        metavar="SECTION",
        help=f"only these, and no page: {' '.join(SECTIONS)}",
    )
    parser.add_argument(
        "--times", type=int, default=_TIMES, help="rounds; experiments are repeated more often"
    )
    options = parser.parse_args()
    unknown = set(options.sections) - set(SECTIONS)
    if unknown:
        parser.error(f"unknown section {min(unknown)!r}; known: {' '.join(SECTIONS)}")
    return options


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
