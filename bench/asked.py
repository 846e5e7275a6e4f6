"""Requests of a week: 100 services with ten operations each, made in seconds; see week.py.

The series are made by the server, of requests as agents send them; their histograms are computed by
SQL, each table over as long a range as it is read for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
)
from opentelemetry.proto.metrics.v1.metrics_pb2 import AGGREGATION_TEMPORALITY_CUMULATIVE

if TYPE_CHECKING:
    from kernob.store.engine import Engine

HOUR: Final = 3600
SERVICES: Final = 100
OPERATIONS: Final = 10
HOSTS: Final = 4
BUCKETS: Final = 40
SCALE: Final = 3
LOWEST: Final = -72
"""Number of the first bucket: 2 ms."""
# Step in seconds, and how far back: what longer ranges are read from is the next table.
TIERS: Final = {
    "": (15, 2 * HOUR),
    "_1m": (60, 7 * HOUR),
    "_5m": (300, 49 * HOUR),
    "_1h": (HOUR, 0),
}
_ROWS_AT_ONCE: Final = 100_000


def bodies(now: int) -> list[bytes]:
    """Returns a request of each host: every operation, those that failed apart; nanoseconds."""
    return [_body(host, now).SerializeToString() for host in range(HOSTS)]


def _body(host: int, now: int) -> ExportMetricsServiceRequest:
    request = ExportMetricsServiceRequest()
    made = request.resource_metrics.add()
    for name, value in (("service.name", "kernob-agent"), ("host.name", f"asked-{host}")):
        made.resource.attributes.add(key=name).value.string_value = value
    metric = made.scope_metrics.add().metrics.add(name="http.server.request.duration", unit="s")
    metric.exponential_histogram.aggregation_temporality = AGGREGATION_TEMPORALITY_CUMULATIVE
    for service in range(host, SERVICES, HOSTS):
        for number in range(2 * OPERATIONS):
            operation, failed = divmod(number, 2)
            point = metric.exponential_histogram.data_points.add(
                start_time_unix_nano=now, time_unix_nano=now, scale=SCALE
            )
            point.positive.offset = LOWEST
            own = {
                "service.name": f"service-{service:03}",
                "kernob.peer": f"service-{(service + operation + 1) % SERVICES:03}",
                "kernob.side": "server",
                "network.protocol.name": "http",
                "http.request.method": "GET",
                "http.route": f"/things-{operation}/{{id}}",
                "http.response.status_code": "500" if failed else "200",
            }
            if failed:
                own["error.type"] = "500"
            for name, value in own.items():
                point.attributes.add(key=name).value.string_value = value
    return request


def compute(engine: Engine, now: int, until: int, days: int) -> None:
    """Fills the tables of histograms, whose views must not be there; seconds."""
    engine.command(
        "CREATE TABLE otel.bench_asked ENGINE = Memory AS SELECT Service, MetricName, SeriesId, "
        "if(Attributes['error.type'] = '', 20, 1) AS PerSecond, rowNumberInAllBlocks() AS Number "
        "FROM (SELECT DISTINCT Service, MetricName, SeriesId, Attributes FROM otel.kernob_series "
        "WHERE Kind = 'exponential_histogram')"
    )
    start = now - days * 24 * HOUR - HOUR
    # What lies in each bucket: a hill, and a second, lower one where it is slow.
    hill = (
        f"arrayMap(i -> toUInt64(floor(PerSecond * (moment - {start}) * (exp(-pow(i - 12 - "
        f"SeriesId % 6, 2) / 20) + 0.05 * exp(-pow(i - 30, 2) / 8)))), range({BUCKETS}))"
    )
    for tier, (step, back) in TIERS.items():
        engine.command(f"TRUNCATE TABLE otel.kernob_histograms{tier}")
        first = (until - back if back else start + HOUR) // step * step
        at_once = max(1, _ROWS_AT_ONCE * step // (until - first))
        for low in range(0, SERVICES * OPERATIONS * 2, at_once):
            engine.command(
                f"INSERT INTO otel.kernob_histograms{tier} SELECT Service, MetricName, SeriesId, "
                f"toDateTime64({start}, 3), toDateTime64(moment, 3), false, arraySum(held), "
                f"arraySum(held) * 0.01, {SCALE}, 0, {LOWEST}, held FROM (SELECT *, "
                f"arrayJoin(range(toUInt32({first}), toUInt32({until}), {step})) AS moment, "
                f"{hill} AS held FROM otel.bench_asked "
                f"WHERE Number >= {low} AND Number < {low + at_once})"
            )
    engine.command("DROP TABLE otel.bench_asked")
