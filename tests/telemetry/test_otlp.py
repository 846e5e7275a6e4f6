"""The sender against the real OpenTelemetry Collector, which prints what it was sent."""

from __future__ import annotations

import logging
import re
import socket
import threading
import time
from collections import defaultdict
from contextlib import contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING

import numpy as np
import pytest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
    ExportMetricsServiceResponse,
)

from collector import Collector
from kernob.errors import ConfigError
from kernob.telemetry import otlp, otlp_metrics, otlp_settings
from kernob.telemetry.model import (
    Kind,
    Metric,
    Points,
    Series,
    Snapshot,
    attributes,
    histogram_dtype,
)
from servers import free_port, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from servers import Certificates

IO = Metric("kernob.network.io", Kind.COUNTER, "By", "Bytes.")
OPEN = Metric("kernob.connections", Kind.UP_DOWN_COUNTER, "{connection}", "Open ones.")
FILL = Metric("kernob.agent.fill", Kind.GAUGE, "1", "How full.")
LATENCY = Metric("http.server.request.duration", Kind.HISTOGRAM, "s", "How long.")
NGINX = attributes({"service.name": "nginx"})
REDIS = attributes({"service.name": "redis"})
START = 1_700_000_000_000_000_000
SECOND = 1_000_000_000
EXACT = 2**60 + 1
"""No float64 has this value."""


def snapshot(number: int, io: dict[str, int] | None = None, count: int = 0) -> Snapshot:
    """Returns what a machine shows `number` seconds after the start."""
    io = {"nginx": EXACT * number, "redis": 7 * number} if io is None else io
    owners = {"nginx": NGINX, "redis": REDIS}
    series = [Series(owners[name], (("network.io.direction", "transmit"),), START) for name in io]
    value = np.zeros(1, histogram_dtype(6))
    value["scale"], value["offset"], value["zeros"], value["sum"] = 3, -8, number, 1.5 * number
    value["counts"] = [0, 2 * number, 0, number, 0, 0]
    one = [Series(NGINX, (), START)]
    return Snapshot(
        START + number * SECOND,
        (
            Points(IO, series, np.array([*io.values()], np.uint64)),
            Points(OPEN, one, np.array([10 - number])),
            Points(FILL, one, np.array([0.5])),
            Points(LATENCY, one, value),
            *(
                [
                    Points(
                        replace(IO, name="many"),
                        [Series(NGINX, (("id", i),), START) for i in range(count)],
                        np.full(count, number),
                    )
                ]
                if count
                else []
            ),
        ),
    )


@contextmanager
def sending(settings: otlp_settings.Settings) -> Iterator[otlp.Sender[Snapshot]]:
    sender = otlp.metrics_sender(settings)
    try:
        yield sender
    finally:
        sender.close(5)


def sent(sender: otlp.Sender[Snapshot], count: int) -> None:
    wait_until(lambda: sender.state.sent == count, lambda: f"{count} to arrive: {sender.state}")


BOTH = pytest.mark.parametrize("protocol", ["http/protobuf", "grpc"])


@pytest.mark.server
@BOTH
@pytest.mark.parametrize("compression", ["none", "gzip"])
def test_cumulative_values_arrive_exactly(
    collector: Collector, protocol: str, compression: str
) -> None:
    with collector.running():
        with sending(collector.settings(protocol, COMPRESSION=compression)) as sender:
            sender.offer(snapshot(1))
            sender.offer(snapshot(2))
            sent(sender, 2)
            assert sender.state.last_success > START
            assert sender.state.last_error == ""

        first, second = collector.received(IO.name, "nginx")
        assert (first.number("Value"), second.number("Value")) == (EXACT, 2 * EXACT)
        assert first.fields["AggregationTemporality"] == "Cumulative"
        assert first.fields["IsMonotonic"] == "true"
        assert first.fields["Unit"] == "By"
        assert first.fields["network.io.direction"] == "Str(transmit)"
        assert second.fields["StartTimestamp"] == "2023-11-14 22:13:20 +0000 UTC"
        assert second.fields["Timestamp"] == "2023-11-14 22:13:22 +0000 UTC"
        assert [p.number("Value") for p in collector.received(IO.name, "redis")] == [7, 14]
        down = collector.received(OPEN.name, "nginx")[1]
        assert (down.number("Value"), down.fields["IsMonotonic"]) == (8, "false")
        assert collector.received(FILL.name, "nginx")[0].fields["Value"] == "0.500000"
        assert collector.received(FILL.name, "nginx")[0].fields["DataType"] == "Gauge"


