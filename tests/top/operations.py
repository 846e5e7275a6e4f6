"""Tables of series made by hand, shared by the tests of `kernob top --requests`."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

from kernob.requests_table import Series, SeriesTable

if TYPE_CHECKING:
    from collections.abc import Callable

MILLISECOND = -80
"""Number of the bucket that ends at 2**(-79/8) s, 1.07 ms."""


def series(operation: str, *counts: int, offset: int = MILLISECOND, **more: object) -> Series:
    named = {
        "service": "shop",
        "side": "server",
        "peer": "client",
        "protocol": "http",
        "status": "200",
        "error": "",
        "sum": 0.001 * sum(counts),
        **more,
    }
    return Series(operation=operation, offset=offset, counts=[*counts], **named)  # type: ignore[arg-type]


def shop(second: int) -> list[Series]:
    """Ten GETs a second, one of five fails; one slow POST; a query that nobody asks any more."""
    return [
        series("GET /items/{id}", 8 * second),
        series("GET /items/{id}", 2 * second, status="503", error="503"),
        series("POST /orders", second, offset=0, sum=1.05 * second),
        series("SELECT t", 7, service="db", protocol="postgresql", status=""),
    ]


class Feed:
    """A source whose tables are one second apart, however fast they are asked for."""

    def __init__(self, rows: Callable[[int], list[Series]] = shop, **changes: object) -> None:
        self._rows = rows
        self._changes = changes
        self._seconds = itertools.count(1000)

    def __call__(self) -> SeriesTable:
        second = next(self._seconds)
        values: dict[str, object] = {
            "time": second * 10**9,
            "host": "web-01",
            "version": "0.1.0",
            "reason": "",
            "losses": {},
            "series": self._rows(second),
            **self._changes,
        }
        return SeriesTable(**values)  # type: ignore[arg-type]
