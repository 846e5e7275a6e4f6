"""Single requests, from real servers' sockets to an OTLP backend and to people's eyes."""

from __future__ import annotations

import contextlib
import http.client
import json
import time
from typing import TYPE_CHECKING, Any

import pytest
import redis

from agents import Running
from capture import Capture, capturing
from servers import debian_server, free_port, running, wait_until
from serving import Serving

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = [pytest.mark.live, pytest.mark.server]

MICROSECOND = 1000
NGINX = """
daemon off; worker_processes 1; pid {0}/pid; error_log {0}/errors; user root;
events {{ worker_connections 100; }}
http {{ access_log off; client_body_temp_path {0}/t; proxy_temp_path {0}/t; fastcgi_temp_path {0}/t;
  uwsgi_temp_path {0}/t; scgi_temp_path {0}/t; keepalive_requests 100000;
  server {{ listen 127.0.0.1:{1};
    location /items/ {{ return 200 "an item"; }}
    location /down {{ return 503; }} }} }}
"""


@contextlib.contextmanager
def agent(directory: Path, endpoint: str = "", **environ: object) -> Iterator[Running]:
    """An agent that sends to `endpoint`; `requests__texts` is KERNOB_REQUESTS_TEXTS."""
    variables = [f"KERNOB_{name.upper().replace('__', '_')}={value}" for name, value in
                 environ.items()]  # fmt: skip
    if endpoint:
        variables.append(f"OTEL_EXPORTER_OTLP_ENDPOINT={endpoint}")
    made = Running(directory, "--mode", "ebpf", prefix=("env", *variables))
    try:
        made.wait_until_it_answers()
        yield made
    finally:
        made.stop()


@pytest.fixture(scope="module")
def port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """A real Redis."""
    directory = tmp_path_factory.mktemp("redis")
    number = free_port()
    command = [debian_server("redis-server"), "--port", str(number), "--bind", "127.0.0.1"]
    for _ in running([*command, "--save", "", "--dir", str(directory)], number, directory / "log"):
        yield number


@pytest.fixture(scope="module")
def nginx(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """A real nginx."""
    path, number = tmp_path_factory.mktemp("nginx"), free_port()
    (path / "conf").write_text(NGINX.format(path, number))
    command = [debian_server("nginx"), "-e", str(path / "errors"), "-c", str(path / "conf")]
    for _ in running(command, number, path / "log"):
        yield number


@pytest.fixture(scope="module")
def sent(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Capture, Running]]:
    """What an agent sends that has room for many samples."""
    settings = {"requests__samples_per_second": 1000, "agent__interval": "0.2"}
    with (
        capturing() as capture,
        agent(tmp_path_factory.mktemp("agent"), capture.url, **settings) as made,
    ):
        yield capture, made


def client(port: int) -> redis.Redis:
    return redis.Redis(port=port, socket_timeout=10)


def fail(connection: redis.Redis) -> None:
    with contextlib.suppress(redis.ResponseError):
        connection.execute_command("INCR", "hash")


def weight(spans: list[Any]) -> int:
    return sum(span.attributes["kernob.sample.weight"] for span in spans)


def of(capture: Capture, port: int, side: str, name: str) -> list[Any]:
    """Returns one side's spans of a command."""
    return capture.spans(
        kernob_side=side, server_port=port, network_protocol_name="redis", db_operation_name=name
    )


def test_each_sample_is_found_once_and_its_times_are_the_clients(
    port: int, sent: tuple[Capture, Running]
) -> None:
    capture, running_agent = sent
    asked = []
    with client(port) as connection:
        connection.hset("hash", "field", "value")
        for _ in range(100):
            before = time.time_ns()
            fail(connection)
            asked.append((before, time.time_ns()))
    for side in ("client", "server"):
        wait_until(
            lambda side=side: len(of(capture, port, side, "INCR")) >= 100, f"the {side}'s", 30
        )
    shown = json.loads(running_agent.get("/api/requests"))

    for side in ("client", "server"):
        found = sorted(
            of(capture, port, side, "INCR"), key=lambda one: one.span.start_time_unix_nano
        )
        assert len(found) == 100
        assert len({one.span.span_id for one in found}) == 100
        assert len({one.span.trace_id for one in found}) == 100
        for one, (before, after) in zip(found, asked, strict=True):
            assert before - MICROSECOND <= one.span.start_time_unix_nano
            assert one.span.start_time_unix_nano < one.span.end_time_unix_nano
            assert one.span.end_time_unix_nano <= after + MICROSECOND
            assert one.name == "INCR"
            assert one.span.kind == {"server": 2, "client": 3}[side]
            assert one.span.status.code == 2
            assert one.has(
                {
                    "db.system.name": "redis",
                    "error.type": "WRONGTYPE",
                    "kernob.sample.weight": 1,
                    "kernob.sample.reason": "failed",
                    "network.peer.address": "127.0.0.1",
                }
            )
        if side == "server":
            assert found[0].resource["service.name"] == "redis-server"
            assert "service.instance.id" not in found[0].resource
        mine = [
            one
            for one in shown["requests"]
            if (one["side"], one["operation"]) == (side, "INCR")
            and one["attributes"]["server.port"] == port
        ]
        assert [(one["status"], one["weight"]) for one in mine] == [("WRONGTYPE", 1)] * 100
        assert [one["time"] for one in mine] == [one.span.start_time_unix_nano for one in found]


