"""The columns of each view: what they hold, how they sort, and which of them fit."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from kernob.errors import ConfigError
from kernob.rates import VIEWS, Line, Sample, View, count_text, scaled
from kernob.top.cells import NOT_MEASURED, UNBOUNDED, Column

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from kernob.requests_table import SeriesTable
    from kernob.traffic import Row, Table

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


def _sum(
    name: str,
    title: str,
    width: int,
    rank: int,
    value: Callable[[Line], float],
    cell: Callable[[Line, Scale], str],
) -> Column:
    return replace(_number(name, title, width, rank, value, cell), adds=True)


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
        adds=True,
        part=share_of,
    ),
    _sum(
        "transmit",
        "transmit",
        9,
        0,
        lambda line: line.moved_transmit,
        lambda line, _: aligned_bytes(line.transmit_rate, "/s"),
    ),
    _sum(
        "receive",
        "receive",
        9,
        0,
        lambda line: line.moved_receive,
        lambda line, _: aligned_bytes(line.receive_rate, "/s"),
    ),
    _sum(
        "transmitted",
        "transmitted",
        12,
        6,
        lambda line: line.transmit,
        lambda line, _: aligned_bytes(line.transmit),
    ),
    _sum(
        "received",
        "received",
        9,
        6,
        lambda line: line.receive,
        lambda line, _: aligned_bytes(line.receive),
    ),
    _sum("operations", "ops/s", 6, 5, lambda line: line.moved_operations, _operations),
    _sum(
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


def losses_text(table: Table | SeriesTable) -> str:
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
