"""Run flows: scapy packets from outside, real sockets where traffic starts locally.

A packet that has not arrived when all have come to their end, see ``settle``, was dropped.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Container, Iterable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from typing import Protocol

from lab.kernel.netns import Netns
from lab.topology.hops import first_hop
from lab.topology.plan import Topology
from lab.traffic import packets, wire
from lab.traffic.flow import Direction, Family, Flow
from lab.traffic.sockets import (
    answer_with_data,
    as_user,
    drop,
    make_transparent,
    report_destination,
    silent_at_last,
)

_SO_MARK = 36
_CHUNK = 65536
_FIRST_PORT = 20000


class Place(Protocol):
    """Where flows run: the namespaces and the way home."""

    topology: Topology
    home: Netns
    namespaces: dict[str, Netns]
    family: Family


@dataclass(frozen=True, slots=True)
class Call:
    """A flow with its addresses filled in, and the number that its packets carry.

    ``seen_from`` is the source address its owner relies on, empty where it relies on none.
    """

    owner: str
    flow: Flow
    number: int
    source: str
    destination: str
    seen_from: str = ""

    @property
    def port(self) -> int:
        """Return the client's source port, unique within an experiment."""
        return _FIRST_PORT + self.number

    def most_packets(self) -> int:
        """Return more than it sends, both ways: a connection is opened, acknowledged and closed."""
        return 4 * self.flow.count + 20


@dataclass(slots=True)
class Outcome:
    """What the sockets saw: arrivals and answers, counted in packets (UDP) or exchanges (TCP)."""

    sent: int = 0
    arrived: int = 0
    answered: int = 0
    seen_from: str = ""
    error: str = ""


Listeners = dict[tuple[str, str, int], socket.socket]


