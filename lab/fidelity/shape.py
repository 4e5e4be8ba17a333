"""What two listings of one rule have in common when only the surroundings differ [pure].

Upstream's own tests use addresses and devices of their own making. Both sides are listed by the
kernel first, so what is left to normalise is little: comments, counters, addresses, devices.
"""

from __future__ import annotations

import re
import shlex

_MARKS = re.compile(r"mark", re.IGNORECASE)
_PLACES = {"-s": "ADDRESS", "-d": "ADDRESS", "-i": "DEVICE", "-o": "DEVICE"}
_PORTS = {"--dport", "--sport", "--dports", "--sports"}
_NFT_PORT = re.compile(r"\b([sd]port(?: !=)?) \d+")
_TARGETS = {"--to-source", "--to-destination", "--on-ip", "--src-range", "--dst-range"}
_NFT_COMMENT = re.compile(r' comment "[^"]*"')
_NFT_COUNTER = re.compile(r"\bcounter(?: packets \d+ bytes \d+)? ?")
_NFT_DEVICE = re.compile(r'\b([io]if(?:name)?(?: !=)?) (?:"[^"]*"|[\w*+.-]+)')
_NFT_ADDRESS = re.compile(
    r"(?<![\w@/])(?:\d+\.\d+\.\d+\.\d+|(?=[0-9a-f]*:)[0-9a-f:]+:[0-9a-f:]*)(?:/\d+)?(?![\w.])"
)


def concerns_marks(rule: str) -> bool:
    """Tell whether a rule names a mark, or a chain that is named after one."""
    plain = without_comment(rule)
    return bool(_MARKS.search(plain.split(" ", 2)[-1] if plain.startswith("-A ") else plain))


def without_comment(rule: str) -> str:
    """Drop the comment, which changes nothing for a packet; works on both tools' listings."""
    if not rule.startswith("-A "):
        return _NFT_COMMENT.sub("", rule)
    words = shlex.split(rule)
    kept: list[str] = []
    skip = 0
    for word, following in zip(words, [*words[1:], ""], strict=True):
        if not skip and word == "-m" and following == "comment":
            skip = 4
        if skip:
            skip -= 1
        else:
            kept.append(word)
    return " ".join(kept)


def shape(rule: str) -> str:
    """Reduce a listed rule to what it does: no chain, comment, address, device or port."""
    plain = without_comment(rule)
    return _iptables(plain.split(" ")[2:]) if plain.startswith("-A ") else _nft(plain)


def _iptables(words: list[str]) -> str:
    found: list[str] = []
    previous = ""
    for word in words:
        if previous in _PLACES:
            found.append(_PLACES[previous])
        elif previous in _TARGETS:
            found.append("ADDRESS")
        elif previous in _PORTS:
            found.append("PORT")
        elif previous == "--match-set":
            found.append("SET")
        else:
            found.append(word)
        previous = word
    return " ".join(found)


def _nft(rule: str) -> str:
    text = _NFT_COUNTER.sub("", rule)
    text = _NFT_DEVICE.sub(r"\1 DEVICE", text)
    text = _NFT_PORT.sub(r"\1 PORT", text)
    return " ".join(_NFT_ADDRESS.sub("ADDRESS", text).split())
