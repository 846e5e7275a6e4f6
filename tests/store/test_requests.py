"""What Python counts of small requests is what the statement counts of large ones."""

from __future__ import annotations

from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
)

from kernob.store import decode, requests
from kernob.store.engine import Signal, Source
from kernob.store.store import Store
from kernob.store.survey import Bounds, survey
from kernob.store.tables import KINDS
from store.otlp import NOW


def test_a_small_request_is_surveyed_as_a_large_one(store: Store) -> None:
    bounds = Bounds(NOW - 10, NOW + 10)
    request = ExportMetricsServiceRequest()
    request.resource_metrics.add()
    for times in ((NOW,), (NOW - 11, NOW - 10, NOW + 10, NOW + 11, 0)):
        resource = request.resource_metrics.add()
        resource.scope_metrics.add().metrics.add(name="of no kind")
        scope = resource.scope_metrics.add()
        scope.metrics.add().gauge.SetInParent()
        for kind in KINDS:
            points = getattr(scope.metrics.add(), kind).data_points
            for time in times:
                point = points.add(time_unix_nano=time)
                if kind != "summary":
                    point.exemplars.add(as_int=1)
                    point.exemplars.add()
    body = request.SerializeToString()
    statement = survey(Signal.METRICS, bounds)
    source = Source(statement.structure, decode.SCHEMA, decode.MESSAGES[Signal.METRICS], body)

    counts = requests.survey_metrics(body, bounds)

    assert counts == store.engine.select(statement.sql, source).to_pydict()
    assert (counts["sum"], counts["time"], counts["empty"]) == ([0, 1, 5], [0, 0, 15], [0, 2, 2])
    assert counts["exemplars"] == [0, 8, 40]
