"""Requests with what SDKs seldom send: every field of OTLP that a table has a column for."""

from __future__ import annotations

import math
from typing import Any

from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

NUMBERS = [
    0.0, -0.0, 1.0, -1.5, 0.1, 1e-6, 9.99e-7, 1e-7, 1e-10, 1.5e-30, 1e20, 1e21, 1.5e21, 1.5e300,
    123456789.125, 1e15, 1e16, 123456789012345680.0, 5e-324, 1.7976931348623157e308, math.pi,
    math.inf, -math.inf, math.nan,
]  # fmt: skip
WHOLE = [0, -1, 2**31, 2**53 + 1, 2**63 - 1, -(2**63)]
TEXTS = [
    "",
    " ",
    "a\0b",
    "\x01\x1f\x7f",
    "'\"\\/\b\f\n\r\t",
    "<&>\u2028\u2029",
    "ü日🦊",
    "{}",
    "null",
]
PADDED = [b"", b"\0", b"\xff", b"ab", b"abc", b"abcd", bytes(range(256))]
TRACE, SPAN = bytes(range(16)), bytes(range(100, 108))


def _values(to: Any) -> None:
    """Adds an attribute for each kind of value."""
    kinds: list[tuple[str, list[Any]]] = [
        ("double_value", NUMBERS),
        ("int_value", WHOLE),
        ("string_value", TEXTS),
        ("bytes_value", PADDED),
        ("bool_value", [True, False]),
    ]
    for kind, values in kinds:
        for index, value in enumerate(values):
            setattr(to.add(key=f"{kind}.{index}").value, kind, value)
        # Inside others, the Collector has no text for these: none at all, and `null`.
        fit = [one for one in values if one != b"" and one not in NUMBERS[-3:]]
        inside = to.add(key=f"list.{kind}").value.array_value.values
        pairs = to.add(key=f"map.{kind}").value.kvlist_value.values
        for index, value in enumerate(fit):
            setattr(inside.add(), kind, value)
            setattr(pairs.add(key=f"{9 - index} k").value, kind, value)
    to.add(key="none")
    to.add(key="no items").value.array_value.SetInParent()
    to.add(key="no pairs").value.kvlist_value.SetInParent()
    to.add(key="").value.string_value = "no name"
    deep = to.add(key="deep").value
    for level in range(10):
        deep = deep.kvlist_value.values.add(key=f"level {level}").value.array_value.values.add()
    deep.array_value.values.add()
    unfit = to.add(key="no JSON").value.array_value.values
    unfit.add().double_value = math.nan


def _resource(group: Any) -> Any:
    """Fills the resource in and returns the scope."""
    group.schema_url = "https://opentelemetry.io/schemas/1.37.0"
    group.resource.attributes.add(key="service.name").value.int_value = 17
    _values(group.resource.attributes)
    return group


def _scope(scoped: Any) -> Any:
    scoped.schema_url = "https://opentelemetry.io/schemas/1.36.0"
    scoped.scope.name, scoped.scope.version = "scope <ü>", "v\n1"
    scoped.scope.dropped_attributes_count = 7
    _values(scoped.scope.attributes)
    return scoped


def traces(now: int) -> bytes:
    request = ExportTraceServiceRequest()
    spans = _scope(_resource(request.resource_spans.add()).scope_spans.add()).spans
    span = spans.add(trace_id=TRACE, span_id=SPAN, parent_span_id=SPAN, name="odd <ü>", kind=5)
    span.trace_state, span.flags = "a=1,b=2", 0x101
    span.start_time_unix_nano, span.end_time_unix_nano = now, now + 2**40 + 1
    span.status.code, span.status.message = 2, "why\n"
    _values(span.attributes)
    for index in range(3):
        event = span.events.add(name=TEXTS[index], time_unix_nano=now + index)
        link = span.links.add(trace_id=TRACE, span_id=SPAN, trace_state="c=3")
        if index:
            _values(event.attributes)
            _values(link.attributes)
    # A span with nothing but when and which; one that ended before it began; unknown numbers.
    spans.add(trace_id=TRACE, span_id=SPAN, start_time_unix_nano=now, end_time_unix_nano=now)
    request.resource_spans.add().scope_spans.add().spans.add(
        trace_id=TRACE, span_id=SPAN, start_time_unix_nano=now, end_time_unix_nano=now + 5, kind=1
    )
    return bytes(request.SerializeToString())


