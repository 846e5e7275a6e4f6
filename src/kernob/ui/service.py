"""Service: which of its operations is slow or failing, since when, against which dependency?

Rate, errors and latency side by side, the heat map, and the tables of operations, peers and names.
A click on an operation isolates it in all of them. Without a name: all services with requests.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from nicegui.element import Element
from nicegui.elements.mixins.text_element import TextElement

from kernob.queries import model_requests
from kernob.ui import source
from kernob.ui.chart import Chart, Series
from kernob.ui.colours import BAD, OTHERS, slots
from kernob.ui.figure import Figure
from kernob.ui.heatmap import HeatMap
from kernob.ui.notes import Empty, Known
from kernob.ui.shell import Content, Page, Shell
from kernob.ui.switch import Switch
from kernob.ui.table import Column, Name, Row, Table
from kernob.ui.words import counted

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kernob.queries.model_requests import Missed, RequestRow
    from kernob.ui.source import Ask
    from kernob.ui.state import State
    from kernob.ui.table import Cell

CHOICES: Final = ("side", "operation", "peer")
SIDES: Final = {"server": "as server", "client": "as client"}
SEEN: Final = (
    "Agents count requests of HTTP/1, Redis, PostgreSQL, MySQL, Memcached and DNS in the kernel. "
    "What is encrypted (TLS), and other protocols, they do not see; nor do agents that poll see "
    "any. Choose a longer range, or look at the agents: each says what is off there, and why."
)
REASONS: Final = {
    "before": "began before the agent did",
    "no_request": "answers whose request was not seen",
    "closed": "the connection was closed first",
    "skipped": "more in flight than are paired",
    "lost": "its place in the stream was lost",
    "full": "no room was left",
    "call": "by a call that is not read",
    "sendfile": "by sendfile",
    "io_uring": "by io_uring",
    "fault": "their memory was not there",
    "busy": "two at the same moment",
    "memory": "no memory was left",
    "units": "more in one call than are looked at",
    "encrypted": "encrypted",
    "compressed": "compressed",
}
"""What agents' words for reasons mean; others stand as they are."""
_KINDS: Final = {
    "unpaired": ("request", "on its hosts could not be paired"),
    "unseen": ("call", "on its hosts could not be read"),
    "unanswered": ("request", "got no answer"),
    "one_way": ("request", "wanted no answer"),
}
_LINES: Final = (("p50", OTHERS), ("p95", 4), ("p99", 1))
"""Percentiles, and the slots of their colours."""


_PROTOCOL: Final = Column("protocol", "Protocol", "text", wide=True)
_REQUESTS: Final = Column("requests", "Requests", "count", hint="Within the range")
_ERRORS: Final = Column("errors", "Errors", "count", wide=True, hint="Requests that failed")
_FAILING: Final = Column("failing", "Failing", "share", hint="Of its requests")
_P50, _P95, _P99 = (
    Column(name, name, "seconds", wide=name != "p95", hint=f"{share} of them took at most this")
    for name, share in (("p50", "Half"), ("p95", "95 %"), ("p99", "99 %"))
)
_SHARE: Final = Column("share", "Time", "bar", hint="Of the time that all of these took together")
_ALL_COLUMNS: Final = (
    Column("name", "Service", "name"),
    Column("side", "Side", "text", hint="As server: what it is asked; as client: what it asks"),
    *(_PROTOCOL, _REQUESTS, _ERRORS, _FAILING, _P50, _P95, _P99),
)
_OPERATION_COLUMNS: Final = (
    Column("name", "Operation", "name"),
    *(_PROTOCOL, _REQUESTS, _FAILING, _P50, _P95, _P99, _SHARE),
)
_PEER_COLUMNS: Final = (Column("name", "Peer", "name"), _REQUESTS, _FAILING, _P95, _SHARE)
_NAME_COLUMNS: Final = (
    Column("name", "Name", "name"),
    Column("types", "Types", "text", wide=True, hint="Of records that were asked for"),
    *(_REQUESTS, _ERRORS, _FAILING, _P50, _P95, _P99, _SHARE),
)


def build(shell: Shell) -> Content:
    """Returns the page's question, and how it shows the answer."""
    return Content(ask=_ask, show=_View(shell).show)


