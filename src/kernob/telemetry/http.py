"""The listener: `/metrics`, `/healthz` and what else the agent answers.

cheroot does the HTTP: a few threads, limits on what a client may send, TLS. It takes 0.6 MiB more
memory than the standard library's `http.server` where OTLP over HTTP is on, 2.1 MiB where it isn't
(most of both is `ssl` and `email`, which either imports), and brings what that lacks.

Who may ask: on loopback everybody on the host, elsewhere only who has the token or a certificate.
`/healthz` says nothing but `ok` and needs no token.
"""

from __future__ import annotations

import gzip
import logging
import os
import ssl
import threading
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import TYPE_CHECKING, Final
from urllib.parse import parse_qsl

from cheroot.makefile import MakeFile
from cheroot.server import Gateway, HTTPConnection, HTTPServer
from cheroot.workers.threadpool import ThreadPool

from kernob.access import Access, Tls, taken

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Mapping
    from pathlib import Path

THREADS: Final = 4
WAITING: Final = 32
"""Connections that wait for a thread (further ones get 503), and as many that are silent."""
TIMEOUT: Final = 5
"""Seconds for which a client may be silent."""
HEADER_SIZE: Final = 16 * 1024
"""Bytes of a request line and its headers."""
BODY_SIZE: Final = 1024
"""Bytes of a request's body, which nothing here reads."""
GZIP_FROM: Final = 1024
"""Bytes of an answer from which on it is compressed, if the client likes that."""

_TEXT: Final = "text/plain; charset=utf-8"

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Request:
    """What a client asks.

    Attributes:
        path: percent-decoded, without the query.
        query: the last value of each parameter.
        headers: by name in lower case.
    """

    path: str
    query: Mapping[str, str] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)

    def header(self, name: str) -> str:
        """Returns a header by its name in lower case; empty if there is none."""
        return self.headers.get(name, "")


@dataclass(frozen=True, slots=True)
class Response:
    """What it gets."""

    status: int
    content_type: str
    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict)


if TYPE_CHECKING:
    Handler = Callable[[Request], Response]


