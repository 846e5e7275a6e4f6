"""Overview: is anything wrong now, what changed?

First what is wrong, worst first, or "All quiet" and what that covers; then who is busy now, the
hosts, and who else sends OTLP here. As long as nothing was ever stored: how to begin.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from nicegui.element import Element
from nicegui.elements.mixins.text_element import TextElement

from kernob.ui import source
from kernob.ui.chart import Chart, Series
from kernob.ui.colours import slots
from kernob.ui.command import Command
from kernob.ui.notes import Known
from kernob.ui.shell import Content, Page, Shell
from kernob.ui.state import parse
from kernob.ui.table import Badge, Column, Name, Row, Table
from kernob.ui.words import counted, length, thinned

if TYPE_CHECKING:
    from kernob.queries import model
    from kernob.ui.state import State

FINDINGS: Final = 5
BUSY: Final = 8
HOSTS: Final = 8
HEALTHS: Final = 5
SENDERS: Final = 5
"""Rows that leave all of the page in sight; each list links to the rest."""
AGENTS: Final[dict[str, Badge]] = {
    "ok": Badge("ok"),
    "late": Badge("late", "attention"),
    "gone": Badge("gone", "bad"),
    "none": Badge(
        "no agent", hint="Another sender says what it moves: an application, a Collector"
    ),
}
"""What is said of a host's agent, by its state."""


def build(shell: Shell) -> Content:
    """Returns the page's question, and how it shows the answer."""
    return Content(ask=lambda state: [source.overview(state)], show=_View(shell).show)


PAGE: Final = Page("/", "Overview", "Is anything wrong now, what changed?", build)

_BUSY_COLUMNS: Final = (
    Column("name", "Service", "name"),
    Column("out", "Out", "rate", hint="Sent per second, in the latest complete step"),
    Column("in", "In", "rate", hint="Received per second, in the latest complete step"),
    Column("total", "Total", "bytes", wide=True, hint="Out and in together, within the range"),
    Column("peers", "Peers", "count", wide=True, hint="Different ones within the range"),
    Column(
        "since",
        "Busy since",
        "ago",
        none="quiet",
        hint="Start of the latest stretch without a pause",
        why="It moves nothing now",
    ),
)
_HEALTH_COLUMNS: Final = (
    Column("service", "Service", "name"),
    Column("state", "State", "state", hint="The last five minutes against the hour before"),
    Column("side", "Side", "text", wide=True, hint="As server, or as client"),
    Column("rate", "Requests", "per_second", hint="In the last five minutes"),
    Column("failing", "Failing", "share", hint="Of its requests, in the last five minutes"),
    Column("p95", "p95", "seconds", hint="95 % of them took at most this", why="no request lately"),
)
_HOST_COLUMNS: Final = (
    Column("host", "Host", "name"),
    Column("state", "Agent", "state", hint="Whether its agent is heard of"),
    Column("services", "Services", "count", wide=True, hint="Moving bytes within the range"),
    Column("rate", "Rate", "rate", hint="Out and in together, now", why="its agent is silent"),
    Column("line", "Range", "line", hint="Out and in together, over the range"),
)
_SENDER_COLUMNS: Final = (
    Column("service", "Service", "text"),
    Column("points", "Points", "count", hint="Of metrics, within the range"),
    Column("spans", "Spans", "count", hint="Within the range"),
    Column("logs", "Logs", "count", hint="Within the range"),
)


class _View:
    def __init__(self, shell: Shell) -> None:
        self._shell = shell
        self._findings = _Findings()
        self._begin = _beginning(shell.server)
        with Element("div").classes("k-split") as self._all:
            with Element("div"):
                TextElement(tag="h2", text="Busiest services").classes("k-over")
                self._chart = Chart(shell, "Busiest services", height=216, legend="none")
                self._known = Known()
                self._busy = Table(
                    shell,
                    "Busy now",
                    _BUSY_COLUMNS,
                    plain=True,
                    bones=BUSY,
                    empty="No service moves a byte now.",
                )
                self._more_busy = _More()
            with Element("div"):
                self._health = Table(
                    shell, "Requests", _HEALTH_COLUMNS, name="health.", plain=True, bones=0
                )
                self._more_health = _More()
                self._hosts = Table(
                    shell,
                    "Hosts",
                    _HOST_COLUMNS,
                    name="host.",
                    plain=True,
                    bones=2,
                    empty="No agent was heard of in this range: choose a longer one.",
                )
                self._more_hosts = _More()
                self._senders = Table(
                    shell,
                    "Other OTLP senders",
                    _SENDER_COLUMNS,
                    name="sender.",
                    plain=True,
                    bones=2,
                    empty="No application sent OTLP of its own in this range.",
                )

    def show(self, answer: model.Overview) -> None:
        state = self._shell.state
        self._begin.set_visibility(answer.empty)
        self._all.set_visibility(not answer.empty)
        # All that came may have been refused: then nothing is stored, and that is said.
        self._findings.set_visibility(bool(answer.findings) or not answer.empty)
        self._findings.show(answer, state)
        totals = {row.name: row.transmit + row.receive for row in answer.busy}
        drawn = slots(line.name for line in answer.lines)
        series = [_series(line, drawn, totals.get(line.name)) for line in answer.lines]
        self._chart.show(answer.range, answer.times, series, answer.marks)
        self._known.show(answer.provenance, answer.range)
        self._health.set_visibility(bool(answer.health))
        self._health.show([_health(one, state) for one in answer.health[:HEALTHS]])
        more = "All services with requests" if len(answer.health) > HEALTHS else ""
        self._more_health.show(more, state.link("/service"))
        self._busy.show([_busy(row, state, drawn) for row in answer.busy[:BUSY]])
        self._more_busy.show("All services", state.link("/traffic"))
        self._hosts.show([_host(row, state) for row in answer.hosts[:HOSTS]])
        left = len(answer.hosts) - HOSTS
        self._more_hosts.show(
            f"{counted(left, 'more host')}" if left > 0 else "", state.link("/traffic", by="host")
        )
        left = len(answer.senders) - SENDERS
        self._senders.show(
            [
                Row(one.service, [one.service, one.points, one.spans, one.logs])
                for one in answer.senders[:SENDERS]
            ],
            label="Other OTLP senders"
            + (f", the {SENDERS} largest of {left + SENDERS}" * (left > 0)),
        )


