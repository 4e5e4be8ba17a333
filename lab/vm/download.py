"""Fetch a kernel: apt downloads and verifies its packages, dpkg-deb unpacks them.

Nothing is installed. apt works on lists and a status of its own, so that neither the machine's
sources nor its packages matter; its settings (a proxy) hold.
"""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lab.errors import UnsupportedError
from lab.vm.kernels import Kernel, make

PROGRAMS = {"apt-get": "apt", "dpkg-deb": "dpkg", "depmod": "kmod"}
_MIRROR = "https://deb.debian.org/debian"
_KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
_PARTS = re.compile(r"\blinux-(?:image|binary|modules)-\d[^\s,|(]*")
_SHOWN = 200  # characters of a program's complaint in an error


def fetch(kernel: Kernel) -> None:
    """Download and unpack the newest kernel of its suite, in the place of an older one.

    Raises UnsupportedError where a program or the archive's keyring is missing, or apt fails.
    """
    missing = lacking()
    if missing:
        raise UnsupportedError(f"cannot fetch {kernel.name}: {missing}")
    kernels = make("kernels")
    with _alone(kernels), tempfile.TemporaryDirectory(prefix=".new-", dir=kernels) as new:
        work = Path(new)
        for package in _download(kernel, work):
            _run(("dpkg-deb", "--extract", str(package), str(work / "root")))
        _complete(work / "root")
        shutil.rmtree(kernel.folder, ignore_errors=True)
        (work / "root").rename(kernel.folder)


def lacking() -> str:
    """Say what this machine lacks to fetch kernels, and the remedy; empty if nothing."""
    absent = [package for program, package in PROGRAMS.items() if not _find(program)]
    if not _KEYRING.exists():
        absent.append("debian-archive-keyring")
    if not absent:
        return ""
    return f"not installed: {', '.join(absent)}; apt-get install {' '.join(absent)}"


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Let one process at a time change the kernels; remove what a killed one left."""
    with (folder / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        for rest in folder.glob(".new-*"):
            shutil.rmtree(rest, ignore_errors=True)
        yield


def _download(kernel: Kernel, work: Path) -> list[Path]:
    """Return the packages of the kernel that the one in the table depends on."""
    options = _apt_options(kernel, work)
    _run(("apt-get", *options, "update"))
    names, waiting = set[str](), [kernel.package]
    while waiting:
        shown = _run(("apt-cache", *options, "show", "--no-all-versions", waiting.pop()))
        depends = " ".join(line for line in shown.splitlines() if line.startswith("Depends:"))
        new = set(_PARTS.findall(depends)) - names
        names |= new
        waiting += sorted(new)
    if not names:
        raise UnsupportedError(f"{kernel.package} of {kernel.suite} depends on no kernel image")
    (work / "packages").mkdir()
    _run(("apt-get", *options, "download", *sorted(names)), work / "packages")
    return sorted((work / "packages").glob("*.deb"))


def _apt_options(kernel: Kernel, work: Path) -> tuple[str, ...]:
    for folder in ("state/lists/partial", "cache/archives/partial"):
        (work / folder).mkdir(parents=True)
    (work / "status").touch()
    (work / "sources").write_text(f"deb [signed-by={_KEYRING}] {_MIRROR} {kernel.suite} main\n")
    values = {
        "Dir::State": work / "state",
        "Dir::State::status": work / "status",
        "Dir::Cache": work / "cache",
        "Dir::Etc::sourcelist": work / "sources",
        "Dir::Etc::sourceparts": "/dev/null",
        "APT::Architecture": "amd64",
        "APT::Sandbox::User": "",  # root's cache is closed to apt's own user
        "Acquire::Languages": "none",
    }
    return ("-qq", *(f"-o{key}={value}" for key, value in values.items()))


def _complete(root: Path) -> None:
    """Make the index of the modules, which an installation would have made.

    Newer packages have /usr/lib only, and from Linux 7 on the kernel among its modules.
    """
    if not (root / "lib").exists():
        (root / "lib").symlink_to("usr/lib")
    releases = [path.name for path in (root / "lib" / "modules").glob("*")]
    if len(releases) != 1:
        raise UnsupportedError(f"expected one kernel with its modules, found {releases}")
    image = root / "boot" / f"vmlinuz-{releases[0]}"
    if not image.exists():
        _image_among_modules(root / "lib" / "modules" / releases[0] / "vmlinuz", image)
    _run(("depmod", "-b", str(root), releases[0]))


def _image_among_modules(found: Path, image: Path) -> None:
    if not found.exists():
        raise UnsupportedError(
            f"expected the kernel of {found.parent.name}, found its modules only"
        )
    image.parent.mkdir(exist_ok=True)
    image.hardlink_to(found)


def _run(command: tuple[str, ...], folder: Path = Path("/")) -> str:
    done = subprocess.run(
        (_find(command[0]) or command[0], *command[1:]),
        capture_output=True,
        text=True,
        errors="replace",
        env=os.environ | {"LC_ALL": "C"},
        stdin=subprocess.DEVNULL,
        cwd=folder,
        check=False,
    )
    if done.returncode:
        said = " ".join((done.stderr or done.stdout).split())[-_SHOWN:] or "it did not say why"
        raise UnsupportedError(f"{command[0]} failed with status {done.returncode}: {said}")
    return done.stdout


def _find(program: str) -> str | None:
    return shutil.which(program, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")
