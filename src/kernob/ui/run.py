"""The pages' process: NiceGUI on one address, behind a door, in front of one server.

Pages(config.load(None, os.environ, {})).run()
"""

from __future__ import annotations

import ipaddress
import logging
import re
from pathlib import Path
from typing import TYPE_CHECKING, Final

import nicegui
import uvicorn
from fastapi import FastAPI, Request, Response
from fastapi.middleware.gzip import GZipMiddleware
from nicegui import dependencies, ui

from kernob import web
from kernob.access import Access
from kernob.ui import agents, overview, service, traffic
from kernob.ui.door import Door
from kernob.ui.forward import forward
from kernob.ui.shell import Page, mount
from kernob.ui.source import Source

if TYPE_CHECKING:
    from kernob.config import Loaded

PAGES: Final[tuple[Page, ...]] = (overview.PAGE, service.PAGE, traffic.PAGE, agents.PAGE)
"""In the order of the navigation; `/` is the start page."""

RECONNECT: Final = 10.0
"""Seconds for which a browser that lost its connection finds its page again as it was."""
HISTORY: Final = 20
"""Messages kept for it."""
STOPPING: Final = 2
"""Seconds that answers under way get when the process is told to end."""

_WEB: Final = Path(__file__).parent / "web"
_IMPORTED: Final = re.compile(r'from"\./([^"]+)"')
_log = logging.getLogger(__name__)


class Pages:
    """All pages, ready to listen; one in a process, since NiceGUI is."""

    def __init__(self, loaded: Loaded) -> None:
        """Takes the address.

        Raises:
            ConfigError: a token can't be read.
            ListenError: the address is none, or is off loopback and nothing guards it.
        """
        door = loaded.config.pages
        self._access = Access(door.listen, token_file=door.token_file, tls=door.tls)
        self._source = Source(loaded.config)
        app = FastAPI(title="Kernob pages", docs_url=None, redoc_url=None, openapi_url=None)
        app.add_api_route(
            "/api/{path:path}", self._forward, methods=["GET", "POST"], response_model=None
        )
        for page in PAGES:
            mount(page, PAGES, self._source)
        _look()
        local = ipaddress.ip_address(self._access.ip).is_loopback
        ui.run_with(
            app,
            title="Kernob",
            dark=None,
            tailwind=False,
            reconnect_timeout=RECONNECT,
            message_history_length=HISTORY,
            show_welcome_message=False,
            # On loopback, packing costs more than it saves: half a second of the first visit.
            gzip_middleware_factory=None if local else GZipMiddleware,
        )
        self._app = Door(
            app, self._access, asks=door.token_file is not None, secure=door.tls is not None
        )

    def run(self) -> None:
        """Answers until the process is told to end (SIGTERM, SIGINT).

        Raises:
            ListenError: the address is taken.
        """
        # Each request and each browser that comes and goes is nothing for the log.
        for name in ("httpx", "nicegui"):
            logging.getLogger(name).setLevel(logging.ERROR)
        tls = self._access.tls.context() if self._access.tls else None
        config = web.settings(
            self._app, tls, stopping=STOPPING, http="httptools", loop="uvloop", lifespan="on"
        )
        with self._access.bind() as listening:
            address = f"{self._access.host}:{listening.getsockname()[1]}"
            _log.info("pages on %s://%s", "https" if tls else "http", address)
            uvicorn.Server(config).run(sockets=[listening])

    async def _forward(self, request: Request) -> Response:
        return await forward(request, self._source.client)


def _look() -> None:
    """Gives all pages their style, in the page itself: nothing is drawn without it.

    What components import is named, too, so that the browser need not find out one by one.
    """
    style = (_WEB / "kernob.css").read_text("utf-8")
    theme = (_WEB / "theme.js").read_text("utf-8")
    base = f"/_nicegui/{nicegui.__version__}"
    early = [f"{base}/libraries/{library.key}" for library in dependencies.libraries.values()]
    for key, module in dependencies.esm_modules.items():
        if module.name == "nicegui-echart":
            index = (module.path / "index.js").read_text("utf-8")
            early += [f"{base}/esm/{key}/{name}" for name in _IMPORTED.findall(index)]
    links = "".join(f'<link rel="modulepreload" href="{url}">' for url in early)
    ui.add_head_html(f"<script>{theme}</script><style>{style}</style>{links}", shared=True)
