"""Kernels for guests, what a guest runs, and what is missing for it."""

from __future__ import annotations

import shlex
import shutil
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lab import cli, doctor
from lab.errors import UnsupportedError, UsageError
from lab.vm import download, guest
from lab.vm.guest import Job
from lab.vm.kernels import Kernel, find, known, make

IMAGE = Path("/cache/kernels/debian-12/boot/vmlinuz-6.1.0-50-amd64")


def test_every_kernel_has_a_name_a_suite_and_a_package() -> None:
    """Debian 11 to sid; not the cloud flavour, which lacks 9p."""
    assert [kernel.name for kernel in known()] == [
        "debian-11",
        "debian-12",
        "debian-13",
        "debian-sid",
    ]
    assert {kernel.package for kernel in known()} == {"linux-image-amd64"}


def test_an_unknown_kernel_is_told_with_those_that_are_known() -> None:
    """The near names come first."""
    with pytest.raises(UsageError, match=r"unknown kernel 'debian-1';.* known: debian-11, "):
        find("debian-1")


def test_a_path_is_a_kernel_image(tmp_path: Path) -> None:
    """Whoever builds kernels names the file."""
    image = tmp_path / "vmlinuz-6.99"
    with pytest.raises(UsageError, match=r"no kernel image .* expected a file"):
        find(str(image))
    image.touch()
    assert find(str(image)) == image


def test_a_kernel_is_there_once_its_image_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The release is read off the image's name, and the cache follows XDG_CACHE_HOME."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    kernel = Kernel("debian-12", "bookworm", "linux-image-amd64")
    assert (kernel.image(), kernel.release()) == (None, "")
    (kernel.folder / "boot").mkdir(parents=True)
    (kernel.folder / "boot" / "vmlinuz-6.1.0-50-amd64").touch()
    assert kernel.release() == "6.1.0-50-amd64"


def test_a_cache_that_cannot_be_made_is_told_with_the_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file stands where the folder should be."""
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    with pytest.raises(UsageError, match=r"cannot make .*; set XDG_CACHE_HOME"):
        make("kernels")


@given(st.lists(st.text(st.characters(exclude_characters="\0", codec="utf-8"), min_size=1)))
def test_the_guest_gets_each_argument_as_it_was(arguments: list[str]) -> None:
    """No shell reads a word of the command."""
    text = guest.script(Job(("program", *arguments), Path("/srv/project")))
    words = shlex.split(text, comments=False)
    start = words.index("program")
    assert words[start + 1 : start + 1 + len(arguments)] == arguments


def test_a_writable_folder_is_mounted_last() -> None:
    """Otherwise the folder around it, which is read-only, would hide it."""
    job = Job(("true",), Path("/srv/project"), writable=Path("/srv/project/out"))
    lines = guest.script(job).splitlines()
    mounts = [line for line in lines if "mount --bind" in line]
    assert mounts[-1] == "mount --bind /run/writable /srv/project/out"
    assert any(line.endswith("/run/machine/srv/project /srv/project") for line in mounts[:-1])


@pytest.mark.parametrize("folder", ["/", "/tmp"])
def test_the_guest_keeps_its_own_root_and_tmp(folder: str) -> None:
    """A command that is started there must not make them read-only."""
    lines = guest.script(Job(("true",), Path(folder))).splitlines()
    assert not [line for line in lines if line.endswith(f" {folder}") and "mount --bind" in line]


def test_what_killed_commands_left_is_swept_and_the_rest_is_not(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A lock tells: its holder is there."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert guest.sweep() == 0
    left = make("guests") / "left"
    left.mkdir()
    (left / "lock").touch()
    with guest._shared("true\n") as used:
        assert not left.exists()
        assert guest.sweep() == 0
        assert (used / "script").read_text() == "true\n"
    assert list(make("guests").iterdir()) == []


def _without(monkeypatch: pytest.MonkeyPatch, *missing: str) -> None:
    kept = guest._find
    monkeypatch.setattr(
        guest, "_find", lambda name: None if name in missing else kept(name) or name
    )
    monkeypatch.setattr(
        guest, "_virtme_run", lambda: None if "virtme-run" in missing else ("virtme-run",)
    )


def test_what_is_missing_is_told_with_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    """Packages by apt, virtme-ng by the lab's own Python."""
    _without(monkeypatch, "qemu-system-x86_64", "virtme-run")
    assert guest.lacking() == (
        "not installed: qemu-system-x86, virtme-ng; apt-get install qemu-system-x86, "
        f"and {sys.executable} -m pip install virtme-ng"
    )
    with pytest.raises(UnsupportedError, match="cannot run a guest: not installed"):
        guest.run(IMAGE, Job(("true",), Path("/")), sys.stdout.buffer, sys.stderr.buffer)


