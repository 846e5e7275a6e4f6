"""The tables: those of the OpenTelemetry Collector's ClickHouse exporter, and Kernob's own.

Names, columns, types, codecs and partitions of `otel_logs`, `otel_traces` and `otel_metrics_*` are
those of the exporter's release v0.149.0, so that whatever reads them there reads them here. One
thing differs: metrics are sorted by the hash `SeriesId` where the exporter sorts by the map of
attributes, since comparing maps took a sixth of the time of an insert.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from kernob.store.engine import Signal

POINTS_RETENTION: Final = 86400
"""Seconds that `FINE` tables are kept at most; the rollups hold what is older."""
FINE: Final = ("kernob_points", "kernob_histograms")
"""Points as they were sent."""
SEEN: Final = "kernob_seen"
"""The series that were written today: in memory, on each node."""
NUMBERS: Final = ("gauge", "sum")
"""Kinds whose points are numbers."""
NUMBERS_TABLE: Final = "kernob_numbers"
"""Keeps nothing: its views put points of both `NUMBERS` where they belong, all at once."""
NO_TEMPORALITY: Final = -1
"""What `NUMBERS_TABLE` tells gauges by."""
DELTA: Final = 1
"""AggregationTemporality of increments."""
KINDS: Final = ("gauge", "sum", "histogram", "exponential_histogram", "summary")

_MAP: Final = "Map(LowCardinality(String), String)"
_NAME: Final = "LowCardinality(String)"


@dataclass(frozen=True, slots=True)
class Table:
    """One table.

    Attributes:
        name: in the database.
        signal: whose retention counts.
        columns: DDL of columns and indexes.
        time: expression of type DateTime that partitions and expiry go by.
        partition: expression of the day.
        order: the sorting key.
        engine: of the MergeTree family.
        keep: seconds that it is kept at most, 0 for the signal's retention.
        primary: the primary key, where it is shorter than `order`.
        granularity: rows between two marks of the primary index.
    """

    name: str
    signal: Signal
    columns: str
    time: str
    partition: str
    order: str
    engine: str = "MergeTree"
    keep: int = 0
    primary: str = ""
    granularity: int = 8192

    @property
    def wide(self) -> bool:
        """Whether it holds records as they were sent, with all their attributes."""
        return "ResourceAttributes" in self.columns and not self.name.startswith("kernob_")


# -- columns -------------------------------------------------------------------------------------


def _map_indexes(*columns: tuple[str, str]) -> str:
    """Returns the exporter's bloom filters over the keys and values of maps."""
    return ",\n".join(
        f"INDEX idx_{name}_{part.lower()} map{part}s({column}) "
        "TYPE bloom_filter(0.01) GRANULARITY 1"
        for name, column in columns
        for part in ("Key", "Value")
    )


_LOGS: Final = f"""
Timestamp DateTime64(9) CODEC(Delta(8), ZSTD(1)),
TimestampTime DateTime DEFAULT toDateTime(Timestamp),
TraceId String CODEC(ZSTD(1)),
SpanId String CODEC(ZSTD(1)),
TraceFlags UInt8,
SeverityText {_NAME} CODEC(ZSTD(1)),
SeverityNumber UInt8,
ServiceName {_NAME} CODEC(ZSTD(1)),
Body String CODEC(ZSTD(1)),
ResourceSchemaUrl {_NAME} CODEC(ZSTD(1)),
ResourceAttributes {_MAP} CODEC(ZSTD(1)),
ScopeSchemaUrl {_NAME} CODEC(ZSTD(1)),
ScopeName String CODEC(ZSTD(1)),
ScopeVersion {_NAME} CODEC(ZSTD(1)),
ScopeAttributes {_MAP} CODEC(ZSTD(1)),
LogAttributes {_MAP} CODEC(ZSTD(1)),
EventName String CODEC(ZSTD(1)),
INDEX idx_trace_id TraceId TYPE bloom_filter(0.001) GRANULARITY 1,
{
    _map_indexes(
        ("res_attr", "ResourceAttributes"),
        ("scope_attr", "ScopeAttributes"),
        ("log_attr", "LogAttributes"),
    )
},
INDEX idx_body Body TYPE tokenbf_v1(32768, 3, 0) GRANULARITY 8"""

