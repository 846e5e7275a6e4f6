"""Programs of an object: what they attach to, and what they cost."""

from __future__ import annotations

import ctypes
import os
from typing import TYPE_CHECKING, TypeVar

from kernob.errors import KernelError
from kernob.kernel import libbpf, statistics
from kernob.kernel.iterators import Iterator
from kernob.kernel.links import Link, online_cpus, open_cpu_clock, open_directory

if TYPE_CHECKING:
    from pathlib import Path

    from kernob.kernel.maps import Map
    from kernob.kernel.objects import Object

_L = TypeVar("_L", bound=Link)


class Program:
    """One program of an object: `Object.programs["send_length"]`.

    Every link made here is closed with the object, if not before.

    Attributes:
        name: of the C function.
        section: where the C file puts it, such as `tp_btf/sock_send_length`.
    """

    def __init__(self, owner: Object, name: str) -> None:
        self._owner = owner
        self.name = name
        self.section = libbpf.library().bpf_program__section_name(self._pointer).decode()

    @property
    def _pointer(self) -> int:
        return self._owner.program_pointer(self.name)

    @property
    def loaded(self) -> bool:
        """Whether it is in the kernel."""
        return bool(libbpf.library().bpf_program__fd(self._pointer) >= 0)

    @property
    def fd(self) -> int:
        """Its file descriptor, which belongs to the object.

        Raises:
            KernelError: it is not loaded; with the reason.
        """
        found = libbpf.library().bpf_program__fd(self._pointer)
        if found < 0:
            reason = self._owner.failures.get(self.name, "it is off, or its object is not loaded")
            raise KernelError(f"program {self.name} is not in the kernel: {reason}")
        return int(found)

    def attach(self) -> Link:
        """Attaches it where its section says: tp_btf, fentry, fexit, raw_tp, tracepoint.

        A `uprobe/PATH:FUNCTION` section works too; so does anything else that libbpf attaches by
        the section alone.

        Raises:
            KernelError: it is not loaded, or the kernel refused.
        """
        self.fd  # noqa: B018
        with libbpf.captured() as messages:
            pointer = libbpf.library().bpf_program__attach(self._pointer)
        return self._keep(Link(libbpf.check_pointer(pointer, self._refused, tuple(messages))))

    def attach_cgroup(self, path: Path) -> Link:
        """Attaches it to the cgroup (version 2) at `path`: to all processes in and below it.

        Raises:
            KernelError: it is not loaded, or the kernel refused.
        """
        self.fd  # noqa: B018
        directory = open_directory(path)
        try:
            with libbpf.captured() as messages:
                pointer = libbpf.library().bpf_program__attach_cgroup(self._pointer, directory)
            return self._keep(Link(libbpf.check_pointer(pointer, self._refused, tuple(messages))))
        finally:
            os.close(directory)

    def attach_clock(self, frequency: int) -> list[Link]:
        """Runs it `frequency` times a second on each CPU that is busy; a link for each CPU.

        For sections `perf_event`. CPUs that come later have none.

        Raises:
            KernelError: it is not loaded, or the kernel refused.
        """
        self.fd  # noqa: B018
        links: list[Link] = []
        for cpu in online_cpus():
            event = open_cpu_clock(cpu, frequency)
            with libbpf.captured() as messages:
                pointer = libbpf.library().bpf_program__attach_perf_event(self._pointer, event)
            if not pointer:
                os.close(event)
            links.append(
                self._keep(Link(libbpf.check_pointer(pointer, self._refused, tuple(messages))))
            )
        return links

    def attach_function(
        self, path: Path, function: str | int, *, returns: bool = False, pid: int = -1
    ) -> Link:
        """Attaches it to a function of a program or library, in all processes or one: a uprobe.

        `function` is a name in the file's symbols, or an offset in the file. `returns` hangs it
        on the return (section `uretprobe`) instead of the entry.

        Raises:
            KernelError: it is not loaded, there is no such function, or the kernel refused.
        """
        self.fd  # noqa: B018
        name, offset = (function.encode(), 0) if isinstance(function, str) else (None, function)
        options = libbpf.UprobeOptions(
            sz=ctypes.sizeof(libbpf.UprobeOptions), retprobe=returns, func_name=name
        )
        with libbpf.captured() as messages:
            pointer = libbpf.library().bpf_program__attach_uprobe_opts(
                self._pointer, pid, os.fsencode(path), offset, ctypes.byref(options)
            )
        return self._keep(Link(libbpf.check_pointer(pointer, self._refused, tuple(messages))))

    def attach_iterator(self, over: Map | None = None) -> Iterator:
        """Attaches an `iter/...` program; `over` is the map that it walks, if it walks one.

        Raises:
            KernelError: it is not loaded, or the kernel refused.
        """
        self.fd  # noqa: B018
        # union bpf_iter_link_info, linux/bpf.h: the map's fd comes first.
        target = (ctypes.c_uint32 * 4)(over.fd if over else 0)
        options = libbpf.IteratorOptions(
            sz=ctypes.sizeof(libbpf.IteratorOptions),
            link_info=ctypes.addressof(target),
            link_info_len=ctypes.sizeof(target),
        )
        with libbpf.captured() as messages:
            pointer = libbpf.library().bpf_program__attach_iter(
                self._pointer, ctypes.byref(options) if over else None
            )
        found = libbpf.check_pointer(pointer, self._refused, tuple(messages))
        return self._keep(Iterator(found, self.name))

    def statistics(self) -> statistics.ProgramStatistics:
        """Returns what it has cost so far; see `statistics.enable`.

        Raises:
            KernelError: it is not loaded.
        """
        return statistics.of_program(self.fd)

    @property
    def _refused(self) -> str:
        return f"can't attach program {self.name} ({self.section})"

    def _keep(self, link: _L) -> _L:
        self._owner.keep(link)
        return link
