"""The table widget: draws the lines that are in sight, and keeps scroll and selection."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Final, Protocol

from rich.segment import Segment
from rich.style import Style
from textual.binding import Binding, BindingType
from textual.geometry import Size
from textual.message import Message
from textual.scroll_view import ScrollView
from textual.strip import Strip

from kernob.top import cells

if TYPE_CHECKING:
    from collections.abc import Sequence

    from textual.events import Click

    from kernob.rates import Key
    from kernob.top.cells import Column


class Line(Protocol):
    """What the table must know of a line; the rest is between it and its columns."""

    @property
    def key(self) -> Key:
        """What it is told apart by."""

    @property
    def ended(self) -> bool:
        """Whether it is a thing of the past."""


EIGHTHS: Final = " ▏▎▍▌▋▊▉█"


def bar(share: float, width: int) -> str:
    """Returns a bar of `share` (0 to 1) of `width` cells, in eighths of a cell."""
    eighths = round(min(1.0, share) * width * 8)
    full, rest = divmod(eighths, 8)
    return ("█" * full + (EIGHTHS[rest] if rest else "")).ljust(width)


class LinesTable(ScrollView, can_focus=True):
    """Lines of a view under a header."""

    COMPONENT_CLASSES: ClassVar[set[str]] = {
        "table--header",
        "table--sorted",
        "table--quiet",
        "table--faint",
        "table--bar",
        "table--selected",
    }
    DEFAULT_CSS = """
    LinesTable {
        background: $background;
        color: $foreground;
        overflow-x: hidden;
        overflow-y: auto;
        scrollbar-gutter: stable;
        scrollbar-size-vertical: 1;
        & > .table--header { color: $quiet; background: $panel; }
        & > .table--sorted { color: $accent; background: $panel; text-style: bold; }
        & > .table--quiet { color: $quiet; }
        & > .table--faint { color: $faint; }
        & > .table--bar { color: $bar; }
        & > .table--selected { background: $selected; }
        &:nocolor > .table--header { text-style: underline; }
        &:nocolor > .table--sorted { text-style: bold underline; }
        &:nocolor > .table--faint { text-style: dim; }
        &:nocolor > .table--selected { text-style: reverse; }
    }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up,k", "move(-1)", show=False),
        Binding("down,j", "move(1)", show=False),
        Binding("pageup", "page(-1)", show=False),
        Binding("pagedown", "page(1)", show=False),
        Binding("home,g", "move(-1000000)", show=False),
        Binding("end,G", "move(1000000)", show=False),
        Binding("enter", "open", show=False),
        # Here, since the screen's own Tab comes before the application's.
        Binding("tab", "app.next_view(1)", show=False),
        Binding("shift+tab", "app.next_view(-1)", show=False),
    ]

    class HeaderClicked(Message):
        """The header of a column was clicked."""

        def __init__(self, name: str) -> None:
            super().__init__()
            self.name = name

    class Opened(Message):
        """A line was opened."""

        def __init__(self, line: Any) -> None:
            super().__init__()
            self.line = line

    def __init__(self, *, id: str) -> None:  # noqa: A002
        super().__init__(id=id)
        self._columns: Sequence[Column] = ()
        self._sort: Column | None = None
        self._reverse = False
        self._scale: Any = None
        self._lines: Sequence[Any] = []
        self._others: Any = None
        self._empty = ""
        self._absent: frozenset[str] = frozenset()
        self._fitted: list[tuple[Column, int]] = []
        self.selected: Key | None = None
        """Key of the selected line; None as long as the user has selected nothing."""
        self._position = -1

    def show(
        self,
        shown: Sequence[Column],
        sort: Column,
        lines: Sequence[Line],
        *,
        reverse: bool,
        others: object,
        scale: object,
        empty: str,
        absent: frozenset[str],
    ) -> None:
        """Shows other lines; the selection stays with its line, the scroll where it is.

        Args:
            shown: columns of this table.
            sort: the column they are sorted by.
            lines: in their order.
            reverse: sorted the other way round.
            others: the sum of those that are not shown; None if all are.
            scale: what cells need to know of the whole.
            empty: what to say if there are none.
            absent: columns that are left out.

        """
        self._absent = absent
        self._columns, self._sort, self._reverse = shown, sort, reverse
        self._lines, self._others, self._scale, self._empty = lines, others, scale, empty
        self._find_selected()
        self._fit()
        self.virtual_size = Size(self.size.width, 1 + len(lines) + (others is not None))
        self.refresh()

    @property
    def columns(self) -> list[str]:
        """Names of the columns that are shown."""
        return [one.name for one, _ in self._fitted]

    def _find_selected(self) -> None:
        if self.selected is None:
            self._position = -1
            return
        keys = [line.key for line in self._lines]
        if self.selected in keys:
            self._position = keys.index(self.selected)
        else:
            # The line is gone: its neighbour takes over, so that the arrow keys go on from there.
            self._position = min(self._position, len(keys) - 1)
            self.selected = keys[self._position] if keys and self._position >= 0 else None

    def _fit(self) -> None:
        width = self.scrollable_content_region.width - 1
        if self._sort is not None:
            self._fitted = cells.fit(self._columns, width, self._sort, self._absent)

    def on_resize(self) -> None:
        """Fits the columns into the new width."""
        self._fit()
        self.refresh()

    # -- hands -------------------------------------------------------------------------------------

    def select(self, position: int) -> None:
        """Selects the line at a position, and brings it into sight."""
        if not self._lines:
            return
        self._position = max(0, min(position, len(self._lines) - 1))
        self.selected = self._lines[self._position].key
        page = self._page()
        top = round(self.scroll_y)
        if self._position < top:
            self.scroll_to(y=self._position, animate=False, immediate=True)
        elif self._position == len(self._lines) - 1:
            self.scroll_end(animate=False, immediate=True)
        elif self._position >= top + page:
            self.scroll_to(y=self._position - page + 1, animate=False, immediate=True)
        self.refresh()

    def _page(self) -> int:
        return max(1, self.size.height - 1)

    def action_move(self, lines: int) -> None:
        """Moves the selection; the first time, it selects the first line in sight."""
        if self._position < 0 and abs(lines) == 1:
            self.select(round(self.scroll_y))
        else:
            self.select(self._position + lines)

    def action_page(self, pages: int) -> None:
        """Moves the selection by pages."""
        self.select(max(0, self._position) + pages * self._page())

    def action_open(self) -> None:
        """Opens the selected line."""
        if 0 <= self._position < len(self._lines):
            self.post_message(self.Opened(self._lines[self._position]))

    def on_click(self, event: Click) -> None:
        """Sorts by a header, selects a line, opens it at the second click."""
        if event.y == 0:
            self._click_header(event.x - 1)
            return
        position = round(self.scroll_y) + event.y - 1
        if position < len(self._lines):
            self.select(position)
            if event.chain == 2:  # noqa: PLR2004
                self.action_open()

    def _click_header(self, x: int) -> None:
        start = 0
        for one, width in self._fitted:
            if start <= x < start + width:
                self.post_message(self.HeaderClicked(one.name))
            start += width + cells.GAP

    # -- drawing -----------------------------------------------------------------------------------

    def render_line(self, y: int) -> Strip:
        """Returns one line on the screen; only those in sight are ever asked for."""
        width = self.scrollable_content_region.width
        base = self.rich_style
        if y == 0:
            segments = self._header()
        else:
            position = round(self.scroll_y) + y - 1
            if position < len(self._lines):
                segments = self._line(self._lines[position], selected=position == self._position)
            elif position == len(self._lines) and self._others is not None:
                segments = self._sum(self._others)
            elif not self._lines and y == 2:  # noqa: PLR2004
                segments = [Segment(f" {self._empty}", self._style("quiet"))]
            else:
                segments = []
        return Strip(segments).adjust_cell_length(width, base).crop(0, width).apply_style(base)

    def _style(self, name: str) -> Style:
        return self.get_component_rich_style(f"table--{name}", partial=True)

    def _header(self) -> list[Segment]:
        quiet, chosen = self._style("header"), self._style("sorted")
        segments = [Segment(" ", quiet)]
        for one, width in self._fitted:
            title, style = one.title, quiet
            if one is self._sort:
                mark = "▼" if one.descending != self._reverse else "▲"
                title = f"{mark}{title}" if one.number else f"{title}{mark}"
                style = chosen
            segments.append(Segment(cells.placed(title, width, right=one.number), style))
            segments.append(Segment(" " * cells.GAP, quiet))
        used = sum(segment.cell_length for segment in segments)
        segments.append(Segment(" " * max(0, self.size.width - used), quiet))
        return segments

    def _line(self, line: Any, *, selected: bool) -> list[Segment]:
        normal, quiet = Style.null(), self._style("quiet")
        if line.ended:
            normal = quiet = self._style("faint")
        segments = [Segment(" ", normal)]
        for one, width in self._fitted:
            cell = one.cell(line, self._scale)
            if one.part is not None and width > one.width:
                room = width - one.width
                share = one.part(line, self._scale)
                segments.append(Segment(bar(share, room), self._style("bar")))
                segments += self._number(cell, one.width, normal, quiet)
            elif one.number and one.name != "pid":
                segments += self._number(cell, width, normal, quiet)
            else:
                style = quiet if one.name in {"pid", "user", "command", "with"} else normal
                text = cells.placed(cell, width, right=one.number)
                segments.append(Segment(text, style))
            segments.append(Segment(" " * cells.GAP, normal))
        if selected:
            back = self._style("selected")
            used = sum(segment.cell_length for segment in segments)
            segments.append(Segment(" " * max(0, self.size.width - used), normal))
            segments = [Segment(text, (style or back) + back) for text, style, _ in segments]
        return segments

    def _number(self, cell: str, width: int, normal: Style, quiet: Style) -> list[Segment]:
        """Returns a number with its unit dimmed; one that is zero is dimmed as a whole."""
        text = cells.placed(cell, width, right=True)
        number, space, unit = text.rpartition(" ")
        if not number.strip():
            number, space, unit = text, "", ""
        zero = number.strip() in {"0", cells.NOT_MEASURED}
        return [
            Segment(number + space, quiet if zero else normal),
            Segment(unit, quiet),
        ]

    def _sum(self, rest: Any) -> list[Segment]:
        quiet = self._style("quiet")
        texts = cells.others_cells(rest, self._scale, self._fitted)
        segments = [Segment(" ", quiet)]
        for cell, (one, width) in zip(texts, self._fitted, strict=True):
            text = cells.placed(cell, width, right=one.number) + " " * cells.GAP
            segments.append(Segment(text, quiet))
        return segments
