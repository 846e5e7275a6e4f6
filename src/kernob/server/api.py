"""The API: every page's JSON twin, read-only SQL, health and readiness.

Questions are asked in threads, a few at a time; when whoever asked goes away, the query is
cancelled in the store. Answers are the types of `kernob.queries.model`, errors RFC 9457 problems.
"""

from __future__ import annotations

import asyncio
import secrets
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from http import HTTPStatus
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal, TypeVar

import msgspec
from fastapi import Depends, FastAPI, HTTPException, Query, Request
from fastapi.middleware.gzip import GZipMiddleware
from pydantic import TypeAdapter
from starlette.responses import PlainTextResponse, Response

from kernob import __version__
from kernob.errors import KernobError, OverloadedError, UnauthorizedError
from kernob.queries import model, model_requests, ranges, sql
from kernob.queries.agents import agents
from kernob.queries.overview import overview
from kernob.queries.refused import LOST, REQUESTS, STORED, Counted
from kernob.queries.requests import Asked, requests
from kernob.queries.search import search
from kernob.queries.service import Choice, service
from kernob.queries.traffic import Filters, traffic
from kernob.server import problems
from kernob.store.engine import Limits

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from kernob.access import Access
    from kernob.server.itself import Figure
    from kernob.store.engine import Reader
    from kernob.store.store import Store

QUERIES: Final = 3
"""Questions that are answered at the same time; one of the store's connections stays free."""
PATIENCE: Final = 3.0
"""Seconds that a question waits for its turn."""
PAGE_LIMITS: Final = Limits(seconds=10.0, memory=512 << 20, rows=1_000_000)
SQL_LIMITS: Final = Limits(seconds=30.0, memory=512 << 20, rows=100_001)
MOST_ROWS: Final = SQL_LIMITS.rows - 1
"""Rows that one answer to SQL may have."""
LARGEST_QUESTION: Final = 128 << 10
"""Bytes that a question in SQL may have."""
LARGE: Final = 2048
"""Bytes from which on an answer is packed, for those who take gzip."""
TEXT: Final = 256
"""Characters of a filter at most."""
LONG_TEXT: Final = 1024
"""Characters of an operation at most."""

T = TypeVar("T")

_DESCRIPTION: Final = """
What the pages of Kernob show, as JSON. Times are milliseconds since the Unix epoch, rates bytes per
second, totals bytes; `null` means that nothing was measured, 0 that nothing moved. Ranges are given
as `from` and `to`: `now-15m`, `now`, RFC 3339, or milliseconds. Errors are RFC 9457 problems.
"""
_PROBLEM: Final[dict[str, Any]] = {
    "content": {
        problems.MEDIA_TYPE: {
            "schema": {
                "type": "object",
                "required": ["status", "title"],
                "properties": {
                    "status": {"type": "integer"},
                    "title": {"type": "string"},
                    "detail": {"type": "string", "description": "What was wrong."},
                    "remedy": {"type": "string", "description": "What to do about it."},
                    "errors": {
                        "type": "array",
                        "items": {
                            "type": "object",
                            "properties": {
                                "pointer": {"type": "string"},
                                "detail": {"type": "string"},
                            },
                        },
                    },
                },
            }
        }
    }
}
_PROBLEMS: Final[dict[int | str, dict[str, Any]]] = {
    401: {"description": "A token or certificate is wanted.", **_PROBLEM},
    422: {"description": "The question makes no sense, or wants too much.", **_PROBLEM},
    503: {"description": "Too many questions at once, or no store: again later.", **_PROBLEM},
}

From = Annotated[
    str,
    Query(alias="from", description="Where the range begins.", examples=["now-15m"], max_length=64),
]
To = Annotated[str, Query(description="Where it ends.", examples=["now"], max_length=64)]
Service = Annotated[str, Query(description="Only this service.", max_length=TEXT)]
Process = Annotated[
    str,
    Query(description="Only this process.", examples=["web-1:4242"], max_length=TEXT),
]
Host = Annotated[str, Query(description="Only this host.", max_length=TEXT)]
Peer = Annotated[str, Query(description="Only with this peer.", max_length=TEXT)]
OneSide = Annotated[
    Literal["", "server", "client"],
    Query(description="Only as server, or only as client; a page without it, as the busier one."),
]
Text = Annotated[
    str,
    Query(description="Only where service, host, peer or program contain it.", max_length=TEXT),
]