@pytest.mark.server
@BOTH
@pytest.mark.parametrize(
    ("preference", "counters", "histograms"),
    [
        ("cumulative", "Cumulative", "Cumulative"),
        ("delta", "Delta", "Delta"),
        ("LowMemory", "Cumulative", "Delta"),
    ],
)
def test_each_temporality(
    collector: Collector, protocol: str, preference: str, counters: str, histograms: str
) -> None:
    settings = collector.settings(protocol, METRICS_TEMPORALITY_PREFERENCE=preference)
    with collector.running(), sending(settings) as sender:
        sender.offer(snapshot(1))
        sender.offer(snapshot(3))
        sent(sender, 2)

        io = collector.received(IO.name, "nginx")[1]
        assert io.fields["AggregationTemporality"] == counters
        assert io.number("Value") == (2 if counters == "Delta" else 3) * EXACT
        latency = collector.received(LATENCY.name, "nginx")[1]
        assert latency.fields["AggregationTemporality"] == histograms
        times = 2 if histograms == "Delta" else 3
        since = "21" if histograms == "Delta" else "20"
        assert latency.fields["StartTimestamp"] == f"2023-11-14 22:13:{since} +0000 UTC"
        assert latency.number("Count") == 4 * times
        assert float(latency.fields["Sum"]) == 1.5 * times
        assert latency.number("[0, 0]") == times
        assert latency.number("(0.545254, 0.594604]") == 2 * times
        assert latency.number("(0.648420, 0.707107]") == times
        down = collector.received(OPEN.name, "nginx")[1]
        assert down.fields["AggregationTemporality"] == "Cumulative"


@pytest.mark.server
@BOTH
def test_a_clock_that_was_set_back_makes_no_point_that_ends_before_it_begins(
    collector: Collector, protocol: str
) -> None:
    with collector.running(), sending(collector.settings(protocol)) as sender:
        sender.offer(replace(snapshot(1, {"nginx": 5}), time=START - 3600 * SECOND))
        sent(sender, 1)

    [point] = collector.received(IO.name, "nginx")
    assert point.fields["StartTimestamp"] == point.fields["Timestamp"]
    assert point.number("Value") == 5


@pytest.mark.server
@BOTH
def test_a_collector_that_is_gone_for_a_while_costs_no_byte(
    collector: Collector, protocol: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "kernob")
    settings = collector.settings(protocol, METRICS_TEMPORALITY_PREFERENCE="delta")
    with sending(replace(settings, queue=3)) as sender:
        with collector.running():
            sender.offer(snapshot(1))
            sent(sender, 1)
        for number in range(2, 8):
            sender.offer(snapshot(number))
        wait_until(lambda: sender.state.failing, "the sender to see it")
        sender.offer(snapshot(8))
        state = sender.state
        assert (state.queued, state.failing, state.sent) == (3, True, 1)
        assert state.dropped == 8 - 1 - 3
        assert re.search("refused|UNAVAILABLE|reset|aborted", state.last_error)
        with collector.running():
            sent(sender, 4)
            assert not sender.state.failing

        points = collector.received(IO.name, "nginx")
        assert sum(p.number("Value") for p in points) == 8 * EXACT
        # Each point begins where the one before it ended, over the gap too.
        ends = [p.fields["Timestamp"] for p in points]
        assert [p.fields["StartTimestamp"] for p in points[1:]] == ends[:-1]
        assert sum(p.number("Count") for p in collector.received(LATENCY.name, "nginx")) == 4 * 8
    levels = [r.levelname for r in caplog.records if r.name.startswith("kernob")]
    assert levels == ["WARNING", "INFO"]
    assert not [r for r in caplog.records if r.name.startswith("opentelemetry")]


@pytest.mark.server
@BOTH
def test_what_waits_at_the_end_is_still_sent(collector: Collector, protocol: str) -> None:
    with collector.running():
        sender = otlp.metrics_sender(collector.settings(protocol))
        for number in range(1, 6):
            sender.offer(snapshot(number))
        sender.close(5)

        assert (sender.state.sent, sender.state.queued) == (5, 0)
        assert collector.received(IO.name, "nginx")[-1].number("Value") == 5 * EXACT


@pytest.mark.server
@BOTH
def test_a_large_snapshot_goes_in_parts_and_once(collector: Collector, protocol: str) -> None:
    count = 2 * otlp_metrics.PART + 10
    settings = collector.settings(protocol, METRICS_TEMPORALITY_PREFERENCE="delta")
    with collector.running(), sending(settings) as sender:
        sender.offer(snapshot(1, count=count))
        sender.offer(snapshot(3, count=count))
        sent(sender, 2)

        totals: dict[str, int] = defaultdict(int)
        for point in collector.received("many", "nginx"):
            totals[point.fields["id"]] += point.number("Value")
        assert len(totals) == count
        assert set(totals.values()) == {3}


