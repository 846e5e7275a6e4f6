"""Errors of the API as RFC 9457 problems: what was wrong, in words, without a trace."""

from __future__ import annotations

import logging
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final

import msgspec
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response

from kernob.errors import (
    KernobError,
    OverloadedError,
    QueryCancelledError,
    QueryError,
    StoreError,
    UnauthorizedError,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from fastapi import FastAPI
    from starlette.requests import Request

MEDIA_TYPE: Final = "application/problem+json"
RETRY_SECONDS: Final = 1
CLIENT_CLOSED: Final = 499
"""Nobody reads this answer; it is what access logs of many servers call it."""
_STATUS: Final[tuple[tuple[type[KernobError], int], ...]] = (
    (QueryCancelledError, CLIENT_CLOSED),
    (QueryError, HTTPStatus.UNPROCESSABLE_ENTITY),
    (UnauthorizedError, HTTPStatus.UNAUTHORIZED),
    (OverloadedError, HTTPStatus.SERVICE_UNAVAILABLE),
    (StoreError, HTTPStatus.SERVICE_UNAVAILABLE),
)
_HEADERS: Final[Mapping[int, Mapping[str, str]]] = {
    HTTPStatus.UNAUTHORIZED: {"WWW-Authenticate": "Bearer"},
    HTTPStatus.SERVICE_UNAVAILABLE: {"Retry-After": str(RETRY_SECONDS)},
}

log = logging.getLogger(__name__)


class Problem(msgspec.Struct, frozen=True, omit_defaults=True):
    """An error (RFC 9457, 3.1); its type is always `about:blank`, so the title is the status's.

    Attributes:
        status: of HTTP.
        title: of the status.
        detail: what was wrong, for people.
        remedy: what they can do.
        errors: one for each parameter that was wrong, with its place.
    """

    status: int
    title: str
    detail: str = ""
    remedy: str = ""
    errors: list[dict[str, str]] = []


def response(
    status: int,
    detail: str = "",
    *,
    remedy: str = "",
    errors: list[dict[str, str]] | None = None,
    headers: Mapping[str, str] | None = None,
) -> Response:
    """Returns the answer that tells of a problem."""
    title = "Client Closed Request" if status == CLIENT_CLOSED else HTTPStatus(status).phrase
    problem = Problem(int(status), title, detail, remedy, errors or [])
    return Response(
        msgspec.json.encode(problem),
        status_code=status,
        media_type=MEDIA_TYPE,
        headers={**_HEADERS.get(status, {}), **(headers or {}), "Cache-Control": "no-store"},
    )


def of_error(error: KernobError, status: int = 0) -> Response:
    """Returns the answer for an error of Kernob's own, with its kind's status if none is given."""
    status = status or next((code for kind, code in _STATUS if isinstance(error, kind)), 500)
    return response(status, error.args[0] if error.args else "", remedy=error.remedy)


def install(app: FastAPI) -> None:
    """Makes every error of the app a problem: ours, HTTP's own, wrong parameters, and the rest."""
    app.add_exception_handler(KernobError, _on_error)
    app.add_exception_handler(HTTPException, _on_http)
    app.add_exception_handler(RequestValidationError, _on_validation)
    app.add_exception_handler(msgspec.DecodeError, _on_body)
    app.add_exception_handler(Exception, _on_anything)


def _on_error(_request: Request, error: Exception) -> Response:
    assert isinstance(error, KernobError)  # noqa: S101  (for the type: it is registered for these)
    return of_error(error)


def _on_http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)  # noqa: S101
    detail = {
        HTTPStatus.NOT_FOUND: f"there is nothing at {request.url.path[:256]}",
        HTTPStatus.METHOD_NOT_ALLOWED: f"{request.method} is not for {request.url.path[:256]}",
    }.get(HTTPStatus(error.status_code), str(error.detail))
    return response(error.status_code, detail, headers=error.headers)


def _on_body(_request: Request, error: Exception) -> Response:
    wrong_type = isinstance(error, msgspec.ValidationError)
    status = HTTPStatus.UNPROCESSABLE_ENTITY if wrong_type else HTTPStatus.BAD_REQUEST
    return response(status, _capped(error))


def _on_validation(_request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)  # noqa: S101
    errors = [
        {
            "pointer": "/".join(str(part) for part in item["loc"]),
            "detail": _capped(item["msg"]),
        }
        for item in error.errors()[:20]
    ]
    detail = "; ".join(f"{item['pointer']}: {item['detail']}" for item in errors[:3])
    return response(HTTPStatus.UNPROCESSABLE_ENTITY, detail, errors=errors)


def _capped(text: Any) -> str:
    return str(text)[:256]


def _on_anything(request: Request, error: Exception) -> Response:
    log.error("%s %s: %s", request.method, request.url.path, error, exc_info=error)
    return response(
        HTTPStatus.INTERNAL_SERVER_ERROR, "the server failed; its log says more about it"
    )
