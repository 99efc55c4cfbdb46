"""nftables through libnftables (the library of the `nft` command), so that one process stays a table's owner."""

from __future__ import annotations

import ctypes

LIBRARY = "libnftables.so.1"
_JSON = 1 << 4


class NftablesError(Exception):
    """nft refused something; the text is its own first line of complaint."""


class Nftables:
    """One netlink connection to nftables. Tables made with `flags owner` go when this object's process does."""

    def __init__(self) -> None:
        """Raises `NftablesError` when the library is not there."""
        try:
            self._library = ctypes.CDLL(LIBRARY)
        except OSError as problem:
            raise NftablesError(f"{LIBRARY} cannot be loaded ({problem})") from None
        library = self._library
        library.nft_ctx_new.restype = ctypes.c_void_p
        library.nft_ctx_new.argtypes = [ctypes.c_uint32]
        library.nft_ctx_get_error_buffer.restype = ctypes.c_char_p
        library.nft_ctx_get_output_buffer.restype = ctypes.c_char_p
        for name in (
            "nft_ctx_buffer_output",
            "nft_ctx_buffer_error",
            "nft_ctx_get_error_buffer",
            "nft_ctx_get_output_buffer",
        ):
            getattr(library, name).argtypes = [ctypes.c_void_p]
        library.nft_run_cmd_from_buffer.argtypes = [ctypes.c_void_p, ctypes.c_char_p]
        library.nft_ctx_output_set_flags.argtypes = [ctypes.c_void_p, ctypes.c_uint]
        self._context = library.nft_ctx_new(0)
        if not self._context:
            raise NftablesError("libnftables gave no context")
        library.nft_ctx_buffer_output(self._context)
        library.nft_ctx_buffer_error(self._context)
        library.nft_ctx_output_set_flags(self._context, _JSON)

    def run(self, commands: str) -> str:
        """Apply commands as one transaction; returns what they print, as JSON. Raises `NftablesError`."""
        failed = self._library.nft_run_cmd_from_buffer(self._context, commands.encode())
        output = self._library.nft_ctx_get_output_buffer(self._context) or b""
        complaint = self._library.nft_ctx_get_error_buffer(self._context) or b""
        if failed:
            lines = complaint.decode(errors="replace").strip().splitlines()
            raise NftablesError(lines[0] if lines else "nft failed without a word")
        return output.decode(errors="replace")
