"""A disk that is full: senders are asked to wait, nothing acknowledged is lost, and it goes on."""

from __future__ import annotations

import contextlib
import os
import random
import subprocess
from typing import TYPE_CHECKING

import httpx
import pytest

from collector import Collector
from server import records
from servers import wait_until
from serving import Serving

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

DISK = 96 << 20
LARGE = 2 << 20  # characters of a log record: more than old parts leave when they go


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A small file system."""
    if os.geteuid():
        pytest.skip("mounting a file system needs root")
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={DISK}", "tmpfs", folder]
    made = subprocess.run(command, capture_output=True, text=True, check=False)
    if made.returncode:
        pytest.skip(f"no file system can be mounted: {made.stderr}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)


@pytest.mark.server
@pytest.mark.timeout(120)
def test_a_full_disk_makes_senders_wait_and_nothing_is_lost(
    disk: Path, tmp_path: Path, collector_binary: str
) -> None:
    server = Serving(tmp_path, KERNOB_STORE_PATH=str(disk / "store"))
    retry = {"initial_interval": "200ms", "max_interval": "1s"}
    forward = {"otlp_http": {"endpoint": server.url, "retry_on_failure": retry}}
    collector = Collector(collector_binary, tmp_path, exporters=forward)
    with server.running(), collector.running():
        assert server.send("/v1/logs", large("before")).status_code == 200
        fill(disk / "ballast")

        for _ in range(3):
            answer = server.send("/v1/logs", large("never"))
            assert answer.status_code == 503
            assert int(answer.headers["Retry-After"]) > 0
        send_to(collector, large("waits"))
        assert ids(server) == {"before"}, "it still answers"

        (disk / "ballast").unlink()

        wait_until(lambda: server.send("/v1/logs", large("later")).status_code == 200, "room", 60)
        wait_until(lambda: "waits" in ids(server), "the Collector to send again", 60)
        assert ids(server) == {"before", "later", "waits"}
        server.kill()
        server.start()
        assert ids(server) == {"before", "later", "waits"}


def test_with_a_full_disk_the_server_is_not_ready_and_says_why(disk: Path, tmp_path: Path) -> None:
    server = Serving(tmp_path, KERNOB_STORE_PATH=str(disk / "store"))
    with server.running():
        fill(disk / "ballast")
        assert server.send("/v1/logs", large("never")).status_code == 503

        full = httpx.get(f"{server.url}/ready", trust_env=False)
        (disk / "ballast").unlink()
        wait_until(lambda: server.send("/v1/logs", large("later")).status_code == 200, "room", 30)

        assert full.status_code == 503
        assert full.headers["Content-Type"] == "application/problem+json"
        assert int(full.headers["Retry-After"]) > 0
        problem = full.json()
        assert (problem["status"], problem["title"]) == (503, "Service Unavailable")
        assert "can't be stored" in problem["detail"]
        assert "space" in problem["detail"]
        # Its own figures may have failed, too: they come every ten seconds.
        wait_until(server.ready, "the server to be ready", 15)


def fill(file: Path) -> None:
    with file.open("wb", buffering=0) as out, contextlib.suppress(OSError):
        while True:
            out.write(bytes(1 << 16))


def large(one: str) -> bytes:
    """A log record that does not compress."""
    return records.logs([one], body=random.randbytes(LARGE // 2).hex())


def send_to(collector: Collector, body: bytes) -> None:
    answer = httpx.post(
        f"http://127.0.0.1:{collector.ports['http/protobuf']}/v1/logs",
        content=body,
        headers={"Content-Type": "application/x-protobuf"},
        trust_env=False,
    )
    assert answer.status_code == 200


def ids(server: Serving) -> set[str]:
    return {
        row["id"] for row in server.rows("SELECT LogAttributes['id'] AS id FROM otel.otel_logs")
    }