class Switchboard:
    """The listening sockets of one network, and the way to run one flow after another."""

    def __init__(
        self,
        place: Place,
        settle: Callable[[], None],
        ruled: Container[str] = (),
        *,
        one_by_one: bool = False,
    ) -> None:
        """``ruled`` names the nodes with rules of their own, which what they send must pass.

        With ``one_by_one`` each packet has come to its end before the next is sent; else those that
        are waited for have, and all when a flow is over. ``sent`` is the tag of the datagram sent
        last, empty while a flow speaks TCP.
        """
        self.sent = b""
        self._place = place
        self._settle = settle
        self._ruled = ruled
        self._one_by_one = one_by_one
        self._listeners: Listeners = {}
        self._stack = ExitStack()
        self._family = socket.AF_INET6 if place.family == "ipv6" else socket.AF_INET

    def listen(self, calls: Iterable[Call]) -> None:
        """Open the sockets that answer; one per node, protocol and port.

        It is transparent if any flow that it answers is.
        """
        transparent: dict[tuple[str, str, int], bool] = {}
        for flow in (call.flow for call in calls):
            if flow.listener:
                key = (flow.listener, str(flow.protocol), flow.answer_port or flow.port)
                transparent[key] = transparent.get(key, False) or flow.transparent
        for key, is_transparent in transparent.items():
            with self._inside(key[0]):
                self._listeners[key] = self._listener(key[1], key[2], is_transparent)

    def run(self, call: Call) -> Outcome:
        """Run one flow to its end."""
        self.sent = b""
        if call.flow.protocol == "tcp":
            return self._tcp(call)
        return self._udp(call)

    def close(self) -> None:
        """Close all sockets."""
        self._stack.close()

    def _inside(self, node: str) -> AbstractContextManager[None]:
        return self._place.namespaces[node].inside(self._place.home)

    def _listener(self, protocol: str, port: int, transparent: bool) -> socket.socket:
        kind = socket.SOCK_STREAM if protocol == "tcp" else socket.SOCK_DGRAM
        sock = self._stack.enter_context(socket.socket(self._family, kind))
        sock.setblocking(False)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if protocol == "udp":
            report_destination(sock, self._family)
        if transparent:
            make_transparent(sock, self._family)
        sock.bind(("", port))
        if protocol == "tcp":
            sock.listen(16)
        return sock

    def _answering(self, call: Call) -> socket.socket | None:
        flow = call.flow
        return self._listeners.get((flow.listener, flow.protocol, flow.answer_port or flow.port))

    @contextmanager
    def _client(self, call: Call, kind: int) -> Iterator[socket.socket]:
        with self._inside(call.flow.sender), as_user(call.flow.uid):
            sock = socket.socket(self._family, kind)
        with sock:
            sock.setblocking(False)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if call.flow.transparent:
                make_transparent(sock, self._family)
            if call.flow.socket_mark:
                mark = call.flow.socket_mark.to_bytes(4, "little")
                sock.setsockopt(socket.SOL_SOCKET, _SO_MARK, mark)
            by_kernel = call.flow.sender == "node" and not call.flow.source_address
            sock.bind(("" if by_kernel else call.source, call.port))
            yield sock

    def _udp(self, call: Call) -> Outcome:
        outcome = Outcome()
        with ExitStack() as stack:
            client = stack.enter_context(self._client(call, socket.SOCK_DGRAM))
            send = self._way_out(call, client, stack)
            for ordinal in range(call.flow.count):
                outcome.sent += 1
                self.sent = packets.tag(call.number, "request", ordinal)
                try:
                    send(self.sent)
                except OSError as problem:
                    outcome.error = f"sendto: {problem.strerror}"
                self._wait_for(lambda: self._answer_udp(call, outcome))
                self._wait_for(lambda: _take_replies(client, call, outcome))
            self._settle()  # for what came twice
            if self._answer_udp(call, outcome):
                self._settle()
            _take_replies(client, call, outcome)
        return outcome

    def _wait_for(self, take: Callable[[], bool]) -> None:
        """Take what was sent; it has come already unless the kernel put the work off."""
        if self._one_by_one or not take():
            self._settle()
            take()

    def _way_out(
        self, call: Call, client: socket.socket, stack: ExitStack
    ) -> Callable[[bytes], object]:
        """Choose how a flow's packets set out: from a socket, or as scapy builds them.

        Those enter as frames, unless the sender has rules of its own that must see them.
        """
        if call.flow.by_socket:
            return lambda tag: client.sendto(tag, (call.destination, call.flow.port))
        build = partial(packets.udp, call.source, call.destination, call.port, call.flow.port)
        node = call.flow.sender
        hop = None if node in self._ruled else first_hop(*self._where(call))
        if hop is not None:
            there, home = self._place.namespaces[node], self._place.home
            return lambda tag: wire.send(there, home, hop.device, packets.frame(hop, build(tag)))
        with self._inside(node):
            raw = stack.enter_context(
                socket.socket(self._family, socket.SOCK_RAW, socket.IPPROTO_RAW)
            )
        return lambda tag: raw.sendto(build(tag), (call.destination, 0))

    def _where(self, call: Call) -> tuple[Topology, str, str]:
        return self._place.topology, call.flow.sender, call.destination

    def _answer_udp(self, call: Call, outcome: Outcome) -> bool:
        """Answer what has come; tell whether anything has."""
        listener = self._answering(call)
        if listener is None:
            return False
        before = outcome.arrived
        with suppress(BlockingIOError):
            while True:
                payload, control, _, sender = listener.recvmsg(_CHUNK, 512)
                found = packets.read_tag(payload)
                if not found or found[0] != call.number:
                    continue
                outcome.arrived += 1
                outcome.seen_from = sender[0]
                answer = self.sent = packets.tag(call.number, "reply", found[2])
                _reply(listener, answer, control, sender, outcome)
        return outcome.arrived > before

    def _tcp(self, call: Call) -> Outcome:
        outcome = Outcome(sent=call.flow.count)
        with self._client(call, socket.SOCK_STREAM) as client, silent_at_last(client):
            outcome.error = _connect(client, call)
            server = None if self._one_by_one else self._accept(call, outcome)
            if server is None:
                self._settle()
                server = self._accept(call, outcome)
            if server is not None:
                with silent_at_last(server):
                    self._exchange(call, client, server, outcome)
        self._settle()
        self._hang_up()
        return outcome

    def _hang_up(self) -> None:
        """Drop connections that rules led to another flow's listener."""
        for (_, protocol, _), listener in self._listeners.items():
            if protocol == "tcp":
                _drop_waiting(listener)

    def _accept(self, call: Call, outcome: Outcome) -> socket.socket | None:
        listener = self._answering(call)
        if listener is None:
            return None
        try:
            server, address = listener.accept()
        except BlockingIOError:
            return None
        server.setblocking(False)
        outcome.seen_from = address[0]
        return server

    def _exchange(
        self, call: Call, client: socket.socket, server: socket.socket, outcome: Outcome
    ) -> None:
        """Pass requests and replies on; either side closes with the last that it sends."""
        answer_with_data(client)
        answer_with_data(server)
        for ordinal in range(call.flow.count):
            last = ordinal + 1 == call.flow.count
            request, reply = (
                packets.tag(call.number, way, ordinal) for way in ("request", "reply")
            )
            if not self._pass_on(client, server, request, last=last):
                break
            outcome.arrived += 1
            if not self._pass_on(server, client, reply, last=last):
                break
            outcome.answered += 1

    def _pass_on(
        self, sender: socket.socket, receiver: socket.socket, payload: bytes, *, last: bool
    ) -> bool:
        try:
            sender.send(payload, socket.MSG_MORE if last else 0)
            if last:
                sender.shutdown(socket.SHUT_WR)  # the FIN goes with what waits for more
            if self._one_by_one or not _has(receiver):
                self._settle()
            return receiver.recv(_CHUNK) == payload
        except OSError:
            return False


