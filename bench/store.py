"""Disk: what a million points, spans and log records take once all is merged.

The points are those of 100 services with 40 series each, read every 15 seconds: counters that grow.
"""

from __future__ import annotations

import contextlib
import time
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from bench import bodies, host, ingest, kernob
from kernob.config import Store as StoreSettings
from kernob.store.engine import Limits
from kernob.store.store import Store

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from bench.bodies import Source

HOSTS: Final = 4
"""With 25 services each."""
PER_REQUEST: Final = 4_000
CONNECTIONS: Final = 8
INTERVAL: Final = 15 * bodies.SECOND
SIGNALS: Final[dict[str, tuple[Callable[[int], Source], int, int]]] = {
    "points": (partial(bodies.Points, hosts=HOSTS), 1_000_000, INTERVAL),
    "spans": (bodies.Spans, 400_000, bodies.SECOND),
    "logs": (bodies.Logs, 400_000, bodies.SECOND),
}
"""What makes the requests, how many records, nanoseconds between two requests."""
QUICK_SHARE: Final = 10
MERGING: Final = Limits(seconds=300.0)


def measure(scratch: Path, *, quick: bool) -> dict[str, list[dict[str, Any]]]:
    """Returns a table: bytes of each signal as it is sent, and in each table that holds it."""
    sender = host.compile_c("sender", scratch)
    requests = scratch / "requests"
    sent: dict[str, tuple[int, int]] = {}
    site = kernob.Site(scratch)
    with site.server():
        for signal, (make, all_records, step) in SIGNALS.items():
            host.say(f"store: {signal}")
            records = all_records // QUICK_SHARE if quick else all_records
            source, count = make(PER_REQUEST), records // PER_REQUEST
            made = source.bodies(count, _before(count * step), step)
            sent[signal] = records, bodies.write_requests(requests, source, made, zipped=False)
            ingest.send(sender, site.port, CONNECTIONS, requests)
    host.say("store: merging")
    found = _sizes(site.store)
    rows = []
    for signal, (records, plain) in sent.items():
        rows.append(_row(signal, "as sent, protobuf", records, records, plain))
        for table, (count, size) in found.items():
            if _signal_of(table) == signal:
                rows.append(_row(signal, table, records, count, size))
    return {"disk": rows}


def _before(span: int) -> int:
    """Returns a time so long ago that records over `span` nanoseconds end now."""
    return time.time_ns() - span


def _sizes(folder: Path) -> dict[str, tuple[int, int]]:
    """Merges each table to one part a day; returns rows and bytes of those that have any."""
    with contextlib.closing(Store.open(StoreSettings(path=folder))) as store:
        parts = """
SELECT table, sum(rows) AS count, sum(bytes_on_disk) AS size FROM system.parts
WHERE active AND database = 'otel' GROUP BY table HAVING count > 0 ORDER BY table"""
        for table in store.engine.read(parts, {}, MERGING, "bench")["table"].to_pylist():
            store.engine.command(f"OPTIMIZE TABLE otel.{table} FINAL")
        found = store.engine.read(parts, {}, MERGING, "bench").to_pylist()
    return {row["table"]: (row["count"], row["size"]) for row in found}


def _signal_of(table: str) -> str:
    named = {"otel_traces": "spans", "otel_logs": "logs", "otel_metrics": "points"}
    for prefix, signal in named.items():
        if table.startswith(prefix):
            return signal
    narrow = ("kernob_points", "kernob_histograms", "kernob_series")
    return "points" if table.startswith(narrow) else ""


def _row(signal: str, where: str, records: int, count: int, size: int) -> dict[str, Any]:
    return {
        "signal": signal,
        "where": where,
        "rows_per_million": round(count * 1e6 / records),
        "mib_per_million": size / 2**20 * 1e6 / records,
        "bytes_per_record": size / records,
    }