_TRACES: Final = f"""
Timestamp DateTime64(9) CODEC(Delta, ZSTD(1)),
TraceId String CODEC(ZSTD(1)),
SpanId String CODEC(ZSTD(1)),
ParentSpanId String CODEC(ZSTD(1)),
TraceState String CODEC(ZSTD(1)),
SpanName {_NAME} CODEC(ZSTD(1)),
SpanKind {_NAME} CODEC(ZSTD(1)),
ServiceName {_NAME} CODEC(ZSTD(1)),
ResourceAttributes {_MAP} CODEC(ZSTD(1)),
ScopeName String CODEC(ZSTD(1)),
ScopeVersion String CODEC(ZSTD(1)),
SpanAttributes {_MAP} CODEC(ZSTD(1)),
Duration UInt64 CODEC(ZSTD(1)),
StatusCode {_NAME} CODEC(ZSTD(1)),
StatusMessage String CODEC(ZSTD(1)),
Events Nested (Timestamp DateTime64(9), Name {_NAME}, Attributes {_MAP}) CODEC(ZSTD(1)),
Links Nested (TraceId String, SpanId String, TraceState String, Attributes {_MAP}) CODEC(ZSTD(1)),
INDEX idx_trace_id TraceId TYPE bloom_filter(0.001) GRANULARITY 1,
{_map_indexes(("res_attr", "ResourceAttributes"), ("span_attr", "SpanAttributes"))},
INDEX idx_duration Duration TYPE minmax GRANULARITY 1"""

_TRACE_TIMES: Final = """
TraceId String CODEC(ZSTD(1)),
Start DateTime CODEC(Delta, ZSTD(1)),
End DateTime CODEC(Delta, ZSTD(1)),
INDEX idx_trace_id TraceId TYPE bloom_filter(0.01) GRANULARITY 1"""

_EXEMPLARS: Final = f"""
Exemplars Nested (
    FilteredAttributes {_MAP}, TimeUnix DateTime64(9), Value Float64, SpanId String, TraceId String
) CODEC(ZSTD(1)),"""
_FLAGS: Final = "\nFlags UInt32 CODEC(ZSTD(1)),"
_TEMPORALITY: Final = "\nAggregationTemporality Int32 CODEC(ZSTD(1)),"
_COUNT_SUM: Final = """
Count UInt64 CODEC(Delta, ZSTD(1)),
Sum Float64 CODEC(ZSTD(1)),"""
_MIN_MAX: Final = """
Min Float64 CODEC(ZSTD(1)),
Max Float64 CODEC(ZSTD(1)),"""
_VALUES: Final = {
    "gauge": f"\nValue Float64 CODEC(ZSTD(1)),{_FLAGS}{_EXEMPLARS}",
    "sum": f"\nValue Float64 CODEC(ZSTD(1)),{_FLAGS}{_EXEMPLARS}{_TEMPORALITY}"
    "\nIsMonotonic Boolean CODEC(Delta, ZSTD(1)),",
    "histogram": f"""{_COUNT_SUM}
BucketCounts Array(UInt64) CODEC(ZSTD(1)),
ExplicitBounds Array(Float64) CODEC(ZSTD(1)),{_EXEMPLARS}{_FLAGS}{_MIN_MAX}{_TEMPORALITY}""",
    "exponential_histogram": f"""{_COUNT_SUM}
Scale Int32 CODEC(ZSTD(1)),
ZeroCount UInt64 CODEC(ZSTD(1)),
PositiveOffset Int32 CODEC(ZSTD(1)),
PositiveBucketCounts Array(UInt64) CODEC(ZSTD(1)),
NegativeOffset Int32 CODEC(ZSTD(1)),
NegativeBucketCounts Array(UInt64) CODEC(ZSTD(1)),{_EXEMPLARS}{_FLAGS}{_MIN_MAX}{_TEMPORALITY}""",
    "summary": f"""{_COUNT_SUM}
ValueAtQuantiles Nested (Quantile Float64, Value Float64) CODEC(ZSTD(1)),{_FLAGS}""",
}


