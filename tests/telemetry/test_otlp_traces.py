"""Spans on their way: to a real Collector, and to a backend that is away or refuses them."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse

from capture import capturing
from kernob.telemetry import otlp, otlp_settings
from kernob.telemetry.spans import Span
from servers import free_port, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from collector import Collector

START = 1_700_000_000_123_456_789


def span(number: int, *, failed: bool = False) -> Span:
    return Span(
        name="GET /users/{id}",
        kind="server",
        start=START + number,
        end=START + number + 2_000_000,
        resource=(("service.name", "shop"),),
        series=(("http.request.method", "GET"), ("http.route", "/users/{id}")),
        own=(("kernob.sample.weight", number),),
        failed=failed,
    )


@contextmanager
def sending(settings: otlp_settings.Settings) -> Iterator[otlp.Sender[Span]]:
    sender = otlp.traces_sender(settings)
    try:
        yield sender
    finally:
        sender.close(2)


def settings_to(url: str, **environ: str) -> otlp_settings.Settings:
    named = {f"OTEL_EXPORTER_OTLP_{name}": value for name, value in environ.items()}
    return otlp_settings.settings({"OTEL_EXPORTER_OTLP_ENDPOINT": url, **named}, "traces")


@pytest.mark.server
@pytest.mark.parametrize("protocol", ["http/protobuf", "grpc"])
def test_a_real_collector_takes_them(collector: Collector, protocol: str) -> None:
    url = f"http://127.0.0.1:{collector.ports[protocol]}"
    with collector.running():
        with sending(settings_to(url, PROTOCOL=protocol, TIMEOUT="2000")) as sender:
            sender.offer(span(1), span(2, failed=True))
            wait_until(lambda: sender.state.sent == 2, lambda: f"both to arrive: {sender.state}")
        log = (collector.folder / "log").read_text()

    lines = [" ".join(line.split()) for line in log.splitlines()]
    assert lines.count("Name : GET /users/{id}") == 2
    assert lines.count("Kind : Server") == 2
    assert lines.count("-> service.name: Str(shop)") == 1
    assert lines.count("Status code : Error") == 1
    assert "-> kernob.sample.weight: Int(2)" in lines
    assert "Start time : 2023-11-14 22:13:20.12345679 +0000 UTC" in lines
    ids = [line for line in lines if line.startswith("Trace ID : ")]
    assert len({*ids}) == 2


def test_what_waits_is_bounded_and_what_is_dropped_counted() -> None:
    settings = settings_to(f"http://127.0.0.1:{free_port()}", TIMEOUT="200")

    with sending(settings) as sender:
        sender.offer(*(span(number) for number in range(10_000)))
        state = sender.state

    assert state.queued <= otlp_settings.SPANS
    assert state.queued + state.dropped == 10_000
    assert state.refused == 0


def test_a_backend_that_comes_back_gets_each_once_with_the_ids_of_the_first_try() -> None:
    with capturing() as capture:
        capture.status = 503
        settings = replace(settings_to(capture.url), timeout=0.5)
        with sending(settings) as sender:
            sender.offer(*(span(number) for number in range(700)))
            wait_until(lambda: sender.state.failed, "a failure")
            tried = {one.span.span_id for one in capture.spans()}
            capture.bodies.clear()
            capture.status = 200
            wait_until(lambda: sender.state.sent == 700, lambda: f"all: {sender.state}")
        found = [one.span.span_id for one in capture.spans()]

    assert len(found) == len({*found}) == 700
    assert tried < {*found}


def test_refused_ones_are_counted() -> None:
    with capturing() as capture:
        capture.status = 400
        with sending(settings_to(capture.url)) as sender:
            sender.offer(span(1), span(2))
            wait_until(lambda: sender.state.refused, "them to be refused")
            assert (sender.state.refused, sender.state.dropped, sender.state.queued) == (2, 2, 0)


def test_rejected_ones_are_counted() -> None:
    answer = ExportTraceServiceResponse()
    answer.partial_success.rejected_spans = 1
    with capturing() as capture:
        capture.answer = answer.SerializeToString()
        with sending(settings_to(capture.url)) as sender:
            sender.offer(span(1), span(2))
            wait_until(lambda: sender.state.sent, "them to be sent")
            assert sender.state.rejected == 1


def test_their_own_variables_come_first() -> None:
    environ = {
        "OTEL_EXPORTER_OTLP_ENDPOINT": "http://a:4318",
        "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT": "http://b:4318/v1/metrics",
        "OTEL_EXPORTER_OTLP_TRACES_COMPRESSION": "gzip",
    }

    found = otlp_settings.settings(environ, "traces")
    own = {**environ, "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://c:4318/spans"}

    assert (found.enabled, found.endpoint) == (True, "http://a:4318/v1/traces")
    assert (found.compression, otlp_settings.settings(environ).compression) == ("gzip", "none")
    assert otlp_settings.settings(own, "traces").endpoint == "http://c:4318/spans"
    off = {**environ, "OTEL_TRACES_EXPORTER": "none"}
    assert not otlp_settings.settings(off, "traces").enabled
    assert otlp_settings.settings(off).enabled