@pytest.mark.server
@BOTH
def test_mutual_tls(
    collector_binary: str,
    tmp_path: Path,
    certificates: Certificates,
    protocol: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    c = certificates
    # Of no weight beside OpenTelemetry's own variable.
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(c.stranger))
    tls = (
        f', tls: {{cert_file: "{c.server}", key_file: "{c.server_key}", client_ca_file: "{c.ca}"}}'
    )
    collector = Collector(collector_binary, tmp_path, tls)
    port = collector.ports[protocol]
    settings = collector.settings(
        protocol,
        ENDPOINT=f"https://127.0.0.1:{port}",
        CERTIFICATE=str(c.ca),
        CLIENT_CERTIFICATE=str(c.client),
        METRICS_CLIENT_KEY=str(c.client_key),
    )
    with collector.running():
        with sending(settings) as sender:
            sender.offer(snapshot(1))
            sent(sender, 1)
        with sending(replace(settings, client_certificate="", client_key="")) as sender:
            sender.offer(snapshot(2))
            wait_until(lambda: sender.state.failed, "the collector to refuse")
    assert len(collector.received(IO.name, "nginx")) == 1


def test_series_that_go_and_come(sink: Sink) -> None:
    """A new series has all it counted since its start; one that starts anew too."""
    settings = sink.settings(temporality="delta")
    with sending(settings) as sender:
        sender.offer(snapshot(1, {"nginx": 5}))
        sender.offer(snapshot(2, {"nginx": 9, "redis": 3}))
        sender.offer(snapshot(3, {"nginx": 2, "redis": 3}))
        sent(sender, 3)

    assert sink.values() == [{"nginx": 5}, {"nginx": 4, "redis": 3}, {"nginx": 2, "redis": 0}]


# -- what a Collector can't be made to answer --------------------------------------------------


class Sink:
    """An HTTP server that answers as told, and keeps the requests."""

    def __init__(self) -> None:
        self.status = 200
        self.body = b""
        self.silent = threading.Event()
        self.requests: list[ExportMetricsServiceRequest] = []
        self.headers: list[dict[str, str]] = []
        answers = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                data = self.rfile.read(int(self.headers["Content-Length"]))
                if answers.silent.is_set():
                    answers.released.wait(20)
                    return
                answers.requests.append(ExportMetricsServiceRequest.FromString(data))
                answers.headers.append(dict(self.headers))
                self.send_response(answers.status)
                self.send_header("Content-Type", "application/x-protobuf")
                self.send_header("Content-Length", str(len(answers.body)))
                self.send_header("Location", "http://127.0.0.1:1/")
                self.end_headers()
                self.wfile.write(answers.body)

            def log_message(self, *_: object) -> None:
                pass

        self.released = threading.Event()
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/v1/metrics"
        threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True).start()

    def settings(self, **others: str) -> otlp_settings.Settings:
        return replace(otlp_settings.Settings(endpoint=self.url, timeout=0.5), **others)  # type: ignore[arg-type]

    def values(self) -> list[dict[str, int]]:
        """Returns, for each request, the bytes by service."""
        return [
            {
                resource.resource.attributes[0].value.string_value: metric.sum.data_points[0].as_int
                for resource in request.resource_metrics
                for metric in resource.scope_metrics[0].metrics
                if metric.name == IO.name
            }
            for request in self.requests
        ]


@pytest.fixture
def sink() -> Iterator[Sink]:
    server = Sink()
    yield server
    server.released.set()
    server.server.shutdown()
    server.server.server_close()


@pytest.mark.parametrize("status", [400, 401, 404, 413, 500, 302])
def test_what_is_refused_for_good_is_dropped_and_its_bytes_come_with_the_next(
    sink: Sink, status: int
) -> None:
    sink.status = status
    with sending(sink.settings(temporality="delta")) as sender:
        sender.offer(snapshot(1))
        wait_until(lambda: sender.state.dropped == 1, "it to be dropped")
        assert (sender.state.queued, sender.state.failed, sender.state.failing) == (0, 1, True)
        assert sender.state.last_error
        sink.status = 200
        sender.offer(snapshot(2))
        sent(sender, 1)

    assert len(sink.requests) == 2
    assert sink.values()[1]["nginx"] == 2 * EXACT


def test_an_overloaded_collector_is_asked_again(sink: Sink) -> None:
    sink.status = 503
    with sending(sink.settings()) as sender:
        sender.offer(snapshot(1))
        wait_until(lambda: sender.state.failed, "a failure")
        sink.status = 200
        sent(sender, 1)
        assert sender.state.dropped == 0


