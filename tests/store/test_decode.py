"""Each field of OTLP has its place in the tables, as the Collector's exporter puts it there."""

from __future__ import annotations

import hashlib
from typing import Any

import pytest
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
)
from opentelemetry.proto.collector.profiles.v1development.profiles_service_pb2 import (
    ExportProfilesServiceRequest,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from kernob.store.engine import Refused, Signal
from kernob.store.store import Store
from store.otlp import NOW, SPAN, TRACE, attributes, one, rows, sums, traces, value

SECOND = 10**9
OTHER_TRACE = bytes(range(16, 32))
OTHER_SPAN = bytes(range(8, 16))


def test_a_span_with_all_its_fields(store: Store) -> None:
    request = ExportTraceServiceRequest()
    resource = request.resource_spans.add(schema_url="https://example.com/1")
    resource.resource.attributes.extend(attributes({"service.name": "shop", "host.cpu": 4}))
    scope = resource.scope_spans.add()
    scope.scope.name, scope.scope.version = "library", "1.2"
    span = scope.spans.add(
        trace_id=TRACE, span_id=SPAN, trace_state="a=b", parent_span_id=OTHER_SPAN, flags=257,
        name="GET /x", kind=3, start_time_unix_nano=NOW + 1, end_time_unix_nano=NOW + 1001,
        attributes=attributes({"text": "ä\n", "yes": True, "no": False, "many": -(2**62),
                               "half": 0.5, "empty": "", "none": None}),
    )  # fmt: skip
    span.events.add(time_unix_nano=NOW + 2, name="first", attributes=attributes({"n": 1}))
    span.events.add(time_unix_nano=NOW + 3, name="second")
    span.links.add(trace_id=OTHER_TRACE, span_id=OTHER_SPAN, trace_state="c=d",
                   attributes=attributes({"why": "because"}))  # fmt: skip
    span.links.add()
    span.status.code, span.status.message = 2, "it broke"

    refused = store.write(Signal.TRACES, [request.SerializeToString()])

    assert refused == [Refused()]
    (row,) = rows(
        store,
        "SELECT * REPLACE (toUnixTimestamp64Nano(Timestamp) AS Timestamp), "
        "arrayMap(t -> toUnixTimestamp64Nano(t), Events.Timestamp) AS Times FROM otel.otel_traces",
    )
    del row["Events.Timestamp"]
    assert row == {
        "Timestamp": NOW + 1, "TraceId": TRACE.hex(), "SpanId": SPAN.hex(),
        "ParentSpanId": OTHER_SPAN.hex(), "TraceState": "a=b", "SpanName": "GET /x",
        "SpanKind": "Client", "ServiceName": "shop",
        "ResourceAttributes": [("service.name", "shop"), ("host.cpu", "4")],
        "ScopeName": "library", "ScopeVersion": "1.2",
        "SpanAttributes": [("text", "ä\n"), ("yes", "true"), ("no", "false"),
                           ("many", str(-(2**62))), ("half", "0.5"), ("empty", ""), ("none", "")],
        "Duration": 1000, "StatusCode": "Error", "StatusMessage": "it broke",
        "Times": [NOW + 2, NOW + 3], "Events.Name": ["first", "second"],
        "Events.Attributes": [[("n", "1")], []],
        "Links.TraceId": [OTHER_TRACE.hex(), ""], "Links.SpanId": [OTHER_SPAN.hex(), ""],
        "Links.TraceState": ["c=d", ""], "Links.Attributes": [[("why", "because")], []],
    }  # fmt: skip
    (times,) = rows(
        store, "SELECT *, toUnixTimestamp(Start) AS s FROM otel.otel_traces_trace_id_ts"
    )
    assert (times["TraceId"], times["s"]) == (TRACE.hex(), NOW // SECOND)


def test_kinds_of_spans_have_names_and_none_lasts_less_than_nothing(store: Store) -> None:
    # A clock that went back between start and end makes no span of 584 years.
    end = NOW - 1

    store.write(
        Signal.TRACES,
        [traces(*({"kind": kind, "end_time_unix_nano": end} for kind in range(6)))],
    )

    found = rows(store, "SELECT SpanKind, StatusCode, Duration, ParentSpanId FROM otel_traces")
    names = ("Unspecified", "Internal", "Server", "Client", "Producer", "Consumer")
    assert sorted(tuple(row.values()) for row in found) == sorted(
        (name, "Unset", 0, "") for name in names
    )


def test_a_log_record_with_all_its_fields(store: Store) -> None:
    request = ExportLogsServiceRequest()
    resource = request.resource_logs.add(schema_url="https://example.com/1")
    resource.resource.attributes.extend(attributes({"service.name": "shop"}))
    scope = resource.scope_logs.add(schema_url="https://example.com/2")
    scope.scope.name, scope.scope.version = "library", "1.2"
    scope.scope.attributes.extend(attributes({"s": 1}))
    scope.log_records.add(
        time_unix_nano=NOW + 1, observed_time_unix_nano=NOW + 9, severity_number=17,
        severity_text="ERROR", body=value("it broke"), attributes=attributes({"k": "v"}),
        flags=257, trace_id=TRACE, span_id=SPAN, event_name="event",
    )  # fmt: skip

    store.write(Signal.LOGS, [request.SerializeToString()])

    (row,) = rows(
        store,
        "SELECT * REPLACE (toUnixTimestamp64Nano(Timestamp) AS Timestamp, "
        "toUnixTimestamp(TimestampTime) AS TimestampTime) FROM otel.otel_logs",
    )
    assert row == {
        "Timestamp": NOW + 1, "TimestampTime": NOW // SECOND, "TraceId": TRACE.hex(),
        "SpanId": SPAN.hex(), "TraceFlags": 1, "SeverityText": "ERROR", "SeverityNumber": 17,
        "ServiceName": "shop", "Body": "it broke", "ResourceSchemaUrl": "https://example.com/1",
        "ResourceAttributes": [("service.name", "shop")],
        "ScopeSchemaUrl": "https://example.com/2", "ScopeName": "library", "ScopeVersion": "1.2",
        "ScopeAttributes": [("s", "1")], "LogAttributes": [("k", "v")], "EventName": "event",
    }  # fmt: skip


def test_a_log_record_without_time_has_the_time_it_was_observed_else_now(store: Store) -> None:
    request = ExportLogsServiceRequest()
    scope = request.resource_logs.add().scope_logs.add()
    scope.log_records.add(observed_time_unix_nano=NOW - SECOND, body=value(7))
    scope.log_records.add(body=value("later"))

    refused = store.write(Signal.LOGS, [request.SerializeToString()])

    assert refused == [Refused()]
    sql = "SELECT Body, toUnixTimestamp64Nano(Timestamp) AS t FROM otel.otel_logs ORDER BY t"
    observed, without = rows(store, sql)
    assert observed == {"Body": "7", "t": NOW - SECOND}
    assert without["Body"] == "later"
    assert 0 <= without["t"] - NOW < 600 * SECOND


def _metric(kind: str, point: dict[str, Any], *, exemplars: bool = True) -> bytes:
    request = ExportMetricsServiceRequest()
    resource = request.resource_metrics.add(schema_url="https://example.com/1")
    resource.resource.attributes.extend(attributes({"service.name": "shop", "host.name": "h1"}))
    scope = resource.scope_metrics.add(schema_url="https://example.com/2")
    scope.scope.name, scope.scope.version = "library", "1.2"
    scope.scope.dropped_attributes_count = 3
    scope.scope.attributes.extend(attributes({"s": True}))
    metric = scope.metrics.add(name="m", description="what", unit="By")
    data = getattr(metric, kind)
    if kind in ("sum", "histogram", "exponential_histogram"):
        data.aggregation_temporality = 1
    if kind == "sum":
        data.is_monotonic = True
    made = data.data_points.add(
        attributes=attributes({"a": "b"}), start_time_unix_nano=NOW - SECOND,
        time_unix_nano=NOW, flags=2, **point,
    )  # fmt: skip
    if exemplars and kind != "summary":
        made.exemplars.add(time_unix_nano=NOW + 1, as_int=7, span_id=SPAN, trace_id=TRACE,
                           filtered_attributes=attributes({"f": 1.5}))  # fmt: skip
        made.exemplars.add(as_double=0.5)
    return request.SerializeToString()


EXEMPLARS = {
    "Exemplars.FilteredAttributes": [[("f", "1.5")], []],
    "Exemplars.Value": [7.0, 0.5],
    "Exemplars.SpanId": [SPAN.hex(), "0" * 16],
    "Exemplars.TraceId": [TRACE.hex(), "0" * 32],
}
BUCKETS = {"offset": -3, "bucket_counts": [1, 2**40]}
HISTOGRAM = {"count": 5, "sum": 2.5, "min": 0.1, "max": 0.9}
POINTS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "gauge": ({"as_double": -0.25}, {"Value": -0.25, **EXEMPLARS}),
    "sum": (
        {"as_int": 2**53},
        {"Value": 2.0**53, "AggregationTemporality": 1, "IsMonotonic": True, **EXEMPLARS},
    ),
    "histogram": (
        {**HISTOGRAM, "bucket_counts": [1, 4], "explicit_bounds": [0.5]},
        {"Count": 5, "Sum": 2.5, "Min": 0.1, "Max": 0.9, "BucketCounts": [1, 4],
         "ExplicitBounds": [0.5], "AggregationTemporality": 1, **EXEMPLARS},
    ),
    "exponential_histogram": (
        {**HISTOGRAM, "scale": -2, "zero_count": 1, "positive": BUCKETS, "negative": {"offset": 4}},
        {"Count": 5, "Sum": 2.5, "Min": 0.1, "Max": 0.9, "Scale": -2, "ZeroCount": 1,
         "PositiveOffset": -3, "PositiveBucketCounts": [1, 2**40], "NegativeOffset": 4,
         "NegativeBucketCounts": [], "AggregationTemporality": 1, **EXEMPLARS},
    ),
    "summary": (
        {"count": 5, "sum": 2.5, "quantile_values": [{"quantile": 0.5, "value": 0.4}]},
        {"Count": 5, "Sum": 2.5, "ValueAtQuantiles.Quantile": [0.5],
         "ValueAtQuantiles.Value": [0.4]},
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", POINTS)
def test_a_point_with_all_its_fields(store: Store, kind: str) -> None:
    point, expected = POINTS[kind]

    refused = store.write(Signal.METRICS, [_metric(kind, point)])

    assert refused == [Refused()]
    times = "" if kind == "summary" else ", toUnixTimestamp64Nano(Exemplars.TimeUnix[1]) AS e"
    (row,) = rows(
        store,
        f"SELECT * REPLACE (toUnixTimestamp64Nano(StartTimeUnix) AS StartTimeUnix, "
        f"toUnixTimestamp64Nano(TimeUnix) AS TimeUnix){times} FROM otel.otel_metrics_{kind}",
    )
    if kind != "summary":
        assert row.pop("e") == NOW + 1
        del row["Exemplars.TimeUnix"]
    common = {
        "ResourceAttributes": [("service.name", "shop"), ("host.name", "h1")],
        "ResourceSchemaUrl": "https://example.com/1", "ScopeName": "library",
        "ScopeVersion": "1.2", "ScopeAttributes": [("s", "true")], "ScopeDroppedAttrCount": 3,
        "ScopeSchemaUrl": "https://example.com/2", "ServiceName": "shop", "MetricName": "m",
        "MetricDescription": "what", "MetricUnit": "By", "Attributes": [("a", "b")],
        "StartTimeUnix": NOW - SECOND, "TimeUnix": NOW, "Flags": 2,
    }  # fmt: skip
    assert row == common | expected
    (series,) = rows(store, "SELECT * FROM otel.kernob_series")
    assert (series["Kind"], series["Unit"], series["Service"], series["Host"]) == (
        kind, "By", "shop", "h1",
    )  # fmt: skip
    sql = f"SELECT count() FROM otel.otel_metrics_{kind} WHERE SeriesId = {{id:UInt64}}"
    assert one(store, sql, id=series["SeriesId"]) == 1


def test_gauges_and_sums_are_the_same_together_and_alone(store: Store) -> None:
    bodies = [_metric(kind, POINTS[kind][0], exemplars=False) for kind in ("gauge", "sum")]

    for batch in ([bodies[0]], [bodies[1]], bodies):
        assert store.write(Signal.METRICS, batch) == [Refused()] * len(batch)

    for kind in ("gauge", "sum"):
        found = rows(store, f"SELECT *, SeriesId FROM otel.otel_metrics_{kind}")
        assert len(found) == 2
        assert found[0] == found[1]
        sql = "SELECT count() FROM otel.kernob_points WHERE SeriesId = {id:UInt64}"
        # The same series in both, as the metric has one name.
        assert one(store, sql, id=found[0]["SeriesId"]) == 4


def test_points_without_a_recorded_value_are_no_zeros(store: Store) -> None:
    store.write(Signal.METRICS, [sums({"flags": 1}, {"as_int": 5, "time_unix_nano": NOW + 1})])

    assert one(store, "SELECT count() FROM otel.otel_metrics_sum") == 2
    assert one(store, "SELECT groupArray(Value) FROM otel.kernob_points") == [5.0]
    assert one(store, "SELECT sum(Count) FROM otel.kernob_points_1h") == 1


def test_rollups_keep_counters_by_their_maximum_and_fold_at_once(store: Store) -> None:
    minute = NOW // (60 * SECOND) * 60 * SECOND - 3600 * SECOND
    points = [
        {"as_int": 10 * n, "start_time_unix_nano": minute, "time_unix_nano": minute + n * SECOND}
        for n in range(60)
    ]

    store.write(Signal.METRICS, [sums(*points)])
    store.write(Signal.METRICS, [sums(*points)])

    sql = "SELECT max(Max) AS max, sum(Sum) AS sum, sum(Count) AS n, toUnixTimestamp(Time) AS t "
    (row,) = rows(store, f"{sql} FROM otel.kernob_points_1m GROUP BY Time")
    assert row == {"max": 590.0, "sum": 2 * 17700.0, "n": 120, "t": minute // SECOND}
    # One row for each insert: blocks are folded as they are written.
    assert one(store, "SELECT count() <= 2 FROM otel.kernob_points_1h") == 1
    assert one(store, "SELECT count() FROM otel.kernob_series") == 1


def test_a_profile_is_stored_whole(store: Store) -> None:
    request = ExportProfilesServiceRequest()
    request.dictionary.string_table.extend(["", "cpu", "nanoseconds"])
    resource = request.resource_profiles.add()
    resource.resource.attributes.extend(attributes({"service.name": "shop"}))
    profile = resource.scope_profiles.add().profiles.add(
        time_unix_nano=NOW, duration_nano=5 * SECOND, profile_id=TRACE
    )
    profile.sample_type.type_strindex, profile.sample_type.unit_strindex = 1, 2
    profile.samples.add(values=[1, 2])
    body = request.SerializeToString()

    refused = store.write(Signal.PROFILES, [body, body])

    assert refused == [Refused(), Refused()]
    row = rows(store, "SELECT * FROM otel.otel_profiles")[0]
    del row["Timestamp"]
    assert row == {
        "Duration": 5 * SECOND, "ProfileId": TRACE.hex(), "ServiceName": "shop",
        "ResourceAttributes": [("service.name", "shop")], "ScopeName": "", "ScopeVersion": "",
        "SampleType": "cpu", "SampleUnit": "nanoseconds", "Samples": 1,
        "RequestId": hashlib.blake2b(body, digest_size=16).hexdigest(),
    }  # fmt: skip
    sql = (
        "SELECT hex(Request) FROM otel.otel_profiles_requests WHERE RequestId = {id:String} LIMIT 1"
    )
    assert one(store, sql, id=row["RequestId"]) == body.hex().upper()
