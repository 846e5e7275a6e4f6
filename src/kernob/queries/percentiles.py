"""Percentiles over time from exponential histograms, as exact as their buckets.

A bucket `i` of scale `s` holds what is in (base**i, base**(i + 1)], base = 2**(2**-s). Within its
bucket a percentile lies where it would if values were spread evenly over the bucket's logarithm.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from kernob.queries.histograms import recorded, stepwise
from kernob.queries.runs import ALL

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from kernob.queries.model import Range
    from kernob.queries.runs import Which
    from kernob.queries.stored import Frame, Labels
    from kernob.store.engine import Reader


@dataclass(frozen=True, slots=True)
class Percentiles:
    """Percentiles over time.

    Attributes:
        labels: of each row, by name.
        counts: shape (rows, steps of the range): values recorded within each step.
        values: shape (rows, quantiles, steps of the range), in the metric's unit; NaN where nothing
            was recorded.
        scale: that they are exact to; the relative error is at most 2**(2**-scale) - 1.
    """

    labels: dict[str, list[Any]]
    counts: NDArray[np.float64]
    values: NDArray[np.float64]
    scale: int


def percentiles(
    reader: Reader,
    metric: str,
    asked: Range,
    quantiles: Sequence[float],
    labels: Mapping[str, str],
    which: Which = ALL,
) -> Percentiles:
    """Returns the quantiles of what a metric's histograms recorded in each step.

    The SQL is that of `histograms.recorded`. Values below zero count as zero.

    Args:
        reader: of the store.
        metric: its name.
        asked: the range.
        quantiles: each from 0 to 1.
        labels: SQL over the columns of `kernob_series`, by name.
        which: series of it.

    Raises:
        StoreError: as `Reader.read`.
    """
    rows: dict[tuple[Any, ...], int] = {}

    def group(found: Labels) -> NDArray[np.intp]:
        keys = zip(*found.values(), strict=True)
        return np.array([rows.setdefault(key, len(rows)) for key in keys], np.intp)

    found = recorded(reader, [metric], stepwise(asked), labels, which, group=group)
    counts = found.of_steps[:, found.before :]
    values = quantiles_of(counts, found.frame, quantiles)
    return Percentiles(
        labels={label: [key[n] for key in rows] for n, label in enumerate(labels)},
        counts=counts.sum(axis=2),
        values=np.moveaxis(values, 2, 1),
        scale=found.frame.scale,
    )


def quantiles_of(
    counts: NDArray[np.float64], frame: Frame, quantiles: Sequence[float]
) -> NDArray[np.float64]:
    """Returns quantiles of histograms; NaN where nothing was recorded.

    Args:
        counts: shape (..., width) of the frame.
        frame: where the buckets lie.
        quantiles: each from 0 to 1.

    Returns:
        Shape (..., quantiles).
    """
    until = counts.cumsum(axis=-1)
    # Never 0: the lowest value lies in the first bucket that holds something.
    rank = np.maximum(np.asarray(quantiles) * until[..., -1:], 1e-9)
    # The bucket in which the rank lies: the first that reaches it.
    at = (until[..., None, :] < rank[..., :, None]).sum(axis=-1).clip(max=frame.width - 1)
    reached = np.take_along_axis(until, at, -1)
    inside = np.take_along_axis(counts, at, -1)
    with np.errstate(divide="ignore", invalid="ignore"):
        share = np.where(inside > 0, 1 - (reached - rank) / inside, 0.0)
    values = np.exp2((at - 1 + frame.lowest + share) * 2.0**-frame.scale)
    values = np.where(at == 0, 0.0, values)
    known: NDArray[np.float64] = np.where(until[..., -1:] > 0, values, np.nan)
    return known
