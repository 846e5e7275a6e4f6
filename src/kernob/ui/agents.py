"""Agents: what do they cost, what do they lose, what is off and why?

A table, trouble first; the details of one agent are beside it, or below while there are few.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from nicegui.element import Element
from nicegui.elements.mixins.text_element import TextElement

from kernob.rates import count_text
from kernob.ui import source
from kernob.ui.chart import Chart, Series
from kernob.ui.colours import slots
from kernob.ui.figure import Figure
from kernob.ui.notes import Empty, Known
from kernob.ui.shell import Content, Page, Shell
from kernob.ui.table import Badge, Column, Name, Row, Table
from kernob.ui.words import length, thinned

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from kernob.queries import model
    from kernob.ui.state import State
    from kernob.ui.table import Cell, Look

FEW: Final = 8
"""Agents up to which the details fit below the table."""


def build(shell: Shell) -> Content:
    """Returns the page's question, and how it shows the answer."""
    return Content(ask=lambda state: [source.agents(state)], show=_View(shell).show)


PAGE: Final = Page("/agents", "Agents", "What do they cost, and what do they lose?", build)

_FIRST: Final = (
    Column("host", "Host", "name"),
    Column("state", "State", "state", hint="Late: three intervals silent; gone: 15 minutes"),
)
_COSTS: Final = (
    Column("cpu", "CPU", "share", hint="Of one core, within the range"),
    Column("memory", "Memory", "bytes", wide=True, hint="Resident, now"),
    Column("lost", "Lost", "state", hint="What could not be counted within the range"),
)
_ALL: Final = (
    *_FIRST,
    Column("last", "Heard", "ago", wide=True, hint="Its latest snapshot"),
    Column(
        "delay",
        "Delay",
        "seconds",
        wide=True,
        hint="From the latest snapshot to its place in the store",
    ),
    _COSTS[0],
    Column("cpu_line", "", "line", wide=True, hint="CPU over the range"),
    _COSTS[1],
    Column("memory_line", "", "line", wide=True, hint="Memory over the range"),
    Column("maps", "Kernel", "bytes", wide=True, hint="Memory of its tables in the kernel"),
    Column(
        "fill",
        "Fullest table",
        "bar",
        wide=True,
        hint="Of its tables in the kernel, the one with the least room",
        why="it has none: it polls",
    ),
    _COSTS[2],
    Column("off", "Off", "state", wide=True, hint="What it can't observe there; why: in its row"),
    Column("version", "Version", "text", wide=True, hint="Of Kernob, and how it counts"),
    Column("started", "Started", "ago", wide=True),
)
_BESIDE: Final = (*_FIRST, *_COSTS)
_REFUSED_LABEL: Final = "Refused by the server"
_IN_RANGE: Final = "in this range"
_REFUSED: Final = (
    Column("signal", "Signal", "text"),
    Column("reason", "Reason", "text"),
    Column(
        "requests",
        "Requests",
        "count",
        hint="Refused as a whole",
        why="single records of requests were refused",
    ),
    Column(
        "records",
        "Records",
        "count",
        hint="Points, spans, log records, profiles, refused while the rest was stored",
        why="not known: the requests were refused as a whole",
    ),
    Column(
        "seen",
        "Last",
        "ago",
        wide=True,
        none="not known",
        hint="At the latest",
        why="Only how many there were is known",
    ),
)


