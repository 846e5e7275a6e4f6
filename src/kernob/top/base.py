"""What every live table does: reads its source, sorts, filters, pauses, and says what is wrong."""

from __future__ import annotations

import threading
import time
from datetime import datetime
from typing import TYPE_CHECKING, Any, ClassVar, Final, Generic, TypeVar

from textual.app import App
from textual.binding import Binding, BindingType
from textual.containers import Horizontal
from textual.message import Message
from textual.widgets import Input, Static

from kernob.errors import KernobError
from kernob.top import words
from kernob.top.remote import TIMEOUT
from kernob.top.table import LinesTable
from kernob.top.themes import DARK, LIGHT, PLAIN

if TYPE_CHECKING:
    from collections.abc import Sequence

    from textual.app import ComposeResult
    from textual.content import Content
    from textual.theme import Theme

    from kernob.top.cells import Column

SHOWN: Final = 500
"""Lines that go into the table; the rest is one line, "others"."""

S = TypeVar("S")


class LiveApp(App[None], Generic[S]):
    """The application around one table of lines, `#lines`; `S` is what the source gives.

    Args:
        view: which of its tables is shown first.
        orders: of each table, the column it is sorted by, and whether the other way round.
        interval: seconds between two samples.
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
    ENABLE_COMMAND_PALETTE = False
    ALLOW_SELECT = False
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("q", "quit"),
        Binding("ctrl+c", "quit", priority=True),
        # At once, or what is typed quickly after it would be taken for keys of the table.
        Binding("slash", "filter", priority=True),
        Binding("less_than_sign", "sort_next(-1)"),
        Binding("greater_than_sign", "sort_next(1)"),
        Binding("i", "reverse"),
        Binding("space", "pause"),
        Binding("escape", "leave"),
        Binding("question_mark", "help"),
    ]

    class Arrived(Message):
        """A sample or an error came from the source."""

        def __init__(self, sample: Any, error: str) -> None:
            super().__init__()
            self.sample = sample
            self.error = error

    def __init__(
        self,
        *,
        view: str,
        orders: dict[str, tuple[str, bool]],
        interval: float,
        filter_text: str,
        theme: Theme,
    ) -> None:
        # Without colour the terminal's own are used: Textual would paint it in greys otherwise.
        super().__init__(ansi_color=True if theme.ansi else None)
        for one in (DARK, LIGHT, PLAIN):
            self.register_theme(one)
        self.theme = theme.name
        self._interval = interval
        self._view = view
        self._orders = orders
        self._stop = threading.Event()
        self._hurry = threading.Event()
        self._sampler = threading.Thread(target=self._sample, name="kernob-top", daemon=True)
        self._filter = filter_text
        self._sample_now: S | None = None
        self._shown: S | None = None
        self._paused = False
        self._error = ""
        self._words: dict[str, Content | str] = {}

    # -- what each table says ----------------------------------------------------------------------

    def _ask(self) -> S | None:
        """Returns a sample, None if there is nothing new; runs in a thread of its own.

        Raises:
            KernobError: it can't be had now.

        """
        raise NotImplementedError

    def _columns(self) -> Sequence[Column]:
        """Returns the columns that one can sort by."""
        raise NotImplementedError

    def _draw(self) -> None:
        """Draws everything."""
        raise NotImplementedError

    def _came(self, sample: S | None) -> None:
        """Takes in a sample, or that there was none, whether it is shown or not."""

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
        yield from self._below()
        yield Static(id="lost", classes="note", markup=False)
        yield Static(id="error", classes="note", markup=False)
        yield Static(id="keys", markup=False)

    def _below(self) -> ComposeResult:
        """Yields what stands below the table."""
        return ()

    def on_mount(self) -> None:
        """Starts to read the source."""
        self.query_one(Input).can_focus = False
        self.query_one("#lines", LinesTable).focus()
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
                message = self.Arrived(self._ask(), "")
            except KernobError as exc:
                message = self.Arrived(None, str(exc))
            self.post_message(message)
            self._hurry.wait(max(0.0, started + self._interval - time.monotonic()))

    def on_live_app_arrived(self, message: Arrived) -> None:
        """Shows what came; an error leaves what was there."""
        if not self.query("#state"):
            return  # The application is closing: there is nothing left to draw on.
        if message.error:
            if not self._error:
                self._failed_at = datetime.now().astimezone()
            self._error = message.error
            self._came(None)
        elif message.sample is not None:
            self._error = ""
            self._sample_now = message.sample
            self._came(message.sample)
            if not self._paused:
                self._shown = message.sample
        elif self._error:
            self._error = ""
        else:
            return
        self._draw()

    # -- hands -------------------------------------------------------------------------------------

    def action_leave(self) -> None:
        """Clears the filter, else goes back, else clears the selection."""
        table = self.query_one("#lines", LinesTable)
        if self._filter:
            self.query_one(Input).value = ""
        elif not self._go_back():
            table.selected = None
        self._leave_filter()
        self._draw()

    def _go_back(self) -> bool:
        """Leaves what was opened last; False if nothing was."""
        return False

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
        if name not in {one.name for one in self._columns()}:
            return
        now, reverse = self._orders[self._view]
        self._orders[self._view] = (name, not reverse if now == name else False)
        self._draw()

    def action_sort_next(self, step: int) -> None:
        """Sorts by the column to the right or left."""
        shown = self.query_one("#lines", LinesTable).columns
        now, _ = self._orders[self._view]
        position = shown.index(now) + step
        if 0 <= position < len(shown):
            self.action_sort(shown[position])

    def action_reverse(self) -> None:
        """Turns the order round."""
        self.action_sort(self._orders[self._view][0])

    def action_pause(self) -> None:
        """Stops the picture, or goes on with the newest figures."""
        self._paused = not self._paused
        self._shown = self._sample_now
        self._draw()

    # -- drawing -----------------------------------------------------------------------------------

    def _draw_notes(self, lost: str) -> None:
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
