"""Export requests whose records each have an id of their own."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

PATHS = {"logs": "/v1/logs", "traces": "/v1/traces", "metrics": "/v1/metrics"}
IDS = {
    "logs": ("otel_logs", "LogAttributes['id']"),
    "traces": ("otel_traces", "SpanAttributes['id']"),
    "metrics": ("otel_metrics_sum", "Attributes['id']"),
}
"""Where a signal's records are, and the expression of their ids."""


def attribute(to: Any, key: str, value: str) -> None:
    to.attributes.add(key=key).value.string_value = value


def logs(ids: Iterable[str], *, body: str = "said", at: int = 0) -> bytes:
    request = ExportLogsServiceRequest()
    group = request.resource_logs.add()
    attribute(group.resource, "service.name", "records")
    records = group.scope_logs.add().log_records
    for one in ids:
        record = records.add(time_unix_nano=at or time.time_ns(), severity_number=9)
        record.body.string_value = body
        attribute(record, "id", one)
    return request.SerializeToString()


def traces(ids: Iterable[str], *, at: int = 0) -> bytes:
    request = ExportTraceServiceRequest()
    group = request.resource_spans.add()
    attribute(group.resource, "service.name", "records")
    spans = group.scope_spans.add().spans
    for one in ids:
        begin = at or time.time_ns()
        number = abs(hash(one)) % 2**64
        span = spans.add(
            trace_id=number.to_bytes(16),
            span_id=(number | 1).to_bytes(8),
            name="work",
            kind=1,
            start_time_unix_nano=begin,
            end_time_unix_nano=begin + 1000,
        )
        attribute(span, "id", one)
    return request.SerializeToString()


def metrics(values: Mapping[str, int], *, start: int = 0, at: int = 0) -> bytes:
    """Cumulative counters by the id of their series."""
    request = ExportMetricsServiceRequest()
    group = request.resource_metrics.add()
    attribute(group.resource, "service.name", "records")
    metric = group.scope_metrics.add().metrics.add(name="done", unit="{thing}")
    metric.sum.aggregation_temporality, metric.sum.is_monotonic = 2, True
    for one, value in values.items():
        now = at or time.time_ns()
        point = metric.sum.data_points.add(
            time_unix_nano=now, start_time_unix_nano=start or now, as_int=value
        )
        attribute(point, "id", one)
    return request.SerializeToString()