class _View:
    def __init__(self, shell: Shell) -> None:
        self._shell = shell
        self._empty = Empty(
            "No agent was heard of in this range",
            "Choose a longer range, or start one. An agent on this host comes with:",
            f"kernob agent --otlp {shell.server}",
        )
        with Element("div").classes("k-figures") as self._figures:
            self._count = Figure("Agents", "count")
            self._late = Figure("Late", "count")
            self._gone = Figure("Gone", "count")
            self._lost = Figure("Lost by agents", "count")
            self._requests = Figure("Requests refused", "count")
            self._records = Figure("Records refused", "count")
            self._polling = Figure("Polling", "count")
            self._series = Figure("Series", "count")
        for figure in (self._polling, self._series):
            figure.classes("k-wide")
        self._missing = TextElement(tag="p", text="").classes("k-note")
        with Element("div") as self._all:
            self._table = Table(shell, "Agents", _ALL, bones=4).classes("k-agents")
            self._details = _Details(shell)
            self._known = Known()
        self._refused = Table(
            shell,
            _REFUSED_LABEL,
            _REFUSED,
            name="refused.",
            plain=True,
            bones=1,
            empty="Nothing was refused.",
        )

    def show(self, answer: model.Agents) -> None:
        state, rows = self._shell.state, answer.rows
        chosen = _chosen(rows, state)
        self._empty.set_visibility(not rows)
        self._figures.set_visibility(bool(rows))
        self._all.set_visibility(bool(rows))
        # Senders without an agent are refused, too.
        self._refused.set_visibility(bool(rows or answer.refused.rows))
        beside = chosen is not None and len(rows) > FEW
        self._all.classes(add="k-beside" if beside else "", remove="" if beside else "k-beside")
        picked = state.choice("host")
        self._shell.crumbs.show([("Agents", state.link(host="")), (picked, "")] if picked else [])
        self._missing.set_text(f"The agent on {picked} was not heard of in this range.")
        self._missing.set_visibility(bool(picked and rows and not chosen))
        self._summarize(answer)
        known = any(row.delay is not None for row in rows)
        columns = _BESIDE if beside else [c for c in _ALL if known or c.name != "delay"]
        self._table.show(
            [_row(row, columns, state, self._shell.now()) for row in rows],
            columns=columns,
            chosen=picked,
        )
        self._known.show(answer.provenance, answer.range)
        since = answer.refused.since
        ago = f"since it started {length(self._shell.now() - since)} ago" if since else _IN_RANGE
        self._refused.show(
            [_refused(row) for row in answer.refused.rows], label=f"{_REFUSED_LABEL} {ago}"
        )
        self._details.show(answer, chosen)

    def _summarize(self, answer: model.Agents) -> None:
        states = [row.state for row in answer.rows]
        lost = sum(sum(row.lost.values()) for row in answer.rows)
        refused = answer.refused.rows
        self._count.show(len(states))
        self._polling.show(sum(1 for row in answer.rows if row.mode == "polling"))
        self._series.show(sum(row.series for row in answer.rows))
        _warn(self._late, states.count("late"), "attention")
        _warn(self._gone, states.count("gone"), "bad")
        _warn(self._lost, lost, "attention")
        _warn(self._requests, sum(row.requests or 0 for row in refused), "attention")
        _warn(self._records, sum(row.records or 0 for row in refused), "attention")


class _Details(Element):
    """All about one agent."""

    def __init__(self, shell: Shell) -> None:
        super().__init__("aside")
        self.classes("k-aside").props('aria-label="The chosen agent"')
        self._shell = shell
        with self:
            with Element("div").classes("k-row"):
                self._name = TextElement(tag="h2", text="")
                self._state = TextElement(tag="span", text="")
            with Element("div").classes("k-row"):
                self._version = Figure("Version", "text", small=True)
                self._mode = Figure("Mode", "text", small=True)
                self._started = Figure("Started", "ago", small=True)
                self._last = Figure("Heard", "ago", small=True)
                self._delay = Figure("Delay", "seconds", small=True)
                self._interval = Figure("Each", "seconds", small=True)
                self._series = Figure("Series", "count", small=True)
                self._maps = Figure("Kernel memory", "bytes", small=True)
                self._traffic = TextElement(tag="a", text="Traffic of this host")
            with Element("div").classes("k-columns"):
                with Element("div").classes("k-columns"):
                    with Element("div"):
                        with Element("div").classes("k-row"):
                            TextElement(tag="h2", text="CPU")
                            self._cpu = Figure("of one core", "share", small=True)
                        self._cpu_chart = Chart(
                            shell, "CPU", kind="share", height=120, legend="none"
                        )
                    with Element("div"):
                        with Element("div").classes("k-row"):
                            TextElement(tag="h2", text="Memory")
                            self._memory = Figure("resident", "bytes", small=True)
                        self._memory_chart = Chart(
                            shell, "Memory", kind="bytes", height=120, legend="none"
                        )
                with Element("div"):
                    self._fill = Table(
                        shell,
                        "Tables in the kernel",
                        _FILL,
                        name="table.",
                        plain=True,
                        bones=4,
                        empty="None: this agent polls.",
                    )
                with Element("div"):
                    TextElement(tag="h2", text="Lost in this range")
                    self._lost = _Facts()
                    TextElement(tag="h2", text="What it observes")
                    self._parts = _Facts()

    def show(self, answer: model.Agents, row: model.AgentRow | None) -> None:
        self.set_visibility(row is not None)
        if row is None:
            return
        self._name.set_text(row.host)
        badge = _state(row, self._shell.now())
        self._state.set_text(badge.text)
        self._state.classes(replace=f"k-{badge.look}")
        self._version.show(row.version or None)
        self._mode.show(row.mode)
        self._started.show(row.started)
        self._last.show(row.last)
        self._delay.set_visibility(row.delay is not None)
        self._delay.show(None if row.delay is None else row.delay / 1000)
        self._interval.show(row.interval / 1000)
        self._series.show(row.series)
        self._traffic.props["href"] = self._shell.state.link("/traffic", host=row.host)
        self._cpu.show(row.cpu)
        self._memory.show(row.memory)
        self._maps.show(row.map_memory)
        colour = slots([row.host], "host")[row.host]
        for chart, line in ((self._cpu_chart, row.cpu_line), (self._memory_chart, row.memory_line)):
            chart.show(answer.range, answer.times, [Series(row.host, line, colour)])
        self._fill.show(
            [Row(name, [name, _share(*fill), *fill]) for name, fill in sorted(row.fill.items())]
        )
        self._lost.show(_losses(row.lost))
        self._parts.show(_parts(row.parts))


