"""Who may see the pages: on loopback everybody on the host, elsewhere who has the token.

Everybody on the host is not every site that a browser on the host has open: without a token the
pages answer only under this host's own names, so that none can pass itself off as them (DNS
rebinding).

A browser gets a form once and a cookie after it. The cookie is the time it ends, signed with a key
that is made at the start and kept nowhere: it holds no secret, and a restart asks again. With
certificates of clients nothing more is asked for than what TLS has checked already.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import ipaddress
import secrets
import time
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import parse_qsl

from starlette.requests import HTTPConnection, Request
from starlette.responses import HTMLResponse, PlainTextResponse, RedirectResponse

if TYPE_CHECKING:
    from starlette.responses import Response
    from starlette.types import ASGIApp, Receive, Scope, Send

    from kernob.access import Access

COOKIE: Final = "kernob_session"
LASTS: Final = 12 * 3600
"""Seconds for which a browser is known."""
LARGEST_FORM: Final = 4096
WAIT: Final = 0.5
"""Seconds that a wrong token takes."""

_STRANGE: Final = "Under this name only with a token: use 127.0.0.1, or set pages.token_file\n"
_FORM: Final = (Path(__file__).parent / "web" / "login.html").read_text("utf-8")


class Door:
    """ASGI: lets in who may, and asks the others for the token."""

    def __init__(self, app: ASGIApp, access: Access, *, asks: bool, secure: bool) -> None:
        """Stands before an application.

        Args:
            app: what is behind.
            access: knows the token.
            asks: whether there is a token to ask for.
            secure: whether it is reached by TLS.
        """
        self._app, self._access, self._asks, self._secure = app, access, asks, secure
        self._key = secrets.token_bytes(32)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers, or passes on."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        connection = HTTPConnection(scope)
        strange = not self._asks and not self._secure and not _own(connection.url.hostname or "")
        if not strange and (not self._asks or self._known(connection)):
            await self._app(scope, receive, send)
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})
        elif strange:
            await PlainTextResponse(_STRANGE, 421)(scope, receive, send)
        elif scope["path"] == "/login" and scope["method"] == "POST":
            await (await self._login(Request(scope, receive)))(scope, receive, send)
        elif "text/html" in connection.headers.get("accept", ""):
            await _form(_local(_asked(connection)))(scope, receive, send)
        else:
            headers = {"WWW-Authenticate": "Bearer"}
            await PlainTextResponse("Unauthorized\n", 401, headers)(scope, receive, send)

    def _known(self, connection: HTTPConnection) -> bool:
        if self._access.allows(connection.headers.get("authorization", "")):
            return True
        until, _, signature = connection.cookies.get(COOKIE, "").partition(".")
        right = hmac.compare_digest(signature.encode("latin-1", "replace"), self._sign(until))
        return right and int(until) > time.time()

    def _sign(self, until: str) -> bytes:
        signed = hmac.new(self._key, until.encode("latin-1", "replace"), hashlib.sha256)
        return signed.hexdigest().encode()

    async def _login(self, request: Request) -> Response:
        body = b""
        async for chunk in request.stream():
            body += chunk
            if len(body) > LARGEST_FORM:
                return PlainTextResponse("Too large\n", 413)
        fields = dict(parse_qsl(body.decode("utf-8", "replace")))
        there = _local(fields.get("next", "/"))
        if not self._access.allows(f"Bearer {fields.get('token', '')}"):
            await asyncio.sleep(WAIT)
            return _form(there, wrong=True)
        until = str(int(time.time()) + LASTS)
        response = RedirectResponse(there, 303)
        response.set_cookie(
            COOKIE,
            f"{until}.{self._sign(until).decode()}",
            max_age=LASTS,
            httponly=True,
            samesite="strict",
            secure=self._secure,
        )
        return response


def _form(there: str, *, wrong: bool = False) -> HTMLResponse:
    said = "<p role='alert'>That is not the token.</p>" if wrong else ""
    page = _FORM.replace("{next}", escape(there)).replace("{wrong}", said)
    return HTMLResponse(page, 401, headers={"Cache-Control": "no-store"})


def _own(name: str) -> bool:
    """Returns whether a name can only mean the host that was connected to."""
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return name == "localhost" or name.endswith(".localhost")
    return True


def _asked(connection: HTTPConnection) -> str:
    url = connection.url
    return f"{url.path}?{url.query}" if url.query else url.path


def _local(path: str) -> str:
    """Returns a path on these pages, never another site."""
    return path if path.startswith("/") and not path.startswith(("//", "/\\")) else "/"
