"""Write sysctls of the current namespace, by ``net.… = value`` lines."""

from __future__ import annotations

from functools import lru_cache

from lab.errors import EntryError, RuleRefused
from lab.kernel.sysctl import write_sysctl
from lab.native.lines import Line, lines
from lab.native.rule import Rule
from lab.registry.software import Ruleset
from lab.rules.installed import Installed, of_line


def install(software: str, ruleset: Ruleset, installed: Installed) -> None:
    """Write every line of one ruleset. Raises RuleRefused or EntryError with file and line."""
    for key, value, rule in _settings(software, ruleset):
        try:
            write_sysctl(key, value)
        except OSError as problem:
            place = f"{rule.file}:{rule.line}"
            raise RuleRefused(f"{place}: sysctl {key}: {problem.strerror}") from None
        installed.others.append(rule)


@lru_cache(maxsize=512)
def _settings(software: str, ruleset: Ruleset) -> tuple[tuple[str, str, Rule], ...]:
    written = lines(ruleset.text, ruleset.source)
    return tuple(_setting(software, ruleset, line) for line in written)


def _setting(software: str, ruleset: Ruleset, line: Line) -> tuple[str, str, Rule]:
    key, equals, value = (part.strip() for part in line.text.partition("="))
    rule = of_line(software, ruleset, line)
    if not equals or not key.startswith("net.") or ".." in key or "/" in key:
        raise EntryError(f"{rule.file}:{rule.line}: {line.text!r} is not 'net.… = value'")
    return key, value, rule
