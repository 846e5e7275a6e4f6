"""The network where eBPF can't be had: TCP's own counters of each socket, polled.

Needs no privileges. The same rows as `network` makes, from sock_diag and the links in
/proc/<pid>/fd, that of the network namespace this runs in.

Against eBPF:

- TCP only: sock_diag has no byte counters for UDP.
- A process is found by its open sockets. One that lives between two polls is not: its bytes are
  known all the same (a destroyed socket tells its last figures) and counted as
  `bytes_without_process`. With eBPF a process of 5 ms has its row.
- An ordinary user can't look into other users' processes: their sockets are without a process.
- A socket that several processes hold is one process's, until that one ends. With eBPF each has
  its share.
- A socket that is reset instead of closed may be one byte short, and with SO_LINGER lacks what
  moved since the last poll (see `sock_diag.application_bytes`).
- Operations are unknown: zero.
- Time resolves to the interval of polling.

The rest is exact: bytes are those that the application wrote and read, since the collector's
start, with what moved between the last poll and the close.

With 10,000 sockets a poll takes 25 ms, the search for their processes 80 ms more at the start
(Linux 6.18), and all of Python, numpy and this 42 MiB.
"""

# ruff: noqa: PTH115, PTH208 - over ten thousands of links, os takes half of pathlib's time

from __future__ import annotations

import logging
import os
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from kernob.errors import KernelError
from kernob.kernel import sock_diag
from kernob.signals.flows import ProcessId, Reading, Settled, is_ipv4, is_unspecified

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from kernob.config import Network

log = logging.getLogger(__name__)

KEY: Final = np.dtype(
    [
        ("start", np.uint64),
        ("address", np.uint8, (16,)),
        ("pid", np.uint32),
        ("port", np.uint16),
        ("transport", np.uint8),
        ("side", np.uint8),
    ]
)
VALUE: Final = np.dtype(
    [("bytes", np.uint64, (2,)), ("operations", np.uint64, (2,)), ("connections", np.int64)]
)
TRACKED: Final = np.dtype(
    [
        *((name, sock_diag.SOCKET[name]) for name in sock_diag.SOCKET.names or ()),
        ("counted", np.int64, (2,)),  # of `bytes`, what is in the row already
        ("row", np.intp),
        ("walk", np.int64),  # the walk over open files that will tell whose it is
        ("missing", np.int64),  # for how many polls the kernel has not shown it
    ]
)
"""A socket, from its first poll until its last figures are known."""

CLIENT: Final = 1
SERVER: Final = 2
TCP: Final = 6

PENDING: Final = -1
"""The row of a socket whose process is not known yet."""
NOBODY: Final = 0
"""The row of what has no process: only in `losses`."""
CROWD: Final = 1
"""The row of what the table has no room for: its key is zeros."""

PATIENCE: Final = 30
"""For how many polls the last figures of a socket that is gone are waited for."""
FIRST_SEARCH: Final = 1.0
"""Seconds for finding the processes of the sockets that are there at the start."""
SEARCH: Final = 0.05
"""Seconds a poll for finding those of new ones; what is not found goes on in the next."""

TICK: Final = 1_000_000_000 // os.sysconf("SC_CLK_TCK")


