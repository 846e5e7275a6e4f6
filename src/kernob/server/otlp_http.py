"""OTLP/HTTP: four paths that take requests in protobuf and in JSON.

OTLP specification 1.9.0, "OTLP/HTTP". The answer is in the request's own type; an error is a
`google.rpc.Status`. Overload and a store that fails are 503 with `Retry-After`, not 429: the
specification has senders treat both alike, and some SDKs give up at any 4xx.
"""

from __future__ import annotations

import asyncio
import logging
from http import HTTPStatus
from typing import TYPE_CHECKING, Final

from google.rpc import code_pb2, status_pb2
from starlette.routing import Route

from kernob.errors import KernobError, LateError, UnauthorizedError, UnsupportedError
from kernob.server import otlp, otlp_json

if TYPE_CHECKING:
    from google.protobuf.message import Message
    from starlette.types import Receive, Scope, Send

    from kernob.access import Access
    from kernob.server.ingest import Ingest, Room
    from kernob.store.engine import Refused

BODY_SECONDS: Final = 30
"""How long a body may take to arrive."""

_PROTOBUF: Final = "application/x-protobuf"
_JSON: Final = "application/json"
_STATUS: Final = {
    code_pb2.INVALID_ARGUMENT: HTTPStatus.BAD_REQUEST,
    code_pb2.UNAUTHENTICATED: HTTPStatus.UNAUTHORIZED,
    code_pb2.DEADLINE_EXCEEDED: HTTPStatus.REQUEST_TIMEOUT,
    code_pb2.RESOURCE_EXHAUSTED: HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    code_pb2.UNIMPLEMENTED: HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
    code_pb2.UNAVAILABLE: HTTPStatus.SERVICE_UNAVAILABLE,
    code_pb2.INTERNAL: HTTPStatus.INTERNAL_SERVER_ERROR,
}

log = logging.getLogger(__name__)

PATHS: Final = frozenset(service.path for service in otlp.SERVICES)


def routes(ingest: Ingest, access: Access) -> list[Route]:
    """Returns OTLP's paths, for Starlette's (FastAPI's) router."""
    return [
        Route(service.path, _Export(service, ingest, access), include_in_schema=False)
        for service in otlp.SERVICES
    ]


class _Export:
    """Answers one path, as an ASGI application."""

    def __init__(self, service: otlp.Service, ingest: Ingest, access: Access) -> None:
        self._service = service
        self._ingest = ingest
        self._access = access

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers one request."""
        headers = {name: value.decode("latin-1") for name, value in scope["headers"]}
        kind = headers.get(b"content-type", "").partition(";")[0].strip().lower()
        # An error about another type is for a person to read.
        answer_in = _PROTOBUF if kind == _PROTOBUF else _JSON
        if scope["method"] != "POST":
            error = status_pb2.Status(
                code=code_pb2.UNIMPLEMENTED, message="only POST is taken here"
            )
            await _send(send, HTTPStatus.METHOD_NOT_ALLOWED, answer_in, error, {"allow": "POST"})
            return
        try:
            refused = await self._export(headers, kind, receive)
        except KernobError as failure:
            log.debug("%s: %s", self._service.path, failure)
            error = otlp.status(failure)
            more = {}
            if error.code == code_pb2.UNAVAILABLE:
                more["retry-after"] = str(otlp.retry_seconds(failure))
            elif error.code == code_pb2.UNAUTHENTICATED:
                more["www-authenticate"] = "Bearer"
            await _send(send, _STATUS[error.code], answer_in, error, more)
            return
        await _send(send, HTTPStatus.OK, answer_in, self._service.answer(refused), {})

    async def _export(self, headers: dict[bytes, str], kind: str, receive: Receive) -> Refused:
        with self._ingest.room(self._service.signal) as room:
            if not self._access.allows(headers.get(b"authorization", "")):
                raise UnauthorizedError("a bearer token is wanted")
            if kind not in (_PROTOBUF, _JSON):
                raise UnsupportedError(
                    f"the type is {kind!r}", remedy=f"send {_PROTOBUF} or {_JSON}"
                )
            encoding = headers.get(b"content-encoding", "").strip().lower()
            if encoding not in otlp.ENCODINGS:
                raise UnsupportedError(
                    f"the encoding is {encoding!r}", remedy="send gzip, zstd, deflate or none"
                )
            length = headers.get(b"content-length", "")
            if length.isdigit() and int(length) > self._ingest.largest_body:
                raise otlp.too_large(self._ingest.largest_body)
            body = await self._read(receive, room)
            return await self._ingest.take(
                self._service, room, body, encoding=encoding, json=kind == _JSON
            )

    async def _read(self, receive: Receive, room: Room) -> bytes:
        parts: list[bytes] = []
        try:
            async with asyncio.timeout(BODY_SECONDS):
                while True:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        raise LateError("the sender went away")
                    parts.append(message.get("body", b""))
                    room.take(len(parts[-1]))
                    if room.taken > self._ingest.largest_body:
                        raise otlp.too_large(self._ingest.largest_body)
                    if not message.get("more_body"):
                        return b"".join(parts)
        except TimeoutError:
            raise LateError(f"the body took longer than {BODY_SECONDS} s") from None


async def _send(
    send: Send, status: HTTPStatus, kind: str, message: Message, headers: dict[str, str]
) -> None:
    body = message.SerializeToString() if kind == _PROTOBUF else otlp_json.from_message(message)
    every = {"content-type": kind, "content-length": str(len(body)), **headers}
    pairs = [(name.encode(), value.encode()) for name, value in every.items()]
    await send({"type": "http.response.start", "status": int(status), "headers": pairs})
    await send({"type": "http.response.body", "body": body})
