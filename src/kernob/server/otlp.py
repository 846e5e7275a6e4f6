"""What OTLP's four services have in common, whatever brings the requests.

OTLP specification 1.9.0; the messages are those of opentelemetry-proto as its Python package has
them. A request is parsed here once, to know that it is well-formed and how much is in it; what
goes on to the store are its bytes as they came.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import zstandard
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import DecodeError
from google.rpc import code_pb2, error_details_pb2, status_pb2
from opentelemetry.proto.collector.logs.v1 import logs_service_pb2 as logs
from opentelemetry.proto.collector.metrics.v1 import metrics_service_pb2 as metrics
from opentelemetry.proto.collector.profiles.v1development import profiles_service_pb2 as profiles
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2 as traces

from kernob.errors import (
    KernobError,
    LateError,
    MalformedError,
    OverloadedError,
    StoreError,
    StoreFullError,
    TooLargeError,
    UnauthorizedError,
    UnsupportedError,
)
from kernob.store.engine import Refused, Signal

if TYPE_CHECKING:
    from collections.abc import Callable

    from google.protobuf.message import Message

RETRY_SECONDS: Final = 2
"""When to try again where the server is overloaded."""
STORE_RETRY_SECONDS: Final = 10
"""When to try again where the store is away."""
FULL_RETRY_SECONDS: Final = 30
"""When to try again where the disk is full: the store drops its oldest within a minute."""

_CODES: Final = (
    (MalformedError, code_pb2.INVALID_ARGUMENT),
    (UnauthorizedError, code_pb2.UNAUTHENTICATED),
    (LateError, code_pb2.DEADLINE_EXCEEDED),
    (TooLargeError, code_pb2.RESOURCE_EXHAUSTED),
    (UnsupportedError, code_pb2.UNIMPLEMENTED),
    (OverloadedError, code_pb2.UNAVAILABLE),
    (StoreError, code_pb2.UNAVAILABLE),
    (KernobError, code_pb2.INTERNAL),
)
_LARGEST_WINDOW: Final = 8 << 20
"""Bytes of zstd's window: what RFC 9659 has every receiver take, and none must exceed."""
_STEP: Final = 1024
"""Bytes of zstd that are unpacked at once, to at most 32 MiB."""


@dataclass(frozen=True, slots=True)
class Service:
    """One of OTLP's services, each with one method, `Export`.

    Attributes:
        signal: what it takes.
        path: of OTLP/HTTP.
        name: of OTLP/gRPC, in full.
        request: the message that comes.
        response: the message that goes.
        rejected: its field in `partial_success` that counts what was refused.
        count: returns how many records a request holds.
    """

    signal: Signal
    path: str
    name: str
    request: type[Message]
    response: type[Message]
    rejected: str
    count: Callable[[Any], int]

    def parse(self, body: bytes) -> int:
        """Returns how many records a request in protobuf holds: it is well-formed.

        Takes about 0.7 µs a data point, 3 MiB for each MiB, and keeps Python's lock meanwhile.

        Raises:
            MalformedError: it is not; or it is nested deeper than protobuf's 100 messages.
        """
        try:
            return self.count(self.request.FromString(body))
        except DecodeError as error:
            raise MalformedError(
                f"this is no {self.request.DESCRIPTOR.name}, or it is nested too deeply: {error}"
            ) from error

    def answer(self, refused: Refused) -> Message:
        """Returns the response to a request of which `refused` was not stored."""
        answer: Any = self.response()
        if refused.records or refused.reason:
            setattr(answer.partial_success, self.rejected, refused.records)
            answer.partial_success.error_message = refused.reason
        return answer


def _points(request: Any) -> int:
    return sum(
        len(getattr(metric, kind).data_points)
        for resource in request.resource_metrics
        for scope in resource.scope_metrics
        for metric in scope.metrics
        if (kind := metric.WhichOneof("data"))
    )


def _spans(request: Any) -> int:
    return sum(len(s.spans) for r in request.resource_spans for s in r.scope_spans)


def _records(request: Any) -> int:
    return sum(len(s.log_records) for r in request.resource_logs for s in r.scope_logs)


def _profiles(request: Any) -> int:
    return sum(len(s.profiles) for r in request.resource_profiles for s in r.scope_profiles)


SERVICES: Final = (
    Service(
        Signal.METRICS,
        "/v1/metrics",
        "opentelemetry.proto.collector.metrics.v1.MetricsService",
        metrics.ExportMetricsServiceRequest,
        metrics.ExportMetricsServiceResponse,
        "rejected_data_points",
        _points,
    ),
    Service(
        Signal.TRACES,
        "/v1/traces",
        "opentelemetry.proto.collector.trace.v1.TraceService",
        traces.ExportTraceServiceRequest,
        traces.ExportTraceServiceResponse,
        "rejected_spans",
        _spans,
    ),
    Service(
        Signal.LOGS,
        "/v1/logs",
        "opentelemetry.proto.collector.logs.v1.LogsService",
        logs.ExportLogsServiceRequest,
        logs.ExportLogsServiceResponse,
        "rejected_log_records",
        _records,
    ),
    Service(
        Signal.PROFILES,
        "/v1development/profiles",
        "opentelemetry.proto.collector.profiles.v1development.ProfilesService",
        profiles.ExportProfilesServiceRequest,
        profiles.ExportProfilesServiceResponse,
        "rejected_profiles",
        _profiles,
    ),
)


