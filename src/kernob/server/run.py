"""The server from start to stop: the store, what listens, and what is done every while."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import time
from typing import TYPE_CHECKING, Any, Final

import uvicorn
import uvloop
from starlette.applications import Starlette

from kernob.access import Access
from kernob.server import otlp_http
from kernob.server.connection import CONNECTIONS, Connection
from kernob.server.ingest import Ingest
from kernob.store.store import Store

if TYPE_CHECKING:
    import ssl
    from collections.abc import Iterator

    from kernob.config import Loaded

KEEP_ALIVE_SECONDS: Final = 75
"""Longer than a minute, so that who sends each minute keeps its connection."""
STOP_SECONDS: Final = 10
"""How long requests that are in may take once the server is told to stop."""

log = logging.getLogger(__name__)


class Server:
    """Takes OTLP and answers the API until it is told to stop."""

    def __init__(self, loaded: Loaded) -> None:
        """Takes its addresses and opens the store.

        Raises:
            ListenError: an address can't be had, or must not be, or a token or certificate for it.
            StoreError: the store can't be opened.
        """
        settings = loaded.config.server
        self._settings = settings
        self._access = Access(settings.listen, token_file=settings.token_file, tls=settings.tls)
        self._tls = settings.tls.context() if settings.tls else None
        self._socket = self._access.bind()
        try:
            self._store = Store.open(loaded.config.store)
        except BaseException:
            self._socket.close()
            raise
        self._started = time.time_ns()

    def run(self) -> None:
        """Serves until SIGTERM or SIGINT; what was taken by then is stored and answered."""
        try:
            with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                runner.run(self._serve())
        finally:
            self._store.close()

    async def _serve(self) -> None:
        stop = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, _stop, number, stop)
        ingest = Ingest(
            self._store, largest_body=self._settings.largest_body, waiting=self._settings.waiting
        )
        http = _Http(self._app(ingest), self._tls)
        serving = asyncio.create_task(http.serve([self._socket]))
        port = self._socket.getsockname()[1]
        scheme = "https" if self._tls else "http"
        log.info("OTLP over HTTP and the API on %s://%s:%d", scheme, self._access.host, port)
        await stop.wait()
        http.should_exit = True
        await serving
        await ingest.close()

    def _app(self, ingest: Ingest) -> Any:
        app = Starlette()
        app.router.routes[:0] = otlp_http.routes(ingest, self._access)
        return app


def _stop(number: int, stop: asyncio.Event) -> None:
    log.info("%s: stopping", signal.Signals(number).name)
    stop.set()


class _Http(uvicorn.Server):
    """uvicorn, which leaves signals to us."""

    def __init__(self, app: Any, tls: ssl.SSLContext | None) -> None:
        # What clients do wrong is theirs to know: uvicorn would log each.
        logging.getLogger("uvicorn.error").setLevel(logging.ERROR)
        super().__init__(
            uvicorn.Config(
                app,
                http=Connection,
                ws="none",
                lifespan="off",
                log_config=None,
                access_log=False,
                server_header=False,
                proxy_headers=False,
                limit_concurrency=CONNECTIONS,
                timeout_keep_alive=KEEP_ALIVE_SECONDS,
                timeout_graceful_shutdown=STOP_SECONDS,
                ssl_context_factory=(lambda *_: tls) if tls else None,
            )
        )

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Does nothing."""
        yield
