"""What the kernel tests share: a worker to call functions in, and entries written on the spot."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from lab.errors import UnsupportedError
from lab.plugin import Lab
from lab.record import Run
from lab.registry.find import find
from lab.registry.loader import load, read
from lab.registry.software import Software
from lab.runner.pool import Pool
from lab.runner.protocol import Task
from lab.scenario import Scenario, Variant
from lab.traffic.flow import Family

ROOT = Path(__file__).parents[2]
Inside = Callable[..., Any]


@pytest.fixture(scope="session")
def worker() -> Iterator[Pool]:
    """Start a worker that can import this folder."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", f"{ROOT}{os.pathsep}{os.environ.get('PYTHONPATH', '')}")
        pool = Pool(1)
    with pool:
        yield pool


@pytest.fixture
def interruptible() -> Iterator[None]:
    """Let the programs that a test starts be interrupted, also if pytest runs in the background.

    A shell has what it starts there ignore SIGINT, and that is inherited.
    """
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture
def inside(worker: Pool) -> Inside:
    """Return what calls a function of ``inside.py`` in a worker's sandbox."""
    return calling(worker, "inside")


@pytest.fixture
def with_hosts(worker: Pool) -> Inside:
    """Return what calls a function of ``borrowed.py`` there."""
    return calling(worker, "borrowed")


def calling(worker: Pool, module: str) -> Inside:
    """Return what calls a function of a module of this folder; skips what cannot be done here."""

    def call(function: str, argument: object = None) -> Any:
        try:
            return worker.call(Task(f"tests.kernel.{module}:{function}", argument))
        except UnsupportedError as problem:
            pytest.skip(str(problem))

    return call


@pytest.fixture
def write_entry(tmp_path: Path) -> Callable[..., Software]:
    """Return what makes a registry entry of rulesets and one flow."""

    def write(title: str, *rulesets: dict[str, object], **flow: object) -> Software:
        blocks = [_block("ruleset", r) for r in rulesets]
        flows = [_block("flow", flow) + RELIED] if flow else []
        path = tmp_path / f"{title}.toml"
        path.write_text(f'name = "{title}"\n{HEAD}' + "".join(blocks + flows))
        return read(path)

    return write


HEAD = """\
release = "1"
mode = "m"
style = "bitwise"
summary = "made by a test"
source = "me/made@v1"
"""
RELIED = """\
[[flow.relies]]
at = "node prerouting first"
mark = "0x0/0x0"
"""


def _block(kind: str, values: dict[str, object]) -> str:
    lines = [f"{key.replace('_', '-')} = {_value(value)}" for key, value in values.items()]
    return "\n".join([f"[[{kind}]]", *lines, ""])


def _value(value: object) -> str:
    text = str(value)
    return f"'''\n{text}\n'''" if "\n" in text else json.dumps(value)


@pytest.fixture
def run_alone(lab: Lab) -> Callable[..., Run]:
    """Return what runs one entry in one family and variant."""

    def run(software: Software, family: Family = "ipv4", variant: Variant = "nft") -> Run:
        scenario = Scenario((software,), families=(family,), variants=(variant,))
        (experiment,) = scenario.experiments()
        return lab.run(experiment)

    return run


@pytest.fixture
def capture(inside: Inside, tmp_path: Path) -> Callable[..., Path]:
    """Return what installs entries by hand, then texts, and captures the node."""

    def taken(
        *names: str,
        extra: tuple[tuple[tuple[str, ...], str], ...] = (),
        family: Family = "ipv4",
        variant: str = "nft",
    ) -> Path:
        entries = load()
        software = tuple(find(name, entries) for name in names)
        scenario = Scenario(
            software,
            families=(family,),
            variants=(variant,),
            orders="given",  # type: ignore[arg-type]
        )
        experiment = list(scenario.experiments())[-1]
        path = tmp_path / f"{'-'.join(n.partition('@')[0] for n in names)}.tar.gz"
        path.write_bytes(inside("packed", (experiment, extra)))
        return path

    return taken
