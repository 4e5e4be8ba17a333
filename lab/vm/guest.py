"""Run a program under another kernel: QEMU boots it on this machine's own files, read-only.

virtme-ng (virtme-run) puts the guest together: the root file system is this machine's over 9p, so
that the lab, its Python and every tool are the same. Only the kernel differs. What the guest
prints comes out here as it is printed, and its exit code comes back. The guest has no network.
"""

from __future__ import annotations

import fcntl
import os
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from lab.errors import SandboxError, UnsupportedError, UsageError
from lab.kernel.features import GUEST
from lab.kernel.netns import die_with_parent
from lab.vm import download
from lab.vm.kernels import Kernel, cache_folder, make

PROGRAMS = {"qemu-system-x86_64": "qemu-system-x86", "busybox": "busybox-static", "file": "file",
            "setpriv": "util-linux"}  # fmt: skip
_SHARED, _MACHINE, _WRITABLE = "/run/fwmark-lab", "/run/machine", "/run/writable"
_PACKAGE = Path(__file__).resolve().parents[2]
_BOOTS = 2  # a kernel under emulation panicked once at boot, and never again
_INTERVAL = 0.1  # seconds between looks at what the guest has printed
_SHOWN = 1000  # characters of its console in an error


@dataclass(frozen=True, slots=True)
class Job:
    """One program for a guest. ``writable`` is a folder that it may write to, at the same path.

    ``seconds`` is the time limit, boot included. ``kvm`` uses the processor's virtualization,
    which is faster where it works; inside of another virtual machine it often does not.
    """

    command: tuple[str, ...]
    folder: Path
    seconds: float = 1800
    writable: Path | None = None
    kvm: bool = False

    def __str__(self) -> str:
        return shlex.join(self.command)


def lacking() -> str:
    """Say what this machine lacks to run guests, and the remedy; empty if nothing."""
    if os.uname().machine != "x86_64":
        return f"guests are x86_64, this machine is {os.uname().machine}; use such a machine"
    absent = sorted({package for name, package in PROGRAMS.items() if not _find(name)})
    remedies = [f"apt-get install {' '.join(absent)}"] if absent else []
    if _virtme_run() is None:
        absent.append("virtme-ng")
        remedies.append(f"{sys.executable} -m pip install virtme-ng")
    return f"not installed: {', '.join(absent)}; {', and '.join(remedies)}" if absent else ""


def run(kernel: Kernel | Path, job: Job, out: BinaryIO, err: BinaryIO) -> int:
    """Boot ``kernel``, run one program in it, and return its exit code.

    Raises UnsupportedError where something is not installed, UsageError where the time is up, and
    SandboxError where the guest ends without having run the program to its end.
    """
    missing = lacking()
    if missing:
        raise UnsupportedError(f"cannot run a guest: {missing}")
    image, said, started = _image(kernel), "", False
    for _ in range(_BOOTS):
        with _shared(script(job)) as shared:
            _boot(_command(image, job, shared), job, shared, (out, err))
            if status := _read(shared / "status"):
                return int(status)
            said, started = _read(shared / "console")[-_SHOWN:], (shared / "started").exists()
        if started:
            break
    what = "ended before the program did" if started else f"did not start, in {_BOOTS} attempts"
    raise SandboxError(f"the guest {what}; the end of its console:\n{said or 'nothing'}")


def _image(kernel: Kernel | Path) -> Path:
    if isinstance(kernel, Path):
        return kernel
    if kernel.image() is None:
        download.fetch(kernel)
    image = kernel.image()
    if image is None:
        raise SandboxError(f"{kernel.name} was fetched, yet {kernel.folder} has no image")
    return image


