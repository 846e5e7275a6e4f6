"""A real OpenTelemetry Collector, which prints what it was sent, or sends it on."""

from __future__ import annotations

import json
import re
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from kernob.telemetry import otlp_settings
from servers import free_port, running

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

PRINT = {"debug": {"verbosity": "detailed", "use_internal_logger": False}}


@dataclass
class Received:
    """One point, as the Collector prints it."""

    service: str
    metric: str
    fields: dict[str, str] = field(default_factory=dict)

    def number(self, name: str) -> int:
        return int(self.fields[name])


class Collector:
    """A real Collector that can be killed and started again."""

    def __init__(
        self,
        binary: str,
        folder: Path,
        tls: str = "",
        exporters: Mapping[str, object] = PRINT,
    ) -> None:
        self.ports = {"http/protobuf": free_port(), "grpc": free_port()}
        self.folder = folder
        self._config = folder / "config.yaml"
        self._command = [binary, "--config", str(self._config)]
        pipeline = json.dumps({"receivers": ["otlp"], "exporters": [*exporters]})
        self._config.write_text(f"""
receivers:
  otlp:
    protocols:
      http: {{endpoint: "127.0.0.1:{self.ports["http/protobuf"]}"{tls}}}
      grpc: {{endpoint: "127.0.0.1:{self.ports["grpc"]}"{tls}}}
exporters: {json.dumps(exporters)}
service:
  telemetry: {{metrics: {{level: none}}, logs: {{level: error}}}}
  pipelines: {{metrics: {pipeline}, traces: {pipeline}, logs: {pipeline}}}
""")

    @contextmanager
    def running(self) -> Iterator[None]:
        for _ in running(self._command, self.ports["http/protobuf"], self.folder / "log"):
            yield

    def settings(self, protocol: str, **others: str) -> otlp_settings.Settings:
        url = f"http://127.0.0.1:{self.ports[protocol]}"
        named = {f"OTEL_EXPORTER_OTLP_{name}": value for name, value in others.items()}
        return otlp_settings.settings(
            {
                "OTEL_EXPORTER_OTLP_ENDPOINT": url,
                "OTEL_EXPORTER_OTLP_PROTOCOL": protocol,
                "OTEL_EXPORTER_OTLP_TIMEOUT": "1000",
                **named,
            }
        )

    def received(self, metric: str, service: str = "") -> list[Received]:
        """Returns the points of a metric, of one service or all, as they came."""
        points: list[Received] = []
        owner = name = ""
        unit: dict[str, str] = {}
        for line in (self.folder / "log").read_text().splitlines():
            key, _, value = (
                part.strip() for part in line.strip().removeprefix("->").partition(":")
            )
            if line.startswith("Resource attributes"):
                owner = ""
            elif key == "service.name":
                owner = value.removeprefix("Str(").removesuffix(")")
            elif key == "Name":
                name, unit = value, {}
            elif "DataPoints #" in line:
                points.append(Received(owner, name, dict(unit)))
            elif key in {"IsMonotonic", "AggregationTemporality", "Unit", "DataType"}:
                unit[key] = value
            elif points and (
                bucket := re.match(r"Bucket ([\[(].*[\])]), Count: (\d+)", line.strip())
            ):
                points[-1].fields[bucket[1]] = bucket[2]
            elif points:
                points[-1].fields.setdefault(key, value)
        return [p for p in points if p.metric == metric and service in ("", p.service)]
