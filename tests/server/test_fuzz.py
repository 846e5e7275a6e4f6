"""Requests that chance has changed: never a crash, only 200 or 400, and memory stays bounded.

Most go where every request goes, parser and translator; some thousands over real HTTP into a real
store, and what they leave there can be read.
"""

from __future__ import annotations

import base64
import random
import re
import resource
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import httpx
import pytest
from google.protobuf import json_format
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
)
from opentelemetry.proto.collector.profiles.v1development.profiles_service_pb2 import (
    ExportProfilesServiceRequest,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from kernob.errors import MalformedError
from kernob.server import otlp
from kernob.server.otlp_json import to_message
from server import records
from servers import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from server.conftest import Receiver

TYPES = {True: "application/json", False: "application/x-protobuf"}
MEMORY = 200 << 20
NOW = time.time_ns()


def metrics() -> bytes:
    request = ExportMetricsServiceRequest()
    group = request.resource_metrics.add(schema_url="s")
    records.attribute(group.resource, "service.name", "fuzz")
    all_metrics = group.scope_metrics.add().metrics
    for kind in ("gauge", "sum", "histogram", "exponential_histogram", "summary"):
        metric = all_metrics.add(name=f"m.{kind}", unit="By")
        point = getattr(metric, kind).data_points.add(time_unix_nano=NOW)
        records.attribute(point, "key", "value")
        if kind == "histogram":
            point.bucket_counts.extend([1, 2])
            point.explicit_bounds.append(0.5)
        elif kind == "exponential_histogram":
            point.positive.bucket_counts.extend([1, 2])
        elif kind == "summary":
            point.quantile_values.add(quantile=0.5, value=1.5)
        else:
            point.exemplars.add(trace_id=bytes(16), as_double=1.0)
            point.as_int = 7
    return request.SerializeToString()


def traces() -> bytes:
    request = ExportTraceServiceRequest()
    group = request.resource_spans.add()
    records.attribute(group.resource, "service.name", "fuzz")
    span = group.scope_spans.add().spans.add(
        trace_id=bytes(range(16)), span_id=bytes(range(8)), name="work", kind=2,
        start_time_unix_nano=NOW, end_time_unix_nano=NOW + 1000,
    )  # fmt: skip
    records.attribute(span, "key", "value")
    span.events.add(name="event", time_unix_nano=NOW)
    span.links.add(trace_id=bytes(16), span_id=bytes(8))
    return request.SerializeToString()


def profiles() -> bytes:
    request = ExportProfilesServiceRequest()
    request.dictionary.string_table.extend(["", "cpu", "ns"])
    request.dictionary.link_table.add(trace_id=bytes(16), span_id=bytes(8))
    profile = (
        request.resource_profiles.add()
        .scope_profiles.add()
        .profiles.add(profile_id=bytes(range(16)), time_unix_nano=NOW)
    )
    profile.samples.add(stack_index=1, values=[1, 2, 3])
    return request.SerializeToString()


def as_json(service: otlp.Service, body: bytes) -> bytes:
    text = json_format.MessageToJson(service.request.FromString(body), indent=None)
    ids = r'("(?:traceId|spanId|profileId)": )"([^"]*)"'
    return re.sub(ids, lambda m: f'{m[1]}"{base64.b64decode(m[2]).hex()}"', text).encode()


def seeds() -> dict[otlp.Service, dict[bool, bytes]]:
    """Returns a good request of each service, by whether it is in JSON."""
    good = [metrics(), traces(), records.logs(["a", "b"], at=NOW), profiles()]
    return {
        service: {False: body, True: as_json(service, body)}
        for service, body in zip(otlp.SERVICES, good, strict=True)
    }


INTERESTING = (
    b"\xff" * 10, b"\x80" * 10 + b"\x01", b"\x0a\x00", b"\x0b", b"\x0c", b"\0" * 4, b"\x0a" * 40,
    b"\xed\xa0\x80", b"\xff\xff\xff\xff\x0f", b"null", b"[]", b"{}", b"-1", b"1e999", b"1e300",
    b'"\\ud800"', b"[" * 300, b'{"a":' * 300, b"NaN", b"18446744073709551616", b"true", b'""',
)  # fmt: skip


def changed(body: bytes, chance: random.Random) -> bytes:
    """Returns a body with one change, or some."""
    made = bytearray(body)
    for _ in range(chance.choice((1, 1, 1, 2, 4))):
        at = chance.randrange(len(made) + 1)
        end = min(len(made), at + chance.randint(1, 8))
        match chance.randrange(8):
            case 0:
                made[at:end] = chance.randbytes(end - at)
            case 1:
                del made[at:end]
            case 2:
                made[at:at] = made[at:end] * chance.randint(1, 8)
            case 3:
                made[at:at] = chance.choice(INTERESTING)
            case 4:
                made[at:end] = chance.choice(INTERESTING)
            case _ if at < len(made):
                made[at] ^= 1 << chance.randrange(8)
    return bytes(made)


def bodies(count: int, seed: int) -> Iterator[tuple[otlp.Service, bool, bytes]]:
    """Yields requests of all services and both encodings."""
    chance = random.Random(seed)
    originals = [
        (service, is_json, body)
        for service, both in seeds().items()
        for is_json, body in both.items()
    ]
    for number in range(count):
        service, is_json, body = originals[number % len(originals)]
        yield service, is_json, changed(body, chance)


def peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10


def parse(count: int, seed: int) -> dict[tuple[bool, bool], int]:
    """Returns how many were good, by whether they are in JSON and good."""
    outcomes = dict.fromkeys([(a, b) for a in (True, False) for b in (True, False)], 0)
    for service, is_json, body in bodies(count, seed):
        try:
            if is_json:
                made = to_message(body, service.request).SerializeToString()
                service.parse(made)
            else:
                service.parse(body)
        except MalformedError as error:
            otlp.status(error)
            outcomes[is_json, False] += 1
        else:
            outcomes[is_json, True] += 1
    return outcomes


def test_the_originals_are_good() -> None:
    for service, both in seeds().items():
        assert service.parse(both[False]) > 0
        assert service.count(to_message(both[True], service.request)) == service.parse(both[False])


def test_the_parsers_never_fail_otherwise() -> None:
    before = peak()

    outcomes = parse(100_000, seed=1)

    assert min(outcomes.values()) > 1000, "some are good, some are not, in both encodings"
    assert peak() - before < MEMORY


def send(receiver: Receiver, count: int, seed: int) -> dict[int, int]:
    """Returns how many had which status."""
    statuses: dict[int, int] = {}

    def post(request: tuple[otlp.Service, bool, bytes]) -> httpx.Response:
        service, is_json, body = request
        return receiver.post(service.path, body, TYPES[is_json])

    with ThreadPoolExecutor(100) as senders:
        for answer in senders.map(post, bodies(count, seed)):
            statuses[answer.status_code] = statuses.get(answer.status_code, 0) + 1
            if answer.status_code == 400 and answer.headers["Content-Type"] == TYPES[True]:
                assert answer.json()["message"]
    return statuses


def check(receiver: Receiver, statuses: dict[int, int]) -> None:
    assert statuses.keys() == {200, 400}
    assert min(statuses.values()) > 100
    figures = receiver.server.ingest.figures
    # The server's own figures may be on their way, too.
    wait_until(lambda: figures.waiting_bytes == 0, "an empty queue")
    assert {outcome for _, outcome in figures.requests} == {"stored", "malformed"}
    for table in ("logs", "traces", "metrics_sum", "metrics_exponential_histogram", "profiles"):
        name = f"otel.otel_{table}"
        columns = f"SELECT * FROM {name} FORMAT Null"
        receiver.rows(f"SELECT count() FROM {name}")
        receiver.server.store.engine.command(columns)
    body = records.logs(["the end"])
    assert receiver.post("/v1/logs", body).status_code == 200


def test_a_server_lives_through_it(receiver: Receiver) -> None:
    before = peak()

    statuses = send(receiver, 2000, seed=2)

    check(receiver, statuses)
    assert peak() - before < 2 * MEMORY


@pytest.mark.slow
def test_many_more(receiver: Receiver) -> None:
    receiver.client.timeout = 300
    for seed in range(10, 15):
        parse(200_000, seed)
        check(receiver, send(receiver, 2000, seed))
