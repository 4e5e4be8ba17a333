"""Runs in files: one JSON file per run in a folder, judged again later without root [pure]."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from lab.codec import decode, encode
from lab.errors import RecordError, UsageError
from lab.record import Run

FORMAT = 1
_KEYS = ("format", "run")


def prepare(folder: Path) -> None:
    """Make a folder for runs.

    One that holds other runs is refused: judged together they would mean nothing.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as problem:
        raise UsageError(f"cannot save to {str(folder)!r}: {problem.strerror}") from None
    if any(folder.glob("*.json")):
        raise UsageError(f"{str(folder)!r} already holds saved runs; expected an empty folder")


def save(runs: Iterable[Run], folder: Path) -> list[Path]:
    """Write one file per run into a folder that ``prepare`` made, and return the paths."""
    try:
        return [_write(folder, number, run) for number, run in enumerate(runs, 1)]
    except OSError as problem:
        raise UsageError(f"cannot save to {str(folder)!r}: {problem.strerror}") from None


def _write(folder: Path, number: int, run: Run) -> Path:
    path = folder / f"{number:02}-{label(run)}.json"
    path.write_text(to_text(run), encoding="utf-8")
    return path


def label(run: Run) -> str:
    """Name a run in a file name: ``tailscale-1.102.3+calico-3.20-ipv4-nft``."""
    experiment = run.experiment
    names = "+".join(
        f"{s.name}-{s.release}" if s.default_mode else f"{s.name}-{s.release}-{s.mode}"
        for s in experiment.software
    )
    return "".join(
        c if c.isalnum() or c in "+-._" else "_"
        for c in f"{names}-{experiment.family}-{experiment.variant}"
    )


def to_text(run: Run) -> str:
    """Write a run as JSON, without spaces."""
    content = {"format": FORMAT, "run": encode(run)}
    return json.dumps(content, separators=(",", ":"), ensure_ascii=False) + "\n"


def read(folder: Path) -> list[Run]:
    """Read every run of a folder, in the order of the file names."""
    if not folder.is_dir():
        raise UsageError(f"no folder {str(folder)!r}; expected one that check --save wrote")
    paths = sorted(folder.glob("*.json"))
    if not paths:
        raise UsageError(f"no run in {str(folder)!r}; expected *.json files of check --save")
    return [read_one(path) for path in paths]


def read_one(path: Path) -> Run:
    """Read one run; whatever does not fit is a RecordError that names the file and the key."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, RecursionError) as problem:
        raise RecordError(f"{path}: not valid JSON, or cut short: {problem}") from None
    except UnicodeDecodeError:
        raise RecordError(f"{path}: not UTF-8 text; expected a saved run") from None
    except OSError as problem:
        raise RecordError(f"{path}: cannot be read: {problem.strerror}") from None
    return from_json(content, str(path))


def from_json(content: Any, where: str) -> Run:
    """Read a run from its JSON value. Raises RecordError naming ``where`` and the key."""
    if not isinstance(content, dict) or "format" not in content:
        raise RecordError(f"{where}: key 'format': missing; expected a saved run")
    if content["format"] != FORMAT:
        raise RecordError(
            f"{where}: key 'format': {content['format']!r} is unknown here; this "
            f"release reads {FORMAT}; record the run again"
        )
    for key in content:
        if key not in _KEYS:
            raise RecordError(f"{where}: key {key!r}: unknown key; known here: {', '.join(_KEYS)}")
    if "run" not in content:
        raise RecordError(f"{where}: key 'run': missing")
    run = decode(Run, content["run"], where, "run")
    for problem in _dangling(run):
        raise RecordError(f"{where}: {problem}")
    return run


def _dangling(run: Run) -> Iterator[str]:
    """Find references to rules that the run does not hold."""
    for number, policy in enumerate(run.policy):
        yield from _outside(policy.rule, len(run.rules), f"run.policy[{number}].rule")
    for f, flow in enumerate(run.flows):
        for t, line in enumerate(flow.timelines):
            for e, event in enumerate(line.events):
                at = f"run.flows[{f}].timelines[{t}].events[{e}]"
                yield from _outside(getattr(event, "rule", None), len(run.rules), f"{at}.rule")
                yield from _outside(getattr(event, "policy", None), len(run.policy), f"{at}.policy")


def _outside(index: int | None, count: int, key: str) -> Iterator[str]:
    if index is not None and not 0 <= index < count:
        yield f"key {key!r}: {index} is out of range; there are {count}"
