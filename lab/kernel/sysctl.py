"""Settings of the namespace that the calling thread is in."""

from __future__ import annotations

import os


def write_sysctl(key: str, value: str) -> None:
    """Set a sysctl of the current namespace; dots separate, as in sysctl.conf. Raises OSError."""
    handle = os.open("/proc/sys/" + key.replace(".", "/"), os.O_WRONLY)
    try:
        os.write(handle, value.encode())
    finally:
        os.close(handle)
