"""Sends what a scenario says (see ../scenario.py) with OpenTelemetry's SDK for Python.

To where and how OpenTelemetry's environment variables say; prints the ids and times that it chose.
"""

from __future__ import annotations

import base64
import importlib
import json
import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from opentelemetry import trace
from opentelemetry._logs import SeverityNumber
from opentelemetry.context import Context
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import BatchLogRecordProcessor
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.metrics.view import ExponentialBucketHistogramAggregation, View
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from opentelemetry._logs import Logger
    from opentelemetry.metrics import Meter

PACKAGES = {"http/protobuf": "http", "grpc": "grpc"}


def exporter(module: str, name: str) -> Any:
    """Returns OpenTelemetry's exporter of that name for the protocol that is asked for."""
    package = PACKAGES[os.environ["OTEL_EXPORTER_OTLP_PROTOCOL"]]
    found = importlib.import_module(f"opentelemetry.exporter.otlp.proto.{package}.{module}")
    return getattr(found, name)()


def value(plain: Any) -> Any:
    """Returns what a value of JSON stands for; `{"$bytes": BASE64}` are bytes."""
    if isinstance(plain, list):
        return [value(item) for item in plain]
    if not isinstance(plain, dict):
        return plain
    if "$bytes" in plain:
        return base64.b64decode(plain["$bytes"])
    return {name: value(inner) for name, inner in plain.items()}


def send_spans(scenario: Mapping[str, Any], tracer: trace.Tracer) -> dict[str, Context]:
    """Returns the contexts of the spans, by name."""
    base = int(scenario["base"])
    contexts = {"": Context()}
    for span in scenario["spans"]:
        begun = tracer.start_span(
            span["name"],
            contexts[span["parent"]],
            trace.SpanKind[span["kind"]],
            value(span["attributes"]),
            [
                trace.Link(
                    trace.get_current_span(contexts[link["span"]]).get_span_context(),
                    value(link["attributes"]),
                )
                for link in span["links"]
            ],
            base + span["start"],
        )
        for event in span["events"]:
            begun.add_event(event["name"], value(event["attributes"]), base + event["time"])
        code = trace.StatusCode[span["status"]["code"] or "UNSET"]
        begun.set_status(code, span["status"]["message"] or None)
        begun.end(base + span["end"])
        contexts[span["name"]] = trace.set_span_in_context(begun, Context())
    return contexts


def instrument(meter: Meter, metric: Mapping[str, Any]) -> Callable[..., None]:
    """Returns what records a value of one metric."""
    about = metric["name"], metric["unit"], metric["description"]
    match metric["kind"]:
        case "int_counter" | "double_counter":
            return meter.create_counter(*about).add
        case "int_up_down_counter":
            return meter.create_up_down_counter(*about).add
        case "double_gauge":
            return meter.create_gauge(*about).set
        case "double_histogram":
            bounds = metric["bounds"] or None
            return meter.create_histogram(*about, explicit_bucket_boundaries_advisory=bounds).record
        case kind:
            raise ValueError(kind)


def send_metrics(
    scenario: Mapping[str, Any], contexts: Mapping[str, Context], provider: MeterProvider
) -> None:
    meter = provider.get_meter(scenario["scope"]["name"], scenario["scope"]["version"])
    records = {metric["name"]: instrument(meter, metric) for metric in scenario["metrics"]}
    for following in reversed(range(scenario["rounds"])):
        for metric in scenario["metrics"]:
            for measured in metric["measurements"]:
                records[metric["name"]](
                    measured["value"], value(measured["attributes"]), contexts[measured["span"]]
                )
        if following:  # the last one goes out at the end
            provider.force_flush()


def send_logs(scenario: Mapping[str, Any], contexts: Mapping[str, Context], logger: Logger) -> None:
    for entry in scenario["logs"]:
        logger.emit(
            timestamp=int(scenario["base"]) + entry["time"],
            context=contexts[entry["span"]],
            severity_number=SeverityNumber(entry["severity"]),
            severity_text=entry["text"],
            body=value(entry["body"]),
            attributes=value(entry["attributes"]),
            event_name=entry["event"] or None,
        )


def main() -> None:
    scenario = json.loads(Path(sys.argv[1]).read_text())
    resource = Resource.create(value(scenario["resource"]))
    tracers = TracerProvider(resource=resource)
    tracers.add_span_processor(BatchSpanProcessor(exporter("trace_exporter", "OTLPSpanExporter")))
    reader = PeriodicExportingMetricReader(exporter("metric_exporter", "OTLPMetricExporter"))
    exponential = View(
        instrument_name="*.size", aggregation=ExponentialBucketHistogramAggregation(max_size=160)
    )
    meters = MeterProvider([reader], resource, views=[exponential])
    loggers = LoggerProvider(resource)
    loggers.add_log_record_processor(
        BatchLogRecordProcessor(exporter("_log_exporter", "OTLPLogExporter"))
    )
    scope = scenario["scope"]["name"], scenario["scope"]["version"]

    begin = time.time_ns()
    contexts = send_spans(scenario, tracers.get_tracer(*scope))
    send_metrics(scenario, contexts, meters)
    send_logs(scenario, contexts, loggers.get_logger(*scope))
    tracers.shutdown()
    meters.shutdown()
    loggers.shutdown()

    ids = {}
    for span in scenario["spans"]:
        found = trace.get_current_span(contexts[span["name"]]).get_span_context()
        ids[span["name"]] = [
            trace.format_trace_id(found.trace_id),
            trace.format_span_id(found.span_id),
        ]
    print(json.dumps({"spans": ids, "metrics": [begin, time.time_ns()]}))


if __name__ == "__main__":
    main()