PAGE: Final = Page(
    "/service", "Service", "Slow or failing, since when, against which dependency?", build
)


def link(state: State, name: str, **choices: str) -> str:
    """Returns the link to a service's page, in the range of another page."""
    return state.link(PAGE.path, name=name, **choices)


def _ask(state: State) -> Sequence[Ask[Any]]:
    name = state.choice("name")
    if not name:
        return [source.requests(state, "service")]
    return [source.service(state, name, **{choice: state.choice(choice) for choice in CHOICES})]


class _View:
    def __init__(self, shell: Shell) -> None:
        self._shell = shell
        with shell.head:
            self._side = Switch(shell, "side", tuple(SIDES.items()))
        self._all = Table(
            shell,
            "Services",
            _ALL_COLUMNS,
            name="service.",
            order="-requests",
            empty=f"No requests were seen in this range. {SEEN}",
        )
        self._empty = Empty("No requests were seen in this range", SEEN)
        with Element("div") as self._one:
            with Element("div").classes("k-figures"):
                self._requests = Figure("Requests", "count")
                self._errors = Figure("Errors", "count")
                self._share = Figure("Failing", "share")
                self._quantiles = [Figure(name, "seconds") for name, _ in _LINES]
            with Element("div").classes("k-three"):
                self._rate, self._failing, self._latency = (
                    _chart(shell, label, kind)
                    for label, kind in (
                        ("Requests", "per_second"),
                        ("Errors", "per_second"),
                        ("Latency", "seconds"),
                    )
                )
            TextElement(tag="h2", text="How many requests took how long")
            self._heat = HeatMap(shell, "How many requests took how long", height=148)
            self._known = Known("request")
            with Element("div").classes("k-split k-tables"):
                with Element("div"):
                    self._operations = Table(
                        shell, "Operations", _OPERATION_COLUMNS, order="-share", bones=5
                    )
                with Element("div"):
                    self._peers = Table(
                        shell, "Peers", _PEER_COLUMNS, name="peer.", order="-share", bones=5
                    )
            self._names = Table(
                shell, "Names looked up", _NAME_COLUMNS, name="name.", order="-share", bones=2
            )
            self._missed = TextElement(tag="p", text="").classes("k-note k-missed")
        self._view(one=bool(shell.state.choice("name")), empty=False)
        self._side.set_visibility(False)

    def _view(self, *, one: bool, empty: bool) -> None:
        self._all.set_visibility(not one)
        self._one.set_visibility(one and not empty)
        self._empty.set_visibility(one and empty)

    def show(self, answer: model_requests.Service | model_requests.Requests) -> None:
        state = self._shell.state
        self._shell.crumbs.show(_crumbs(state))
        if isinstance(answer, model_requests.Requests):
            self._view(one=False, empty=False)
            self._side.set_visibility(False)
            self._all.show(
                [
                    _row(_ALL_COLUMNS, row, state.link(name=row.key, side=row.side))
                    for row in answer.rows
                ],
                more=answer.rows_left_off,
            )
            return
        self._view(one=True, empty=not answer.sides)
        self._side.set_visibility(len(answer.sides) > 1)
        if answer.sides:
            self._side.show([(row.side, SIDES[row.side]) for row in answer.sides])
            self._show(answer, state)

    def _show(self, answer: model_requests.Service, state: State) -> None:
        self._figures(answer)
        lines = answer.lines
        colour = slots([answer.name])[answer.name]
        for chart, series in (
            (self._rate, [Series("requests", lines.rate, colour)]),
            (self._failing, [Series("errors", lines.errors, BAD)]),
            (self._latency, [Series(name, getattr(lines, name), slot) for name, slot in _LINES]),
        ):
            chart.show(answer.range, answer.times, series, answer.marks)
        self._heat.show(answer.range, answer.times, answer.heat)
        self._known.show(answer.provenance, answer.range)
        operation, peer = state.choice("operation"), state.choice("peer")
        self._operations.show(
            [
                _row(
                    _OPERATION_COLUMNS,
                    row,
                    state.link(operation="" if row.key == operation else row.key),
                )
                for row in answer.operations
            ],
            chosen=operation,
        )
        self._peers.show(
            [_row(_PEER_COLUMNS, row, _peer_link(state, row)) for row in answer.peers],
            label="Callers" if answer.side == "server" else "Dependencies",
            chosen=peer,
        )
        self._names.set_visibility(bool(answer.names))
        self._names.show([_row(_NAME_COLUMNS, row, "") for row in answer.names])
        self._missed.set_text(_missed(answer.missed))

    def _figures(self, answer: model_requests.Service) -> None:
        """Shows what the operation and the peer that were chosen add up to."""
        total = next(row for row in answer.sides if row.side == answer.side)
        state = self._shell.state
        if state.choice("operation"):
            total = next(
                (r for r in answer.operations if r.key == state.choice("operation")), total
            )
        elif state.choice("peer"):
            total = next((row for row in answer.peers if row.key == state.choice("peer")), total)
        self._requests.show(total.requests)
        self._errors.show(total.errors)
        self._share.show(total.errors / total.requests)
        for figure, (name, _) in zip(self._quantiles, _LINES, strict=True):
            figure.show(getattr(total, name))


