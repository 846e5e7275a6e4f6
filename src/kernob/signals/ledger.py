"""Requests of services: rows of the kernel's table become histograms of services.

A row is of one process; a series is of a service, with the peer's name and the protocol's
attributes. New rows cost a little Python once; what changes after that is a few numpy additions.
A service's counters never go back: what a row has counted stays when its process ends.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from kernob.signals.requests import BUCKETS, FIRST_DURATION, FIRST_SIZE
from kernob.telemetry.model import (
    OVERFLOW,
    Attributes,
    AttributeValue,
    Kind,
    Metric,
    Points,
    Series,
    attributes,
    histogram_dtype,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from kernob.identity.process import Process
    from kernob.signals.flows import ProcessId
    from kernob.signals.operations import Operations
    from kernob.signals.requests import SeriesReading

SCALE: Final = 3
PATIENCE: Final = 30
"""Readings that a row waits for the text of its operation, which the ring may have dropped."""

FIRST_BYTE: Final = Metric(
    "kernob.request.time_to_first_byte",
    Kind.HISTOGRAM,
    "s",
    "From the first byte of a request to the first of its answer, where answers come in pieces.",
)
REQUEST_BODY: Final = {
    "server": Metric(
        "http.server.request.body.size", Kind.HISTOGRAM, "By", "Size of HTTP request bodies."
    ),
    "client": Metric(
        "http.client.request.body.size", Kind.HISTOGRAM, "By", "Size of HTTP request bodies."
    ),
}
RESPONSE_BODY: Final = {
    "server": Metric(
        "http.server.response.body.size", Kind.HISTOGRAM, "By", "Size of HTTP response bodies."
    ),
    "client": Metric(
        "http.client.response.body.size", Kind.HISTOGRAM, "By", "Size of HTTP response bodies."
    ),
}
ONE_WAY: Final = Metric(
    "kernob.requests.one_way", Kind.COUNTER, "{request}", "Requests that get no answer."
)
UNANSWERED: Final = Metric(
    "kernob.requests.unanswered", Kind.COUNTER, "{request}", "Requests that got no answer in time."
)

# enum series_kind (bpf/include/series.h)
_WHOLE, _PIECES, _FIRST_BYTE, _REQUEST_BODY, _RESPONSE_BODY, _ONE_WAY, _UNANSWERED = range(7)
_NANOSECONDS: Final = 1e-9


class Histograms:
    """The histograms of one metric, in arrays that grow: one row for each series.

    Args:
        first: number of the first bucket.
        unit: what one unit of the kernel's sums is in the metric's unit.
    """

    def __init__(self, metric: Metric, first: int, unit: float) -> None:
        self.metric = metric
        self.series: list[Series] = []
        self._first = first
        self._unit = unit
        self._counts = np.zeros((0, BUCKETS), np.uint64)
        self._sums = np.zeros(0, np.uint64)

    def add_series(self, series: Series) -> int:
        """Adds a series; returns its place."""
        place = len(self.series)
        if place >= len(self._counts):
            room = max(16, 2 * place)
            counts = np.zeros((room, BUCKETS), np.uint64)
            counts[:place] = self._counts[:place]
            self._counts = counts
            self._sums = np.concatenate([self._sums, np.zeros(room - place, np.uint64)])
        self.series.append(series)
        return place

    def add(self, places: NDArray[np.intp], counts: NDArray[Any], sums: NDArray[Any]) -> None:
        """Adds `counts` (n, buckets) and `sums` (n,) to the series at `places` (n,)."""
        np.add.at(self._counts, places, counts)
        np.add.at(self._sums, places, sums)

    def points(self) -> Points:
        """Returns all series; their buckets are those that one of them uses."""
        size = len(self.series)
        used = np.flatnonzero(self._counts[:size].any(axis=0))
        low, high = (int(used[0]), int(used[-1]) + 1) if len(used) else (0, 1)
        values = np.zeros(size, histogram_dtype(high - low))
        values["scale"] = SCALE
        values["offset"] = self._first + low
        values["sum"] = self._sums[:size] * self._unit
        values["counts"] = self._counts[:size, low:high]
        return Points(self.metric, self.series[:], values)


class Counters:
    """The sums of one metric without buckets: the same as `Histograms`."""

    def __init__(self, metric: Metric) -> None:
        self.metric = metric
        self.series: list[Series] = []
        self._values = np.zeros(0, np.uint64)

    def add_series(self, series: Series) -> int:
        """Adds a series; returns its place."""
        self.series.append(series)
        self._values = np.concatenate([self._values, np.zeros(1, np.uint64)])
        return len(self.series) - 1

    def add(self, places: NDArray[np.intp], _counts: NDArray[Any], sums: NDArray[Any]) -> None:
        """Adds `sums` (n,) to the series at `places` (n,)."""
        np.add.at(self._values, places, sums)

    def points(self) -> Points:
        """Returns all series."""
        return Points(self.metric, self.series[:], self._values.copy())


@dataclass(slots=True)
class _Row:
    """A row of the kernel's table that counts for a series."""

    key: Any
    process: ProcessId | None
    places: dict[str, int]
    waits: int = 0


