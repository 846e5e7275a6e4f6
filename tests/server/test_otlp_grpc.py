"""OTLP/gRPC against a real server: codes and their details, compression, and a real SDK."""

from __future__ import annotations

import socket
import struct
from typing import TYPE_CHECKING

import grpc
import pytest
from google.rpc import error_details_pb2, status_pb2
from opentelemetry import trace
from opentelemetry._logs import LogRecord
from opentelemetry.exporter.otlp.proto.grpc._log_exporter import OTLPLogExporter
from opentelemetry.exporter.otlp.proto.grpc.metric_exporter import OTLPMetricExporter
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceResponse
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import SimpleLogRecordProcessor
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor

from kernob.server import otlp, otlp_grpc
from kernob.store.engine import Signal
from server import records
from servers import wait_until

if TYPE_CHECKING:
    from server.conftest import Receiver

LOGS = "/opentelemetry.proto.collector.logs.v1.LogsService/Export"


def call(receiver: Receiver, body: bytes, method: str = LOGS, **options: object) -> bytes:
    """Returns the answer to one call."""
    with grpc.insecure_channel(receiver.grpc) as channel:
        answer: bytes = channel.unary_unary(method)(body, timeout=10, **options)
        return answer


def failed(receiver: Receiver, body: bytes, method: str = LOGS) -> tuple[str, status_pb2.Status]:
    """Returns the name of the code that a call failed with, and its details."""
    with pytest.raises(grpc.RpcError) as raised:
        call(receiver, body, method)
    trailers = dict(raised.value.trailing_metadata())
    details = status_pb2.Status.FromString(trailers.get("grpc-status-details-bin", b""))
    return raised.value.code().name, details


def test_what_opentelemetrys_sdk_sends_is_in_the_store(receiver: Receiver) -> None:
    at = {"endpoint": receiver.grpc, "insecure": True, "compression": grpc.Compression.Gzip}
    resource = Resource({"service.name": "bank"})
    spans = TracerProvider(resource=resource)
    spans.add_span_processor(SimpleSpanProcessor(OTLPSpanExporter(**at)))
    reader = PeriodicExportingMetricReader(OTLPMetricExporter(**at))
    metrics = MeterProvider([reader], resource=resource)
    logs = LoggerProvider(resource=resource)
    logs.add_log_record_processor(SimpleLogRecordProcessor(OTLPLogExporter(**at)))

    with spans.get_tracer("t").start_as_current_span("pay", kind=trace.SpanKind.CLIENT):
        logs.get_logger("l").emit(LogRecord(body="paid"))
    metrics.get_meter("m").create_up_down_counter("balance").add(-3)
    for provider in (spans, metrics, logs):
        provider.shutdown()

    of = "WHERE ServiceName = 'bank'"
    span, trace_of_log = "SpanName, SpanKind, TraceId", "Body, TraceId"
    ((name, kind, trace_id),) = receiver.rows(f"SELECT {span} FROM otel.otel_traces {of}")
    assert (name, kind) == ("pay", "Client")
    log = receiver.rows(f"SELECT {trace_of_log} FROM otel.otel_logs {of}")
    assert log == [("paid", trace_id)]
    sums = receiver.rows(f"SELECT MetricName, Value, IsMonotonic FROM otel.otel_metrics_sum {of}")
    assert sums == [("balance", -3.0, False)]


@pytest.mark.parametrize("compression", list(grpc.Compression))
def test_compression(receiver: Receiver, compression: grpc.Compression) -> None:
    body = records.logs([f"by {compression.name}"])

    assert call(receiver, body, compression=compression) == b""

    found = (
        f"SELECT count() FROM otel.otel_logs WHERE LogAttributes['id'] = 'by {compression.name}'"
    )
    assert receiver.rows(found) == [(1,)]


def test_requests_of_nothing_are_fine(receiver: Receiver) -> None:
    for service in otlp.SERVICES:
        assert call(receiver, b"", f"/{service.name}/Export") == b""


def test_what_is_refused_is_told_and_the_rest_is_stored(receiver: Receiver) -> None:
    body = records.logs(["good"]) + records.logs(["old", "older"], at=1)

    partial = ExportLogsServiceResponse.FromString(call(receiver, body)).partial_success

    assert partial.rejected_log_records == 2
    assert "time" in partial.error_message
    assert receiver.rows(
        "SELECT LogAttributes['id'] FROM otel.otel_logs WHERE LogAttributes['id'] LIKE '%o%d%'"
    ) == [("good",)]