def _chart(shell: Shell, label: str, kind: Any) -> Chart:
    """Returns a chart below its heading, which tells its colours."""
    with Element("div"):
        with Element("h2"):
            TextElement(tag="span", text=label)
            for name, slot in _LINES if kind == "seconds" else ():
                paint = "--series-others" if slot < 0 else f"--series-{slot}"
                with Element("small"):
                    Element("i").classes("k-swatch").style(f"background: var({paint})")
                    TextElement(tag="span", text=name)
        return Chart(
            shell, label, kind=kind, stacked=kind != "seconds", height=144, legend="none",
            nothing="No requests in this range.",
        )  # fmt: skip


def _row(columns: Sequence[Column], row: RequestRow, target: str) -> Row:
    """Returns a row with the cells of these columns."""
    cells: dict[str, Cell] = {
        "name": Name(row.name, target, hint=_hint(row)),
        "side": SIDES[row.side],
        "protocol": ", ".join(row.protocols),
        "types": row.detail,
        "requests": row.requests,
        "errors": row.errors,
        "failing": row.errors / row.requests,
        "p50": row.p50,
        "p95": row.p95,
        "p99": row.p99,
        "share": row.share,
    }
    key = f"{row.key} {row.side}" if columns is _ALL_COLUMNS else row.key
    return Row(key, [cells[column.name] for column in columns])


def _hint(row: RequestRow) -> str:
    """Returns what is behind a name: its statements, and how it failed."""
    failures = ", ".join(f"{kind} {count:,} times" for kind, count in row.failures.items())
    said = (row.name, row.detail, f"failed: {failures}" if failures else "")
    return "\n".join(text for text in said if text)


def _peer_link(state: State, row: RequestRow) -> str:
    """Returns the peer's own page, or else its traffic with this service."""
    if row.service:
        return link(state, row.key, side="client" if row.side == "server" else "server")
    return state.link("/traffic", service=state.choice("name"), peer=row.key)


def _missed(missed: Sequence[Missed]) -> str:
    """Returns what is not among the figures, in words."""
    said = []
    for one in missed:
        what, how = _KINDS[one.kind]
        of = f"{one.protocol} " if one.protocol else ""
        why = f" ({REASONS.get(one.reason, one.reason)})" if one.reason else ""
        said.append(f"{counted(one.count, f'{of}{what}')} {how}{why}")
    if not said:
        return "Nothing is missing: all that was seen on its hosts was read and paired."
    return f"Not among these figures: {'; '.join(said)}."


def _crumbs(state: State) -> list[tuple[str, str]]:
    """Returns where one is; each link takes off what is right of it."""
    name, operation, peer = (state.choice(choice) for choice in ("name", "operation", "peer"))
    if not name:
        return []
    crumbs = [("Services", state.link(name="", side="", operation="", peer="", only=""))]
    crumbs.append((name, state.link(operation="", peer="")))
    if operation:
        crumbs.append((operation, state.link(peer="")))
    if peer:
        crumbs.append((peer, state.link()))
    return crumbs
