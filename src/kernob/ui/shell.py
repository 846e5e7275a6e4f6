"""What is around every page: navigation, time range, search, theme, and the loop that loads.

A page is a value:

    PAGE = Page("/traffic", "Traffic", "Who uses the network?", build)

    def build(shell: Shell) -> Content:
        chart = Chart(shell, "Traffic")                  # pieces, in the order they stand
        def show(answer: model.Traffic) -> None:         # called after each load: only sets data
            chart.show(...)
        return Content(ask=lambda state: [source.traffic(state, "service")], show=show)

and one line in `run.py`. The shell asks all questions of a page at once, calls `show` with the
answers, asks again while the page is live, keeps what was there when the server fails, and says so.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from nicegui import Client, background_tasks, ui
from nicegui.element import Element
from nicegui.elements.mixins.text_element import TextElement

from kernob.errors import KernobError
from kernob.ui import source
from kernob.ui.notes import Crumbs
from kernob.ui.state import Span, State, parse

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from nicegui.events import GenericEventArguments

    from kernob.ui.source import Ask, Source

FIRST: Final = 0.8
"""Seconds that the first data may take to be in the page's HTML; later ones are pushed."""
TICK: Final = 0.25
AGENTS_EVERY: Final = 15.0
LONGEST_WAIT: Final = 15.0
"""Seconds between two tries while the server can't be reached."""
MOST_BACK: Final = 32
# Seconds between two loads, by the range's length in milliseconds.
_CADENCE: Final = ((900_000, 1.0), (3_600_000, 5.0), (21_600_000, 15.0), (86_400_000, 30.0))
_SLOWEST: Final = 60.0

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Content:
    """What a page asks, and how it shows the answers.

    Attributes:
        ask: the questions for a state; all at once, the first is the page's JSON twin.
        show: takes their answers, in order.
    """

    ask: Callable[[State], Sequence[Ask[Any]]]
    show: Callable[..., None]


@dataclass(frozen=True, slots=True)
class Page:
    """A page.

    Attributes:
        path: where it is.
        name: in the navigation and the title.
        question: that it answers.
        build: makes its pieces.
    """

    path: str
    name: str
    question: str
    build: Callable[[Shell], Content]


class _Range(Element, component="web/kernob_range.js", dependencies=["web/kernob.js"]):
    pass


class _Search(Element, component="web/kernob_search.js"):
    pass


class _Foot(Element, component="web/kernob_foot.js", dependencies=["web/kernob.js"]):
    pass


def cadence(span: Span) -> float:
    """Returns seconds between two loads in live mode."""
    return next((wait for length, wait in _CADENCE if span.length <= length), _SLOWEST)


