"""The examples of docs/writing-scenarios.md, as somebody else's repository would have them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from lab.plugin import Lab, entries
from lab.scenario import Scenario

pytestmark = pytest.mark.kernel

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "writing-scenarios.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)


def examples(language: str) -> list[str]:
    """List the page's examples in one language."""
    return [text for kind, text in BLOCKS if kind == language]


def test_every_example_of_the_page_holds(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, lab: Lab
) -> None:
    """Each as a module of its own, with the entry beside them."""
    portmap = next(e for e in entries() if e.name == "portmap")
    lab.run(next(Scenario((portmap,)).experiments()))  # skips where nothing can be run
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.delenv("PYTEST_XDIST_WORKER", raising=False)
    monkeypatch.delenv("PYTEST_ADDOPTS", raising=False)
    (mine,) = examples("toml")
    (pytester.path / "my-vpn.toml").write_text(mine, encoding="utf-8")
    modules = {f"test_example_{n}": text for n, text in enumerate(examples("python"))}
    pytester.makepyfile(**modules)
    result = pytester.runpytest_subprocess("-p", "lab.plugin", "-p", "no:cacheprovider", "-v")
    tests = sum(text.count("def test_") for text in modules.values())
    assert tests == 5
    result.assert_outcomes(passed=tests + 3)
    result.stdout.fnmatch_lines(["*my-vpn-1.0+kubernetes-*-ipv4-nft-ab*"])


def test_every_option_of_the_page_exists() -> None:
    """And every option of the plugin is on the page."""
    source = (ROOT / "lab" / "plugin.py").read_text(encoding="utf-8")
    assert set(re.findall(r"--lab-[\w-]+", PAGE)) == set(re.findall(r'"(--lab-[\w-]+)"', source))
