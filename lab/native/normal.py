"""One form for all texts of a rule, so that what is captured can be compared with what is known.

``-A X --jump MARK --set-mark 0/0xf0000`` and ``-A X -j MARK --set-xmark 0x0/0xf0000`` are one
rule: whoever wrote it, iptables-save lists it in its own way. Nothing is asked of the kernel
here; a test compares every entry's rules with the kernel's own listing [pure].
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator

from lab.marks import WORD, Mark
from lab.native.markwrite import writes as mark_writes

Part = tuple[str, ...]
"""An option with its values, as ``("! --mark", "0x1/0xff")``, or a statement of nft."""
Normal = tuple[Part, ...]
"""A rule without its chain: what two texts of one rule have in common."""

_NAMES = {
    "--jump": "-j",
    "--goto": "-g",
    "--source": "-s",
    "--src": "-s",
    "--destination": "-d",
    "--dst": "-d",
    "--in-interface": "-i",
    "--out-interface": "-o",
    "--protocol": "-p",
    "--proto": "-p",
    "--destination-port": "--dport",
    "--source-port": "--sport",
    "--destination-ports": "--dports",
    "--source-ports": "--sports",
    "--match": "-m",
    "--set": "--match-set",
    "--to-source": "--to",
    "--to-destination": "--to",
    "--to-port": "--to-ports",
}
_ALONE = ("socket", "rpfilter", "ah", "esp", "frag", "dst", "hbh", "rt", "eui64")
"""Matches that mean something without any option; others are told by their options."""
_PROTOCOLS = {
    "1": "icmp",
    "4": "ipencap",
    "ipv4": "ipencap",
    "6": "tcp",
    "17": "udp",
    "41": "ipv6",
    "47": "gre",
    "50": "esp",
    "51": "ah",
    "58": "icmp6",
    "icmpv6": "icmp6",
    "ipv6-icmp": "icmp6",
    "89": "ospf",
    "132": "sctp",
    "0": "",
    "all": "",
}
_NOTHING = (("",), ("0.0.0.0/0",), ("::/0",), ("0/0",))
"""Values that say nothing: any protocol, any address."""
_DEFAULTS = (
    ("--reject-with", "icmp-port-unreachable"),
    ("--reject-with", "icmp6-port-unreachable"),
    ("--nfmask", "0xffffffff"),
    ("--ctmask", "0xffffffff"),
    ("--on-ip", "0.0.0.0"),
    ("--on-ip", "::"),
)
_SYN = ("--tcp-flags", "FIN,SYN,RST,ACK", "SYN")
_LISTS = ("--ctstate", "--state", "--ctstatus", "--dports", "--sports", "--ports")
_MARKS = ("--mark", "--tproxy-mark")
_WRITES = ("--set-mark", "--set-xmark", "--and-mark", "--or-mark", "--xor-mark")
_WORD = re.compile(r'"[^"]*"|[\w./@*:+,-]+|[^\s\w]')
_COUNTER = re.compile(r"\bcounter(?: packets \d+ bytes \d+)?(?! name)")
_COMMENT = re.compile(r'\bcomment "[^"]*"')
_COMMA = re.compile(r"\s*,\s*")
_BRACES = re.compile(r"\{([^{}]*)\}")
_FIELD = re.compile(r"(?<![\w.-])(?<!meta )(?<!ct )(?<!socket )mark(?![\w.-])")
_EXPRESSION = re.compile(
    r"mark set (?:(?:(?:meta|ct) )?mark|[0-9a-fA-Fx]+)(?: (?:[&|^]|and|or|xor) "
    r"(?:(?:(?:meta|ct) )?mark|[0-9a-fA-Fx]+))*"
)
_SILENT = ("meta", "=", "addr", ";")
_WORDS = {
    "and": "&",
    "or": "|",
    "xor": "^",
    "icmpv6": "icmp6",
    "mld-listener-query": "0x82",
    "mld-listener-report": "0x83",
    "mld-listener-done": "0x84",
    "nd-router-solicit": "0x85",
    "nd-router-advert": "0x86",
    "nd-neighbor-solicit": "0x87",
    "nd-neighbor-advert": "0x88",
}
_RULE = re.compile(r"(?:-[AIRD]|--append|--insert|--replace|--delete) \S+ (?:\d+ )?(?P<spec>.*)")


def iptables(rule: str) -> Normal:
    """Return what a rule of restore or save text says, whatever chain it stands in.

    Raises ValueError where its quotes do not match.
    """
    found = _RULE.match(rule)
    options = _options(found["spec"] if found else rule)
    return tuple(sorted({part for option in options for part in _part(option)}))


def _options(spec: str) -> Iterator[list[str]]:
    """Divide a rule into options, a ``!`` at the beginning of the option that it inverts."""
    option: list[str] = []
    quoted = any(sign in spec for sign in "\"'\\")
    for word in shlex.split(spec) if quoted else spec.split():
        if option and option != ["!"] and (word == "!" or _begins(word)):
            yield option
            option = []
        option.append(word)
    if option:
        yield option


def _begins(word: str) -> bool:
    return word.startswith("-") and not word[1:2].isdigit()


def _part(option: list[str]) -> Iterator[Part]:
    sign = "! " if option[0] == "!" else ""
    name, *values = option[1:] if sign else option
    name = _NAMES.get(name, name)
    if name == "-m":
        if values[:1] and values[0] in _ALONE:
            yield ("-m", values[0])
    elif name == "--mask" and values:
        both = hex(int(values[0], 0))
        for each in ("--nfmask", "--ctmask"):
            if (each, both) not in _DEFAULTS:
                yield each, both
    elif name == "--syn":
        yield f"{sign}{_SYN[0]}", *_SYN[1:]
    elif name != "--comment":
        part = (f"{sign}{_target(name)}", *_values(name, values))
        if part not in _DEFAULTS and part[1:2] not in _NOTHING:
            yield part


def _target(name: str) -> str:
    return "--set-xmark" if name in _WRITES else name


def _values(name: str, values: list[str]) -> list[str]:
    if not values:
        return values
    if name == "-p":
        return [_PROTOCOLS.get(values[0].lower(), values[0].lower())]
    if name in ("-s", "-d"):
        return [_address(values[0])]
    if name == "--mac-source":
        return [values[0].lower()]
    if name in _LISTS:
        return [",".join(sorted(values[0].split(",")))]
    try:
        return _words(name, values)
    except ValueError:
        return values  # not a mark after all


def _words(name: str, values: list[str]) -> list[str]:
    if name in _MARKS:
        return [str(Mark.parse(values[0]))]
    if name in ("--nfmask", "--ctmask", "--espspi", "--ahspi"):
        return [hex(int(values[0], 0))]
    return [_write(name, values[0])] if name in _WRITES else values


def _write(name: str, text: str) -> str:
    """Write what any of iptables' five ways does as ``value/mask`` of --set-xmark."""
    value, slash, mask = text.partition("/")
    word = int(value, 0)
    if name == "--and-mark":
        return f"{0:#x}/{WORD & ~word:#x}"
    if name == "--or-mark":
        return f"{word:#x}/{word:#x}"
    if name == "--xor-mark":
        return f"{word:#x}/{0:#x}"
    whole = int(mask, 0) if slash else WORD
    return f"{word:#x}/{whole | (word if name == '--set-mark' else 0):#x}"


