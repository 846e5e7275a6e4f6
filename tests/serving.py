"""A real `kernob server` in a process of its own, on free ports, with a store to throw away."""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx

from servers import free_port

if TYPE_CHECKING:
    from collections.abc import Iterator

START_SECONDS = 30.0
MOST_ROWS = 100_000
INTEGER = re.compile(r"U?Int64|Array\(U?Int64\)")


class Serving:
    """A server that can be killed and started again on the same store and ports.

    Attributes:
        folder: holds its store and its log.
        port, grpc_port: where it takes OTLP; the API is at `port`.
        url: of HTTP.
        process: while it runs.
    """

    def __init__(self, folder: Path, *, wrap: tuple[str, ...] = (), **environ: str) -> None:
        """Starts nothing yet.

        Args:
            folder: for its store and its log.
            wrap: command that runs it (`faketime ...`).
            environ: more of its environment.
        """
        self.folder = folder
        self.port, self.grpc_port = free_port(), free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.process: subprocess.Popen[bytes] | None = None
        self._command = [*wrap, sys.executable, "-m", "kernob", "server"]
        self._environ = os.environ | {
            "KERNOB_CONFIG": os.devnull,
            "KERNOB_SERVER_LISTEN": f"127.0.0.1:{self.port}",
            "KERNOB_SERVER_GRPC_LISTEN": f"127.0.0.1:{self.grpc_port}",
            "KERNOB_STORE_PATH": str(folder / "store"),
            **environ,
        }

    @property
    def log(self) -> str:
        """What it said so far."""
        return (self.folder / "server.log").read_text()

    def start(self) -> None:
        """Starts it and waits until it is ready."""
        with (self.folder / "server.log").open("ab") as out:
            self.process = subprocess.Popen(
                self._command, env=self._environ, stdout=out, stderr=out
            )
        end = time.monotonic() + START_SECONDS
        while not self.ready():
            assert self.process.poll() is None, self.log[-4000:]
            assert time.monotonic() < end, f"not ready in {START_SECONDS} s: {self.log[-4000:]}"
            time.sleep(0.02)

    def ready(self) -> bool:
        """Whether it takes requests."""
        try:
            return httpx.get(f"{self.url}/ready", timeout=5, trust_env=False).status_code == 200
        except httpx.TransportError:
            return False

    def kill(self) -> None:
        """Ends it with SIGKILL, as a crash would; none is no error."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None

    def stop(self) -> int:
        """Asks it to end and returns its exit code."""
        assert self.process is not None
        self.process.terminate()
        code = self.process.wait(30)
        self.process = None
        return code

    @contextlib.contextmanager
    def running(self) -> Iterator[Serving]:
        """Has it running until the caller is done."""
        try:
            self.start()
            yield self
        finally:
            self.kill()

    def resident(self) -> int:
        """Returns the bytes of memory that it holds."""
        assert self.process is not None
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(status.split("VmRSS:")[1].split()[0]) << 10

    def send(self, path: str, body: bytes, **headers: str) -> httpx.Response:
        """Returns the answer to an export request in protobuf."""
        return httpx.post(
            f"{self.url}{path}",
            content=body,
            headers={"Content-Type": "application/x-protobuf", **headers},
            timeout=30,
            trust_env=False,
        )

    def get(self, path: str, **parameters: str | int) -> Any:
        """Returns the JSON of a path of the API."""
        answer = httpx.get(f"{self.url}{path}", params=parameters, timeout=60, trust_env=False)
        assert answer.status_code == 200, f"{path}: {answer.status_code} {answer.text[:2000]}"
        return answer.json()

    def rows(self, query: str) -> list[dict[str, Any]]:
        """Returns the rows that a SELECT gives, by `POST /api/query`; whole numbers are int."""
        answer = httpx.post(
            f"{self.url}/api/query",
            json={"query": query, "limit": MOST_ROWS},
            timeout=60,
            trust_env=False,
        )
        assert answer.status_code == 200, f"{query}: {answer.status_code} {answer.text[:2000]}"
        found = answer.json()
        assert not found["truncated"]
        whole = [INTEGER.fullmatch(kind) is not None for kind in found["types"]]
        return [
            {
                name: _whole(value) if is_whole else value
                for name, is_whole, value in zip(found["columns"], whole, row, strict=True)
            }
            for row in found["rows"]
        ]

    def value(self, query: str) -> Any:
        """Returns the one value that a SELECT gives."""
        (row,) = self.rows(query)
        (value,) = row.values()
        return value


def _whole(value: Any) -> Any:
    """Returns numbers of 64 bits, which JSON holds as texts."""
    return [int(one) for one in value] if isinstance(value, list) else int(value)
