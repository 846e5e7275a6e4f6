"""The columns of `kernob top --requests`: what they hold and how they sort."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from kernob.errors import ConfigError
from kernob.rates import count_text, duration_text
from kernob.top.cells import NOT_MEASURED, Column

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from kernob.request_rates import Line

DEFAULT_SORT: Final = "share"


def share_of(line: Line, total: Line) -> float:
    """Returns which part of the time of all requests these took, 0 to 1."""
    return line.time / total.time if total.time else 0.0


def _share(line: Line, total: Line) -> str:
    percent = 100 * share_of(line, total)
    return "<1 %" if 0 < percent < 0.5 else f"{percent:.0f} %"  # noqa: PLR2004


def _name(name: str, place: int, width: int, widest: int, rank: int) -> Column:
    return Column(
        *(name, name, width, widest, rank),
        value=lambda line: line.key[place].lower(),
        cell=lambda line, _: line.key[place],
    )


def _rate(name: str, title: str, rank: int, of: Callable[[Line], float]) -> Column:
    return Column(
        *(name, title, 6, 6, rank),
        value=of,
        cell=lambda line, _: count_text(of(line)),
        number=True,
        descending=True,
        adds=True,
    )


def _quantile(name: str, rank: int, q: float) -> Column:
    def cell(line: Line, _: Line) -> str:
        found = line.quantile(q)
        return NOT_MEASURED if found is None else duration_text(found)

    return Column(
        *(name, name, 8, 8, rank),
        value=lambda line: line.quantile(q) or 0.0,
        cell=cell,
        number=True,
        descending=True,
        adds=True,
    )


COLUMNS: Final = (
    _name("service", 0, 12, 26, 1),
    _name("side", 1, 6, 6, 5),
    _name("peer", 2, 10, 26, 4),
    _name("protocol", 3, 8, 10, 6),
    _name("operation", 4, 14, 60, 0),
    Column(
        *("share", "share", 6, 16, 2),
        value=lambda line: line.time,
        cell=_share,
        number=True,
        descending=True,
        adds=True,
        part=share_of,
    ),
    _rate("requests", "req/s", 0, lambda line: line.rate),
    _rate("errors", "err/s", 1, lambda line: line.error_rate),
    _quantile("p50", 3, 0.5),
    _quantile("p95", 4, 0.95),
    _quantile("p99", 2, 0.99),
)
"""In their order; what cells need to know of the whole table is the sum of all its lines."""


def column(name: str) -> Column:
    """Returns the column that is called `name`.

    Raises:
        ConfigError: there is none.

    """
    for one in COLUMNS:
        if one.name == name:
            return one
    names = ", ".join(one.name for one in COLUMNS)
    raise ConfigError(f"top of requests has no column {name!r}", remedy=f"sort by one of {names}")


def ordered(lines: Iterable[Line], by: Column, *, reverse: bool) -> list[Line]:
    """Returns the lines in the order of a column; those that are equal keep a stable order."""
    stable = sorted(lines, key=lambda line: (-line.requests, line.key))
    return sorted(stable, key=by.value, reverse=by.descending != reverse)
