"""The server from start to stop: the store, what listens, and what is done every while."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import time
from typing import TYPE_CHECKING, Any, Final

import uvicorn
import uvloop

from kernob import web
from kernob.access import Access
from kernob.errors import KernobError
from kernob.identity import host
from kernob.server import itself, otlp, otlp_http
from kernob.server.api import make_app
from kernob.server.connection import CONNECTIONS, Connection
from kernob.server.ingest import Ingest
from kernob.server.otlp_grpc import GrpcServer
from kernob.store import retention
from kernob.store.engine import Signal
from kernob.store.store import Store

if TYPE_CHECKING:
    import ssl
    from collections.abc import Awaitable, Callable, Iterator

    from starlette.types import ASGIApp

    from kernob.config import Loaded

KEEP_ALIVE_SECONDS: Final = 75
"""Longer than a minute, so that who sends each minute keeps its connection."""
STOP_SECONDS: Final = 10
"""How long requests that are in may take once the server is told to stop."""
FIGURES_SECONDS: Final = 10
"""Between two times that the server stores its own figures."""
MAINTAIN_SECONDS: Final = 60
"""Between two looks at the store's size."""

log = logging.getLogger(__name__)


class Server:
    """Takes OTLP and answers the API until it is told to stop.

    Attributes:
        store: open from the start.
        ingest: while it serves.
        port, grpc_port: the ones really taken, while it serves; 0 for none.
    """

    ingest: Ingest

    def __init__(self, loaded: Loaded) -> None:
        """Takes the address of HTTP and opens the store.

        Raises:
            ListenError: an address can't be had, or must not be, or a token or certificate for it.
            StoreError: the store can't be opened.
        """
        settings = loaded.config.server
        guard: dict[str, Any] = {"token_file": settings.token_file, "tls": settings.tls}
        self._settings = settings
        self._access = Access(settings.listen, **guard)
        self._grpc_access = (
            None if settings.grpc_listen == "off" else Access(settings.grpc_listen, **guard)
        )
        self._tls = settings.tls.context() if settings.tls else None
        self._started = time.time_ns()
        self._resource = {**host.resource(os.environ), "service.name": itself.SERVICE}
        self._socket = self._access.bind()
        self.port = self._socket.getsockname()[1]
        self.grpc_port = 0
        try:
            # Who comes while the store is opened waits for it, instead of being turned away.
            self._access.listen(self._socket, CONNECTIONS)
            # Before there are threads: chDB has its own.
            self.store = Store.open(loaded.config.store)
        except BaseException:
            self._socket.close()
            raise

    def run(self) -> None:
        """Serves until SIGTERM or SIGINT, and closes.

        Raises:
            ListenError: the address of gRPC can't be had.
        """
        try:
            with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                runner.run(self._until_signalled())
        finally:
            self.close()

    def close(self) -> None:
        """Lets go of the store and the address."""
        self.store.close()
        self._socket.close()

    async def _until_signalled(self) -> None:
        stop = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, _stop, number, stop)
        await self.serve(stop)

    async def serve(self, stop: asyncio.Event) -> None:
        """Serves until `stop` is set; what was taken by then is stored and answered.

        Raises:
            ListenError: the address of gRPC can't be had.
        """
        self.ingest = Ingest(
            self.store, largest_body=self._settings.largest_body, waiting=self._settings.waiting
        )
        try:
            grpc = GrpcServer(self.ingest, self._grpc_access) if self._grpc_access else None
            http = _Http(self._app(), self._tls)
            serving = asyncio.create_task(http.serve([self._socket]))
            # Should HTTP end by itself, the server must not seem to run.
            serving.add_done_callback(lambda _: stop.set())
            scheme = "https" if self._tls else "http"
            where = self._access.host
            log.info("OTLP over HTTP and the API on %s://%s:%d", scheme, where, self.port)
            if grpc and self._grpc_access:
                await grpc.start()
                self.grpc_port = grpc.port
                log.info("OTLP over gRPC on %s:%d", self._grpc_access.host, grpc.port)
            chores = [
                asyncio.create_task(_every(FIGURES_SECONDS, self._publish)),
                asyncio.create_task(_every(MAINTAIN_SECONDS, self._maintain)),
            ]
            await stop.wait()
            http.should_exit = True
            for chore in chores:
                chore.cancel()
            await asyncio.wait(chores)
            if grpc:
                await grpc.stop(STOP_SECONDS)
            await serving
        finally:
            await self.ingest.close()

    def _app(self) -> ASGIApp:
        def figures() -> list[itself.Figure]:
            return itself.figures(self.ingest.figures, self.store.losses())

        app = make_app(self.store, self._access, figures, self._started, self.ingest.failure)
        app.router.routes[:0] = otlp_http.routes(self.ingest, self._access)
        return app

    async def _publish(self) -> None:
        """Stores the server's own figures, as if somebody sent them, and what was refused."""
        metrics = next(service for service in otlp.SERVICES if service.signal is Signal.METRICS)
        figures = itself.figures(self.ingest.figures, self.store.losses())
        body = itself.request(self._resource, figures, self._started).SerializeToString()
        with self.ingest.room(Signal.METRICS) as room:
            room.take(len(body))
            await self.ingest.take(metrics, room, body)
        await asyncio.to_thread(self.store.write_losses)

    async def _maintain(self) -> None:
        await asyncio.to_thread(retention.maintain, self.store)


async def _every(seconds: float, chore: Callable[[], Awaitable[None]]) -> None:
    """Does a chore again and again; one that fails is done again next time."""
    while True:
        await asyncio.sleep(seconds)
        try:
            await chore()
        except KernobError as error:
            log.warning("the server's upkeep: %s", error)
        except Exception:
            log.exception("the server's upkeep failed")


def _stop(number: int, stop: asyncio.Event) -> None:
    log.info("%s: stopping", signal.Signals(number).name)
    stop.set()


class _Http(uvicorn.Server):
    """uvicorn, which leaves signals to us."""

    def __init__(self, app: ASGIApp, tls: ssl.SSLContext | None) -> None:
        super().__init__(
            web.settings(
                app,
                tls,
                stopping=STOP_SECONDS,
                http=Connection,
                ws="none",
                lifespan="off",
                limit_concurrency=CONNECTIONS,
                timeout_keep_alive=KEEP_ALIVE_SECONDS,
            )
        )

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Does nothing."""
        yield
