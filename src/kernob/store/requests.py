"""What Python must know of an export request: how much is in it, seldom needed."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any, Final

from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
)
from opentelemetry.proto.collector.profiles.v1development.profiles_service_pb2 import (
    ExportProfilesServiceRequest,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from kernob.store.engine import Signal
from kernob.store.nested import varint
from kernob.store.tables import KINDS

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from kernob.store.survey import Bounds

_MESSAGES: Final[dict[Signal, Any]] = {
    Signal.METRICS: ExportMetricsServiceRequest,
    Signal.TRACES: ExportTraceServiceRequest,
    Signal.LOGS: ExportLogsServiceRequest,
    Signal.PROFILES: ExportProfilesServiceRequest,
}
_RESOURCE_TAG: Final = 1 << 3 | 2


def resources(body: bytes) -> int:
    """Returns how many resources are in a request; it is not decoded for that."""
    count = at = 0
    while at < len(body):
        tag, at = varint(body, at)
        size, at = varint(body, at)
        count += tag == _RESOURCE_TAG
        at += size
    return count


def records(signal: Signal, body: bytes, kinds: Sequence[str] = KINDS) -> int:
    """Returns how many points, spans, log records or profiles are in a request.

    Args:
        signal: what the request carries.
        body: the request, well-formed.
        kinds: of metrics, those that count.
    """
    request = _MESSAGES[signal].FromString(body)
    if signal == Signal.METRICS:
        return sum(
            len(getattr(metric, data).data_points)
            for metric in _metrics(request)
            if (data := metric.WhichOneof("data")) in kinds
        )
    if signal == Signal.TRACES:
        return sum(len(s.spans) for r in request.resource_spans for s in r.scope_spans)
    if signal == Signal.LOGS:
        return sum(len(s.log_records) for r in request.resource_logs for s in r.scope_logs)
    return sum(len(s.profiles) for r in request.resource_profiles for s in r.scope_profiles)


def survey_metrics(body: bytes, bounds: Bounds) -> dict[str, list[int]]:
    """Returns what the statement of `survey.survey` returns; it takes about 1 us a point."""
    request = ExportMetricsServiceRequest.FromString(body)
    counts = [_of_resource(resource, bounds) for resource in request.resource_metrics]
    return {name: [of[name] for of in counts] for name in (*KINDS, "empty", "time", "exemplars")}


def _of_resource(resource: Any, bounds: Bounds) -> Counter[str]:
    counts: Counter[str] = Counter()
    first, last = bounds.first, bounds.last
    for metric in (metric for scope in resource.scope_metrics for metric in scope.metrics):
        kind = metric.WhichOneof("data") or "empty"
        points = getattr(metric, kind).data_points if kind != "empty" else ()
        counts[kind] += len(points)
        counts["empty"] += not points
        counts["time"] += sum(not first <= point.time_unix_nano <= last for point in points)
        if kind not in ("summary", "empty"):
            counts["exemplars"] += sum(len(point.exemplars) for point in points)
    return counts


def without_data(body: bytes) -> int:
    """Returns how many metrics are in a request whose kind is none that is known."""
    request = ExportMetricsServiceRequest.FromString(body)
    return sum(metric.WhichOneof("data") is None for metric in _metrics(request))


def _metrics(request: Any) -> Iterator[Any]:
    for resource in request.resource_metrics:
        for scope in resource.scope_metrics:
            yield from scope.metrics
