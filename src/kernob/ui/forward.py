"""`/api/*` as the server answers it: each page's JSON twin is at the pages' own address."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Final

import httpx
from starlette.background import BackgroundTask
from starlette.responses import JSONResponse, Response, StreamingResponse

if TYPE_CHECKING:
    from starlette.requests import Request

LARGEST_BODY: Final = 1 << 20
"""Bytes of a question (`POST /api/query`)."""

_ASKED: Final = ("accept", "accept-encoding", "content-type", "content-encoding")
_PLAIN: Final = {"accept-encoding": "identity"}
"""Else the client would ask for what the browser may not have asked for."""
_ANSWERED: Final = ("content-type", "content-encoding", "content-length", "cache-control", "etag")


async def forward(request: Request, client: httpx.AsyncClient) -> Response:
    """Returns the server's answer; if the browser goes away, so does the request to the server.

    Args:
        request: to a path under `/api/`.
        client: with the server's address and token.
    """
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > LARGEST_BODY:
            return _problem(413, "The question is too large")
    asked = client.build_request(
        request.method,
        f"{request.url.path}?{request.url.query}",
        headers=_PLAIN | {n: request.headers[n] for n in _ASKED if n in request.headers},
        content=bytes(body) or None,
    )
    sent = asyncio.ensure_future(client.send(asked, stream=True))
    gone = asyncio.ensure_future(_gone(request))
    await asyncio.wait({sent, gone}, return_when=asyncio.FIRST_COMPLETED)
    gone.cancel()
    if not sent.done():
        sent.cancel()
        with contextlib.suppress(asyncio.CancelledError, httpx.HTTPError):
            await sent
        return Response(status_code=499)
    try:
        answer = sent.result()
    except httpx.TimeoutException:
        return _problem(504, "The server does not answer")
    except httpx.HTTPError as error:
        return _problem(502, f"The server can't be reached: {error}")
    return StreamingResponse(
        answer.aiter_raw(),
        answer.status_code,
        {name: answer.headers[name] for name in _ANSWERED if name in answer.headers},
        background=BackgroundTask(answer.aclose),
    )


async def _gone(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _problem(status: int, title: str) -> Response:
    """Returns an error as RFC 9457 writes it."""
    return JSONResponse(
        {"type": "about:blank", "title": title, "status": status},
        status,
        media_type="application/problem+json",
    )
