"""libnftables in process: what ``nft -f`` does, without a process per ruleset."""

from __future__ import annotations

import ctypes
from functools import lru_cache

from lab.errors import UnsupportedError

_STATELESS = 1 << 2
_HANDLE = 1 << 3
_ECHO = 1 << 5


class Nft:
    """One libnftables context; it speaks to the namespace in which it is used first."""

    def __init__(self) -> None:
        self._lib = _library()
        self._opened: ctypes.c_void_p | None = None

    def run(self, commands: str, *, echo: bool = False, handles: bool = False) -> tuple[str, str]:
        """Run commands as one transaction; return (output, error text), one of which is empty.

        ``echo`` prints each added object as the kernel has it; ``handles`` adds their handles.
        """
        flags = _STATELESS | (_ECHO | _HANDLE if echo else 0) | (_HANDLE if handles else 0)
        context = self._context()
        self._lib.nft_ctx_output_set_flags(context, flags)
        failed = self._lib.nft_run_cmd_from_buffer(context, commands.encode())
        output = self._lib.nft_ctx_get_output_buffer(context).decode(errors="replace")
        error = self._lib.nft_ctx_get_error_buffer(context).decode(errors="replace")
        return output, (error or "refused without a message") if failed else ""

    def close(self) -> None:
        """Free the context and its netlink socket."""
        if self._opened is not None:
            self._lib.nft_ctx_free(self._opened)
            self._opened = None

    def _context(self) -> ctypes.c_void_p:
        if self._opened is None:
            self._opened = ctypes.c_void_p(self._lib.nft_ctx_new(0))
            self._lib.nft_ctx_buffer_output(self._opened)
            self._lib.nft_ctx_buffer_error(self._opened)
        return self._opened


@lru_cache(maxsize=1)
def _library() -> ctypes.CDLL:
    try:
        lib = ctypes.CDLL("libnftables.so.1")
    except OSError:
        raise UnsupportedError(
            "libnftables.so.1 cannot be loaded; install it (Debian, Ubuntu: libnftables1)"
        ) from None
    pointer, text = ctypes.c_void_p, ctypes.c_char_p
    lib.nft_ctx_new.restype, lib.nft_ctx_new.argtypes = pointer, [ctypes.c_uint32]
    lib.nft_ctx_free.argtypes = [pointer]
    lib.nft_ctx_output_set_flags.argtypes = [pointer, ctypes.c_uint]
    lib.nft_run_cmd_from_buffer.argtypes = [pointer, text]
    for name in ("nft_ctx_buffer_output", "nft_ctx_buffer_error"):
        getattr(lib, name).argtypes = [pointer]
    for name in ("nft_ctx_get_output_buffer", "nft_ctx_get_error_buffer"):
        getattr(lib, name).argtypes, getattr(lib, name).restype = [pointer], text
    return lib
