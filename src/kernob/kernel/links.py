"""Attached programs: a `Link` lasts until it is closed, or until its process ends in any way."""

from __future__ import annotations

import ctypes
import os
import platform
from ctypes import c_int, c_int32, c_long, c_uint32, c_uint64, c_ulong
from pathlib import Path
from typing import TYPE_CHECKING, Self

from kernob.errors import KernelError
from kernob.kernel import libbpf

if TYPE_CHECKING:
    from types import TracebackType

_PERF_EVENT_OPEN = {"x86_64": 298, "aarch64": 241}
_SOFTWARE, _CPU_CLOCK = 1, 0
_FREQUENCY_IS_SET = 1 << 10
_CLOSE_ON_EXEC = 1 << 3


class Link:
    """One attachment of a program. Closing it detaches; it is a context manager, too."""

    def __init__(self, pointer: int) -> None:
        self._pointer: int | None = pointer

    @property
    def fd(self) -> int:
        """The file descriptor of the link, which belongs to it.

        Raises:
            KernelError: it is closed.
        """
        if self._pointer is None:
            raise KernelError("the link is closed")
        return int(libbpf.library().bpf_link__fd(self._pointer))

    def close(self) -> None:
        """Detaches the program; a second call does nothing."""
        pointer, self._pointer = self._pointer, None
        if pointer is not None:
            libbpf.check(libbpf.library().bpf_link__destroy(pointer), "can't detach a program")

    def __enter__(self) -> Self:
        """Returns itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Detaches the program."""
        self.close()


def cgroup_root() -> Path | None:
    """Returns where cgroup version 2 is mounted: attached there, a program sees every process.

    None if it is not mounted. Source: proc(5), /proc/pid/mountinfo.
    """
    for line in Path("/proc/self/mountinfo").read_text(encoding="utf-8").splitlines():
        mount, _, kind = line.partition(" - ")
        if kind.startswith("cgroup2 "):
            return Path(mount.split()[4].encode().decode("unicode_escape"))
    return None


class _PerfEventAttributes(ctypes.Structure):
    """The first version (64 bytes) of struct perf_event_attr, linux/perf_event.h."""

    _fields_ = (
        ("type", c_uint32),
        ("size", c_uint32),
        ("config", c_uint64),
        ("sample_frequency", c_uint64),
        ("sample_type", c_uint64),
        ("read_format", c_uint64),
        ("flags", c_uint64),
        ("wakeup_events", c_uint32),
        ("breakpoint_type", c_uint32),
        ("config1", c_uint64),
    )


def open_cpu_clock(cpu: int, frequency: int) -> int:
    """Returns the fd of a perf event that fires `frequency` times a second on a busy `cpu`.

    Raises:
        KernelError: the kernel refused, or the machine is neither x86-64 nor arm64.
    """
    number = _PERF_EVENT_OPEN.get(platform.machine())
    if number is None:
        raise KernelError(f"perf events are not known on {platform.machine()}")
    attributes = _PerfEventAttributes(
        type=_SOFTWARE,
        size=ctypes.sizeof(_PerfEventAttributes),
        config=_CPU_CLOCK,
        sample_frequency=frequency,
        flags=_FREQUENCY_IS_SET,
    )
    call = ctypes.CDLL(None, use_errno=True).syscall
    call.restype = c_long
    call.argtypes = (c_long, ctypes.c_void_p, c_int32, c_int, c_int, c_ulong)
    fd = int(call(number, ctypes.byref(attributes), -1, cpu, -1, _CLOSE_ON_EXEC))
    if fd < 0:
        raise libbpf.error(ctypes.get_errno(), f"can't open a clock on CPU {cpu}")
    return fd


def online_cpus() -> list[int]:
    """Returns the numbers of the CPUs that run now (/sys/devices/system/cpu/online)."""
    text = Path("/sys/devices/system/cpu/online").read_text(encoding="ascii")
    found: list[int] = []
    for part in text.strip().split(","):
        first, _, last = part.partition("-")
        found.extend(range(int(first), int(last or first) + 1))
    return found


def open_directory(path: Path) -> int:
    """Returns the fd of a cgroup's directory.

    Raises:
        KernelError: it can't be opened.
    """
    try:
        return os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as exc:
        raise libbpf.error(exc.errno or 0, f"can't open cgroup {path}") from exc
