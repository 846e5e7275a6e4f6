"""Export requests as SDKs make them, and what the store made of them."""

from __future__ import annotations

import time
from typing import Any

from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue

from kernob.store.store import Store

NOW = time.time_ns() // 10**9 * 10**9
TRACE = bytes(range(16))
SPAN = bytes(range(8))

Value = str | bool | int | float | bytes | list[Any] | dict[str, Any] | None


def value(content: Value) -> AnyValue:
    made = AnyValue()
    if isinstance(content, bool):
        made.bool_value = content
    elif isinstance(content, int):
        made.int_value = content
    elif isinstance(content, float):
        made.double_value = content
    elif isinstance(content, str):
        made.string_value = content
    elif isinstance(content, bytes):
        made.bytes_value = content
    elif isinstance(content, list):
        made.array_value.SetInParent()
        made.array_value.values.extend(value(item) for item in content)
    elif isinstance(content, dict):
        made.kvlist_value.SetInParent()
        made.kvlist_value.values.extend(attributes(content))
    return made


def attributes(content: dict[str, Any]) -> list[KeyValue]:
    return [KeyValue(key=key, value=value(item)) for key, item in content.items()]


def traces(*spans: dict[str, Any], resource: dict[str, Any] | None = None) -> bytes:
    """Returns a request with these spans; what is not said is in order."""
    request = ExportTraceServiceRequest()
    made = request.resource_spans.add()
    made.resource.attributes.extend(attributes(resource or {"service.name": "shop"}))
    scope = made.scope_spans.add()
    for span in spans:
        usual = {
            "trace_id": TRACE,
            "span_id": SPAN,
            "name": "GET /",
            "start_time_unix_nano": NOW,
            "end_time_unix_nano": NOW + 5,
        }
        scope.spans.add(**usual | span)
    return request.SerializeToString()


def logs(*records: dict[str, Any], resource: dict[str, Any] | None = None) -> bytes:
    request = ExportLogsServiceRequest()
    made = request.resource_logs.add()
    made.resource.attributes.extend(attributes(resource or {"service.name": "shop"}))
    scope = made.scope_logs.add()
    for record in records:
        scope.log_records.add(**{"time_unix_nano": NOW} | record)
    return request.SerializeToString()


def sums(
    *points: dict[str, Any],
    name: str = "requests",
    kind: str = "sum",
    resource: dict[str, Any] | None = None,
) -> bytes:
    """Returns a request with these points of one counter (or gauge)."""
    request = ExportMetricsServiceRequest()
    made = request.resource_metrics.add()
    made.resource.attributes.extend(attributes(resource or {"service.name": "shop"}))
    metric = made.scope_metrics.add().metrics.add(name=name)
    data = getattr(metric, kind)
    if kind == "sum":
        data.aggregation_temporality = 2
        data.is_monotonic = True
    for point in points:
        data.data_points.add(**{"time_unix_nano": NOW} | point)
    return request.SerializeToString()


def rows(store: Store, sql: str, **parameters: object) -> list[dict[str, Any]]:
    answer: list[dict[str, Any]] = store.reader().read(sql, **parameters).to_pylist()
    return answer


def one(store: Store, sql: str, **parameters: object) -> Any:
    """Returns the only value of the only row."""
    (row,) = rows(store, sql, **parameters)
    (found,) = row.values()
    return found