def logs(now: int) -> bytes:
    request = ExportLogsServiceRequest()
    records = _scope(_resource(request.resource_logs.add()).scope_logs.add()).log_records
    full = records.add(time_unix_nano=now, observed_time_unix_nano=now + 9, trace_id=TRACE)
    full.span_id, full.flags, full.event_name = SPAN, 0x101, "odd"
    full.severity_number, full.severity_text = 24, "FATAL4"
    _values(full.attributes)
    records.add(observed_time_unix_nano=now + 10)  # no time: when it was seen
    bodies = {"string_value": "t", "int_value": -5, "double_value": 1e21, "bytes_value": b"\xff\0"}
    for index, (kind, value) in enumerate(bodies.items()):
        setattr(records.add(time_unix_nano=now + 11 + index).body, kind, value)
    _values(records.add(time_unix_nano=now + 20).body.kvlist_value.values)
    return bytes(request.SerializeToString())


def metrics(now: int) -> bytes:
    request = ExportMetricsServiceRequest()
    made = _scope(_resource(request.resource_metrics.add()).scope_metrics.add()).metrics

    def point(to: Any, index: int, **more: Any) -> Any:
        times = {"time_unix_nano": now + index, "start_time_unix_nano": now - 10**9}
        added = to.add(**times, **more)
        _values(added.attributes)
        return added

    def exemplars(to: Any) -> None:
        for index in range(2):
            one = to.exemplars.add(time_unix_nano=now - index, trace_id=TRACE, span_id=SPAN)
            _values(one.filtered_attributes)
            if index:
                one.as_int = 2**53
            else:
                one.as_double = 1.25
        to.exemplars.add(time_unix_nano=now, as_double=0.5)

    about = {"description": "What <it> is", "unit": "{ü}"}
    for temporality, monotonic in ((0, False), (1, True), (2, False)):
        total = made.add(name=f"sum.{temporality}", **about).sum
        total.aggregation_temporality, total.is_monotonic = temporality, monotonic
        for index, number in enumerate(NUMBERS[2:]):  # -0.0 is stored as 0
            point(total.data_points, index, as_double=number, flags=index % 2)
        for index, whole in enumerate(WHOLE, 100):
            point(total.data_points, index, as_int=whole)
        exemplars(total.data_points[0])
    gauge = made.add(name="gauge", **about).gauge
    point(gauge.data_points, 0, as_int=-3)
    point(gauge.data_points, 1, flags=1)  # no value was recorded
    exemplars(point(gauge.data_points, 2, as_double=2.5))
    gauge.data_points.add(time_unix_nano=now, as_int=1)  # neither start nor attributes
    histogram = made.add(name="histogram", **about).histogram
    histogram.aggregation_temporality = 1
    full = {"count": 6, "sum": -2.5, "min": -9.0, "max": 4.0}
    bounds = {"explicit_bounds": [-1.0, 0.0, 0.1], "bucket_counts": [1, 2, 3, 0]}
    exemplars(point(histogram.data_points, 0, **full, **bounds))
    point(histogram.data_points, 1, count=2**63)
    exponential = made.add(name="exponential", **about).exponential_histogram
    exponential.aggregation_temporality = 2
    both = point(exponential.data_points, 0, scale=-3, zero_count=4, zero_threshold=0.5, **full)
    both.positive.offset, both.negative.offset = -7, 2**31 - 1
    both.positive.bucket_counts.extend([0, 1, 2**63])
    both.negative.bucket_counts.extend([5])
    exemplars(both)
    point(exponential.data_points, 1, count=0)
    summary = made.add(name="summary", **about).summary
    quantiles = point(summary.data_points, 0, count=2**40, sum=0.5, flags=0).quantile_values
    for index, number in enumerate([0.25, 0.5, 1.0]):
        quantiles.add(quantile=index / 2, value=number)
    point(summary.data_points, 1)
    return bytes(request.SerializeToString())
