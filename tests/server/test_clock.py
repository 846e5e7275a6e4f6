"""Clocks that are wrong: of a sender, and of the server, set while it runs.

The server's is set by libfaketime, which shows it to Python; chDB asks the kernel itself.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceResponse
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceResponse,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse

from server import records
from servers import wait_until
from serving import Serving

if TYPE_CHECKING:
    from collections.abc import Iterator

SECOND = 10**9
DAY = 86400 * SECOND
ANSWERS = {
    "logs": (ExportLogsServiceResponse, "rejected_log_records"),
    "traces": (ExportTraceServiceResponse, "rejected_spans"),
    "metrics": (ExportMetricsServiceResponse, "rejected_data_points"),
}


@pytest.fixture(scope="module")
def clock() -> Path:
    """The library that shows another time to a process."""
    found = sorted(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"))
    if not found:
        pytest.skip("libfaketime is missing: apt-get install faketime")
    return found[0]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, clock: Path) -> Iterator[Serving]:
    folder = tmp_path_factory.mktemp("clock")
    (folder / "time").write_text("+0\n")
    with Serving(
        folder,
        LD_PRELOAD=str(clock),
        FAKETIME_TIMESTAMP_FILE=str(folder / "time"),
        FAKETIME_NO_CACHE="1",
        # Only the time of day is set: what measures durations goes on.
        FAKETIME_DONT_FAKE_MONOTONIC="1",
    ).running() as server:
        yield server


@pytest.mark.server
@pytest.mark.parametrize("signal", records.PATHS)
def test_records_far_from_now_are_refused_alone_and_counted(server: Serving, signal: str) -> None:
    now = time.time_ns()
    times = {"good": now, "old": now - 3650 * DAY, "first": 1, "future": now + 30 * DAY}
    before = refused(server, signal)

    answers = {one: send(server, signal, f"{signal} {one}", at) for one, at in times.items()}

    assert answers == {"good": 0, "old": 1, "first": 1, "future": 1}
    assert found(server, signal, f"{signal} %") == {f"{signal} good"}
    assert refused(server, signal) - before == 3


@pytest.mark.server
def test_a_clock_that_is_set_stops_nothing(server: Serving) -> None:
    acknowledged = set()
    for step, fits in (("+0", True), ("+2d", True), ("+0", True), ("-2d", False), ("+0", True)):
        (server.folder / "time").write_text(f"{step}\n")
        for signal in records.PATHS:
            one = f"set {step} {signal} {len(acknowledged)}"
            # The sender's clock is right: two days ahead of one that is two days behind.
            lost = send(server, signal, one, time.time_ns())
            assert lost == (0 if fits else 1), server.log[-2000:]
            if fits:
                acknowledged.add(one)
        assert server.get("/api/traffic", **{"from": "now-15m"})["rows"] == []

    every = {one for signal in records.PATHS for one in found(server, signal, "set %")}
    assert every == acknowledged
    wait_until(server.ready, "the server to be ready")


def send(server: Serving, signal: str, one: str, at: int) -> int:
    """Returns how many records were refused, with a reason."""
    if signal == "metrics":
        body = records.metrics({one: 7}, start=at, at=at)
    else:
        body = {"logs": records.logs, "traces": records.traces}[signal]([one], at=at)
    answer = server.send(records.PATHS[signal], body)
    assert answer.status_code == 200
    kind, count = ANSWERS[signal]
    partial = kind.FromString(answer.content).partial_success
    rejected = int(getattr(partial, count))
    assert bool(partial.error_message) == bool(rejected)
    return rejected


def found(server: Serving, signal: str, like: str) -> set[str]:
    table, expression = records.IDS[signal]
    query = f"SELECT {expression} AS id FROM otel.{table} WHERE id LIKE '{like}'"
    return {row["id"] for row in server.rows(query)}


def refused(server: Serving, signal: str) -> float:
    return sum(
        figure["value"]
        for figure in server.get("/api/server")["figures"]
        if figure["metric"] == "kernob.server.lost"
        and figure["attributes"]["kernob.signal"] == signal
    )