def test_points_that_a_collector_rejects_are_counted(sink: Sink) -> None:
    answer = ExportMetricsServiceResponse()
    answer.partial_success.rejected_data_points = 2
    answer.partial_success.error_message = "too old"
    sink.body = answer.SerializeToString()

    with sending(sink.settings()) as sender:
        sender.offer(snapshot(1))
        sent(sender, 1)
        assert (sender.state.rejected, sender.state.last_error) == (2, "too old")


def test_headers_of_the_environment(sink: Sink, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", "x-tenant=blue")
    with sending(sink.settings()) as sender:
        sender.offer(snapshot(1))
        sent(sender, 1)

    assert sink.headers[0]["x-tenant"] == "blue"
    found = {
        frozenset((a.key, a.value.string_value) for a in resource.resource.attributes)
        for resource in sink.requests[0].resource_metrics
    }
    assert found == {frozenset(NGINX), frozenset(REDIS)}


@pytest.mark.parametrize("protocol", ["http/protobuf", "grpc"])
def test_close_is_prompt_while_nobody_listens(protocol: str) -> None:
    settings = otlp_settings.settings(
        {
            "OTEL_EXPORTER_OTLP_PROTOCOL": protocol,
            "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{free_port()}",
        }
    )
    sender = otlp.metrics_sender(settings)
    sender.offer(snapshot(1))
    time.sleep(0.3)

    begin = time.monotonic()
    sender.close(30)

    assert time.monotonic() - begin < 1
    assert (sender.state.queued, sender.state.sent) == (1, 0)
    assert sender.state.last_error


def test_close_keeps_its_deadline_when_the_collector_says_nothing(sink: Sink) -> None:
    sink.silent.set()
    sender = otlp.metrics_sender(replace(sink.settings(), timeout=10))
    sender.offer(snapshot(1))
    time.sleep(0.2)

    begin = time.monotonic()
    sender.close(1)

    assert time.monotonic() - begin < 2
    assert sender.state.queued == 1


def test_close_without_anything_to_send() -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        sender = otlp.metrics_sender(
            otlp_settings.Settings(endpoint=f"http://127.0.0.1:{nobody.getsockname()[1]}")
        )

        begin = time.monotonic()
        sender.close(30)

        assert time.monotonic() - begin < 1


# -- settings --------------------------------------------------------------------------------------


def test_nothing_is_sent_unless_asked_for() -> None:
    assert not otlp_settings.settings({}).enabled
    assert otlp_settings.settings({"OTEL_METRICS_EXPORTER": "otlp"}).enabled
    endpoint = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4318"}
    assert otlp_settings.settings(endpoint).enabled
    assert not otlp_settings.settings({**endpoint, "OTEL_METRICS_EXPORTER": "none"}).enabled
    assert not otlp_settings.settings({**endpoint, "OTEL_METRICS_EXPORTER": "prometheus"}).enabled
    assert otlp_settings.settings({**endpoint, "OTEL_METRICS_EXPORTER": "prometheus, otlp"}).enabled
    assert not otlp_settings.settings({**endpoint, "OTEL_SDK_DISABLED": "True"}).enabled


def test_variables_of_metrics_come_first() -> None:
    both = {
        "OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4318/",
        "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT": "http://m:1/path",
        "OTEL_EXPORTER_OTLP_TIMEOUT": "2500",
        "OTEL_EXPORTER_OTLP_METRICS_COMPRESSION": "gzip",
        "OTEL_EXPORTER_OTLP_COMPRESSION": "none",
        "OTEL_METRIC_EXPORT_INTERVAL": "5000",
    }

    settings = otlp_settings.settings(both)

    assert settings.endpoint == "http://m:1/path"
    assert (settings.timeout, settings.interval, settings.compression) == (2.5, 5, "gzip")
    del both["OTEL_EXPORTER_OTLP_METRICS_ENDPOINT"]
    assert otlp_settings.settings(both).endpoint == "http://c:4318/v1/metrics"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/json"),
        ("OTEL_EXPORTER_OTLP_METRICS_COMPRESSION", "zstd"),
        ("OTEL_EXPORTER_OTLP_TIMEOUT", "10s"),
        ("OTEL_EXPORTER_OTLP_TIMEOUT", "0"),
        ("OTEL_EXPORTER_OTLP_CERTIFICATE", "/nowhere/ca.pem"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "localhost:4318"),
        ("OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE", "sometimes"),
        ("OTEL_METRIC_EXPORT_INTERVAL", "-1"),
    ],
)
def test_a_mistake_points_at_its_variable(name: str, value: str) -> None:
    with pytest.raises(ConfigError, match=f"^{name}: .*{re.escape(value)}"):
        otlp_settings.settings({name: value})