class Doorkeeper:
    """Lets in who has the token: a dependency of everything but health and readiness."""

    def __init__(self, access: Access | None) -> None:
        """Takes the rule of the address; None lets everybody in."""
        self._access = access

    def __call__(self, request: Request) -> None:
        """Checks one request.

        Raises:
            UnauthorizedError: it has no token, or another one.
        """
        if self._access and not self._access.allows(request.headers.get("authorization", "")):
            raise UnauthorizedError("a bearer token is wanted")


class Answers:
    """Asks the store: in threads, a few at a time, and not for somebody who has left."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._turns = asyncio.Semaphore(QUERIES)
        self._threads = ThreadPoolExecutor(QUERIES, "query")

    async def answer(
        self,
        request: Request,
        question: Callable[[Store, str], T],
    ) -> Response:
        """Returns the answer to a question as JSON.

        Args:
            request: whose it is.
            question: called in a thread with the store and a tag for all that it reads.

        Raises:
            OverloadedError: it was not its turn soon enough.
            QueryCancelledError: whoever asked has gone.
        """
        try:
            async with asyncio.timeout(PATIENCE):
                await self._turns.acquire()
        except TimeoutError:
            raise OverloadedError("other questions keep the server busy") from None
        try:
            answer = await self._unless_gone(request, question)
        finally:
            self._turns.release()
        return _json(answer)

    async def _unless_gone(self, request: Request, question: Callable[[Store, str], T]) -> T:
        tag = f"api-{secrets.token_hex(8)}"
        loop = asyncio.get_running_loop()
        asked = loop.run_in_executor(self._threads, question, self._store, tag)
        gone = asyncio.create_task(_gone(request))
        either: set[asyncio.Future[Any]] = {asked, gone}
        try:
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
            while not asked.done():
                await asyncio.to_thread(self._store.cancel, tag)
                await asyncio.wait({asked}, timeout=0.05)
            return await asked
        except asyncio.CancelledError:
            # The server stops: nobody will read the answer.
            asked.add_done_callback(lambda done: done.exception())
            await asyncio.to_thread(self._store.cancel, tag)
            raise
        finally:
            gone.cancel()


async def _gone(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _json(answer: object) -> Response:
    body = answer if isinstance(answer, bytes) else msgspec.json.encode(answer)
    return Response(body, media_type="application/json", headers={"Cache-Control": "no-store"})


def make_app(
    store: Store,
    access: Access | None = None,
    figures: Callable[[], Sequence[Figure]] = tuple,
    started: int = 0,
    failure: Callable[[], str] = str,
) -> FastAPI:
    """Returns the API as an application; OTLP's routes may be put before its own.

    Args:
        store: open.
        access: who may come in; None for everybody.
        figures: the server's own, as of now.
        started: when the server did, nanoseconds since the Unix epoch.
        failure: why nothing can be stored now; empty if it can.
    """
    app = FastAPI(
        title="Kernob",
        version=__version__,
        description=_DESCRIPTION,
        openapi_url=None,
        docs_url=None,
        redoc_url=None,
        # What the server says about itself is `kernob.server.*`.
        telemetry={"tracing": False, "metrics": False, "logs": False},
    )
    app.add_middleware(GZipMiddleware, minimum_size=LARGE, compresslevel=4)
    problems.install(app)
    answers = Answers(store)
    guarded: dict[str, Any] = {
        "dependencies": [Depends(Doorkeeper(access))],
        "responses": _PROBLEMS,
    }
    _add_pages(app, answers, guarded, figures, started)
    _add_requests(app, answers, guarded)
    _add_sql(app, answers, guarded)

    @app.get("/api/server", response_model=model.Server, summary="The server itself", **guarded)
    async def server() -> Response:
        """What the server took, refused and stored since its start, and what that cost."""
        own = [
            model.Figure(
                metric=figure.metric,
                unit=figure.unit,
                total=figure.total,
                value=figure.value,
                attributes=dict(figure.attributes),
            )
            for figure in figures()
        ]
        return _json(model.Server(__version__, started // 1_000_000, own))

    @app.get("/api/openapi.json", include_in_schema=False, dependencies=guarded["dependencies"])
    async def openapi() -> Response:
        return _json(app.openapi())

    @app.get("/health", response_class=PlainTextResponse, summary="Whether the process lives")
    async def health() -> str:
        """Always `ok`."""
        return "ok\n"

    @app.get(
        "/ready",
        response_class=PlainTextResponse,
        responses={503: {"description": "The store can't be read or written.", **_PROBLEM}},
        summary="Whether the store can be read and written",
    )
    async def ready() -> Response:
        """`ok`, or 503 and why: a full disk, a store that is gone, a latest write that failed."""
        try:
            await asyncio.to_thread(store.reader(Limits(seconds=5)).read, "SELECT 1")
        except KernobError as error:
            return problems.of_error(error, HTTPStatus.SERVICE_UNAVAILABLE)
        if why := failure():
            return problems.response(HTTPStatus.SERVICE_UNAVAILABLE, why)
        return PlainTextResponse("ok\n")

    return app


def _counted(figures: Sequence[Figure], started: int) -> Counted:
    """Returns what was refused since the server started, nanoseconds since the Unix epoch."""
    requests, records = Counter[tuple[str, str]](), Counter[tuple[str, str]]()
    for figure in figures:
        signal = figure.attributes.get("kernob.signal", "")
        outcome = figure.attributes.get("kernob.outcome", "")
        if figure.metric == REQUESTS and outcome != STORED:
            requests[signal, outcome] += int(figure.value)
        elif figure.metric == LOST:
            records[signal, figure.attributes["kernob.reason"]] += int(figure.value)
    return Counted(started // 1_000_000, requests, records)


def _add_pages(
    app: FastAPI,
    answers: Answers,
    guarded: dict[str, Any],
    figures: Callable[[], Sequence[Figure]],
    started: int,
) -> None:
    @app.get("/api/overview", response_model=model.Overview, summary="What is wrong", **guarded)
    async def get_overview(request: Request, from_: From = "now-1h", to: To = "now") -> Response:
        """Is anything wrong now, and who is busy?"""

        def question(reader: Reader) -> model.Overview:
            return overview(reader, ranges.resolve(reader, from_, to))

        return await answers.answer(request, _of_pages(question))

    @app.get("/api/traffic", response_model=model.Traffic, summary="Who moves bytes", **guarded)
    async def get_traffic(
        request: Request,
        from_: From = "now-15m",
        to: To = "now",
        by: Annotated[model.Grouping, Query(description="What a row is.")] = "service",
        service: Service = "",
        process: Process = "",
        host: Host = "",
        peer: Peer = "",
        q: Text = "",
        direction: Annotated[
            model.Direction, Query(description="What the largest goes by.")
        ] = "both",
        limit: Annotated[int, Query(description="Rows at most.", ge=1, le=10_000)] = 500,
        top: Annotated[int, Query(description="Lines at most, besides others.", ge=1, le=100)] = 10,
    ) -> Response:
        """Who uses the network, since when, and with whom."""
        filters = Filters(service, process, host, peer, q)

        def question(reader: Reader) -> model.Traffic:
            asked = ranges.resolve(reader, from_, to)
            return traffic(
                reader, asked, by=by, filters=filters, direction=direction, limit=limit, top=top
            )

        return await answers.answer(request, _of_pages(question))

    @app.get("/api/agents", response_model=model.Agents, summary="The agents", **guarded)
    async def get_agents(
        request: Request, from_: From = "now-1h", to: To = "now", host: Host = ""
    ) -> Response:
        """Each agent: its state, what it costs, what it lost, what is off and why."""
        counted = _counted(figures(), started)

        def question(reader: Reader) -> model.Agents:
            return agents(reader, ranges.resolve(reader, from_, to), host, counted=counted)

        return await answers.answer(request, _of_pages(question))

    @app.get("/api/search", response_model=model.Search, summary="Find by name", **guarded)
    async def get_search(
        request: Request,
        q: Annotated[str, Query(description="Part of a name.", max_length=TEXT)],
    ) -> Response:
        """Services, processes, hosts and peers whose names hold a text."""
        return await answers.answer(request, _of_pages(lambda reader: search(reader, q)))


def _add_requests(app: FastAPI, answers: Answers, guarded: dict[str, Any]) -> None:
    @app.get(
        "/api/requests", response_model=model_requests.Requests, summary="Who asks whom", **guarded
    )
    async def get_requests(
        request: Request,
        from_: From = "now-15m",
        to: To = "now",
        by: Annotated[
            model_requests.RequestGrouping, Query(description="What a row is.")
        ] = "service",
        service: Service = "",
        side: OneSide = "",
        host: Host = "",
        peer: Peer = "",
        limit: Annotated[int, Query(description="Rows at most.", ge=1, le=10_000)] = 500,
    ) -> Response:
        """How many requests there were, how they went and how long they took."""
        only = Asked(service, side, host, peer)

        def question(reader: Reader) -> model_requests.Requests:
            asked = ranges.resolve(reader, from_, to)
            return requests(reader, asked, by=by, only=only, limit=limit)

        return await answers.answer(request, _of_pages(question))

    @app.get(
        "/api/service", response_model=model_requests.Service, summary="One service", **guarded
    )
    async def get_service(
        request: Request,
        name: Annotated[str, Query(description="Of the service.", min_length=1, max_length=TEXT)],
        from_: From = "now-15m",
        to: To = "now",
        side: OneSide = "",
        operation: Annotated[
            str,
            Query(
                description="Only this one, with its protocol before it.",
                examples=["http GET /users/{id}"],
                max_length=LONG_TEXT,
            ),
        ] = "",
        peer: Peer = "",
        limit: Annotated[
            int, Query(description="Rows of each table at most.", ge=1, le=10_000)
        ] = 500,
    ) -> Response:
        """Which of its operations is slow or failing, since when, against which dependency."""
        choice = Choice(side, operation, peer)

        def question(reader: Reader) -> model_requests.Service:
            asked = ranges.resolve(reader, from_, to)
            return service(reader, asked, name, choice, limit=limit)

        return await answers.answer(request, _of_pages(question))


def _of_pages(question: Callable[[Reader], T]) -> Callable[[Store, str], T]:
    return lambda store, tag: question(store.reader(PAGE_LIMITS, tag))


def _add_sql(app: FastAPI, answers: Answers, guarded: dict[str, Any]) -> None:
    body = {
        "required": True,
        "content": {
            "application/json": {
                "schema": TypeAdapter(model.Question).json_schema(),
                "example": {
                    "query": "SELECT ServiceName, count() AS spans FROM otel_traces "
                    "WHERE Timestamp > now() - 3600 GROUP BY ServiceName ORDER BY spans DESC",
                    "limit": 100,
                },
            }
        },
    }

    @app.post(
        "/api/query",
        response_model=model.Table,
        summary="Read-only SQL",
        openapi_extra={"requestBody": body},
        **guarded,
    )
    async def query(request: Request) -> Response:
        """One SELECT over the store's tables, in ClickHouse's SQL, within limits."""
        question = msgspec.json.decode(await _body(request), type=model.Question)
        rows = min(max(question.limit, 0), MOST_ROWS)

        def ask(store: Store, tag: str) -> bytes:
            return sql.answer(lambda text: store.query(text, SQL_LIMITS, tag), question.query, rows)

        return await answers.answer(request, ask)


async def _body(request: Request) -> bytes:
    parts = bytearray()
    async for part in request.stream():
        parts += part
        if len(parts) > LARGEST_QUESTION:
            raise HTTPException(
                HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"at most {LARGEST_QUESTION} bytes are wanted"
            )
    return bytes(parts)