def test_weights_add_up_to_all_requests_and_errors_come_first_in_a_flood(
    port: int, sent: tuple[Capture, Running]
) -> None:
    capture, _ = sent
    with client(port) as connection:
        connection.sadd("set", "member")
        for number in range(3000):
            connection.get("none")
            if not number % 300:
                with contextlib.suppress(redis.ResponseError):
                    connection.execute_command("DECR", "set")
        # A second later each series has a sample of its own again, which stands for the rest.
        time.sleep(1.1)
        connection.get("none")
    for side in ("client", "server"):
        wait_until(
            lambda side=side: weight(of(capture, port, side, "GET")) >= 3001,
            lambda side=side: f"the {side}'s: {weight(of(capture, port, side, 'GET'))}",
            30,
        )
        gets = of(capture, port, side, "GET")
        assert weight(gets) == 3001
        assert len(gets) < 200
        assert {one.span.status.code for one in gets} == {0}
        assert len(of(capture, port, side, "DECR")) == 10


def test_http_from_both_sides(nginx: int, sent: tuple[Capture, Running]) -> None:
    capture, _ = sent
    connection = http.client.HTTPConnection("127.0.0.1", nginx, timeout=10)

    def get(path: str) -> None:
        connection.request("GET", path)
        connection.getresponse().read()

    for number in range(500):
        get(f"/items/{number}?token=secret")
    for _ in range(20):
        get("/down")
    get("/none")
    time.sleep(1.1)
    get("/items/1")
    connection.close()

    def spans(side: str, status: int) -> list[Any]:
        return capture.spans(kernob_side=side, server_port=nginx, http_response_status__code=status)

    for side, target in (("server", "http.route"), ("client", "url.template")):
        wait_until(
            lambda side=side: weight(spans(side, 200)) >= 501 and len(spans(side, 503)) >= 20,
            lambda side=side: f"the {side}'s: {weight(spans(side, 200))}",
            30,
        )
        good, bad, unknown = (spans(side, status) for status in (200, 503, 404))
        assert (weight(good), weight(bad), weight(unknown)) == (501, 20, 1)
        assert {one.name for one in good} == {"GET /items/{id}"}
        assert {one.attributes[target] for one in good} == {"/items/{id}"}
        assert {one.attributes["network.protocol.version"] for one in good} == {"1.1"}
        assert all(one.attributes["http.request.size"] > 50 for one in good)
        assert {(one.span.status.code, one.attributes["error.type"]) for one in bad} == {(2, "503")}
        # What a client should not have asked for is its error, not the server's.
        assert unknown[0].span.status.code == {"server": 0, "client": 2}[side]


def test_the_budget_holds_and_what_the_ring_drops_is_counted(port: int, tmp_path: Path) -> None:
    with (
        agent(tmp_path, requests__samples_per_second=10_000, agent__interval="2s") as running_agent,
        client(port) as connection,
    ):
        connection.hset("hash", "field", "value")
        for _ in range(3000):
            fail(connection)

        def dropped() -> int:
            answer = json.loads(running_agent.get("/api/requests"))
            return int(answer["dropped"]["ring"])

        wait_until(lambda: dropped() > 0, "samples to be dropped")
        lost = 'kernob_agent_samples_dropped_total{reason="ring",service_name="kernob-agent"} '
        wait_until(
            lambda: f"{lost}{dropped()}" in running_agent.get("/metrics").splitlines(),
            "the metric to say so",
        )

    with agent(tmp_path, requests__samples_per_second=4) as running_agent, client(port) as one:
        one.hset("hash", "field", "value")
        begin = time.monotonic()
        for _ in range(200):
            fail(one)
        windows = (time.monotonic() - begin) / 1.07 + 2
        time.sleep(2.2)
        shown = json.loads(running_agent.get("/api/requests"))["requests"]
        mine = [r for r in shown if (r["side"], r["attributes"]["server.port"]) == ("server", port)]
        assert 4 <= sum(r["reason"] == "failed" for r in mine) <= 4 * windows
        assert sum(r["reason"] != "failed" for r in mine) <= 2 * windows


def test_a_server_stores_them(port: int, tmp_path: Path) -> None:
    with Serving(tmp_path).running() as server:
        with agent(tmp_path, server.url, requests__samples_per_second=1000), client(port) as one:
            for _ in range(5):
                with contextlib.suppress(redis.ResponseError):
                    one.execute_command("SETRANGE", "key", "wrong", "value")
        # It has ended: what it had is sent.
        rows = server.rows(
            "SELECT SpanKind AS kind, StatusCode AS status, uniqExact(TraceId) AS traces,"
            " min(Duration) > 0 AS took FROM otel.otel_traces WHERE SpanName = 'SETRANGE'"
            f" AND SpanAttributes['server.port'] = '{port}' GROUP BY kind, status ORDER BY kind"
        )
    found = [(row["kind"], row["status"], int(row["traces"]), int(row["took"])) for row in rows]
    assert found == [("Client", "Error", 5, 1), ("Server", "Error", 5, 1)]
