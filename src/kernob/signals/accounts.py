"""Who has moved how much: rows of flows become totals of services and processes.

A source (the kernel's table, or polling) hands over a `Reading`: cumulative rows, one for each
process and peer. `Accounts` knows which service and which named peer each row belongs to, adds
rows up, and keeps the totals of rows whose process has ended, so a service's counters never go
back. New rows cost a little Python once; the others are numpy arrays all the way.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final, Protocol

import numpy as np

from kernob.telemetry.model import (
    OVERFLOW,
    Attributes,
    AttributeValue,
    Kind,
    Metric,
    Points,
    Series,
    attributes,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from numpy.typing import NDArray

    from kernob.identity.process import Process

DIRECTIONS: Final = ("transmit", "receive")
"""Values of `network.io.direction`, in the order of the kernel's enum direction."""
TRANSPORTS: Final = {6: "tcp", 17: "udp"}
SIDES: Final = {1: "client", 2: "server"}
MANY_CLIENTS: Final = "client"
"""`kernob.peer` of the peers of a serving port that are too many to name."""
MANY_PEERS: Final = "other"
"""`kernob.peer` of the peers that one process calls, beyond those that got a row of their own."""

PROCESS_IO: Final = Metric(
    "process.network.io",
    Kind.COUNTER,
    "By",
    "Bytes a process has moved over TCP and UDP, as its own calls returned them.",
)
SERVICE_IO: Final = Metric(
    "kernob.network.io",
    Kind.COUNTER,
    "By",
    "Bytes a service has moved over TCP and UDP, with each peer; outlives its processes.",
)
OPERATIONS: Final = Metric(
    "kernob.network.operations",
    Kind.COUNTER,
    "{operation}",
    "Calls of a service that moved data over TCP and UDP.",
)
CONNECTIONS: Final = Metric(
    "kernob.connections", Kind.UP_DOWN_COUNTER, "{connection}", "Open TCP connections of a service."
)

ProcessId = tuple[int, int]
"""Start time in nanoseconds since boot, and thread group id."""


@dataclass(frozen=True, slots=True)
class Reading:
    """What a source has seen so far.

    Attributes:
        keys: shape (n,), structured, all different: `start` and `pid` of the process, `address`
            (16 bytes, IPv4 mapped into IPv6) and `port` (of the serving side) of the peer,
            `transport` (IP protocol number), `side` (1 client, 2 server). The unspecified
            address stands for many peers, a key of zeros for rows that found no room.
        values: shape (n,), structured: `bytes` and `operations`, each (2,) by direction and
            cumulative; `connections` open now.
        ended: processes that had ended before the rows were read.

    """

    keys: NDArray[Any]
    values: NDArray[Any]
    ended: Collection[ProcessId]


@dataclass(frozen=True, slots=True)
class Peer:
    """One side of a conversation as a service sees it: what its series are told apart by."""

    service: str
    transport: str
    type: str
    peer: str
    port: int
    side: str

    def attributes(self) -> dict[str, AttributeValue]:
        """Returns the attributes that the three metrics of a service share."""
        return {
            "service.name": self.service,
            "network.transport": self.transport,
            "network.type": self.type,
            "kernob.peer": self.peer,
            "server.port": self.port,
            "kernob.side": self.side,
        }


@dataclass(frozen=True, slots=True)
class Settled:
    """What a source may remove, since it can't change any more.

    Attributes:
        rows: positions in the reading of rows that have been folded into their service.
        processes: those that have ended and left no row.

    """

    rows: NDArray[np.intp]
    processes: list[ProcessId]


