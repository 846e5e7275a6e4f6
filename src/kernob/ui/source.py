"""Where the pages get their data: the server's API, over HTTP, as types of `kernob.queries.model`.

A question is a value (`Ask`): its path is also the address of the page's JSON twin. When the task
that waits for an answer is cancelled, its connection is closed, and the server cancels the query.
"""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Generic, TypeVar
from urllib.parse import urlencode

import httpx
import msgspec

from kernob.errors import ServerError
from kernob.queries import model, model_requests

if TYPE_CHECKING:
    from kernob.config import Config
    from kernob.ui.state import State

SECONDS: Final = 15.0
"""Until an answer is given up; the server gives up a query earlier."""
CONNECTIONS: Final = 32
LINES: Final = 10
"""Layers of a chart, the rest is summed: there are as many colours."""
ROWS: Final = 1000
"""Rows of a table."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Ask(Generic[T]):
    """A question to the API.

    Attributes:
        path: with its query, such as `/api/traffic?by=service`.
        type: of the answer.
    """

    path: str
    type: type[T]


def _ask(name: str, kind: type[T], /, **parameters: object) -> Ask[T]:
    given = {key.rstrip("_"): value for key, value in parameters.items() if value != ""}
    return Ask(f"/api/{name}?{urlencode(given, safe=':')}", kind)


def _range(state: State) -> dict[str, object]:
    since, until = state.span.texts()
    return {"from_": since, "to": until}


def traffic(
    state: State, by: model.Grouping, direction: model.Direction = "both", **filters: str
) -> Ask[model.Traffic]:
    """Returns the question who uses the network.

    Args:
        state: for the range.
        by: what a row is.
        direction: what "the largest" goes by.
        filters: `service`, `process`, `peer`, `host`: only what is theirs; empty for all.
    """
    limits = {"direction": direction, "top": LINES, "limit": ROWS}
    return _ask("traffic", model.Traffic, **_range(state), by=by, **filters, **limits)


def overview(state: State) -> Ask[model.Overview]:
    """Returns the question whether anything is wrong, and who is busy."""
    return _ask("overview", model.Overview, **_range(state))


def agents(state: State) -> Ask[model.Agents]:
    """Returns the question how the agents are."""
    return _ask("agents", model.Agents, **_range(state))


def requests(
    state: State, by: model_requests.RequestGrouping, **filters: str
) -> Ask[model_requests.Requests]:
    """Returns the question who asked whom.

    Args:
        state: for the range.
        by: what a row is.
        filters: `service`, `side`, `host`, `peer`: only what is theirs; empty for all.
    """
    return _ask("requests", model_requests.Requests, **_range(state), by=by, **filters, limit=ROWS)


def service(state: State, name: str, **choices: str) -> Ask[model_requests.Service]:
    """Returns the question how requests of a service go.

    Args:
        state: for the range.
        name: of the service.
        choices: `side`, `operation`, `peer`: what of it to look at; empty for all.
    """
    return _ask(
        "service", model_requests.Service, name=name, **_range(state), **choices, limit=ROWS
    )


def search(text: str) -> Ask[model.Search]:
    """Returns the question what is called so."""
    return _ask("search", model.Search, q=text)


class Source:
    """The server's API; one for the whole process, with a bounded pool of connections.

    Attributes:
        client: for who forwards requests as they are.
    """

    def __init__(self, config: Config) -> None:
        """Takes the server's address, token and certificates from the configuration.

        Raises:
            ConfigError: the token can't be read.
        """
        own = not config.pages.server
        token = config.server.token()
        self.url = config.server.url if own else config.pages.server.rstrip("/")
        self.client = httpx.AsyncClient(
            base_url=self.url,
            headers={"Authorization": f"Bearer {token}"} if token else {},
            timeout=SECONDS,
            limits=httpx.Limits(max_connections=CONNECTIONS),
            verify=_context(config) if self.url.startswith("https:") else True,
            trust_env=False,
        )

    async def get(self, ask: Ask[T]) -> T:
        """Returns the answer.

        Raises:
            ServerError: the server can't be reached, or says why it does not answer.
        """
        try:
            response = await self.client.get(ask.path)
        except httpx.TimeoutException as error:
            raise ServerError(f"The server at {self.url} does not answer") from error
        except httpx.HTTPError as error:
            reason = f" ({error})" if str(error) else ""
            raise ServerError(f"The server at {self.url} can't be reached{reason}") from error
        if response.status_code != httpx.codes.OK:
            raise _problem(response)
        try:
            return msgspec.json.decode(response.content, type=ask.type)
        except msgspec.DecodeError as error:
            raise ServerError(
                f"The server's answer is not what these pages know: {error}",
                remedy="run the same version of both",
            ) from error

    async def close(self) -> None:
        """Closes all connections."""
        await self.client.aclose()


class _Problem(msgspec.Struct):
    """An error as RFC 9457 writes it."""

    title: str = ""
    detail: str = ""
    remedy: str = ""


def _problem(response: httpx.Response) -> ServerError:
    try:
        problem = msgspec.json.decode(response.content, type=_Problem)
    except msgspec.DecodeError:
        problem = _Problem()
    said = problem.detail or problem.title or response.reason_phrase
    message = f"The server answers {response.status_code}: {said}"
    return ServerError(message, remedy=problem.remedy)


def _context(config: Config) -> ssl.SSLContext:
    """Returns how to know the server, and how it knows these pages, by certificates."""
    own = not config.pages.server and config.server.certificate is not None
    context = ssl.create_default_context(cafile=config.server.certificate if own else None)
    # The certificate itself is trusted then, whatever name it has.
    context.check_hostname = not own
    if config.pages.certificate and config.pages.key:
        context.load_cert_chain(config.pages.certificate, config.pages.key)
    return context
