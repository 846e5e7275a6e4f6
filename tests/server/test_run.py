"""The server from start to stop: a real process, and a server in this one."""

from __future__ import annotations

import os
import signal
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import grpc
import httpx
import pytest
from google.rpc import status_pb2

from clickhouse_http import clickhouse
from kernob import config
from kernob.errors import ListenError, StoreBusyError
from kernob.queries import refused
from kernob.server import ingest, run
from server import records
from server.conftest import Receiver
from servers import wait_until
from serving import Serving

if TYPE_CHECKING:
    from pathlib import Path

LOGS = "/opentelemetry.proto.collector.logs.v1.LogsService/Export"


def test_what_was_taken_is_stored_and_answered_when_it_is_told_to_stop(tmp_path: Path) -> None:
    server = Serving(tmp_path)
    statuses: dict[str, int] = {}
    stopping = threading.Event()

    def send(sender: int) -> None:
        with httpx.Client(base_url=server.url, timeout=30, trust_env=False) as client:
            for number in range(10_000):
                one = f"{sender}-{number}"
                try:
                    answer = client.post(
                        "/v1/logs",
                        content=records.logs([one]),
                        headers={"Content-Type": "application/x-protobuf"},
                    )
                except httpx.TransportError:
                    assert stopping.is_set()
                    return
                statuses[one] = answer.status_code

    with server.running(), ThreadPoolExecutor(4) as senders:
        sending = [senders.submit(send, sender) for sender in range(4)]
        wait_until(lambda: len(statuses) > 8, "some answers")
        stopping.set()
        begin = time.monotonic()
        assert server.stop() == 0
        assert time.monotonic() - begin < run.STOP_SECONDS
        for sender in sending:
            sender.result()
        log = server.log
        server.start()
        rows = server.rows("SELECT LogAttributes['id'] AS id FROM otel.otel_logs")
    found = {row["id"] for row in rows}

    assert set(statuses.values()) == {200}
    assert found >= set(statuses)
    assert len(found - set(statuses)) <= 4, "stored, and the answer was not waited for"
    assert f"OTLP over HTTP and the API on http://127.0.0.1:{server.port}" in log
    assert f"OTLP over gRPC on 127.0.0.1:{server.grpc_port}" in log
    assert "SIGTERM: stopping" in log
    assert "Traceback" not in log
    assert "error" not in log


def test_an_idle_server_stops_at_once_whoever_is_connected(tmp_path: Path) -> None:
    server = Serving(tmp_path)
    with (
        server.running(),
        httpx.Client(base_url=server.url, trust_env=False) as client,
        grpc.insecure_channel(f"127.0.0.1:{server.grpc_port}") as channel,
    ):
        assert client.get("/health").status_code == 200
        assert channel.unary_unary(LOGS)(b"", timeout=10) == b""
        assert server.process is not None
        server.process.send_signal(signal.SIGINT)

        assert server.process.wait(5) == 0


@pytest.mark.parametrize("door", ["LISTEN", "GRPC_LISTEN"])
def test_an_address_that_is_taken_is_said(door: str, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        environ = {
            "KERNOB_CONFIG": os.devnull,
            "KERNOB_SERVER_LISTEN": "127.0.0.1:0",
            "KERNOB_SERVER_GRPC_LISTEN": "127.0.0.1:0",
            "KERNOB_STORE_PATH": str(tmp_path / "store"),
            f"KERNOB_SERVER_{door}": address,
        }

        with pytest.raises(ListenError, match=f"can't listen on {address}.*set another address"):
            run.Server(config.load(None, environ, {})).run()


def test_a_store_that_is_held_is_said_and_the_address_let_go(tmp_path: Path) -> None:
    server = Serving(tmp_path)
    with server.running():
        environ = {"KERNOB_CONFIG": os.devnull, "KERNOB_SERVER_LISTEN": "127.0.0.1:0"}
        environ["KERNOB_STORE_PATH"] = str(tmp_path / "store")

        with pytest.raises(StoreBusyError):
            run.Server(config.load(None, environ, {}))


def test_its_own_figures_are_in_its_store_and_its_api(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run, "FIGURES_SECONDS", 0.2)
    with Receiver(tmp_path).running() as receiver:
        receiver.post("/v1/logs", records.logs(["a", "b"]))
        receiver.post("/v1/logs", records.logs(["old"], at=1))
        receiver.post("/v1/logs", b"\xff")

        query = (
            "SELECT MetricName, Attributes['kernob.signal'], Attributes['kernob.outcome'],"
            " Attributes['kernob.reason'], max(Value) FROM otel.otel_metrics_sum"
            " WHERE ServiceName = 'kernob-server' AND ResourceAttributes['host.name'] != ''"
            " GROUP BY ALL"
        )
        expected = {
            ("kernob.server.records", "logs", "", "", 2.0),
            ("kernob.server.requests", "logs", "stored", "", 2.0),
            ("kernob.server.requests", "logs", "malformed", "", 1.0),
            ("kernob.server.lost", "logs", "", "time", 1.0),
        }
        wait_until(lambda: expected <= set(receiver.rows(query)), "its figures")
        gauges = dict(
            receiver.rows(
                "SELECT MetricName, max(Value) FROM otel.otel_metrics_gauge"
                " WHERE ServiceName = 'kernob-server' GROUP BY MetricName"
            )
        )
        api = receiver.client.get("/api/server").text
        agents = receiver.client.get("/api/agents").json()

        assert gauges["kernob.server.memory.usage"] > 10 << 20
        assert "kernob.server.waiting" in gauges
        assert "kernob.server.records" in api
        assert agents["refused"]["since"] is None
        assert ("logs", "it is not OTLP", 1) in refused_requests(agents)


def test_refused_requests_are_those_in_memory_if_it_can_not_store_its_own_figures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run, "FIGURES_SECONDS", 3600)
    monkeypatch.setattr(refused, "STALE", 0)
    with Receiver(tmp_path).running() as receiver:
        receiver.post("/v1/traces", b"\xff")
        receiver.post("/v1/logs", b"", kind="text/plain")
        agents = receiver.client.get("/api/agents").json()

    assert agents["refused"]["since"] == receiver.server._started // 10**6
    assert refused_requests(agents) == [
        ("traces", "it is not OTLP", 1),
        ("logs", "its type or encoding is not known", 1),
    ]


