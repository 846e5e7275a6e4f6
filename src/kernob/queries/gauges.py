"""Values that may fall: memory, connections, entries of tables."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from kernob.queries.runs import ALL

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from kernob.queries.model import Range
    from kernob.queries.runs import Which
    from kernob.store.engine import Reader

RECENT: Final = 30_000
"""Milliseconds that the latest point of a series that lives may be old; or three intervals."""


@dataclass(frozen=True, slots=True)
class Levels:
    """Values over time.

    Attributes:
        labels: of each row, by name.
        values: shape (rows, steps of the range): mean of each step; NaN without a point.
    """

    labels: dict[str, list[Any]]
    values: NDArray[np.float64]


def levels(
    reader: Reader, metric: str, asked: Range, labels: Mapping[str, str], which: Which = ALL
) -> Levels:
    """Returns the mean of each series in each step, added up by label.

    Args:
        reader: of the store.
        metric: its name.
        asked: the range.
        labels: SQL over the columns of `kernob_series`, by the name it has in the answer.
        which: series of it.

    Raises:
        StoreError: as `Reader.read`.
    """
    steps = (asked.end - asked.start) // asked.step
    names = [f"label{number}" for number in range(len(labels))]
    selected = ", ".join(
        f"any({sql}) AS {name}" for name, sql in zip(names, labels.values(), strict=True)
    )
    columns = ", ".join(names)
    mean, milliseconds = "sum(Sum) / sum(Count)", "toInt64(toUnixTimestamp(Time)) * 1000"
    if asked.tier == "points":
        mean, milliseconds = "avg(Value)", "toUnixTimestamp64Milli(Time)"
    found = reader.read(
        f"""
SELECT {columns}, bucket, sum(mean) AS level FROM (
    SELECT SeriesId, intDiv({milliseconds} - {{start:Int64}}, {{step:Int64}}) AS bucket,
        {mean} AS mean
    FROM kernob_{asked.tier}
    WHERE MetricName = {{metric:String}} AND Time >= fromUnixTimestamp64Milli({{start:Int64}})
        AND Time < fromUnixTimestamp64Milli({{end:Int64}})
    GROUP BY SeriesId, bucket
) AS points INNER JOIN (
    SELECT SeriesId, {selected} FROM kernob_series
    WHERE MetricName = {{metric:String}} AND ({which.sql})
        AND Day >= toDate(fromUnixTimestamp64Milli({{start:Int64}}), 'UTC') - 1
    GROUP BY SeriesId
) AS series USING SeriesId GROUP BY {columns}, bucket""",
        metric=metric,
        start=asked.start,
        end=asked.end,
        step=asked.step,
        **which.parameters,
    )
    rows: dict[tuple[Any, ...], int] = {}
    told = zip(*(found[name].to_pylist() for name in names), strict=True)
    row = [rows.setdefault(key, len(rows)) for key in told]
    values = np.full((len(rows), steps), np.nan)
    if row:
        values[row, found["bucket"].to_numpy()] = found["level"].to_numpy()
    return Levels({label: [key[at] for key in rows] for at, label in enumerate(labels)}, values)


def latest(
    reader: Reader, metric: str, asked: Range, label: str, which: Which = ALL
) -> dict[str, int]:
    """Returns the latest values of a metric that may fall, within the range, added up by label.

    The SQL takes the last point of each series that was sent in the last `RECENT` milliseconds: a
    series that is older has ended.

    Args:
        reader: of the store.
        metric: its name.
        asked: the range.
        label: SQL over the columns of `kernob_series`.
        which: series of it.

    Raises:
        StoreError: as `Reader.read`.
    """
    value = "Value" if asked.tier == "points" else "Max"
    recent = max(3 * asked.interval, RECENT, 0 if asked.tier == "points" else 2 * asked.step)
    found = reader.read(
        f"""
WITH series AS (
    SELECT SeriesId, any({label}) AS label
    FROM kernob_series WHERE MetricName = {{metric:String}}
        AND Day >= toDate(fromUnixTimestamp64Milli({{begin:Int64}}), 'UTC') - 1 AND ({which.sql})
    GROUP BY SeriesId
)
SELECT label, sum(value) AS total FROM (
    SELECT SeriesId, argMax({value}, (Time, Start)) AS value FROM kernob_{asked.tier}
    WHERE MetricName = {{metric:String}} AND SeriesId IN (SELECT SeriesId FROM series)
        AND Time >= fromUnixTimestamp64Milli({{begin:Int64}})
        AND Time < fromUnixTimestamp64Milli({{end:Int64}})
    GROUP BY SeriesId
) AS points INNER JOIN series USING SeriesId GROUP BY label""",
        metric=metric,
        begin=min(asked.end, time.time_ns() // 1_000_000) - recent,
        end=asked.end,
        **which.parameters,
    )
    if not found.num_rows:
        return {}
    totals = zip(found["label"].to_pylist(), found["total"].to_pylist(), strict=True)
    return {name: round(total) for name, total in totals}
