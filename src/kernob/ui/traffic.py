"""Traffic: who uses the network?

A stacked chart and the table under it, by service, process, peer or host. What is chosen there is
the same page with only what is its own: a service by its peers, with its processes below.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, cast

from nicegui.element import Element
from nicegui.elements.mixins.text_element import TextElement

from kernob.queries.model_requests import Requests
from kernob.ui import source
from kernob.ui.chart import Chart, Series
from kernob.ui.colours import slots
from kernob.ui.figure import Figure
from kernob.ui.notes import Empty, Known
from kernob.ui.shell import Content, Page, Shell
from kernob.ui.switch import Switch
from kernob.ui.table import Column, Name, Row, Table

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kernob.queries import model
    from kernob.ui.source import Ask
    from kernob.ui.state import State
    from kernob.ui.table import Cell

FILTERS: Final = ("host", "service", "process", "peer")
DIRECTIONS: Final = (("both", "both"), ("transmit", "out"), ("receive", "in"))
HEADINGS: Final[dict[model.Grouping, str]] = {
    "service": "Services",
    "process": "Processes",
    "peer": "Peers",
    "host": "Hosts",
}
# What is worth grouping by once something is chosen, the first by itself.
_GROUPINGS: Final[dict[str, tuple[model.Grouping, ...]]] = {
    "": ("service", "process", "peer", "host"),
    "host": ("service", "process", "peer"),
    "service": ("peer", "process", "host"),
    "process": ("peer",),
    "peer": ("service", "process", "host"),
}
_DIRECTION_WORDS: Final = {"both": "out and in", "transmit": "out", "receive": "in"}


def build(shell: Shell) -> Content:
    """Returns the page's questions, and how it shows the answers."""
    view = _View(shell)
    return Content(ask=_ask, show=view.show)


PAGE: Final = Page("/traffic", "Traffic", "Who uses the network?", build)


def _chosen(state: State) -> str:
    """Returns the innermost filter that is set, empty for none."""
    return next((name for name in ("process", "service", "peer", "host") if state.choice(name)), "")


def _grouping(state: State) -> model.Grouping:
    return cast("model.Grouping", state.choice("by", *_GROUPINGS[_chosen(state)]))


def _direction(state: State) -> model.Direction:
    return cast("model.Direction", state.choice("show", *(value for value, _ in DIRECTIONS)))


def _ask(state: State) -> Sequence[Ask[Any]]:
    filters = {name: state.choice(name) for name in FILTERS}
    by, direction = _grouping(state), _direction(state)
    asked: list[Ask[Any]] = [source.traffic(state, by, direction, **filters)]
    if by != "process" and not filters["process"]:
        wanted = {name: filters[name] for name in ("host", "service", "peer")}
        asked.append(source.requests(state, by, **wanted))
    if _chosen(state) == "service" and by != "process":
        asked.append(source.traffic(state, "process", direction, **filters))
    return asked


class _View:
    def __init__(self, shell: Shell) -> None:
        self._shell = shell
        groupings = _options(shell.state)
        with shell.head:
            self._asked = TextElement(tag="a", text="Its requests").classes("k-more")
            self._asked.set_visibility(False)
            self._by = Switch(shell, "by", groupings, label="by")
            self._direction = Switch(shell, "show", DIRECTIONS, label="show")
        with Element("div").classes("k-figures") as self._figures:
            self._rates = (Figure("Out now", "rate"), Figure("In now", "rate"))
            self._totals = (Figure("Out total", "bytes"), Figure("In total", "bytes"))
            self._count = Figure("Services", "count")
        self._chart = Chart(shell, "Traffic", height=288)
        self._known = Known()
        self._table = Table(shell, "Services", _columns("service"), order="-share", bones=10)
        self._processes = Table(
            shell, "Processes", _columns("process"), order="-share", name="process.", bones=2
        )
        self._processes.set_visibility(_chosen(shell.state) == "service")
        self._empty = Empty(
            "No agent has reported traffic in this range",
            "Start an agent on a host, or choose a longer range. An agent on this host comes with:",
            "kernob up",
        )

    def show(self, answer: model.Traffic, *others: model.Traffic | Requests) -> None:
        state = self._shell.state
        processes = next((one for one in others if not isinstance(one, Requests)), None)
        requests = next((one for one in others if isinstance(one, Requests)), None)
        direction = _direction(state)
        heading = HEADINGS[answer.by]
        self._shell.crumbs.show(_crumbs(state))
        self._by.show(_options(state))
        self._direction.show()
        nothing = not answer.rows and not _chosen(state)
        self._empty.set_visibility(nothing)
        for piece in (self._figures, self._chart, self._table, self._known):
            piece.set_visibility(not nothing)
        self._rates[0].show(sum(row.transmit_rate for row in answer.rows))
        self._rates[1].show(sum(row.receive_rate for row in answer.rows))
        self._totals[0].show(answer.transmit)
        self._totals[1].show(answer.receive)
        self._count.show(len(answer.rows) + answer.rows_left_off, label=heading)
        rows = {row.key: row for row in answer.rows}
        names = slots((line.name for line in answer.lines), answer.by)
        series = [
            _series(line, direction, rows.get(line.key), names[line.name]) for line in answer.lines
        ]
        label = f"Traffic by {answer.by}, {_DIRECTION_WORDS[direction]}"
        self._chart.show(answer.range, answer.times, series, answer.marks, label=label)
        self._known.show(answer.provenance, answer.range)
        drawn = {line.key: names[line.name] for line in answer.lines}
        self._fill(self._table, answer, direction, drawn, requests)
        asked = bool(requests and requests.rows and _chosen(state) == "service")
        self._asked.set_visibility(asked)
        self._asked.props["href"] = state.link("/service", name=state.choice("service"))
        self._processes.set_visibility(processes is not None)
        if processes is not None:
            self._fill(self._processes, processes, direction, {})

    def _fill(
        self,
        table: Table,
        answer: model.Traffic,
        direction: str,
        drawn: dict[str, int],
        requests: Requests | None = None,
    ) -> None:
        state = self._shell.state
        asked: dict[str, tuple[int, int]] = {}
        for one in requests.rows if requests else ():
            count, errors = asked.get(one.key, (0, 0))
            asked[one.key] = (count + one.requests, errors + one.errors)
        whole = sum(_bytes(row, direction) for row in answer.rows) or 1
        rows = []
        for row in answer.rows:
            name = Name(
                f"{row.name} {row.pid}" if row.pid else row.name,
                _link(state, answer.by, row),
                drawn.get(row.key, -1) if drawn else None,
                row.service if answer.by == "process" else "",
            )
            figures = (row.transmit_rate, row.receive_rate, row.transmit, row.receive)
            share = _bytes(row, direction) / whole
            rest: list[Cell] = [row.peers, row.connections]
            if requests:
                rest += asked.get(row.key, (None, None))
            rest += [row.since, ", ".join(row.hosts)]
            rows.append(Row(row.key, [name, *figures, share, *rest]))
        heading, columns = HEADINGS[answer.by], _columns(answer.by, asked=requests is not None)
        table.show(rows, more=answer.rows_left_off, label=heading, columns=columns)


