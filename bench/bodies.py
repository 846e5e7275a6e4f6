"""OTLP requests by the thousand: realistic points, spans and log records, quickly made.

A request is encoded once, by OpenTelemetry's own classes, with marks where each record has its
times, identifiers and values: all fields of a fixed width. For each further request numpy writes
new ones over the marks. So no two records are equal, times advance, counters grow, and neither
making nor sending a body takes what the receiver should have.
"""

from __future__ import annotations

import gzip
import re
import struct
from typing import TYPE_CHECKING, Any, Final, Protocol

import numpy as np
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from pathlib import Path

    from numpy.typing import NDArray

SECOND: Final = 1_000_000_000
SERIES: Final = 1000
"""Of one host: 25 services with 40 each."""
SPANS_OF_A_TRACE: Final = 5
_SERVICES: Final = 100
_PER_SERVICE: Final = 40
_GZIP_LEVEL: Final = 6
_START: Final = 0x5354415254535441
_TIME: Final = 0x54494D4554494D45
_VALUE: Final = 0x56414C5545564C55
_TRACE: Final = b"TRACETRACETRACE!"
_SPAN: Final = b"SPANSPAN"
_PARENT: Final = b"PARENTPA"
_DIGITS: Final = "##########"


class Source(Protocol):
    """Makes the requests of one signal, all with the same number of records.

    Attributes:
        path: where they go, in OTLP over HTTP.
        table: that they end up in, in the Collector's ClickHouse schema.
        time: that table's column of time.
    """

    path: str
    table: str
    time: str

    def bodies(self, count: int, start: int, step: int) -> Iterator[bytes]:
        """Yields `count` requests; times begin at `start`, a round is `step` nanoseconds."""


class Template:
    """An encoded request, and where the fields of its records are."""

    def __init__(self, message: Any, marks: dict[str, bytes], records: int) -> None:
        body = message.SerializeToString()
        self._body = np.frombuffer(body, np.uint8)
        self._offsets = {}
        for name, mark in marks.items():
            offsets = np.array([found.start() for found in re.finditer(re.escape(mark), body)])
            if len(offsets) != records:
                raise ValueError(f"{len(offsets)} marks of {name}, not {records}")
            self._offsets[name] = offsets[:, None] + np.arange(len(mark))

    def filled(self, **fields: NDArray[Any]) -> bytes:
        """Returns the request with the fields' values: arrays with as many items as records."""
        body = self._body.copy()
        for name, values in fields.items():
            offsets = self._offsets[name]
            body[offsets] = np.ascontiguousarray(values).view(np.uint8).reshape(offsets.shape)
        return body.tobytes()


