"""OpenTelemetry's OTLP exporter over gRPC (see `otlp`)."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import grpc
from opentelemetry.exporter.otlp.proto.grpc.metric_exporter import OTLPMetricExporter

if TYPE_CHECKING:
    from kernob.telemetry.otlp_settings import Settings


def exporter(settings: Settings) -> OTLPMetricExporter:
    """Returns an exporter; without TLS if its endpoint is an `http://` URL."""
    gzip = settings.compression == "gzip"
    return OTLPMetricExporter(
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
