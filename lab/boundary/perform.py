"""Do what an act says, in the namespaces of a stage."""

from __future__ import annotations

import os
import select
import socket
import time
from collections.abc import Callable
from typing import Any

from lab.boundary import acts, connections, devices, frames
from lab.boundary.nfqueue import PacketQueue
from lab.boundary.stage import Stage
from lab.errors import SandboxError

_SO_MARK, _BIND_TO_DEVICE = 36, 25


def perform(stage: Stage, act: acts.Act) -> None:
    """Do one act; what it opens is closed with the stage."""
    _ACTS[type(act)](stage, act)


def set_mark(sock: socket.socket, mark: int) -> None:
    """Set SO_MARK; packed, since Python's integer option is signed."""
    if mark:
        sock.setsockopt(socket.SOL_SOCKET, _SO_MARK, mark.to_bytes(4, "little"))


def _datagram(stage: Stage, act: acts.Datagram) -> None:
    family = socket.AF_INET6 if ":" in act.to else socket.AF_INET
    with stage.network.namespaces[act.node].inside(stage.network.home):
        sock = socket.socket(family, socket.SOCK_DGRAM)
        with sock:
            _prepare(sock, act)
            payload = acts.PAYLOAD + b"." * (act.size - len(acts.PAYLOAD))
            for _ in range(act.count):
                sock.sendto(payload, (act.to, act.port))
            stage.settle()


def _prepare(sock: socket.socket, act: acts.Datagram) -> None:
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    set_mark(sock, act.mark)
    if act.device:
        sock.setsockopt(socket.SOL_SOCKET, _BIND_TO_DEVICE, act.device.encode() + b"\0")
    if act.source or act.source_port:
        sock.bind((act.source, act.source_port))


def _answer(stage: Stage, act: acts.Answer) -> None:
    sender = stage.watched.senders.get((act.node, act.port))
    if sender is None:
        raise SandboxError(f"nothing arrived at {act.node} port {act.port} to answer")
    stage.watched.receivers[act.node, act.port].sendto(acts.PAYLOAD, sender)


def _queue(stage: Stage, act: acts.Queue) -> None:
    with stage.network.namespaces[act.node].inside(stage.network.home):
        queue = PacketQueue()
    stage.stack.callback(queue.close)
    stage.queues[act.node] = queue


def _release(stage: Stage, act: acts.Release) -> None:
    if not stage.queues[act.node].release(act.mark):
        raise SandboxError(f"no packet waits in the queue of {act.node}")


def _tunnel(stage: Stage, act: acts.Tunnel) -> None:
    with stage.network.namespaces[act.node].inside(stage.network.home):
        fd = devices.open_tunnel(act.name, act.kind)
    stage.stack.callback(os.close, fd)
    stage.tunnels[act.node] = fd


def _write_back(stage: Stage, act: acts.WriteBack) -> None:
    fd, written = stage.tunnels[act.node], 0
    while True:
        try:
            content = os.read(fd, 1 << 16)
        except BlockingIOError:
            break
        if acts.PAYLOAD in content:
            os.write(fd, frames.swapped(content))
            written += 1
    if not written:
        raise SandboxError(f"no packet came to the program behind {act.node}'s device")


def _control_group(stage: Stage, act: acts.ControlGroup) -> None:
    stage.stack.callback(os.close, devices.attach_to_group(act.where, act.mark))


def _run(stage: Stage, act: acts.Run) -> None:
    stage.run(act.commands)


def _wait(_: Stage, act: acts.Wait) -> None:
    deadline = time.monotonic() + act.seconds
    while (left := deadline - time.monotonic()) > 0:
        select.select((), (), (), left)


_ACTS: dict[type[acts.Act], Callable[[Stage, Any], None]] = {
    acts.Datagram: _datagram,
    acts.Answer: _answer,
    acts.Frame: frames.send,
    acts.Conversation: connections.converse,
    acts.ActiveFtp: connections.active_ftp,
    acts.Queue: _queue,
    acts.Release: _release,
    acts.Tunnel: _tunnel,
    acts.WriteBack: _write_back,
    acts.ControlGroup: _control_group,
    acts.Run: _run,
    acts.Wait: _wait,
}
