"""From counters to increases: the one place that knows how.

A series (SeriesId) that starts anew gets a new Start; within one Start a cumulative counter only
grows. So in each step of each (SeriesId, Start) the highest value is the last one, however often
and in whatever order points came, and the increase of a step is that value less the one before:

- The first value counts from 0 if the counter began (Start) within what is read, or if whoever
  sends it was heard of before without it; else it is unknown what came before, and the first value
  is where counting begins. What is read begins `LOOK_BACK` steps before the range for that.
- A value that falls within one Start counts from 0: a sender that restarts without saying so.
- Increments (deltas, temporality 1) are summed.

Increases are exact: their sum is what was counted between the first and the last point. Rates are
drawn from them: what was counted after a gap belongs to the whole gap, so its rate is spread over
it, and the steps without a measurement stay empty. One sender takes snapshots of all its series at
once, so gaps are those of senders.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping

    import pyarrow as pa
    from numpy.typing import NDArray

    from kernob.queries.model import Range
    from kernob.store.engine import Reader

LOOK_BACK: Final = 12
"""Steps before the range that are read for the value to start from."""
STORED_WITHIN: Final = 500
"""Milliseconds from a snapshot to its place in the store, as a rule."""


@dataclass(frozen=True, slots=True)
class Which:
    """Which series of a metric.

    Attributes:
        sql: a condition over the columns of `kernob_series`.
        parameters: of it.
    """

    sql: str = "1"
    parameters: Mapping[str, object] = field(default_factory=dict)


ALL: Final = Which()


@dataclass(frozen=True, slots=True)
class Increases:
    """How much counters grew, by what they were told apart by and by sender.

    Attributes:
        labels: of each row, by name.
        values: shape (rows, steps of the range): increase within each step.
        rates: shape (rows, steps of the range): per second; NaN where its sender was silent.
        distinct: shape (pairs, 2), uint64: row, and hash of a text that `distinct` asked for, for
            texts of series that grew.
        points: that were read.
    """

    labels: dict[str, list[Any]]
    values: NDArray[np.float64]
    rates: NDArray[np.float64]
    distinct: NDArray[np.uint64]
    points: int


def increases(
    reader: Reader,
    metric: str,
    asked: Range,
    labels: Mapping[str, str],
    which: Which = ALL,
    distinct: str = "''",
) -> Increases:
    """Returns how much a metric's counters grew in each step.

    The SQL takes the highest value of each series in each step as an array, fills what is missing
    with the value before, and takes differences; then arrays are added up by label and sender.

    Args:
        reader: of the store.
        metric: its name.
        asked: the range.
        labels: SQL over the columns of `kernob_series`, by the name it has in the answer.
        which: series of it.
        distinct: SQL over the same columns, a text: see `Increases.distinct`.

    Raises:
        StoreError: as `Reader.read`.
    """
    steps = (asked.end - asked.start) // asked.step + LOOK_BACK
    begin = asked.start - LOOK_BACK * asked.step
    names = [f"label{number}" for number in range(len(labels))]
    selected = "".join(
        f", any({sql}) AS {name}" for name, sql in zip(names, labels.values(), strict=True)
    )
    columns = "".join(f"{name}, " for name in names)
    points = asked.tier == "points"
    value, summed, count = ("Value", "Value", "count()") if points else ("Max", "Sum", "sum(Count)")
    milliseconds = (
        "toUnixTimestamp64Milli(Time)" if points else "toInt64(toUnixTimestamp(Time)) * 1000"
    )
    chosen = (
        "MetricName = {metric:String} "
        "AND Day >= toDate(fromUnixTimestamp64Milli({begin:Int64}), 'UTC') - 1 "
        "AND Day <= toDate(fromUnixTimestamp64Milli({end:Int64}), 'UTC') + 1 "
        f"AND ({which.sql})"
    )
    source = (
        f"FROM kernob_{asked.tier} WHERE MetricName = {{metric:String}} "
        "AND Time >= fromUnixTimestamp64Milli({begin:Int64}) "
        "AND Time < fromUnixTimestamp64Milli({end:Int64}) AND SeriesId IN "
        f"(SELECT SeriesId FROM kernob_series WHERE {chosen} AND Temporality "
    )
    # One is added to each value, so that 0 says that there is none.
    table = reader.read(
        f"""