_POINT: Final = f"""
ResourceAttributes {_MAP} CODEC(ZSTD(1)),
ResourceSchemaUrl String CODEC(ZSTD(1)),
ScopeName String CODEC(ZSTD(1)),
ScopeVersion String CODEC(ZSTD(1)),
ScopeAttributes {_MAP} CODEC(ZSTD(1)),
ScopeDroppedAttrCount UInt32 CODEC(ZSTD(1)),
ScopeSchemaUrl String CODEC(ZSTD(1)),
ServiceName {_NAME} CODEC(ZSTD(1)),
MetricName String CODEC(ZSTD(1)),
MetricDescription String CODEC(ZSTD(1)),
MetricUnit String CODEC(ZSTD(1)),
Attributes {_MAP} CODEC(ZSTD(1)),
StartTimeUnix DateTime64(9) CODEC(Delta, ZSTD(1)),
TimeUnix DateTime64(9) CODEC(Delta, ZSTD(1)),"""


_SERIES_ID: Final = (
    "\nSeriesId UInt64 MATERIALIZED "
    "cityHash64(ResourceAttributes, ScopeName, MetricName, Attributes)"
)
NUMBERS_COLUMNS: Final = (
    f"{_POINT}\nValue Float64,{_FLAGS}{_EXEMPLARS}"
    f"\nAggregationTemporality Int32 DEFAULT {NO_TEMPORALITY},\nIsMonotonic Bool,{_SERIES_ID}"
)


def _metrics(kind: str) -> Table:
    columns = f"""{_POINT}{_VALUES[kind]}{_SERIES_ID},
{
        _map_indexes(
            ("res_attr", "ResourceAttributes"),
            ("scope_attr", "ScopeAttributes"),
            ("attr", "Attributes"),
        )
    }"""
    order = "(ServiceName, MetricName, SeriesId, toUnixTimestamp64Nano(TimeUnix))"
    return Table(
        f"otel_metrics_{kind}", Signal.METRICS, columns, "toDateTime(TimeUnix)",
        "toDate(TimeUnix)", order,
    )  # fmt: skip


_PROFILES: Final = f"""
Timestamp DateTime64(9) CODEC(Delta, ZSTD(1)),
Duration UInt64 CODEC(ZSTD(1)),
ProfileId String CODEC(ZSTD(1)),
ServiceName {_NAME} CODEC(ZSTD(1)),
ResourceAttributes {_MAP} CODEC(ZSTD(1)),
ScopeName String CODEC(ZSTD(1)),
ScopeVersion String CODEC(ZSTD(1)),
SampleType {_NAME} CODEC(ZSTD(1)),
SampleUnit {_NAME} CODEC(ZSTD(1)),
Samples UInt32 CODEC(ZSTD(1)),
RequestId String CODEC(ZSTD(1))"""

_PROFILES_REQUESTS: Final = """
Timestamp DateTime CODEC(Delta, ZSTD(1)),
RequestId String CODEC(ZSTD(1)),
Request String CODEC(ZSTD(1))"""

_SERIES: Final = f"""
Day Date,
SeriesId UInt64,
MetricName {_NAME},
Unit {_NAME},
Kind {_NAME},
Temporality Int32,
IsMonotonic Bool,
ServiceName {_NAME},
Service {_NAME},
Host {_NAME},
Attributes {_MAP} CODEC(ZSTD(1)),
ResourceAttributes {_MAP} CODEC(ZSTD(1)),
ScopeName {_NAME},
ScopeVersion {_NAME}"""

_POINTS: Final = f"""
MetricName {_NAME},
SeriesId UInt64,
Start DateTime64(3) CODEC(Delta, ZSTD(1)),
Time DateTime64(3) CODEC(Delta, ZSTD(1)),
Value Float64 CODEC(Delta(8), ZSTD(1))"""

_ROLLUP: Final = f"""
MetricName {_NAME},
SeriesId UInt64,
Start DateTime64(3) CODEC(Delta, ZSTD(1)),
Time DateTime CODEC(Delta, ZSTD(1)),
Max SimpleAggregateFunction(max, Float64) CODEC(Delta(8), ZSTD(1)),
Sum SimpleAggregateFunction(sum, Float64) CODEC(Delta(8), ZSTD(1)),
Count SimpleAggregateFunction(sum, UInt64) CODEC(ZSTD(1))"""

