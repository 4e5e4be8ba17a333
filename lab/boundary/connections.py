"""TCP: a connection step by step, and an FTP server's data connection."""

from __future__ import annotations

import socket
import struct
import time
from contextlib import suppress

from lab.boundary.acts import PAYLOAD, ActiveFtp, Conversation
from lab.boundary.stage import SLOWNESS, Stage
from lab.errors import SandboxError

_SO_MARK, _IP_TRANSPARENT = 36, 19
_PATIENCE = 3.0 * SLOWNESS


def converse(stage: Stage, act: Conversation) -> None:
    """Connect, send, answer, close; note the accepted socket's mark as ``SERVER accepted``.

    What does not arrive is not waited for: the row says where it should have been seen.
    """
    listener = _listener(stage, act)
    client = _open(stage, act.node, act.to)
    _mark(client, act.mark)
    with suppress(BlockingIOError):
        client.connect((act.to, act.port))
    stage.settle()
    server = _accept(stage, listener)
    if server is None:
        return
    mark = struct.unpack("=I", server.getsockopt(socket.SOL_SOCKET, _SO_MARK, 4))[0]
    stage.watched.noted.setdefault(f"{act.server} accepted", []).append(mark)
    _mark(client, act.remark)
    _carry(stage, client, server, (PAYLOAD * (act.size // len(PAYLOAD) + 1))[: act.size])
    with suppress(OSError):
        server.send(PAYLOAD)
        stage.settle()
    for sock in (client, server):
        sock.close()
        stage.settle()


def _listener(stage: Stage, act: Conversation) -> socket.socket:
    listener = _open(stage, act.server, act.to)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    _mark(listener, act.listener_mark)
    if act.transparent:
        listener.setsockopt(socket.IPPROTO_IP, _IP_TRANSPARENT, 1)
    listener.bind(("", act.listen_port or act.port))
    listener.listen(4)
    return listener


def _open(stage: Stage, node: str, to: str) -> socket.socket:
    family = socket.AF_INET6 if ":" in to else socket.AF_INET
    with stage.network.namespaces[node].inside(stage.network.home):
        sock = socket.socket(family, socket.SOCK_STREAM)
    sock.setblocking(False)
    return stage.stack.enter_context(sock)


def _mark(sock: socket.socket, mark: int) -> None:
    if mark:
        sock.setsockopt(socket.SOL_SOCKET, _SO_MARK, mark.to_bytes(4, "little"))


def _accept(stage: Stage, listener: socket.socket) -> socket.socket | None:
    stage.settle()
    try:
        server, _ = listener.accept()
    except BlockingIOError:
        return None
    server.setblocking(False)
    return stage.stack.enter_context(server)


def _carry(stage: Stage, client: socket.socket, server: socket.socket, content: bytes) -> None:
    """Pass bytes on as long as they get through."""
    deadline, left, got = time.monotonic() + _PATIENCE, content, 0
    while got < len(content) and time.monotonic() < deadline:
        with suppress(BlockingIOError):
            left = left[client.send(left) :] if left else left
        stage.settle()
        try:
            got += len(server.recv(1 << 20))
        except BlockingIOError:
            if not left:
                return


def active_ftp(stage: Stage, act: ActiveFtp) -> None:
    """Greet, log in, announce a port, and have the server connect to it from port 20."""
    control = Conversation(act.node, act.server_address, act.server, port=21)
    listener, client = _listener(stage, control), _open(stage, act.node, act.server_address)
    with suppress(BlockingIOError):
        client.connect((act.server_address, 21))
    server = _accept(stage, listener)
    if server is None:
        raise SandboxError("the FTP control connection was not established")
    high, low = divmod(act.data_port, 256)
    port = f"PORT {act.client_address.replace('.', ',')},{high},{low}\r\n"
    # The tracker's parser ignores the first line of each direction.
    for sock, line in ((server, "220 ready\r\n"), (client, "USER lab\r\n"), (client, port)):
        sock.send(line.encode())
        stage.settle()
    waiting = _open(stage, act.node, act.server_address)
    waiting.bind((act.client_address, act.data_port))
    waiting.listen(1)
    data = _open(stage, act.server, act.client_address)
    data.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    data.bind((act.server_address, 20))
    with suppress(BlockingIOError):
        data.connect((act.client_address, act.data_port))
    stage.settle()
