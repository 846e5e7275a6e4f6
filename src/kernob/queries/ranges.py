"""The stretch of time a page is about: from texts such as `now-15m` to equal steps of one table.

Short ranges are read as sent, longer ones from rollups, so that a chart has some hundred steps and
a query looks at some hundred points of a series, however long the range is.
"""

from __future__ import annotations

import re
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from kernob.errors import QueryError
from kernob.queries.model import Range

if TYPE_CHECKING:
    from collections.abc import Mapping

    from kernob.store.engine import Reader

MOST_STEPS: Final = 360
"""With data."""
MOST_EMPTY: Final = 1000
"""Steps at most, most of them before there were data: a new store is looked at closely."""
SHORTEST: Final = 10_000
LONGEST: Final = 400 * 86_400_000
"""Milliseconds that a range may be long."""
LATEST: Final = 86_400_000
"""How far ahead of the clock a range may end: clocks differ, but not by a day."""
TIERS: Final = {
    "points": (3_600_000, 1_000),
    "points_1m": (6 * 3_600_000, 60_000),
    "points_5m": (48 * 3_600_000, 300_000),
    "points_1h": (LONGEST, 3_600_000),
}
"""How long a range each table is read for, and the smallest step it can give; milliseconds."""
STEPS: Final = tuple(
    seconds * 1000
    for seconds in (
        *(1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800),
        *(3600, 7200, 10_800, 21_600, 43_200, 86_400, 172_800),
    )
)
"""Milliseconds that a step may be long: all divide a day, or are days."""
SHORTEST_INTERVAL: Final = 1_000
"""Milliseconds between two snapshots of an agent, as long as no agent has sent two."""

_UNITS: Final = {
    "s": 1_000,
    "m": 60_000,
    "h": 3_600_000,
    "d": 86_400_000,
    "w": 7 * 86_400_000,
}
_RELATIVE: Final = re.compile(r"now(?:-(\d{1,9})([smhdw]))?")
_MILLISECONDS: Final = re.compile(r"\d{1,15}")


def moment(text: str, now: int) -> int:
    """Returns what a text means: `now`, `now-15m` (s, m, h, d, w), RFC 3339, or milliseconds.

    Args:
        text: as in a page's URL.
        now: milliseconds since the Unix epoch, as is the answer.

    Raises:
        QueryError: it means nothing.
    """
    text = text.strip()
    if match := _RELATIVE.fullmatch(text):
        return now - (int(match[1]) * _UNITS[match[2]] if match[1] else 0)
    if _MILLISECONDS.fullmatch(text):
        return int(text)
    try:
        parsed = datetime.fromisoformat(text)
        if parsed.tzinfo is None:
            parsed = parsed.replace(tzinfo=UTC)
        return int(parsed.timestamp() * 1000)
    except (ValueError, OverflowError) as error:
        raise QueryError(
            f"{text[:64]!r} is no time",
            remedy="write now, now-15m, 2026-11-21T15:00:00Z, or milliseconds since 1970",
        ) from error


def check(start: int, end: int, now: int) -> None:
    """Refuses what can't be a range.

    Raises:
        QueryError: it ends before it starts, or is too long, or lies ahead.
    """
    if end <= start:
        raise QueryError("the range ends before it starts", remedy="swap `from` and `to`")
    if end - start > LONGEST:
        raise QueryError(
            f"the range is {(end - start) // 86_400_000} days long",
            remedy=f"ask for at most {LONGEST // 86_400_000} days",
        )
    if end > now + LATEST:
        raise QueryError("the range ends in the future", remedy="end it at now")
    if start < 0:
        raise QueryError("the range starts before 1970", remedy="start it later")


def choose(start: int, end: int, interval: int, oldest: Mapping[str, int]) -> Range:
    """Returns the range in steps, and the table to read it from.

    Args:
        start: milliseconds since the Unix epoch.
        end: the same; a range shorter than `SHORTEST` is made longer at its start.
        interval: milliseconds between two snapshots of agents: no step is smaller.
        oldest: time of the oldest row of each table; a table without rows is not in.
    """
    start = min(start, end - SHORTEST)
    tier = _tier(start, end, oldest)
    smallest = max(TIERS[tier][1], interval)
    known = end - max(start, min(end, oldest.get(tier, start)))
    fewest = max(float(smallest), known / MOST_STEPS, (end - start) / MOST_EMPTY)
    step = next((step for step in STEPS if step >= fewest), STEPS[-1])
    return Range(start // step * step, -(-end // step) * step, step, tier, interval)


def _tier(start: int, end: int, oldest: Mapping[str, int]) -> str:
    """Returns the finest table for this length, or a coarser one that still has the beginning."""
    names = [name for name, (longest, _) in TIERS.items() if end - start <= longest]
    best = names[0]
    for name in names[1:]:
        if best in oldest and oldest[best] <= start:
            break
        # A rollup's rows carry the start of their bucket: only what is older by more is older.
        if name in oldest and oldest[name] < oldest.get(best, end) - TIERS[name][1]:
            best = name
    return best


def resolve(reader: Reader, start: str, end: str, now: int | None = None) -> Range:
    """Returns the range between two texts (see `moment`), as the store's data allow.

    The SQL asks for the oldest row of each table, which parts know without being read, and for the
    interval of agents: the median over them of the time between two of their latest snapshots.

    Raises:
        QueryError: the texts are no range.
    """
    now = time.time_ns() // 1_000_000 if now is None else now
    first, last = moment(start, now), moment(end, now)
    check(first, last, now)
    oldest = " UNION ALL ".join(
        f"SELECT '{name}' AS name, toUnixTimestamp(min(Time)) * 1000. AS value, "
        f"count() AS rows FROM kernob_{name}"
        for name in TIERS
    )
    found = reader.read(
        f"{oldest} UNION ALL SELECT 'interval', quantileExact(0.5)(spacing), count() "
        "FROM (SELECT dateDiff('ms', min(Time), max(Time)) / (uniqExact(Time) - 1) AS spacing "
        "FROM kernob_points WHERE MetricName = 'kernob.agent.collections' "
        "AND Time > fromUnixTimestamp64Milli({end:Int64} - 600000) "
        "AND Time <= fromUnixTimestamp64Milli({end:Int64}) "
        "GROUP BY SeriesId, Start HAVING uniqExact(Time) > 1)",
        end=min(last, now),
    )
    rows = zip(*(found[column].to_pylist() for column in ("name", "value", "rows")), strict=True)
    known = {name: int(value) for name, value, count in rows if count}
    interval = known.pop("interval", SHORTEST_INTERVAL)
    # Snapshots come a little early or late: 14.99 s are 15.
    interval = max(SHORTEST_INTERVAL, round(interval / 500) * 500)
    return choose(first, last, interval, known)


def times(asked: Range) -> list[int]:
    """Returns the start of each step, milliseconds since the Unix epoch."""
    return list(range(asked.start, asked.end, asked.step))
