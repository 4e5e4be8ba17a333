"""``check`` and ``judge``: run experiments, or read them back, and say what they come to."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from lab.commands import given as given_rules
from lab.commands import host, options
from lab.errors import UsageError

if TYPE_CHECKING:
    from lab.record import Run
    from lab.registry.software import Software
    from lab.report.conflicts import Report
    from lab.runner.pool import Pool
    from lab.scenario import Experiment, Orders, Scenario

_CLEARED = "\r\x1b[K"
_JUNIT = click.option(
    "--junit",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Write JUnit XML as well.",
)


@click.command(epilog=f"{options.ENTRY_HELP}\n\n{given_rules.HELP}\n\n{host.HELP}")
@click.argument("names", nargs=-1, required=True, metavar="ENTRY...")
@click.option(
    "--order",
    type=click.Choice(["all", "given", "reverse"]),
    default="all",
    show_default=True,
    help="Orders of installation to try.",
)
@options.family_option("both", "ipv4", "ipv6", "both")
@options.variant_option("both", "nft", "legacy", "both")
@click.option(
    "--flow",
    "flows",
    multiple=True,
    metavar="NAME",
    help="Only this flow (name or software/name); may be repeated.",
)
@options.place_option
@given_rules.map_option
@given_rules.owns_option
@options.json_option
@_JUNIT
@click.option(
    "--save",
    type=click.Path(file_okay=False, path_type=Path),
    metavar="DIR",
    help="Save every run there, for judge.",
)
@click.option(
    "--keep",
    is_flag=True,
    help="Leave the namespaces of the last combination and say how to enter them.",
)
@click.option(
    "--jobs",
    type=click.IntRange(min=1),
    metavar="N",
    help="Experiments at a time (default: processors, at most 4).",
)
@options.verbose_option
def check(
    names: tuple[str, ...],
    order: Orders,
    family: str,
    variant: str,
    flows: tuple[str, ...],
    places: tuple[str, ...],
    maps: tuple[str, ...],
    owns: tuple[str, ...],
    as_json: bool,
    junit: Path | None,
    save: Path | None,
    keep: bool,
    jobs: int | None,
    verbose: bool,
) -> int:
    """Tell whether programs coexist: each alone, then together, in every order.

    One entry alone is checked against what it says it relies on.

    \b
    fwmark-lab check tailscale calico
    fwmark-lab check tailscale@1.1.0 calico@3.20 --family ipv4 --iptables nft
    fwmark-lab check kubernetes portmap --junit result.xml --save runs/
    fwmark-lab check tailscale ./node.rules ./ruleset.nft --map enp3s0=uplink
    fwmark-lab check host.tar.gz                what is on this host coexists?
    fwmark-lab check host.tar.gz tailscale      may it be installed there?

    Exit code: 0 all survive, 1 a conflict, 2 inconclusive, 3 internal error, 4 usage.
    """  # noqa: D301 - click reads the backspace
    _check_targets(junit, save)
    question = host.question(names, maps, owns, places)
    if question:
        software, given = question.every, question.given
        scenario = host.scenario(question, order, family, variant, flows)
    else:
        software, given = given_rules.parties(names, maps, owns)
        scenario = _scenario(options.placed(software, places), order, family, variant, flows)
    options.check_flows(flows, software)
    if question:
        host.show(question.host, verbose)
    for one in given:
        given_rules.show(one)
    from lab.runner.pool import Pool

    with Pool(jobs or 0) as pool:  # the workers start while the rest is imported
        if given or question:
            scenario = given_rules.learned(pool, scenario, question.spare if question else None)
        before = host.before(question, scenario) if question else ()
        runs = _run(pool, [*scenario.experiments(), *before])
        kept = _keep(pool, scenario) if keep else ""
        if save:
            _save(runs, save)
        code = _answer(runs, as_json, junit, verbose, question)
        if kept:
            click.echo(kept, err=as_json)
    return code


def _scenario(
    software: tuple[Software, ...], order: Orders, family: str, variant: str, flows: tuple[str, ...]
) -> Scenario:
    from lab.scenario import Scenario

    return Scenario(
        software,
        families=options.families(family),
        variants=options.variants(variant),
        orders=order,
        flows=flows,
    )


@click.command()
@click.argument("folder", type=click.Path(path_type=Path), metavar="DIR")
@options.json_option
@_JUNIT
@options.verbose_option
def judge(folder: Path, as_json: bool, junit: Path | None, verbose: bool) -> int:
    """Judge runs that check --save wrote: the same verdicts, without running anything."""
    _check_targets(junit, None)
    from lab import saved

    return _answer(saved.read(folder), as_json, junit, verbose)


def _check_targets(junit: Path | None, save: Path | None) -> None:
    """Refuse what could not be written before anything is run."""
    if junit and not junit.absolute().parent.is_dir():
        raise UsageError(f"cannot write {str(junit)!r}: no such folder")
    if save:
        from lab import saved

        saved.prepare(save)


def _run(pool: Pool, experiments: Sequence[Experiment]) -> list[Run]:
    return list(_with_progress(experiments, pool.run(experiments)))


def _with_progress(experiments: Sequence[Experiment], runs: Iterator[Run]) -> Iterator[Run]:
    """Show on a terminal's standard error which experiment is awaited."""
    if not sys.stderr.isatty():
        yield from runs
        return
    room = shutil.get_terminal_size().columns - 1
    try:
        for number, experiment in enumerate(experiments, 1):
            line = f"[{number}/{len(experiments)}] {experiment}"[:room]
            click.echo(f"{_CLEARED}{line}", err=True, nl=False)
            yield next(runs)
    finally:
        click.echo(_CLEARED, err=True, nl=False)


