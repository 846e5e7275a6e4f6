"""OpenTelemetry's OTLP exporter over HTTP, on a session that sees to what it leaves out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import requests
from opentelemetry.exporter.otlp.proto.http import Compression
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceResponse,
)

from kernob.errors import ExportError

if TYPE_CHECKING:
    from collections.abc import Callable

    from kernob.telemetry.otlp_settings import Settings


def exporter(
    settings: Settings, answered: Callable[[int, int, str], None]
) -> OTLPMetricExporter | OTLPSpanExporter:
    """Returns an exporter of the settings' signal.

    After each request it calls `answered` with the answer's status (0 if there was none), how many
    points or spans the collector says it rejected, and what went wrong, if anything.
    """
    kind = OTLPMetricExporter if settings.signal == "metrics" else OTLPSpanExporter
    return kind(
        endpoint=settings.endpoint,
        certificate_file=settings.certificate or None,
        client_certificate_file=settings.client_certificate or None,
        client_key_file=settings.client_key or None,
        timeout=settings.timeout,
        compression=Compression(settings.compression),
        session=_Session(answered),
    )


class _Session(requests.Session):
    def __init__(self, answered: Callable[[int, int, str], None]) -> None:
        super().__init__()
        self._answered = answered

    def request(self, *arguments: Any, **named: Any) -> requests.Response:
        """Returns the answer.

        Raises:
            ExportError: a redirect, which the exporter would take for success.
            requests.RequestException: there was no answer.
        """
        # Said here, the certificate goes before REQUESTS_CA_BUNDLE; said of the session, after.
        named.setdefault("verify", self.verify)
        try:
            response = super().request(*arguments, **named)
        except requests.RequestException as error:
            self._answered(0, 0, f"{type(error).__name__}: {error}")
            raise
        rejected, message = 0, ""
        if response.is_redirect:
            message = f"the collector redirects to {response.headers['Location']}"
        elif not response.ok:
            message = f"the collector answers {response.status_code} {response.reason}"
        elif "protobuf" in response.headers.get("Content-Type", ""):
            # The answers of all signals have the same fields, by number and type.
            partial = ExportMetricsServiceResponse.FromString(response.content).partial_success
            rejected, message = partial.rejected_data_points, partial.error_message
        self._answered(response.status_code, rejected, message)
        if response.is_redirect:
            raise ExportError(message)
        return response
