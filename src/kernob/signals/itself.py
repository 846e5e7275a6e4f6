"""The agent itself: what it costs, what its tables hold, what it lost, how its exports do."""

from __future__ import annotations

import resource
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np

from kernob.telemetry.model import Kind, Metric, Points, Series, attributes

if TYPE_CHECKING:
    from collections.abc import Mapping

    from kernob.telemetry.model import Attributes, AttributeValue

CPU: Final = Metric("kernob.agent.cpu.time", Kind.COUNTER, "s", "CPU time the agent has used.")
MEMORY: Final = Metric("kernob.agent.memory.usage", Kind.GAUGE, "By", "Resident memory.")
COLLECTION: Final = Metric(
    "kernob.agent.collection.duration", Kind.GAUGE, "s", "How long the last collection took."
)
COLLECTIONS: Final = Metric(
    "kernob.agent.collections", Kind.COUNTER, "{collection}", "Collections made."
)
ENTRIES: Final = Metric(
    "kernob.agent.map.entries", Kind.GAUGE, "{entry}", "Entries in a table of the kernel."
)
CAPACITY: Final = Metric(
    "kernob.agent.map.capacity", Kind.GAUGE, "{entry}", "Entries that a table has room for."
)
MAP_MEMORY: Final = Metric(
    "kernob.agent.map.memory", Kind.GAUGE, "By", "What the kernel keeps for a table."
)
LOST: Final = Metric(
    "kernob.agent.lost", Kind.COUNTER, "{item}", "What could not be kept or counted, by reason."
)
SERIES_OVERFLOW: Final = Metric(
    "kernob.agent.series.overflow", Kind.GAUGE, "{series}", "Series beyond a metric's limit."
)
PROGRAM_TIME: Final = Metric(
    "kernob.agent.program.run.time",
    Kind.GAUGE,
    "s",
    "Mean time of one run of a program in the kernel, measured for some seconds after the start.",
)
EXPORT_QUEUE: Final = Metric(
    "kernob.agent.export.queue.size", Kind.GAUGE, "{snapshot}", "Snapshots waiting to be sent."
)
EXPORTS: Final = Metric(
    "kernob.agent.exports", Kind.COUNTER, "{snapshot}", "Snapshots by what became of them."
)
EXPORT_DELAY: Final = Metric(
    "kernob.agent.export.delay",
    Kind.GAUGE,
    "s",
    "From the snapshot that was acknowledged last to its acknowledgement.",
)
MODE: Final = Metric(
    "kernob.agent.info", Kind.GAUGE, "", "Always 1; says how the agent knows what it reports."
)
PART: Final = Metric(
    "kernob.agent.part",
    Kind.GAUGE,
    "",
    "What the agent can observe: 1 if it does here, else 0 and the reason.",
)

UNPAIRED: Final = Metric(
    "kernob.agent.requests.unpaired",
    Kind.COUNTER,
    "{request}",
    "Requests without an answer, and answers without a request, by reason.",
)
UNSEEN: Final = Metric(
    "kernob.agent.requests.unseen",
    Kind.COUNTER,
    "{call}",
    "Calls on connections with requests whose bytes could not be read, by reason.",
)
SAMPLES_DROPPED: Final = Metric(
    "kernob.agent.samples.dropped",
    Kind.COUNTER,
    "{request}",
    "Single requests that could not be shown or sent, by reason; figures don't depend on them.",
)

_PAGE: Final = resource.getpagesize()


def resident_bytes() -> int:
    """Returns the resident memory of this process in bytes (proc(5), statm)."""
    return int(Path("/proc/self/statm").read_bytes().split()[1]) * _PAGE


class Itself:
    """Makes the points of `kernob.agent.*`.

    Args:
        resource: of the agent.
        start: since when it counts, nanoseconds since the Unix epoch.
    """

    def __init__(self, resource: Mapping[str, AttributeValue], start: int) -> None:
        self._resource = attributes(dict(resource))
        self._start = start
        self._series: dict[Attributes, Series] = {}

    def _points(
        self, metric: Metric, values: Mapping[str, float], attribute: str = ""
    ) -> Points | None:
        """One point for each value, told apart by `attribute`; None where there is none."""
        if not values:
            return None
        series = [self._series_of({attribute: name} if attribute else {}) for name in values]
        whole = all(isinstance(value, int) for value in values.values())
        array = np.array(list(values.values()), np.int64 if whole else np.float64)
        return Points(metric, series, array)

    def _series_of(self, own: Mapping[str, AttributeValue]) -> Series:
        key = attributes(dict(own))
        found = self._series.get(key)
        if found is None:
            found = self._series[key] = Series(self._resource, key, self._start)
        return found

    def _by_protocol(self, metric: Metric, counts: Mapping[tuple[str, str], int]) -> Points | None:
        """One point for each protocol and reason; None where there is none."""
        if not counts:
            return None
        series = [
            self._series_of({"network.protocol.name": protocol, "reason": reason})
            for protocol, reason in counts
        ]
        return Points(metric, series, np.array(list(counts.values()), np.int64))

    def _parts(self, parts: Mapping[str, str]) -> Points:
        series = [
            self._series_of({"kernob.part": name} | ({"kernob.reason": off} if off else {}))
            for name, off in parts.items()
        ]
        return Points(PART, series, np.array([not off for off in parts.values()], np.int64))

    def points(
        self,
        *,
        mode: str,
        parts: Mapping[str, str],
        collection_seconds: float,
        collections: int,
        fill: Mapping[str, tuple[int, int]],
        map_bytes: Mapping[str, int],
        losses: Mapping[str, int],
        overflow: Mapping[str, int],
        program_seconds: Mapping[str, float],
        exports: Mapping[str, int],
        queued: int,
        export_delay: float | None,
        unpaired: Mapping[tuple[str, str], int],
        unseen: Mapping[tuple[str, str], int],
        samples_dropped: Mapping[str, int],
    ) -> tuple[Points, ...]:
        """Returns all points about the agent as of now.

        `parts` are what it can observe, each with why it does not; empty if it does. `unpaired`
        and `unseen` are by protocol and reason, `samples_dropped` by reason.
        """
        used = resource.getrusage(resource.RUSAGE_SELF)
        entries = {name: count for name, (count, _) in fill.items()}
        capacity = {name: room for name, (_, room) in fill.items()}
        made = (
            self._points(MODE, {mode: 1}, "kernob.agent.mode"),
            self._parts(parts),
            self._points(CPU, {"": used.ru_utime + used.ru_stime}),
            self._points(MEMORY, {"": resident_bytes()}),
            self._points(COLLECTION, {"": collection_seconds}),
            self._points(COLLECTIONS, {"": collections}),
            self._points(ENTRIES, entries, "kernob.map"),
            self._points(CAPACITY, capacity, "kernob.map"),
            self._points(MAP_MEMORY, map_bytes, "kernob.map"),
            self._points(LOST, losses, "reason"),
            self._points(SERIES_OVERFLOW, overflow, "kernob.metric"),
            self._points(PROGRAM_TIME, program_seconds, "kernob.program"),
            self._points(EXPORT_QUEUE, {"": queued}),
            self._points(EXPORTS, exports, "kernob.outcome"),
            self._points(EXPORT_DELAY, {} if export_delay is None else {"": export_delay}),
            self._by_protocol(UNPAIRED, unpaired),
            self._by_protocol(UNSEEN, unseen),
            self._points(SAMPLES_DROPPED, samples_dropped, "reason"),
        )
        return tuple(points for points in made if points is not None)
