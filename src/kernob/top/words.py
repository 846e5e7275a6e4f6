"""The words around the table: title, totals of the machine, views and keys."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Final, NamedTuple

from textual.content import Content

from kernob import rates
from kernob.top import cells, columns

if TYPE_CHECKING:
    from kernob.traffic import Table

    Part = str | tuple[str, str]

PATH: Final = "  \N{SINGLE RIGHT-POINTING ANGLE QUOTATION MARK}  "
"""Between the lines that were opened one in the other."""
PLURAL: Final[dict[rates.View, str]] = {
    "process": "processes",
    "service": "services",
    "peer": "peers",
}
WIDEST_SPARKLINE: Final = 60


class Rates(NamedTuple):
    """Bytes per second of the whole machine."""

    transmit: float
    receive: float


def sparkline(values: list[float | None], width: int) -> str:
    """Returns the last `width` values as blocks from zero to the largest; None is a gap."""
    recent = values[-width:]
    largest = max((value for value in recent if value is not None), default=0.0)
    blocks = [
        " " if value is None else "▁▂▃▄▅▆▇█"[round(7 * value / largest) if largest else 0]
        for value in recent
    ]
    return "".join(blocks).rjust(width)


def title(table: Table | None) -> Content:
    """Returns which machine this is, and how the figures are known."""
    parts: list[Part] = [("kernob top", "bold $accent")]
    if table is not None:
        parts += [
            (f"  {table.host}", "bold"),
            (f"  {columns.mode_text(table)}", "$quiet" if table.mode == "ebpf" else "$warning"),
            (f"  {table.version}", "$quiet"),
        ]
    return Content.assemble(*parts)


def state(sample: rates.Sample | None, *, paused: bool) -> Content:
    """Returns of when the figures are."""
    parts: list[Part] = [(" PAUSED ", "bold reverse $accent"), "  "] if paused else []
    if sample is not None:
        when = datetime.fromtimestamp(sample.table.time / 1e9).astimezone()
        parts.append((f"{when:%H:%M:%S %Z}, over {sample.seconds:.2g} s", "$quiet"))
    return Content.assemble(*parts)


def machine(sample: rates.Sample | None, history: list[Rates | None], width: int) -> Content:
    """Returns the totals of the machine in one line of `width` cells."""
    if sample is None:
        return Content.assemble(("measuring…", "$quiet"))
    everything = rates.total(sample)
    room = max(6, min(WIDEST_SPARKLINE, (width - 68) // 2))
    parts: list[Part] = []
    for direction, rate in enumerate((everything.transmit_rate, everything.receive_rate)):
        values = [None if pair is None else pair[direction] for pair in history]
        parts += [
            (f"{Rates._fields[direction]} ", "$quiet"),
            (f"{columns.aligned_bytes(rate, '/s')} ", "bold"),
            (sparkline(values, room), "$bar"),
            "  ",
        ]
    operations = cells.NOT_MEASURED
    if columns.counts_operations(sample.table) and sample.by is None:
        operations = rates.count_text(everything.operations_rate)
    parts += [
        (f"{operations:>5} ", "bold"),
        ("ops/s ", "$quiet"),
        (f"{rates.count_text(everything.connections):>5} ", "bold"),
        ("conn", "$quiet"),
    ]
    return Content.assemble(*parts)


def views(counts: dict[rates.View, int | None], chosen: rates.View) -> Content:
    """Returns the views one can choose, and how many lines each has, where that is known."""
    parts: list[Part] = []
    for view, count in counts.items():
        parts += [
            (f"{rates.VIEWS.index(view) + 1} ", "$quiet"),
            (PLURAL[view], "bold underline $accent" if view == chosen else "$foreground"),
            ("" if count is None else f" {count:,}", "$quiet"),
            "   ",
        ]
    return Content.assemble(*parts[:-1])


def keys(*, paused: bool) -> Content:
    """Returns the most important keys."""
    shown = {
        "/": "filter",
        "<>": "sort",
        "Space": "go on" if paused else "pause",
        "Enter": "open",
        "Esc": "back",
        "?": "help",
        "q": "quit",
    }
    parts: list[Part] = []
    for key, what in shown.items():
        parts += [(key, "$foreground"), (f" {what}  ", "$quiet")]
    return Content.assemble(*parts)
