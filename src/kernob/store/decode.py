"""OTLP to rows by ClickHouse itself: the statements that count, check, decode and insert.

A statement reads one protobuf message by the minimal schemas of `otlp.proto` and unfolds its nested
arrays. What a column holds is as the Collector's ClickHouse exporter v0.149.0 writes it. Four
kinds of values become text while they are read; `nested.py` makes texts of the others before.

What a statement costs beside its records is the analysis of its expressions, some 0.1 ms for each
node; so they are short.
"""

from __future__ import annotations

import importlib.resources
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from kernob.store.engine import Signal
from kernob.store.survey import Bounds, Statement
from kernob.store.tables import NUMBERS_TABLE

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

SCHEMA: Final = " ".join(
    line
    for line in importlib.resources.files("kernob.store")
    .joinpath("otlp.proto")
    .read_text("utf-8")
    .splitlines()
    if not line.startswith("//")
)
MESSAGES: Final = {signal: signal.value.capitalize() for signal in Signal}
"""A request's name in `SCHEMA`."""

_VALUE: Final = (
    "Tuple(text String, boolean Nullable(String), integer Nullable(String), "
    "number Nullable(String))"
)
_MAP: Final = f"Array(Tuple(key LowCardinality(String), value {_VALUE}))"
_SCOPE: Final = (
    f"scope Tuple(name String, version String, attributes {_MAP}, dropped_attributes_count UInt32)"
)
_EXEMPLARS: Final = (
    f", exemplars Array(Tuple(time_unix_nano UInt64, as_double Float64, span_id String, "
    f"trace_id String, as_int Int64, filtered_attributes {_MAP}))"
)
_TIMES: Final = "start_time_unix_nano UInt64, time_unix_nano UInt64"
_NUMBER: Final = (
    f"data_points Array(Tuple({_TIMES}, as_double Float64, as_int Int64, "
    f"attributes {_MAP}, flags UInt32{{exemplars}}))"
)
_BUCKETS: Final = "Tuple(offset Int32, bucket_counts Array(UInt64))"
_DATA: Final = {
    "gauge": _NUMBER,
    "sum": f"{_NUMBER}, aggregation_temporality Int32, is_monotonic Bool",
    "histogram": f"data_points Array(Tuple({_TIMES}, count UInt64, sum Float64, "
    f"bucket_counts Array(UInt64), explicit_bounds Array(Float64), "
    f"attributes {_MAP}, flags UInt32, min Float64, max Float64{{exemplars}})), "
    "aggregation_temporality Int32",
    "exponential_histogram": f"data_points Array(Tuple(attributes {_MAP}, {_TIMES}, count UInt64, "
    f"sum Float64, scale Int32, zero_count UInt64, positive {_BUCKETS}, negative {_BUCKETS}, "
    f"flags UInt32, min Float64, max Float64{{exemplars}})), aggregation_temporality Int32",
    "summary": f"data_points Array(Tuple({_TIMES}, count UInt64, sum Float64, "
    f"quantile_values Array(Tuple(quantile Float64, value Float64)), attributes {_MAP}, "
    "flags UInt32))",
}
_EVENTS: Final = f", events Array(Tuple(time_unix_nano UInt64, name String, attributes {_MAP}))"
_LINKS: Final = (
    f", links Array(Tuple(trace_id String, span_id String, trace_state String, attributes {_MAP}))"
)
_COUNT_SUM: Final = {"Count": "r.count", "Sum": "r.sum"}
_MIN_MAX: Final = {"Min": "r.min", "Max": "r.max"}
_VALUES: Final = {
    "histogram": {
        **_COUNT_SUM,
        **_MIN_MAX,
        "BucketCounts": "r.bucket_counts",
        "ExplicitBounds": "r.explicit_bounds",
    },
    "exponential_histogram": {
        **_COUNT_SUM,
        **_MIN_MAX,
        "Scale": "r.scale",
        "ZeroCount": "r.zero_count",
        "PositiveOffset": "r.positive.offset",
        "PositiveBucketCounts": "r.positive.bucket_counts",
        "NegativeOffset": "r.negative.offset",
        "NegativeBucketCounts": "r.negative.bucket_counts",
    },
    "summary": {
        **_COUNT_SUM,
        "ValueAtQuantiles.Quantile": "r.quantile_values.quantile",
        "ValueAtQuantiles.Value": "r.quantile_values.value",
    },
}
_RECORDS: Final = {
    Signal.TRACES: (
        "scope_spans",
        "spans",
        "trace_id String, span_id String, trace_state String, parent_span_id String, name String, "
        "kind Int32, start_time_unix_nano UInt64, end_time_unix_nano UInt64, "
        f"attributes {_MAP}{{events}}{{links}}, status Tuple(message String, code Int32)",
    ),
    Signal.LOGS: (
        "scope_logs",
        "log_records",
        f"time_unix_nano UInt64, severity_number Int32, severity_text String, body {_VALUE}, "
        f"attributes {_MAP}, flags UInt32, trace_id String, span_id String, "
        "observed_time_unix_nano UInt64, event_name String",
    ),
    Signal.PROFILES: (
        "scope_profiles",
        "profiles",
        "sample_type Tuple(type_strindex Int32, unit_strindex Int32), "
        "samples Array(Tuple(stack_index Int32)), time_unix_nano UInt64, duration_nano UInt64, "
        "profile_id String",
    ),
}


