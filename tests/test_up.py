"""`kernob up` with its real parts, as a process of its own."""

from __future__ import annotations

import json
import os
import platform
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from servers import free_port, is_open, wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

KERNOB = str(Path(sys.executable).with_name("kernob"))
SECONDS = 30.0
RECEIVER = """
import socket, sys
server = socket.create_server(("127.0.0.1", 0))
print(server.getsockname()[1], flush=True)
connection, _ = server.accept()
left = int(sys.argv[1])
while left:
    left -= len(connection.recv(1 << 20))
print("got", flush=True)
sys.stdin.read()
"""


class Up:
    """`kernob up` on ports of its own, and its log."""

    def __init__(
        self, folder: Path, *options: str, prefix: tuple[str, ...] = (), **environ: str
    ) -> None:
        self.ports = {name: free_port() for name in ("prometheus", "server", "grpc", "pages")}
        own = {k: v for k, v in os.environ.items() if not k.startswith(("OTEL_", "KERNOB_"))}
        own |= {
            "RUNTIME_DIRECTORY": str(folder),
            "KERNOB_PROMETHEUS_LISTEN": f"127.0.0.1:{self.ports['prometheus']}",
            "KERNOB_SERVER_LISTEN": f"127.0.0.1:{self.ports['server']}",
            "KERNOB_SERVER_GRPC_LISTEN": f"127.0.0.1:{self.ports['grpc']}",
            "KERNOB_PAGES_LISTEN": f"127.0.0.1:{self.ports['pages']}",
            "KERNOB_STORE_PATH": str(folder / f"store-{self.ports['server']}"),
            "KERNOB_LOG_FORMAT": "json",
        }
        self._file = folder / f"up-{self.ports['pages']}.log"
        with self._file.open("ab") as log:
            self.process = subprocess.Popen(
                [*prefix, KERNOB, "up", *options], env=own | environ, stderr=log
            )

    @property
    def log(self) -> str:
        return self._file.read_text()

    def lines(self, part: str | None = None) -> list[str]:
        entries = [json.loads(line) for line in self.log.splitlines()]
        return [e["message"] for e in entries if part in (None, e.get("part"))]

    def until(self, text: str, part: str | None = None, count: int = 1) -> None:
        """Waits until the log has had `text` so often."""
        wait_until(
            lambda: sum(text in line for line in self.lines(part)) >= count,
            lambda: f"{text!r}: {self.log}",
            SECONDS,
        )

    def parts(self) -> dict[str, int]:
        """Returns the process id of each part that runs."""
        children = f"/proc/{self.process.pid}/task/{self.process.pid}/children"
        found = {}
        for pid in Path(children).read_text().split():
            command = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
            if b"kernob" in command:
                found[command[command.index(b"kernob") + 1].decode()] = int(pid)
        return found

    def until_ready(self) -> None:
        self.until("metrics on", "agent")
        self.until("OTLP over HTTP", "server")
        self.until("look at http", "pages")

    def exports(self) -> int:
        """Returns how many snapshots of the agent have arrived."""
        url = f"http://127.0.0.1:{self.ports['prometheus']}/metrics"
        try:
            with urllib.request.urlopen(url, timeout=5) as answer:
                text = answer.read().decode()
        except urllib.error.URLError:
            return 0
        [sent] = re.findall(r'kernob_agent_exports_total\{kernob_outcome="sent".*\} (\d+)', text)
        return int(sent)

    def stop(self) -> int:
        self.process.terminate()
        return self.process.wait(SECONDS)


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Up]]:
    started = []

    def make(*options: str, prefix: tuple[str, ...] = (), **environ: str) -> Up:
        started.append(Up(tmp_path, *options, prefix=prefix, **environ))
        return started[-1]

    yield make
    for up in started:
        if up.process.poll() is None:
            up.process.kill()
            up.process.wait(10)


@pytest.mark.live
@pytest.mark.timeout(120)
def test_each_part_that_is_killed_comes_back_and_the_rest_goes_on(start: Callable[..., Up]) -> None:
    up = start()
    up.until_ready()
    wait_until(lambda: up.exports() > 0, lambda: up.log, SECONDS)
    before = up.parts()

    for pid in before.values():
        os.kill(pid, signal.SIGKILL)
    up.until("metrics on", "agent", count=2)
    up.until("OTLP over HTTP", "server", count=2)
    wait_until(lambda: is_open(up.ports["pages"]), lambda: up.log, SECONDS)

    assert set(before) == set(up.parts()) == {"agent", "server", "pages"}
    assert not set(before.values()) & set(up.parts().values())
    for part in before:
        assert "killed by SIGKILL (out of memory?): starts again in 0.5 s" in up.lines(part)
    wait_until(lambda: up.exports() > 1, lambda: up.log, SECONDS)
    assert up.stop() == 0
    stopped = [line for line in up.lines() if line == "SIGTERM: stopping"]
    assert len(stopped) >= 3  # its own, the agent's, the server's