@contextmanager
def _shared(text: str) -> Iterator[Path]:
    """Make the folder that guest and machine share; remove those whose process is gone."""
    sweep()
    with tempfile.TemporaryDirectory(dir=make("guests")) as name:
        shared = Path(name)
        with (shared / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            (shared / "script").write_text(text)
            (shared / "bin").mkdir()
            for program, text in _programs().items():
                (shared / "bin" / program).write_text(f'#!/bin/sh\nexec {text} "$@"\n')
                (shared / "bin" / program).chmod(0o700)
            yield shared


def _programs() -> dict[str, str]:
    """Map names to what they run: this lab and its Python in the guest, and QEMU here.

    QEMU is started by virtme-run, which must not leave it behind when it is killed itself.
    """
    python = shlex.quote(sys.executable)
    return {
        "fwmark-lab": f"{python} -m lab",
        "python": python,
        "qemu": f"{_find('setpriv')} --pdeathsig KILL {_find('qemu-system-x86_64')}",
    }


def sweep() -> int:
    """Remove what killed commands left of their guests; return how many there were."""
    folders = (cache_folder() / "guests").glob("*/")
    return sum(_remove_unless_used(folder) for folder in folders)


def _remove_unless_used(folder: Path) -> bool:
    with suppress(OSError), (folder / "lock").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        shutil.rmtree(folder, ignore_errors=True)
        return True
    return False


def script(job: Job) -> str:
    """Write what the guest runs: the program in its folder, then its exit code on the share."""
    settings = {
        "PATH": f"{_SHARED}/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "HOME": "/tmp",
        "LC_ALL": "C.UTF-8",
        "PYTHONPATH": str(_PACKAGE),
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONUNBUFFERED": "1",  # so that output is seen when it is printed
        "TERM": "dumb",
    }
    needed = {Path("/usr"), _PACKAGE, job.folder, Path(sys.prefix), Path(sys.base_prefix)}
    there = {Path("/"), Path("/tmp")}  # as they are meant to be
    lines = [_REMOUNTED, *map(_bound, sorted(needed - there)), _modules()]
    if job.writable:
        lines.append(f"mount --bind {_WRITABLE} {shlex.quote(str(job.writable))}")
    variables = " ".join(f"{name}={shlex.quote(value)}" for name, value in settings.items())
    return "\n".join(
        (
            "set -e",
            *lines,
            f"cd {shlex.quote(str(job.folder))}",
            f": > {_SHARED}/started",
            "set +e",
            f"env -i {variables} {shlex.join(job.command)} >{_SHARED}/out 2>{_SHARED}/err",
            f"echo $? > {_SHARED}/status\n",
        )
    )


# virtme-ng mounts without a cache: each program would be read over 9p again at every start.
_REMOUNTED = f"""\
tag=$(awk '$2 == "{_MACHINE}" {{ print $1 }}' /proc/mounts)
umount {_MACHINE}
mount -t 9p -o ro,version=9p2000.L,trans=virtio,access=any,msize=524288,cache=loose \
 "$tag" {_MACHINE}"""


def _bound(folder: Path) -> str:
    """Put a folder of this machine where it is here."""
    path = shlex.quote(str(folder))
    return f"mkdir -p {path}; mount --bind {_MACHINE}{path} {path}"


def _modules() -> str:
    """Put the kernel's modules where it looks for them; containers have no place for them."""
    lib, upper = os.path.realpath("/lib"), "/run/fwmark-lab-lib"
    return f"""\
modules=$(tr ' ' '\\n' < /proc/cmdline | sed -n 's/^virtme_link_mods=//p')
if [ -n "$modules" ]; then
 mkdir -p {upper}/upper {upper}/work
 mount -t overlay -o lowerdir={lib},upperdir={upper}/upper,workdir={upper}/work lib {lib}
 mkdir -p /lib/modules/$(uname -r)
 mount --bind "{_MACHINE}$modules" /lib/modules/$(uname -r)
fi"""


def _boot(
    command: tuple[str, ...], job: Job, shared: Path, outputs: tuple[BinaryIO, BinaryIO]
) -> None:
    """Run the guest to its end and pass on what its program prints meanwhile."""
    sources = [(shared / name).open("w+b") for name in ("out", "err")]
    with (shared / "console").open("wb") as console:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=console,
            stderr=console,
            env=os.environ | {"TMPDIR": str(shared)},
            cwd="/",
            process_group=0,
            preexec_fn=_end_with_us,
        )
    try:
        _follow(process, job, list(zip(sources, outputs, strict=True)))
    finally:
        with suppress(ProcessLookupError):  # virtme-run and QEMU, whatever happened here
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        for source in sources:
            source.close()


def _end_with_us() -> None:
    die_with_parent(signal.SIGKILL)


def _follow(
    process: subprocess.Popen[bytes], job: Job, streams: list[tuple[BinaryIO, BinaryIO]]
) -> None:
    deadline, running = time.monotonic() + job.seconds, True
    while running:
        try:
            process.wait(_INTERVAL)
            running = False
        except subprocess.TimeoutExpired:
            if time.monotonic() > deadline:
                raise UsageError(
                    f"the guest did not finish {str(job)!r} within {job.seconds:g} s; "
                    "allow it more time"
                ) from None
        for source, to in streams:
            if content := source.read():
                to.write(content)
                to.flush()


def _command(image: Path, job: Job, shared: Path) -> tuple[str, ...]:
    writable = ("--rwdir", f"{_WRITABLE}={job.writable}") if job.writable else ()
    return (
        *(_virtme_run() or ()),
        "--kimg", str(image), "--mods", "auto", "--force-9p", "--memory", "1G", "--cpus", "1",
        "--qemu-bin", str(shared / "bin" / "qemu"), *(() if job.kvm else ("--disable-kvm",)),
        "--kopt", GUEST, "--kopt", "nokaslr",
        "--rodir", f"{_MACHINE}=/", "--rwdir", f"{_SHARED}={shared}", *writable,
        "--overlay-rwdir", "/tmp", "--show-boot-console", "--script-sh", f"sh {_SHARED}/script",
    )  # fmt: skip


def _virtme_run() -> tuple[str, ...] | None:
    """Find virtme-run beside this Python first: that is where pip puts it."""
    beside = Path(sys.executable).with_name("virtme-run")
    found = str(beside) if beside.exists() else shutil.which("virtme-run")
    return (found,) if found else None


def _find(program: str) -> str | None:
    return shutil.which(program, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")


def _read(path: Path) -> str:
    try:
        return path.read_text().strip()
    except FileNotFoundError:
        return ""