class PolledFlows:
    """Flows by polling: a `FlowSource`.

    Args:
        settings: sizes and limits.
        refusal: why nothing is counted in the kernel instead.

    Raises:
        KernelError: sock_diag can't be had here.
    """

    mode = "polling"

    def __init__(self, settings: Network, refusal: str = "polling was asked for") -> None:
        self._settings = settings
        self._keys = np.zeros(settings.flows + 2, KEY)
        self._values = np.zeros(settings.flows + 2, VALUE)
        self._index = {bytes(KEY.itemsize): CROWD}
        self._free: list[int] = []
        self._peers: Counter[bytes] = Counter()
        self._processes: dict[int, int] = {}
        self._ended: set[ProcessId] = set()
        self._listening = self._served = np.zeros(1 << 16, np.bool_)
        self._walk: Iterator[tuple[int, ProcessId]] | None = None
        self._walks_begun = self._walks_done = 0
        self._lost: Counter[str] = Counter()
        self._refusal = refusal
        self._blind_spots = blind_spots()
        self.description = describe(self._blind_spots)

        self._sockets = np.zeros(0, TRACKED)
        self._destroyed = _open_destroyed()
        self._take(sock_diag.tcp_sockets())
        self._sockets["counted"] = self._sockets["bytes"]
        self._find_processes(FIRST_SEARCH)

    def read(self) -> Reading:
        """Polls once and returns all rows as they are now."""
        try:
            # First the ends: whoever has ended by now adds nothing to the sockets seen below.
            self._note_ends()
            seen = sock_diag.tcp_sockets()
            # Destroyed after they were seen: in both, and the last figures count.
            final, overruns = self._destroyed.read() if self._destroyed else (seen[:0], 0)
        except (KernelError, OSError) as exc:  # out of files or memory: the next may do
            self._lost["polls_failed"] += 1
            log.warning("a poll failed: %s", exc)
            return self._reading()
        self._lost["destroyed_overruns"] += overruns
        self._take(seen)
        self._finish(final)
        self._inherit()
        self._find_processes(SEARCH)
        self._count(self._sockets)
        return self._reading()

    # -- sockets -------------------------------------------------------------------------------

    def _take(self, seen: NDArray[Any]) -> None:
        """Makes `seen` the sockets there are; keeps what is known of them."""
        listens = seen["state"] == sock_diag.LISTEN
        listening = np.zeros_like(self._listening)
        listening[seen["local"][listens]] = True
        # A listener may be gone since it accepted what is new now.
        self._served = listening | self._listening
        self._listening = listening
        seen = seen[~listens]
        _, first = np.unique(seen["cookie"], return_index=True)
        seen = seen[first]

        before = self._sockets
        now = np.zeros(len(seen), TRACKED)
        for name in sock_diag.SOCKET.names or ():
            now[name] = seen[name]
        now["row"] = PENDING
        at, known = _positions(before, seen)
        for name in ("counted", "row", "walk"):
            now[name][known] = before[name][at]
        now["bytes"][known] = np.maximum(now["bytes"][known], before["bytes"][at])

        gone = np.delete(before, at)
        gone["missing"] += 1
        given_up = gone["missing"] > (PATIENCE if self._destroyed else 0)
        self._lost["tails_unknown"] += int(given_up.sum())
        self._retire(gone[given_up])
        both = np.concatenate([now, gone[~given_up]])
        self._sockets = both[np.argsort(both["cookie"])]

    def _finish(self, final: NDArray[Any]) -> None:
        """Takes the last figures of sockets in, and forgets the sockets."""
        at, known = _positions(self._sockets, final)
        tracked = self._sockets[at]
        cleared = tracked["bytes"].any(axis=1) & ~final["bytes"][known].any(axis=1)
        self._lost["tails_unknown"] += int(cleared.sum())
        tracked["bytes"] = np.maximum(tracked["bytes"], final["bytes"][known])
        self._retire(tracked)
        self._sockets = np.delete(self._sockets, at)

        never_seen = final[~known & final["bytes"].any(axis=1)]
        short_lived = np.zeros(len(never_seen), TRACKED)
        short_lived["bytes"] = never_seen["bytes"]
        short_lived["row"] = PENDING
        self._retire(short_lived)

    def _retire(self, sockets: NDArray[Any]) -> None:
        """Counts sockets for the last time."""
        pending = sockets["row"] == PENDING
        self._lost["sockets_without_process"] += int(pending.sum())
        sockets["row"][pending] = NOBODY
        self._count(sockets)

    def _count(self, sockets: NDArray[Any]) -> None:
        """Adds what sockets with a row have moved since they were last counted."""
        owned = np.flatnonzero(sockets["row"] != PENDING)
        moved = sockets["bytes"][owned] - sockets["counted"][owned]
        np.add.at(self._values["bytes"], sockets["row"][owned], moved.astype(np.uint64))
        sockets["counted"][owned] = sockets["bytes"][owned]

    # -- processes -----------------------------------------------------------------------------

    def _note_ends(self) -> None:
        alive = set(os.listdir("/proc"))
        for pid, start in list(self._processes.items()):
            if str(pid) not in alive:
                self._end(pid, start)

    def _end(self, pid: int, start: int) -> None:
        del self._processes[pid]
        self._ended.add((start, pid))

    def _rows_of(self, processes: set[ProcessId]) -> NDArray[np.intp]:
        rows = self._used()
        rows = rows[np.isin(self._keys["pid"][rows], [pid for _, pid in processes])]
        return np.array([r for r in rows if _process(self._keys[r]) in processes], np.intp)

    def _inherit(self) -> None:
        """Looks anew for who has the sockets that ended processes have left to others."""
        if not self._ended:
            return
        left = np.isin(self._sockets["row"], self._rows_of(self._ended))
        left &= (self._sockets["inode"] != 0) & (self._sockets["missing"] == 0)
        self._count(self._sockets)
        self._sockets["row"][left] = PENDING
        self._sockets["walk"][left] = 0

    def _find_processes(self, seconds: float) -> None:
        """Finds whose the pending sockets are."""
        sockets = self._sockets
        pending = (sockets["row"] == PENDING) & (sockets["inode"] != 0) & (sockets["missing"] == 0)
        wanted = np.flatnonzero(pending)
        if not len(wanted):
            return
        # A walk in progress may be past the place already: only the next one tells for sure.
        new = wanted[sockets["walk"][wanted] == 0]
        sockets["walk"][new] = self._walks_begun + 1
        found = self._search(
            set(sockets["inode"][wanted].tolist()), int(sockets["walk"][wanted].max()), seconds
        )
        for at in wanted:
            process = found.get(int(sockets["inode"][at]))
            if process is not None:
                sockets["row"][at] = self._row(process, sockets[at])
            elif sockets["walk"][at] <= self._walks_done:
                sockets["row"][at] = NOBODY
                self._lost["sockets_without_process"] += 1

    def _search(self, wanted: set[int], last_walk: int, seconds: float) -> dict[int, ProcessId]:
        """Returns the processes of the inodes in `wanted`, as far as found in `seconds`."""
        found: dict[int, ProcessId] = {}
        deadline = time.monotonic() + seconds
        while self._walks_done < last_walk:
            if self._walk is None:
                self._walk = walk_files(list(self._processes))
                self._walks_begun += 1
            for inode, process in self._walk:
                if inode in wanted:
                    found.setdefault(inode, process)
                if len(found) == len(wanted):
                    self._walk = None  # the next one begins with those that had sockets before
                    return found
                if time.monotonic() > deadline:
                    return found
            self._walk = None
            self._walks_done = self._walks_begun
        return found

    # -- rows ----------------------------------------------------------------------------------

    def _used(self) -> NDArray[np.intp]:
        return np.fromiter(self._index.values(), np.intp, len(self._index))

    def _row(self, process: ProcessId, connection: Any) -> int:
        """Returns the row of a process's connection; a new one gets one, if there is room."""
        start, pid = process
        serves = bool(self._served[connection["local"]])
        key = np.zeros((), KEY)
        key["start"], key["pid"], key["transport"] = start, pid, TCP
        key["side"] = SERVER if serves else CLIENT
        key["port"] = connection["local"] if serves else connection["peer"]
        limit = self._settings.peers_per_server if serves else self._settings.peers_per_client
        key["address"] = connection["address"]
        if key.tobytes() not in self._index and self._peers[_group(key)] >= limit:
            _stand_for_many(key)
        row = self._index.get(key.tobytes())
        return self._add_row(key) if row is None else row

    def _add_row(self, key: Any) -> int:
        if len(self._index) > self._settings.flows:
            self._lost["flows_overflowed"] += 1
            return CROWD
        row = self._free.pop() if self._free else len(self._index) + CROWD
        start, pid = _process(key)
        if self._processes.get(pid, start) != start:
            self._end(pid, self._processes[pid])
        self._processes[pid] = start
        self._index[key.tobytes()] = row
        self._keys[row] = key
        if not is_unspecified(key["address"].tobytes()):
            self._peers[_group(key)] += 1
        return row

    def _remove_row(self, key: Any) -> int:
        row = self._index.pop(key.tobytes())
        self._keys[row] = np.zeros((), KEY)
        self._values[row] = np.zeros((), VALUE)
        self._free.append(row)
        if not is_unspecified(key["address"].tobytes()):
            self._peers[_group(key)] -= 1
            if not self._peers[_group(key)]:
                del self._peers[_group(key)]
        return row

    def _reading(self) -> Reading:
        sockets = self._sockets
        open_now = sockets["row"][(sockets["missing"] == 0) & (sockets["row"] != PENDING)]
        self._values["connections"] = np.bincount(open_now, minlength=len(self._values))
        rows = self._used()
        # An end waits for the last figures: Accounts would fold the rows before they come.
        waiting = np.unique(sockets["row"][sockets["missing"] > 0])
        unfinished = {_process(self._keys[row]) for row in waiting if row > CROWD}
        return Reading(self._keys[rows], self._values[rows], self._ended - unfinished)

    def record(self, pid: int, start: int) -> None:  # noqa: ARG002
        """Returns None: the kernel keeps nothing here, only /proc tells of a process."""
        return

    def settle(self, reading: Reading, settled: Settled) -> None:
        """Removes rows and names of processes that have ended."""
        removed = [self._remove_row(key) for key in reading.keys[settled.rows]]
        late = np.isin(self._sockets["row"], removed)
        self._lost["sockets_without_process"] += int(late.sum())
        self._sockets["row"][late] = NOBODY
        self._ended.difference_update(settled.processes)

    def losses(self) -> dict[str, int]:
        """Returns what could not be counted, by reason, since the start.

        `bytes_without_process` and `sockets_without_process`: of processes that could not be
        found, or may not be looked into. `tails_unknown`: sockets that moved an unknown number
        of bytes between the last poll and their close. `destroyed_overruns`: how often such last
        figures did not fit the queue. `flows_overflowed`: connections that the table of flows
        had no room for. `polls_failed`.
        """
        reasons = (
            "sockets_without_process",
            "tails_unknown",
            "destroyed_overruns",
            "flows_overflowed",
            "polls_failed",
        )
        return {
            "bytes_without_process": int(self._values["bytes"][NOBODY].sum()),
            **{reason: self._lost[reason] for reason in reasons},
        }

    def parts(self) -> dict[str, str]:
        """Returns what can be observed, each with why it is not here; empty if it is."""
        off = ("UDP", "operations", "what lives between two polls", *self._blind_spots)
        return {
            "network": "",
            "counters in the kernel": self._refusal.partition("\n")[0],
            **dict.fromkeys(off, "polling can't see it; counters in the kernel do"),
        }

    def fill(self) -> dict[str, tuple[int, int]]:
        """Returns entries and capacity of the table of flows."""
        return {"flows": (len(self._index) - 1, self._settings.flows)}

    def memory(self) -> dict[str, int]:
        """Returns nothing: there are no tables in the kernel."""
        return {}

    def program_seconds(self) -> dict[str, float]:
        """Returns nothing: there are no programs in the kernel."""
        return {}

    def close(self) -> None:
        """Closes the netlink socket."""
        if self._destroyed:
            self._destroyed.close()


