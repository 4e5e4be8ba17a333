"""What the package offers by name is sorted, and there."""

from __future__ import annotations

import ast
from importlib import import_module
from pathlib import Path

import pytest

import lab

FOLDER = Path(lab.__file__).parent


def exporting() -> list[str]:
    """List the modules with an ``__all__``."""
    return [
        ".".join(("lab", *path.relative_to(FOLDER).with_suffix("").parts)).removesuffix(".__init__")
        for path in sorted(FOLDER.rglob("*.py"))
        if "__all__ = " in path.read_text()
    ]


@pytest.mark.parametrize("module", exporting())
def test_exports_are_sorted_and_there(module: str) -> None:
    """Each once."""
    loaded = import_module(module)
    assert list(loaded.__all__) == sorted(set(loaded.__all__))
    assert [name for name in loaded.__all__ if not hasattr(loaded, name)] == []


def test_the_package_offers_the_whole_way_from_registry_to_verdict() -> None:
    """Registry -> scenario -> experiment -> run -> verdict."""
    assert {"load", "Scenario", "Experiment", "Run", "compare", "Verdict"} <= set(lab.__all__)


def test_an_unknown_name_is_an_attribute_error() -> None:
    """As with any module."""
    with pytest.raises(AttributeError, match="has no attribute 'nonsense'"):
        _ = lab.nonsense


@pytest.mark.parametrize("path", sorted(FOLDER.rglob("*.py")), ids=lambda p: p.name)
def test_every_public_function_and_class_has_a_docstring(path: Path) -> None:
    """Of one sentence at least, which ends with a period."""
    tree = ast.parse(path.read_text())
    public = [
        node
        for node in ast.walk(tree)
        if isinstance(node, (ast.FunctionDef, ast.ClassDef))
        and not node.name.startswith("_")
        and node in tree.body
    ]
    bare = [
        node.name
        for node in public
        if not (ast.get_docstring(node) or "").split("\n")[0].endswith((".", "?"))
    ]
    assert bare == []
