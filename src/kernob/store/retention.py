"""What goes before its time, since the disk has a limit. Expiry itself is ClickHouse's."""

from __future__ import annotations

import datetime
import logging
from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from kernob.store import schema
from kernob.store.engine import Limits, Signal
from kernob.store.tables import FINE, TABLES

if TYPE_CHECKING:
    from kernob.store.store import Store

log = logging.getLogger(__name__)

FINE_KEPT: Final = 3600
"""Seconds of points as they were sent that are spared, for live charts."""
REASON: Final = "disk_limit"

_UNITS: Final = ((1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB"))


@dataclass(frozen=True, slots=True)
class Dropped:
    """What the limit has cost.

    Attributes:
        table: that it was dropped from.
        signal: of its rows.
        partition: day (`2026-11-21`) or, of points as they were sent, hour.
        rows: how many.
        bytes: on disk.
    """

    table: str
    signal: Signal
    partition: str
    rows: int
    bytes: int


def maintain(store: Store) -> list[Dropped]:
    """Does what is due every minute: the disk's limit, the day's end, and memory given back.

    Returns:
        What had to go; each is a line in the log, too.

    Raises:
        StoreError: the store failed; the next call goes on.
    """
    dropped = _within_limit(store)
    store.forget_series(of_other_days=True)
    store.engine.release_memory()
    return dropped


def _within_limit(store: Store) -> list[Dropped]:
    limit = int(store.settings.disk_limit)
    if not limit:
        return []
    left = _partitions(store)
    over = sum(partition.bytes for partition in left) - limit
    gone: list[Dropped] = []
    while over > 0 and left:
        chosen = _first_to_go(left)
        for partition in chosen:
            _drop(store, partition)
            left.remove(partition)
            over -= partition.bytes
        gone += chosen
    return gone


def _partitions(store: Store) -> list[Dropped]:
    """Returns all partitions of all tables, as if they were dropped."""
    settings = store.settings
    signals = {schema.stored(table.name, settings): table.signal for table in TABLES}
    parts = store.reader(Limits(seconds=60)).read(
        "SELECT table, partition, sum(rows) AS rows, sum(bytes_on_disk) AS bytes "
        "FROM system.parts WHERE active AND database = {database:String} "
        "GROUP BY table, partition ORDER BY table, partition",
        database=settings.database,
    )
    return [
        Dropped(
            row["table"], signals[row["table"]], row["partition"], int(row["rows"]),
            int(row["bytes"]),
        )
        for row in parts.to_pylist()
        if row["table"] in signals
    ]  # fmt: skip


def _first_to_go(left: list[Dropped]) -> list[Dropped]:
    """Returns the next partitions to drop: points as they were sent, else a signal's oldest day."""
    now = datetime.datetime.now(datetime.UTC)
    spared = f"{now - datetime.timedelta(seconds=FINE_KEPT + 3600):%Y-%m-%d %H:%M:%S}"
    fine = [item for item in left if _is_fine(item) and item.partition < spared]
    if fine:
        return [min(fine, key=lambda item: item.partition)]
    bytes_of: dict[Signal, int] = defaultdict(int)
    for item in left:
        bytes_of[item.signal] += item.bytes
    signal = max(bytes_of, key=lambda name: bytes_of[name])
    of_signal = [item for item in left if item.signal == signal]
    day = min(item.partition[:10] for item in of_signal)
    return [item for item in of_signal if item.partition[:10] == day]


def _is_fine(item: Dropped) -> bool:
    return item.table.removesuffix(schema.LOCAL) in FINE


def _drop(store: Store, item: Dropped) -> None:
    settings = store.settings
    on = schema.on_cluster(settings)
    store.engine.command(
        f"ALTER TABLE {settings.database}.{item.table}{on} DROP PARTITION '{item.partition}'"
    )
    store.count_lost(item.signal, REASON, item.rows)
    log.warning(
        "store.disk_limit: dropped %s of %s: %d rows, %s",
        item.partition, item.table, item.rows, _size(item.bytes),
    )  # fmt: skip


def _size(count: int) -> str:
    for size, unit in _UNITS:
        if count >= size:
            return f"{count / size:.1f} {unit}"
    return f"{count} B"
