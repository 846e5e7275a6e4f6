"""The Collector's own ClickHouse exporter writes into our tables, and what it writes we write."""

from __future__ import annotations

import json
import os
import subprocess
import time
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from clickhouse_http import clickhouse
from collector import Collector
from kernob import config
from kernob.server.itself import SERVICE
from kernob.store.store import Store
from senders import odd
from senders.checks import difference
from senders.conftest import HERE
from servers import wait_until
from serving import Serving

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from senders.conftest import Sent

# The columns of the exporter's INSERT statements, v0.149.0 (internal/sqltemplates/*_insert.sql).
POINT = (
    "ResourceAttributes, ResourceSchemaUrl, ScopeName, ScopeVersion, ScopeAttributes, "
    "ScopeDroppedAttrCount, ScopeSchemaUrl, ServiceName, MetricName, MetricDescription, "
    "MetricUnit, Attributes, StartTimeUnix, TimeUnix, Flags"
)
EXEMPLARS = ", ".join(
    f"Exemplars.{name}" for name in ("FilteredAttributes", "TimeUnix", "Value", "SpanId", "TraceId")
)
COUNTED = "Count, Sum, Min, Max, AggregationTemporality"
COLUMNS = {
    "otel_traces": "Timestamp, TraceId, SpanId, ParentSpanId, TraceState, SpanName, SpanKind, "
    "ServiceName, ResourceAttributes, ScopeName, ScopeVersion, SpanAttributes, Duration, "
    "StatusCode, StatusMessage, Events.Timestamp, Events.Name, Events.Attributes, Links.TraceId, "
    "Links.SpanId, Links.TraceState, Links.Attributes",
    "otel_logs": "Timestamp, TimestampTime, TraceId, SpanId, TraceFlags, SeverityText, "
    "SeverityNumber, ServiceName, Body, ResourceSchemaUrl, ResourceAttributes, ScopeSchemaUrl, "
    "ScopeName, ScopeVersion, ScopeAttributes, LogAttributes, EventName",
    "otel_metrics_sum": f"{POINT}, Value, {EXEMPLARS}, AggregationTemporality, IsMonotonic",
    "otel_metrics_gauge": f"{POINT}, Value, {EXEMPLARS}",
    "otel_metrics_histogram": f"{POINT}, {COUNTED}, BucketCounts, ExplicitBounds, {EXEMPLARS}",
    "otel_metrics_exponential_histogram": f"{POINT}, {COUNTED}, Scale, ZeroCount, PositiveOffset, "
    f"PositiveBucketCounts, NegativeOffset, NegativeBucketCounts, {EXEMPLARS}",
    "otel_metrics_summary": f"{POINT}, Count, Sum, ValueAtQuantiles.Quantile, "
    "ValueAtQuantiles.Value",
}


class Both:
    """A Collector that writes with its exporter into one store, and sends to our server.

    Attributes:
        collector: takes what is sent.
        ours: the server.
        theirs: URL of the ClickHouse that the exporter writes to.
    """

    def __init__(self, collector: Collector, ours: Serving, theirs: str) -> None:
        self.collector = collector
        self.ours = ours
        self.theirs = theirs

    def counts(self) -> tuple[dict[str, int], dict[str, int]]:
        """Returns the rows of each table, theirs and ours."""
        queries = {table: f"SELECT count() AS n {rows_of(table)}" for table in COLUMNS}
        return (
            {table: self.read(query)[0]["n"] for table, query in queries.items()},
            {table: self.ours.value(query) for table, query in queries.items()},
        )

    def read(self, query: str) -> list[dict[str, Any]]:
        """Returns rows of theirs."""
        answer = httpx.post(
            f"{self.theirs}?default_format=JSONEachRow", content=query, trust_env=False, timeout=30
        )
        assert answer.status_code == 200, answer.text
        return [json.loads(line) for line in answer.text.splitlines()]


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Both]:
    tool = HERE.parents[1] / "tools" / "collector.sh"
    found = subprocess.run(
        [tool, "--path", "clickhouse"], capture_output=True, text=True, check=True
    )
    binary = found.stdout.strip()
    if not os.access(binary, os.X_OK):
        pytest.skip("this Collector is missing: `tools/collector.sh clickhouse` builds it")
    folder = tmp_path_factory.mktemp("exporter")
    ours = Serving(folder)
    with clickhouse(folder) as theirs:
        # Our tables.
        Store.open(config.Store(url=theirs)).close()
        exporters = {
            "clickhouse": {
                "endpoint": f"{theirs}/?compress=none",
                "database": "otel",
                "create_schema": False,
                "async_insert": False,
                "compress": "none",
            },
            "otlp_http": {"endpoint": ours.url, "timeout": "60s"},
        }
        collector = Collector(binary, folder, exporters=exporters)
        with ours.running(), collector.running():
            yield Both(collector, ours, theirs)


@pytest.mark.server
def test_rows_are_those_of_the_collectors_exporter(both: Both, send: Callable[..., Sent]) -> None:
    endpoint = f"http://127.0.0.1:{both.collector.ports['http/protobuf']}"
    now = time.time_ns() - 10**9
    send("go", "http/protobuf", endpoint, compression="gzip", temporality="cumulative")
    for path in ("traces", "logs", "metrics"):
        answer = httpx.post(
            f"{endpoint}/v1/{path}",
            content=getattr(odd, path)(now),
            headers={"Content-Type": "application/x-protobuf"},
            trust_env=False,
        )
        assert answer.status_code == 200, answer.text

    wait_until(lambda: arrived(both), lambda: f"the same rows: {both.counts()}", 60)

    different = {table: compare(both, table) for table in COLUMNS}
    if any(different.values()):
        pytest.fail(f"theirs, ours: {json.dumps(different, indent=1)[:8000]}", pytrace=False)


def rows_of(table: str) -> str:
    return f"FROM otel.{table} WHERE ServiceName != '{SERVICE}'"  # what our server says of itself


def arrived(both: Both) -> bool:
    theirs, ours = both.counts()
    return all(theirs.values()) and theirs == ours


def compare(both: Both, table: str) -> list[dict[str, Any]]:
    """Returns what differs, theirs and ours, of each row that differs."""
    # Texts made by ClickHouse, so that every bit of a number counts; maps in any order.
    texts = ", ".join(
        f"{'toJSONString' if name.endswith('Attributes') else 'toString'}({name}) AS `{name}`"
        for name in COLUMNS[table].split(", ")
    )
    query = f"SELECT {texts} {rows_of(table)}"
    theirs = [unordered(row) for row in both.read(query)]
    ours = [unordered(row) for row in both.ours.rows(query)]
    for rows in (theirs, ours):
        rows.sort(key=lambda row: json.dumps(row, sort_keys=True))
    return [found for a, b in zip(theirs, ours, strict=True) if (found := difference(a, b))]


def unordered(row: dict[str, str]) -> dict[str, Any]:
    return {
        name: json.loads(text) if name.endswith("Attributes") else text
        for name, text in row.items()
    }
