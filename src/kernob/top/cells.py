"""Columns of any table of `top`: how wide they are, which fit, and what a cell looks like."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from rich.cells import cell_len, set_cell_size

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

GAP: Final = 2
"""Cells between two columns."""
UNBOUNDED: Final = 10_000
NOT_MEASURED: Final = "\N{EN DASH}"


@dataclass(frozen=True, slots=True)
class Column:
    """A column.

    Attributes:
        name: what it is called on the command line.
        width: cells it needs at least.
        widest: cells it takes if there is room.
        rank: the highest are left out first where the terminal is narrow.
        value: what a line is sorted by.
        cell: the text of a line, given what cells need to know of the whole table.
        number: aligned to the right.
        descending: the largest come first, unless reversed.
        adds: also says something of many lines together.
        part: which part of all a line is, 0 to 1: a bar where there is room; None for no bar.

    """

    name: str
    title: str
    width: int
    widest: int
    rank: int
    value: Callable[[Any], Any]
    cell: Callable[[Any, Any], str]
    number: bool = False
    descending: bool = False
    adds: bool = False
    part: Callable[[Any, Any], float] | None = None


def others_cells(rest: Any, scale: Any, fitted: Sequence[tuple[Column, int]]) -> list[str]:
    """Returns the cells of the line that sums up those that are not shown."""
    # The name of a line is what never gives way.
    label = next((one for one, _ in fitted if not one.number and one.rank == 0), None)
    return [
        one.cell(rest, scale) if one.adds else f"{rest.count:,} more" if one is label else ""
        for one, _ in fitted
    ]


def fit(
    columns: Sequence[Column], width: int, sort: Column, absent: frozenset[str] = frozenset()
) -> list[tuple[Column, int]]:
    """Returns the columns that fit into `width` cells, and how wide each is.

    The column that is sorted by is always one of them, those in `absent` never.
    """
    kept = [one for one in columns if one.name not in absent]
    while sum(one.width + GAP for one in kept) - GAP > width:
        spare = [one for one in kept if one is not sort]
        if len(spare) < 2:  # noqa: PLR2004
            break
        # Of two that matter equally, the one further right goes.
        kept.remove(max(reversed(spare), key=lambda one: one.rank))
    widths = {one.name: one.width for one in kept}
    room = width - sum(one.width + GAP for one in kept) + GAP
    # Names grow first, since what is cut off there is missed most; the unbounded takes the rest.
    bounded = [one for one in kept if one.widest < UNBOUNDED]
    for growing in (
        [one for one in bounded if not one.number],
        [one for one in bounded if one.number],
        [one for one in kept if one.widest == UNBOUNDED],
    ):
        while room > 0 and (short := [one for one in growing if widths[one.name] < one.widest]):
            for one in short[:room]:
                widths[one.name] += 1
            room -= min(room, len(short))
    return [(one, widths[one.name]) for one in kept]


def printable(text: str) -> str:
    """Returns `text` without control characters: what a process calls itself may hold anything."""
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else "·" for char in text)


def placed(text: str, width: int, *, right: bool) -> str:
    """Returns `text` in exactly `width` cells, cut with an ellipsis if it is longer."""
    text = printable(text)
    length = cell_len(text)
    if length > width:
        return f"{set_cell_size(text, width - 1)}…"
    return " " * (width - length) + text if right else text + " " * (width - length)
