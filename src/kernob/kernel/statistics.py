"""What programs cost: run count and run time, counted by the kernel itself."""

from __future__ import annotations

import ctypes
import os
from ctypes import c_char, c_uint32, c_uint64
from dataclasses import dataclass

from kernob.kernel import libbpf

_RUN_TIME = 0  # BPF_STATS_RUN_TIME


@dataclass(frozen=True, slots=True)
class ProgramStatistics:
    """One program, from its load on.

    Attributes:
        id: the kernel's number of the program, as `bpftool prog` shows it.
        runs: how often it ran while statistics were on.
        run_time_ns: how long it ran in all, nanoseconds, likewise.
        misses: runs left out, since the program was already running on that CPU (Linux 5.12).
        machine_code: bytes of machine code.
    """

    id: int
    runs: int
    run_time_ns: int
    misses: int
    machine_code: int


class _ProgramInfo(ctypes.Structure):
    """The head of struct bpf_prog_info (linux/bpf.h), up to what is read here."""

    _fields_ = (
        ("type", c_uint32),
        ("id", c_uint32),
        ("tag", c_char * 8),
        ("jited_prog_len", c_uint32),
        ("xlated_prog_len", c_uint32),
        ("jited_prog_insns", c_uint64),
        ("xlated_prog_insns", c_uint64),
        ("load_time", c_uint64),
        ("created_by_uid", c_uint32),
        ("nr_map_ids", c_uint32),
        ("map_ids", c_uint64),
        ("name", c_char * 16),
        ("ifindex", c_uint32),
        ("gpl_compatible", c_uint32),
        ("netns_dev", c_uint64),
        ("netns_ino", c_uint64),
        ("nr_jited_ksyms", c_uint32),
        ("nr_jited_func_lens", c_uint32),
        ("jited_ksyms", c_uint64),
        ("jited_func_lens", c_uint64),
        ("btf_id", c_uint32),
        ("func_info_rec_size", c_uint32),
        ("func_info", c_uint64),
        ("nr_func_info", c_uint32),
        ("nr_line_info", c_uint32),
        ("line_info", c_uint64),
        ("jited_line_info", c_uint64),
        ("nr_jited_line_info", c_uint32),
        ("line_info_rec_size", c_uint32),
        ("jited_line_info_rec_size", c_uint32),
        ("nr_prog_tags", c_uint32),
        ("prog_tags", c_uint64),
        ("run_time_ns", c_uint64),
        ("run_cnt", c_uint64),
        ("recursion_misses", c_uint64),
    )


def of_program(fd: int) -> ProgramStatistics:
    """Returns the statistics of the program behind `fd`.

    Raises:
        KernelError: the kernel refused.
    """
    info = _ProgramInfo()
    size = c_uint32(ctypes.sizeof(info))
    libbpf.check(
        libbpf.library().bpf_obj_get_info_by_fd(fd, ctypes.byref(info), ctypes.byref(size)),
        "can't read a program's statistics",
    )
    return ProgramStatistics(
        id=info.id,
        runs=info.run_cnt,
        run_time_ns=info.run_time_ns,
        misses=info.recursion_misses,
        machine_code=info.jited_prog_len,
    )


class RunTime:
    """Has the kernel time every program of the machine, until it is closed (Linux 5.8).

    Two reads of the clock for each run: about 20 ns.
    """

    def __init__(self) -> None:
        self._fd = libbpf.check(
            libbpf.library().bpf_enable_stats(_RUN_TIME), "can't turn BPF statistics on"
        )

    def close(self) -> None:
        """Stops; a second call does nothing."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)
