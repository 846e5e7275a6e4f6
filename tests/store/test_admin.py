"""`kernob store`: what it says is there, and what it drops, exports and imports."""

from __future__ import annotations

import datetime
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from kernob.errors import StoreError
from kernob.store import admin
from kernob.store.admin import Dropped, ServiceSize
from kernob.store.engine import Signal
from kernob.store.store import Store
from store.otlp import NOW, attributes, logs, one, rows, sums, traces

HOUR = 3600 * 10**9


def _utc(nanoseconds: int) -> datetime.datetime:
    return datetime.datetime.fromtimestamp(nanoseconds // 10**9, datetime.UTC)


@pytest.fixture
def filled(store: Store) -> Store:
    """A store with spans of two services, a log record, and points of an observed service."""
    old = {"start_time_unix_nano": NOW - 5 * HOUR}
    store.write(Signal.TRACES, [traces({}, old), traces({}, resource={"service.name": "other"})])
    store.write(Signal.LOGS, [logs({})])
    seen = attributes({"service.name": "db"})
    store.write(
        Signal.METRICS,
        [
            sums(
                {"as_int": 1, "attributes": seen},
                {"as_int": 2},
                resource={"service.name": "kernob-agent"},
            )
        ],
    )
    return store


def test_sizes_of_tables_and_services(filled: Store) -> None:
    found = {size.table: size for size in admin.sizes(filled)}

    spans = found["otel_traces"]
    assert (spans.signal, spans.rows) == (Signal.TRACES, 3)
    assert spans.bytes > 100
    assert (spans.oldest, spans.newest) == (_utc(NOW - 5 * HOUR), _utc(NOW))
    assert found["kernob_points"].rows == 2
    assert (found["otel_profiles"].rows, found["otel_profiles"].oldest) == (0, None)
    assert admin.services(filled) == [
        ServiceSize("shop", Signal.TRACES, 2),
        ServiceSize("db", Signal.METRICS, 1),
        ServiceSize("kernob-agent", Signal.METRICS, 1),
        ServiceSize("other", Signal.TRACES, 1),
        ServiceSize("shop", Signal.LOGS, 1),
    ]


def test_dropping_a_service_takes_its_rows_of_all_signals_and_no_others(filled: Store) -> None:
    dropped = admin.drop(filled, service="shop")
    assert set(dropped) == {Dropped("otel_traces", 2), Dropped("otel_logs", 1)}

    dropped = admin.drop(filled, service="db")

    assert Dropped("otel_metrics_sum", 1) in dropped
    assert Dropped("kernob_points_1h", 1) in dropped
    assert one(filled, "SELECT groupArray(Value) FROM otel.kernob_points") == [2.0]
    assert one(filled, "SELECT groupArray(Service) FROM otel.kernob_series") == ["kernob-agent"]
    # A series that was dropped is known again when it comes again.
    body = sums({"as_int": 5, "attributes": attributes({"service.name": "db"})})
    filled.write(Signal.METRICS, [body])
    assert one(filled, "SELECT count() FROM otel.kernob_series WHERE Service = 'db'") == 1


def test_dropping_by_signal_and_time(filled: Store) -> None:
    dropped = admin.drop(filled, signal=Signal.TRACES, before=_utc(NOW - HOUR))

    assert Dropped("otel_traces", 1) in dropped
    assert one(filled, "SELECT count() FROM otel.otel_traces") == 2
    assert one(filled, "SELECT count() FROM otel.otel_logs") == 1
    with pytest.raises(StoreError, match="give a signal, a service or a time"):
        admin.drop(filled)


def test_an_export_is_imported_elsewhere_with_all_that_follows_from_it(
    filled: Store, tmp_path: Path
) -> None:
    folder = tmp_path / "export"
    sql = "SELECT * EXCEPT (ResourceAttributes) FROM otel.otel_metrics_sum ORDER BY Value"
    before = rows(filled, sql)

    written = admin.export(filled, folder)
    admin.export(filled, folder)

    assert {(item.table, item.rows) for item in written} == {
        ("otel_traces", 3), ("otel_logs", 1), ("otel_metrics_sum", 2),
    }  # fmt: skip
    assert pq.read_table(folder / "otel_traces.parquet").num_rows == 3
    for signal in Signal:
        admin.drop(filled, signal=signal)
    assert one(filled, "SELECT count() FROM otel.kernob_series") == 0

    read = admin.import_(filled, folder)

    assert {(item.table, item.rows) for item in read} == {
        (item.table, item.rows) for item in written
    }
    assert rows(filled, sql) == before
    for table in ("kernob_points", "kernob_series", "kernob_points_1h"):
        assert one(filled, f"SELECT count() FROM otel.{table}") == 2
    assert one(filled, "SELECT count() FROM otel.otel_traces_trace_id_ts") >= 1


def test_an_export_of_a_stretch_of_time(filled: Store, tmp_path: Path) -> None:
    written = admin.export(filled, tmp_path, start=_utc(NOW - 6 * HOUR), end=_utc(NOW - HOUR))

    assert [(item.table, item.rows) for item in written] == [("otel_traces", 1)]
    with pytest.raises(StoreError, match=r"no otel_logs\.parquet"):
        admin.import_(filled, tmp_path / "nowhere")
