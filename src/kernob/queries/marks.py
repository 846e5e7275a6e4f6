"""What happened meanwhile: marks on the time axis of every chart."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from kernob.queries.model import Mark

if TYPE_CHECKING:
    from kernob.queries.model import Range
    from kernob.store.engine import Reader

MOST: Final = 50
"""Marks at most: the latest ones."""


def marks(reader: Reader, asked: Range, host: str = "") -> list[Mark]:
    """Returns the starts of agents within the range, in order of time.

    The SQL looks at the Start of `kernob.agent.cpu.time`: a counter starts with its agent.

    Raises:
        StoreError: as `Reader.read`.
    """
    found = reader.read(
        f"SELECT toUnixTimestamp64Milli(Start) AS start, any(Host) AS host "
        f"FROM kernob_{asked.tier} AS p INNER JOIN ("
        "SELECT SeriesId, any(Host) AS Host FROM kernob_series "
        "WHERE MetricName = 'kernob.agent.cpu.time' "
        "AND Day >= toDate(fromUnixTimestamp64Milli({start:Int64}), 'UTC') - 1 GROUP BY SeriesId"
        ") AS s USING SeriesId "
        "WHERE MetricName = 'kernob.agent.cpu.time' "
        "AND Time >= fromUnixTimestamp64Milli({start:Int64}) "
        "AND Time < fromUnixTimestamp64Milli({end:Int64}) "
        "AND Start >= fromUnixTimestamp64Milli({start:Int64}) "
        "AND ({host:String} = '' OR Host = {host:String}) "
        f"GROUP BY SeriesId, Start ORDER BY start DESC LIMIT {MOST}",
        start=asked.start,
        end=asked.end,
        host=host,
    )
    if not found.num_rows:
        return []
    rows = zip(found["start"].to_pylist(), found["host"].to_pylist(), strict=True)
    return [Mark(start, name, "the agent started") for start, name in reversed(list(rows))]
