"""Run a real program in a namespace of its own making, and read back the rules that it installs.

The functions below run in a worker's sandbox: on the node of a topology that nobody else uses. The
namespaces, and whatever the program left in them, are gone when they return.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

from lab.errors import UnsupportedError
from lab.fidelity.programs import Job, Listing
from lab.kernel import command
from lab.kernel.features import dormant
from lab.kernel.sandbox import Sandbox
from lab.kernel.sysctl import write_sysctl
from lab.scenario import Variant
from lab.topology import library
from lab.topology.build import Network, build

_CNI = ("/usr/lib/cni", "/opt/cni/bin", "/usr/libexec/cni")
_PODMAN = ("/usr/lib/podman", "/usr/libexec/podman", "/usr/bin")
_XTABLES = ("iptables", "ip6tables")
_EVERYWHERE = "/usr/sbin:/sbin:/usr/bin:/bin"
# All that wg-quick(8) calls, but for nft.
_WITHOUT_NFT = (
    *("bash", "wg", "wg-quick", "wireguard-go", "ip", "sysctl", "sort", "cat", "rm", "mkdir"),
    *("stat", "readlink", "id", "uname", "grep", "sed", "mktemp"),
)


def install(sandbox: Sandbox, job: Job) -> Listing:
    """Run one program on a fresh node and list what it installed.

    Raises UnsupportedError, with the reason, where the program is missing or refuses to run here.
    """
    network = build(library.find("kubernetes-node", job.pod_prefix), job.family, sandbox.home)
    try:
        with (
            network.namespaces["node"].inside(sandbox.home),
            tempfile.TemporaryDirectory(prefix="fwmark-lab-") as folder,
        ):
            network.namespaces["node"].assert_inside()
            with _PROGRAMS[job.program](job, network, Path(folder)):
                return _listing(job)
    finally:
        network.close()


def _listing(job: Job) -> Listing:
    prefix = "iptables" if job.family == "ipv4" else "ip6tables"
    keyword, flag = ("ip", "-4") if job.family == "ipv4" else ("ip6", "-6")
    localnet = Path("/proc/sys/net/ipv4/conf").glob("*/route_localnet")
    return Listing(
        iptables=_run((f"{prefix}-{job.variant}-save",)),
        nft=_run(("nft", "--stateless", "list", "ruleset", keyword)),
        policy=_run(("ip", flag, "rule")),
        route_localnet=tuple(sorted(p.parent.name for p in localnet if p.read_text() == "1\n")),
    )


def _run(arguments: tuple[str, ...], text: str = "") -> str:
    result = command.run(arguments, text)
    if result.status:
        said = (result.error or result.output).strip().splitlines() or ["nothing"]
        raise UnsupportedError(f"{Path(arguments[-1]).name} does not run here: it said {said[-1]}")
    return result.output


def _path(variant: Variant, folder: Path, only: tuple[str, ...] = ()) -> str:
    """Return a search path with one iptables variant, and ``only`` these other programs."""
    found = folder / "bin"
    found.mkdir()
    for tool in (f"{name}{end}" for name in _XTABLES for end in ("", "-save", "-restore")):
        family, _, end = tool.partition("-")
        real = command.find(f"{family}-{variant}{'-' + end if end else ''}")
        (found / tool).symlink_to(Path(real).resolve())
    for name in only:
        if program := shutil.which(name, path=_EVERYWHERE):
            (found / name).symlink_to(program)
    return str(found) if only else f"{found}:{_EVERYWHERE}"


def _refuse_to_load(module: str) -> None:
    """Leave the machine's modules as they are: the program would have the kernel load this one."""
    if dormant((module,)):
        raise UnsupportedError(f"the kernel module {module!r} is not loaded; modprobe {module}")


def _find(places: tuple[str, ...], name: str, package: str) -> str:
    for place in places:
        if (Path(place) / name).exists():
            return str(Path(place) / name)
    raise UnsupportedError(f"{name} is not installed; install the package {package!r}")


