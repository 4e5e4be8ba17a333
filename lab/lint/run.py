"""From files to findings [pure]: nothing is run, nothing but the files is read."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from lab.lint import source
from lab.lint.checks import CHECKS
from lab.lint.finding import Finding
from lab.lint.hurt import Owners
from lab.lint.model import Subject
from lab.lint.parse import Collected
from lab.registry.facts import facts
from lab.registry.loader import read
from lab.registry.placeholders import fill
from lab.registry.software import Ruleset, Software
from lab.topology import library
from lab.traffic.flow import Family

_FORMATS: dict[str, source.Format] = {
    "iptables": "iptables",
    "nft": "nft",
    "ip": "policy",
    "sysctl": "sysctl",
    "tc": "tc",
    "bpf": "bpf",
}


def lint(paths: Sequence[Path], owners: Owners, owner: str = "") -> list[Finding]:
    """Return the findings in some files, in the order of files and lines.

    Files are taken as one host's: a policy rule in one explains a mark in another. A registry
    entry stands by itself. ``owner`` names the software whose files they are, which is not hurt by
    itself. Raises UsageError or EntryError for a file that cannot be read.
    """
    host = Collected()
    subjects: list[Subject] = []
    for path in paths:
        text = source.read(path)
        kind = source.detect(path, text)
        if kind == "entry":
            subjects += entry_subjects(read(path))
        else:
            host.add(kind, text, str(path))
    subjects.append(host.subject(owner))
    found = [finding for subject in subjects for finding in findings(subject, owners)]
    order = {str(path): number for number, path in enumerate(paths)}
    once = {(f.check, f.file, f.line, f.why): f for f in reversed(found)}
    return sorted(once.values(), key=lambda f: (order.get(f.file, -1), f.line, f.check))


def findings(subject: Subject, owners: Owners) -> Iterator[Finding]:
    """Yield what every check finds."""
    for check in CHECKS:
        yield from check.run(subject, owners)


def entry_subjects(entry: Software) -> Iterator[Subject]:
    """Yield what a registry entry installs on each node, in each family of its own."""
    for node in dict.fromkeys(ruleset.node for ruleset in entry.rulesets):
        for family in ("ipv4", "ipv6"):
            rulesets = [r for r in entry.rulesets if r.node == node and family in r.families]
            yield _collected(entry, rulesets, family).subject(entry.name)


def _collected(entry: Software, rulesets: Iterable[Ruleset], family: Family) -> Collected:
    topology = library.find("kubernetes-node", entry.pod_prefix or "veth")
    known = facts(entry, topology, family)
    collected = Collected()
    for ruleset in rulesets:
        kind = _FORMATS.get(ruleset.tool)
        if kind is not None:
            text = fill(ruleset.text, known, ruleset.file, ruleset.line)
            collected.add(kind, text, ruleset.file, ruleset.line)
    return collected
