"""Certificates, and real servers on free ports of loopback."""

from __future__ import annotations

import os
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

COLLECTOR = Path(__file__).parents[2] / "tools" / "collector.sh"


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


@pytest.fixture(scope="session")
def collector_binary() -> str:
    found = subprocess.run([COLLECTOR, "--path"], capture_output=True, text=True, check=True)
    path = found.stdout.strip()
    if not os.access(path, os.X_OK):
        pytest.skip("the OpenTelemetry Collector is missing: tools/collector.sh builds it")
    return path


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


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    folder = tmp_path_factory.mktemp("certificates")

    def openssl(*arguments: object) -> None:
        command = ["openssl", *map(str, arguments)]
        subprocess.run(command, cwd=folder, check=True, capture_output=True)

    key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    for ca in ("ca", "other"):
        openssl("req", "-x509", *key, "-keyout", f"{ca}.key", "-out", f"{ca}.pem", "-subj",
                f"/CN={ca}", "-days", 2)  # fmt: skip
    for name, ca in (("server", "ca"), ("client", "ca"), ("stranger", "other")):
        extension = folder / f"{name}.ext"
        extension.write_text("subjectAltName=IP:127.0.0.1,DNS:localhost\n")
        openssl("req", *key, "-keyout", f"{name}.key", "-out", f"{name}.csr", "-subj",
                f"/CN={name}")  # fmt: skip
        openssl("x509", "-req", "-in", f"{name}.csr", "-CA", f"{ca}.pem", "-CAkey", f"{ca}.key",
                "-CAcreateserial", "-extfile", extension.name, "-out", f"{name}.pem",
                "-days", 2)  # fmt: skip
    return Certificates(
        folder / "ca.pem",
        folder / "server.pem",
        folder / "server.key",
        folder / "client.pem",
        folder / "client.key",
        folder / "stranger.pem",
        folder / "stranger.key",
    )


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
