"""Real servers on free ports of loopback, and certificates for them."""

from __future__ import annotations

import shutil
import socket
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@dataclass(frozen=True)
class Certificates:
    """PEM files: a CA, a server's for 127.0.0.1, a client's; and a client's of another CA."""

    ca: Path
    server: Path
    server_key: Path
    client: Path
    client_key: Path
    stranger: Path
    stranger_key: Path


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port: int = taken.getsockname()[1]
        return port


def wait_until(
    true: Callable[[], object], what: str | Callable[[], str], seconds: float = 15.0
) -> None:
    end = time.monotonic() + seconds
    while not true():
        if time.monotonic() > end:
            pytest.fail(
                f"waited {seconds} s in vain for {what if isinstance(what, str) else what()}"
            )
        time.sleep(0.02)


def is_open(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def debian_server(name: str) -> str:
    path = shutil.which(name)
    if path is None:
        pytest.skip(f"{name} is missing: apt-get install {name}")
    return path


def running(command: list[str], port: int, log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Runs a server until the caller is done."""
    with log.open("ab") as out, subprocess.Popen(command, stdout=out, stderr=out) as process:
        try:
            wait_until(
                lambda: is_open(port) or process.poll() is not None, f"{command[0]} to listen"
            )
            assert process.poll() is None, log.read_text()[-2000:]
            yield process
        finally:
            process.kill()