class FlowSource(Protocol):
    """Where readings come from: the kernel's table, or polling."""

    mode: str
    """`ebpf` or `polling`."""
    description: str
    """In one line: how the figures are known, what they miss, what would lift that."""

    def read(self) -> Reading:
        """Returns all rows as they are now."""

    def record(self, pid: int, start: int) -> Any | None:
        """Returns what the kernel kept of a process (`struct process`), None if nothing."""

    def settle(self, reading: Reading, settled: Settled) -> None:
        """Removes what can't change any more."""

    def losses(self) -> dict[str, int]:
        """Returns what could not be counted, by reason, since the start."""

    def fill(self) -> dict[str, tuple[int, int]]:
        """Returns entries and capacity of each table."""

    def memory(self) -> dict[str, int]:
        """Returns the bytes that the kernel keeps for each table."""

    def program_seconds(self) -> dict[str, float]:
        """Returns the mean time of one run of each program in the kernel; empty if unknown."""

    def close(self) -> None:
        """Gives everything back."""


@dataclass(slots=True)
class _Owner:
    """A process with rows."""

    process: Process
    rows: dict[int, Peer]
    ended: bool = False


class _Totals:
    """Sums by group, in arrays that grow; a group is a number."""

    def __init__(self) -> None:
        self.bytes = np.zeros((64, 2), np.uint64)
        self.operations = np.zeros((64, 2), np.uint64)
        self.size = 0

    def add_group(self) -> int:
        if self.size == len(self.bytes):
            self.bytes = np.concatenate([self.bytes, np.zeros_like(self.bytes)])
            self.operations = np.concatenate([self.operations, np.zeros_like(self.operations)])
        self.size += 1
        return self.size - 1


