"""What is in a request, counted by ClickHouse before it is stored: it reads few fields for that.

The counts say which tables there is something for, what must be refused and of which request, and
which rare parts (exemplars, events, links) a statement has to read at all.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from kernob.store.engine import Signal
from kernob.store.tables import KINDS

FUTURE: Final = 86400 * 10**9
"""Nanoseconds that a record's time may be ahead of the server's."""
REFUSALS: Final = ("time", "trace", "span")
"""Why a record is refused, as the columns of a survey are called."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """Which times a record may have, both included; nanoseconds since the epoch."""

    first: int
    last: int

    def missed(self, time: str) -> str:
        """Returns the condition that a time is out of bounds."""
        return f"({time} < {self.first} OR {time} > {self.last})"

    def of_log(self, record: str) -> str:
        """Returns the time of a log record: its own, else when it was observed, else now."""
        return (
            f"multiIf({record}.time_unix_nano > 0, {record}.time_unix_nano, "
            f"{record}.observed_time_unix_nano > 0, {record}.observed_time_unix_nano, "
            f"{self.last - FUTURE})"
        )


@dataclass(frozen=True, slots=True)
class Statement:
    """SQL over one message.

    Attributes:
        sql: with `{source}` where the message's columns come from.
        structure: the columns.
        kinds: of the metrics that it inserts, if it does.
    """

    sql: str
    structure: str
    kinds: tuple[str, ...] = ()


def survey(signal: Signal, bounds: Bounds) -> Statement:
    """Returns the SELECT that counts, one row for each resource of the request in its order.

    Its columns, each a number of records:
        each of `KINDS`: points (metrics); `empty`: metrics without any point.
        records: spans, log records or profiles.
        each of `REFUSALS`, where it applies: to be refused, each under its first reason.
        exemplars (metrics), events, links (traces): how many there are.
    """
    if signal == Signal.METRICS:
        columns, inner = _metrics(bounds)
    elif signal == Signal.TRACES:
        columns, inner = _traces(bounds)
    elif signal == Signal.LOGS:
        late = f"arrayCount(x -> {bounds.missed(bounds.of_log('x'))}, {{all}})"
        fields = "time_unix_nano UInt64, observed_time_unix_nano UInt64"
        columns, inner = _records("scope_logs", "log_records", fields, {"time": late})
    else:
        late = f"arrayCount(x -> {bounds.missed('x.time_unix_nano')}, {{all}})"
        fields = "time_unix_nano UInt64"
        columns, inner = _records("scope_profiles", "profiles", fields, {"time": late})
    return Statement(
        f"SELECT {columns} FROM (SELECT arrayJoin(resources) AS r FROM {{source}})",
        f"resources Array(Tuple({inner}))",
    )


def _metrics(bounds: Bounds) -> tuple[str, str]:
    all_points = [f"r.scope_metrics.metrics.{kind}.data_points" for kind in KINDS]
    times = [f"arrayFlatten({points}.time_unix_nano)" for points in all_points]
    columns = [f"length({time}) AS {kind}" for time, kind in zip(times, KINDS, strict=True)]
    points = " + ".join(f"length(m.{kind}.data_points)" for kind in KINDS)
    exemplars = " + ".join(
        f"length(arrayFlatten(r.scope_metrics.metrics.{kind}.data_points.exemplars.as_int))"
        for kind in KINDS
        if kind != "summary"
    )
    columns += [
        f"arraySum(s -> arrayCount(m -> {points} = 0, s.metrics), r.scope_metrics) AS empty",
        f"arrayCount(t -> {bounds.missed('t')}, arrayConcat({', '.join(times)})) AS time",
        f"{exemplars} AS exemplars",
    ]
    point = "time_unix_nano UInt64"
    with_exemplars = f"{point}, exemplars Array(Tuple(as_int Int64))"
    data = ", ".join(
        f"{kind} Tuple(data_points Array(Tuple({point if kind == 'summary' else with_exemplars})))"
        for kind in KINDS
    )
    return ", ".join(columns), f"scope_metrics Array(Tuple(metrics Array(Tuple({data}))))"


def _traces(bounds: Bounds) -> tuple[str, str]:
    no_trace = "length(x.trace_id) != 16"
    no_span = f"NOT {no_trace} AND length(x.span_id) != 8"
    late = f"NOT {no_trace} AND length(x.span_id) = 8 AND {bounds.missed('x.start_time_unix_nano')}"
    fields = (
        "trace_id String, span_id String, start_time_unix_nano UInt64, "
        "events Array(Tuple(time_unix_nano UInt64)), links Array(Tuple(trace_id String))"
    )
    counts = {
        "trace": f"arrayCount(x -> {no_trace}, {{all}})",
        "span": f"arrayCount(x -> {no_span}, {{all}})",
        "time": f"arrayCount(x -> {late}, {{all}})",
        "events": "arraySum(x -> length(x.events), {all})",
        "links": "arraySum(x -> length(x.links), {all})",
    }
    return _records("scope_spans", "spans", fields, counts)


def _records(scopes: str, records: str, fields: str, counts: dict[str, str]) -> tuple[str, str]:
    """Returns the columns and the structure of a resource; `{all}` is the array of its records."""
    every = f"arrayFlatten(r.{scopes}.{records})"
    columns = [f"length({every}) AS records"]
    columns += [f"{count.replace('{all}', every)} AS {name}" for name, count in counts.items()]
    return ", ".join(columns), f"{scopes} Array(Tuple({records} Array(Tuple({fields}))))"
