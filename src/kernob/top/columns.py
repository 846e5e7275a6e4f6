"""The columns of each view: what they hold, how they sort, and which of them fit."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from rich.cells import cell_len, set_cell_size

from kernob.errors import ConfigError
from kernob.rates import VIEWS, Line, Sample, View, count_text, scaled

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from kernob.traffic import Row, Table

GAP: Final = 2
"""Cells between two columns."""
UNBOUNDED: Final = 10_000
NOT_MEASURED: Final = "\N{EN DASH}"
DEFAULT_SORT: Final = "share"


@dataclass(frozen=True, slots=True)
class Scale:
    """What cells need to know of the whole table.

    Attributes:
        moved: bytes of all lines, both directions: 100 % of the share.
        operations: whether calls are counted here; polling can't.

    """

    moved: int
    operations: bool


@dataclass(frozen=True, slots=True)
class Column:
    """A column.

    Attributes:
        name: what it is called on the command line.
        width: cells it needs at least.
        widest: cells it takes if there is room.
        rank: the highest are left out first where the terminal is narrow.
        value: what a line is sorted by.
        cell: the text of a line.
        number: aligned to the right.
        descending: the largest come first, unless reversed.

    """

    name: str
    title: str
    width: int
    widest: int
    rank: int
    value: Callable[[Line], Any]
    cell: Callable[[Line, Scale], str]
    number: bool = False
    descending: bool = False


def aligned_bytes(value: float, per: str = "") -> str:
    """Returns bytes so that the numbers and the units of a column stand below each other.

    Each value has its own unit: a column spans nine decades, and in one unit most of it would
    read 0.00.
    """
    number, prefix = scaled(value)
    return f"{number:>4} {prefix + 'B' + per:>{2 + len(per)}}"


def share_of(line: Line, scale: Scale) -> float:
    """Returns which part of all bytes a line has moved, 0 to 1."""
    moved = line.moved_transmit + line.moved_receive
    return moved / scale.moved if scale.moved else 0.0


def _share(line: Line, scale: Scale) -> str:
    percent = 100 * share_of(line, scale)
    return "<1 %" if 0 < percent < 0.5 else f"{percent:.0f} %"  # noqa: PLR2004


def _operations(line: Line, scale: Scale) -> str:
    return count_text(line.operations_rate) if scale.operations else NOT_MEASURED


def _text(name: str, width: int, widest: int, rank: int, of: Callable[[Line], str]) -> Column:
    return Column(
        name, name, width, widest, rank, lambda line: of(line).lower(), lambda e, _: of(e)
    )


def _number(
    name: str,
    title: str,
    width: int,
    rank: int,
    value: Callable[[Line], float],
    cell: Callable[[Line, Scale], str],
) -> Column:
    return Column(name, title, width, width, rank, value, cell, number=True, descending=True)


def _several(of: Callable[[Row], str]) -> Callable[[Line], str]:
    return lambda line: ", ".join(line.names(of))


def _of_row(of: Callable[[Row], str]) -> Callable[[Line], str]:
    return lambda line: of(line.row)


def _program(row: Row) -> str:
    return row.executable if row.pid else "(ended)"


def _peers(line: Line) -> int:
    return len({(flow.row.peer, flow.row.port) for flow in line.flows})


def port_text(row: Row) -> str:
    """Returns who called whom on which port: `→  5432 tcp` is called, `←   443 tcp` is served."""
    return f"{'→' if row.side == 'client' else '←'} {row.port:>5} {row.transport}"


_TRAFFIC: Final = (
    Column(
        "share",
        "share",
        6,
        16,
        2,
        lambda line: line.moved_transmit + line.moved_receive,
        _share,
        number=True,
        descending=True,
    ),
    _number(
        "transmit",
        "transmit",
        9,
        0,
        lambda line: line.moved_transmit,
        lambda line, _: aligned_bytes(line.transmit_rate, "/s"),
    ),
    _number(
        "receive",
        "receive",
        9,
        0,
        lambda line: line.moved_receive,
        lambda line, _: aligned_bytes(line.receive_rate, "/s"),
    ),
    _number(
        "transmitted",
        "transmitted",
        12,
        6,
        lambda line: line.transmit,
        lambda line, _: aligned_bytes(line.transmit),
    ),
    _number(
        "received",
        "received",
        9,
        6,
        lambda line: line.receive,
        lambda line, _: aligned_bytes(line.receive),
    ),
    _number("operations", "ops/s", 6, 5, lambda line: line.moved_operations, _operations),
    _number(
        "connections",
        "conn",
        5,
        3,
        lambda line: line.connections,
        lambda line, _: count_text(line.connections),
    ),
)

_PROCESSES: Final = _number(
    "processes",
    "procs",
    6,
    4,
    lambda line: line.processes(),
    lambda line, _: count_text(line.processes()),
)

_HOST: Final = _text("host", 8, 24, 3, _of_row(lambda row: row.host))

COLUMNS: Final[dict[View, tuple[Column, ...]]] = {
    "process": (
        Column(
            "pid",
            "pid",
            7,
            7,
            1,
            lambda line: line.row.pid,
            lambda line, _: str(line.row.pid or ""),
            number=True,
        ),
        _text("user", 8, 12, 4, _of_row(lambda row: row.user)),
        _text("program", 10, 18, 0, _of_row(_program)),
        _text("service", 10, 26, 2, _of_row(lambda row: row.service)),
        _HOST,
        *_TRAFFIC,
        _text("command", 20, UNBOUNDED, 7, _of_row(lambda row: row.command)),
    ),
    "service": (
        _text("service", 18, 36, 0, _of_row(lambda row: row.service)),
        _HOST,
        *_TRAFFIC,
        _PROCESSES,
        _number("peers", "peers", 6, 5, _peers, lambda line, _: count_text(_peers(line))),
        _text("with", 20, UNBOUNDED, 7, _several(lambda row: row.peer)),
    ),
    "peer": (
        _text("peer", 16, 40, 0, _of_row(lambda row: row.peer)),
        Column(
            "port",
            " port",
            11,
            11,
            1,
            lambda line: line.row.port,
            lambda line, _: port_text(line.row),
        ),
        *_TRAFFIC,
        _PROCESSES,
        _text("services", 20, UNBOUNDED, 7, _several(lambda row: row.service)),
    ),
}
"""The columns of each view, in their order."""


def others_cells(rest: Line, scale: Scale, fitted: list[tuple[Column, int]]) -> list[str]:
    """Returns the cells of the line that sums up those that are not shown."""
    # The name of a line is what never gives way.
    label = next((one for one, _ in fitted if not one.number and one.rank == 0), None)
    return [
        one.cell(rest, scale) if one in _TRAFFIC else f"{rest.count:,} more" if one is label else ""
        for one, _ in fitted
    ]


def counts_operations(table: Table) -> bool:
    """Tells whether calls are counted: nobody can by polling."""
    return table.mode != "polling"


def mode_text(table: Table) -> str:
    """Returns in two words how the figures are known."""
    return "eBPF, exact" if table.mode == "ebpf" else "polled"


def absent(view: View, sample: Sample | None) -> frozenset[str]:
    """Returns the columns of a view that a sample has nothing for."""
    if sample is None or sample.by is None:
        return frozenset({"host"})
    only_of_agents = {"user", "command", "operations", "processes", "peers", "with", "services"}
    return frozenset(only_of_agents | {"port"} | ({"connections"} if view == "process" else set()))


def losses_text(table: Table) -> str:
    """Returns what was lost, in words; empty if nothing was."""
    lost = [
        f"{count:,} {reason.replace('_', ' ')}" for reason, count in table.losses.items() if count
    ]
    return f"lost: {', '.join(lost)}" if lost else ""


def column(view: View, name: str) -> Column:
    """Returns the column of a view that is called `name`.

    Raises:
        ConfigError: it has none of that name.

    """
    for one in COLUMNS[view]:
        if one.name == name:
            return one
    names = ", ".join(one.name for one in COLUMNS[view])
    raise ConfigError(f"top by {view} has no column {name!r}", remedy=f"sort by one of {names}")


def view_of(name: str) -> View:
    """Returns the view that is called `name`.

    Raises:
        ConfigError: there is none of that name.

    """
    for view in VIEWS:
        if view == name:
            return view
    raise ConfigError(f"top has no view by {name!r}", remedy=f"use one of {', '.join(VIEWS)}")


def ordered(lines: Iterable[Line], by: Column, *, reverse: bool) -> list[Line]:
    """Returns the lines in the order of a column; those that are equal keep a stable order."""
    stable = sorted(lines, key=lambda line: (-line.transmit - line.receive, line.key))
    return sorted(stable, key=by.value, reverse=by.descending != reverse)


def fit(
    view: View, width: int, sort: Column, absent: frozenset[str] = frozenset()
) -> list[tuple[Column, int]]:
    """Returns the columns that fit into `width` cells, and how wide each is.

    The column that is sorted by is always one of them, those in `absent` never.
    """
    kept = [one for one in COLUMNS[view] if one.name not in absent]
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