class Accounts:
    """Adds rows up to services and processes.

    Args:
        identify: the process of an id; called once for each.
        name_peer: what to call an address (16 bytes), port (0: unknown) and transport (IP
            protocol number); called once for each row.
        serves: told of a transport and port of this host, and the service behind it.
        resource: attributes of this host, part of every series' resource.
        start: since when everything counts, nanoseconds since the Unix epoch.
        boot: when the host started, nanoseconds since the Unix epoch.
        peers_per_server: how many peers of one serving port get a name; the rest is `client`.

    """

    def __init__(
        self,
        *,
        identify: Callable[[int, int], Process],
        name_peer: Callable[[bytes, int, int], str],
        serves: Callable[[int, int, str], None],
        resource: dict[str, AttributeValue],
        start: int,
        boot: int,
        peers_per_server: int,
        conversations: int,
    ) -> None:
        self._identify = identify
        self._name_peer = name_peer
        self._serves = serves
        self._resource = resource
        self._start = start
        self._boot = boot
        self._peers_per_server = peers_per_server
        self._conversations = conversations

        self._index: dict[bytes, int] = {}
        self._free: list[int] = []
        self._bytes = np.zeros((64, 2), np.uint64)
        self._operations = np.zeros((64, 2), np.uint64)
        self._settled_bytes = np.zeros((64, 2), np.uint64)
        self._settled_operations = np.zeros((64, 2), np.uint64)
        self._connections = np.zeros(64, np.int64)
        self._group = np.zeros(64, np.intp)
        self._process_group = np.zeros(64, np.intp)
        self._live = np.zeros(64, np.bool_)
        self._last_ids: NDArray[Any] | None = None
        self._last_index = np.zeros(0, np.intp)

        self._owners: dict[ProcessId, _Owner] = {}
        self._groups: dict[Peer | None, int] = {}
        self._folded = _Totals()
        self._io_series: list[Series] = []
        self._connection_series: list[Series] = []
        self._shown = np.zeros(0, np.intp)
        self._shown_io: tuple[Series, ...] = ()
        self._shown_connections: tuple[Series, ...] = ()
        self._named: dict[tuple[str, str, int], set[str]] = {}
        self._process_groups: dict[tuple[ProcessId, str], int] = {}
        self._process_series: dict[int, tuple[Series, Series]] = {}
        self._free_process_groups: list[int] = []
        self._alive: NDArray[np.intp] | None = None
        self._alive_series: list[Series] = []

    # -- rows in -------------------------------------------------------------------------------

    def update(self, reading: Reading) -> Settled:
        """Takes a reading in; returns what the source may remove."""
        index = self._locate(reading)
        new = reading.values
        self._bytes[index] = np.maximum(self._bytes[index], new["bytes"])
        self._operations[index] = np.maximum(self._operations[index], new["operations"])
        self._connections[index] = new["connections"]
        return self._fold(reading, index)

    def _locate(self, reading: Reading) -> NDArray[np.intp]:
        """Returns the slot of each row; new rows get one."""
        keys = np.ascontiguousarray(reading.keys)
        ids = keys.view(f"V{keys.dtype.itemsize}")
        if self._last_ids is not None and np.array_equal(ids, self._last_ids):
            return self._last_index
        names: list[bytes] = ids.tolist()
        index = np.fromiter((self._index.get(i, -1) for i in names), np.intp, len(names))
        unknown = np.flatnonzero(index < 0)
        # Who serves comes first: a caller on this host is then told the service's name.
        for position in sorted(unknown, key=lambda p: -int(keys[p]["side"])):
            index[position] = self._admit(names[position], keys[position])
        self._last_ids, self._last_index = ids.copy(), index
        return index

    def _admit(self, name: bytes, key: Any) -> int:
        row = self._free.pop() if self._free else len(self._index)
        if row >= len(self._live):
            self._grow()
        self._index[name] = row
        self._live[row] = True
        owner = self._owner(int(key["start"]), int(key["pid"]))
        if owner is None:
            self._group[row] = self._group_of(None)
            self._process_group[row] = -1
            return row
        peer = owner.rows[row] = self._peer(owner.process, key)
        self._group[row] = self._group_of(peer)
        self._process_group[row] = self._process_group_of(owner, peer.transport)
        return row

    def _grow(self) -> None:
        for field in (
            *("_bytes", "_operations", "_settled_bytes", "_settled_operations"),
            *("_connections", "_group", "_process_group", "_live"),
        ):
            array = getattr(self, field)
            setattr(self, field, np.concatenate([array, np.zeros_like(array)]))

    def _owner(self, start: int, pid: int) -> _Owner | None:
        if not pid and not start:
            return None
        owner = self._owners.get((start, pid))
        if owner is None:
            owner = self._owners[start, pid] = _Owner(self._identify(pid, start), {})
        return owner

    def _peer(self, process: Process, key: Any) -> Peer:
        address = key["address"].tobytes()
        port, transport = int(key["port"]), int(key["transport"])
        side = SIDES[int(key["side"])]
        if side == "server":
            self._serves(transport, port, process.service)
        return Peer(
            service=process.service,
            transport=TRANSPORTS[transport],
            type="ipv4" if is_ipv4(address) else "ipv6",
            peer=self._peer_name(process.service, side, address, port, transport),
            port=port,
            side=side,
        )

    def _peer_name(self, service: str, side: str, address: bytes, port: int, transport: int) -> str:
        if is_unspecified(address):
            return MANY_CLIENTS if side == "server" else MANY_PEERS
        # The port is that of the serving side: it says nothing about who calls.
        name = self._name_peer(address, 0 if side == "server" else port, transport)
        if side == "server":
            named = self._named.setdefault((service, TRANSPORTS[transport], port), set())
            if name not in named and len(named) >= self._peers_per_server:
                return MANY_CLIENTS
            named.add(name)
        return name

    def _group_of(self, peer: Peer | None) -> int:
        if peer not in self._groups and peer is not None:
            peer = self._bounded(peer)
        group = self._groups.get(peer)
        if group is None:
            group = self._groups[peer] = self._folded.add_group()
            own = attributes(peer.attributes() if peer else dict(OVERFLOW))
            resource = self._resource_of(peer.service if peer else None)
            self._io_series += by_direction(resource, own, self._start)
            self._connection_series.append(Series(resource, own, self._start))
        return group

    def _bounded(self, peer: Peer) -> Peer | None:
        """Returns `peer`, or the coarser one that takes what is beyond the bound."""
        if len(self._groups) < self._conversations:
            return peer
        many = MANY_CLIENTS if peer.side == "server" else MANY_PEERS
        coarse = replace(peer, peer=many, port=0)
        known = coarse in self._groups or len(self._groups) < 2 * self._conversations
        return coarse if known else None

    def _resource_of(self, service: str | None) -> Attributes:
        own = {} if service is None else {"service.name": service}
        return attributes({**self._resource, **own})

    def _process_group_of(self, owner: _Owner, transport: str) -> int:
        process = owner.process
        key = ((process.start, process.pid), transport)
        group = self._process_groups.get(key)
        if group is None:
            taken = len(self._process_groups)
            group = self._free_process_groups.pop() if self._free_process_groups else taken
            self._process_groups[key] = group
            if not owner.ended:
                self._process_series[group] = self._series_of(process, transport)
                self._alive = None
        return group

    def _series_of(self, process: Process, transport: str) -> tuple[Series, Series]:
        """Returns the series of a process by direction."""
        own = attributes(
            {
                "process.pid": process.pid,
                "process.executable.name": process.executable,
                "service.name": process.service,
                "network.transport": transport,
            }
        )
        start = max(self._start, self._boot + process.start)
        return by_direction(self._resource_of(process.service), own, start)

    def rename(self, process: Process) -> None:
        """Takes in that a process runs another program or belongs elsewhere now.

        What it has moved so far stays its former service's, the rest is the new one's.
        """
        owner = self._owners.get((process.start, process.pid))
        if owner is None or owner.ended:
            return
        owner.process = process
        for row, peer in owner.rows.items():
            self._settle(row)
            owner.rows[row] = moved = replace(peer, service=process.service)
            self._group[row] = self._group_of(moved)
        for transport in TRANSPORTS.values():
            group = self._process_groups.get(((process.start, process.pid), transport))
            if group is not None:
                self._process_series[group] = self._series_of(process, transport)
                self._alive = None

    def _settle(self, row: int) -> None:
        """Adds to its service for good what a row has counted and the service has not."""
        group = self._group[row]
        self._folded.bytes[group] += self._bytes[row] - self._settled_bytes[row]
        self._folded.operations[group] += self._operations[row] - self._settled_operations[row]
        self._settled_bytes[row] = self._bytes[row]
        self._settled_operations[row] = self._operations[row]

    # -- rows out ------------------------------------------------------------------------------

    def _fold(self, reading: Reading, index: NDArray[np.intp]) -> Settled:
        """Folds the rows of processes that have ended and have no connection left."""
        for process in reading.ended:
            self._end(process)
        positions: dict[int, int] = {}
        final: list[int] = []
        gone = [process for process in reading.ended if process not in self._owners]
        for process, owner in [item for item in self._owners.items() if item[1].ended]:
            positions = positions or {int(row): p for p, row in enumerate(index)}
            for row in [r for r in owner.rows if self._connections[r] <= 0 and r in positions]:
                self._settle(row)
                self._release(owner, row)
                final.append(positions[row])
            if not owner.rows:
                self._forget(process)
                gone.append(process)
        if final:
            keys = np.ascontiguousarray(reading.keys[final])
            for name in keys.view(f"V{keys.dtype.itemsize}").tolist():
                del self._index[name]
            self._last_ids = None
        return Settled(np.array(final, np.intp), gone)

    def _end(self, process: ProcessId) -> None:
        owner = self._owners.get(process)
        if owner is None or owner.ended:
            return
        owner.ended = True
        for transport in TRANSPORTS.values():
            group = self._process_groups.get((process, transport))
            if group is not None:
                self._process_series.pop(group, None)
                self._alive = None

    def _release(self, owner: _Owner, row: int) -> None:
        del owner.rows[row]
        self._live[row] = False
        self._bytes[row] = self._operations[row] = 0
        self._settled_bytes[row] = self._settled_operations[row] = 0
        self._connections[row] = 0
        self._free.append(row)

    def _forget(self, process: ProcessId) -> None:
        del self._owners[process]
        for transport in TRANSPORTS.values():
            group = self._process_groups.pop((process, transport), None)
            if group is not None:
                self._free_process_groups.append(group)

    # -- what it adds up to ----------------------------------------------------------------------

    def points(self) -> tuple[Points, ...]:
        """Returns the four metrics of the network, as of the last update."""
        rows = np.flatnonzero(self._live)
        groups = self._group[rows]
        size = self._folded.size
        moved, operations = self._folded.bytes[:size].copy(), self._folded.operations[:size].copy()
        connections = np.zeros(size, np.int64)
        np.add.at(moved, groups, self._bytes[rows] - self._settled_bytes[rows])
        np.add.at(operations, groups, self._operations[rows] - self._settled_operations[rows])
        np.add.at(connections, groups, self._connections[rows])

        self._show(operations.any(axis=1) | moved.any(axis=1) | (connections != 0))
        both = (self._shown[:, None] * 2 + np.arange(2)).reshape(-1)

        owned = rows[self._process_group[rows] >= 0]
        of_process = np.zeros(
            (len(self._process_groups) + len(self._free_process_groups), 2), np.uint64
        )
        np.add.at(of_process, self._process_group[owned], self._bytes[owned])
        if self._alive is None:
            self._alive = np.fromiter(self._process_series, np.intp, len(self._process_series))
            self._alive_series = [s for pair in self._process_series.values() for s in pair]
        return (
            Points(PROCESS_IO, self._alive_series, of_process[self._alive].reshape(-1)),
            Points(SERVICE_IO, self._shown_io, moved.reshape(-1)[both]),
            # Polling can't see operations: then there are none, and not zeros.
            *(
                [Points(OPERATIONS, self._shown_io, operations.reshape(-1)[both])]
                if operations.any()
                else []
            ),
            Points(CONNECTIONS, self._shown_connections, connections[self._shown]),
        )

    def _show(self, used: NDArray[np.bool_]) -> None:
        """Adds groups to those that have points: from their first use on, for good."""
        new = np.setdiff1d(np.flatnonzero(used), self._shown)
        if len(new):
            self._shown = np.concatenate([self._shown, new])
            self._shown_io = tuple(
                self._io_series[2 * group + direction]
                for group in self._shown
                for direction in (0, 1)
            )
            self._shown_connections = tuple(self._connection_series[g] for g in self._shown)

    def table(self) -> list[FlowRow]:
        """Returns the rows of processes as of the last update, and what ended ones have left."""
        # What a row has settled is in its service's total already.
        moved = self._bytes - self._settled_bytes
        operations = (self._operations - self._settled_operations).sum(axis=1)
        rows = [
            FlowRow(
                process=owner.process,
                peer=peer,
                transmit=int(moved[row, 0]),
                receive=int(moved[row, 1]),
                operations=int(operations[row]),
                connections=int(self._connections[row]),
                ended=owner.ended,
            )
            for owner in self._owners.values()
            for row, peer in owner.rows.items()
            if moved[row].any() or operations[row] or self._connections[row]
        ]
        for peer, group in self._groups.items():
            transmit, receive = self._folded.bytes[group].tolist()
            if peer is not None and (transmit or receive):
                calls = int(self._folded.operations[group].sum())
                rows.append(FlowRow(None, peer, transmit, receive, calls, 0, ended=True))
        return rows


@dataclass(frozen=True, slots=True)
class FlowRow:
    """What one process has moved with one named peer; bytes and calls since the start.

    Without a process: all those of the service that have ended.
    """

    process: Process | None
    peer: Peer
    transmit: int
    receive: int
    operations: int
    connections: int
    ended: bool


def by_direction(resource: Attributes, own: Attributes, start: int) -> tuple[Series, Series]:
    """Returns the series that is told apart by direction from `own`, in the order of `DIRECTIONS`.

    They share their pairs of name and value, which are most of what a series takes.
    """
    first, second = (
        Series(resource, tuple(sorted((*own, ("network.io.direction", direction)))), start)
        for direction in DIRECTIONS
    )
    return first, second


def is_ipv4(address: bytes) -> bool:
    """Tells whether a 16-byte address is a mapped IPv4 one (RFC 4291, 2.5.5.2)."""
    return address[:12] == b"\0" * 10 + b"\xff\xff"


def is_unspecified(address: bytes) -> bool:
    """Tells whether a 16-byte address is `::` or the mapped `0.0.0.0`."""
    return not any(address[12:]) and (is_ipv4(address) or not any(address))
