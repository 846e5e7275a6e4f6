"""The live table of traffic, around `kernob.rates`."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, ClassVar, Final, NamedTuple

from textual.binding import Binding, BindingType

from kernob import rates
from kernob.rates import VIEWS, Key, Line, View
from kernob.top import cells, columns, words
from kernob.top.base import SHOWN, LiveApp
from kernob.top.help import Help
from kernob.top.table import LinesTable
from kernob.top.themes import DARK

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from textual.app import ComposeResult
    from textual.theme import Theme

HISTORY: Final = 60
"""Samples in the sparklines."""
SORT_KEYS: Final = {
    "m": "share",
    "t": "transmit",
    "r": "receive",
    "T": "transmitted",
    "R": "received",
    "o": "operations",
    "c": "connections",
    "p": "pid",
    "u": "user",
    "s": "service",
}
NAMES: Final[dict[View, str]] = {"process": "program", "service": "service", "peer": "peer"}


class Scope(NamedTuple):
    """A line that was opened: everything is about its flows until the user goes back."""

    view: View
    key: Key
    label: str
    came_from: View


class TopApp(LiveApp[rates.Sample]):
    """The application that shows who moves how much.

    Args:
        source: see `kernob.top.run`.
        view: the first view.
        interval: seconds between two tables.
        sort: column that view is sorted by.
        reverse: the other way round.
        filter_text: the first filter.
        theme: colours.

    """

    TITLE = "kernob top"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("1", "view('process')"),
        Binding("2", "view('service')"),
        Binding("3", "view('peer')"),
        Binding("n", "sort_name"),
        *(Binding(key, f"sort('{name}')") for key, name in SORT_KEYS.items()),
    ]
    _view: View

    def __init__(
        self,
        source: Callable[[View], rates.Sample | None],
        *,
        view: View = "process",
        interval: float = 1.0,
        sort: str = columns.DEFAULT_SORT,
        reverse: bool = False,
        filter_text: str = "",
        theme: Theme = DARK,
    ) -> None:
        super().__init__(
            view=view,
            orders={
                **dict.fromkeys(VIEWS, (columns.DEFAULT_SORT, False)),
                view: (sort, reverse),
            },
            interval=interval,
            filter_text=filter_text,
            theme=theme,
        )
        self._source = source
        self._scopes: list[Scope] = []
        self._history: deque[words.Rates | None] = deque(maxlen=HISTORY)

    def _below(self) -> ComposeResult:
        yield LinesTable(id="peers")

    def on_mount(self) -> None:
        """Leaves the keys to the upper table."""
        self.query_one("#peers", LinesTable).can_focus = False

    def _ask(self) -> rates.Sample | None:
        return self._source(self._view)

    def _columns(self) -> Sequence[cells.Column]:
        return columns.COLUMNS[self._view]

    def _came(self, sample: rates.Sample | None) -> None:
        if sample is None:
            self._history.append(None)
            return
        everything = rates.total(sample)
        self._history.append(words.Rates(everything.transmit_rate, everything.receive_rate))

    # -- hands -------------------------------------------------------------------------------------

    def action_view(self, view: View) -> None:
        """Shows another view."""
        if view in self._views() and view != self._view:
            self._view = view
            if self._shown and self._shown.by:
                self._hurry.set()
            self._start_over()

    def _views(self) -> list[View]:
        """Returns the views that say something here: none of what is fixed by an opened line."""
        fixed = {scope.view for scope in self._scopes}
        if "process" in fixed:
            fixed.add("service")
        return [view for view in VIEWS if view not in fixed]

    def _start_over(self) -> None:
        table = self.query_one("#lines", LinesTable)
        table.selected = None
        table.scroll_to(y=0, animate=False, immediate=True)
        self._draw()

    def action_next_view(self, step: int) -> None:
        """Shows the view to the right or left."""
        views = self._views()
        self.action_view(views[(views.index(self._view) + step) % len(views)])

    def on_lines_table_opened(self, message: LinesTable.Opened) -> None:
        """Shows only the flows of a line, in the view that says most of it."""
        line: Line = message.line
        if self._shown and self._shown.by:
            return  # A server's rows are sums: there is nothing inside.
        label = {
            "process": f"{line.row.executable or '(ended)'} {line.row.pid or ''}".strip(),
            "service": line.row.service,
            "peer": f"{line.row.peer}:{line.row.port}",
        }[self._view]
        self._scopes.append(Scope(self._view, line.key, label, self._view))
        views = self._views()
        if not views:
            self._scopes.pop()
            return
        self._view = "peer" if self._view == "process" and "peer" in views else views[0]
        self._start_over()

    def _go_back(self) -> bool:
        if not self._scopes:
            return False
        scope = self._scopes.pop()
        self._view = scope.came_from
        self._start_over()
        self.query_one("#lines", LinesTable).selected = scope.key
        return True

    def action_sort_name(self) -> None:
        """Sorts by the name of what the view shows."""
        self.action_sort(NAMES[self._view])

    def action_help(self) -> None:
        """Shows the keys."""
        sample = self._shown
        self.push_screen(Help(sample.table.description if sample else ""))

    # -- drawing -----------------------------------------------------------------------------------

    def _draw(self) -> None:
        self._draw_head()
        self._draw_lines()
        self._draw_notes(columns.losses_text(self._shown.table) if self._shown else "")

    def _draw_head(self) -> None:
        table = self._shown.table if self._shown else None
        self._set("title", words.title(table))
        self._set("state", words.state(self._shown, paused=self._paused))
        about = table.description if table and table.mode != "ebpf" else ""
        self._set("about", about, hide_if_empty=True)
        self._set("machine", words.machine(self._shown, list(self._history), self.size.width))

    def _draw_lines(self) -> None:
        flows = sample.flows if (sample := self._fitting()) else []
        for scope in self._scopes:
            flows = [flow for flow in flows if rates.key_of(flow.row, scope.view) == scope.key]
        self._draw_facts(flows)
        flows = rates.matching(flows, self._filter)
        self._draw_views(flows)
        table = self.query_one("#lines", LinesTable)
        self._fill(table, self._view, flows)
        # A service that was opened shows its processes, and its peers below them.
        peers = self.query_one("#peers", LinesTable)
        peers.display = bool(self._scopes) and self._view == "process" and "peer" in self._views()
        table.set_class(peers.display, "above")
        if peers.display:
            self._fill(peers, "peer", flows)

    def _fill(self, table: LinesTable, view: View, flows: list[rates.Flow]) -> None:
        sample = self._fitting()
        name, reverse = self._orders[view]
        order = columns.column(view, name)
        lines: list[Line] = []
        everything = Line((), 1.0)
        others = None
        if sample is not None:
            everything = rates.total(sample)
            lines = columns.ordered(rates.lines(sample, view, flows), order, reverse=reverse)
            if len(lines) > SHOWN:
                others = rates.summed(lines[SHOWN:], sample.seconds)
        table.show(
            columns.COLUMNS[view],
            order,
            lines[:SHOWN],
            reverse=reverse,
            others=others,
            scale=columns.Scale(
                everything.moved_transmit + everything.moved_receive,
                operations=sample is None or columns.counts_operations(sample.table),
            ),
            empty=self._empty(),
            absent=columns.absent(view, self._shown),
        )

    def _fitting(self) -> rates.Sample | None:
        """Returns what is shown, if it makes this view."""
        sample = self._shown
        return sample if sample is None or sample.by in (None, self._view) else None

    def _empty(self) -> str:
        if self._fitting() is None:
            return "no figures yet" if self._error else "measuring…"
        if self._filter:
            return f"nothing matches “{self._filter}”; Esc clears the filter"
        if self._scopes:
            return "it has gone; Esc goes back"
        return "nothing has moved yet: no process has used TCP or UDP since the agent started"

    def _draw_facts(self, flows: list[rates.Flow]) -> None:
        """Says what is opened, and of a process what has no room in the table."""
        facts = [words.PATH.join(scope.label for scope in self._scopes)]
        if self._scopes and self._scopes[-1].view == "process" and flows:
            row = flows[0].row
            facts += [row.user, row.service, row.container, row.command]
        text = "  ·  ".join(fact for fact in facts if fact)
        self._set("facts", cells.printable(text), hide_if_empty=True)

    def _draw_views(self, flows: list[rates.Flow]) -> None:
        counts = {
            view: len({rates.key_of(flow.row, view) for flow in flows})
            if self._shown is None or self._shown.by in (None, view)
            else None
            for view in self._views()
        }
        self._set("views", words.views(counts, self._view))
