"""Requests: who asked whom for what, how it went and how long it took, counted in the kernel.

The twin of `bpf/requests.bpf.c`. Its programs are called by those that count bytes (`network`), so
they come and go with them. A row of the kernel's table is one operation with one status, of one
process with one peer; the rows lie in memory that is mapped here, so to look at them costs no
system call, and only rows in which something happened since the last time are looked at.

Exact: every request whose bytes passed a call that can be read. What could not be read or paired is
counted by reason: `UNSEEN`, `UNPAIRED`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from kernob.errors import KernelError
from kernob.kernel import objects

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from numpy.typing import NDArray

    from kernob.config import Requests
    from kernob.kernel.maps import Map
    from kernob.kernel.statistics import ProgramStatistics
    from kernob.signals.flows import ProcessId
    from kernob.signals.network import KernelFlows

PROTOCOLS: Final = ("", "http", "redis", "postgresql", "mysql", "memcached", "dns")
"""`network.protocol.name` by the number in enum protocol (unit.h); the first is none yet."""
UNPAIRED: Final = ("before", "no_request", "closed", "skipped", "lost", "full")
"""`reason` by the number in enum unpaired (engine.h)."""
UNSEEN: Final = (
    "",
    *("call", "sendfile", "io_uring", "fault", "busy", "memory"),
    *("units", "encrypted", "compressed", "other"),
)
"""`reason` by the number in enum unseen (unit.h)."""
LOSSES: Final = {
    "operations_overflowed": "requests whose operation had no row left in its process",
    "series_overflowed": "requests that the table of series had no row for",
    "operations_dropped": "texts of operations that the ring had no room for",
    "talks_dropped": "connections that got no storage for their requests",
    "samples_dropped": "single requests that the ring had no room for",
}
BUCKETS: Final = 256
FIRST_DURATION: Final = -160
"""Number of the first bucket of durations, at scale 3: it ends at 2**(-159/8) seconds."""
FIRST_SIZE: Final = -1
"""Number of the first bucket of sizes, at scale 3."""

_SHARED: Final = (
    *("connections", "flows", "processes", "exits", "process_scratch", "datagrams"),
    *("send_chain", "receive_chain", "page_chain"),
)
_START: Final = 0
_DATAGRAM: Final = len(PROTOCOLS)
_SWEEP: Final = "sweep"
"""The iterator that counts requests which nobody answers, and forgets them."""
_CHAINS: Final = {
    "send_length": "send_chain",
    "receive_length": "receive_chain",
    "inet_send": "send_chain",
    "inet_receive": "receive_chain",
    "inet_send_page": "page_chain",
}
"""The chain that a program is in, by the hook that its name ends with."""
_ALONE: Final = ("destroy",)
"""Programs with a hook of their own, by the end of their names."""


@dataclass(frozen=True, slots=True)
class Text:
    """What a fingerprint stands for: an operation, or a database's name.

    Attributes:
        namespace: it is a name of a database.
        text: literals are run together in the kernel; none of them is in it.
    """

    fingerprint: int
    protocol: int
    namespace: bool
    text: str


@dataclass(frozen=True, slots=True)
class SeriesReading:
    """What has changed since the last reading.

    Attributes:
        texts: that are new.
        keys: shape (n,), `struct series_key`: rows that are new.
        numbers: shape (n,): their numbers.
        changed: numbers of rows in which something was counted; row 0 is that of the overflow.
        rows: shape (capacity,), `struct series`, by number: live memory, whose counters only grow;
            `buckets` modulo 2**32.
    """

    texts: list[Text]
    keys: NDArray[Any]
    numbers: NDArray[np.uint32]
    changed: NDArray[np.intp]
    rows: NDArray[Any]


class KernelRequests:
    """The kernel's table of series of requests.

    Args:
        flows: the byte counters, whose programs call these; made with `requests=True`.
        settings: sizes and limits.

    Attributes:
        missing: programs that this kernel refused, with its reason; the rest works.
        object: the programs and maps.

    Raises:
        KernelError: the kernel can't load the least that is needed; the message says why.
    """

    def __init__(self, flows: KernelFlows, settings: Requests) -> None:
        self._flows = flows
        self._chained: list[tuple[Map, int]] = []
        self.object = objects.read("requests")
        try:
            self._load(settings)
            self._attach()
        except BaseException:
            self.object.close()
            raise

    def _load(self, settings: Requests) -> None:
        requests, network = self.object, self._flows.object
        requests.set_constants(
            series_per_process=settings.series_per_process,
            samples_per_second=settings.samples_per_second,
        )
        for name in ("series", "series_index", "series_free"):
            requests.maps[name].resize(settings.series)
        for name in _SHARED:
            if name in requests.maps:
                requests.share(network.maps[name])
        self._hooks = [hook for hook in _CHAINS if hook in self._flows.hooks]
        wanted = [f"_{hook}" for hook in (*self._hooks, *_ALONE)]
        requests.disable(
            *(name for name in requests.programs if not any(map(name.endswith, (*wanted, _SWEEP))))
        )
        requests.load()
        self.missing: Mapping[str, str] = requests.failures
        for hook in self._hooks:
            name = f"start_{hook}"
            if name in self.missing:
                reason = self.missing[name].splitlines()[0]
                raise KernelError(f"this kernel refuses the program {name}: {reason}")

    def _attach(self) -> None:
        maps, programs = self.object.maps, self.object.programs
        self._index = maps["series_index"].table()
        self._made = maps["series_made"].table()
        self._rows = maps["series"].mapped()
        self._known = np.zeros(len(self._rows), np.bool_)
        self._known[0] = True
        # Only these rows are touched: the others' pages stay out of this process.
        self._numbers = np.zeros(1, np.intp)
        self._sums = np.zeros(len(self._rows), np.uint64)
        self._taken = 0
        self._ring = maps["operations"].ring("operation")
        self._samples = maps["samples"].ring("sample")
        maps["series_free"].push(np.arange(1, len(self._rows), dtype=np.uint32))
        for name, program in programs.items():
            if program.loaded and name.endswith(_ALONE):
                program.attach()
        self._sweeps = (
            [programs[_SWEEP].attach_iterator(maps["awaited"])] if programs[_SWEEP].loaded else []
        )
        chains = self._flows.object.maps
        # The first program last: until it is there, nothing is looked at.
        for number, part in (
            *enumerate(PROTOCOLS[1:], 1),
            (_DATAGRAM, "datagram"),
            (_START, "start"),
        ):
            for hook in self._hooks:
                found = programs.get(f"{part}_{hook}")
                if found is not None and found.loaded:
                    chains[_CHAINS[hook]].chain(number, found)
                    self._chained.append((chains[_CHAINS[hook]], number))

    def read(self) -> SeriesReading:
        """Returns what has changed since the last call.

        Raises:
            KernelError: a map can't be read.
        """
        for sweep in self._sweeps:
            sweep.read()
        # Rows first, texts last: a row's text went up before it was counted in.
        keys, numbers = self._new_rows()
        sums = self._rows["sum"][self._numbers]
        changed = self._numbers[sums != self._sums[self._numbers]]
        self._sums[self._numbers] = sums
        return SeriesReading(self._texts(), keys, numbers, changed, self._rows)

    def _new_rows(self) -> tuple[NDArray[Any], NDArray[np.uint32]]:
        """Returns keys and numbers of the rows that have been made since the last call."""
        taken = int(self.object.variables["series_taken"])
        if taken == self._taken:
            return np.zeros(0, self._index.key), np.zeros(0, np.uint32)
        self._taken = taken
        keys, numbers = self._index.read()
        new = ~self._known[numbers]
        keys, numbers = keys[new].copy(), numbers[new].copy()
        self._know(numbers, known=True)
        return keys, numbers

    def _know(self, numbers: NDArray[np.uint32], *, known: bool) -> None:
        self._known[numbers] = known
        self._numbers = np.flatnonzero(self._known)

    def _texts(self) -> list[Text]:
        return [
            Text(
                fingerprint=int(record["fingerprint"]),
                protocol=int(record["protocol"]),
                namespace=bool(record["kind"]),
                text=bytes(record["text"][: int(record["length"])]).decode("utf-8", "replace"),
            )
            for record in self._ring.read()
        ]

    def samples(self) -> NDArray[Any]:
        """Returns the samples since the last call, `(n,)` of `struct sample`, the caller's own.

        Times are of the monotonic clock, in nanoseconds; `key` is that of a row, `reason` 1 for
        failed ones, 2 for the slowest of their row in this window, 3 for one a second.
        """
        return self._samples.read()

    def open_window(self) -> None:
        """Begins a new window of samples: the slowest of each row so far are forgotten."""
        self._rows["slowest"][self._numbers] = 0

    def release(self, processes: Collection[ProcessId]) -> NDArray[np.uint32]:
        """Removes the rows of processes that have ended and left no connection.

        Returns their numbers, which may come back with other keys.

        Raises:
            KernelError: a map can't be read or written.
        """
        if not processes or len(self._numbers) == 1:
            return np.zeros(0, np.uint32)
        keys, numbers = self._index.read()
        starts = np.array([start for start, _ in processes], np.uint64)
        gone = np.isin(keys["start"], starts)
        keys, numbers = keys[gone].copy(), numbers[gone].copy()
        self._index.delete(keys)
        self._made.delete(starts)
        self._rows[numbers] = np.zeros((), self._rows.dtype)
        self._sums[numbers] = 0
        self._know(numbers, known=False)
        self.object.maps["series_free"].push(numbers)
        return numbers

    def unpaired(self) -> dict[tuple[str, str], int]:
        """Returns requests and answers without their other half, by protocol and reason."""
        return self._by_reason("unpaired", UNPAIRED)

    def unseen(self) -> dict[tuple[str, str], int]:
        """Returns calls whose bytes could not be read, by protocol and reason."""
        return self._by_reason("unseen", UNSEEN)

    def _by_reason(self, name: str, reasons: tuple[str, ...]) -> dict[tuple[str, str], int]:
        counts = self.object.variables[name]
        return {
            (PROTOCOLS[protocol], reasons[reason]): int(counts[protocol, reason])
            for protocol, reason in zip(*np.nonzero(counts), strict=True)
        }

    def repeated(self) -> dict[str, int]:
        """Returns requests that were sent again before there was an answer, by protocol.

        Each is counted once among the requests, from when it was sent first.
        """
        counts = self.object.variables["repeated"]
        return {PROTOCOLS[number]: int(counts[number]) for number in np.flatnonzero(counts)}

    def losses(self) -> dict[str, int]:
        """Returns what could not be kept, by the names of `LOSSES`, since the start."""
        return {name: int(self.object.variables[name]) for name in LOSSES}

    def parts(self) -> dict[str, str]:
        """Returns each protocol with why it is not seen here; empty if it is."""
        return {
            f"requests: {name}": self._why_not(name)
            for name in PROTOCOLS[1:]
            if any(f"{name}_{hook}" in self.object.programs for hook in self._hooks)
        }

    def _why_not(self, protocol: str) -> str:
        for hook in self._hooks:
            reason = self.missing.get(f"{protocol}_{hook}", "")
            if reason:
                return f"the kernel refuses {protocol}_{hook}: {reason.splitlines()[0]}"
        return ""

    def fill(self) -> dict[str, tuple[int, int]]:
        """Returns entries and capacity of the table of series, as of the last `read`."""
        return {"series": (len(self._numbers) - 1, len(self._rows))}

    def memory(self) -> dict[str, int]:
        """Returns the bytes that the kernel keeps for each map that is not the network's."""
        return {
            name: found.memory() for name, found in self.object.maps.items() if name not in _SHARED
        }

    def statistics(self) -> dict[str, ProgramStatistics]:
        """Returns what each program that is loaded has cost so far."""
        return {
            name: program.statistics()
            for name, program in self.object.programs.items()
            if program.loaded
        }

    def close(self) -> None:
        """Detaches everything; the byte counters go on without."""
        while self._chained:
            chain, number = self._chained.pop()
            chain.unchain(number)
        self.object.close()
