"""The network: which process sends and receives how many bytes to whom, counted in the kernel.

The twin of `bpf/network.bpf.c`, which explains how a byte is seen. This module loads the
programs, picks the hooks that this kernel has, and reads the table of flows.

Exact: all that a process's own calls returned, for TCP and UDP of every network namespace.
Not exact, and counted where it happens: `LOSSES`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np

from kernob.errors import KernelError
from kernob.kernel import features, objects
from kernob.kernel.links import cgroup_root
from kernob.signals.flows import ProcessId, Reading, Settled

if TYPE_CHECKING:
    from collections.abc import Mapping

    from kernob.config import Network
    from kernob.kernel.iterators import Iterator
    from kernob.kernel.statistics import ProgramStatistics

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
TWICE: Final = ("set_state", "set_state_again", "destroy", "destroy_again")
"""What one of a pair misses, the other one sees: the C side tells why."""
LIFE: Final = (*TWICE, "process_exit")
DATAGRAM_PEERS: Final = (
    "send_datagram4",
    "send_datagram6",
    "receive_datagram4",
    "receive_datagram6",
)
EARLIER: Final = ("find_listeners", "find_owners")
"""Who has the connections that are older than the agent."""
LOSSES: Final = {
    "flows_overflowed": "rows that the table of flows had no room for",
    "connections_dropped": "connections that got no storage, counted without it",
    "processes_dropped": "processes whose names found no room",
    "exits_dropped": "ends of processes that found no room",
    "datagrams_dropped": "datagrams whose peer was not kept",
    "bytes_lost": "bytes that found no row at all",
}


class KernelFlows:
    """The kernel's table of flows.

    Args:
        settings: sizes and limits.
        requests: let the programs of `requests` be called by these.

    Attributes:
        missing: programs that this kernel refused, with its reason; the rest works.
        object: the programs and maps, which `requests` builds on.
        hooks: names of the programs that see the bytes here.

    Raises:
        KernelError: the kernel or the privileges don't allow it; the message says which.
    """

    mode = "ebpf"
    description = "counted in the kernel by eBPF: exact"

    def __init__(self, settings: Network, *, requests: bool = False) -> None:
        refusal = features.refusal()
        if refusal:
            raise KernelError(f"no eBPF: {refusal}", remedy="kernob doctor says what to do")
        self.object = objects.read("network")
        self.object.set_constants(requests=requests)
        try:
            self._load(settings)
            self._attach()
        except BaseException:
            self.object.close()
            raise

    def _load(self, settings: Network) -> None:
        network = self.object
        network.set_constants(
            peers_per_server=settings.peers_per_server, peers_per_client=settings.peers_per_client
        )
        network.maps["flows"].resize(settings.flows)
        network.maps["processes"].resize(settings.processes)
        network.maps["exits"].resize(settings.processes)
        late = features.has_kernel_function("inet_sendpage")
        self.hooks = LENGTH_EXITS if late else LENGTH_TRACEPOINTS
        network.disable(*(LENGTH_TRACEPOINTS if late else LENGTH_EXITS))
        self._wants_datagram_peers = settings.datagram_peers
        self._cgroup = cgroup_root() if settings.datagram_peers else None
        if self._cgroup is None:
            network.disable(*DATAGRAM_PEERS)
        network.load()
        self.missing: Mapping[str, str] = network.failures
        for name in (*self.hooks, *LIFE, "drain_connections"):
            if name in self.missing:
                # The verifier's lines behind the first are for `kernob doctor --json`.
                reason = self.missing[name].splitlines()[0]
                raise KernelError(
                    f"this kernel refuses the program {name}: {reason}",
                    remedy="kernob doctor says what it allows; polling works everywhere",
                )

    def _attach(self) -> None:
        programs, maps = self.object.programs, self.object.maps
        self._flows = maps["flows"].table()
        self._processes = maps["processes"].table()
        self._exits = maps["exits"].table()
        # The row for what finds no other.
        self._flows.put(np.zeros((), self._flows.key)[()], np.zeros((), self._flows.value)[()])
        self._drain = programs["drain_connections"].attach_iterator(maps["connections"])
        for name in (*LIFE, *self.hooks):
            programs[name].attach()
        if self._cgroup is not None:
            for name in DATAGRAM_PEERS:
                if name not in self.missing:
                    programs[name].attach_cgroup(self._cgroup)
        # Sockets older than the agent: who listens, then whose each one is.
        self._owners: Iterator | None = None
        if not set(EARLIER) & set(self.missing):
            programs["find_listeners"].attach_iterator().read()
            self._owners = programs["find_owners"].attach_iterator()
            self._owners.read()
        self._unowned_rounds = self._last_rows = self._last_ends = 0

    def read(self) -> Reading:
        """Drains the sockets' own counters and reads the table whole.

        The arrays are valid until the next `read`.

        Raises:
            KernelError: a map can't be read.
        """
        # First the ends: whoever has ended by now adds nothing to the rows read below.
        ends, _ = self._exits.read()
        ended: list[ProcessId] = list(
            zip(ends["start"].tolist(), ends["pid"].tolist(), strict=True)
        )
        self._drain.read()
        if self._find_owners():
            # What splice alone has read of theirs so far: no hook showed it.
            self._drain.read()
        keys, values = self._flows.read()
        self._last_rows, self._last_ends = len(keys), len(ended)
        return Reading(keys, values, ended)

    def _find_owners(self) -> bool:
        """Looks for whom an unused connection belongs to, if there are some and it is time."""
        if self._owners is None or not int(self.object.variables["connections_unowned"]):
            self._unowned_rounds = 0
            return False
        self._unowned_rounds += 1
        # A walk over every open file: soon, then seldom, since some never get an owner
        # (connections that nobody has accepted).
        if self._unowned_rounds not in (1, 5) and self._unowned_rounds % 30:
            return False
        self._owners.read()
        return True

    def record(self, pid: int, start: int) -> Any | None:
        """Returns what the kernel kept of a process (`struct process`), None if nothing."""
        return self._processes.get((start, pid, 0))

    def settle(self, reading: Reading, settled: Settled) -> None:
        """Removes rows and names of processes that have ended."""
        if len(settled.rows):
            self._flows.delete(reading.keys[settled.rows])
        if settled.processes:
            keys = np.zeros(len(settled.processes), self._processes.key)
            keys["start"], keys["pid"] = zip(*settled.processes, strict=True)
            self._processes.delete(keys)
            self._exits.delete(keys)

    def losses(self) -> dict[str, int]:
        """Returns what could not be kept, by the names of `LOSSES`, since the start."""
        lost = {name: int(self.object.variables[name].sum()) for name in LOSSES}
        lost["runs_missed"] = sum(
            self._statistics(name).misses for name in self._counting if name not in TWICE
        )
        return lost

    @property
    def _counting(self) -> tuple[str, ...]:
        return (*self.hooks, *LIFE)

    def _statistics(self, name: str) -> ProgramStatistics:
        return self.object.programs[name].statistics()

    def program_seconds(self) -> dict[str, float]:
        """Returns the mean time of one run of each program, seconds; empty if not measured."""
        figures = {name: self._statistics(name) for name in self._counting}
        return {n: f.run_time_ns / f.runs / 1e9 for n, f in figures.items() if f.runs}

    def fill(self) -> dict[str, tuple[int, int]]:
        """Returns entries and capacity of each table, as of the last `read`."""
        maps = self.object.maps
        return {
            "flows": (self._last_rows, maps["flows"].max_entries),
            "exits": (self._last_ends, maps["exits"].max_entries),
        }

    def programs(self) -> dict[str, str]:
        """Returns why each program is not in the kernel, empty if it is."""
        return {
            name: ""
            if program.loaded
            else self.missing.get(name) or "not needed: this kernel has better hooks, or it is off"
            for name, program in self.object.programs.items()
        }

    def parts(self) -> dict[str, str]:
        """Returns what can be observed, each with why it is not here; empty if it is."""
        return {
            "network": "",
            "counters in the kernel": "",
            "datagram peers": self._why_no_datagram_peers(),
            "earlier connections": self._first_refusal(EARLIER),
        }

    def _why_no_datagram_peers(self) -> str:
        if not self._wants_datagram_peers:
            return "network.datagram_peers is off"
        if self._cgroup is None:
            return "cgroup version 2 is not mounted"
        return self._first_refusal(DATAGRAM_PEERS)

    def _first_refusal(self, programs: tuple[str, ...]) -> str:
        """Returns why the first of them that is missing is so, in one line; empty if none is."""
        refused = [name for name in programs if name in self.missing]
        if not refused:
            return ""
        return f"the kernel refuses {refused[0]}: {self.missing[refused[0]].partition(chr(10))[0]}"

    def memory(self) -> dict[str, int]:
        """Returns the bytes that the kernel keeps for each map."""
        return {name: found.memory() for name, found in self.object.maps.items()}

    def close(self) -> None:
        """Detaches everything."""
        self.object.close()
