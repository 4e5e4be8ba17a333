"""A command that checks two programs with two workers, until it is done or killed.

Prints a line when it starts and one per run; ``forever`` repeats. Started by the safety tests.
"""

from __future__ import annotations

import sys

from lab.registry.find import find
from lab.registry.loader import load
from lab.runner.pool import Pool
from lab.scenario import Scenario
from lab.verdict.compare import compare
from lab.verdict.outcome import exit_code


def main(*arguments: str) -> int:
    """Return the exit code of the last check."""
    forever = "forever" in arguments
    names = [a for a in arguments if a != "forever"]
    entries = load()
    scenario = Scenario(tuple(find(name, entries) for name in names), families=("ipv4",))
    print("started", flush=True)  # noqa: T201
    with Pool(2) as pool:
        while True:
            runs = []
            for run in pool.run(scenario.experiments()):
                runs.append(run)
                print(run.experiment, flush=True)  # noqa: T201
            if not forever:
                return exit_code(compare(runs))


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