def _keep(pool: Pool, scenario: Scenario) -> str:
    _, kept = pool.keep(list(scenario.experiments())[-1])
    lines = [f"  {node:<8} {kept.enter_command(node)}" for node, _ in kept.nodes]
    lines.insert(0, "\nthe namespaces are kept; enter them with")
    return "\n".join([*lines, "and end them with  fwmark-lab clean --kept"])


def _save(runs: Sequence[Run], folder: Path) -> None:
    from lab import saved

    saved.save(runs, folder)


def _answer(
    runs: Sequence[Run],
    as_json: bool,
    junit: Path | None,
    verbose: bool,
    question: host.Question | None = None,
) -> int:
    from lab.report.conflicts import report
    from lab.verdict.outcome import exit_code

    if question is None:
        answer = report(runs)
        code, told, more = exit_code(list(answer.verdicts)), [], {}
    else:
        found = host.answer(question, runs)
        answer = report([r for r in runs if host.is_whole(question, r)], found.verdicts)
        code, told = host.exit_code(question, found), host.told(question, answer, found)
        more = {"host": host.content(question), "answer": told, "exit_code": code}
    if junit:
        _write_junit(answer, junit)
    _print(answer, as_json, verbose, told, more)
    return code


def _write_junit(answer: Report, path: Path) -> None:
    from lab.report import junit_xml

    try:
        path.write_text(junit_xml.text(answer), encoding="utf-8")
    except OSError as problem:
        raise UsageError(f"cannot write {str(path)!r}: {problem.strerror}") from None


def _print(
    answer: Report, as_json: bool, verbose: bool, told: Sequence[str], more: dict[str, Any]
) -> None:
    if as_json:
        from lab.report import json_file

        click.echo(json_file.text(json_file.content(answer) | more))
        return
    from lab.report import page, text

    columns = page.width(sys.stdout)
    page.show(text.render(answer, columns, verbose), sys.stdout)
    for sentence in told:
        page.show(page.wrapped(sentence, columns, "bold"), sys.stdout)
