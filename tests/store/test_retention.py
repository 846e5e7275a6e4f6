"""The disk's limit drops the right thing, says so, and counts it."""

from __future__ import annotations

import logging

import msgspec
import pytest

from kernob import config
from kernob.store import retention
from kernob.store.engine import Signal
from kernob.store.store import Store
from store.otlp import NOW, logs, one, rows, sums, traces

HOUR = 3600 * 10**9
DAY = 24 * HOUR


@pytest.fixture
def filled(store: Store) -> Store:
    """A store with much of logs on three days, and a little of the other signals."""
    lines = [{"body": {"string_value": f"{n} {n * 7919}"}} for n in range(4000)]
    for day in range(3):
        store.write(
            Signal.LOGS,
            [logs(*(line | {"time_unix_nano": NOW - day * DAY} for line in lines))],
        )
    store.write(Signal.TRACES, [traces({}, {"start_time_unix_nano": NOW - 2 * DAY})])
    points = [{"as_int": n, "time_unix_nano": NOW - n * HOUR} for n in range(6)]
    store.write(Signal.METRICS, [sums(*points)])
    store.engine.command("SYSTEM STOP MERGES")
    return store


def _limited(store: Store, limit: int) -> None:
    store.settings = msgspec.structs.replace(store.settings, disk_limit=config.Size(limit))


def _on_disk(store: Store) -> int:
    sql = (
        "SELECT sum(bytes_on_disk) FROM system.parts "
        "WHERE active AND database = 'otel' AND table != 'kernob_schema'"
    )
    return int(one(store, sql))


def test_within_the_limit_nothing_goes(filled: Store) -> None:
    _limited(filled, 1 << 30)
    assert retention.maintain(filled) == []
    _limited(filled, 0)
    assert retention.maintain(filled) == []


def test_fine_points_older_than_an_hour_go_first(
    filled: Store, caplog: pytest.LogCaptureFixture
) -> None:
    _limited(filled, _on_disk(filled) - 1)

    with caplog.at_level(logging.WARNING):
        dropped = retention.maintain(filled)
    filled.write_losses()

    assert [(item.table, item.rows) for item in dropped] == [("kernob_points", 1)]
    assert one(filled, "SELECT min(Value) = 0 AND max(Value) = 4 FROM otel.kernob_points") == 1
    assert one(filled, "SELECT sum(Count) FROM otel.kernob_points_1h") == 6
    assert len(caplog.records) == 1
    assert "of kernob_points: 1 rows" in caplog.text
    assert filled.losses() == {(Signal.METRICS, "disk_limit"): 1}
    assert one(filled, "SELECT sum(Records) FROM otel.kernob_refused") == 1


def test_then_the_oldest_day_of_the_largest_signal(filled: Store) -> None:
    sql = "SELECT sum(bytes_on_disk) FROM system.parts WHERE active AND table = 'otel_logs'"
    _limited(filled, _on_disk(filled) - int(one(filled, sql)) // 2)

    dropped = retention.maintain(filled)

    logs_gone = [item for item in dropped if item.signal == Signal.LOGS]
    assert [item.rows for item in logs_gone] == [4000, 4000]
    assert {item.table for item in dropped} == {"kernob_points", "otel_logs"}
    days = rows(
        filled, "SELECT DISTINCT toDate(Timestamp) = toDate(now()) AS today FROM otel.otel_logs"
    )
    assert days == [{"today": 1}]
    assert one(filled, "SELECT count() FROM otel.otel_traces") == 2
    assert _on_disk(filled) <= filled.settings.disk_limit


def test_series_are_written_again_on_the_next_day(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.write(Signal.METRICS, [sums({"as_int": 1})])
    assert one(store, "SELECT total_rows FROM system.tables WHERE name = 'kernob_seen'") == 1

    retention.maintain(store)
    assert one(store, "SELECT total_rows FROM system.tables WHERE name = 'kernob_seen'") == 1
    monkeypatch.setattr(store, "_day", 1)
    retention.maintain(store)

    assert one(store, "SELECT total_rows FROM system.tables WHERE name = 'kernob_seen'") == 0