def test_a_malformed_request_is_an_invalid_argument(receiver: Receiver) -> None:
    code, status = failed(receiver, b"\x0a\x05ab")

    assert code == "INVALID_ARGUMENT"
    bad = error_details_pb2.BadRequest()
    assert status.details[0].Unpack(bad)
    assert bad.field_violations[0].description == status.message
    assert "ExportLogsServiceRequest" in status.message


def test_a_request_that_is_too_large_must_not_come_again(receiver: Receiver) -> None:
    code, status = failed(receiver, bytes(2 << 20))

    assert code == "RESOURCE_EXHAUSTED"
    assert not status.details, "a RetryInfo would have it sent again"
    assert call(receiver, b"") == b""


def test_an_unknown_method(receiver: Receiver) -> None:
    assert failed(receiver, b"", "/opentelemetry.proto.Nothing/Export")[0] == "UNIMPLEMENTED"


def test_a_store_that_lags_is_unavailable_and_says_when_to_come_again(receiver: Receiver) -> None:
    ingest = receiver.server.ingest
    limit, ingest._limit = ingest._limit, 1000
    with receiver.blocked_store(), grpc.insecure_channel(receiver.grpc) as channel:
        waits = channel.unary_unary(LOGS).future(records.logs(["waits"], body="x" * 2000))
        wait_until(lambda: ingest.figures.waiting_bytes, "the request")
        code, status = failed(receiver, records.logs(["refused"]))
        assert not waits.done()
        ingest._limit = limit
    assert code == "UNAVAILABLE"
    retry = error_details_pb2.RetryInfo()
    assert status.details[0].Unpack(retry)
    assert retry.retry_delay.seconds > 0


def test_a_call_without_its_message_is_told_so(receiver: Receiver) -> None:
    assert answer_to(receiver, b"", "identity") == (3, "there is no message, or it can't be read")


def test_a_message_that_does_not_come_is_given_up(
    receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(otlp_grpc, "MESSAGE_SECONDS", 0.2)

    code, text = answer_to(receiver, b"\0\0\0\0\x64abc", "identity", end=False)

    assert (code, "took longer" in text) == (4, True)
    assert receiver.requests(Signal.LOGS, "late") == 1


def test_zstd_is_not_grpcs_and_harms_nothing(receiver: Receiver) -> None:
    code, text = answer_to(receiver, b"\1\0\0\0\x05abcde", "zstd")

    assert (code, "grpc-encoding" in text) == (13, True)
    assert call(receiver, b"") == b""


def answer_to(
    receiver: Receiver, message: bytes, encoding: str, *, end: bool = True
) -> tuple[int, str]:
    """Returns code and message of a call as no client of gRPC's own would make it.

    By hand in HTTP/2 (RFC 9113): preface, settings, headers that are not compressed, data.
    """

    def frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
        head = struct.pack(">I", len(payload))[1:] + bytes([kind, flags])
        return head + struct.pack(">I", stream) + payload

    def header(name: str, value: str) -> bytes:
        return b"\0" + bytes([len(name)]) + name.encode() + bytes([len(value)]) + value.encode()

    headers = {
        ":method": "POST", ":scheme": "http", ":path": LOGS, ":authority": "localhost",
        "content-type": "application/grpc", "te": "trailers", "grpc-encoding": encoding,
    }  # fmt: skip
    block = b"".join(header(name, value) for name, value in headers.items())
    host, _, port = receiver.grpc.partition(":")
    with socket.create_connection((host, int(port)), timeout=5) as wire:
        wire.sendall(
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
            + frame(4, 0, 0, b"")
            + frame(1, 4, 1, block)
            + frame(0, int(end), 1, message)
        )
        stream = wire.makefile("rb")
        while True:
            head = stream.read(9)
            payload = stream.read(int.from_bytes(head[:3]))
            if head[3] == 1 and b"grpc-status" in payload:
                return (_field(payload, b"grpc-status", int), _field(payload, b"grpc-message", str))


def _field(block: bytes, name: bytes, kind: type) -> object:
    """Returns a header that is a literal without Huffman's code, as gRPC's core sends these."""
    at = block.index(name) + len(name)
    return kind(block[at + 1 : at + 1 + block[at]].decode())
