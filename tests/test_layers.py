"""Imports run downwards only, without cycles, and pure modules need no kernel."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
CAPTURED = (
    *("parse", "mapping", "near", "bits", "flows", "learn", "archive", "listings", "pseudonyms"),
    *("listed", "shapes", "known", "split", "roles", "texts", "sysctls", "owners", "tell"),
)
"""What becomes of rules that were captured or given; reading them from a host is another thing."""
LAYERS = (  # from the bottom; a module may import those of its own layer and of the ones below
    ("errors", "marks", "points", "shard"),
    (
        "native",
        "topology.plan",
        "topology.hops",
        "topology.library",
        "traffic.flow",
        "traffic.packets",
    ),
    ("registry",),
    ("scenario",),
    ("order",),
    ("record",),
    ("verdict",),
    (
        "cases",
        "pairs",
        "codec",
        "saved",
        "report",
        "reported",
        "shrink",
        "lint",
        "bits",
        "fidelity",
    ),
    tuple(f"capture.{name}" for name in CAPTURED),
    ("traffic.settle",),
    ("kernel",),
    ("topology",),
    ("rules", "observe", "traffic"),
    ("runner",),
    ("capture", "boundary", "vm", "doctor", "fidelity.real"),
    ("commands",),
    ("cli", "plugin", "__main__", "__init__"),
)
PURE = 10
"""So many layers know nothing of the kernel."""
KERNEL_LIBRARIES = ("pyroute2", "scapy", "ctypes")


def name(path: Path) -> str:
    """Name a module below ``lab``, as ``registry.loader``."""
    parts = path.relative_to(ROOT / "lab").with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" and len(parts) > 1 else parts)


MODULES = {name(path): path for path in sorted((ROOT / "lab").rglob("*.py"))}


def layer(module: str) -> int:
    """Return the layer of a module: the longest name that begins it counts."""
    found = [
        (len(prefix), number)
        for number, prefixes in enumerate(LAYERS)
        for prefix in prefixes
        if f"{module}.".startswith(f"{prefix}.")
    ]
    assert found, f"lab.{module} has no layer; give it one in {Path(__file__).name}"
    return max(found)[1]


@cache
def imports(module: str) -> frozenset[str]:
    """List what a module imports when it is loaded: modules of the lab, and others' packages."""
    return frozenset(_imported(ast.parse(MODULES[module].read_text()).body))


def _imported(body: list[ast.stmt]) -> Iterator[str]:
    for node in body:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield from (_resolved(node.module, alias.name) for alias in node.names)
        elif isinstance(node, ast.If) and "TYPE_CHECKING" not in ast.unparse(node.test):
            yield from _imported(node.body + node.orelse)
        elif isinstance(node, (ast.Try, ast.With)):
            yield from _imported(node.body)


def _resolved(module: str, attribute: str) -> str:
    inner = f"{module}.{attribute}".removeprefix("lab.")
    return f"lab.{inner}" if inner in MODULES else module


def own(module: str) -> set[str]:
    """List the modules of the lab that a module imports."""
    return {i.removeprefix("lab.") for i in imports(module) if i.startswith("lab.")}


@pytest.mark.parametrize("module", MODULES)
def test_imports_run_downwards(module: str) -> None:
    """Nothing imports from a layer above its own."""
    upwards = {other for other in own(module) if layer(other) > layer(module)}
    assert upwards == set()


def test_no_module_imports_itself_through_others() -> None:
    """Cycles hide which module comes first."""
    done: set[str] = set()

    def visit(module: str, path: tuple[str, ...]) -> None:
        assert module not in path, " -> ".join((*path, module))
        if module not in done:
            for other in sorted(own(module)):
                visit(other, (*path, module))
            done.add(module)

    for module in MODULES:
        visit(module, ())
    assert done == set(MODULES)


def pure() -> list[str]:
    """List the modules that need neither root nor the kernel."""
    return [module for module in MODULES if layer(module) < PURE]


@pytest.mark.parametrize("module", pure())
def test_pure_modules_name_no_kernel_library(module: str) -> None:
    """Not when they are loaded; what a function imports costs only who calls it."""
    assert not {i for i in imports(module) if i.split(".")[0] in KERNEL_LIBRARIES}


def test_pure_modules_load_without_the_kernel_modules() -> None:
    """Told by the interpreter itself, with everything that comes along."""
    program = (
        "import sys, importlib\n"
        "for name in sys.argv[1:]: importlib.import_module('lab.' + name)\n"
        "heavy = ('lab.kernel', 'lab.rules', 'lab.observe', 'pyroute2', 'scapy')\n"
        "print([m for m in sys.modules if m.startswith(heavy)])"
    )
    done = subprocess.run(
        (sys.executable, "-c", program, *pure()),
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == "[]"


def test_only_the_kernel_folder_starts_programs() -> None:
    """``lab/kernel`` runs programs in namespaces, the pool starts workers, ``vm`` apt and QEMU."""
    allowed = {"runner.pool", "vm.download", "vm.guest", "cli"}
    starters = {m for m in MODULES if "subprocess" in imports(m) and not m.startswith("kernel.")}
    assert starters - allowed - {m for m in MODULES if m.startswith("commands.")} == set()
