"""What this process may do, and giving up what it no longer needs.

Linux capabilities of the calling thread (capabilities(7)), by capget and capset as the C
library has them. Threads started later inherit what is left, so drop before starting them.
"""

from __future__ import annotations

import ctypes
import os
from typing import Final

from kernob.errors import KernelError

BITS: Final = {
    "CAP_DAC_READ_SEARCH": 2,
    "CAP_NET_ADMIN": 12,
    "CAP_SYS_PTRACE": 19,
    "CAP_SYS_ADMIN": 21,
    "CAP_PERFMON": 38,
    "CAP_BPF": 39,
}
"""The capabilities that Kernob knows, by their bit (uapi/linux/capability.h)."""

_VERSION_3: Final = 0x20080522


class _Header(ctypes.Structure):
    _fields_ = (("version", ctypes.c_uint32), ("pid", ctypes.c_int))


class _Data(ctypes.Structure):
    _fields_ = (
        ("effective", ctypes.c_uint32),
        ("permitted", ctypes.c_uint32),
        ("inheritable", ctypes.c_uint32),
    )


def _call(name: str, data: ctypes.Array[_Data]) -> None:
    library = ctypes.CDLL(None, use_errno=True)
    header = _Header(_VERSION_3, 0)
    if getattr(library, name)(ctypes.byref(header), data):
        code = ctypes.get_errno()
        raise KernelError(f"{name}: {os.strerror(code)}")


def _get() -> ctypes.Array[_Data]:
    data = (_Data * 2)()
    _call("capget", data)
    return data


def held() -> set[str]:
    """Returns the names, of those in `BITS`, that are in effect for this thread.

    Raises:
        KernelError: the kernel does not tell.
    """
    data = _get()
    effective = data[0].effective | data[1].effective << 32
    return {name for name, bit in BITS.items() if effective >> bit & 1}


def keep_only(names: set[str]) -> set[str]:
    """Gives up every capability but `names`; returns those of `names` that are held.

    Raises:
        KernelError: the kernel refuses.
    """
    mask = sum(1 << BITS[name] for name in names)
    data = _get()
    for word, bits in zip(data, (mask & 0xFFFFFFFF, mask >> 32), strict=True):
        word.permitted &= bits
        word.effective &= bits
        word.inheritable = 0
    _call("capset", data)
    return held() & names
