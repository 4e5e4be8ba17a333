"""Kernels for guests, by name or by the path of an image; and where their files are kept."""

from __future__ import annotations

import os
import tomllib
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from lab.errors import UsageError, unknown

_FILE = Path(__file__).with_name("kernels.toml")


@dataclass(frozen=True, slots=True)
class Kernel:
    """A kernel of a distribution: ``package`` of ``suite`` depends on the newest one."""

    name: str
    suite: str
    package: str

    @property
    def folder(self) -> Path:
        """Return where it is unpacked; the folder exists once all of it is there."""
        return cache_folder() / "kernels" / self.name

    def image(self) -> Path | None:
        """Return the file to boot, or None where it was not fetched yet."""
        return next(iter(sorted(self.folder.glob("boot/vmlinuz-*"))), None)

    def release(self) -> str:
        """Return the release that was fetched, such as ``6.1.0-50-amd64``; empty before that."""
        image = self.image()
        return image.name.removeprefix("vmlinuz-") if image else ""

    def __str__(self) -> str:
        return f"{self.name}: {self.package} of Debian {self.suite}"


@cache
def known() -> tuple[Kernel, ...]:
    """Read the kernels that have a name."""
    with _FILE.open("rb") as file:
        return tuple(Kernel(name, **keys) for name, keys in tomllib.load(file).items())


def find(name: str) -> Kernel | Path:
    """Return a kernel by name, or the image where a path is given.

    Raises UsageError for an unknown name and a file that does not exist.
    """
    if "/" in name:
        path = Path(name).expanduser().resolve()
        if not path.is_file():
            raise UsageError(
                f"no kernel image {name!r}; expected a file such as boot/vmlinuz-6.1.0"
            )
        return path
    found = next((kernel for kernel in known() if kernel.name == name), None)
    if found is None:
        raise unknown("kernel", name, [kernel.name for kernel in known()])
    return found


def cache_folder() -> Path:
    """Return the user's cache folder of the lab, which need not exist."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "fwmark-lab"


def make(name: str) -> Path:
    """Return a folder of the cache, made where it is missing. Raises UsageError."""
    folder = cache_folder() / name
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as problem:
        raise UsageError(
            f"cannot make {folder}: {problem.strerror}; set XDG_CACHE_HOME to a folder of yours"
        ) from None
    return folder