WITH intDiv({milliseconds} - {{begin:Int64}}, {{step:Int64}}) AS bucket,
series AS (
    SELECT SeriesId, any(cityHash64(ResourceAttributes)) AS sender,
        any(cityHash64({distinct})) AS told_apart{selected}
    FROM kernob_series WHERE {chosen} GROUP BY SeriesId
),
counters AS (
    SELECT SeriesId, Start, {count} AS points, min(bucket) AS first,
        maxResample(0, {steps}, 1)({value} + 1, bucket) AS highest
    {source} != 1) GROUP BY SeriesId, Start
),
deltas AS (
    SELECT SeriesId, {count} AS points, sumResample(0, {steps}, 1)({summed}, bucket) AS increase,
        countResample(0, {steps}, 1)(bucket) AS present
    {source} = 1) GROUP BY SeriesId
),
grown AS (
    SELECT {columns}sender, told_apart, points, arrayMap(v -> v > 0, highest) AS present,
        Start >= fromUnixTimestamp64Milli({{begin:Int64}})
            OR min(first) OVER (PARTITION BY sender) < first AS born,
        arrayFill(v -> v > 0, arrayPushFront(highest, if(born, 1, highest[first + 1]))) AS values,
        arrayMap((v, before) -> if(v < before, v - 1, v - before),
            arrayPopFront(values), arrayPopBack(values)) AS increase
    FROM counters INNER JOIN series USING SeriesId
    UNION ALL
    SELECT {columns}sender, told_apart, points, arrayMap(c -> c > 0, present), true, [], increase
    FROM deltas INNER JOIN series USING SeriesId
)
SELECT {columns}sender, sum(points) AS points_read, max(points) AS snapshots,
    maxForEach(present) AS heard, sumForEach(increase) AS grew,
    groupUniqArrayIf(told_apart, arraySum(arraySlice(increase, {LOOK_BACK + 1})) > 0) AS texts
FROM grown GROUP BY {columns}sender""",
        metric=metric,
        begin=begin,
        end=asked.end,
        step=asked.step,
        **which.parameters,
    )
    return _arranged(table, dict(zip(labels, names, strict=True)), steps, asked.step)


def _arranged(table: pa.Table, names: Mapping[str, str], steps: int, step: int) -> Increases:
    rows = table.num_rows
    found = {label: table[name].to_pylist() if rows else [] for label, name in names.items()}
    if not rows:
        empty = np.zeros((0, steps - LOOK_BACK))
        return Increases(found, empty, empty, np.zeros((0, 2), np.uint64), 0)
    values = _flat(table, "grew").reshape(rows, steps)
    present = _flat(table, "heard").reshape(rows, steps) > 0
    _, sender = np.unique(table["sender"].to_numpy(), return_inverse=True)
    rates = _rates(values, present, sender, table["snapshots"].to_numpy()) * (1000 / step)
    told_apart = table["texts"].combine_chunks()
    owners = np.repeat(np.arange(rows), np.diff(told_apart.offsets.to_numpy()))
    return Increases(
        labels=found,
        values=values[:, LOOK_BACK:],
        rates=rates[:, LOOK_BACK:],
        distinct=np.column_stack([owners.astype(np.uint64), _flat(table, "texts")]),
        points=int(table["points_read"].to_numpy().sum()),
    )


def _flat(table: pa.Table, name: str) -> NDArray[Any]:
    """Returns the values of a column of lists, one after the other."""
    values: NDArray[Any] = table[name].combine_chunks().flatten().to_numpy(zero_copy_only=False)
    return values


def _rates(
    values: NDArray[np.float64],
    present: NDArray[np.bool_],
    sender: NDArray[np.intp],
    snapshots: NDArray[np.uint64],
) -> NDArray[np.float64]:
    """Returns increases per step, spread over what they cover; NaN where nothing is known.

    Args:
        values: shape (rows, steps), increases.
        present: shape (rows, steps), whether anything was heard.
        sender: shape (rows,), number of each row's sender.
        snapshots: shape (rows,), points of the row's series that has the most.
    """
    rates = np.full(values.shape, np.nan)
    for number in range(int(sender.max()) + 1):
        mine = np.flatnonzero(sender == number)
        heard = np.flatnonzero(present[mine].any(axis=0))
        distance = np.diff(heard, prepend=heard[0] - 1)
        # Senders that are heard about once a step miss one now and then, since they are not on the
        # dot: such a step is no gap. Nor are those between the points of slow senders.
        dense = snapshots[mine].max() >= 2 * len(heard)
        reach = 1 if dense or len(heard) == 1 else 2 * int(distance[1:].min())
        # Each step that was heard of fills itself and, within reach, the silent ones before it.
        lengths = np.where(distance <= reach, distance, 1)
        filling = np.repeat(np.arange(len(heard)), lengths)
        at = heard[filling] - (np.cumsum(lengths)[filling] - 1 - np.arange(len(filling)))
        per_step = values[mine][:, heard] / distance
        rates[mine[:, None], at] = per_step[:, filling]
    return rates


def complete_steps(asked: Range, now: int | None = None) -> int:
    """Returns how many steps of the range nothing is added to any more.

    The snapshot that ends a step comes an interval later at most, and takes a moment to be stored.
    """
    now = time.time_ns() // 1_000_000 if now is None else now
    settled = min(asked.end, now - asked.interval - STORED_WITHIN)
    return max(0, settled - asked.start) // asked.step
