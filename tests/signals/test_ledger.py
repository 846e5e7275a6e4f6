"""Rows of the kernel's table of requests become histograms of services."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest

from kernob.identity.process import Process
from kernob.kernel import objects
from kernob.signals.ledger import PATIENCE, Ledger
from kernob.signals.operations import Operations
from kernob.signals.requests import BUCKETS, FIRST_DURATION, SeriesReading, Text
from kernob.telemetry.model import Points

KINDS = {"whole": 0, "pieces": 1, "first_byte": 2, "request_body": 3, "one_way": 5}
CAPACITY = 64
REDIS, HTTP = 2, 1
"""Numbers of enum protocol."""
ADDRESS = bytes(10) + b"\xff\xff" + bytes((192, 0, 2, 7))


@pytest.fixture(scope="module")
def dtypes() -> tuple[np.dtype[Any], np.dtype[Any]]:
    """Of keys and rows, from the compiled object."""
    with objects.read("requests") as requests:
        return requests.maps["series_index"].key, requests.maps["series"].value


def process(pid: int, start: int, service: str) -> Process:
    return Process(
        *(pid, start, 1, service, service, "", (service,), "root", "/", ""),
        service=service,
        container=None,
    )


@dataclass
class Kernel:
    """The kernel's side: rows that a test counts in."""

    key: np.dtype[Any]
    rows: np.ndarray[Any, Any]
    new: dict[int, Any] = field(default_factory=dict)
    texts: list[Text] = field(default_factory=list)
    changed: set[int] = field(default_factory=set)

    def text(self, fingerprint: int, text: str, protocol: int = REDIS) -> None:
        self.texts.append(Text(fingerprint, protocol, namespace=False, text=text))

    def make(self, number: int, **fields: object) -> None:
        key = np.zeros((), self.key)
        values = {"start": 1, "pid": 10, "side": 2, "protocol": REDIS, "port": 6379, **fields}
        values.setdefault("operation", 77)
        for name, value in values.items():
            key[name] = np.frombuffer(value, np.uint8) if isinstance(value, bytes) else value
        self.new[number] = key

    def count(self, number: int, bucket: int, count: int = 1, ns: int = 1000) -> None:
        row = self.rows[number]
        row["buckets"][bucket] = (int(row["buckets"][bucket]) + count) & 0xFFFFFFFF
        row["sum"] += np.uint64(count * ns)
        self.changed.add(number)

    def read(self) -> SeriesReading:
        numbers = np.array(list(self.new), np.uint32)
        keys = np.array([self.new[n] for n in self.new], self.key)
        changed = np.array(sorted(self.changed), np.intp)
        reading = SeriesReading(self.texts, keys, numbers, changed, self.rows)
        self.new, self.texts, self.changed = {}, [], set()
        return reading


@pytest.fixture
def kernel(dtypes: tuple[np.dtype[Any], np.dtype[Any]]) -> Kernel:
    key, row = dtypes
    return Kernel(key, np.zeros(CAPACITY, row))


@pytest.fixture
def ledger() -> Ledger:
    operations = Operations(
        identify=lambda pid, start: process(pid, start, f"service-{pid}"),
        name_peer=lambda address, port, transport: f"{address[-1]}:{port}/{transport}",
        host="node7",
        texts=True,
    )
    return Ledger(operations, resource={"host.name": "node7"}, start=5)


def found(points: tuple[Points, ...], metric: str) -> dict[tuple[tuple[str, Any], ...], Any]:
    """The values of one metric by their attributes."""
    return {
        series.attributes: value
        for each in points
        if each.metric.name == metric
        for series, value in zip(each.series, each.values, strict=True)
    }


def test_a_row_is_a_histogram_of_its_service(kernel: Kernel, ledger: Ledger) -> None:
    kernel.text(77, "GET")
    kernel.make(3, address=ADDRESS)
    kernel.count(3, 100, 5, ns=2_000_000)
    kernel.count(3, 108, 1, ns=4_000_000)

    ledger.update(kernel.read())

    ((attributes, value),) = found(ledger.points(), "kernob.db.server.operation.duration").items()
    assert dict(attributes) == {
        "service.name": "service-10",
        "kernob.peer": "7:0/6",
        "kernob.side": "server",
        "network.protocol.name": "redis",
        "server.address": "node7",
        "server.port": 6379,
        "db.system.name": "redis",
        "db.operation.name": "GET",
        "db.query.summary": "GET",
    }
    assert value["offset"] == FIRST_DURATION + 100
    assert value["counts"].tolist() == [5, 0, 0, 0, 0, 0, 0, 0, 1]
    assert value["sum"] == pytest.approx(0.014)