def status(error: KernobError) -> status_pb2.Status:
    """Returns what a sender is told of an error: code, message, and the details that OTLP wants.

    These are a `RetryInfo` where it may try again (UNAVAILABLE), and a `BadRequest` where it need
    not (INVALID_ARGUMENT).
    """
    code = next(code for kind, code in _CODES if isinstance(error, kind))
    answer = status_pb2.Status(code=code, message=str(error))
    if code == code_pb2.UNAVAILABLE:
        delay = Duration(seconds=retry_seconds(error))
        answer.details.add().Pack(error_details_pb2.RetryInfo(retry_delay=delay))
    elif code == code_pb2.INVALID_ARGUMENT:
        violation = error_details_pb2.BadRequest.FieldViolation(description=str(error))
        answer.details.add().Pack(error_details_pb2.BadRequest(field_violations=[violation]))
    return answer


def retry_seconds(error: KernobError) -> int:
    """Returns after how long a request that failed so may be sent again."""
    if isinstance(error, StoreFullError):
        return FULL_RETRY_SECONDS
    return STORE_RETRY_SECONDS if isinstance(error, StoreError) else RETRY_SECONDS


def unpack(encoding: str, body: bytes, largest: int) -> bytes:
    """Returns a body as it was before its sender compressed it.

    Args:
        encoding: one of `ENCODINGS`.
        body: as it came.
        largest: bytes of what is returned; no more than that is ever unpacked.

    Raises:
        MalformedError: it is not compressed like that, or not whole.
        TooLargeError: it is larger.
    """
    try:
        return _UNPACKERS[encoding](body, largest)
    except _Larger:
        raise too_large(largest) from None
    except (zlib.error, zstandard.ZstdError) as error:
        raise MalformedError(f"the body can't be unpacked as {encoding}: {error}") from error


class _Larger(Exception):  # noqa: N818
    """It unpacks to more than it may."""


def _stay(body: bytes, _: int) -> bytes:
    return body


def _gzip(body: bytes, largest: int) -> bytes:
    # A file of gzip is one or more members (RFC 1952, section 2.2).
    parts: list[bytes] = []
    while True:
        part, body = _inflate(body, largest, zlib.MAX_WBITS | 16)
        parts.append(part)
        largest -= len(part)
        if not body:
            return b"".join(parts)


def _deflate(body: bytes, largest: int) -> bytes:
    # HTTP's `deflate` is zlib's format (RFC 9110, section 8.4.1.2).
    return _inflate(body, largest, zlib.MAX_WBITS)[0]


def _inflate(body: bytes, largest: int, format_bits: int) -> tuple[bytes, bytes]:
    """Returns what was packed and what follows it."""
    inflater = zlib.decompressobj(format_bits)
    unpacked = inflater.decompress(body, largest + 1)
    if len(unpacked) > largest:
        raise _Larger
    if not inflater.eof:
        raise zlib.error("it ends too early")
    return unpacked, inflater.unused_data


def _zstd(body: bytes, largest: int) -> bytes:
    # Frames may follow each other (RFC 8878, section 3). The package's ways with a bound take what
    # is cut off for whole, so the bound is here: by small steps, since a step can grow 32,768-fold.
    unpacker = zstandard.ZstdDecompressor(max_window_size=_LARGEST_WINDOW)
    frame = unpacker.decompressobj()
    parts: list[bytes] = []
    at = 0
    while at < len(body):
        if frame.eof:
            frame = unpacker.decompressobj()
        part = frame.decompress(body[at : at + _STEP])
        at = min(at + _STEP, len(body)) - len(frame.unused_data)
        parts.append(part)
        largest -= len(part)
        if largest < 0:
            raise _Larger
    if not frame.eof:
        raise zstandard.ZstdError("it ends too early")
    return b"".join(parts)


def too_large(largest: int) -> TooLargeError:
    """Returns the error of a request with more than `largest` bytes."""
    return TooLargeError(
        f"the request is larger than {largest} bytes, as it came or unpacked",
        remedy="send smaller batches, or raise server.largest_body",
    )


_UNPACKERS: Final = {
    "": _stay,
    "identity": _stay,
    "gzip": _gzip,
    "x-gzip": _gzip,
    "deflate": _deflate,
    "zstd": _zstd,
}
ENCODINGS: Final = frozenset(_UNPACKERS)
"""Content codings of HTTP that are taken; empty for none."""
