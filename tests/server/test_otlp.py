"""What OTLP's services share: packed bodies within bounds, requests and their records, statuses."""

from __future__ import annotations

import gzip
import tracemalloc
import zlib
from typing import TYPE_CHECKING

import pytest
import zstandard
from google.rpc import code_pb2
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
)

from kernob.errors import (
    KernobError,
    MalformedError,
    OverloadedError,
    StoreError,
    StoreFullError,
    TooLargeError,
)
from kernob.server import otlp
from kernob.store.engine import Refused, Signal
from server import records

if TYPE_CHECKING:
    from collections.abc import Callable

METRICS, TRACES, LOGS, PROFILES = otlp.SERVICES
PACKERS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "deflate": zlib.compress,
    "zstd": zstandard.compress,
}


@pytest.mark.parametrize("encoding", PACKERS)
def test_packed_is_unpacked_up_to_the_limit_and_no_further(encoding: str) -> None:
    body = bytes(range(256)) * 40
    packed = PACKERS[encoding](body)

    assert otlp.unpack(encoding, packed, len(body)) == body
    with pytest.raises(TooLargeError, match=f"larger than {len(body) - 1} bytes"):
        otlp.unpack(encoding, packed, len(body) - 1)
    for cut in (b"", packed[:-1], packed[: len(packed) // 2], b"x" + packed):
        with pytest.raises(MalformedError, match=encoding):
            otlp.unpack(encoding, cut, len(body))


@pytest.mark.parametrize("encoding", ["gzip", "zstd"])
def test_members_that_follow_each_other_are_one_body(encoding: str) -> None:
    pack = PACKERS[encoding]

    assert otlp.unpack(encoding, pack(b"ab") + pack(b"") + pack(b"cd"), 4) == b"abcd"
    with pytest.raises(TooLargeError):
        otlp.unpack(encoding, pack(b"ab") + pack(b"cd"), 3)
    with pytest.raises(MalformedError):
        otlp.unpack(encoding, pack(b"ab") + b"junk", 100)


@pytest.mark.parametrize("encoding", PACKERS)
def test_a_bomb_is_not_unpacked(encoding: str) -> None:
    bomb = PACKERS[encoding](bytes(64 << 20))
    tracemalloc.start()

    with pytest.raises(TooLargeError):
        otlp.unpack(encoding, bomb, 1 << 20)

    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 40 << 20


def test_records_are_counted() -> None:
    request = ExportMetricsServiceRequest()
    metrics = request.resource_metrics.add().scope_metrics.add().metrics
    for kind in ("gauge", "sum", "histogram", "exponential_histogram", "summary"):
        points = getattr(metrics.add(name=kind), kind).data_points
        points.add()
        points.add()
    metrics.add(name="nothing")

    assert METRICS.parse(request.SerializeToString() * 2) == 20
    assert LOGS.parse(records.logs(["a", "b"]) + records.logs(["c"])) == 3
    assert TRACES.parse(records.traces(["a", "b"])) == 2
    assert PROFILES.parse(b"") == 0


@pytest.mark.parametrize("service", otlp.SERVICES, ids=lambda service: service.signal)
def test_what_is_not_the_message_is_malformed(service: otlp.Service) -> None:
    for body in (b"\x0a", b"\x0a\x05ab", b"\xff" * 20, b"\x0a\x02\x0a\x05", b"{}"):
        with pytest.raises(MalformedError, match=service.request.DESCRIPTOR.name):
            service.parse(body)


def test_values_nested_too_deeply_are_malformed() -> None:
    def nested(depth: int) -> bytes:
        body = b"\x0a\x01x"
        # By hand, since protobuf's package makes none that it does not read: array and its value,
        # over and over; then body of a record, record, scope, resource.
        for tag in b"\x0a\x2a" * depth + b"\x2a\x12\x12\x0a":
            size = len(body)
            sizes = [size & 127 | 128, size >> 7 & 127 | 128, size >> 14]
            body = bytes([tag, *sizes]) + body
        return body

    assert LOGS.parse(nested(20)) == 1
    for depth in (60, 1000):
        with pytest.raises(MalformedError, match="nested too deeply"):
            LOGS.parse(nested(depth))


def test_an_answer_says_only_what_was_refused() -> None:
    assert TRACES.answer(Refused()).SerializeToString() == b""
    for service in otlp.SERVICES:
        partial = service.answer(Refused(3, "why")).partial_success
        assert (getattr(partial, service.rejected), partial.error_message) == (3, "why")
    assert {service.signal for service in otlp.SERVICES} == set(Signal)


@pytest.mark.parametrize(
    ("error", "code", "details"),
    [
        (MalformedError("m"), code_pb2.INVALID_ARGUMENT, ["google.rpc.BadRequest"]),
        (TooLargeError("m"), code_pb2.RESOURCE_EXHAUSTED, []),
        (OverloadedError("m"), code_pb2.UNAVAILABLE, ["google.rpc.RetryInfo"]),
        (StoreError("m"), code_pb2.UNAVAILABLE, ["google.rpc.RetryInfo"]),
        (KernobError("m"), code_pb2.INTERNAL, []),
    ],
)
def test_statuses(error: KernobError, code: int, details: list[str]) -> None:
    status = otlp.status(error)

    assert (status.code, status.message) == (code, "m")
    assert [detail.TypeName() for detail in status.details] == details


def test_the_fuller_the_later() -> None:
    errors = OverloadedError("x"), StoreError("x"), StoreFullError("x")

    assert 0 < otlp.retry_seconds(errors[0]) < otlp.retry_seconds(errors[1])
    assert otlp.retry_seconds(errors[1]) < otlp.retry_seconds(errors[2])