class Ledger:
    """Adds rows up to services.

    Args:
        operations: says what a row is about; learns texts from what is read here.
        resource: of the agent, that of every series.
        start: since when everything counts, nanoseconds since the Unix epoch.
    """

    def __init__(
        self, operations: Operations, *, resource: dict[str, AttributeValue], start: int
    ) -> None:
        self._operations = operations
        self._resource = attributes(resource)
        self._start = start
        self._rows: dict[int, _Row] = {}
        self._of_process: dict[ProcessId, set[int]] = {}
        self._waiting: set[int] = set()
        self._counts = np.zeros((0, BUCKETS), np.uint32)
        self._sums = np.zeros(0, np.uint64)
        self._metrics: dict[str, Histograms | Counters] = {}
        self._places: dict[tuple[str, Attributes], int] = {}

    # -- rows in -------------------------------------------------------------------------------

    def update(self, reading: SeriesReading) -> None:
        """Takes a reading in."""
        if not len(self._counts):
            # Memory is only taken by what is written; zeros_like would write all of it.
            self._counts = np.zeros(reading.rows["buckets"].shape, np.uint32)
            self._sums = np.zeros(len(reading.rows), np.uint64)
            self._rows[0] = _Row(None, None, {})
        for text in reading.texts:
            self._operations.learn(text)
        for number, key in zip(reading.numbers.tolist(), reading.keys, strict=True):
            self._admit(number, key)
        changed = set(reading.changed.tolist()) | self._waiting
        numbers = np.array([n for n in changed if self._settled(n)], np.intp)
        if len(numbers):
            self._add(numbers, reading.rows)

    def _admit(self, number: int, key: Any) -> None:
        process = int(key["start"]), int(key["pid"])
        self._rows[number] = _Row(key, process, {})
        self._of_process.setdefault(process, set()).add(number)

    def _settled(self, number: int) -> bool:
        """Whether the row's series are known: else it waits, and nothing of it is lost."""
        row = self._rows[number]
        if row.places:
            return True
        if row.key is not None and row.waits < PATIENCE and not self._operations.knows(row.key):
            row.waits += 1
            self._waiting.add(number)
            return False
        self._waiting.discard(number)
        self._place(row)
        return True

    def _add(self, numbers: NDArray[np.intp], rows: NDArray[Any]) -> None:
        new = rows[numbers]
        counts = new["buckets"] - self._counts[numbers]  # modulo 2**32, as they count
        sums = new["sum"] - self._sums[numbers]
        self._counts[numbers], self._sums[numbers] = new["buckets"], new["sum"]
        wanted: dict[str, tuple[list[int], list[int]]] = {}
        for position, number in enumerate(numbers.tolist()):
            for metric, place in self._rows[number].places.items():
                positions, places = wanted.setdefault(metric, ([], []))
                positions.append(position)
                places.append(place)
        for metric, (positions, places) in wanted.items():
            self._metrics[metric].add(np.array(places, np.intp), counts[positions], sums[positions])

    def release(self, numbers: NDArray[np.uint32]) -> None:
        """Forgets rows whose process has ended: their numbers may come back as other rows'."""
        for number in numbers.tolist():
            row = self._rows.pop(number, None)
            if row is None:
                continue
            self._waiting.discard(number)
            if row.process is not None:
                self._of_process.pop(row.process, None)
        self._counts[numbers] = 0
        self._sums[numbers] = 0

    def rename(self, process: Process) -> None:
        """Takes in that a process runs another program or belongs elsewhere now."""
        for number in self._of_process.get((process.start, process.pid), ()):
            row = self._rows[number]
            if row.places:
                self._place(row)

    # -- which series a row counts for ---------------------------------------------------------

    def _place(self, row: _Row) -> None:
        if row.key is None:
            # What found no row at all: of any protocol.
            row.places = {
                "kernob.requests.overflow": self._place_of(
                    Metric(
                        "kernob.requests.overflow",
                        Kind.HISTOGRAM,
                        "s",
                        "Duration of requests that the table of series had no room for.",
                    ),
                    OVERFLOW,
                    FIRST_DURATION,
                    _NANOSECONDS,
                )
            }
            return
        described = self._operations.describe(row.key)
        own, metric, side = described.attributes, described.duration, described.side
        kind = int(row.key["kind"])
        places: dict[str, int] = {}
        if kind in (_WHOLE, _PIECES):
            places[metric.name] = self._place_of(metric, own, FIRST_DURATION, _NANOSECONDS)
        elif kind == _FIRST_BYTE:
            places[FIRST_BYTE.name] = self._place_of(FIRST_BYTE, own, FIRST_DURATION, _NANOSECONDS)
        elif kind == _ONE_WAY:
            places[ONE_WAY.name] = self._place_of(ONE_WAY, own, 0, 1)
        elif kind == _UNANSWERED:
            places[UNANSWERED.name] = self._place_of(UNANSWERED, own, 0, 1)
        else:
            body = (REQUEST_BODY if kind == _REQUEST_BODY else RESPONSE_BODY)[side]
            places[body.name] = self._place_of(body, own, FIRST_SIZE, 1)
        row.places = places

    def _place_of(self, metric: Metric, own: Attributes, first: int, unit: float) -> int:
        place = self._places.get((metric.name, own))
        if place is None:
            table = self._metrics.get(metric.name)
            if table is None:
                table = self._metrics[metric.name] = (
                    Histograms(metric, first, unit)
                    if metric.kind is Kind.HISTOGRAM
                    else Counters(metric)
                )
            series = Series(self._resource, own, self._start)
            place = table.add_series(series)
            self._places[metric.name, own] = place
        return place

    # -- series out ----------------------------------------------------------------------------

    def points(self) -> tuple[Points, ...]:
        """Returns the metrics of requests, as of the last update."""
        return tuple(table.points() for table in self._metrics.values())