def _open_destroyed() -> sock_diag.Destroyed | None:
    try:
        return sock_diag.Destroyed()
    except KernelError as exc:
        log.info("what a socket moves between the last poll and its close is lost: %s", exc)
        return None


def _positions(
    table: NDArray[Any], sockets: NDArray[Any]
) -> tuple[NDArray[np.intp], NDArray[np.bool_]]:
    """Returns where in `table`, ordered by cookie, those of `sockets` are that it has.

    And which of them these are, shape (len(sockets),).
    """
    at = np.searchsorted(table["cookie"], sockets["cookie"])
    known = at < len(table)
    known[known] = table["cookie"][at[known]] == sockets["cookie"][known]
    return at[known], known


def _process(key: Any) -> ProcessId:
    return int(key["start"]), int(key["pid"])


def _group(key: Any) -> bytes:
    """Returns what the limit of peers is for: one port that a process serves, or all it calls."""
    port = int(key["port"]) if key["side"] == SERVER else 0
    return repr((*_process(key), port, int(key["side"]))).encode()


def _stand_for_many(key: Any) -> None:
    address = key["address"].tobytes()
    many = address[:12] + bytes(4) if is_ipv4(address) else bytes(16)
    key["address"] = np.frombuffer(many, np.uint8)
    if key["side"] == CLIENT:
        key["port"] = 0


