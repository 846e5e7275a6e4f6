"""uvicorn as both the server and the pages run it."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import uvicorn

if TYPE_CHECKING:
    import ssl

    from starlette.types import ASGIApp


def settings(
    app: ASGIApp, tls: ssl.SSLContext | None, *, stopping: int, **own: Any
) -> uvicorn.Config:
    """Returns uvicorn's settings: what it logs, says of itself and believes is the same for all.

    Args:
        app: that answers.
        tls: certificates; None for none.
        stopping: seconds that requests under way get when the process is told to end.
        own: more of uvicorn's settings, where the two differ.
    """
    # What clients do wrong is theirs to know: uvicorn would log each.
    logging.getLogger("uvicorn.error").setLevel(logging.ERROR)
    return uvicorn.Config(
        app,
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_graceful_shutdown=stopping,
        ssl_context_factory=(lambda *_: tls) if tls else None,
        **own,
    )