class Shell:
    """One browser page, from its request until it goes away.

    Attributes:
        state: what the URL says.
        crumbs: the page's heading.
    """

    def __init__(self, page: Page, pages: Sequence[Page], client: Client, reads: Source) -> None:
        """Builds the page around its pieces, without data."""
        self.state = parse(client.request.url.query)
        self._page, self._client, self._source = page, client, reads
        self._task: asyncio.Task[None] | None = None
        self._search: asyncio.Task[None] | None = None
        self._back: list[Span] = []
        self._due = self._agents_due = 0.0
        self._failures = 0
        self._loaded = 0
        self._seen = True
        self._links: list[tuple[Page, Element]] = []
        TextElement(tag="a", text="Skip to the content").classes("k-skip").props["href"] = "#k-main"
        with Element("header").classes("k-bar-top"):
            self._build_bar(pages)
        with Element("main").classes("k-main-part").props('id="k-main"') as self._main:
            with Element("div").classes("k-head") as self.head:
                self.crumbs = Crumbs(page.name, page.question)
                Element("span").classes("k-gap")
            self._content = page.build(self)
        self._foot = _Foot()
        self._foot.props.update({"failure": "", "since": 0, "agents": None})
        self._foot.on("retry", self._retry)
        self._foot.on("location", lambda event: self._apply(parse(event.args)))
        self._foot.on("seen", self._on_seen)
        self._show_state()
        ui.timer(TICK, self._tick, immediate=False)
        client.on_disconnect(self._stop)
        client.on_delete(self._stop)
        client.on_connect(self._wake)

    def _build_bar(self, pages: Sequence[Page]) -> None:
        TextElement(tag="span", text="Kernob").classes("k-brand")
        with Element("nav").classes("k-nav").props('aria-label="Pages"'):
            for page in pages:
                link = TextElement(tag="a", text=page.name)
                link.props["aria-current"] = "page" if page is self._page else None
                self._links.append((page, link))
        self._searching = _Search()
        self._searching.props["found"] = None
        self._searching.on("search", self._on_search)
        self._searching.on("choose", lambda event: self.open(event.args))
        self._range = _Range()
        self._range.on("range", self._on_range)
        self._range.on("live", lambda event: self._on_live(live=bool(event.args)))

    # -- what pieces and pages call ----------------------------------------------------------------

    def now(self) -> int:
        """Returns milliseconds since the epoch."""
        return time.time_ns() // 1_000_000

    @property
    def server(self) -> str:
        """The URL of the server that is read."""
        return self._source.url

    def go(self, state: State) -> None:
        """Goes to another state of this page: the URL changes, the data are loaded."""
        self._history("pushState", state)
        self._apply(state)

    def keep(self, **choices: str) -> None:
        """Keeps what the browser shows already (sorting, a filter) in the URL."""
        self.state = self.state.choose(**choices)
        self._history("replaceState", self.state)
        self._show_state()

    def zoom(self, span: Span) -> None:
        """Narrows the range; `back` returns."""
        self._back = [*self._back[-MOST_BACK:], self.state.span]
        self.go(self.state.at(span))

    def back(self) -> None:
        """Goes back to the range before the last zoom; without one, to a wider range."""
        span = self._back.pop() if self._back else self.state.span.wider(self.now())
        self.go(self.state.at(span, live=True))

    def open(self, link: str) -> None:
        """Goes to a link such as `/traffic?service=nginx`, in the range of this page."""
        found = urlsplit(link)
        choices = parse(found.query).choices
        if found.path in ("", self._page.path):
            self.go(State(self.state.span, self.state.live, choices))
        else:
            self._client.open(self.state.link(found.path, **choices))

    # -- state -------------------------------------------------------------------------------------

    def _apply(self, state: State) -> None:
        self.state = state
        self._show_state()
        self._main.classes(add="k-stale")
        self._load_now()

    def _history(self, method: str, state: State) -> None:
        query = json.dumps(f"{self._page.path}?{state.query()}".removesuffix("?"))
        self._client.run_javascript(f"history.{method}(null, '', {query})")

    def _show_state(self) -> None:
        state, span = self.state, self.state.span
        self._range.props.update(
            {
                "span": {"length": span.length, "start": span.start, "end": span.end},
                "live": state.live,
                "time": self.now(),
            }
        )
        for page, link in self._links:
            link.props["href"] = state.link(page.path)
        asked = self._content.ask(state)
        self._foot.props.update(
            {
                "twin": asked[0].path,
                "link": f"{self._page.path}?{state.fixed(self._loaded or self.now()).query()}",
            }
        )

    def _on_range(self, event: GenericEventArguments) -> None:
        said = event.args
        if said.get("length"):
            self.go(self.state.at(Span(int(said["length"])), live=True))
        else:
            self.go(self.state.at(Span(0, int(said["start"]), int(said["end"]))))

    def _on_live(self, *, live: bool) -> None:
        span = self.state.span
        if live and not span.length:
            span = Span()
        self.go(self.state.at(span, live=live))

    def _on_seen(self, event: GenericEventArguments) -> None:
        self._seen = bool(event.args)

    # -- loading -----------------------------------------------------------------------------------

    async def start(self) -> None:
        """Waits a little for the first data, so that they are in the page's HTML."""
        self._load_now()
        if self._task:
            await asyncio.wait({self._task}, timeout=FIRST)

    def _load_now(self) -> None:
        if self._task:
            self._task.cancel()
        self._task = background_tasks.create(self._load(), name=f"load {self._page.path}")

    async def _load(self) -> None:
        state, began = self.state, time.monotonic()
        try:
            answers = await asyncio.gather(*(self._source.get(a) for a in self._content.ask(state)))
        except KernobError as error:
            self._failed(error)
            return
        self._loaded = self.now()
        self._due = began + cadence(state.span) if state.live else float("inf")
        with self._main:
            self._content.show(*answers)
        self._main.classes(remove="k-stale")
        if self._failures:
            self._failures = 0
            self._foot.props["failure"] = ""
            self._agents_due = 0.0
        self._show_state()

    def _failed(self, error: KernobError) -> None:
        self._failures += 1
        self._due = time.monotonic() + min(LONGEST_WAIT, 2.0 ** min(self._failures - 1, 10))
        self._foot.props.update({"failure": f"{error}.", "since": self._loaded})
        self._main.classes(remove="k-stale")
        if self._failures == 1:
            _log.warning("%s: %s", self._page.path, error)

    async def _tick(self) -> None:
        if not self._seen or (self._task and not self._task.done()):
            return
        now = time.monotonic()
        if now >= self._due:
            self._load_now()
        elif now >= self._agents_due and not self._failures:
            self._agents_due = now + AGENTS_EVERY
            await self._count_agents()

    async def _count_agents(self) -> None:
        try:
            known = await self._source.get(source.agents(State()))
        except KernobError as error:
            _log.debug("agents: %s", error)
            return
        states = [row.state for row in known.rows]
        late = sum(1 for state in states if state != "ok")
        self._foot.props["agents"] = {"all": len(states), "late": late}

    def _retry(self) -> None:
        self._due = 0.0

    def _wake(self) -> None:
        self._seen = True
        if self.state.live:
            self._due = min(self._due, time.monotonic() + cadence(self.state.span))

    def _stop(self) -> None:
        for task in (self._task, self._search):
            if task:
                task.cancel()

    # -- search ------------------------------------------------------------------------------------

    def _on_search(self, event: GenericEventArguments) -> None:
        if self._search:
            self._search.cancel()
        self._search = background_tasks.create(self._find(str(event.args)), name="search")

    async def _find(self, text: str) -> None:
        found: dict[str, Any] = {"text": text, "found": [], "failed": ""}
        try:
            answer = await self._source.get(source.search(text))
        except KernobError as error:
            found["failed"] = str(error)
        else:
            found["found"] = [
                {"kind": one.kind, "name": one.name, "detail": one.detail, "link": one.link}
                for one in answer.found
            ]
        self._searching.props["found"] = found


def mount(page: Page, pages: Sequence[Page], reads: Source) -> None:
    """Puts a page at its path."""

    @ui.page(page.path, title=f"{page.name} · Kernob")
    async def show(client: Client) -> None:
        await Shell(page, pages, client, reads).start()
