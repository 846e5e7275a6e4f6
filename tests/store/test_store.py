"""What is written is found, what can't be is counted, and one bad request harms no other."""

from __future__ import annotations

import threading
import time

import msgspec
import pytest

from kernob import config
from kernob.errors import QueryCancelledError, QueryError, StoreError
from kernob.store import schema
from kernob.store.engine import Limits, Refused, Signal
from kernob.store.store import REASONS, Store
from store.otlp import NOW, SPAN, TRACE, logs, one, rows, sums, traces

DAY = 86400 * 10**9
ENDLESS = "SELECT count() FROM numbers(1000000000000) WHERE sipHash64(number) = 1"


def test_requests_that_are_written_together_are_all_found(store: Store) -> None:
    bodies = [traces({}, resource={"service.name": f"s{n}"}) for n in range(50)]

    refused = store.write(Signal.TRACES, bodies)

    assert refused == [Refused()] * 50
    assert one(store, "SELECT uniqExact(ServiceName) FROM otel.otel_traces") == 50


def test_nothing_is_a_request_too(store: Store) -> None:
    for signal in Signal:
        assert store.write(signal, [b"", b""]) == [Refused(), Refused()]


def test_metrics_of_all_kinds_in_one_batch(store: Store) -> None:
    bodies = [sums({"as_int": 1}), sums({"as_int": 2}, kind="gauge", name="load")]

    store.write(Signal.METRICS, bodies)

    sql = "SELECT MetricName, Kind, IsMonotonic FROM otel.kernob_series ORDER BY MetricName"
    assert [tuple(row.values()) for row in rows(store, sql)] == [
        ("load", "gauge", False),
        ("requests", "sum", True),
    ]


TOO_OLD = NOW - 8 * DAY
AHEAD = NOW + 2 * DAY


def test_records_that_cannot_be_stored_are_refused_each_by_its_request(store: Store) -> None:
    good = traces({})
    bodies = [
        good,
        traces({"trace_id": b""}, {"trace_id": b"short"}, {}),
        b"",
        traces({"span_id": b""}, {"start_time_unix_nano": 0}) + traces({"span_id": bytes(7)}),
        traces({"start_time_unix_nano": TOO_OLD}, {"start_time_unix_nano": AHEAD}),
        good,
    ]

    refused = store.write(Signal.TRACES, bodies)

    assert [item.records for item in refused] == [0, 2, 0, 3, 2, 0]
    assert refused[1].reason == REASONS["trace"]
    assert refused[4].reason == REASONS["time"]
    assert one(store, "SELECT count() FROM otel.otel_traces") == 3
    traced = Signal.TRACES
    assert store.losses() == {(traced, "trace"): 2, (traced, "span"): 2, (traced, "time"): 3}
    store.write_losses()
    store.write_losses()
    sql = (
        "SELECT Signal, Reason, sum(Records) AS n FROM otel.kernob_refused GROUP BY ALL ORDER BY n"
    )
    assert [row["n"] for row in rows(store, sql)] == [2, 2, 3]


def test_points_and_log_records_out_of_time_are_refused(store: Store) -> None:
    late = sums({"time_unix_nano": 0}, {"as_int": 1}, {"time_unix_nano": AHEAD})
    old = logs({"time_unix_nano": TOO_OLD}, {"time_unix_nano": 0})

    assert store.write(Signal.METRICS, [late]) == [Refused(2, REASONS["time"])]
    assert store.write(Signal.LOGS, [old]) == [Refused(1, REASONS["time"])]
    assert one(store, "SELECT count() FROM otel.otel_metrics_sum") == 1
    assert one(store, "SELECT count() FROM otel.otel_logs") == 1


def test_a_metric_of_unknown_kind_is_refused_and_an_empty_one_is_not(store: Store) -> None:
    empty = sums()  # A sum without points.
    unknown = bytes.fromhex("0a0a 1208 1206 0a0178 6a01ff".replace(" ", ""))  # Field 13 of Metric.

    refused = store.write(Signal.METRICS, [empty, unknown, sums({"as_int": 1})])

    assert refused == [Refused(), Refused(1, REASONS["kind"]), Refused()]
    assert one(store, "SELECT count() FROM otel.otel_metrics_sum") == 1


