"""`kernob top --once`: the figures of one interval, as JSON or as a plain table."""

from __future__ import annotations

import shutil
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final, TypeVar

import msgspec

from kernob import rates
from kernob.errors import KernobError
from kernob.top import cells, columns

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import TextIO

    from kernob.traffic import Table

S = TypeVar("S")

PATIENCE: Final = 20.0
"""Seconds to wait for a second table, beyond the interval."""


def once(
    source: Callable[[rates.View], rates.Sample | None],
    *,
    out: TextIO,
    by: str = "process",
    interval: float = 1.0,
    sort: str = columns.DEFAULT_SORT,
    reverse: bool = False,
    filter_text: str = "",
    limit: int | None = None,
    as_json: bool = False,
) -> None:
    """Writes what moved in one interval to `out`.

    Args:
        source: as for `kernob.top.run`.
        out: where to.
        by: `process`, `service` or `peer`.
        interval: seconds between the two tables.
        sort: a column of that view.
        reverse: the other way round.
        filter_text: as after `/` in the live table.
        limit: how many lines; None for all.
        as_json: one JSON object instead of a table.

    Raises:
        ConfigError: `by` or `sort` name nothing.
        KernobError: what the source raises, or its figures don't move on.

    """
    view = columns.view_of(by)
    order = columns.column(view, sort)
    sample = first_sample(lambda: source(view), interval)
    flows = rates.matching(sample.flows, filter_text)
    found = [line for line in rates.lines(sample, view, flows) if not line.flows[0].gone]
    found = columns.ordered(found, order, reverse=reverse)
    kept, others = found[:limit], found[limit:] if limit is not None else []
    if as_json:
        out.write(_json(sample, view, kept, others))
    else:
        out.write(_text(sample, view, order, kept, others))


def first_sample(source: Callable[[], S | None], interval: float) -> S:
    """Returns what moved in about `interval` seconds from now; what a server knows at once.

    Raises:
        KernobError: the source has no newer table long after the interval.

    """
    deadline = time.monotonic() + interval + PATIENCE
    if (first := source()) is not None:
        return first
    time.sleep(interval)
    while (sample := source()) is None:
        if time.monotonic() > deadline:
            raise KernobError("the figures don't move on", remedy="look at the agent's log")
        # The agent's interval is longer than the one asked for, or just not over.
        time.sleep(0.05)
    return sample


def _json(
    sample: rates.Sample, view: rates.View, kept: list[rates.Line], others: list[rates.Line]
) -> str:
    table = sample.table
    rest = rates.summed(others, sample.seconds)
    answer = {
        "time": _when(table).isoformat().replace("+00:00", "Z"),
        "interval": sample.seconds,
        "host": table.host,
        "version": table.version,
        "mode": table.mode,
        "description": table.description,
        "losses": table.losses,
        "by": view,
        "total": _figures(rates.total(sample), table),
        "rows": [_names(line, view) | _figures(line, table) for line in kept],
        "others": {"count": rest.count} | _figures(rest, table) if others else None,
    }
    return msgspec.json.format(msgspec.json.encode(answer), indent=2).decode() + "\n"


def _when(table: Table) -> datetime:
    return datetime.fromtimestamp(table.time / 1e9, UTC)


def _names(line: rates.Line, view: rates.View) -> dict[str, Any]:
    row = line.row
    if view == "process":
        names = ("pid", "start", "executable", "command", "user", "unit", "container", "service")
        return {name: getattr(row, name) for name in names} | {"ended": line.ended}
    if view == "service":
        return {"service": row.service, "processes": line.processes()}
    return {
        "peer": row.peer,
        "port": row.port,
        "transport": row.transport,
        "side": row.side,
        "services": line.names(lambda row: row.service),
        "processes": line.processes(),
    }


def _figures(line: rates.Line, table: Table) -> dict[str, Any]:
    """Returns bytes, and bytes and operations per second; None for what isn't measured."""
    counted = columns.counts_operations(table)
    return {
        "transmit_rate": line.transmit_rate,
        "receive_rate": line.receive_rate,
        "operations_rate": line.operations_rate if counted else None,
        "transmit": line.transmit,
        "receive": line.receive,
        "operations": line.operations if counted else None,
        "connections": line.connections,
    }


def _text(
    sample: rates.Sample,
    view: rates.View,
    order: cells.Column,
    kept: list[rates.Line],
    others: list[rates.Line],
) -> str:
    table, everything = sample.table, rates.total(sample)
    scale = columns.Scale(
        everything.moved_transmit + everything.moved_receive, columns.counts_operations(table)
    )
    fitted = cells.fit(columns.COLUMNS[view], terminal_width(), order, columns.absent(view, sample))
    head = (
        f"{table.host}  {columns.mode_text(table)}  {_when(table):%Y-%m-%d %H:%M:%S} UTC"
        f"  over {sample.seconds:.3g} s"
        f"  transmit {rates.rate_text(everything.transmit_rate)}"
        f"  receive {rates.rate_text(everything.receive_rate)}"
    )
    about = [] if table.mode == "ebpf" else [table.description]
    lost = columns.losses_text(table)
    rest = rates.summed(others, sample.seconds) if others else None
    return "\n".join(
        [head, *about, *([lost] if lost else []), *rows(fitted, kept, rest, scale), ""]
    )


def terminal_width() -> int:
    """Returns how wide a line may be; a pipe has no width: watch(1) says its own in COLUMNS."""
    return shutil.get_terminal_size((160, 24)).columns


def rows(
    fitted: list[tuple[cells.Column, int]], kept: Sequence[Any], rest: Any, scale: Any
) -> list[str]:
    """Returns titles and lines as text; `rest` is the sum of those left out, None without."""
    texts = [[one.title for one, _ in fitted]]
    texts += [[one.cell(line, scale) for one, _ in fitted] for line in kept]
    if rest is not None:
        texts.append(cells.others_cells(rest, scale, fitted))
    return [
        (" " * cells.GAP)
        .join(
            cells.placed(text, width, right=one.number)
            for text, (one, width) in zip(line, fitted, strict=True)
        )
        .rstrip()
        for line in texts
    ]