class Points:
    """What agents send: counters of bytes by service, peer and direction, in rounds of all series.

    A request holds the series of a few hosts, or a part of one's.
    """

    path = "/v1/metrics"
    table = "otel_metrics_sum"
    time = "TimeUnix"

    def __init__(self, records: int, hosts: int) -> None:
        self._random = np.random.default_rng(1)
        self._records = records
        series = [(host, number) for host in range(hosts) for number in range(SERIES)]
        self._templates = [
            self._template(series[first : first + records])
            for first in range(0, len(series), records)
        ]
        shape = (len(self._templates), records)
        # Few are fast, most are slow, some stand still.
        self._rates = np.round(self._random.lognormal(6, 4, shape)).astype(np.int64)
        self._values = self._random.integers(0, 1 << 40, shape)

    def bodies(self, count: int, start: int, step: int) -> Iterator[bytes]:
        """Yields `count` requests; every series advances by `step` in a round."""
        began = np.full(self._records, start - 3600 * SECOND, "<u8")
        for number in range(count):
            tick, index = divmod(number, len(self._templates))
            self._values[index] += self._random.poisson(self._rates[index])
            yield self._templates[index].filled(
                start=began,
                time=np.full(self._records, start + tick * step, "<u8"),
                value=self._values[index].astype("<i8"),
            )

    def _template(self, series: Iterable[tuple[int, int]]) -> Template:
        message = ExportMetricsServiceRequest()
        points: Any = None
        last, count = -1, 0
        for host, number in series:
            if host != last:
                last = host
                resource = message.resource_metrics.add()
                set_attributes(resource.resource, _resource("kernob-agent", host))
                scope = resource.scope_metrics.add()
                scope.scope.name, scope.scope.version = "kernob", "0.1.0"
                metric = scope.metrics.add(name="kernob.network.io", unit="By")
                metric.sum.aggregation_temporality, metric.sum.is_monotonic = 2, True
                points = metric.sum.data_points
            point = points.add(start_time_unix_nano=_START, time_unix_nano=_TIME, as_int=_VALUE)
            service, rest = divmod(number, _PER_SERVICE)
            service = (host * (SERIES // _PER_SERVICE) + service) % _SERVICES
            attributes = {
                "service.name": f"service-{service:03}",
                "network.io.direction": ("transmit", "receive")[rest % 2],
                "network.transport": "tcp",
                "network.type": "ipv4",
                "kernob.peer": f"service-{(service + 7 * (rest // 2) + 1) % _SERVICES:03}",
                "server.port": 8000 + service,
                "kernob.side": "client",
            }
            set_attributes(point, attributes)
            count += 1
        marks = {
            "start": struct.pack("<Q", _START),
            "time": struct.pack("<Q", _TIME),
            "value": struct.pack("<q", _VALUE),
        }
        return Template(message, marks, count)


class Spans:
    """What HTTP servers send: eight attributes, traces of five spans."""

    path = "/v1/traces"
    table = "otel_traces"
    time = "Timestamp"

    def __init__(self, records: int) -> None:
        self._random = np.random.default_rng(2)
        self._records = records
        message = ExportTraceServiceRequest()
        for number in range(records):
            if number % (records // 10) == 0:
                resource = message.resource_spans.add()
                host = number * 10 // records
                set_attributes(resource.resource, _resource(f"service-{host:03}", host))
                scope = resource.scope_spans.add()
                scope.scope.name, scope.scope.version = "io.opentelemetry.http", "2.1.0"
            route = f"/shop/{number % 20}/{{id}}"
            span = scope.spans.add(
                trace_id=_TRACE,
                span_id=_SPAN,
                parent_span_id=_PARENT,
                name=f"GET {route}",
                kind=2,
                start_time_unix_nano=_START,
                end_time_unix_nano=_TIME,
            )
            attributes = {
                "http.request.method": "GET",
                "http.route": route,
                "url.path": f"/shop/{number % 20}/{_DIGITS}",
                "url.scheme": "https",
                "server.address": "shop.example.com",
                "network.protocol.version": "1.1",
                "user_agent.original": "Mozilla/5.0 (X11; Linux x86_64)",
                "http.response.status_code": 500 if number % 100 == 99 else 200,
            }
            set_attributes(span, attributes)
            span.status.code = 2 if number % 100 == 99 else 0
        marks = {
            "trace": _TRACE,
            "span": _SPAN,
            "parent": _PARENT,
            "start": struct.pack("<Q", _START),
            "end": struct.pack("<Q", _TIME),
            "id": _DIGITS.encode(),
        }
        self._template = Template(message, marks, records)

    def bodies(self, count: int, start: int, step: int) -> Iterator[bytes]:
        """Yields `count` requests; each has spans that began within its `step`."""
        random, records = self._random, self._records
        for number in range(count):
            begin = start + number * step + np.sort(random.integers(0, step, records))
            lasted = random.lognormal(16, 1.5, records).astype(np.int64)
            spans = _identifiers(random, records, 8)
            parents = np.repeat(spans[::SPANS_OF_A_TRACE], SPANS_OF_A_TRACE)[:records]
            # The first of a trace has its parent elsewhere.
            parents[::SPANS_OF_A_TRACE] = _identifiers(random, len(parents[::SPANS_OF_A_TRACE]), 8)
            traces = _identifiers(random, records, 16)[::SPANS_OF_A_TRACE]
            yield self._template.filled(
                trace=np.repeat(traces, SPANS_OF_A_TRACE)[:records],
                span=spans,
                parent=parents,
                start=begin.astype("<u8"),
                end=(begin + lasted).astype("<u8"),
                id=_decimals(random, records),
            )


class Logs:
    """What a web shop writes: a line with two numbers, four attributes, the ids of its span."""

    path = "/v1/logs"
    table = "otel_logs"
    time = "Timestamp"

    def __init__(self, records: int) -> None:
        self._random = np.random.default_rng(3)
        self._records = records
        message = ExportLogsServiceRequest()
        for number in range(records):
            if number % (records // 10) == 0:
                resource = message.resource_logs.add()
                host = number * 10 // records
                set_attributes(resource.resource, _resource(f"service-{host:03}", host))
                scope = resource.scope_logs.add()
                scope.scope.name = "shop.orders"
            severity, text = (17, "ERROR") if number % 50 == 49 else (9, "INFO")
            record = scope.log_records.add(
                time_unix_nano=_START,
                observed_time_unix_nano=_TIME,
                severity_number=severity,
                severity_text=text,
                trace_id=_TRACE,
                span_id=_SPAN,
                flags=1,
            )
            record.body.string_value = f"order {_DIGITS} of shop {number % 20} was paid by card"
            attributes = {
                "code.function.name": f"shop.orders.pay_{number % 20}",
                "code.line.number": 100 + number % 20,
                "thread.name": f"worker-{number % 8}",
                "enduser.id": f"customer-{number % 1000}",
            }
            set_attributes(record, attributes)
        marks = {
            "trace": _TRACE,
            "span": _SPAN,
            "time": struct.pack("<Q", _START),
            "observed": struct.pack("<Q", _TIME),
            "id": _DIGITS.encode(),
        }
        self._template = Template(message, marks, records)

    def bodies(self, count: int, start: int, step: int) -> Iterator[bytes]:
        """Yields `count` requests; each has records of its `step`."""
        random, records = self._random, self._records
        for number in range(count):
            time = start + number * step + np.sort(random.integers(0, step, records))
            yield self._template.filled(
                trace=_identifiers(random, records, 16),
                span=_identifiers(random, records, 8),
                time=time.astype("<u8"),
                observed=(time + 1_000_000).astype("<u8"),
                id=_decimals(random, records),
            )


def write_requests(path: Path, source: Source, bodies: Iterable[bytes], *, zipped: bool) -> int:
    """Writes what `sender` sends: whole requests; see sender.c. Returns the bytes of the bodies."""
    plain = 0
    with path.open("wb") as file:
        for body in bodies:
            plain += len(body)
            whole = request(source.path, body, zipped=zipped)
            file.write(struct.pack("=Q", len(whole)))
            file.write(whole)
    return plain


def request(path: str, body: bytes, *, zipped: bool = False) -> bytes:
    """Returns a request of HTTP with a body; the body is last."""
    encoding = "Content-Encoding: gzip\r\n" if zipped else ""
    packed = gzip.compress(body, _GZIP_LEVEL) if zipped else body
    head = (
        f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n{encoding}"
        f"Content-Type: application/x-protobuf\r\nContent-Length: {len(packed)}\r\n\r\n"
    )
    return head.encode() + packed


def _decimals(random: np.random.Generator, count: int) -> NDArray[Any]:
    """Returns `count` texts of ten digits."""
    return random.integers(ord("0"), ord("9") + 1, (count, len(_DIGITS)), np.uint8)


def _identifiers(random: np.random.Generator, count: int, width: int) -> NDArray[Any]:
    return np.frombuffer(random.bytes(width * count), f"V{width}")


def _resource(service: str, host: int) -> dict[str, str | int]:
    return {
        "service.name": service,
        "service.version": "0.1.0",
        "service.instance.id": f"{host:08x}-0000-4000-8000-000000000000",
        "host.name": f"host-{host:03}",
        "host.id": f"{host:032x}",
        "os.type": "linux",
        "os.version": "6.18.0",
    }


def set_attributes(message: Any, values: Mapping[str, object]) -> None:
    """Gives a resource, a scope or a record its attributes: texts and integers."""
    for key, value in values.items():
        attribute = message.attributes.add(key=key)
        if isinstance(value, int):
            attribute.value.int_value = value
        else:
            attribute.value.string_value = str(value)