def _address(text: str) -> str:
    return re.sub(r"/(?:32|128|255\.255\.255\.255)$", "", text)


def nft(rule: str) -> Normal:
    """Return what a rule of nft text says, whichever of nft's ways of writing it was taken."""
    text = _COMMENT.sub("", _COUNTER.sub("", rule)).replace("addr . port to", "to")
    text = _FIELD.sub("meta mark", text)
    writes = [(w.field, w.kept, w.copies, w.xor) for w in mark_writes(text) if not w.opaque]
    if writes:
        text = _EXPRESSION.sub("mark set ", text)
    text = _BRACES.sub(lambda found: _elements(found[1]), text)
    words = [_plain(word) for word in _WORD.findall(_COMMA.sub(",", text))]
    found = [(word,) for word in _told(words) if word not in _SILENT]
    return (*found, *((field, *map(hex, numbers)) for field, *numbers in writes))


def _elements(text: str) -> str:
    parts = sorted(part.strip() for part in text.split(",") if part.strip())
    return parts[0] if len(parts) == 1 and ":" not in parts[0] else "{" + ",".join(parts) + "}"


def _plain(word: str) -> str:
    bare = word.strip('"')
    if re.fullmatch(r"0[xX][0-9a-fA-F]+|0|[1-9]\d*", bare):
        return hex(int(bare, 0))
    return _WORDS.get(bare, ",".join(sorted(bare.split(","))))


def _told(words: list[str]) -> Iterator[str]:
    """Leave out a protocol that the next word names as well; nft does not list it."""
    skip = False
    nexts = [*words[1:], ""], [*words[2:], "", ""]
    for word, following, after in zip(words, *nexts, strict=False):
        if skip:
            skip = False
        elif (word == "l4proto" and _protocol(following) == after) or (
            word == "nfproto" and after in ("ip", "ip6")
        ):
            skip = True
        elif word == "l4proto":
            yield word
            skip = True
            yield _protocol(following)
        else:
            yield word


def _protocol(word: str) -> str:
    number = str(int(word, 16)) if word.startswith("0x") else word
    return _PROTOCOLS.get(number, word)
