"""The words around the table: title, totals of the machine, views and keys."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Final, NamedTuple

from textual.content import Content

from kernob import rates
from kernob.top import cells, columns
from kernob.traffic import Table

if TYPE_CHECKING:
    from kernob import request_rates
    from kernob.requests_table import SeriesTable

    Part = str | tuple[str, str]

PATH: Final = "  \N{SINGLE RIGHT-POINTING ANGLE QUOTATION MARK}  "
"""Between the lines that were opened one in the other."""
PLURAL: Final[dict[rates.View, str]] = {
    "process": "processes",
    "service": "services",
    "peer": "peers",
}
MEASURING: Final = Content.assemble(("measuring…", "$quiet"))
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


def title(table: Table | SeriesTable | None) -> Content:
    """Returns which machine this is, and how the figures are known."""
    parts: list[Part] = [("kernob top", "bold $accent")]
    if table is not None:
        polled = isinstance(table, Table) and table.mode != "ebpf"
        parts += [
            (f"  {table.host}", "bold"),
            ("  polled", "$warning") if polled else ("  eBPF, exact", "$quiet"),
            (f"  {table.version}", "$quiet"),
        ]
    return Content.assemble(*parts)


def state(sample: rates.Sample | request_rates.Sample | None, *, paused: bool) -> Content:
    """Returns of when the figures are."""
    parts: list[Part] = [(" PAUSED ", "bold reverse $accent"), "  "] if paused else []
    if sample is not None:
        when = datetime.fromtimestamp(sample.table.time / 1e9).astimezone()
        parts.append((f"{when:%H:%M:%S %Z}, over {sample.seconds:.2g} s", "$quiet"))
    return Content.assemble(*parts)


def machine(sample: rates.Sample | None, history: list[Rates | None], width: int) -> Content:
    """Returns the totals of the machine in one line of `width` cells."""
    if sample is None:
        return MEASURING
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


def operations(total: request_rates.Line) -> Content:
    """Returns the totals of all requests in one line."""
    p50, p99 = total.quantile(0.5), total.quantile(0.99)
    parts: list[Part] = []
    for text, what in (
        (rates.count_text(total.rate), "requests/s"),
        (rates.count_text(total.error_rate), "errors/s"),
        (cells.NOT_MEASURED if p50 is None else rates.duration_text(p50), "p50"),
        (cells.NOT_MEASURED if p99 is None else rates.duration_text(p99), "p99"),
    ):
        parts += [(f"{text:>8} ", "bold"), (f"{what}  ", "$quiet")]
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