def test_the_command_line_says_what_is_missing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit code 4, one line, nothing fetched before."""
    _without(monkeypatch, "virtme-run")
    assert cli.run(["vm", "run", "--kernel", "debian-12", "--", "true"]) == 4
    assert capsys.readouterr().err.startswith(
        "fwmark-lab: error: cannot run a guest: not installed: virtme-ng; "
    )


def test_the_archive_is_not_asked_without_its_keyring(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The archive signs its lists; apt could not verify what it downloads."""
    monkeypatch.setattr(download, "_KEYRING", tmp_path / "none.gpg")
    assert "debian-archive-keyring" in download.lacking()
    with pytest.raises(UnsupportedError, match="cannot fetch debian-12: not installed"):
        download.fetch(Kernel("debian-12", "bookworm", "linux-image-amd64"))


def test_a_kernel_is_split_over_packages_or_in_one() -> None:
    """Since 7.x Debian ships image and modules in packages of their own."""
    parts = download._PARTS.findall(
        "Depends: linux-base (>= 4), linux-binary-7.2.13+deb14-amd64 (= 7.2.13-1), "
        "linux-modules-7.2.13+deb14-amd64 (= 7.2.13-1), linux-image-6.1.0-50-amd64"
    )
    assert parts == [
        "linux-binary-7.2.13+deb14-amd64",
        "linux-modules-7.2.13+deb14-amd64",
        "linux-image-6.1.0-50-amd64",
    ]


def test_the_doctor_says_whether_guests_can_run(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Kernels that are there need nothing to fetch them."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    lacks = doctor.guest_finding("", "not installed: apt; apt-get install apt")
    assert (lacks.state, lacks.remedy) == ("optional-missing", "apt-get install apt")
    assert doctor.guest_finding("", "").reason == "none fetched yet; vm run does it"
    boot = tmp_path / "fwmark-lab" / "kernels" / "debian-12" / "boot"
    boot.mkdir(parents=True)
    (boot / "vmlinuz-6.1.0-50-amd64").touch()
    found = doctor.guest_finding("", "not installed: apt; apt-get install apt")
    assert (found.state, found.reason) == ("yes", "fetched: debian-12")


@pytest.mark.skipif(not shutil.which("depmod"), reason="depmod is not installed")
@pytest.mark.parametrize(
    ("image", "modules"),
    [
        ("boot/vmlinuz-6.99", "lib/modules/6.99"),
        ("boot/vmlinuz-6.99", "usr/lib/modules/6.99"),
        ("usr/lib/modules/6.99/vmlinuz", "usr/lib/modules/6.99"),
    ],
)
def test_a_kernel_is_found_wherever_its_package_has_it(
    tmp_path: Path, image: str, modules: str
) -> None:
    """In /boot, or among its modules, which are in /lib or in /usr/lib."""
    (tmp_path / modules / "kernel").mkdir(parents=True)
    (tmp_path / image).parent.mkdir(exist_ok=True)
    (tmp_path / image).write_text("kernel")
    download._complete(tmp_path)
    assert (tmp_path / "boot" / "vmlinuz-6.99").read_text() == "kernel"
    assert (tmp_path / "lib" / "modules" / "6.99" / "modules.dep").exists()


def test_modules_without_their_kernel_are_refused(tmp_path: Path) -> None:
    """A guest could not boot from them."""
    (tmp_path / "lib" / "modules" / "6.99").mkdir(parents=True)
    with pytest.raises(UnsupportedError, match=r"the kernel of 6\.99, found its modules only"):
        download._complete(tmp_path)
