"""What Kernob has seen of requests since a test began."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import numpy as np

from kernob.signals.requests import PROTOCOLS

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from kernob.signals.requests import KernelRequests

SIDES = {1: "client", 2: "server"}
KINDS = (
    *("whole", "pieces", "first_byte"),
    *("request_body", "response_body", "one_way", "unanswered"),
)
"""enum series_kind of bpf/include/series.h."""


@dataclass(frozen=True, slots=True)
class Row:
    """One row of the kernel's table: what was counted in it since the test began.

    `sum` is in nanoseconds or bytes; `buckets` are 256 counts.
    """

    pid: int
    side: str
    port: int
    protocol: str
    operation: str
    namespace: str
    status: int
    kind: str
    count: int
    sum: int
    request_bytes: int
    response_bytes: int
    buckets: NDArray[np.uint32]


class Seen:
    """Reads a source of requests; what was there before the test is left out."""

    def __init__(self, source: KernelRequests) -> None:
        self._source = source
        self._keys, self._texts = _TOLD.setdefault(source, ({}, {}))
        self._rows: NDArray[Any] | None = None
        self._read()
        assert self._rows is not None
        self._before = self._rows.copy()
        self._unpaired = Counter(source.unpaired())
        self._unseen = Counter(source.unseen())

    def _read(self) -> None:
        reading = self._source.read()
        for text in reading.texts:
            self._texts[text.fingerprint] = text.text
        for number, key in zip(reading.numbers.tolist(), reading.keys, strict=True):
            self._keys[number] = key.copy()
        self._rows = reading.rows

    def rows(self, **wanted: object) -> list[Row]:
        """Returns the rows that have counted something and whose fields are as `wanted`."""
        self._read()
        assert self._rows is not None
        found = []
        for number, key in self._keys.items():
            buckets = self._rows["buckets"][number] - self._before["buckets"][number]
            if not buckets.any():
                continue
            new, old = self._rows[number], self._before[number]
            row = Row(
                pid=int(key["pid"]),
                side=SIDES[int(key["side"])],
                port=int(key["port"]),
                protocol=PROTOCOLS[int(key["protocol"])],
                operation=self._texts.get(int(key["operation"]), ""),
                namespace=self._texts.get(int(key["namespace"]), "") if key["namespace"] else "",
                status=int(key["status"]),
                kind=KINDS[int(key["kind"])],
                count=int(buckets.sum()),
                sum=int(new["sum"] - old["sum"]),
                request_bytes=int(new["request_bytes"] - old["request_bytes"]),
                response_bytes=int(new["response_bytes"] - old["response_bytes"]),
                buckets=buckets,
            )
            if all(getattr(row, field) == value for field, value in wanted.items()):
                found.append(row)
        return found

    def counts(self, **wanted: object) -> dict[tuple[str, int], int]:
        """Returns how many requests were answered, by operation and status."""
        counts: Counter[tuple[str, int]] = Counter()
        for row in self.rows(**wanted):
            if row.kind in ("whole", "pieces"):
                counts[row.operation, row.status] += row.count
        return dict(counts)

    def until(self, condition: Callable[[], bool], seconds: float = 5.0) -> None:
        """Waits until `condition` holds: a server's last program may run after its client's."""
        deadline = time.monotonic() + seconds
        while not condition() and time.monotonic() < deadline:
            time.sleep(0.01)

    def unpaired(self) -> dict[tuple[str, str], int]:
        """Returns what was not paired since the test began, of the whole machine."""
        return dict(Counter(self._source.unpaired()) - self._unpaired)

    def unseen(self) -> dict[tuple[str, str], int]:
        """Returns what was not seen since the test began, of the whole machine."""
        return dict(Counter(self._source.unseen()) - self._unseen)


# Rows' keys and texts of each source, which tells them once.
_TOLD: WeakKeyDictionary[KernelRequests, tuple[dict[int, Any], dict[int, str]]] = (
    WeakKeyDictionary()
)