def start_of(pid: int | str) -> int:
    """Returns when a process started, in nanoseconds since boot, in whole clock ticks (10 ms).

    Raises:
        OSError: there is no such process, or it is not shown.
    """
    stat = Path(f"/proc/{pid}/stat").read_bytes()
    # proc_pid_stat(5): field 22. The second is the name, which may hold spaces and brackets.
    return int(stat[stat.rindex(b")") + 2 :].split()[19]) * TICK


def walk_files(first: list[int]) -> Iterator[tuple[int, ProcessId]]:
    """Yields each open file's inode, 0 if it is not a socket, and whose it is.

    The processes in `first` come first. What may not be looked into is passed over.
    """
    others = [int(name) for name in os.listdir("/proc") if name.isdigit()]
    for pid in [*first, *sorted(set(others).difference(first))]:
        try:
            process = start_of(pid), pid
            names = os.listdir(f"/proc/{pid}/fd")
        except OSError:  # gone meanwhile, or another user's
            yield 0, (0, 0)
            continue
        for name in names:
            try:
                target = os.readlink(f"/proc/{pid}/fd/{name}")
            except OSError:  # closed meanwhile
                continue
            is_socket = target.startswith("socket:[")
            yield int(target[8:-1]) if is_socket else 0, process


def blind_spots() -> list[str]:
    """Returns which of what is on this host polling can't see, in words."""
    spots = {}
    own = os.readlink("/proc/self/ns/net")
    for name in os.listdir("/proc"):
        if not name.isdigit():
            continue
        try:
            os.listdir(f"/proc/{name}/fd")
            if os.readlink(f"/proc/{name}/ns/net") != own:
                spots["other network namespaces"] = True
        except PermissionError:
            spots["processes that this user may not look into"] = True
        except OSError:  # gone meanwhile
            continue
    return sorted(spots)


def describe(spots: list[str]) -> str:
    """Returns in one line what polling misses and what would lift that."""
    missed = ", ".join(["UDP", "processes and sockets that live between two polls", *spots])
    return (
        f"polled from sock_diag: exact for TCP sockets it sees; missed: {missed}; "
        "run as root on a kernel with BTF to count in the kernel (kernob doctor says what lacks)"
    )
