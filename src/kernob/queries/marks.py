"""What happened meanwhile: marks on the time axis of every chart."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from kernob.queries.model import Mark
from kernob.queries.runs import Which

if TYPE_CHECKING:
    from kernob.queries.model import Range
    from kernob.store.engine import Reader

MOST: Final = 50
"""Marks of each kind at most: the latest ones."""
AT_ONCE: Final = 5_000
"""Milliseconds around an agent's start: what begins then was only first seen then."""


def marks(reader: Reader, asked: Range, host: str = "", service: str = "") -> list[Mark]:
    """Returns what happened within the range, in order of time.

    That is starts of agents, and of the processes of a service if one is given. The SQL looks at
    the Start of `kernob.agent.cpu.time` and of `process.network.io`: a counter starts with its
    process.

    Args:
        reader: of the store.
        asked: the range.
        host: only there; empty for all.
        service: whose processes; empty for none.

    Raises:
        StoreError: as `Reader.read`.
    """
    at = "({host:String} = '' OR Host = {host:String})"
    agents = _starts(reader, "kernob.agent.cpu.time", asked, Which(at, {"host": host}))
    found = [Mark(row["start"], row["host"], "the agent started") for row in agents]
    if service:
        both = {"host": host, "service": service}
        which = Which(f"{at} AND Service = {{service:String}}", both)
        found += [
            Mark(row["start"], service, f"{row['program']} {row['pid']} started on {row['host']}")
            for row in _starts(reader, "process.network.io", asked, which)
            if not any(
                row["host"] == agent["host"] and abs(row["start"] - agent["start"]) < AT_ONCE
                for agent in agents
            )
        ]
    return sorted(found, key=lambda mark: mark.time)


def _starts(reader: Reader, metric: str, asked: Range, which: Which) -> list[dict[str, Any]]:
    """Returns when counters of a metric started within the range, the latest first."""
    rows: list[dict[str, Any]] = reader.read(
        f"""
SELECT DISTINCT start, host, program, pid FROM (
    SELECT SeriesId, toUnixTimestamp64Milli(Start) AS start FROM kernob_{asked.tier}
    WHERE MetricName = {{metric:String}} AND Start >= fromUnixTimestamp64Milli({{begin:Int64}})
        AND Time >= fromUnixTimestamp64Milli({{begin:Int64}})
        AND Time < fromUnixTimestamp64Milli({{end:Int64}})
    GROUP BY SeriesId, Start
) AS points INNER JOIN (
    SELECT SeriesId, any(Host) AS host, any(Attributes['process.pid']) AS pid,
        any(Attributes['process.executable.name']) AS program
    FROM kernob_series WHERE MetricName = {{metric:String}} AND {which.sql}
        AND Day >= toDate(fromUnixTimestamp64Milli({{begin:Int64}}), 'UTC') - 1
    GROUP BY SeriesId
) AS series USING SeriesId ORDER BY start DESC LIMIT {MOST}""",
        metric=metric,
        begin=asked.start,
        end=asked.end,
        **which.parameters,
    ).to_pylist()
    return rows
