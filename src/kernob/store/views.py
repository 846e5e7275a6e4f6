"""The materialized views: what fills Kernob's own tables as rows are inserted into others."""

from __future__ import annotations

from dataclasses import dataclass

from kernob.store.tables import DELTA, KINDS, NO_TEMPORALITY, NUMBERS, NUMBERS_TABLE, SEEN


@dataclass(frozen=True, slots=True)
class View:
    """A materialized view: `select` runs over each block inserted into `source`."""

    name: str
    source: str
    target: str
    select: str


def _number_view(kind: str, database: str) -> View:
    """Returns what moves a kind's points on from `NUMBERS_TABLE`."""
    but, sign = (
        ("", "!=") if kind == "sum" else ("EXCEPT (AggregationTemporality, IsMonotonic)", "=")
    )
    select = (
        f"SELECT * {but} FROM {database}.{{source}} "
        f"WHERE AggregationTemporality {sign} {NO_TEMPORALITY}"
    )
    return View(f"kernob_numbers_{kind}", NUMBERS_TABLE, f"otel_metrics_{kind}", select)


def _series_view(name: str, source: str, kind: str, more: str, database: str) -> View:
    """Returns what writes a series once a day: `SEEN` holds those that were.

    `kind` is SQL, as `more` is: temporality, and whether it is monotonic.
    """
    select = f"""
SELECT toDate(TimeUnix) AS Day, SeriesId, MetricName, MetricUnit AS Unit, {kind} AS Kind,
    {more}, ServiceName,
    if(Attributes['service.name'] != '', Attributes['service.name'], ServiceName) AS Service,
    ResourceAttributes['host.name'] AS Host, Attributes, ResourceAttributes, ScopeName, ScopeVersion
FROM {database}.{{source}}
WHERE (Day, SeriesId) NOT IN {database}.{SEEN}
LIMIT 1 BY Day, SeriesId"""
    return View(f"kernob_series_{name}", source, "kernob_series", select)


def _series_views(database: str) -> list[View]:
    gauge = f"AggregationTemporality = {NO_TEMPORALITY}"
    made = [
        _series_view(
            "numbers", NUMBERS_TABLE, f"if({gauge}, 'gauge', 'sum')",
            f"if({gauge}, 0, AggregationTemporality) AS Temporality, IsMonotonic", database,
        )
    ]  # fmt: skip
    for kind in KINDS:
        if kind not in NUMBERS:
            temporality = "0" if kind == "summary" else "AggregationTemporality"
            more = f"{temporality} AS Temporality, false AS IsMonotonic"
            made.append(_series_view(kind, f"otel_metrics_{kind}", f"'{kind}'", more, database))
    return made


def views(database: str) -> list[View]:
    """Returns the views, all in the order in which they are made."""
    made = [
        View("otel_traces_trace_id_ts_mv", "otel_traces", "otel_traces_trace_id_ts",
             f"SELECT TraceId, min(Timestamp) AS Start, max(Timestamp) AS End "
             f"FROM {database}.{{source}} WHERE TraceId != '' GROUP BY TraceId"),
    ]  # fmt: skip
    made += [_number_view(kind, database) for kind in NUMBERS]
    made += _series_views(database)
    made.append(
        View("kernob_series_seen", "kernob_series", SEEN,
             f"SELECT Day, SeriesId FROM {database}.{{source}}")
    )  # fmt: skip
    # Flag 1 is "no recorded value": its 0 is no measurement.
    made.append(
        View(
            "kernob_points_numbers", NUMBERS_TABLE, "kernob_points",
            f"SELECT MetricName, SeriesId, StartTimeUnix AS Start, TimeUnix AS Time, Value "
            f"FROM {database}.{{source}} WHERE bitAnd(Flags, 1) = 0",
        )
    )  # fmt: skip
    # Without GROUP BY: a block is folded as it is written (optimize_on_insert), which is cheaper.
    first = "Value AS Max, Value AS Sum, 1 AS Count"
    for source, step, seconds, values in (
        ("", "_1m", 60, first),
        ("_1m", "_5m", 300, "Max, Sum, Count"),
        ("_5m", "_1h", 3600, "Max, Sum, Count"),
    ):
        select = (
            f"SELECT MetricName, SeriesId, Start, "
            f"toStartOfInterval(Time, toIntervalSecond({seconds})) AS Time, {values} "
            f"FROM {database}.{{source}}"
        )
        made.append(
            View(f"kernob_rollup{step}", f"kernob_points{source}", f"kernob_points{step}", select)
        )
    return made + _histogram_views(database)


def _histogram_views(database: str) -> list[View]:
    """Returns what writes histograms to the narrow tables.

    Within one Start a histogram only grows: that with the highest count is the last of its step.
    Increments can't be told so; they stay as they came, in each table.
    """
    made = [
        View(
            "kernob_histograms_sent", "otel_metrics_exponential_histogram", "kernob_histograms",
            f"""
SELECT if(Attributes['service.name'] != '', Attributes['service.name'], ServiceName) AS Service,
    MetricName, SeriesId, StartTimeUnix AS Start, TimeUnix AS Time,
    AggregationTemporality = {DELTA} AS IsDelta, Count, Sum, Scale,
    ZeroCount + arraySum(NegativeBucketCounts) AS Zeros, PositiveOffset AS Offset,
    PositiveBucketCounts AS Buckets
FROM {database}.{{source}} WHERE bitAnd(Flags, 1) = 0""",
        )
    ]  # fmt: skip
    for source, step, seconds in (("", "_1m", 60), ("_1m", "_5m", 300), ("_5m", "_1h", 3600)):
        time = f"toStartOfInterval(Time, toIntervalSecond({seconds}))"
        select = f"SELECT * REPLACE (if(IsDelta, Time, {time}) AS Time) FROM {database}.{{source}}"
        made.append(
            View(
                f"kernob_histograms_rollup{step}", f"kernob_histograms{source}",
                f"kernob_histograms{step}", select,
            )
        )  # fmt: skip
    return made