# -- columns -------------------------------------------------------------------------------------


def _text(value: str) -> str:
    """Returns the text of a value: ClickHouse has made one of whichever field was there."""
    return f"coalesce({value}.3, {value}.4, {value}.2, {value}.1)"


def _map(attributes: str) -> str:
    values = f"arrayMap(v -> {_text('v')}, {attributes}.value)"
    return f"CAST(({attributes}.key, {values}), 'Map(LowCardinality(String), String)')"


def _maps(array: str) -> str:
    return f"arrayMap(m -> {_map('m')}, {array})"


def _exemplars() -> dict[str, str]:
    return {
        "Exemplars.FilteredAttributes": _maps("r.exemplars.filtered_attributes"),
        "Exemplars.TimeUnix": _times("r.exemplars.time_unix_nano"),
        "Exemplars.Value": "arrayMap(e -> e.as_double + e.as_int, r.exemplars)",
        "Exemplars.SpanId": _hexes("r.exemplars.span_id", 8),
        "Exemplars.TraceId": _hexes("r.exemplars.trace_id", 16),
    }


def _time(nanoseconds: str) -> str:
    return f"fromUnixTimestamp64Nano(toInt64({nanoseconds}))"


def _times(array: str) -> str:
    return f"arrayMap(t -> {_time('t')}, {array})"


def _hex(value: str) -> str:
    """Returns an identifier's text, empty for one of zeroes."""
    return f"if(replaceAll({value}, '\\0', '') = '', '', lower(hex({value})))"


def _hexes(array: str, size: int = 0) -> str:
    """Returns identifiers' texts; those of exemplars are full length even when there is none."""
    if not size:
        return f"arrayMap(i -> {_hex('i')}, {array})"
    return f"arrayMap(i -> lower(hex(if(i = '', repeat('\\0', {size}), i))), {array})"


_METRIC: Final = {
    "ResourceAttributes": "ra",
    "ResourceSchemaUrl": "x.schema_url",
    "ScopeName": "s.scope.name",
    "ScopeVersion": "s.scope.version",
    "ScopeAttributes": _map("s.scope.attributes"),
    "ScopeDroppedAttrCount": "s.scope.dropped_attributes_count",
    "ScopeSchemaUrl": "s.schema_url",
    "ServiceName": "ra['service.name']",
    "MetricName": "m.name",
    "MetricDescription": "m.description",
    "MetricUnit": "m.unit",
    "Attributes": _map("r.attributes"),
    "StartTimeUnix": _time("r.start_time_unix_nano"),
    "TimeUnix": _time("r.time_unix_nano"),
    "Flags": "r.flags",
}


# -- statements ----------------------------------------------------------------------------------


