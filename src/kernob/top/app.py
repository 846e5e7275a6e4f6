"""The live table: a Textual application around `kernob.rates`."""

from __future__ import annotations

import threading
import time
from collections import deque
from datetime import datetime
from typing import TYPE_CHECKING, ClassVar, Final, NamedTuple

from textual.app import App
from textual.binding import Binding, BindingType
from textual.containers import Horizontal
from textual.message import Message
from textual.widgets import Input, Static

from kernob import rates
from kernob.errors import KernobError
from kernob.rates import VIEWS, Key, Line, View
from kernob.top import columns, words
from kernob.top.help import Help
from kernob.top.remote import TIMEOUT
from kernob.top.table import LinesTable
from kernob.top.themes import DARK, LIGHT, PLAIN

if TYPE_CHECKING:
    from collections.abc import Callable

    from textual.app import ComposeResult
    from textual.content import Content
    from textual.theme import Theme

SHOWN: Final = 500
"""Lines that go into the table; the rest is one line, "others"."""
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


class TopApp(App[None]):
    """The application.

    Args:
        source: see `kernob.top.run`.
        view: the first view.
        interval: seconds between two tables.
        sort: column that view is sorted by.
        reverse: the other way round.
        filter_text: the first filter.
        theme: colours.

    """

    CSS = """
    Screen { background: $background; color: $foreground; overflow: hidden; }
    #head { height: 1; padding: 0 1; }
    #title { width: 1fr; height: 1; }
    #state { width: auto; height: 1; }
    #machine { height: 1; padding: 0 1; text-wrap: nowrap; }
    #about { height: auto; max-height: 3; padding: 0 1; color: $warning; }
    #facts { height: 1; padding: 0 1; color: $quiet; text-wrap: nowrap; text-overflow: ellipsis; }
    #choice { height: 1; margin: 1 0 0 0; padding: 0 1; }
    #views { width: auto; height: 1; text-wrap: nowrap; }
    #filter { width: 1fr; margin: 0 0 0 3; background: $background; }
    #filter:focus { background: $panel; background-tint: transparent 0%; }
    #filter > .input--placeholder { color: $quiet; }
    #lines { height: 1fr; }
    #lines.above { height: auto; max-height: 50%; }
    #peers { height: 1fr; margin: 1 0 0 0; }
    .note { height: auto; max-height: 3; padding: 0 1; color: $warning; }
    #error { color: $error; }
    #keys { height: 1; padding: 0 1; color: $quiet; text-wrap: nowrap; text-overflow: ellipsis; }
    """
    TITLE = "kernob top"
    ENABLE_COMMAND_PALETTE = False
    ALLOW_SELECT = False
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("q", "quit"),
        Binding("ctrl+c", "quit", priority=True),
        Binding("1", "view('process')"),
        Binding("2", "view('service')"),
        Binding("3", "view('peer')"),
        # At once, or what is typed quickly after it would be taken for keys of the table.
        Binding("slash", "filter", priority=True),
        Binding("less_than_sign", "sort_next(-1)"),
        Binding("greater_than_sign", "sort_next(1)"),
        Binding("i", "reverse"),
        Binding("n", "sort_name"),
        *(Binding(key, f"sort('{name}')") for key, name in SORT_KEYS.items()),
        Binding("space", "pause"),
        Binding("escape", "leave"),
        Binding("question_mark", "help"),
    ]

    class Arrived(Message):
        """A sample or an error came from the source."""

        def __init__(self, sample: rates.Sample | None, error: str) -> None:
            super().__init__()
            self.sample = sample
            self.error = error

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
        # Without colour the terminal's own are used: Textual would paint it in greys otherwise.
        super().__init__(ansi_color=True if theme.ansi else None)
        for one in (DARK, LIGHT, PLAIN):
            self.register_theme(one)
        self.theme = theme.name
        self._source = source
        self._interval = interval
        self._stop = threading.Event()
        self._hurry = threading.Event()
        self._sampler = threading.Thread(target=self._sample, name="kernob-top", daemon=True)
        self._view: View = view
        self._sorts: dict[View, tuple[str, bool]] = {
            **dict.fromkeys(VIEWS, (columns.DEFAULT_SORT, False)),
            view: (sort, reverse),
        }
        self._filter = filter_text
        self._scopes: list[Scope] = []
        self._sample_now: rates.Sample | None = None
        self._shown: rates.Sample | None = None
        self._paused = False
        self._error = ""
        self._words: dict[str, Content | str] = {}
        self._history: deque[words.Rates | None] = deque(maxlen=HISTORY)

    def compose(self) -> ComposeResult:
        """Yields the lines of the screen from top to bottom."""
        with Horizontal(id="head"):
            yield Static(id="title", markup=False)
            yield Static(id="state", markup=False)
        yield Static(id="machine", markup=False)
        yield Static(id="about", markup=False)
        yield Static(id="facts", markup=False)
        with Horizontal(id="choice"):
            yield Static(id="views", markup=False)
            yield Input(self._filter, placeholder="/ filter", compact=True, id="filter")
        yield LinesTable(id="lines")
        yield LinesTable(id="peers")
        yield Static(id="lost", classes="note", markup=False)
        yield Static(id="error", classes="note", markup=False)
        yield Static(id="keys", markup=False)

    def on_mount(self) -> None:
        """Starts to read the source."""
        self.query_one(Input).can_focus = False
        self.query_one("#lines", LinesTable).focus()
        self.query_one("#peers", LinesTable).can_focus = False
        self._draw()
        self._sampler.start()

    def on_resize(self) -> None:
        """Draws everything for the new width."""
        self.call_after_refresh(self._draw)

    def on_unmount(self) -> None:
        """Ends the reading."""
        self._stop.set()
        self._hurry.set()
        if self._sampler.ident is not None:
            self._sampler.join(TIMEOUT)

    # -- figures in --------------------------------------------------------------------------------

    def _sample(self) -> None:
        """Reads the source until the end; runs in a thread of its own."""
        while not self._stop.is_set():
            started = time.monotonic()
            self._hurry.clear()
            try:
                message = self.Arrived(self._source(self._view), "")
            except KernobError as exc:
                message = self.Arrived(None, str(exc))
            self.post_message(message)
            self._hurry.wait(max(0.0, started + self._interval - time.monotonic()))

    def on_top_app_arrived(self, message: Arrived) -> None:
        """Shows what came; an error leaves what was there."""
        if not self.query("#state"):
            return  # The application is closing: there is nothing left to draw on.
        if message.error:
            if not self._error:
                self._failed_at = datetime.now().astimezone()
            self._error = message.error
            self._history.append(None)
        elif message.sample is not None:
            self._error = ""
            self._sample_now = message.sample
            everything = rates.total(message.sample)
            self._history.append(words.Rates(everything.transmit_rate, everything.receive_rate))
            if not self._paused:
                self._shown = message.sample
        elif self._error:
            self._error = ""
        else:
            return
        self._draw()

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
        line = message.line
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

    def action_leave(self) -> None:
        """Clears the filter, else leaves what was opened last, else the selection."""
        table = self.query_one("#lines", LinesTable)
        if self._filter:
            self.query_one(Input).value = ""
        elif self._scopes:
            scope = self._scopes.pop()
            self._view = scope.came_from
            self._start_over()
            table.selected = scope.key
        else:
            table.selected = None
        self._leave_filter()
        self._draw()

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool:
        """Tells whether a key may act: inside the filter, a slash is a letter."""
        if action == "filter":
            return self.screen is self.default_screen and not isinstance(self.focused, Input)
        return bool(super().check_action(action, parameters))

    def action_filter(self) -> None:
        """Lets the user type a filter."""
        box = self.query_one(Input)
        box.can_focus = True
        self.screen.set_focus(box)

    def _leave_filter(self) -> None:
        self.screen.set_focus(self.query_one("#lines", LinesTable))
        self.query_one(Input).can_focus = False

    def on_input_changed(self, event: Input.Changed) -> None:
        """Filters while the user types."""
        self._filter = event.value
        self.query_one("#lines", LinesTable).scroll_to(y=0, animate=False, immediate=True)
        self._draw()

    def on_input_submitted(self) -> None:
        """Goes back to the table, and keeps the filter."""
        self._leave_filter()

    def on_lines_table_header_clicked(self, message: LinesTable.HeaderClicked) -> None:
        """Sorts by the column that was clicked on."""
        self.action_sort(message.name)

    def action_sort(self, name: str) -> None:
        """Sorts by a column; if that is how it is sorted already, the other way round."""
        if name not in {one.name for one in columns.COLUMNS[self._view]}:
            return
        now, reverse = self._sorts[self._view]
        self._sorts[self._view] = (name, not reverse if now == name else False)
        self._draw()

    def action_sort_name(self) -> None:
        """Sorts by the name of what the view shows."""
        self.action_sort(NAMES[self._view])

    def action_sort_next(self, step: int) -> None:
        """Sorts by the column to the right or left."""
        shown = self.query_one("#lines", LinesTable).columns
        now, _ = self._sorts[self._view]
        position = shown.index(now) + step
        if 0 <= position < len(shown):
            self.action_sort(shown[position])

    def action_reverse(self) -> None:
        """Turns the order round."""
        self.action_sort(self._sorts[self._view][0])

    def action_pause(self) -> None:
        """Stops the picture, or goes on with the newest figures."""
        self._paused = not self._paused
        self._shown = self._sample_now
        self._draw()

    def action_help(self) -> None:
        """Shows the keys."""
        sample = self._shown
        self.push_screen(Help(sample.table.description if sample else ""))

    # -- drawing -----------------------------------------------------------------------------------

    def _draw(self) -> None:
        self._draw_head()
        self._draw_lines()
        self._draw_notes()

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
        name, reverse = self._sorts[view]
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
            view,
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
        self._set("facts", columns.printable(text), hide_if_empty=True)

    def _draw_views(self, flows: list[rates.Flow]) -> None:
        counts = {
            view: len({rates.key_of(flow.row, view) for flow in flows})
            if self._shown is None or self._shown.by in (None, view)
            else None
            for view in self._views()
        }
        self._set("views", words.views(counts, self._view))

    def _draw_notes(self) -> None:
        lost = columns.losses_text(self._shown.table) if self._shown else ""
        error = ""
        if self._error:
            kept = "; old figures, trying again" if self._shown else ""
            error = f"since {self._failed_at:%H:%M:%S}: {self._error}{kept}"
        self._set("lost", lost, hide_if_empty=True)
        self._set("error", error, hide_if_empty=True)
        self._set("keys", words.keys(paused=self._paused))

    def _set(self, name: str, text: Content | str, *, hide_if_empty: bool = False) -> None:
        if self._words.get(name) == text:
            return
        self._words[name] = text
        widget = self.query_one(f"#{name}", Static)
        if hide_if_empty:
            widget.display = bool(text)
        widget.update(text)