def refused_requests(agents: Any) -> list[tuple[str, str, int | None]]:
    return [(row["signal"], row["reason"], row["requests"]) for row in agents["refused"]["rows"]]


def test_it_is_not_ready_while_a_write_fails_nor_for_ever_after_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Receiver(tmp_path).running() as receiver:
        before = receiver.client.get("/ready")
        engine = receiver.server.store.engine
        engine.command("RENAME TABLE otel.otel_logs TO otel.away")
        receiver.post("/v1/logs", records.logs(["a"]))
        failing = receiver.client.get("/ready")
        health = receiver.client.get("/health")
        # Nobody may try again, since it is not ready.
        monkeypatch.setattr(ingest, "FAILURE_SECONDS", 0)
        forgotten = receiver.client.get("/ready")
        monkeypatch.undo()
        engine.command("RENAME TABLE otel.away TO otel.otel_logs")
        receiver.post("/v1/logs", records.logs(["a"]))
        mended = receiver.client.get("/ready")

    answers = (before, failing, health, forgotten, mended)
    assert [answer.status_code for answer in answers] == [200, 503, 200, 200, 200]
    assert failing.headers["Content-Type"] == "application/problem+json"
    assert "logs can't be stored" in failing.json()["detail"]


def test_it_is_not_ready_once_its_clickhouse_is_gone(tmp_path: Path) -> None:
    with ExitStack() as there:
        url = there.enter_context(clickhouse(tmp_path))
        with Serving(tmp_path, KERNOB_STORE_URL=url).running() as server:
            there.close()
            gone = httpx.get(f"{server.url}/ready", trust_env=False, timeout=10)

    assert gone.status_code == 503
    assert gone.headers["Content-Type"] == "application/problem+json"
    problem = gone.json()
    assert problem["detail"].startswith(f"ClickHouse at {url.removeprefix('http://')}: ")
    assert problem["remedy"] == "look at store.url"


def test_upkeep_that_fails_is_done_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(run, "FIGURES_SECONDS", 0.05)
    with Receiver(tmp_path).running() as receiver:
        engine = receiver.server.store.engine
        engine.command("RENAME TABLE otel.kernob_refused TO otel.away")
        receiver.post("/v1/logs", records.logs(["old"], at=1))
        wait_until(lambda: "upkeep" in caplog.text, "a failure")
        engine.command("RENAME TABLE otel.away TO otel.kernob_refused")

        wait_until(
            lambda: receiver.rows("SELECT Records FROM otel.kernob_refused") == [(1,)], "the next"
        )


def test_a_store_that_lags_makes_senders_wait_and_loses_nothing(tmp_path: Path) -> None:
    size = 100_000
    with Receiver(tmp_path, waiting="1MiB").running() as receiver:

        def send(number: int) -> httpx.Response:
            return receiver.post("/v1/logs", records.logs([str(number)], body="x" * size))

        with ThreadPoolExecutor(20) as senders:
            with receiver.blocked_store():
                answers = [senders.submit(send, number) for number in range(20)]
                wait_until(lambda: sum(a.done() for a in answers) == 10, "refusals")
                waiting = receiver.server.ingest.figures.waiting_bytes
                with grpc.insecure_channel(receiver.grpc) as channel:
                    call = channel.unary_unary(LOGS)
                    with pytest.raises(grpc.RpcError) as raised:
                        call(records.logs(["x"], body="x" * size), timeout=10)
            results = [answer.result() for answer in answers]

        refused = [answer for answer in results if answer.status_code != 200]
        assert 10 * size < waiting <= 1 << 20
        assert raised.value.code() is grpc.StatusCode.UNAVAILABLE
        assert [answer.status_code for answer in refused] == [503] * 10
        assert all(int(answer.headers["Retry-After"]) > 0 for answer in refused)
        assert "wait already" in status_pb2.Status.FromString(refused[0].content).message
        taken = {(str(n),) for n, answer in enumerate(results) if answer.status_code == 200}
        assert set(receiver.rows("SELECT LogAttributes['id'] FROM otel.otel_logs")) == taken
        assert receiver.post("/v1/logs", records.logs(["later"])).status_code == 200
        assert receiver.server.ingest.figures.waiting_bytes == 0


def test_a_store_that_fails_is_told_as_503(tmp_path: Path) -> None:
    with Receiver(tmp_path).running() as receiver:
        engine = receiver.server.store.engine
        engine.command("RENAME TABLE otel.otel_logs TO otel.away")
        failed = receiver.post("/v1/logs", records.logs(["a"]))
        engine.command("RENAME TABLE otel.away TO otel.otel_logs")
        stored = receiver.post("/v1/logs", records.logs(["a"]))

        assert (failed.status_code, int(failed.headers["Retry-After"]) > 0) == (503, True)
        assert (stored.status_code, stored.content) == (200, b"")
        assert receiver.rows("SELECT count() FROM otel.otel_logs") == [(1,)]