class Listener:
    """Answers GET and HEAD on one address, each path by its handler.

    Attributes:
        address: `host:port` as given; with the port really taken once started.
    """

    def __init__(
        self,
        address: str,
        routes: Mapping[str, Handler],
        *,
        token_file: Path | None = None,
        tls: Tls | None = None,
    ) -> None:
        """Makes a listener; the token is read here.

        Args:
            address: `host:port`, `[IPv6]:port`, `:port` for all addresses; port 0 for a free one.
            routes: a handler for each path; several threads call it.
            token_file: holds the bearer token that clients must send.
            tls: without it, plain HTTP.

        Raises:
            ListenError: the address is none, a file can't be used, or it is not on loopback and
                neither a token nor certificates of clients guard it.
        """
        self.address = address
        self._access = Access(address, token_file=token_file, tls=tls)
        self._routes = {"/healthz": _health, **routes}
        self._tls = _Tls(tls) if tls else None
        self._server: _Server | None = None
        self._thread: threading.Thread | None = None
        self._failed: set[str] = set()

    @property
    def url(self) -> str:
        """Where the routes are, without a slash at the end."""
        return f"{'https' if self._tls else 'http'}://{self.address}"

    def start(self) -> None:
        """Listens, and answers from now on.

        Raises:
            ListenError: the address is taken, or not this host's, or not allowed.
        """
        # cheroot would listen on what systemd left open instead, wherever that is.
        os.environ.pop("LISTEN_PID", None)
        server = _Server((self._access.ip, self._access.port), self._answer, self._tls)
        try:
            server.prepare()
        except OSError as error:
            raise taken(self.address, server.failure or str(error)) from error
        self._server = server
        self.address = f"{self._access.host}:{server.socket.getsockname()[1]}"
        self._thread = threading.Thread(target=server.serve, name="kernob-http", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stops listening; answers on their way are given up after a second."""
        if self._server and self._thread:
            self._server.stop()
            self._thread.join()
            self._server = None

    def _answer(self, request: Request, method: str) -> Response:
        if method not in {"GET", "HEAD"}:
            return _error(HTTPStatus.METHOD_NOT_ALLOWED, {"Allow": "GET, HEAD"})
        if request.path != "/healthz" and not self._access.allows(request.header("authorization")):
            return _error(HTTPStatus.UNAUTHORIZED, {"WWW-Authenticate": "Bearer"})
        handler = self._routes.get(request.path)
        if handler is None:
            return _error(HTTPStatus.NOT_FOUND)
        try:
            return handler(request)
        except Exception:  # noqa: BLE001
            if request.path not in self._failed:
                self._failed.add(request.path)
                _log.exception("%s failed (said once)", request.path)
            return _error(HTTPStatus.INTERNAL_SERVER_ERROR)


def _health(_: Request) -> Response:
    return Response(HTTPStatus.OK, _TEXT, b"ok\n")


def _error(status: HTTPStatus, headers: Mapping[str, str] | None = None) -> Response:
    return Response(status, _TEXT, f"{status.phrase}\n".encode(), headers or {})


class _Tls:
    """TLS for cheroot; the handshake is left to the thread that answers.

    cheroot's own adapter shakes hands in the thread that accepts: one silent client would keep
    all others waiting.
    """

    makefile = staticmethod(MakeFile)

    def __init__(self, tls: Tls) -> None:
        self._context = tls.context()

    def wrap(self, plain: socket.socket) -> tuple[ssl.SSLSocket, dict[str, str]]:
        """Returns the socket, not yet connected, and nothing about it."""
        return self._context.wrap_socket(plain, server_side=True, do_handshake_on_connect=False), {}


class _Connection(HTTPConnection):
    fresh = True
    """Nothing was read yet."""

    def communicate(self) -> bool:
        """Answers one request; returns whether the connection stays."""
        if isinstance(self.socket, ssl.SSLSocket) and not self.requests_seen:
            try:
                self.socket.do_handshake()
            except OSError as error:
                _log.debug("TLS with %s: %s", self.remote_addr, error)
                return False
        self.requests_seen += 1
        keep: bool = super().communicate()  # type: ignore[no-untyped-call]
        return keep


class _Server(HTTPServer):
    ConnectionClass = _Connection
    timeout = TIMEOUT
    shutdown_timeout = 1
    request_queue_size = WAITING
    keep_alive_conn_limit = WAITING
    max_request_header_size = HEADER_SIZE
    max_request_body_size = BODY_SIZE

    def __init__(
        self,
        address: tuple[str, int],
        answer: Callable[[Request, str], Response],
        tls: _Tls | None,
    ) -> None:
        super().__init__(address, _Gateway, server_name="kernob")
        self.answer = answer
        self.ssl_adapter = tls
        self.failure = ""
        self.requests = ThreadPool(
            self,
            min=THREADS,
            max=THREADS,
            accepted_queue_size=WAITING,
            accepted_queue_timeout=0,
        )

    def bind(self, family: int, type: int, proto: int = 0) -> None:  # noqa: A002
        """Binds. cheroot leaves the socket open where that fails, and says why at length."""
        sock = self.prepare_socket(self.bind_addr, family, type, proto, self.nodelay, None)
        try:
            sock.bind(self.bind_addr)
        except OSError as error:
            self.failure = error.strerror or str(error)
            sock.close()
            raise
        self.socket = sock

    def process_conn(self, conn: _Connection) -> None:
        """Gives a connection to a thread once it says something: silence costs none."""
        if conn.fresh and self.can_add_keepalive_connection:
            conn.fresh = False
            self.put_conn(conn)
        else:
            super().process_conn(conn)

    def error_log(self, msg: str = "", level: int = 20, traceback: bool = False) -> None:  # noqa: ARG002, FBT001, FBT002
        """Keeps what clients do wrong out of the log."""
        _log.debug("%s", msg, exc_info=traceback)


class _Gateway(Gateway):
    def respond(self) -> None:
        """Answers one request."""
        request = self.req
        headers = {
            name.decode("latin-1").lower(): value.decode("latin-1")
            for name, value in request.inheaders.items()
        }
        asked = Request(
            path=request.path.decode("utf-8", "replace"),
            query=dict(parse_qsl(request.qs.decode("latin-1"))),
            headers=headers,
        )
        method = request.method.decode("latin-1")
        response = request.server.answer(asked, method)
        body = response.body
        given = {"Content-Type": response.content_type, "Vary": "Accept, Accept-Encoding"}
        if len(body) >= GZIP_FROM and _likes_gzip(headers.get("accept-encoding", "")):
            body = gzip.compress(body, compresslevel=1)
            given["Content-Encoding"] = "gzip"
        given |= {"Content-Length": str(len(body)), **response.headers}
        if request.chunked_read:
            # Nobody reads that body: what follows would be taken for a request.
            request.close_connection = True
        request.status = f"{response.status} {HTTPStatus(response.status).phrase}".encode()
        request.outheaders = [
            (name.encode("latin-1"), value.encode("latin-1")) for name, value in given.items()
        ]
        request.ensure_headers_sent()
        if method != "HEAD":
            request.write(body)


def _likes_gzip(accept_encoding: str) -> bool:
    """Returns whether a client takes gzip (RFC 9110, section 12.5.3)."""
    for item in accept_encoding.lower().split(","):
        coding, _, q = item.partition(";")
        if coding.strip() in {"gzip", "x-gzip", "*"}:
            try:
                return float(q.strip().removeprefix("q=") or 1) > 0
            except ValueError:
                return False
    return False
