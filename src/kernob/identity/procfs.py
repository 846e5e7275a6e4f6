"""What /proc tells about one process: few small reads, all of the same process.

The directory of the process is opened once and everything is read through it: should the process
end meanwhile and its id be given away, these reads fail instead of telling of a stranger.
"""

from __future__ import annotations

import os
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

_CLOCK_TICK: Final = 10**9 // os.sysconf("SC_CLK_TCK")
_COMMAND_LENGTH: Final = 16384
_KERNEL_THREAD: Final = 0x00200000  # PF_KTHREAD, include/linux/sched.h
_DELETED: Final = " (deleted)"


@dataclass(frozen=True, slots=True)
class Stat:
    """The lines of /proc/<pid>/stat that tell who it is (proc_pid_stat(5)).

    Attributes:
        start: nanoseconds since boot, rounded down to a clock tick.
        ended: a zombie; or its first thread is, while others live.
    """

    name: str
    parent: int
    start: int
    kernel_thread: bool
    ended: bool


@contextmanager
def process_directory(pid: int, root: str = "/proc") -> Iterator[int | None]:
    """Opens /proc/<pid> and yields its descriptor; None if there is no such process."""
    try:
        directory = os.open(f"{root}/{pid}", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:  # it is gone, or hidden from us (hidepid)
        yield None
        return
    try:
        yield directory
    finally:
        os.close(directory)


def process_start(pid: int) -> int | None:
    """Returns when the process started, in nanoseconds since boot; None if there is none.

    /proc counts in clock ticks (10 ms), the kernel in nanoseconds: compare by `same_start`.
    """
    with process_directory(pid) as directory:
        stat = read_stat(directory) if directory is not None else None
    return stat.start if stat else None


def same_start(ticks: int, start: int) -> bool:
    """Returns whether `start` (task_struct.start_boottime) is what /proc shows as `ticks`."""
    return ticks // _CLOCK_TICK == start // _CLOCK_TICK


def read_stat(directory: int) -> Stat | None:
    """Returns who the process is; None if it is gone."""
    text = _read(directory, "stat", 1024)
    head, closing, tail = text.rpartition(b")")
    if not closing:
        return None
    fields = tail.split()
    return Stat(
        name=decode(head.partition(b"(")[2]),
        parent=int(fields[1]),
        start=int(fields[19]) * _CLOCK_TICK,
        kernel_thread=bool(int(fields[6]) & _KERNEL_THREAD),
        ended=fields[0] in (b"Z", b"X"),
    )


def read_command(directory: int) -> tuple[bytes, bool]:
    """Returns the command line, arguments end in NUL, and whether that is all of it."""
    command = _read(directory, "cmdline", _COMMAND_LENGTH)
    return command, len(command) < _COMMAND_LENGTH


def read_executable(directory: int) -> str:
    """Returns the path of the executed file; "" for kernel threads and where it is hidden."""
    try:
        path = os.readlink("exe", dir_fd=directory)
    except OSError:  # a kernel thread, another user's process, or it has ended
        return ""
    return decode(os.fsencode(path)).removesuffix(_DELETED)


def read_cgroups(directory: int) -> str:
    """Returns /proc/<pid>/cgroup; "" if the process has ended."""
    return _read(directory, "cgroup", 16384).decode(errors="replace")


def read_user(directory: int) -> int | None:
    """Returns the real user id; None if the process has ended."""
    for line in _read(directory, "status", 4096).splitlines():
        if line.startswith(b"Uid:"):
            return int(line.split()[1])
    return None


def decode(text: bytes) -> str:
    """Returns a name as it may be shown and sent: `?` for control characters, UTF-8 throughout."""
    return printable(text.decode(errors="replace"))


def printable(text: str) -> str:
    """Returns `text` with `?` for each character that would move a terminal's cursor."""
    if text.isprintable():
        return text
    return "".join(character if character.isprintable() else "?" for character in text)


def _read(directory: int, name: str, length: int) -> bytes:
    try:
        file = os.open(name, os.O_RDONLY | os.O_CLOEXEC, dir_fd=directory)
    except OSError:  # it has ended, or we may not see this of it
        return b""
    try:
        return os.read(file, length)
    except OSError:  # ended between the two calls: ESRCH
        return b""
    finally:
        os.close(file)
