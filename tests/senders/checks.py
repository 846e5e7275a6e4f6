"""Whether what a sender sent is in the tables of a server, to the bit."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from senders import scenario

if TYPE_CHECKING:
    from collections.abc import Mapping

    from serving import Serving

Json = dict[str, Any]

NANOSECONDS = "toUnixTimestamp64Nano({0}) AS `{0}`"
ALL_NANOSECONDS = "arrayMap(t -> toUnixTimestamp64Nano(t), {0}) AS `{0}`"
SPANS = (
    "TraceId, SpanId, ParentSpanId, TraceState, SpanName, SpanKind, ServiceName, ScopeName, "
    "ScopeVersion, SpanAttributes, Duration, StatusCode, StatusMessage, Events.Name, "
    "Events.Attributes, Links.TraceId, Links.SpanId, Links.TraceState, Links.Attributes, "
    + ", ".join(
        [NANOSECONDS.format("Timestamp"), ALL_NANOSECONDS.format("Events.Timestamp")],
    )
)
LOGS = (
    # Some SDKs set the second flag, too: the id is random (W3C Trace Context, level 2).
    "TraceId, SpanId, bitAnd(TraceFlags, 1) AS TraceFlags, SeverityText, SeverityNumber, "
    "ServiceName, Body, ScopeName, ScopeVersion, ScopeAttributes, LogAttributes, EventName, "
    + NANOSECONDS.format("Timestamp")
)
POINTS = (
    "ServiceName, ScopeName, ScopeVersion, MetricName, MetricDescription, MetricUnit, Attributes, "
    "Flags, Exemplars.Value, Exemplars.TraceId, Exemplars.SpanId, "
    + ", ".join(NANOSECONDS.format(name) for name in ("StartTimeUnix", "TimeUnix"))
)
HISTOGRAM = "Count, Sum, Min, Max, AggregationTemporality"
TABLES = {
    "sum": "Value, AggregationTemporality, IsMonotonic",
    "gauge": "Value",
    "histogram": f"{HISTOGRAM}, BucketCounts, ExplicitBounds",
    "exponential_histogram": f"{HISTOGRAM}, Scale, ZeroCount, PositiveOffset, "
    "PositiveBucketCounts, NegativeBucketCounts",
}


def check(server: Serving, sent: Json, told: Json, service: str, temporality: str) -> None:
    """Fails unless all of it is there, and nothing else.

    Args:
        server: that has it.
        sent: the scenario.
        told: what the sender printed.
        service: the sender's `service.name`.
        temporality: that it was told to prefer.
    """
    check_spans(server, sent, told["spans"], service)
    check_logs(server, sent, told["spans"], service)
    check_points(server, sent, told, service, temporality)
    check_resources(server, service)


def check_spans(server: Serving, sent: Json, ids: Mapping[str, list[str]], service: str) -> None:
    found = _rows(server, "otel_traces", SPANS, service)
    found.sort(key=lambda row: row["SpanName"])
    assert_equal(found, scenario.spans(sent, ids, service))


def check_logs(server: Serving, sent: Json, ids: Mapping[str, list[str]], service: str) -> None:
    found = _rows(server, "otel_logs", LOGS, service)
    found.sort(key=lambda row: row["Timestamp"])
    assert_equal(found, scenario.logs(sent, ids, service))


def check_points(server: Serving, sent: Json, told: Json, service: str, temporality: str) -> None:
    found = [
        row
        for table, columns in TABLES.items()
        for row in _rows(server, f"otel_metrics_{table}", f"{POINTS}, {columns}", service)
    ]
    expected = scenario.points(sent, service, temporality)
    order = {metric["name"]: i for i, metric in enumerate(sent["metrics"])}
    for rows in (found, expected):
        rows.sort(
            key=lambda row: (
                order[row["MetricName"]],
                sorted(row["Attributes"].items()),
                row.get("TimeUnix", 0),
            )
        )
    assert len(found) == len(expected)
    begin, end = told["metrics"]
    for row, wanted in zip(found, expected, strict=True):
        assert row["Flags"] == 0
        assert begin <= row["TimeUnix"] <= end
        assert row["StartTimeUnix"] <= row["TimeUnix"]
        _check_exemplars(sent, row, told["spans"])
        _check_buckets(row, wanted.pop("values", []))
        sums = {
            # SDKs add up in other orders.
            name: pytest.approx(value, rel=1e-14) if isinstance(value, float) else value
            for name, value in wanted.items()
        }
        assert_equal([{name: row[name] for name in sums}], [sums])


def check_resources(server: Serving, service: str) -> None:
    wanted = scenario.strings(scenario.RESOURCE) | {"service.name": service}
    for table in ("otel_traces", "otel_logs", *(f"otel_metrics_{kind}" for kind in TABLES)):
        found = _rows(server, table, "DISTINCT ResourceAttributes", service)
        assert len(found) == 1
        assert wanted.items() <= found[0]["ResourceAttributes"].items()


def assert_equal(found: list[Json], wanted: list[Json]) -> None:
    """Fails with what differs, since whole rows are long."""
    different = [difference(row, other) for row, other in zip(found, wanted, strict=True)]
    if any(different):
        pytest.fail(f"found, wanted: {different}", pytrace=False)


def difference(found: Json, wanted: Json) -> Json:
    """Returns the items that differ, each with both values."""
    both = {name: (found.get(name), wanted.get(name)) for name in found.keys() | wanted.keys()}
    return {
        name: difference(a, b)
        if isinstance(a, dict) and isinstance(b, dict)
        else (repr(a)[:500], repr(b)[:500])
        for name, (a, b) in both.items()
        if a != b
    }


def _rows(server: Serving, table: str, columns: str, service: str) -> list[Json]:
    # An SDK may send metrics of its own beside the scenario's.
    return server.rows(
        f"SELECT {columns} FROM otel.{table} "
        f"WHERE ServiceName = '{service}' AND ScopeName = '{scenario.SCOPE['name']}'"
    )


def _check_exemplars(sent: Json, row: Json, ids: Mapping[str, list[str]]) -> None:
    metric = next(metric for metric in sent["metrics"] if metric["name"] == row["MetricName"])
    values = {float(measured["value"]) for measured in metric["measurements"]}
    spans = {measured["span"] for measured in metric["measurements"]}
    assert values.issuperset(row["Exemplars.Value"])
    if row["Exemplars.Value"]:
        (span,) = spans
        assert {*row["Exemplars.TraceId"]} == {ids[span][0]}
        assert {*row["Exemplars.SpanId"]} == {ids[span][1]}


def _check_buckets(row: Json, values: list[float]) -> None:
    """Checks an exponential histogram against the values it is made of, at the SDK's scale."""
    if values:
        assert row["ZeroCount"] == 0
        assert sum(row["NegativeBucketCounts"]) == 0
        counts = enumerate(row["PositiveBucketCounts"], row["PositiveOffset"])
        found = {index: count for index, count in counts if count}
        assert found == scenario.exponential(values, row["Scale"])