def _has(sock: socket.socket) -> bool:
    """Tell whether anything can be read."""
    try:
        sock.recv(1, socket.MSG_PEEK)
    except OSError:
        return False
    return True


def _drop_waiting(listener: socket.socket) -> None:
    """Accept and close what waits at a listener."""
    while True:
        try:
            waiting, _ = listener.accept()
        except BlockingIOError:
            return
        drop(waiting)


def _connect(client: socket.socket, call: Call) -> str:
    """Start connecting; return what went wrong at once, if anything."""
    try:
        client.connect((call.destination, call.flow.port))
    except BlockingIOError:
        return ""
    except OSError as problem:
        return f"connect: {problem.strerror}"
    return ""


def _take_replies(client: socket.socket, call: Call, outcome: Outcome) -> bool:
    """Count the answers that have come; tell whether any has."""
    found = _received(client, call.number, "reply")
    outcome.answered += found
    return found > 0


def _received(sock: socket.socket, number: int, direction: Direction) -> int:
    count = 0
    while True:
        try:
            found = packets.read_tag(sock.recv(_CHUNK))
        except BlockingIOError:
            return count
        except ConnectionError:  # an ICMP error came back instead
            continue
        count += found is not None and found[:2] == (number, direction)


def _reply(
    listener: socket.socket,
    answer: bytes,
    control: list[tuple[int, int, bytes]],
    sender: tuple[str, int],
    outcome: Outcome,
) -> None:
    try:
        listener.sendmsg([answer], [_from_address(*item) for item in control], 0, sender)
    except OSError as problem:
        outcome.error = f"the answer to {sender[0]} could not be sent: {problem.strerror}"


def _from_address(level: int, kind: int, value: bytes) -> tuple[int, int, bytes]:
    # The interface index would force the answer out of the device the packet came in by.
    if level == socket.IPPROTO_IPV6:
        return level, kind, value[:16] + bytes(4)
    return level, kind, bytes(4) + value[4:]
