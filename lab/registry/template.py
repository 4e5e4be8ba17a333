"""The entry that ``fwmark-lab new`` writes to start from."""

from __future__ import annotations

import re
from pathlib import Path

from lab.errors import UsageError

_TEMPLATE = Path(__file__).with_name("template.toml")
_NAME = re.compile(r"[a-z][a-z0-9]*(?:-[a-z0-9]+)*")


def new_entry(name: str) -> str:
    """Return the template for a software of that name. Raises UsageError for a bad name."""
    if not _NAME.fullmatch(name) or len(name) > _LONGEST:
        raise UsageError(
            f"{name!r} is no name for an entry; expected lower case letters, digits and hyphens, "
            f"at most {_LONGEST}, such as my-firewall"
        )
    return _TEMPLATE.read_text(encoding="utf-8").replace("NAME", name)


_LONGEST = 24
"""The template names a chain after it, and a chain's name has at most 28 characters."""


def write_new(name: str, folder: Path) -> Path:
    """Write the template to ``folder/NAME.toml``; raises UsageError rather than overwrite."""
    path = folder / f"{name}.toml"
    text = new_entry(name)
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError:
        raise UsageError(f"{path} exists; new never overwrites, so choose another name") from None
    except OSError as problem:
        raise UsageError(f"{path} cannot be written: {problem.strerror}") from None
    return path
