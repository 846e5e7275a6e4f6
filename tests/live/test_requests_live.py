"""`kernob requests` as people run it: beside an agent, in a pipe, with filters."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import threading
import time
from typing import TYPE_CHECKING, Any, Self

import pytest
import redis

from agents import KERNOB, Running
from servers import debian_server, free_port, running, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = [pytest.mark.live, pytest.mark.server]


@pytest.fixture(scope="module")
def port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    directory = tmp_path_factory.mktemp("redis")
    number = free_port()
    command = [debian_server("redis-server"), "--port", str(number), "--bind", "127.0.0.1"]
    for _ in running([*command, "--save", "", "--dir", str(directory)], number, directory / "log"):
        yield number


@pytest.fixture(scope="module")
def agent(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    made = Running(tmp_path_factory.mktemp("agent"), "--mode", "ebpf")
    try:
        made.wait_until_it_answers()
        yield made
    finally:
        made.stop()


class Shown:
    """The command, and the lines that it has written so far."""

    def __init__(self, agent_port: int, *options: str) -> None:
        self.process = subprocess.Popen(
            [KERNOB, "requests", *options],
            env=os.environ | {"KERNOB_PROMETHEUS_LISTEN": f"127.0.0.1:{agent_port}"},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.lines: list[str] = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.append(line.rstrip("\n"))

    def interrupt(self) -> tuple[int, str]:
        """Returns the exit code after Ctrl-C and what was said beside the lines."""
        self.process.send_signal(signal.SIGINT)
        return self.end()

    def end(self) -> tuple[int, str]:
        """Returns its exit code, once it ends by itself, and what was said beside the lines."""
        assert self.process.stderr is not None
        said = self.process.stderr.read()
        self._reader.join(5)
        return self.process.wait(5), said

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self._reader.join(5)
        self.process.__exit__(None, None, None)


def traffic(port: int) -> None:
    with redis.Redis(port=port) as client:
        client.set("secret-key", "secret-value")
        with contextlib.suppress(redis.ResponseError):
            client.execute_command("INCRBYFLOAT", "secret-key", "1.5")
        client.blpop("none", timeout=1)


def test_what_happens_shows_up_in_a_pipe_until_ctrl_c(agent: Running, port: int) -> None:
    with Shown(agent.port) as shown:
        wait_until(lambda: shown.lines, "the head")
        traffic(port)
        wait_until(lambda: any("BLPOP" in line for line in shown.lines), "the last request")
        code, said = shown.interrupt()

    assert (code, said) == (0, "")
    titles = "time service side peer protocol operation status duration first weight reason"
    assert shown.lines[0].split() == titles.split()
    (incr,) = [
        line.split() for line in shown.lines if " INCRBYFLOAT " in line and " server " in line
    ]
    assert incr[1:3] == ["redis-server", "server"]
    assert incr[4:7] == ["redis", "INCRBYFLOAT", "ERR"]
    assert incr[-2:] == ["1", "failed"]
    assert "secret" not in "\n".join(shown.lines)


FILTERS = {
    ("--errors", "--service", "redis"): {"INCRBYFLOAT"},
    ("--slower", "500ms", "--protocol", "redis"): {"BLPOP"},
    ("--operation", "set", "--protocol", "redis"): {"SET"},
}


def test_filters(agent: Running, port: int) -> None:
    def found(shown: Shown) -> list[dict[str, Any]]:
        # There may be more than one Redis on this machine.
        rows = map(json.loads, shown.lines)
        mine = [row for row in rows if row["attributes"]["server.port"] == port]
        return [row for row in mine if row["time"] > began]

    with contextlib.ExitStack() as stack:
        commands = {
            options: stack.enter_context(Shown(agent.port, "--json", *options))
            for options in FILTERS
        }
        began = time.time_ns()
        traffic(port)
        for options, shown in commands.items():
            wait_until(
                lambda shown=shown, options=options: FILTERS[options]
                <= {row["operation"] for row in found(shown)},
                lambda shown=shown: str(shown.lines),
            )
        time.sleep(1.2)
        assert [shown.interrupt() for shown in commands.values()] == [(0, "")] * 3

    for options, shown in commands.items():
        rows = found(shown)
        # redis-py introduces itself in words that an older server does not know.
        assert {row["operation"] for row in rows} - {"CLIENT"} == FILTERS[options]
        assert len({row["number"] for row in rows}) == len(rows)


def test_without_an_agent_it_counts_itself(port: int) -> None:
    with Shown(free_port(), "--json", "--protocol", "redis") as shown:
        time.sleep(2)

        def arrived() -> bool:
            traffic(port)
            return any(json.loads(line)["operation"] == "SET" for line in shown.lines)

        wait_until(arrived, "a request")
        assert shown.interrupt() == (0, "")


def test_when_the_agent_is_away_it_says_so_once_and_goes_on(tmp_path: Path) -> None:
    agent = Running(tmp_path, "--mode", "ebpf")
    agent.wait_until_it_answers()
    with Shown(agent.port) as shown:
        wait_until(lambda: shown.lines, "the head")
        agent.stop()
        time.sleep(2.5)
        code, said = shown.interrupt()

    assert code == 0
    assert said.count("no agent answers") == 1
    assert said.count("\n") == 1


def test_where_no_requests_are_seen_it_says_why(tmp_path: Path) -> None:
    agent = Running(tmp_path, "--mode", "polling")
    try:
        agent.wait_until_it_answers()
        with Shown(agent.port) as shown:
            code, said = shown.end()
    finally:
        agent.stop()

    assert code == 2
    assert "no requests are seen here: polling sees no requests" in said


def test_top_shows_rates_and_percentiles_of_the_interval(agent: Running, port: int) -> None:
    command = [KERNOB, "top", "--requests", "--once", "--json", "--interval", "2"]
    environ = os.environ | {"KERNOB_PROMETHEUS_LISTEN": f"127.0.0.1:{agent.port}"}
    with (
        redis.Redis(port=port) as client,
        subprocess.Popen(command, env=environ, stdout=subprocess.PIPE, text=True) as top,
    ):
        sent = 0
        while top.poll() is None:
            client.strlen("none")
            sent += 1
            time.sleep(0.002)
        assert top.stdout is not None
        answer = json.loads(top.stdout.read())

    (row,) = [
        row
        for row in answer["rows"]
        if (row["service"], row["side"], row["operation"]) == ("redis-server", "server", "STRLEN")
    ]
    assert 0 < row["requests"] <= sent
    assert row["request_rate"] == pytest.approx(row["requests"] / answer["interval"])
    assert row["error_rate"] == 0
    assert 0 < row["p50"] <= row["p95"] <= row["p99"] < 1
