"""The network: which process sends and receives how many bytes to whom, counted in the kernel.

The twin of `bpf/network.bpf.c`, which explains how a byte is seen. This module loads the
programs, picks the hooks that this kernel has, and reads the table of flows.

Exact: all that a process's own calls returned, for TCP and UDP of every network namespace.
Not exact, and counted where it happens: `LOSSES`.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from kernob.errors import KernelError
from kernob.kernel import features, objects
from kernob.signals.accounts import ProcessId, Reading, Settled

if TYPE_CHECKING:
    from collections.abc import Mapping

    from kernob.config import Network
    from kernob.kernel.objects import Program

log = logging.getLogger(__name__)

LENGTH_TRACEPOINTS: Final = ("send_length", "receive_length")
"""From Linux 6.5 on: 6.3 has them, but its sendfile passes them by."""
LENGTH_EXITS: Final = (
    "inet_send",
    "inet6_send",
    "inet_send_page",
    "inet_receive",
    "inet6_receive",
)
"""The same handler on the way out of the calls that TCP and UDP share, before Linux 6.5."""
LIFE: Final = ("set_state", "process_exit")
DATAGRAM_PEERS: Final = (
    "send_datagram4",
    "send_datagram6",
    "receive_datagram4",
    "receive_datagram6",
)
LOSSES: Final = {
    "flows_overflowed": "rows that the table of flows had no room for",
    "connections_dropped": "connections that got no storage, counted without it",
    "processes_dropped": "processes whose names found no room",
    "exits_dropped": "ends of processes that found no room",
    "datagrams_dropped": "datagrams whose peer was not kept",
}


class KernelFlows:
    """The kernel's table of flows.

    Args:
        settings: sizes and limits.

    Raises:
        KernelError: the kernel or the privileges don't allow it; the message says which.

    """

    mode = "ebpf"
    description = "counted in the kernel by eBPF: exact"

    def __init__(self, settings: Network) -> None:
        self._object = objects.read("network")
        self._object.set_constants(
            peers_per_server=settings.peers_per_server, peers_per_client=settings.peers_per_client
        )
        self._object.maps["flows"].resize(settings.flows)
        for name in ("processes", "exits"):
            self._object.maps[name].resize(settings.processes)
        self._hooks = LENGTH_EXITS if features.has_kernel_function("inet_sendpage") else ()
        self._hooks = self._hooks or LENGTH_TRACEPOINTS
        cgroup = cgroup2_root() if settings.datagram_peers else None
        for name in self._object.programs:
            wanted = name not in (*LENGTH_EXITS, *LENGTH_TRACEPOINTS) or name in self._hooks
            self._object.programs[name].set_autoload(
                wanted and (cgroup is not None or name not in DATAGRAM_PEERS)
            )
        try:
            self._object.load()
            self._attach(cgroup)
        except BaseException:
            self._object.close()
            raise
        self.missing: Mapping[str, str] = self._object.failures

    def _attach(self, cgroup: Path | None) -> None:
        programs = self._object.programs
        failures = self._object.failures
        for name in (*self._hooks, *LIFE, "drain_connections"):
            if name in failures:
                raise KernelError(
                    f"this kernel refuses the program {name}: {failures[name]}",
                    remedy="kernob doctor says what it allows; polling works everywhere",
                )
        self._flows = self._object.maps["flows"].table()
        self._processes = self._object.maps["processes"].table()
        self._exits = self._object.maps["exits"].table()
        # The row for what finds no other.
        self._flows.put(np.zeros((), self._flows.key_dtype), np.zeros((), self._flows.value_dtype))
        self._drain = programs["drain_connections"].attach_iterator(
            map=self._object.maps["connections"]
        )
        self._owners = programs["find_owners"].attach_iterator()
        for name in (*LIFE, *self._hooks):
            programs[name].attach()
        if cgroup is not None:
            for name in DATAGRAM_PEERS:
                if name not in failures:
                    programs[name].attach_cgroup(cgroup)
        # Sockets older than the agent: who listens, then whose each one is.
        programs["find_listeners"].attach_iterator().read()
        self._owners.read()
        self._unowned_rounds = 0

    def read(self) -> Reading:
        """Drains the sockets' own counters and reads the table whole.

        Raises:
            KernelError: a map can't be read.

        """
        # First the ends: whoever has ended by now adds nothing to the rows read below.
        ended_keys, _ = self._exits.read()
        ended: list[ProcessId] = list(
            zip(ended_keys["start"].tolist(), ended_keys["pid"].tolist(), strict=True)
        )
        self._drain.read()
        self._find_owners()
        keys, values = self._flows.read()
        return Reading(keys, values, ended)

    def _find_owners(self) -> None:
        """Looks for whom an unused connection belongs to, if some have waited for long."""
        if not int(self._object.variables["connections_unowned"]):
            self._unowned_rounds = 0
            return
        self._unowned_rounds += 1
        # A walk over every open file: at once, then seldom, since some never get an owner
        # (connections that nobody has accepted).
        if self._unowned_rounds in (1, 5) or self._unowned_rounds % 30 == 0:
            self._owners.read()

    def record(self, pid: int, start: int) -> Any | None:
        """Returns what the kernel kept of a process (`struct process`), None if nothing."""
        return self._processes.get(self._process_key(pid, start))

    def settle(self, reading: Reading, settled: Settled) -> None:
        """Removes rows and names of processes that have ended."""
        if len(settled.rows):
            self._flows.delete(reading.keys[settled.rows])
        for start, pid in settled.processes:
            key = self._process_key(pid, start)
            self._processes.delete(key)
            self._exits.delete(key)

    def _process_key(self, pid: int, start: int) -> Any:
        key = np.zeros((), self._processes.key_dtype)
        key["pid"], key["start"] = pid, start
        return key

    def losses(self) -> dict[str, int]:
        """Returns what could not be kept, by the names of `LOSSES`, since the start."""
        variables = self._object.variables
        lost = {name: int(variables[name]) for name in LOSSES}
        lost["bytes_lost"] = int(variables["bytes_lost"].sum())
        lost["recursion_misses"] = sum(p.misses() for p in self._programs())
        return lost

    def _programs(self) -> list[Program]:
        return [self._object.programs[name] for name in (*self._hooks, *LIFE)]

    def fill(self) -> dict[str, tuple[int, int]]:
        """Returns entries and capacity of each table."""
        tables = {"flows": self._flows, "processes": self._processes, "exits": self._exits}
        return {name: (len(table), table.capacity) for name, table in tables.items()}

    def close(self) -> None:
        """Detaches everything."""
        self._object.close()


def cgroup2_root() -> Path | None:
    """Returns where cgroup version 2 is mounted, None if nowhere."""
    for line in Path("/proc/self/mounts").read_text().splitlines():
        _, path, kind, *_ = line.split(" ")
        if kind == "cgroup2":
            return Path(path)
    return None
