"""`kernob top --requests`: the live table of operations, around `kernob.request_rates`."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Final

from textual.binding import Binding, BindingType

from kernob import request_rates
from kernob.request_rates import Line, Sample
from kernob.top import columns, request_columns, words
from kernob.top.base import SHOWN, LiveApp
from kernob.top.help import REQUEST_KEYS, REQUEST_WORDS, Help
from kernob.top.request_columns import COLUMNS
from kernob.top.table import LinesTable
from kernob.top.themes import DARK

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from textual.theme import Theme

    from kernob.top.cells import Column

VIEW: Final = "requests"
SORT_KEYS: Final = {
    "m": "share",
    "r": "requests",
    "e": "errors",
    "5": "p50",
    "9": "p99",
    "n": "operation",
    "s": "service",
    "p": "peer",
}


class RequestsApp(LiveApp[Sample]):
    """The application that shows which operations are asked for, how often, and how they do.

    Args:
        source: returns what two tables say, as `kernob.request_rates.metered` does.
        interval: seconds between two tables.
        sort: a column.
        filter_text: the first filter.
        theme: colours.

    """

    TITLE = "kernob top"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding(key, f"sort('{name}')") for key, name in SORT_KEYS.items()
    ]

    def __init__(
        self,
        source: Callable[[], Sample | None],
        *,
        interval: float = 1.0,
        sort: str = request_columns.DEFAULT_SORT,
        filter_text: str = "",
        theme: Theme = DARK,
    ) -> None:
        super().__init__(
            view=VIEW,
            orders={VIEW: (sort, False)},
            interval=interval,
            filter_text=filter_text,
            theme=theme,
        )
        self._source = source

    def _ask(self) -> Sample | None:
        return self._source()

    def _columns(self) -> Sequence[Column]:
        return COLUMNS

    def action_next_view(self, _step: int) -> None:
        """There is one view only."""

    def action_help(self) -> None:
        """Shows the keys."""
        self.push_screen(Help("counted in the kernel by eBPF", REQUEST_KEYS, REQUEST_WORDS))

    # -- drawing -----------------------------------------------------------------------------------

    def _draw(self) -> None:
        sample = self._shown
        lines = sample.lines if sample else []
        seconds = sample.seconds if sample else 1.0
        total = request_rates.summed(lines, seconds)
        self._draw_head(total)
        found = request_rates.matching(lines, self._filter)
        self._set("views", f"{len(found):,} operations")
        name, reverse = self._orders[VIEW]
        order = request_columns.column(name)
        found = request_columns.ordered(found, order, reverse=reverse)
        rest = found[SHOWN:]
        self.query_one("#lines", LinesTable).show(
            COLUMNS,
            order,
            found[:SHOWN],
            reverse=reverse,
            others=request_rates.summed(rest, seconds) if rest else None,
            scale=total,
            empty=self._empty(),
            absent=frozenset(),
        )
        self._draw_notes(columns.losses_text(sample.table) if sample else "")

    def _draw_head(self, total: Line) -> None:
        sample = self._shown
        self._set("title", words.title(sample.table if sample else None))
        self._set("state", words.state(sample, paused=self._paused))
        self._set("about", sample.table.reason if sample else "", hide_if_empty=True)
        self._set("facts", "", hide_if_empty=True)
        self._set("machine", words.operations(total) if sample else words.MEASURING)

    def _empty(self) -> str:
        if self._shown is None:
            return "no figures yet" if self._error else "measuring…"
        if self._filter:
            return f"nothing matches “{self._filter}”; Esc clears the filter"
        return "no request has been seen yet"
