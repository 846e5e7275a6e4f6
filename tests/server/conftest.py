"""A server in this process: its real listeners in a thread, on a real store to throw away."""

from __future__ import annotations

import asyncio
import os
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

import httpx
import pytest
import uvloop

from kernob import config
from kernob.server.run import Server
from servers import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from kernob.store.engine import Signal


class Receiver:
    """Where tests send to, and what they then find.

    Attributes:
        server: the server.
        url: of HTTP.
        client: for HTTP.
        grpc: target of gRPC.
    """

    def __init__(self, folder: Path, **settings: str) -> None:
        environ = {
            "KERNOB_CONFIG": os.devnull,
            "KERNOB_SERVER_LISTEN": "127.0.0.1:0",
            "KERNOB_SERVER_GRPC_LISTEN": "127.0.0.1:0",
            "KERNOB_STORE_PATH": str(folder / "store"),
            **{f"KERNOB_SERVER_{name.upper()}": value for name, value in settings.items()},
        }
        self.server = Server(config.load(None, environ, {}))
        scheme = "https" if "certificate" in settings else "http"
        self.url = f"{scheme}://127.0.0.1:{self.server.port}"
        # It keeps all its connections: closing one in a thread, it may hit another's.
        limits = httpx.Limits(max_connections=100, max_keepalive_connections=None)
        self.client = httpx.Client(base_url=self.url, timeout=30, trust_env=False, limits=limits)
        self._loop = uvloop.new_event_loop()
        self._stop = asyncio.Event()
        self._thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        self._loop.run_until_complete(self.server.serve(self._stop))
        self._loop.run_until_complete(self._loop.shutdown_default_executor())
        self._loop.close()

    @property
    def grpc(self) -> str:
        return f"127.0.0.1:{self.server.grpc_port}"

    @contextmanager
    def running(self) -> Iterator[Receiver]:
        self._thread.start()
        try:
            wait_until(lambda: self.server.grpc_port or not self._thread.is_alive(), "the server")
            yield self
        finally:
            self.client.close()
            self.stop()
            self.server.close()

    def stop(self) -> None:
        """Ends all but the store; twice is once."""
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()

    def post(
        self, path: str, body: bytes, kind: str = "application/x-protobuf", **headers: str
    ) -> httpx.Response:
        given = {name.replace("_", "-"): value for name, value in headers.items()}
        return self.client.post(path, content=body, headers={"Content-Type": kind, **given})

    def rows(self, query: str) -> list[tuple[object, ...]]:
        table = self.server.store.reader().read(query)
        return list(zip(*(column.to_pylist() for column in table.columns), strict=True))

    def requests(self, signal: Signal, outcome: str) -> int:
        return self.server.ingest.figures.requests[signal, outcome]

    @contextmanager
    def blocked_store(self) -> Iterator[None]:
        """Has all that is written wait meanwhile."""
        writers = self.server.store.engine._writers
        taken = [writers.get() for _ in range(2)]
        try:
            yield
        finally:
            for connection in taken:
                writers.put(connection)


@pytest.fixture(scope="module")
def receiver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Receiver]:
    """One server for all tests of a file, without a guard."""
    with Receiver(tmp_path_factory.mktemp("receiver"), largest_body="1MiB").running() as running:
        yield running
