"""OpenTelemetry's OTLP exporter over HTTP, with a look at what it leaves out (see `otlp`)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import requests
from opentelemetry.exporter.otlp.proto.http import Compression
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceResponse,
)

from kernob.errors import ExportError

if TYPE_CHECKING:
    from collections.abc import Callable

    from kernob.telemetry.otlp import Settings


def exporter(settings: Settings, answered: Callable[[int, int, str], None]) -> OTLPMetricExporter:
    """Returns an exporter.

    It calls `answered` with the status of each answer, the number of points that the collector
    says it rejected, and what it says about them.
    """

    def look(response: requests.Response, **_: Any) -> None:
        rejected, message = 0, ""
        if response.ok and "protobuf" in response.headers.get("Content-Type", ""):
            partial = ExportMetricsServiceResponse.FromString(response.content).partial_success
            rejected, message = partial.rejected_data_points, partial.error_message
        answered(response.status_code, rejected, message)
        if response.is_redirect:
            response.close()
            raise ExportError(f"the collector redirects to {response.headers['Location']}")

    session = requests.Session()
    session.hooks["response"].append(look)
    return OTLPMetricExporter(
        endpoint=settings.endpoint,
        certificate_file=settings.certificate or None,
        client_certificate_file=settings.client_certificate or None,
        client_key_file=settings.client_key or None,
        timeout=settings.timeout,
        compression=Compression(settings.compression),
        session=session,
    )