@contextmanager
def _portmap(job: Job, network: Network, folder: Path) -> Iterator[None]:
    """Publish port 80 of pod-a as port 8080; names as in the registry's entry."""
    facts = network.topology.facts_for(job.family)
    six = job.family == "ipv6"
    address = {
        "version": "6" if six else "4",
        "interface": 1,
        "address": f"{facts['pod-a.ip']}/{64 if six else 24}",
    }
    mapping = {"hostPort": 8080, "containerPort": 80, "protocol": "tcp"}
    configuration = {
        "cniVersion": "0.4.0",
        "name": "labnet",
        "type": "portmap",
        "capabilities": {"portMappings": True},
        "runtimeConfig": {"portMappings": [mapping]},
        "prevResult": {
            "cniVersion": "0.4.0",
            "interfaces": [
                {"name": facts["pod-a.dev"]},
                {"name": "eth0", "sandbox": _path_of(network, "pod-a")},
            ],
            "ips": [address],
        },
    }
    program = _find(_CNI, "portmap", "containernetworking-plugins")
    variables = (
        f"PATH={_path(job.variant, folder)}",
        "CNI_COMMAND=ADD",
        "CNI_CONTAINERID=c0ffee",
        f"CNI_NETNS={_path_of(network, 'pod-a')}",
        "CNI_IFNAME=eth0",
        f"CNI_PATH={Path(program).parent}",
    )
    _run(("env", *variables, program), json.dumps(configuration))
    yield


@contextmanager
def _netavark(job: Job, network: Network, folder: Path) -> Iterator[None]:
    """Put pod-a on a bridge network of its own and publish its port 80 as port 8089."""
    facts = network.topology.facts_for(job.family)
    gateway = facts["pod-a.ip"].rpartition("11")[0] + "1"
    network_id = "2f259bab93aaaaa2542ba43ef33eb990d0999ee1b9924b557b7be53c0b7a1bb9"
    configuration = {
        "container_id": "c0ffee",
        "container_name": "web",
        "networks": {"podman": {"static_ips": [facts["pod-a.ip"]], "interface_name": "net0"}},
        "network_info": {
            "podman": {
                "name": "podman",
                "id": network_id,
                "driver": "bridge",
                "network_interface": "podman0",
                "subnets": [{"subnet": facts["pods.net"], "gateway": gateway}],
                "ipv6_enabled": job.family == "ipv6",
                "internal": False,
                "dns_enabled": False,
                "ipam_options": {"driver": "host-local"},
            }
        },
        "port_mappings": [
            {
                "host_ip": "",
                "container_port": 80,
                "host_port": 8089,
                "range": 1,
                "protocol": "tcp",
            }
        ],
    }
    _refuse_to_load("bridge")
    program = _find(_PODMAN, "netavark", "netavark")
    path = f"PATH={_path(job.variant, folder)}"
    pod = _path_of(network, "pod-a")
    arguments = ("env", path, program, "--config", str(folder), "setup", pod)
    _run(arguments, json.dumps(configuration))
    yield


def _path_of(network: Network, node: str) -> str:
    return f"/proc/{os.getpid()}/fd/{network.namespaces[node].fd}"


@contextmanager
def _wg_quick(job: Job, network: Network, folder: Path) -> Iterator[None]:
    """Bring up a tunnel that takes the default route; ``wg-quick`` then marks and routes."""
    yield from _tunnel(job, network, folder, ())


@contextmanager
def _wg_quick_iptables(job: Job, network: Network, folder: Path) -> Iterator[None]:
    """Do the same where nft is not installed: ``wg-quick`` then uses iptables."""
    yield from _tunnel(job, network, folder, _WITHOUT_NFT)


def _tunnel(job: Job, network: Network, folder: Path, only: tuple[str, ...]) -> Iterator[None]:
    _refuse_to_load("wireguard")
    facts = network.topology.facts_for(job.family)
    program = command.find("wg-quick")
    own, theirs = (_run(("wg", "genkey")).strip() for _ in range(2))
    public = _run(("wg", "pubkey"), theirs).strip()
    device = facts["peer.dev"]
    _run(("ip", "link", "delete", device))
    # The kernel's own WireGuard device makes no link-local address; the TUN device of the
    # implementation in user space would, and wg-quick would guard it.
    write_sysctl("net.ipv6.conf.default.addr_gen_mode", "1")
    six = job.family == "ipv6"
    file = folder / f"{device}.conf"
    file.touch(mode=0o600)
    endpoint = f"[{facts['relay.ip']}]" if six else facts["relay.ip"]
    file.write_text(
        f"[Interface]\nPrivateKey = {own}\n"
        f"Address = {facts['node.tailnet-ip']}/{128 if six else 32}\n"
        f"[Peer]\nPublicKey = {public}\nEndpoint = {endpoint}:51820\n"
        f"AllowedIPs = {facts['any']}\n"
    )
    path = f"PATH={_path(job.variant, folder, only)}"
    _run(("env", path, program, "up", str(file)))
    try:
        yield
    finally:
        command.run(("env", path, program, "down", str(file)))


_PROGRAMS: dict[str, Callable[[Job, Network, Path], AbstractContextManager[None]]] = {
    "portmap": _portmap,
    "netavark": _netavark,
    "wg-quick": _wg_quick,
    "wg-quick without nft": _wg_quick_iptables,
}
