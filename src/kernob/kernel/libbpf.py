"""The functions of libbpf 1.x that Kernob calls, declared for ctypes, and what libbpf prints.

libbpf 1.x tells of an error by a negative errno, or by NULL and errno. `check` and `check_pointer`
turn both into `KernelError`. Source: bpf/libbpf.h and bpf/bpf.h of libbpf 1.1.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import functools
import logging
import os
import threading
from collections import deque
from ctypes import POINTER, c_char_p, c_int, c_size_t, c_uint32, c_uint64, c_void_p
from typing import TYPE_CHECKING, Any

from kernob.errors import KernelError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

log = logging.getLogger(__name__)

_KEPT_MESSAGES = 256
_KEPT_BYTES = 16384
_WARN, _INFO, _DEBUG = range(3)

_pointer, _text, _int, _u32, _u64, _size = c_void_p, c_char_p, c_int, c_uint32, c_uint64, c_size_t

# name: (what it returns, *what it takes)
_FUNCTIONS: dict[str, tuple[Any, ...]] = {
    "bpf_object__open_mem": (_pointer, _text, _size, _pointer),
    "bpf_object__load": (_int, _pointer),
    "bpf_object__close": (None, _pointer),
    "bpf_object__btf": (_pointer, _pointer),
    "bpf_object__next_program": (_pointer, _pointer, _pointer),
    "bpf_object__next_map": (_pointer, _pointer, _pointer),
    "bpf_object__find_program_by_name": (_pointer, _pointer, _text),
    "bpf_object__find_map_by_name": (_pointer, _pointer, _text),
    "btf__raw_data": (_pointer, _pointer, POINTER(_u32)),
    "bpf_program__name": (_text, _pointer),
    "bpf_program__section_name": (_text, _pointer),
    "bpf_program__autoload": (ctypes.c_bool, _pointer),
    "bpf_program__set_autoload": (_int, _pointer, ctypes.c_bool),
    "bpf_program__fd": (_int, _pointer),
    "bpf_program__attach": (_pointer, _pointer),
    "bpf_program__attach_cgroup": (_pointer, _pointer, _int),
    "bpf_program__attach_iter": (_pointer, _pointer, _pointer),
    "bpf_program__attach_perf_event": (_pointer, _pointer, _int),
    "bpf_program__attach_uprobe_opts": (_pointer, _pointer, _int, _text, _size, _pointer),
    "bpf_link__fd": (_int, _pointer),
    "bpf_link__destroy": (_int, _pointer),
    "bpf_map__name": (_text, _pointer),
    "bpf_map__is_internal": (ctypes.c_bool, _pointer),
    "bpf_map__fd": (_int, _pointer),
    "bpf_map__reuse_fd": (_int, _pointer, _int),
    "bpf_map__type": (_int, _pointer),
    "bpf_map__map_flags": (_u32, _pointer),
    "bpf_map__key_size": (_u32, _pointer),
    "bpf_map__value_size": (_u32, _pointer),
    "bpf_map__max_entries": (_u32, _pointer),
    "bpf_map__set_max_entries": (_int, _pointer, _u32),
    "bpf_map__btf_key_type_id": (_u32, _pointer),
    "bpf_map__btf_value_type_id": (_u32, _pointer),
    "bpf_map__initial_value": (_pointer, _pointer, POINTER(_size)),
    "bpf_map_lookup_elem": (_int, _int, _pointer, _pointer),
    "bpf_map_update_elem": (_int, _int, _pointer, _pointer, _u64),
    "bpf_map_lookup_batch": (
        *(_int, _int, _pointer, _pointer),
        *(_pointer, _pointer, POINTER(_u32), _pointer),
    ),
    "bpf_map_delete_elem": (_int, _int, _pointer),
    "bpf_map_delete_batch": (_int, _int, _pointer, POINTER(_u32), _pointer),
    "bpf_iter_create": (_int, _int),
    "bpf_prog_load": (_int, _int, _text, _text, _pointer, _size, _pointer),
    "bpf_obj_get_info_by_fd": (_int, _int, _pointer, POINTER(_u32)),
    "bpf_enable_stats": (_int, _int),
    "libbpf_find_vmlinux_btf_id": (_int, _text, _int),
    "libbpf_num_possible_cpus": (_int,),
    "libbpf_probe_bpf_prog_type": (_int, _int, _pointer),
    "libbpf_probe_bpf_helper": (_int, _int, _int, _pointer),
    "libbpf_set_print": (_pointer, _pointer),
}


class OpenOptions(ctypes.Structure):
    """The head of struct bpf_object_open_opts: libbpf takes what follows as zeros."""

    _fields_ = (("sz", c_size_t), ("object_name", c_char_p))


class IteratorOptions(ctypes.Structure):
    """Struct bpf_iter_attach_opts."""

    _fields_ = (("sz", c_size_t), ("link_info", c_void_p), ("link_info_len", c_uint32))


class UprobeOptions(ctypes.Structure):
    """Struct bpf_uprobe_opts."""

    _fields_ = (
        ("sz", c_size_t),
        ("ref_ctr_offset", c_size_t),
        ("bpf_cookie", c_uint64),
        ("retprobe", ctypes.c_bool),
        ("func_name", c_char_p),
    )


@functools.cache
def library() -> ctypes.CDLL:
    """Returns the system's libbpf with its functions declared; it prints into `logging`.

    Raises:
        KernelError: libbpf 1.x is not installed.
    """
    try:
        loaded = ctypes.CDLL("libbpf.so.1", use_errno=True)
        for name, (result, *arguments) in _FUNCTIONS.items():
            function = getattr(loaded, name)
            function.restype = result
            function.argtypes = arguments
    except (OSError, AttributeError) as exc:
        raise KernelError(
            f"libbpf 1.x can't be used ({exc})",
            remedy="install it (Debian and Ubuntu: apt-get install libbpf1)",
        ) from exc
    loaded.libbpf_set_print(ctypes.cast(_PRINT, c_void_p))
    return loaded


@functools.cache
def possible_cpus() -> int:
    """Returns how many CPUs this machine can have: the copies of a per-CPU value."""
    return check(library().libbpf_num_possible_cpus(), "can't count the CPUs")


def check(result: int, what: str, messages: Sequence[str] = ()) -> int:
    """Returns `result` if it is no error.

    Raises:
        KernelError: `result` is a negative errno; `messages` are what libbpf said.
    """
    if result < 0:
        raise error(-result, what, messages)
    return result


def check_pointer(result: int | None, what: str, messages: Sequence[str] = ()) -> int:
    """Returns `result` if it is not NULL.

    Raises:
        KernelError: it is NULL; the reason is in errno, `messages` are what libbpf said.
    """
    if not result:
        raise error(ctypes.get_errno(), what, messages)
    return result


def error(code: int, what: str, messages: Sequence[str] = ()) -> KernelError:
    """Returns the error to raise for an errno; with what to do about it, where that is known."""
    remedy = ""
    if code in (errno.EPERM, errno.EACCES):
        remedy = "run as root, or with CAP_BPF, CAP_PERFMON and CAP_NET_ADMIN; see `kernob doctor`"
    said = "".join(f"; {line}" for line in messages[-3:])
    return KernelError(f"{what}: {describe(code)}{said}", remedy=remedy)


def describe(code: int) -> str:
    """Returns an errno in words and by name, such as `Permission denied (EACCES)`."""
    # 524 is ENOTSUPP, the kernel's own, which no C library knows.
    name = "ENOTSUPP" if code == 524 else errno.errorcode.get(code, str(code))  # noqa: PLR2004
    words = "Not supported by this kernel" if name == "ENOTSUPP" else os.strerror(code)
    return f"{words} ({name})"


class _Captured(threading.local):
    """The warnings that libbpf has printed in this thread, while somebody captures them."""

    messages: deque[str] | None = None


_captured = _Captured()


@contextlib.contextmanager
def captured() -> Iterator[deque[str]]:
    """Collects what libbpf warns of in this thread, the latest 256 messages of 16 KiB each."""
    before = _captured.messages
    messages: deque[str] = deque(maxlen=_KEPT_MESSAGES)
    _captured.messages = messages
    try:
        yield messages
    finally:
        _captured.messages = before


_libc = ctypes.CDLL(None)
_libc.vasprintf.argtypes = (POINTER(c_void_p), c_void_p, c_void_p)
_libc.free.argtypes = (c_void_p,)


# A va_list arrives as a pointer on x86-64 and on arm64 alike.
def _print(level: int, template: int, arguments: int) -> int:
    if level == _DEBUG and not log.isEnabledFor(logging.DEBUG):
        return 0
    text = c_void_p()
    length = _libc.vasprintf(ctypes.byref(text), template, arguments)
    if length < 0 or not text.value:
        return 0
    # Of a verifier's log, which can be many megabytes, only the end is of use.
    kept = min(length, _KEPT_BYTES)
    message = ctypes.string_at(text.value + length - kept, kept).decode(errors="replace").rstrip()
    _libc.free(text)
    log.debug("%s", message)
    if level == _WARN and _captured.messages is not None:
        _captured.messages.append(message)
    return 0


# With use_errno, libbpf finds its errno as it was: what runs in `_print` may change it.
_PRINT = ctypes.CFUNCTYPE(c_int, c_int, c_void_p, c_void_p, use_errno=True)(_print)
