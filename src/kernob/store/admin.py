"""What `kernob store` does: sizes, dropping, export and import."""

from __future__ import annotations

import datetime
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from kernob.errors import StoreError
from kernob.store import schema
from kernob.store.engine import Limits, Signal
from kernob.store.tables import NUMBERS, NUMBERS_TABLE, TABLES

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from kernob.store.store import Store
    from kernob.store.tables import Table

_PATIENT: Final = Limits(seconds=3600, memory=1 << 30, rows=10_000_000)
_DERIVED: Final = ("otel_traces_trace_id_ts",)
"""Filled by a view, as all of Kernob's own tables: neither exported nor imported."""
_SERVICE: Final = "if(Attributes['service.name'] != '', Attributes['service.name'], ServiceName)"


@dataclass(frozen=True, slots=True)
class TableSize:
    """One table.

    Attributes:
        table: its name.
        signal: what its rows are of.
        rows: how many.
        bytes: on disk, compressed, on all nodes of a cluster.
        oldest, newest: time of the first and the last row, in UTC; None without rows.
    """

    table: str
    signal: Signal
    rows: int
    bytes: int
    oldest: datetime.datetime | None
    newest: datetime.datetime | None


@dataclass(frozen=True, slots=True)
class ServiceSize:
    """What one service has of one signal.

    Attributes:
        service: as on the pages: an observed service rather than the agent that observed it.
        signal: of the rows.
        rows: points, spans, log records or profiles.
    """

    service: str
    signal: Signal
    rows: int


@dataclass(frozen=True, slots=True)
class Dropped:
    """Rows that are gone from one table."""

    table: str
    rows: int


@dataclass(frozen=True, slots=True)
class TableFile:
    """A table's rows in a Parquet file.

    Attributes:
        table: its name.
        file: where.
        rows: that were written or read.
    """

    table: str
    file: Path
    rows: int


def sizes(store: Store) -> list[TableSize]:
    """Returns the size of each table, in the order of `TABLES`.

    Raises:
        StoreError: the store can't be read.
    """
    settings = store.settings
    parts = f"cluster({settings.cluster}, system, parts)" if settings.cluster else "system.parts"
    read = store.reader(_PATIENT).read
    answer = read(
        f"SELECT table, sum(bytes_on_disk) AS bytes FROM {parts} "
        "WHERE active AND database = {database:String} GROUP BY table",
        database=settings.database,
    ).to_pylist()
    on_disk = {row["table"]: int(row["bytes"]) for row in answer}
    found = []
    for table in TABLES:
        (row,) = read(
            f"SELECT count() AS n, toUnixTimestamp(min({table.time})) AS oldest, "
            f"toUnixTimestamp(max({table.time})) AS newest FROM {settings.database}.{table.name}"
        ).to_pylist()
        times = [
            datetime.datetime.fromtimestamp(row[name], datetime.UTC) if row["n"] else None
            for name in ("oldest", "newest")
        ]
        size = on_disk.get(schema.stored(table.name, settings), 0)
        found.append(TableSize(table.name, table.signal, row["n"], size, times[0], times[1]))
    return found


def services(store: Store) -> list[ServiceSize]:
    """Returns what each service has of each signal, the most rows first.

    Raises:
        StoreError: the store can't be read.
    """
    selects = [
        f"SELECT {_service(table)} AS service, '{table.signal}' AS signal, count() AS n "
        f"FROM {store.settings.database}.{table.name} GROUP BY service"
        for table in _exported()
        if "ServiceName" in table.columns
    ]
    answer = store.reader(_PATIENT).read(
        f"SELECT service, signal, sum(n) AS rows FROM ({' UNION ALL '.join(selects)}) "
        "GROUP BY service, signal ORDER BY rows DESC, service, signal"
    )
    return [
        ServiceSize(row["service"], Signal(row["signal"]), int(row["rows"]))
        for row in answer.to_pylist()
    ]