class _More(TextElement):
    """A link to the rest of a list; hidden without a text."""

    def __init__(self) -> None:
        super().__init__(tag="a", text="")
        self.classes("k-more")

    def show(self, text: str, link: str) -> None:
        self.set_text(text)
        self.props["href"] = link
        self.set_visibility(bool(text))


class _Findings(Element):
    """What is wrong, worst first, or that all is quiet."""

    def __init__(self) -> None:
        super().__init__("section")
        self.classes("k-findings").props('aria-live="polite"')
        self._shown: object = None

    def show(self, answer: model.Overview, state: State) -> None:
        every = state.choice("findings") == "all"
        found = answer.findings if every else answer.findings[:FINDINGS]
        quiet = _quiet(answer, state)
        shown = (found, len(answer.findings), quiet, state.query())
        # What hasn't changed keeps the keyboard's focus.
        if shown == self._shown:
            return
        self._shown = shown
        self.clear()
        with self:
            if not found:
                TextElement(tag="h2", text="All quiet")
                TextElement(tag="p", text=quiet)
                return
            with Element("ul"):
                for finding in found:
                    with Element("li"):
                        link = TextElement(tag="a", text=finding.text)
                        link.classes(f"k-finding k-is-{finding.severity}")
                        link.props["href"] = _link(state, finding.link)
            left = len(answer.findings) - len(found)
            if left:
                _More().show(f"{left:,} more", state.link(findings="all"))


def _quiet(answer: model.Overview, state: State) -> str:
    """Returns what "all quiet" covers."""
    alone = sum(1 for host in answer.hosts if host.state == "none")
    without = f" ({alone:,} without an agent)" if alone else ""
    covered = [counted(len(answer.hosts), "host") + without]
    covered.append(counted(answer.services, "service"))
    if answer.senders:
        covered.append(counted(len(answer.senders), "other sender"))
    when = f"in the last {length(state.span.length)}" if state.span.length else "in the range above"
    return f"{', '.join(covered)}: no agent late, nothing lost {when}."


def _beginning(server: str) -> Element:
    """Returns what to do while nothing was ever stored; hidden until it is shown."""
    with Element("div").classes("k-empty") as made:
        TextElement(tag="h2", text="Nothing was stored yet")
        TextElement(
            tag="p",
            text="This page fills by itself once something is sent. What this host's services do, "
            "without any change to them, is told by an agent:",
        )
        Command(f"kernob agent --otlp {server}")
        TextElement(
            tag="p",
            text="Applications with an OpenTelemetry SDK, and Collectors, send here too: metrics, "
            "traces and logs. Set in their environment:",
        )
        Command(
            f"export OTEL_EXPORTER_OTLP_ENDPOINT={server}\n"
            "export OTEL_EXPORTER_OTLP_PROTOCOL=http/protobuf"
        )
        TextElement(
            tag="p",
            text="Other hosts can send once the server listens off loopback, with a token "
            "(server.listen and server.token_file).",
        )
    made.set_visibility(False)
    return made


def _series(line: model.Line, drawn: dict[str, int], total: float | None) -> Series:
    pairs = zip(line.transmit, line.receive, strict=True)
    values = [
        None if out is None and in_ is None else (out or 0) + (in_ or 0) for out, in_ in pairs
    ]
    return Series(line.name, values, drawn[line.name], total)


def _busy(row: model.TrafficRow, state: State, drawn: dict[str, int]) -> Row:
    name = Name(row.name, state.link("/traffic", service=row.name), drawn.get(row.name, -1))
    total = row.transmit + row.receive
    return Row(row.name, [name, row.transmit_rate, row.receive_rate, total, row.peers, row.since])


def _health(one: model.Health, state: State) -> Row:
    target = state.link("/service", name=one.service, side=one.side)
    words = {"ok": "ok", "attention": "worse", "bad": "fails"}
    badge = Badge(words[one.state], "calm" if one.state == "ok" else one.state, one.why)
    figures = (one.rate, one.error_share, one.p95)
    return Row(f"{one.service} {one.side}", [Name(one.service, target), badge, one.side, *figures])


def _host(row: model.HostRow, state: State) -> Row:
    silent = row.state in ("late", "gone")
    rate = None if silent else row.transmit_rate + row.receive_rate
    return Row(
        row.host,
        [
            Name(row.host, state.link("/traffic", host=row.host)),
            AGENTS[row.state],
            row.services,
            rate,
            thinned(row.line),
        ],
    )


def _link(state: State, link: str) -> str:
    """Returns a finding's link with the range of this page."""
    there = urlsplit(link)
    return state.link(there.path, **parse(there.query).choices)