@pytest.mark.live
def test_killed_it_leaves_no_process_and_nothing_attached(start: Callable[..., Up]) -> None:
    def links() -> set[int]:
        found = json.loads(subprocess.check_output(["bpftool", "-j", "link"]))
        return {link["id"] for link in found}

    up = start()
    up.until_ready()
    parts = up.parts()
    files = Path(f"/proc/{parts['agent']}/fdinfo").iterdir()
    own = {int(n) for file in files for n in re.findall(r"link_id:\s*(\d+)", file.read_text())}
    assert len(own & links()) > 5

    up.process.kill()

    wait_until(
        lambda: not any(Path(f"/proc/{pid}/exe").exists() for pid in parts.values()), "their end"
    )
    # The kernel lets go of programs after a grace period.
    wait_until(lambda: not own & links(), "an empty kernel")


@pytest.mark.live
def test_what_was_moved_is_in_the_store_to_the_byte(start: Callable[..., Up]) -> None:
    up = start()
    up.until_ready()
    wait_until(lambda: up.exports() > 0, lambda: up.log, SECONDS)
    size = 7_654_321
    receiver = subprocess.Popen(
        [sys.executable, "-c", RECEIVER, str(size)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert receiver.stdout
    port = int(receiver.stdout.readline())
    with socket.create_connection(("127.0.0.1", port)) as sender:
        sender.sendall(bytes(size))
    assert receiver.stdout.readline() == "got\n"
    asked = f"by=peer&process={platform.node()}:{receiver.pid}&from=now-5m"
    url = f"http://127.0.0.1:{up.ports['server']}/api/traffic?{asked}"

    def received() -> list[int]:
        time.sleep(0.2)
        with urllib.request.urlopen(url, timeout=20) as answer:
            return [row["receive"] for row in json.load(answer)["rows"]]

    wait_until(lambda: received() == [size], lambda: f"{received()} {up.log}", SECONDS)
    receiver.communicate()
    assert up.stop() == 0


def test_with_an_agent_that_runs_already_the_pages_come_up(start: Callable[..., Up]) -> None:
    first = start("--mode", "polling")
    first.until("metrics on", "agent")

    second = start("--mode", "polling")
    second.until("look at http", "pages")

    second.until("is not started again: to see the figures of the agent", "agent")
    assert any("an agent already runs here" in line for line in second.lines("agent"))
    assert "server" in second.parts()
    assert second.stop() == 0
    assert first.stop() == 0


def test_a_taken_address_of_the_server_ends_it_and_says_what_moves_it(
    start: Callable[..., Up],
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        up = start("--mode", "polling", KERNOB_SERVER_LISTEN=address)

        assert up.process.wait(SECONDS) == 4

    assert any(f"can't listen on {address}" in line for line in up.lines("server"))
    assert "is not started again: server.listen and server.grpc_listen move it" in up.lines(
        "server"
    )
    assert "nothing works without the server: stopping" in up.lines()


def test_a_taken_address_of_the_pages_leaves_the_rest_at_work(start: Callable[..., Up]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        up = start("--mode", "polling", "--listen", f"127.0.0.1:{taken.getsockname()[1]}")

        up.until("is not started again: pages.listen moves it", "pages")
        wait_until(lambda: up.exports() > 0, lambda: up.log, SECONDS)

    assert not any("look at" in line for line in up.lines())
    assert up.stop() == 0


def test_a_mistake_in_the_configuration_is_one_line(start: Callable[..., Up]) -> None:
    up = start("--mode", "polling", KERNOB_AGENT_INTERVAL="soon")

    assert up.process.wait(SECONDS) == 2
    assert up.log.count("\n") == 1
    assert "KERNOB_AGENT_INTERVAL: agent.interval" in up.log


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to become an ordinary user")
def test_without_privileges_it_polls_and_says_so(start: Callable[..., Up], tmp_path: Path) -> None:
    # The user stays root, who can read the interpreter wherever it is; the privileges go.
    up = start(
        prefix=("setpriv", "--bounding-set=-all", "--inh-caps=-all", "--no-new-privs"),
        XDG_DATA_HOME=str(tmp_path),
    )
    up.until_ready()
    wait_until(lambda: up.exports() > 0, lambda: up.log, SECONDS)

    assert any("polling, not eBPF: no eBPF: " in line for line in up.lines("agent"))
    assert up.stop() == 0


def test_it_sends_where_the_configuration_says(start: Callable[..., Up]) -> None:
    endpoint = f"http://127.0.0.1:{free_port()}"
    up = start("--mode", "polling", OTEL_EXPORTER_OTLP_ENDPOINT=endpoint)

    up.until(f"sending to {endpoint}/v1/metrics every 15 s", "agent")
    assert up.stop() == 0


def test_the_agent_has_the_servers_token(start: Callable[..., Up], tmp_path: Path) -> None:
    (tmp_path / "token").write_text("a secret, with space")
    up = start("--mode", "polling", KERNOB_SERVER_TOKEN_FILE=str(tmp_path / "token"))

    wait_until(lambda: up.exports() > 0, lambda: up.log, SECONDS)

    assert up.stop() == 0
    assert "a secret" not in up.log


def test_it_stops_soon_while_its_parts_still_start(start: Callable[..., Up]) -> None:
    up = start("--mode", "polling")
    wait_until(lambda: len(up.parts()) == 3, "three processes")

    begin = time.monotonic()

    assert up.stop() == 0
    print("TOOK", time.monotonic() - begin)
    assert time.monotonic() - begin < 10