def drop(
    store: Store,
    *,
    signal: Signal | None = None,
    service: str = "",
    before: datetime.datetime | None = None,
) -> list[Dropped]:
    """Drops rows for good: those that meet all that is given.

    Args:
        store: what holds them.
        signal: of the rows; None for all.
        service: whose; empty for all. What was folded over services (`kernob_refused`) stays.
        before: rows older than this time; None for all. A naive time is UTC.

    Returns:
        What was dropped of each table, where there was something.

    Raises:
        StoreError: nothing is given, or the store failed.
    """
    if signal is None and not service and before is None:
        raise StoreError("what to drop is not said", remedy="give a signal, a service or a time")
    settings = store.settings
    dropped = []
    for table in reversed(TABLES):
        if signal not in (None, table.signal):
            continue
        conditions = _conditions(table, service, before, settings.database)
        if conditions is None:
            continue
        where = " AND ".join(conditions) or "1"
        (count,) = store.reader(_PATIENT).read(
            f"SELECT count() AS n FROM {settings.database}.{table.name} WHERE {where}"
        )["n"]
        rows = int(count.as_py())
        if rows:
            name = f"{settings.database}.{schema.stored(table.name, settings)}"
            on = schema.on_cluster(settings)
            store.engine.command(
                f"ALTER TABLE {name}{on} DELETE WHERE {where} SETTINGS mutations_sync = 2"
            )
            dropped.append(Dropped(table.name, rows))
    store.forget_series()
    return dropped


def export(
    store: Store,
    folder: Path,
    *,
    start: datetime.datetime | None = None,
    end: datetime.datetime | None = None,
) -> list[TableFile]:
    """Writes one Parquet file for each table that holds what was sent, as `TABLE.parquet`.

    Args:
        store: what to read.
        folder: where to, made if it is missing.
        start: of the rows' times; None for all there is. A naive time is UTC.
        end: before it, as `start`.

    Raises:
        StoreError: a file can't be written, or the store not read.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StoreError(f"{folder}: {error.strerror}", remedy="choose another folder") from error
    written = []
    for table in _exported():
        conditions = [
            f"{table.time} {sign} toDateTime({_seconds(time)})"
            for sign, time in ((">=", start), ("<", end))
            if time
        ]
        where = " AND ".join(conditions) or "1"
        source = f"{store.settings.database}.{table.name} WHERE {where}"
        (count,) = store.reader(_PATIENT).read(f"SELECT count() AS n FROM {source}")["n"]
        file = folder.absolute() / f"{table.name}.parquet"
        if count.as_py():
            store.engine.save(f"SELECT * FROM {source}", file)
            written.append(TableFile(table.name, file, int(count.as_py())))
    return written


def import_(store: Store, folder: Path) -> list[TableFile]:
    """Adds the rows of the files that `export` wrote; derived tables are filled by their views.

    Rows that are there already are there twice afterwards. What is older than the retention goes
    with the next merge.

    Raises:
        StoreError: there is no such file, one can't be read, or the store failed.
    """
    files = [(table, folder.absolute() / f"{table.name}.parquet") for table in _exported()]
    found = [(table, file) for table, file in files if file.exists()]
    if not found:
        raise StoreError(f"{folder}: no {files[0][1].name} or the like is in it")
    database = store.settings.database
    return [
        TableFile(table.name, file, store.engine.load(f"{database}.{_entrance(table)}", file))
        for table, file in found
    ]


def _entrance(table: Table) -> str:
    """Returns where rows go in, so that views see them."""
    numbers = [f"otel_metrics_{kind}" for kind in NUMBERS]
    return NUMBERS_TABLE if table.name in numbers else table.name


def _exported() -> list[Table]:
    return [
        table for table in TABLES if table.name.startswith("otel_") and table.name not in _DERIVED
    ]


def _service(table: Table) -> str:
    return _SERVICE if table.name.startswith("otel_metrics_") else "ServiceName"


def _conditions(
    table: Table, service: str, before: datetime.datetime | None, database: str
) -> Sequence[str] | None:
    """Returns which rows of a table are meant, None if none."""
    conditions = []
    if service:
        name = "'" + service.replace("\\", "\\\\").replace("'", "\\'") + "'"
        if table.name == "kernob_series" or table.name.startswith("kernob_histograms"):
            conditions.append(f"Service = {name}")
        elif table.name.startswith("kernob_points"):
            series = f"SELECT SeriesId FROM {database}.kernob_series WHERE Service = {name}"
            conditions.append(f"SeriesId IN ({series})")
        elif "ServiceName" in table.columns:
            conditions.append(f"{_service(table)} = {name}")
        else:
            return None
    if before:
        conditions.append(f"{table.time} < toDateTime({_seconds(before)})")
    return conditions


def _seconds(time: datetime.datetime) -> int:
    return int((time if time.tzinfo else time.replace(tzinfo=datetime.UTC)).timestamp())
