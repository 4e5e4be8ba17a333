"""The small Python programs that reproducing scripts hold; Python's own library is enough [pure].

Each is put behind assignments of the names that it takes; see :func:`program`.
"""

from __future__ import annotations

RECEIVER = """
# Answers each packet from the address that it was sent to; tells what came when it is ended.
import signal, socket, sys

def answer_from(level, kind, value):  # whatever the device
    return level, kind, value[:16] + bytes(4) if v6 else bytes(4) + value[4:]

v6 = family == "AF_INET6"
signal.signal(signal.SIGTERM, lambda *_: sys.exit())
sock = socket.socket(getattr(socket, family), getattr(socket, kind))
sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
sock.setsockopt(*(socket.IPPROTO_IPV6, 49, 1) if v6 else (socket.IPPROTO_IP, 8, 1))
if transparent:
    sock.setsockopt(*(socket.IPPROTO_IPV6, 75, 1) if v6 else (socket.IPPROTO_IP, 19, 1))
sock.bind(("", port))
if kind == "SOCK_STREAM":
    sock.listen()
seen, arrived = "nobody", 0
try:
    open("/run/ready", "w").close()
    if kind == "SOCK_STREAM":
        sock, address = sock.accept()
        seen = address[0]
    while True:
        payload, control, _, address = sock.recvmsg(100, 100)
        if not payload:
            break
        seen, arrived = (address or (seen,))[0], arrived + 1
        answer = payload[:4] + bytes([1]) + payload[5:]
        try:
            if address:
                sock.sendmsg([answer], [answer_from(*c) for c in control], 0, address)
            else:
                sock.send(answer)
        except OSError:
            pass  # not answered, as the sender tells
    signal.pause()
finally:
    print(f"{arrived} of {count} arrived from {seen}", end="")
"""

SENDER = """
# Sends one packet after another and waits a second for each answer.
import os, socket, struct

v6 = family == "AF_INET6"
if uid:
    os.seteuid(uid)
sock = socket.socket(getattr(socket, family), getattr(socket, kind))
os.seteuid(0)
sock.settimeout(1)
if transparent:
    sock.setsockopt(*(socket.IPPROTO_IPV6, 75, 1) if v6 else (socket.IPPROTO_IP, 19, 1))
if mark:
    sock.setsockopt(socket.SOL_SOCKET, 36, struct.pack("I", mark))
sock.bind((source, 20001))
answered = 0
try:
    if kind == "SOCK_STREAM":
        sock.connect((to, port))
    for number in range(count):
        packet = struct.pack("!HHBB6x", magic, 1, 0, number)
        if kind == "SOCK_STREAM":
            sock.send(packet)
        else:  # not connected: a proxy may answer from another port
            sock.sendto(packet, (to, port))
        try:
            answered += len(sock.recv(100)) > 0
        except TimeoutError:
            pass
    print(f"{answered} of {count} answered", end="")
except OSError as problem:
    print(f"{answered} of {count} answered: {problem.strerror or problem}", end="")
"""

ATTACH = """
# Loads an eBPF program, given in hexadecimal, and attaches it as tc's 'bpf direct-action' does.
import ctypes, errno, os, socket, struct, sys

device, hook, target = sys.argv[1:]
code = bytes.fromhex(sys.stdin.read())
if target:  # redirected to: only now its number is known
    index = struct.pack("<i", socket.if_nametoindex(target))
    code = code.replace(redirect, redirect[:4] + index)
libc = ctypes.CDLL(None, use_errno=True)
numbers = {"x86_64": 321, "i686": 357, "armv7l": 386, "ppc64le": 361}
kept = ctypes.create_string_buffer(code, len(code)), ctypes.create_string_buffer(b"GPL")
wanted = struct.pack("=IIQQ88x", 3, len(code) // 8, *map(ctypes.addressof, kept))
fd = libc.syscall(numbers.get(os.uname().machine, 280), 5, ctypes.c_char_p(wanted), len(wanted))
if fd < 0:
    sys.exit(f"eBPF programs are refused here: {os.strerror(ctypes.get_errno())}")

def attribute(kind, value):
    return struct.pack("=HH", 4 + len(value), kind) + value + bytes(-len(value) % 4)

def request(kind, handle, parent, what, body):
    index = socket.if_nametoindex(device)
    body = struct.pack("=BxHiIII", 0, 0, index, handle, parent, what) + body
    netlink = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE)
    netlink.send(struct.pack("=IHHII", 16 + len(body), kind, 0x605, 1, 0) + body)
    error = -struct.unpack_from("=i", netlink.recv(4096), 16)[0]
    if error not in (0, errno.EEXIST):
        sys.exit(f"{device}: {os.strerror(error)}")
    return not error

parent = {"ingress": 0xFFFFFFF2, "egress": 0xFFFFFFF3}[hook]
options = attribute(6, struct.pack("=I", fd)) + attribute(7, b"reproduced\\0")
options += attribute(8, struct.pack("=I", 1))
request(36, 0xFFFF0000, 0xFFFFFFF1, 0, attribute(1, b"clsact\\0"))
body = attribute(1, b"bpf\\0") + attribute(2, options)
priority = 1  # those attached earlier run earlier
while not request(44, 0, parent, priority << 16 | socket.htons(3), body):
    priority += 1
"""


def program(text: str, **values: object) -> str:
    """Put assignments before a program; every value is written as Python writes it."""
    given = "".join(f"{name} = {value!r}\n" for name, value in values.items())
    return f"{given}{text.lstrip()}"
