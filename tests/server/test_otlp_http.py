"""OTLP/HTTP against a real server: statuses, types, encodings, guards, and a real SDK."""

from __future__ import annotations

import gzip
import http.client
import json
import socket
import time
import zlib
from typing import TYPE_CHECKING

import pytest
import zstandard
from google.rpc import error_details_pb2, status_pb2
from opentelemetry import trace
from opentelemetry._logs import LogRecord, SeverityNumber
from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.proto.collector.profiles.v1development.profiles_service_pb2 import (
    ExportProfilesServiceRequest,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import SimpleLogRecordProcessor
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor

from kernob.server import otlp_http
from kernob.store.engine import Signal
from server import records
from server.conftest import Receiver
from servers import wait_until

if TYPE_CHECKING:
    pass

JSON = "application/json"
PROTOBUF = "application/x-protobuf"


def test_what_opentelemetrys_sdk_sends_is_in_the_store(receiver: Receiver) -> None:
    resource = Resource({"service.name": "shop", "answer": 42, "tags": ["a", "b"]})
    spans = TracerProvider(resource=resource)
    spans.add_span_processor(SimpleSpanProcessor(OTLPSpanExporter(f"{receiver.url}/v1/traces")))
    metrics = MeterProvider(
        [PeriodicExportingMetricReader(OTLPMetricExporter(f"{receiver.url}/v1/metrics"))],
        resource=resource,
    )
    logs = LoggerProvider(resource=resource)
    logs.add_log_record_processor(
        SimpleLogRecordProcessor(OTLPLogExporter(f"{receiver.url}/v1/logs"))
    )

    with spans.get_tracer("t").start_as_current_span("buy", kind=trace.SpanKind.SERVER) as span:
        span.set_attribute("items", 3)
        record = LogRecord(body="sold", severity_number=SeverityNumber.WARN, attributes={"n": 1})
        logs.get_logger("l").emit(record)
    meter = metrics.get_meter("m")
    meter.create_counter("sales").add(7, {"city": "Ulm"})
    meter.create_histogram("duration").record(0.3)
    for provider in (spans, metrics, logs):
        provider.shutdown()

    ids = (f"{span.get_span_context().trace_id:032x}", f"{span.get_span_context().span_id:016x}")
    assert receiver.rows(
        "SELECT TraceId, SpanId, SpanName, SpanKind, SpanAttributes['items'],"
        " ResourceAttributes['answer'] FROM otel.otel_traces WHERE ServiceName = 'shop'"
    ) == [(*ids, "buy", "Server", "3", "42")]
    assert receiver.rows(
        "SELECT TraceId, SpanId, Body, SeverityNumber, LogAttributes['n'],"
        " ResourceAttributes['tags'] FROM otel.otel_logs WHERE ServiceName = 'shop'"
    ) == [(*ids, "sold", 13, "1", '["a","b"]')]
    assert receiver.rows(
        "SELECT MetricName, Value, IsMonotonic, Attributes['city'] FROM otel.otel_metrics_sum"
        " WHERE ServiceName = 'shop'"
    ) == [("sales", 7.0, True, "Ulm")]
    assert receiver.rows(
        "SELECT MetricName, Count, Sum FROM otel.otel_metrics_histogram WHERE ServiceName = 'shop'"
    ) == [("duration", 1, 0.3)]


@pytest.mark.parametrize(
    ("encoding", "pack"),
    [
        ("gzip", gzip.compress),
        ("zstd", zstandard.compress),
        ("deflate", zlib.compress),
        ("identity", bytes),
    ],
)
def test_packed_bodies(receiver: Receiver, encoding: str, pack: type[bytes]) -> None:
    body = records.logs([f"packed by {encoding}"])

    answer = receiver.post("/v1/logs", pack(body), Content_Encoding=encoding)

    assert (answer.status_code, answer.content) == (200, b"")
    found = f"SELECT count() FROM otel.otel_logs WHERE LogAttributes['id'] = 'packed by {encoding}'"
    assert receiver.rows(found) == [(1,)]


def test_a_body_in_chunks(receiver: Receiver) -> None:
    body = records.traces(["in chunks"])
    chunks = (body[at : at + 7] for at in range(0, len(body), 7))

    answer = receiver.client.post("/v1/traces", content=chunks, headers={"Content-Type": PROTOBUF})

    assert answer.status_code == 200
    assert receiver.rows(
        "SELECT count() FROM otel.otel_traces WHERE SpanAttributes['id'] = 'in chunks'"
    ) == [(1,)]


def test_requests_of_nothing_are_fine(receiver: Receiver) -> None:
    for path in otlp_http.PATHS:
        empty = receiver.post(path, b"")
        assert (empty.status_code, empty.content, empty.headers["Content-Type"]) == (
            200, b"", PROTOBUF,
        )  # fmt: skip
        empty = receiver.post(path, b"{}", f"{JSON}; charset=utf-8")
        assert (empty.status_code, empty.json(), empty.headers["Content-Type"]) == (200, {}, JSON)


def test_profiles_are_taken(receiver: Receiver) -> None:
    request = ExportProfilesServiceRequest()
    request.dictionary.string_table.extend(["", "cpu"])
    profile = request.resource_profiles.add().scope_profiles.add().profiles.add()
    profile.time_unix_nano, profile.profile_id = time.time_ns(), bytes(range(16))

    answer = receiver.post("/v1development/profiles", request.SerializeToString())

    assert (answer.status_code, answer.content) == (200, b"")
    assert receiver.rows("SELECT count() FROM otel.otel_profiles") == [(1,)]


def test_what_is_refused_is_told_and_the_rest_is_stored(receiver: Receiver) -> None:
    body = records.traces(["good"]) + records.traces(["old"], at=1)

    answer = receiver.post("/v1/traces", body)

    assert answer.status_code == 200
    partial = ExportTraceServiceResponse.FromString(answer.content).partial_success
    assert partial.rejected_spans == 1
    assert "time" in partial.error_message
    assert receiver.rows(
        "SELECT SpanAttributes['id'] FROM otel.otel_traces"
        " WHERE SpanAttributes['id'] IN ('good', 'old')"
    ) == [("good",)]
    assert receiver.server.store.losses()[Signal.TRACES, "time"] == 1


def test_what_is_refused_is_told_in_json_to_who_sent_json(receiver: Receiver) -> None:
    record = {"timeUnixNano": "1", "body": {"stringValue": "ancient"}}
    body = {"resourceLogs": [{"scopeLogs": [{"logRecords": [record]}]}]}

    answer = receiver.post("/v1/logs", json.dumps(body).encode(), JSON)

    assert answer.status_code == 200
    assert answer.json()["partialSuccess"]["rejectedLogRecords"] == "1"


@pytest.mark.parametrize(
    ("kind", "body", "headers", "status", "outcome"),
    [
        (PROTOBUF, b"\x0a\x05ab", {}, 400, "malformed"),
        (PROTOBUF, b"\xff" * 40, {}, 400, "malformed"),
        (PROTOBUF, b"no gzip", {"Content_Encoding": "gzip"}, 400, "malformed"),
        (PROTOBUF, b"x", {"Content_Encoding": "br"}, 415, "unsupported"),
        (PROTOBUF, bytes(1 << 20) + b"x", {}, 413, "too_large"),
        (PROTOBUF, gzip.compress(bytes(1 << 21)), {"Content_Encoding": "gzip"}, 413, "too_large"),
        (JSON, b"{", {}, 400, "malformed"),
        (JSON, b"[]", {}, 400, "malformed"),
        (JSON, b'{"resourceLogs":{}}', {}, 400, "malformed"),
        ("text/plain", b"hello", {}, 415, "unsupported"),
        ("", b"hello", {}, 415, "unsupported"),
    ],
)
def test_a_bad_request_is_told_what_is_wrong(
    receiver: Receiver, kind: str, body: bytes, headers: dict[str, str], status: int, outcome: str
) -> None:
    before = receiver.requests(Signal.LOGS, outcome)

    answer = receiver.post("/v1/logs", body, kind, **headers)

    assert answer.status_code == status
    assert "Retry-After" not in answer.headers
    if kind == PROTOBUF:
        assert answer.headers["Content-Type"] == PROTOBUF
        error = status_pb2.Status.FromString(answer.content)
        assert error.message
        if status == 400:
            bad = error_details_pb2.BadRequest()
            assert error.details[0].Unpack(bad)
            assert bad.field_violations[0].description == error.message
    else:
        assert answer.headers["Content-Type"] == JSON
        assert answer.json()["message"]
    assert receiver.requests(Signal.LOGS, outcome) == before + 1
    assert receiver.server.ingest.figures.waiting_bytes == 0


def test_a_body_that_grows_too_large_without_a_length_is_refused(receiver: Receiver) -> None:
    answer = receiver.client.post(
        "/v1/logs",
        content=(bytes(1 << 16) for _ in range(40)),
        headers={"Content-Type": PROTOBUF},
    )

    assert answer.status_code == 413


def test_other_methods_and_paths(receiver: Receiver) -> None:
    answer = receiver.client.get("/v1/logs")

    assert (answer.status_code, answer.headers["Allow"]) == (405, "POST")
    assert answer.json()["message"]
    assert receiver.post("/v1/nothing", b"").status_code == 404


def test_a_connection_is_kept_also_after_an_error(receiver: Receiver) -> None:
    connection = http.client.HTTPConnection(receiver.url.removeprefix("http://"))
    statuses, sockets = [], set()
    for body in (b"\xff", bytes(2 << 20), b"", records.logs(["kept"])):
        connection.request("POST", "/v1/logs", body, {"Content-Type": PROTOBUF})
        sockets.add(connection.sock)
        answer = connection.getresponse()
        answer.read()
        statuses.append(answer.status)
    connection.close()

    assert statuses == [400, 413, 200, 200]
    assert len(sockets) == 1


def test_a_sender_that_goes_away_in_the_middle_takes_no_room(receiver: Receiver) -> None:
    before = receiver.requests(Signal.LOGS, "late")
    host, _, port = receiver.url.removeprefix("http://").partition(":")
    with socket.create_connection((host, int(port))) as sender:
        sender.sendall(
            b"POST /v1/logs HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n"
            b"Content-Type: application/x-protobuf\r\n\r\n" + bytes(50_000)
        )
        wait_until(lambda: receiver.server.ingest.figures.waiting_bytes == 50_000, "the half")

    wait_until(lambda: receiver.requests(Signal.LOGS, "late") == before + 1, "the end")
    assert receiver.server.ingest.figures.waiting_bytes == 0


def test_a_body_that_takes_too_long_is_given_up(
    receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(otlp_http, "BODY_SECONDS", 0.2)
    connection = http.client.HTTPConnection(receiver.url.removeprefix("http://"), timeout=5)
    connection.putrequest("POST", "/v1/logs")
    connection.putheader("Content-Type", PROTOBUF)
    connection.putheader("Content-Length", "1000")
    connection.endheaders(b"slow")

    answer = connection.getresponse()

    assert answer.status == 408
    assert status_pb2.Status.FromString(answer.read()).message
    connection.close()
