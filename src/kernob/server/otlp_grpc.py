"""OTLP/gRPC: the `Export` methods of OTLP's four services.

OTLP specification 1.9.0, "OTLP/gRPC". Overload and a store that fails are UNAVAILABLE with a
`RetryInfo`; RESOURCE_EXHAUSTED, which comes without, is for what is too large.

Compression: gzip and deflate are gRPC's own affair. gRPC's core (1.85) has no zstd and no way to
add it: whoever sends `grpc-encoding: zstd` is told INTERNAL, "Error parsing 'grpc-encoding'
metadata", before anything of ours runs. Send gzip, or zstd over OTLP/HTTP.

Messages are read as streams of one, since only so a method sees who calls before the message is
in memory, and can bound how many are read at once.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any, Final

import grpc

from kernob.access import taken
from kernob.errors import KernobError, LateError, MalformedError, UnauthorizedError
from kernob.server import otlp

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from kernob.access import Access, Tls
    from kernob.server.ingest import Ingest

CONNECTIONS: Final = 1000
CALLS: Final = 64
"""At the same time on one connection."""
READERS: Final = 8
"""Messages that are read at the same time: gRPC keeps each whole before anybody sees its size."""
MESSAGE_SECONDS: Final = 10
"""How long a message may take to arrive once it is its turn."""
IDLE_SECONDS: Final = 300
"""After which a connection without calls is closed."""

_CODES: Final = {code.value[0]: code for code in grpc.StatusCode}


class GrpcServer:
    """Takes OTLP/gRPC on one address.

    Attributes:
        port: the one really taken.
    """

    def __init__(self, ingest: Ingest, access: Access) -> None:
        """Takes the address.

        Raises:
            ListenError: it can't be had, or a certificate can't be read.
        """
        self._ingest = ingest
        self._access = access
        self._readers = asyncio.Semaphore(READERS)
        self._server = grpc.aio.server(
            options=[
                ("grpc.max_receive_message_length", ingest.largest_body),
                ("grpc.max_concurrent_streams", CALLS),
                ("grpc.max_allowed_incoming_connections", CONNECTIONS),
                ("grpc.max_connection_idle_ms", IDLE_SECONDS * 1000),
                ("grpc.so_reuseport", 0),
            ]
        )
        for service in otlp.SERVICES:
            method = grpc.stream_unary_rpc_method_handler(self._method(service))
            handler = grpc.method_handlers_generic_handler(service.name, {"Export": method})
            self._server.add_generic_rpc_handlers((handler,))
        host = f"[{access.ip}]" if ":" in access.ip else access.ip
        address = f"{host}:{access.port}"
        try:
            if access.tls:
                self.port = self._server.add_secure_port(address, _credentials(access.tls))
            else:
                self.port = self._server.add_insecure_port(address)
        except RuntimeError as error:
            raise taken(
                f"{access.host}:{access.port}", "it is taken, or not this host's"
            ) from error

    async def start(self) -> None:
        """Takes requests from now on."""
        await self._server.start()

    async def stop(self, seconds: float) -> None:
        """Takes no more, and gives what is in that long."""
        await self._server.stop(seconds)

    def _method(self, service: otlp.Service) -> Callable[[Any, Any], Awaitable[bytes]]:
        async def export(_: object, context: Any) -> bytes:
            try:
                return await self._export(service, context)
            except KernobError as error:
                # What gRPC itself refused while it was read is answered already.
                with contextlib.suppress(grpc.aio.InternalError):
                    await _abort(context, error)
                return b""

        return export

    async def _export(self, service: otlp.Service, context: Any) -> bytes:
        with self._ingest.room(service.signal) as room:
            given = dict(context.invocation_metadata() or ()).get("authorization", "")
            if not self._access.allows(given):
                raise UnauthorizedError("a bearer token is wanted")
            async with self._readers:
                try:
                    async with asyncio.timeout(MESSAGE_SECONDS):
                        body = await context.read()
                except TimeoutError:
                    raise LateError(f"the message took longer than {MESSAGE_SECONDS} s") from None
            if body is grpc.aio.EOF:
                raise MalformedError("there is no message, or it can't be read")
            room.take(len(body))
            answer = service.answer(await self._ingest.take(service, room, body))
            encoded: bytes = answer.SerializeToString()
            return encoded


async def _abort(context: Any, error: KernobError) -> None:
    """Ends a call with its status, and what OTLP wants beside it."""
    status = otlp.status(error)
    details = (("grpc-status-details-bin", status.SerializeToString()),)
    await context.abort(_CODES[status.code], status.message, details)


def _credentials(tls: Tls) -> grpc.ServerCredentials:
    """Returns the certificates; `Tls.context` has found them good."""
    pair = (tls.key.read_bytes(), tls.certificate.read_bytes())
    ca = tls.client_ca.read_bytes() if tls.client_ca else None
    return grpc.ssl_server_credentials([pair], ca, require_client_auth=ca is not None)
