from __future__ import annotations

import struct
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

from bench import bodies
from kernob.server.otlp import SERVICES

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from bench.bodies import Source

SECOND = bodies.SECOND
START = 1_795_000_000 * SECOND
SOURCES: list[Callable[[int], Source]] = [
    partial(bodies.Points, hosts=1),
    bodies.Spans,
    bodies.Logs,
]


def records(source: Source, body: bytes) -> list[Any]:
    (service,) = (service for service in SERVICES if service.path == source.path)
    request: Any = service.request.FromString(body)
    assert service.parse(body) == 200
    found: list[Any] = []
    for resource in request.ListFields()[0][1]:
        for scope in resource.ListFields()[1][1]:
            inner = scope.ListFields()[1][1]
            found += inner[0].sum.data_points if source.path == "/v1/metrics" else inner
    return found


@pytest.mark.parametrize("make", SOURCES)
def test_no_two_records_are_equal(make: Callable[[int], Source]) -> None:
    source = make(200)
    found = [r for body in source.bodies(10, START, SECOND) for r in records(source, body)]
    assert len({r.SerializeToString() for r in found}) == len(found) == 2000


def test_counters_grow_and_times_advance_in_rounds() -> None:
    source = bodies.Points(200, hosts=1)
    first, *_, again = [records(source, body) for body in source.bodies(6, START, SECOND)]
    for before, after in zip(first, again, strict=True):
        assert after.time_unix_nano == before.time_unix_nano + SECOND
        assert after.as_int >= before.as_int
        assert after.attributes == before.attributes


def test_a_span_is_in_the_trace_of_its_parent_and_ends_after_it_began() -> None:
    source = bodies.Spans(200)
    (body,) = source.bodies(1, START, SECOND)
    spans = records(source, body)
    traces = {span.span_id: span.trace_id for span in spans}
    inner = [span for span in spans if span.parent_span_id in traces]
    assert len(inner) == 160
    for span in inner:
        assert traces[span.parent_span_id] == span.trace_id
    assert all(s.end_time_unix_nano > s.start_time_unix_nano >= START for s in spans)


@pytest.mark.parametrize("zipped", [False, True])
def test_requests_are_written_with_their_lengths(tmp_path: Path, *, zipped: bool) -> None:
    source = bodies.Logs(200)
    path = tmp_path / "requests"
    plain = bodies.write_requests(path, source, source.bodies(3, START, SECOND), zipped=zipped)
    rest, lengths = path.read_bytes(), []
    while rest:
        (length,) = struct.unpack_from("=Q", rest)
        head, _, body = rest[8 : 8 + length].partition(b"\r\n\r\n")
        assert head.startswith(b"POST /v1/logs HTTP/1.1\r\n")
        assert head.endswith(b"Content-Length: %d" % len(body))
        lengths.append(len(body))
        rest = rest[8 + length :]
    assert len(lengths) == 3
    assert (sum(lengths) < plain) if zipped else (sum(lengths) == plain)