_HISTOGRAMS: Final = f"""
Service {_NAME},
MetricName {_NAME},
SeriesId UInt64,
Start DateTime64(3) CODEC(Delta, ZSTD(1)),
Time DateTime64(3) CODEC(Delta, ZSTD(1)),
IsDelta Bool,
Count UInt64 CODEC(Delta, ZSTD(1)),
Sum Float64 CODEC(ZSTD(1)),
Scale Int8,
Zeros UInt64 CODEC(ZSTD(1)),
Offset Int32 CODEC(ZSTD(1)),
Buckets Array(UInt64) CODEC(ZSTD(1))"""

_REFUSED: Final = f"""
Time DateTime,
Signal {_NAME},
Reason {_NAME},
Records SimpleAggregateFunction(sum, UInt64)"""

_POINT_ORDER: Final = "(MetricName, SeriesId, Start, Time)"


def _rollup(step: str) -> Table:
    return Table(
        f"kernob_points_{step}", Signal.METRICS, _ROLLUP, "Time", "toDate(Time)", _POINT_ORDER,
        "AggregatingMergeTree",
    )  # fmt: skip


_HISTOGRAM_ORDER: Final = "Service, MetricName, SeriesId, Start, Time"


def _histograms(step: str, *, hours: bool = False) -> Table:
    """Returns the table of exponential histograms as of the end of each step.

    A histogram is wide, so little of them may be read in vain: all of one service stand together,
    and with `hours` within each hour, since a question about all services is about few hours.
    """
    order = f"({'toStartOfHour(Time), ' * hours}{_HISTOGRAM_ORDER})"
    return Table(
        f"kernob_histograms_{step}", Signal.METRICS, _HISTOGRAMS, "toDateTime(Time)",
        "toDate(Time)", order, "ReplacingMergeTree(Count)", granularity=1024,
    )  # fmt: skip


TABLES: Final = (
    Table("otel_logs", Signal.LOGS, _LOGS, "TimestampTime", "toDate(TimestampTime)",
          "(ServiceName, TimestampTime, Timestamp)", primary="(ServiceName, TimestampTime)"),
    Table("otel_traces", Signal.TRACES, _TRACES, "toDateTime(Timestamp)", "toDate(Timestamp)",
          "(ServiceName, SpanName, toDateTime(Timestamp))"),
    Table("otel_traces_trace_id_ts", Signal.TRACES, _TRACE_TIMES, "Start", "toDate(Start)",
          "(TraceId, Start)"),
    *(_metrics(kind) for kind in KINDS),
    Table("otel_profiles", Signal.PROFILES, _PROFILES, "toDateTime(Timestamp)",
          "toDate(Timestamp)", "(ServiceName, SampleType, toDateTime(Timestamp))"),
    Table("otel_profiles_requests", Signal.PROFILES, _PROFILES_REQUESTS, "Timestamp",
          "toDate(Timestamp)", "(RequestId)"),
    Table("kernob_series", Signal.METRICS, _SERIES, "toDateTime(Day) + 86400", "Day",
          "(MetricName, SeriesId)", "ReplacingMergeTree"),
    # By the hour, so that the disk's limit and expiry take no more than they must.
    Table("kernob_points", Signal.METRICS, _POINTS, "toDateTime(Time)", "toStartOfHour(Time)",
          _POINT_ORDER, keep=POINTS_RETENTION),
    _rollup("1m"),
    _rollup("5m"),
    _rollup("1h"),
    Table("kernob_histograms", Signal.METRICS, _HISTOGRAMS, "toDateTime(Time)",
          "toStartOfHour(Time)", f"({_HISTOGRAM_ORDER})", "ReplacingMergeTree(Count)",
          keep=POINTS_RETENTION, granularity=1024),
    _histograms("1m", hours=True),
    _histograms("5m", hours=True),
    _histograms("1h"),
    Table("kernob_refused", Signal.METRICS, _REFUSED, "Time", "toDate(Time)",
          "(Signal, Reason, Time)", "SummingMergeTree"),
)  # fmt: skip
"""In the order in which they are made."""
