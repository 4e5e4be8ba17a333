"""Findings for machines: JSON, and SARIF 2.1.0 (OASIS) for code review tools [pure]."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import PurePosixPath
from typing import Any
from urllib.parse import quote

from lab.codec import encode
from lab.lint.checks import CHECKS
from lab.lint.finding import Check, Finding

FORMAT = 1
SCHEMA = "https://json.schemastore.org/sarif-2.1.0.json"
_INDEX = {check.id: number for number, check in enumerate(CHECKS)}


def content(findings: Sequence[Finding], files: Sequence[str]) -> dict[str, Any]:
    """Return the findings as JSON values."""
    return {
        "format": FORMAT,
        "files": list(files),
        "findings": [encode(finding) for finding in findings],
    }


def sarif(findings: Sequence[Finding]) -> dict[str, Any]:
    """Return a SARIF log with one run."""
    driver = {
        "name": "fwmark-lab lint",
        "rules": [_rule(check) for check in CHECKS],
    }
    run = {"tool": {"driver": driver}, "results": [_result(finding) for finding in findings]}
    return {"$schema": SCHEMA, "version": "2.1.0", "runs": [run]}


def _rule(check: Check) -> dict[str, Any]:
    explained = check.explanation.split("\nWrong::")[0].strip()
    return {
        "id": check.id,
        "name": "".join(word.capitalize() for word in check.name.split("-")),
        "shortDescription": {"text": check.summary},
        "fullDescription": {"text": explained},
        "defaultConfiguration": {"level": check.severity},
    }


def _result(finding: Finding) -> dict[str, Any]:
    hurt = f" Hurts: {', '.join(finding.hurt)}." if finding.hurt else ""
    return {
        "ruleId": finding.check,
        "ruleIndex": _INDEX[finding.check],
        "level": finding.severity,
        "message": {"text": f"{finding.why}.{hurt} Instead: {finding.fix}"},
        "locations": [
            {
                "physicalLocation": {
                    "artifactLocation": {"uri": _uri(finding.file)},
                    "region": {"startLine": finding.line, "snippet": {"text": finding.rule}},
                }
            }
        ],
    }


def _uri(file: str) -> str:
    prefix = "file://" if PurePosixPath(file).is_absolute() else ""
    return prefix + quote(file)