def _field(number: int, content: bytes) -> bytes:
    return bytes([number << 3 | 2, len(content)]) + content


def _span(more: bytes) -> bytes:
    """Returns a request with a span, and one more field of it."""
    start = b"\x39" + NOW.to_bytes(8, "little")
    span = _field(1, TRACE) + _field(2, SPAN) + start + more
    return _field(1, _field(2, _field(2, span)))


def test_one_request_that_cannot_be_read_harms_no_other(store: Store) -> None:
    # Well-formed for protobuf, yet of other types than OTLP's: a name that is a number.
    odd = _span(b"\x28\x05")
    good = traces({})

    refused = store.write(Signal.TRACES, [good, odd, good])

    assert refused == [Refused(), Refused(1, REASONS["data"]), Refused()]
    assert one(store, "SELECT count() FROM otel.otel_traces") == 2
    assert store.losses() == {(Signal.TRACES, "data"): 1}


def test_what_cannot_be_read_is_logged_once(store: Store, caplog: pytest.LogCaptureFixture) -> None:
    odd = _span(b"\x28\x05")

    store.write(Signal.TRACES, [odd, odd, odd])
    store.write(Signal.TRACES, [odd])

    assert len([record for record in caplog.records if "can't be read" in record.msg]) == 1
    assert store.losses() == {(Signal.TRACES, "data"): 4}


def test_an_error_does_not_silence_what_follows(store: Store) -> None:
    # A start that is a varint: the count that comes before the insert fails, too.
    odd = _span(b"\x38\x05")

    for _ in range(4):
        assert store.write(Signal.TRACES, [odd]) == [Refused(1, REASONS["data"])]
        assert store.write(Signal.TRACES, [traces({"trace_id": b"x"}, {})])[0].records == 1
        with pytest.raises(QueryError):
            store.reader().read("SELECT throwIf(1)")
        assert one(store, "SELECT 1") == 1

    assert one(store, "SELECT count() FROM otel.otel_traces") == 4


