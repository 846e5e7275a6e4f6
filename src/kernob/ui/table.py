"""A table: sorts by its headers, filters by typing, and stays where it is while its rows change.

    table = Table(shell, "Services", [Column("name", "Service", "name"),
                                      Column("out", "Out", "rate")], order="-out")
    table.show([Row("nginx", [Name("nginx", link=state.link(service="nginx")), 1.0])])

Numbers of a column have one unit, which stands in its header. Thousands of rows are fine: only
those in sight are drawn.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import msgspec
from nicegui.element import Element

from kernob.ui.words import rounded

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kernob.ui.shell import Shell

Kind = Literal[
    "name",
    "text",
    "rate",
    "bytes",
    "count",
    "per_second",
    "share",
    "bar",
    "seconds",
    "ago",
    "state",
    "line",
]
Look = Literal["bad", "attention", "calm"]


@dataclass(frozen=True, slots=True)
class Column:
    """A column.

    Attributes:
        name: for the URL and for style; one word.
        label: its header.
        kind: of its cells: `name` has `Name`, `state` has `Badge`, `text` a str, `bar` a share of 1
            with a bar, `ago` a time in milliseconds, `line` a tuple of numbers over time (None for
            a gap); all others a number. None is "not measured".
        wide: only shown where there is room.
        hint: on hovering over the header.
        none: shown instead of a time that is None.
        why: why a cell is None, on hovering.
    """

    name: str
    label: str
    kind: Kind
    wide: bool = False
    hint: str = ""
    none: str = ""
    why: str = "not measured here"


@dataclass(frozen=True, slots=True)
class Name:
    """A name, with a link and a colour.

    Attributes:
        text: the name.
        link: where Enter and a click go: `state.link(...)`, or another page.
        slot: colour; None for none.
        hint: on hovering; the text itself if empty.
    """

    text: str
    link: str = ""
    slot: int | None = None
    hint: str = ""


@dataclass(frozen=True, slots=True)
class Badge:
    """A state in words.

    Attributes:
        text: the words.
        look: whether it is bad, needs attention, or neither.
        hint: on hovering.
        order: what it is sorted by; None for the words.
    """

    text: str
    look: Look = "calm"
    hint: str = ""
    order: float | None = None


Cell = Name | Badge | str | int | float | tuple[float | None, ...] | None


@dataclass(frozen=True, slots=True)
class Row:
    """A row.

    Attributes:
        key: what it is known by while it changes; one of its kind in the table.
        cells: one for each column.
    """

    key: str
    cells: Sequence[Cell]


class Table(
    Element,
    component="web/kernob_table.js",
    dependencies=["web/kernob.js"],
    default_classes="k-piece",
):
    """The table; without rows yet it shows as many bones as it will likely have."""

    def __init__(
        self,
        shell: Shell,
        label: str,
        columns: Sequence[Column],
        *,
        order: str = "",
        name: str = "",
        empty: str = "Nothing here in this range.",
        bones: int = 8,
        plain: bool = False,
    ) -> None:
        """Makes an empty one.

        Args:
            shell: where sorting and filter are kept in the URL.
            label: its heading.
            columns: all of them.
            order: name of the column it is sorted by at first, with `-` for largest first.
            name: tells the tables of one page apart in the URL; empty for the first.
            empty: what to say without rows, and what to do.
            bones: rows while it loads.
            plain: without count, filter and CSV: for the few first rows of something.
        """
        super().__init__()
        self._shell = shell
        self._sort, self._filter = f"{name}sort", f"{name}filter"
        self._order = order
        self.props.update(
            {
                "columns": [_column(column) for column in columns],
                "rows": None,
                "label": label,
                "more": 0,
                "empty": empty,
                "placeholder": bones,
                "plain": plain,
                "chosen": "",
            }
        )
        self._from_url()
        self.on("order", lambda event: shell.keep(**{self._sort: event.args}))
        self.on("filter", lambda event: shell.keep(**{self._filter: event.args}))

    def show(
        self,
        rows: Sequence[Row],
        *,
        more: int = 0,
        label: str = "",
        columns: Sequence[Column] | None = None,
        chosen: str = "",
    ) -> None:
        """Shows rows.

        Args:
            rows: all of them; their order counts where sorting doesn't decide.
            more: rows that were left off.
            label: another heading than before.
            columns: others than before.
            chosen: key of the row that the rest of the page is about.
        """
        # As text: NiceGUI and Vue would watch into each row.
        cells = [[row.key, [_cell(cell) for cell in row.cells]] for row in rows]
        self.props["rows"] = msgspec.json.encode(cells).decode()
        self.props["more"] = more
        self.props["chosen"] = chosen
        self.props["label"] = label or self.props["label"]
        if columns is not None:
            self.props["columns"] = [_column(column) for column in columns]
        self._from_url()

    def _from_url(self) -> None:
        choices = self._shell.state.choices
        self.props["order"] = choices.get(self._sort, self._order)
        self.props["filter"] = choices.get(self._filter, "")


def _column(column: Column) -> dict[str, Any]:
    return {name: getattr(column, name) for name in Column.__slots__}


def _cell(cell: Cell) -> Any:
    if isinstance(cell, Name):
        shown: dict[str, Any] = {"text": cell.text, "link": cell.link, "hint": cell.hint}
        return shown if cell.slot is None else shown | {"slot": cell.slot}
    if isinstance(cell, Badge):
        return {"text": cell.text, "look": cell.look, "hint": cell.hint, "order": cell.order}
    return rounded(cell) if isinstance(cell, float) else cell
