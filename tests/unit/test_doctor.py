"""The doctor: what it finds, how it says so, and that looking changes nothing."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from lab import doctor
from lab.doctor import Finding
from lab.kernel import features
from lab.kernel.features import Answer, Entry, Trial

HERE = Finding("veth pairs", "yes", "works")
LACKING = Finding("nft", "no", "not on the PATH", "apt-get install nftables")
SPARE = Finding("netkit devices", "optional-missing", "Unknown device type", "use kernel 6.7")

ROOT, IN_USER_NAMESPACE = Entry("root"), Entry("user namespace")
REFUSED = Entry("", "Operation not permitted")


def test_only_what_check_needs_decides_the_exit_code() -> None:
    """An optional feature may be missing; a needed one may not."""
    assert doctor.exit_code([HERE, SPARE]) == 0
    assert doctor.exit_code([HERE, SPARE, LACKING]) == 4


def test_what_is_missing_is_shown_with_reason_and_remedy() -> None:
    """Each finding is a line; the remedy follows where there is one."""
    assert doctor.render([HERE, LACKING]).splitlines() == [
        "yes       veth pairs  works",
        "no        nft         not on the PATH",
        "                      remedy: apt-get install nftables",
        "",
        "check cannot run here; needed and missing: 1",
    ]


def test_color_adds_escapes_and_nothing_else() -> None:
    """Without its escape sequences the coloured text is the plain one."""
    colored = doctor.render([HERE, LACKING, SPARE], color=True)
    for code in ("31", "32", "33", "0"):
        assert f"\x1b[{code}m" in colored
        colored = colored.replace(f"\x1b[{code}m", "")
    assert colored == doctor.render([HERE, LACKING, SPARE])


def test_nothing_found_is_not_an_error() -> None:
    """An empty list still renders."""
    assert doctor.render([]) == "\ncheck can run here"


@pytest.mark.parametrize(
    ("release", "state"),
    [
        ("6.1.0-18-amd64", "yes"),
        ("5.10.0", "yes"),
        ("7.0-rc1", "yes"),
        ("5.4.0-150-generic", "optional-missing"),
        ("strange", "optional-missing"),
    ],
)
def test_kernels_older_than_the_measured_ones_are_pointed_out(release: str, state: str) -> None:
    """Numbers are compared as numbers: 5.4 is older than 5.10."""
    assert doctor.kernel_finding(release).state == state


def test_a_missing_program_names_its_package() -> None:
    """The remedy can be typed as it stands."""
    assert "apt-get install ipset" in doctor.program_finding("ipset", None, "ipset").remedy
    assert doctor.program_finding("ipset", "7.17", "ipset").state == "yes"


@pytest.mark.parametrize(
    ("setting", "entry", "state"),
    [
        ("", IN_USER_NAMESPACE, "yes"),
        ("0", IN_USER_NAMESPACE, "yes"),
        ("1", ROOT, "optional-missing"),
        ("1", REFUSED, "no"),
    ],
)
def test_apparmor_matters_only_to_who_needs_a_user_namespace(
    setting: str, entry: Entry, state: str
) -> None:
    """Root does without one."""
    assert doctor.apparmor_finding(setting, entry).state == state


@pytest.mark.parametrize(
    ("entry", "ordinary", "state"),
    [
        (ROOT, IN_USER_NAMESPACE, "yes"),
        (ROOT, REFUSED, "optional-missing"),
        (REFUSED, REFUSED, "no"),
    ],
)
def test_refused_user_namespaces_stop_only_ordinary_users(
    entry: Entry, ordinary: Entry, state: str
) -> None:
    """Root can work on a machine that forbids them to others."""
    assert doctor.user_namespace_finding(entry, ordinary).state == state


def test_root_without_its_capabilities_is_told_so() -> None:
    """In a container user 0 may still need a user namespace."""
    assert "without CAP_SYS_ADMIN" in doctor.root_finding(0, IN_USER_NAMESPACE).reason
    assert doctor.root_finding(1000, IN_USER_NAMESPACE).state == "optional-missing"


def test_a_failed_trial_is_a_lack_only_if_it_was_needed() -> None:
    """The remedy of the trial is the remedy of the finding."""
    refusal = Answer(False, "Unknown device type")
    spare = Trial("vxlan", ("ip link add x type vxlan",), remedy="load vxlan")
    needed = Trial("veth", ("ip link add x type veth",), needed=True, remedy="load veth")
    assert doctor.trial_finding(spare, refusal).state == "optional-missing"
    assert doctor.trial_finding(needed, refusal) == Finding(
        "veth", "no", "Unknown device type", "load veth"
    )


def test_answers_keep_the_order_of_the_trials() -> None:
    """A failing step ends its own trial only, and the reason is the tool's own words."""
    trials = (
        Trial("absent program", ("no-such-program-here",)),
        Trial("loopback", ("ip link show lo",)),
        Trial("wrong", ("ip link show lo", "ip link add x type no-such-kind")),
    )
    entry, answers = features.attempt(trials)
    if not entry:
        assert {answer.reason for answer in answers} == {
            f"no namespace to try it in: {entry.refused}"
        }
        pytest.skip(f"no namespace here: {entry.refused}")
    assert [answer.ok for answer in answers] == [False, True, False]
    assert "no-such-program-here" in answers[0].reason


def test_a_module_on_disk_is_reported_and_not_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Trying would load it for the whole machine, so its presence is the answer."""
    monkeypatch.setattr(features, "_on_disk", lambda: frozenset({"sleepy"}))
    _, (answer,) = features.attempt([Trial("sleepy", ("false",), ("sleepy",))])
    assert answer.ok
    assert "loads module sleepy on first use" in answer.reason


@pytest.mark.parametrize("root", [True, False])
def test_the_tables_of_legacy_are_loaded_by_root_only(
    monkeypatch: pytest.MonkeyPatch, root: bool
) -> None:
    """iptables-legacy asks modprobe for them, where the kernel loads other modules by itself."""
    monkeypatch.setattr(features, "dormant", tuple)
    monkeypatch.setattr(features, "has_capability", lambda number: root)
    trials = [Trial("legacy", ("false",), ("ip_tables",)), Trial("nft", ("false",), ("nf_tables",))]
    _, answers = features.attempt(trials)
    assert [answer.ok for answer in answers] == [root, True]
    assert ("only root's iptables loads it" in answers[0].reason) is not root


def _namespaces() -> list[str]:
    return [str(Path(f"/proc/self/ns/{kind}").readlink()) for kind in ("net", "mnt", "user")]


def _sysctls() -> list[str]:
    folder = Path("/proc/sys/net/ipv4/conf/all")
    names = ("rp_filter", "src_valid_mark", "accept_local")
    return [(folder / name).read_text() for name in names]


def _devices() -> str:
    return subprocess.run(["ip", "-o", "link"], capture_output=True, text=True, check=False).stdout


def test_examining_changes_nothing_here_and_misses_no_remedy() -> None:
    """Caller's namespaces, devices and sysctls stay; each thing missing has reason and remedy."""
    before = _namespaces(), _devices(), _sysctls()
    findings = doctor.examine()
    assert before == (_namespaces(), _devices(), _sysctls())
    assert len({finding.name for finding in findings}) == len(findings)
    assert all(finding.reason for finding in findings)
    assert all(finding.remedy for finding in findings if finding.state != "yes")