def numbers(
    database: str, kinds: Sequence[str], bounds: Bounds | None, *, exemplars: bool
) -> Statement:
    """Returns the INSERT of the points of gauges, sums or both: those within bounds, or all.

    What is not there need not be read: without `exemplars` the statement takes a fifth less time.
    """
    columns = _METRIC | {"Value": "r.as_double + r.as_int"}
    if exemplars:
        columns |= _exemplars()
    if "sum" in kinds:
        temporality = "m.sum.aggregation_temporality"
        if "gauge" in kinds:
            # For a gauge `NO_TEMPORALITY`. With `if` each point would get a copy of its metric.
            temporality = f"{temporality} - empty(m.sum.data_points)"
        columns |= {"AggregationTemporality": temporality, "IsMonotonic": "m.sum.is_monotonic"}
    return _points(f"{database}.{NUMBERS_TABLE}", columns, kinds, bounds, exemplars=exemplars)


def metrics(database: str, kind: str, bounds: Bounds | None, *, exemplars: bool) -> Statement:
    """As `numbers`, of one of the other kinds."""
    columns = _METRIC | _VALUES[kind]
    if kind != "summary":
        columns["AggregationTemporality"] = f"m.{kind}.aggregation_temporality"
        if exemplars:
            columns |= _exemplars()
    table = f"{database}.otel_metrics_{kind}"
    return _points(table, columns, (kind,), bounds, exemplars=exemplars)


def _points(
    table: str,
    columns: Mapping[str, str],
    kinds: Sequence[str],
    bounds: Bounds | None,
    *,
    exemplars: bool,
) -> Statement:
    points = ", ".join(f"m.{kind}.data_points" for kind in kinds)
    if len(kinds) > 1:
        points = f"arrayConcat({points})"
    rows = _unfolded("scope_metrics", f"arrayJoin(s.metrics) AS m, arrayJoin({points})")
    fields = ", ".join(f"{kind} Tuple({_DATA[kind]})" for kind in kinds)
    structure = (
        f"resources Array(Tuple(resource Tuple(attributes {_MAP}), scope_metrics Array(Tuple("
        f"{_SCOPE}, metrics Array(Tuple(name String, description String, unit String, "
        f"{fields})), schema_url String)), schema_url String))"
    ).replace("{exemplars}", _EXEMPLARS if exemplars else "")
    where = f"NOT {bounds.missed('r.time_unix_nano')}" if bounds else ""
    return replace(_insert(table, columns, rows, where, structure), kinds=tuple(kinds))


def traces(database: str, bounds: Bounds | None, *, events: bool, links: bool) -> Statement:
    """Returns the INSERT of the spans that are within bounds and have their identifiers, or of all.

    `events` and `links` say whether there are any, as `exemplars` for `metrics`.
    """
    kinds = "['Unspecified', 'Internal', 'Server', 'Client', 'Producer', 'Consumer']"
    columns = {
        "Timestamp": _time("r.start_time_unix_nano"),
        "TraceId": _hex("r.trace_id"),
        "SpanId": _hex("r.span_id"),
        "ParentSpanId": _hex("r.parent_span_id"),
        "TraceState": "r.trace_state",
        "SpanName": "r.name",
        "SpanKind": f"transform(r.kind, [0, 1, 2, 3, 4, 5], {kinds}, '')",
        "ServiceName": "ra['service.name']",
        "ResourceAttributes": "ra",
        "ScopeName": "s.scope.name",
        "ScopeVersion": "s.scope.version",
        "SpanAttributes": _map("r.attributes"),
        "Duration": "greatest(r.end_time_unix_nano, r.start_time_unix_nano)"
        " - r.start_time_unix_nano",
        "StatusCode": "transform(r.status.code, [0, 1, 2], ['Unset', 'Ok', 'Error'], '')",
        "StatusMessage": "r.status.message",
    }
    if events:
        columns |= {
            "Events.Timestamp": _times("r.events.time_unix_nano"),
            "Events.Name": "r.events.name",
            "Events.Attributes": _maps("r.events.attributes"),
        }
    if links:
        columns |= {
            "Links.TraceId": _hexes("r.links.trace_id"),
            "Links.SpanId": _hexes("r.links.span_id"),
            "Links.TraceState": "r.links.trace_state",
            "Links.Attributes": _maps("r.links.attributes"),
        }
    whole = "length(r.trace_id) = 16 AND length(r.span_id) = 8"
    where = f"{whole} AND NOT {bounds.missed('r.start_time_unix_nano')}" if bounds else ""
    rows, structure = _rows(Signal.TRACES)
    structure = structure.replace("{events}", _EVENTS if events else "")
    structure = structure.replace("{links}", _LINKS if links else "")
    return _insert(f"{database}.otel_traces", columns, rows, where, structure)