def test_counters_go_on_beyond_32_bits(kernel: Kernel, ledger: Ledger) -> None:
    kernel.text(77, "GET")
    kernel.make(3)
    total = 0
    for _ in range(5):
        kernel.count(3, 7, 1_500_000_000)
        total += 1_500_000_000
        ledger.update(kernel.read())

    (value,) = found(ledger.points(), "kernob.db.server.operation.duration").values()
    assert total > 1 << 32
    assert value["counts"].sum() == total


def test_a_row_waits_for_its_text_and_loses_nothing(kernel: Kernel, ledger: Ledger) -> None:
    kernel.make(3)
    kernel.count(3, 7, 4)
    ledger.update(kernel.read())
    assert not ledger.points()

    kernel.text(77, "GET")
    ledger.update(kernel.read())

    ((attributes, value),) = found(ledger.points(), "kernob.db.server.operation.duration").items()
    assert dict(attributes)["db.operation.name"] == "GET"
    assert value["counts"].sum() == 4


def test_a_text_that_never_comes_is_not_waited_for_for_ever(kernel: Kernel, ledger: Ledger) -> None:
    kernel.make(3)
    kernel.count(3, 7, 4)
    for _ in range(PATIENCE + 1):
        ledger.update(kernel.read())

    (value,) = found(ledger.points(), "kernob.db.server.operation.duration").values()
    assert value["counts"].sum() == 4


def test_the_rows_of_ended_processes_stay_in_their_service(kernel: Kernel, ledger: Ledger) -> None:
    kernel.text(77, "GET")
    kernel.make(3)
    kernel.count(3, 7, 4)
    ledger.update(kernel.read())
    kernel.rows[3] = np.zeros((), kernel.rows.dtype)
    ledger.release(np.array([3], np.uint32))

    kernel.make(3, pid=11, start=2)
    kernel.count(3, 9, 2)
    ledger.update(kernel.read())

    values = found(ledger.points(), "kernob.db.server.operation.duration")
    counts = {dict(each)["service.name"]: value["counts"].sum() for each, value in values.items()}
    assert counts == {"service-10": 4, "service-11": 2}


def test_a_process_that_is_renamed_counts_elsewhere_from_then_on(
    kernel: Kernel,
) -> None:
    names = {10: "old"}
    operations = Operations(
        identify=lambda pid, start: process(pid, start, names[pid]),
        name_peer=lambda *_: "peer",
        host="node7",
        texts=True,
    )
    ledger = Ledger(operations, resource={"host.name": "node7"}, start=5)
    kernel.text(77, "GET")
    kernel.make(3)
    kernel.count(3, 7, 4)
    ledger.update(kernel.read())

    names[10] = "new"
    ledger.rename(process(10, 1, "new"))
    kernel.count(3, 7, 2)
    ledger.update(kernel.read())

    values = found(ledger.points(), "kernob.db.server.operation.duration")
    counts = {dict(each)["service.name"]: value["counts"].sum() for each, value in values.items()}
    assert counts == {"old": 4, "new": 2}


def test_answers_in_pieces_have_a_time_to_the_first_byte(kernel: Kernel, ledger: Ledger) -> None:
    kernel.text(77, "GET /x HTTP/1.1", HTTP)
    for number, kind in ((1, "whole"), (2, "pieces"), (3, "first_byte"), (4, "request_body")):
        kernel.make(number, protocol=HTTP, status=200, kind=KINDS[kind])
        kernel.count(number, 20, number)
    ledger.update(kernel.read())

    points = ledger.points()
    (duration,) = found(points, "http.server.request.duration").values()
    (first,) = found(points, "kernob.request.time_to_first_byte").values()
    (body,) = found(points, "http.server.request.body.size").values()
    assert duration["counts"].sum() == 3
    assert first["counts"].sum() == 3
    assert (body["counts"].sum(), body["offset"]) == (4, 19)


def test_one_way_requests_are_a_counter(kernel: Kernel, ledger: Ledger) -> None:
    kernel.text(77, "SET")
    kernel.make(3, kind=KINDS["one_way"])
    kernel.count(3, 0, 9, ns=1)
    ledger.update(kernel.read())

    (value,) = found(ledger.points(), "kernob.requests.one_way").values()
    assert value == 9


def test_what_found_no_row_is_told(kernel: Kernel, ledger: Ledger) -> None:
    kernel.count(0, 50, 3)
    ledger.update(kernel.read())

    ((attributes, value),) = found(ledger.points(), "kernob.requests.overflow").items()
    assert attributes == (("otel.metric.overflow", True),)
    assert value["counts"].sum() == 3


def test_all_buckets_are_those_of_the_object(kernel: Kernel) -> None:
    assert kernel.rows["buckets"].shape == (CAPACITY, BUCKETS)
