"""`kernob top --requests --once`: the operations of one interval, as JSON or as a plain table."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import msgspec

from kernob import rates, request_rates
from kernob.top import cells, columns, request_columns
from kernob.top.snapshot import first_sample, rows, terminal_width

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TextIO

    from kernob.request_rates import Line, Sample


def once(
    source: Callable[[], Sample | None],
    *,
    out: TextIO,
    interval: float = 1.0,
    sort: str = request_columns.DEFAULT_SORT,
    filter_text: str = "",
    limit: int | None = None,
    as_json: bool = False,
) -> None:
    """Writes the operations that were asked for in one interval to `out`.

    Args:
        source: as for `kernob.top.requests.RequestsApp`.
        out: where to.
        interval: seconds between the two tables.
        sort: a column.
        filter_text: as after `/` in the live table.
        limit: how many lines; None for all.
        as_json: one JSON object instead of a table.

    Raises:
        ConfigError: `sort` names nothing.
        KernobError: what the source raises, or its figures don't move on.

    """
    order = request_columns.column(sort)
    sample = first_sample(source, interval)
    found = request_columns.ordered(
        request_rates.matching(sample.lines, filter_text), order, reverse=False
    )
    kept, others = found[:limit], found[limit:] if limit is not None else []
    rest = request_rates.summed(others, sample.seconds) if others else None
    total = request_rates.summed(sample.lines, sample.seconds)
    if as_json:
        out.write(_json(sample, total, kept, rest))
        return
    table = sample.table
    fitted = cells.fit(request_columns.COLUMNS, terminal_width(), order)
    head = (
        f"{table.host}  {_when(sample):%Y-%m-%d %H:%M:%S} UTC  over {sample.seconds:.3g} s"
        f"  {rates.count_text(total.rate)} requests/s"
        f"  {rates.count_text(total.error_rate)} errors/s"
    )
    notes = [note for note in (table.reason, columns.losses_text(table)) if note]
    out.write("\n".join([head, *notes, *rows(fitted, kept, rest, total), ""]))


def _when(sample: Sample) -> datetime:
    return datetime.fromtimestamp(sample.table.time / 1e9, UTC)


def _json(sample: Sample, total: Line, kept: list[Line], rest: Line | None) -> str:
    table = sample.table
    answer = {
        "time": _when(sample).isoformat().replace("+00:00", "Z"),
        "interval": sample.seconds,
        "host": table.host,
        "version": table.version,
        "reason": table.reason,
        "losses": table.losses,
        "total": _figures(total, total),
        "rows": [
            dict(zip(("service", "side", "peer", "protocol", "operation"), line.key, strict=True))
            | _figures(line, total)
            for line in kept
        ],
        "others": {"count": rest.count} | _figures(rest, total) if rest else None,
    }
    return msgspec.json.format(msgspec.json.encode(answer), indent=2).decode() + "\n"


def _figures(line: Line, total: Line) -> dict[str, Any]:
    """Returns rates per second and seconds; None where there was no request."""
    return {
        "requests": line.requests,
        "request_rate": line.rate,
        "error_rate": line.error_rate,
        "p50": line.quantile(0.5),
        "p95": line.quantile(0.95),
        "p99": line.quantile(0.99),
        "share": request_columns.share_of(line, total),
    }
