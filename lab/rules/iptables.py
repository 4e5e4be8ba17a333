"""Load iptables rules with ``iptables-restore --noflush``, in the nft or the legacy variant."""

from __future__ import annotations

import re
from dataclasses import replace

from lab.errors import EntryError, RuleRefused
from lab.kernel import command
from lab.native.iptables_text import Change, changes, saved
from lab.native.rule import Rule
from lab.registry.software import Ruleset
from lab.rules.installed import Installed

_LINE = re.compile(r"line:? (\d+)")


def install(software: str, ruleset: Ruleset, installed: Installed) -> None:
    """Load one ruleset into the current namespace and note whose rules they are.

    Raises RuleRefused with file and line where iptables-restore does not take a rule.
    """
    try:
        replayed = list(changes(ruleset.text, ruleset.source))
    except ValueError as problem:
        raise EntryError(f"{ruleset.file}:{ruleset.line}: {problem}") from None
    program = f"{_prefix(installed)}-restore"
    result = command.run((program, "--noflush"), ruleset.text + "\n")
    if result.status:
        raise RuleRefused(_refusal(program, result.error, ruleset))
    for change in replayed:
        _note(change, software, ruleset, installed)


def _prefix(installed: Installed) -> str:
    return f"{'iptables' if installed.family == 'ipv4' else 'ip6tables'}-{installed.variant}"


def _refusal(program: str, error: str, ruleset: Ruleset) -> str:
    found = _LINE.search(error)
    number = int(found[1]) if found else 1
    texts = ruleset.text.split("\n")
    rule = texts[number - 1].strip() if number <= len(texts) else ""
    reason = " ".join(line for line in error.splitlines() if not line.startswith("Try "))
    return f"{ruleset.file}:{ruleset.line + number - 1}: {program} refused {rule!r}: {reason}"


def _note(change: Change, software: str, ruleset: Ruleset, installed: Installed) -> None:
    rule = Rule(software, "iptables", change.table, change.chain, change.text,
                source=change.source, file=ruleset.file, line=ruleset.line + change.number)
    if installed.variant == "legacy":
        installed.legacy.apply(change, rule)
    else:
        table = f"{installed.keyword} {change.table}"
        installed.nftables.apply(replace(change, table=table), rule)


def list_rules(installed: Installed) -> None:
    """Add to each rule the text in which iptables-save lists it."""
    result = command.run((f"{_prefix(installed)}-save",))
    listing = saved(result.output)
    if installed.variant == "legacy":
        installed.legacy.name(listing)
    else:
        named = {(f"{installed.keyword} {t}", c): rules for (t, c), rules in listing.items()}
        installed.nftables.name(named)