def _options(state: State) -> list[tuple[str, str]]:
    return [(by, by) for by in _GROUPINGS[_chosen(state)]]


def _columns(by: model.Grouping, *, asked: bool = False) -> list[Column]:
    requests = [
        Column(
            "requests",
            "Requests",
            "count",
            wide=True,
            hint="Served and made, within the range",
            why="No request of a protocol that is read",
        ),
        Column(
            "errors",
            "Errors",
            "count",
            wide=True,
            hint="Requests that failed, within the range",
            why="No request of a protocol that is read",
        ),
    ]
    return [
        Column("name", by.capitalize(), "name"),
        Column("out", "Out", "rate", hint="Sent per second, in the latest complete step"),
        Column("in", "In", "rate", hint="Received per second, in the latest complete step"),
        Column("total_out", "Total out", "bytes", wide=True, hint="Sent within the range"),
        Column("total_in", "Total in", "bytes", wide=True, hint="Received within the range"),
        Column("share", "Share", "bar", hint="Of all bytes within the range"),
        Column("peers", "Peers", "count", wide=True, hint="Different ones within the range"),
        Column(
            "connections",
            "Connections",
            "count",
            wide=True,
            hint="TCP, open now",
            why="Connections are counted for services, not for processes",
        ),
        *(requests if asked else ()),
        Column(
            "since",
            "Busy since",
            "ago",
            wide=True,
            none="quiet",
            hint="Start of the latest stretch without a pause",
        ),
        Column("hosts", "Hosts", "text", wide=True, hint="Where it was seen"),
    ]


def _bytes(row: model.TrafficRow, direction: str) -> int:
    sent = row.transmit if direction != "receive" else 0
    return sent + (row.receive if direction != "transmit" else 0)


def _series(line: model.Line, direction: str, row: model.TrafficRow | None, slot: int) -> Series:
    if direction == "both":
        pairs = zip(line.transmit, line.receive, strict=True)
        values = [
            None if out is None and in_ is None else (out or 0) + (in_ or 0) for out, in_ in pairs
        ]
    else:
        values = list(line.transmit if direction == "transmit" else line.receive)
    total = None if row is None else _bytes(row, direction)
    return Series(line.name, values, slot, total)


def _link(state: State, by: model.Grouping, row: model.TrafficRow) -> str:
    """Returns the same page with only this row's traffic."""
    own = {"by": "", "only": "", "sort": "", "filter": "", "process.sort": "", "process.filter": ""}
    if by == "process":
        return state.link(**own | {"process": row.key, "service": row.service})
    return state.link(**own | {by: row.key})


def _crumbs(state: State) -> list[tuple[str, str]]:
    """Returns where one is; each link takes off what is right of it."""
    chosen = [name for name in FILTERS if state.choice(name)]
    if not chosen:
        return []
    off = dict.fromkeys(
        (*FILTERS, "by", "only", "sort", "filter", "process.sort", "process.filter"), ""
    )
    crumbs = [("Traffic", state.link(**off))]
    for at, name in enumerate(chosen):
        kept = {other: state.choice(other) for other in chosen[: at + 1]}
        crumbs.append((state.choice(name), state.link(**off | kept)))
    return crumbs
