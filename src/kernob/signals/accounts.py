"""Who has moved how much: rows of flows become totals of services and processes.

A source (`flows.FlowSource`) hands over a `Reading`. `Accounts` knows which service and which named
peer each row belongs to, adds rows up, and keeps the totals of rows whose process has ended, so a
service's counters never go back. New rows cost a little Python once; the others are numpy arrays
all the way.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from kernob.signals.flows import ProcessId, Reading, Settled, is_ipv4, is_unspecified
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
    from collections.abc import Callable

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
    "Bytes a process has moved over TCP and UDP with each peer, as its own calls returned them.",
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


@dataclass(slots=True)
class _Owner:
    """A process with rows, and its groups by transport and peer."""

    process: Process
    rows: dict[int, Peer] = field(default_factory=dict)
    groups: dict[tuple[str, str], int] = field(default_factory=dict)
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
        resource: of the agent, that of every series.
        start: since when everything counts, nanoseconds since the Unix epoch.
        boot: when the host started, nanoseconds since the Unix epoch.
        peers_per_server: how many peers of one serving port get a name; the rest is `client`.
        conversations: of services with a peer that are told apart; a quarter as many of processes.

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
        self._resource = attributes(resource)
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
        self._process_groups = 0
        self._process_series: dict[int, tuple[Series, Series]] = {}
        self._process_used = np.zeros(64, np.bool_)
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
        self._process_group[row] = self._process_group_of(owner, peer)
        return row

    def _grow(self) -> None:
        for name in (
            *("_bytes", "_operations", "_settled_bytes", "_settled_operations"),
            *("_connections", "_group", "_process_group", "_live"),
        ):
            array = getattr(self, name)
            setattr(self, name, np.concatenate([array, np.zeros_like(array)]))

    def _owner(self, start: int, pid: int) -> _Owner | None:
        if not pid and not start:
            return None
        owner = self._owners.get((start, pid))
        if owner is None:
            owner = self._owners[start, pid] = _Owner(self._identify(pid, start))
        return owner

    def _peer(self, process: Process, key: Any) -> Peer:
        address = key["address"].tobytes()
        port, transport = int(key["port"]), int(key["transport"])
        side = SIDES[int(key["side"])]
        # A connection that was reset before it was used has no port any more.
        if side == "server" and port:
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
            self._io_series += by_direction(self._resource, own, self._start)
            self._connection_series.append(Series(self._resource, own, self._start))
        return group

    def _bounded(self, peer: Peer) -> Peer | None:
        """Returns `peer`, or the coarser one that takes what is beyond the bound."""
        if len(self._groups) < self._conversations:
            return peer
        many = MANY_CLIENTS if peer.side == "server" else MANY_PEERS
        coarse = replace(peer, peer=many, port=0)
        known = coarse in self._groups or len(self._groups) < 2 * self._conversations
        return coarse if known else None

    def _process_group_of(self, owner: _Owner, peer: Peer) -> int:
        key = peer.transport, peer.peer
        group = owner.groups.get(key)
        if group is None and len(self._process_series) >= self._conversations // 4:
            # Half of the limit (a group is two series) tells peers apart, the rest processes.
            key = peer.transport, MANY_CLIENTS if peer.side == "server" else MANY_PEERS
            group = owner.groups.get(key)
        if group is None:
            if self._free_process_groups:
                group = self._free_process_groups.pop()
            else:
                group = self._process_groups
                self._process_groups += 1
                if group >= len(self._process_used):
                    self._process_used = np.concatenate([self._process_used] * 2)
                self._process_used[group] = False
            owner.groups[key] = group
            if not owner.ended:
                self._show_process(owner, key)
        return group

    def _show_process(self, owner: _Owner, key: tuple[str, str]) -> None:
        """Makes the series, by direction, of a process with one peer."""
        process = owner.process
        transport, peer = key
        own = attributes(
            {
                "process.pid": process.pid,
                "process.executable.name": process.executable,
                "service.name": process.service,
                "network.transport": transport,
                "kernob.peer": peer,
            }
        )
        start = max(self._start, self._boot + process.start)
        self._process_series[owner.groups[key]] = by_direction(self._resource, own, start)
        self._alive = None

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
        for key in owner.groups:
            self._show_process(owner, key)

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
        for group in owner.groups.values():
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
        groups = list(self._owners.pop(process).groups.values())
        self._process_used[groups] = False
        self._free_process_groups += groups

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

        return (
            self._process_points(rows),
            Points(SERVICE_IO, self._shown_io, moved.reshape(-1)[both]),
            # Polling can't see operations: then there are none, and not zeros.
            *(
                [Points(OPERATIONS, self._shown_io, operations.reshape(-1)[both])]
                if operations.any()
                else []
            ),
            Points(CONNECTIONS, self._shown_connections, connections[self._shown]),
        )

    def _process_points(self, rows: NDArray[np.intp]) -> Points:
        owned = rows[self._process_group[rows] >= 0]
        moved = np.zeros((self._process_groups, 2), np.uint64)
        np.add.at(moved, self._process_group[owned], self._bytes[owned])
        used = np.asarray(moved.any(axis=1))
        if self._alive is None or (used & ~self._process_used[: len(used)]).any():
            self._process_used[: len(used)] |= used
            shown = [group for group in self._process_series if self._process_used[group]]
            self._alive = np.array(shown, np.intp)
            self._alive_series = [s for group in shown for s in self._process_series[group]]
        return Points(PROCESS_IO, self._alive_series, moved[self._alive].reshape(-1))

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