def logs(database: str, bounds: Bounds, *, all_within: bool) -> Statement:
    """Returns the INSERT of the log records that are within bounds, which may be all."""
    time = bounds.of_log("r")
    columns = {
        "Timestamp": _time(time),
        "TraceId": _hex("r.trace_id"),
        "SpanId": _hex("r.span_id"),
        "TraceFlags": "bitAnd(r.flags, 255)",
        "SeverityText": "r.severity_text",
        "SeverityNumber": "bitAnd(r.severity_number, 255)",
        "ServiceName": "ra['service.name']",
        "Body": _text("r.body"),
        "ResourceSchemaUrl": "x.schema_url",
        "ResourceAttributes": "ra",
        "ScopeSchemaUrl": "s.schema_url",
        "ScopeName": "s.scope.name",
        "ScopeVersion": "s.scope.version",
        "ScopeAttributes": _map("s.scope.attributes"),
        "LogAttributes": _map("r.attributes"),
        "EventName": "r.event_name",
    }
    rows, structure = _rows(Signal.LOGS)
    where = "" if all_within else f"NOT {bounds.missed(time)}"
    return _insert(f"{database}.otel_logs", columns, rows, where, structure)


def profiles(database: str, request: str, bounds: Bounds) -> Statement:
    """Returns the INSERT of what is known of each profile; `request` is where the rest is."""
    columns = {
        "Timestamp": _time("r.time_unix_nano"),
        "Duration": "r.duration_nano",
        "ProfileId": _hex("r.profile_id"),
        "ServiceName": "ra['service.name']",
        "ResourceAttributes": "ra",
        "ScopeName": "s.scope.name",
        "ScopeVersion": "s.scope.version",
        "SampleType": "strings[r.sample_type.type_strindex + 1]",
        "SampleUnit": "strings[r.sample_type.unit_strindex + 1]",
        "Samples": "length(r.samples)",
        "RequestId": f"'{request}'",
    }
    rows, structure = _rows(Signal.PROFILES)
    where = f"NOT {bounds.missed('r.time_unix_nano')}"
    return _insert(f"{database}.otel_profiles", columns, rows, where, structure)


def whole(database: str, request: str, seconds: int) -> Statement:
    """Returns the INSERT of a request of profiles as it came; its message is `Request`."""
    return Statement(
        f"INSERT INTO {database}.otel_profiles_requests (Timestamp, RequestId, Request) "
        f"SELECT toDateTime({seconds}), '{request}', request FROM {{source}}",
        "request String",
    )


def _rows(signal: Signal) -> tuple[str, str]:
    """Returns the FROM of a request's records, as `_unfolded`, and the structure it reads."""
    scopes, records, fields = _RECORDS[signal]
    url = ", schema_url String" if signal == Signal.LOGS else ""
    structure = (
        f"resources Array(Tuple(resource Tuple(attributes {_MAP}), {scopes} Array(Tuple("
        f"{_SCOPE}, {records} Array(Tuple({fields})){url})){url}))"
    )
    if signal == Signal.PROFILES:
        structure += ", dictionary Tuple(string_table Array(String))"
        more = "dictionary.string_table AS strings, "
    else:
        more = ""
    return _unfolded(scopes, f"arrayJoin(s.{records})", more), structure


def _unfolded(scopes: str, records: str, more: str = "") -> str:
    """Returns the SELECT with a row for each record `r`: of scope `s`, of resource `x`.

    `ra` are the resource's attributes. One SELECT, since each one around it costs its analysis.
    """
    return (
        f"SELECT {more}arrayJoin(resources) AS x, {_map('x.resource.attributes')} AS ra, "
        f"arrayJoin(x.{scopes}) AS s, {records} AS r FROM {{source}}"
    )


def _insert(
    table: str, columns: Mapping[str, str], rows: str, where: str, structure: str
) -> Statement:
    return Statement(
        f"INSERT INTO {table} ({', '.join(columns)}) SELECT {', '.join(columns.values())} "
        f"FROM ({rows}){f' WHERE {where}' if where else ''}",
        structure,
    )