_FILL: Final = (
    Column("table", "Table", "text"),
    Column("fill", "Full", "bar"),
    Column("entries", "Entries", "count"),
    Column("room", "Room", "count"),
)


class _Facts(Element):
    """Names, each with a few words; a look for what isn't as it should be."""

    def __init__(self) -> None:
        """Makes an empty list."""
        super().__init__("dl")
        self.classes("k-facts")
        self._shown: Sequence[tuple[str, str, Look]] | None = None

    def show(self, facts: Sequence[tuple[str, str, Look]]) -> None:
        """Shows name, words and look of each."""
        if facts == self._shown:
            return
        self._shown = facts
        self.clear()
        with self:
            for name, words, look in facts:
                TextElement(tag="dt", text=name).classes(f"k-{look}" if look != "calm" else "")
                TextElement(tag="dd", text=words)


def _chosen(rows: Sequence[model.AgentRow], state: State) -> model.AgentRow | None:
    """Returns the agent that the URL names; without a name, the only one there is."""
    host = state.choice("host")
    if not host and len(rows) == 1:
        return rows[0]
    return next((row for row in rows if row.host == host), None)


def _warn(figure: Figure, value: float, look: Look) -> None:
    """Shows a count that had better be 0."""
    figure.show(value)
    figure.classes(add=f"k-{look}" if value else "", remove="" if value else f"k-{look}")


def _row(row: model.AgentRow, columns: Sequence[Column], state: State, now: int) -> Row:
    # A second click on the chosen one closes its details.
    host = "" if row.host == state.choice("host") else row.host
    off = [part for part in row.parts if not part.on]
    fullest = max((_share(*fill) for fill in row.fill.values()), default=None)
    cells: dict[str, Cell] = {
        "host": Name(row.host, state.link(host=host)),
        "state": _state(row, now),
        "last": row.last,
        "delay": None if row.delay is None else row.delay / 1000,
        "cpu": row.cpu,
        "cpu_line": thinned(row.cpu_line),
        "memory": row.memory,
        "memory_line": thinned(row.memory_line),
        "maps": row.map_memory,
        "fill": fullest,
        "lost": _lost(row.lost),
        "off": Badge(
            ", ".join(part.name for part in off) or "nothing",
            hint="\n".join(f"{part.name}: {part.reason}" for part in off),
            order=len(off),
        ),
        "version": f"{row.version} {row.mode}".strip(),
        "started": row.started,
    }
    return Row(row.host, [cells[column.name] for column in columns])


def _state(row: model.AgentRow, now: int) -> Badge:
    if row.state == "ok":
        return Badge("ok", order=0)
    silent = now - row.last
    look: Look = "bad" if row.state == "gone" else "attention"
    return Badge(f"{row.state}, {length(silent)}", look, order=silent)


def _refused(row: model.RefusedRow) -> Row:
    cells = [row.signal, row.reason, row.requests, row.records, row.last]
    return Row(f"{row.signal} {row.reason}", cells)


def _share(entries: int, room: int) -> float:
    return entries / room if room else 0.0


def _lost(lost: Mapping[str, float]) -> Badge:
    if not lost:
        return Badge("nothing", order=0)
    total = sum(lost.values())
    hint = "\n".join(f"{words}: {count}" for words, count, _ in _losses(lost))
    return Badge(count_text(total), "attention", hint, order=total)


def _losses(lost: Mapping[str, float]) -> list[tuple[str, str, Look]]:
    """Returns each reason in words with its count, the largest first."""
    worst = sorted(lost.items(), key=lambda item: -item[1])
    return [(_words(reason), f"{n:,.0f}", "attention") for reason, n in worst] or [
        ("nothing lost", "", "calm")
    ]


def _words(reason: str) -> str:
    """Returns a reason in words; some are words already."""
    return reason if " " in reason else reason.replace("_", " ")


def _parts(parts: Sequence[model.AgentPart]) -> list[tuple[str, str, Look]]:
    """Returns what is off, each with the reason, then what is on."""
    order = sorted(parts, key=lambda part: part.on)
    return [(part.name, "on" if part.on else f"off: {part.reason}", "calm") for part in order]