def test_two_writers_at_once_lose_nothing_and_write_each_series_once(store: Store) -> None:
    def body(batch: int) -> bytes:
        points = [{"as_int": n, "attributes": [{"key": str(n)}]} for n in range(50)]
        return sums(*points, name=f"m{batch % 3}")

    def work(first: int) -> None:
        for batch in range(first, first + 10):
            store.write(Signal.METRICS, [body(batch)])

    threads = [threading.Thread(target=work, args=(first,)) for first in (0, 10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert one(store, "SELECT count() FROM otel.otel_metrics_sum") == 1000
    assert one(store, "SELECT uniqExact(SeriesId) FROM otel.kernob_points") == 150
    assert one(store, "SELECT count() FROM otel.kernob_series FINAL") == 150
    # At the same instant both may find a series new; a merge folds what is double.
    assert one(store, "SELECT count() FROM otel.kernob_series") <= 300


def test_a_query_is_cancelled_by_its_tag(store: Store) -> None:
    reader = store.reader(Limits(seconds=30), tag="page-1")
    other = store.reader(tag="page-2")
    outcome: list[BaseException] = []

    def ask() -> None:
        try:
            reader.read(ENDLESS)
        except QueryCancelledError as error:
            outcome.append(error)

    thread = threading.Thread(target=ask)
    thread.start()
    time.sleep(0.3)
    start = time.monotonic()
    store.cancel("page-1")
    thread.join(10)

    assert len(outcome) == 1
    assert time.monotonic() - start < 3
    with pytest.raises(QueryCancelledError):
        reader.read("SELECT 1")
    assert other.read("SELECT 1 AS one").to_pylist() == [{"one": 1}]
    store.cancel("nobody")


@pytest.mark.parametrize(
    ("limits", "sql"),
    [
        (Limits(seconds=0.3), ENDLESS),
        (Limits(memory=20 << 20), "SELECT groupArray(toString(number)) FROM numbers(10000000)"),
        (Limits(rows=1000), "SELECT number FROM numbers(100000)"),
    ],
)  # fmt: skip
def test_queries_have_limits(store: Store, limits: Limits, sql: str) -> None:
    with pytest.raises(QueryError):
        store.reader(limits).read(sql)
    with pytest.raises(QueryError):
        store.query(sql, limits)

    assert store.reader(limits).read("SELECT 1 AS one").to_pylist() == [{"one": 1}]


def test_parameters_are_values_whatever_they_hold(store: Store) -> None:
    nasty = "q'x\\\n\t%d{a:String}--"

    row = rows(
        store,
        "SELECT {a:String} AS a, {l:Array(String)} AS l, {n:Array(UInt64)} AS n, {f:Float64} AS f",
        a=nasty, l=[nasty, ""], n=[1, 2**63], f=0.5,
    )  # fmt: skip

    assert row == [{"a": nasty, "l": [nasty, ""], "n": [1, 2**63], "f": 0.5}]


def test_a_store_is_opened_again_with_all_it_held(settings: config.Store) -> None:
    for _ in range(2):
        store = Store.open(settings)
        store.write(Signal.METRICS, [sums({"as_int": 1})])
        store.close()

    store = Store.open(settings)
    try:
        assert one(store, "SELECT count() FROM otel.otel_metrics_sum") == 2
        assert one(store, "SELECT count() FROM otel.kernob_schema") == 1
    finally:
        store.close()


def test_a_newer_store_is_refused(settings: config.Store) -> None:
    store = Store.open(settings)
    store.engine.command("INSERT INTO otel.kernob_schema (Version) VALUES (99)")
    store.close()

    with pytest.raises(StoreError, match=r"version 99.*: use the Kernob that wrote it"):
        Store.open(settings)


def test_an_older_store_is_migrated(
    settings: config.Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store.open(settings)
    store.write(Signal.LOGS, [logs({})])
    store.close()
    monkeypatch.setattr(schema, "VERSION", schema.VERSION + 1)
    migration = (
        "ALTER TABLE {database}.otel_logs{on} ADD COLUMN IF NOT EXISTS New UInt8 DEFAULT 7",
    )
    monkeypatch.setitem(schema.MIGRATIONS, schema.VERSION, migration)

    store = Store.open(settings)

    try:
        assert one(store, "SELECT New FROM otel.otel_logs") == 7
        assert one(store, "SELECT max(Version) FROM otel.kernob_schema") == schema.VERSION
    finally:
        store.close()


def test_a_store_of_version_1_writes_each_point_once(settings: config.Store) -> None:
    store = Store.open(settings)
    for command in (
        "CREATE MATERIALIZED VIEW otel.kernob_points_sum TO otel.kernob_points AS SELECT "
        "MetricName, SeriesId, StartTimeUnix AS Start, TimeUnix AS Time, Value "
        "FROM otel.otel_metrics_sum",
        "TRUNCATE TABLE otel.kernob_schema",
        "INSERT INTO otel.kernob_schema (Version) VALUES (1)",
    ):
        store.engine.command(command)
    store.close()

    store = Store.open(settings)

    try:
        store.write(Signal.METRICS, [sums({"as_int": 1})])
        assert one(store, "SELECT count() FROM otel.kernob_points") == 1
    finally:
        store.close()


def _ttl(store: Store, table: str) -> str:
    sql = "SELECT engine_full FROM system.tables WHERE database = 'otel' AND name = {name:String}"
    text: str = one(store, sql, name=table)
    return text


def test_a_change_of_retention_alters_the_tables(settings: config.Store) -> None:
    store = Store.open(settings)
    assert "toIntervalSecond(604800)" in _ttl(store, "otel_logs")
    store.close()
    hours = config.Seconds(3 * 3600)

    store = Store.open(msgspec.structs.replace(settings, logs_retention=hours))

    try:
        assert "toIntervalSecond(10800)" in _ttl(store, "otel_logs")
        assert "toIntervalSecond(604800)" in _ttl(store, "otel_traces")
        assert "toIntervalSecond(86400)" in _ttl(store, "kernob_points")
        old = NOW - 4 * 3600 * 10**9
        refused = store.write(Signal.LOGS, [logs({"time_unix_nano": old})])
        assert [item.records for item in refused] == [1]
    finally:
        store.close()
