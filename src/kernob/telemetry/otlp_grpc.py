"""OpenTelemetry's OTLP exporter over gRPC (see `otlp`)."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import grpc
from opentelemetry.exporter.otlp.proto.grpc.metric_exporter import OTLPMetricExporter
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter

if TYPE_CHECKING:
    from kernob.telemetry.otlp_settings import Settings


def exporter(settings: Settings) -> OTLPMetricExporter | OTLPSpanExporter:
    """Returns an exporter of their signal; without TLS if its endpoint is an `http://` URL."""
    kind = OTLPMetricExporter if settings.signal == "metrics" else OTLPSpanExporter
    gzip = settings.compression == "gzip"
    return kind(
        endpoint=settings.endpoint,
        credentials=grpc.ssl_channel_credentials(
            root_certificates=_read(settings.certificate),
            private_key=_read(settings.client_key),
            certificate_chain=_read(settings.client_certificate),
        ),
        timeout=settings.timeout,
        compression=grpc.Compression.Gzip if gzip else grpc.Compression.NoCompression,
    )


def _read(path: str) -> bytes | None:
    return Path(path).read_bytes() if path else None
