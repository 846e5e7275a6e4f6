from __future__ import annotations

import os

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from kernob.telemetry.model import (
    OVERFLOW,
    VALUE_LENGTH,
    Kind,
    Metric,
    Points,
    Series,
    SeriesLimit,
    attributes,
    histogram_dtype,
)

OWN = attributes({"service.name": "kernob"})


def points(values: dict[int, int], kind: Kind = Kind.COUNTER) -> Points:
    series = [Series((), attributes({"id": name}), 100 + name) for name in values]
    return Points(Metric("m", kind, "By", ""), series, np.array([*values.values()], np.uint64))


def shown(limited: Points) -> dict[object, int]:
    """Returns the values by the id of the series, `None` for the overflow."""
    names = [dict(series.attributes).get("id") for series in limited.series]
    assert len(set(names)) == len(names) == len(limited.values)
    return dict(zip(names, limited.values.tolist(), strict=True))


def test_attributes_are_in_order_and_valid_unicode() -> None:
    name = os.fsdecode(b"caf\xe9")

    result = attributes({"z": 1, "a": name, "m": "x" * 5000})

    assert result == (("a", "caf?"), ("m", "x" * VALUE_LENGTH), ("z", 1))


def test_below_the_limit_nothing_changes() -> None:
    given_points = points({1: 10, 2: 20})

    assert SeriesLimit(3, OWN).apply(given_points) is given_points


def test_what_exceeds_the_limit_is_summed() -> None:
    limit = SeriesLimit(3, OWN)

    result = limit.apply(points({1: 10, 2: 20, 3: 30, 4: 40}))

    assert shown(result) == {1: 10, 2: 20, None: 70}
    assert result.series[-1] == Series(OWN, OVERFLOW, 103)
    assert limit.overflowing == 2


def test_those_admitted_stay_whatever_their_order() -> None:
    limit = SeriesLimit(3, OWN)
    limit.apply(points({1: 10, 2: 20}))

    assert shown(limit.apply(points({4: 40, 3: 30, 2: 21, 1: 11}))) == {2: 21, 1: 11, None: 70}


def test_an_ended_series_frees_its_place_for_a_new_one_only() -> None:
    limit = SeriesLimit(3, OWN)
    limit.apply(points({1: 10, 2: 20, 3: 30}))

    assert shown(limit.apply(points({2: 21, 3: 31, 5: 50}))) == {2: 21, 5: 50, None: 31}


def test_the_overflow_keeps_what_ended_series_counted() -> None:
    limit = SeriesLimit(2, OWN)
    limit.apply(points({1: 10, 2: 20, 3: 30}))

    assert shown(limit.apply(points({1: 10, 3: 31}))) == {1: 10, None: 51}
    assert shown(limit.apply(points({1: 10}))) == {1: 10, None: 51}
    assert limit.overflowing == 0


def test_an_up_down_counters_overflow_falls_with_its_series() -> None:
    limit = SeriesLimit(2, OWN)
    limit.apply(points({1: 10, 2: 20, 3: 30}, Kind.UP_DOWN_COUNTER))

    assert shown(limit.apply(points({1: 10, 3: 31}, Kind.UP_DOWN_COUNTER))) == {1: 10, None: 31}


def test_a_gauges_overflow_is_the_last_value() -> None:
    limit = SeriesLimit(2, OWN)

    assert shown(limit.apply(points({1: 10, 2: 20, 3: 30}, Kind.GAUGE))) == {1: 10, None: 30}
    assert shown(limit.apply(points({1: 10}, Kind.GAUGE))) == {1: 10}


def test_histograms_overflow_by_bucket() -> None:
    values = np.zeros(3, histogram_dtype(2))
    values["scale"], values["offset"] = 3, -5
    values["zeros"], values["sum"] = [1, 2, 3], [0.5, 1.5, 2.5]
    values["counts"] = [[1, 1], [2, 0], [3, 4]]
    series = points({1: 0, 2: 0, 3: 0}).series

    result = SeriesLimit(2, OWN).apply(Points(Metric("h", Kind.HISTOGRAM, "s", ""), series, values))

    assert result.values[1].item()[:4] == (3, -5, 5, 4.0)
    assert result.values[1]["counts"].tolist() == [5, 4]


@given(
    st.lists(st.lists(st.integers(0, 12), unique=True), max_size=8),
    st.integers(1, 6),
)
def test_totals_never_go_back_and_nothing_is_lost(alive: list[list[int]], size: int) -> None:
    """Series come and go for good; each counts 1 in every snapshot it is in."""
    limit = SeriesLimit(size, OWN)
    counted: dict[int, int] = {}
    ended: set[int] = set()
    before: dict[object, int] = {}
    overflowed: set[int] = set()
    for names in alive:
        ended |= counted.keys() - set(names)
        now = {name: counted.get(name, 0) + 1 for name in names if name not in ended}
        counted |= now

        result = shown(limit.apply(points(now)))

        assert len(result) <= size
        assert all(value >= before.get(name, 0) for name, value in result.items())
        assert all(result[name] == now[name] for name in result if name is not None)
        overflowed |= now.keys() - result.keys()
        assert result.get(None, 0) == sum(counted[name] for name in overflowed)
        assert (None in result) or None not in before
        before = result
