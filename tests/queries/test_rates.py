"""Increases against what a plain loop over the points makes of them."""

import random
import time
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kernob.queries import rates
from kernob.queries.model import Range
from kernob.store.store import Store
from snapshots import Point, Sender, send

HOUR = 3_600_000
BASE = time.time_ns() // 1_000_000 // HOUR * HOUR - 3 * HOUR
BY_NAME = {"name": "Attributes['name']"}


@dataclass(frozen=True)
class Sent:
    """A point: whose, of which series, since when, when, how much."""

    sender: str
    name: str
    start: int
    time: int
    value: int


@st.composite
def histories(draw: st.DrawFn) -> tuple[list[Sent], int]:
    """Draws what one or two senders sent, each every interval, with restarts and gaps."""
    step = draw(st.sampled_from([5_000, 60_000]))
    interval = draw(st.sampled_from([step, step // 2, step // 5]))
    sent: list[Sent] = []
    for host in draw(st.lists(st.sampled_from("ab"), min_size=1, max_size=2, unique=True)):
        start = BASE - draw(st.integers(0, 40)) * step - 7
        born = {name: draw(st.integers(0, 20)) for name in ("x", "y")}
        values = dict.fromkeys(born, 0)
        snapshots = 25 * step // interval
        gone = draw(st.sets(st.integers(0, snapshots), max_size=snapshots // 2))
        restarts = draw(st.sets(st.integers(1, snapshots), max_size=2))
        rng = random.Random(draw(st.integers(0, 1 << 30)))
        for at in range(snapshots):
            moment = BASE - 2 * step + at * interval + rng.randrange(interval // 3)
            if at in restarts:
                start, values = moment - rng.randrange(interval // 3), dict.fromkeys(born, 0)
            for name, first in born.items():
                values[name] += rng.choice([0, 0, 1, 700, 1 << 40])
                if at >= first and at not in gone:
                    sent.append(Sent(host, name, start, moment, values[name]))
    return sent, step


def reference(sent: list[Sent], asked: Range) -> dict[str, list[int]]:
    """Returns increases by name: a loop over each run's points in order of time."""
    begin = asked.start - rates.LOOK_BACK * asked.step
    known = [p for p in sent if begin <= p.time < asked.end]
    heard: dict[str, int] = {}
    for point in known:
        step = (point.time - begin) // asked.step
        heard[point.sender] = min(heard.get(point.sender, step), step)
    runs: dict[tuple[str, str, int], list[Sent]] = defaultdict(list)
    for point in sorted(known, key=lambda p: p.time):
        runs[point.sender, point.name, point.start].append(point)
    steps = (asked.end - asked.start) // asked.step
    found = {name: [0] * steps for name in "xy"}
    for (sender, name, start), points in runs.items():
        first = (points[0].time - begin) // asked.step
        before = 0 if start >= begin or heard[sender] < first else None
        # Where counting begins without a value before, it begins at the end of that step.
        if before is None:
            before = max(p.value for p in points if (p.time - begin) // asked.step == first)
        for point in points:
            if point.time >= asked.start and point.value > before:
                found[name][(point.time - asked.start) // asked.step] += point.value - before
            before = max(before, point.value)
    return found


_tests = iter(range(1 << 30))


def ask(store: Store, metric: str, asked: Range, tier: str) -> rates.Increases:
    table = Range(asked.start, asked.end, asked.step, tier)
    return rates.increases(store.reader(), metric, table, BY_NAME)


def by_name(found: rates.Increases) -> dict[str, list[int]]:
    steps = found.values.shape[1]
    total = {name: np.zeros(steps) for name in "xy"}
    for name, values in zip(found.labels["name"], found.values, strict=True):
        total[name] += values
    return {name: [round(value) for value in values] for name, values in total.items()}


@settings(max_examples=12, deadline=None, suppress_health_check=list(HealthCheck))
@given(histories(), st.sampled_from([1, 2]), st.randoms(use_true_random=False))
def test_increases_are_those_of_a_plain_loop(
    store: Store, history: tuple[list[Sent], int], times: int, rng: random.Random
) -> None:
    sent, step = history
    metric = f"counted.{next(_tests)}"
    bodies = [
        Sender(point.sender, point.start).snapshot(
            point.time, Point(metric, point.value, {"name": point.name})
        )
        for point in sent
    ]
    rng.shuffle(bodies)
    send(store, *bodies[::2], *bodies[1::2][: len(bodies) * (times - 1)])
    send(store, *bodies[1::2])
    asked = Range(BASE, BASE + 20 * step, step, "points")

    expected = reference(sent, asked)
    found = {tier: ask(store, metric, asked, tier) for tier in ("points", "points_1m")}

    assert by_name(found["points"]) == expected
    if step == 60_000:
        assert by_name(found["points_1m"]) == expected
    counted = rates.totals(store.reader(), metric, asked, BY_NAME)
    if not any(first_step_is_unknown(sent, asked)):
        assert {k: round(v) for (k,), v in counted.items()} == {
            name: sum(steps) for name, steps in expected.items() if sum(steps)
        }


def first_step_is_unknown(sent: list[Sent], asked: Range) -> Iterator[bool]:
    """Yields for each sender whether it was silent before the range, but counted already."""
    begin = asked.start - rates.LOOK_BACK * asked.step
    for sender in {point.sender for point in sent}:
        known = [p for p in sent if p.sender == sender and begin <= p.time < asked.end]
        yield bool(known) and min(p.time for p in known) >= asked.start


def _counter(store: Store, metric: str, values: dict[int, int], *, start: int = 0) -> None:
    """Sends one counter: value by seconds after BASE."""
    agent = Sender("a", start)
    send(
        store,
        *(agent.snapshot(BASE + at * 1000, Point(metric, v, {"name": "x"})) for at, v in
          values.items()),
    )  # fmt: skip


def _rates(store: Store, metric: str, start: int, end: int, step: int) -> list[float]:
    asked = Range(BASE + start * 1000, BASE + end * 1000, step * 1000, "points")
    found = rates.increases(store.reader(), metric, asked, BY_NAME)
    (only,) = found.rates.round(6).tolist()
    return only


def test_a_gap_is_empty_and_what_was_counted_in_it_is_spread_over_it(store: Store) -> None:
    points = {at: 100 * at for at in [0, 1, 2, 3, 10, 11, 12]}
    _counter(store, "gap", points)

    assert _rates(store, "gap", 1, 13, 1)[:3] == [100, 100, 100]
    assert np.isnan(_rates(store, "gap", 1, 13, 1)[3:9]).all()
    assert _rates(store, "gap", 1, 13, 1)[9:] == [100, 100, 100]


def test_a_snapshot_that_comes_a_little_late_is_no_gap(store: Store) -> None:
    agent = Sender("a", 0)
    times = [0, 15_010, 30_020, 44_990, 60_030, 75_000]
    bodies = [agent.snapshot(BASE + t, Point("late", t, {"name": "x"})) for t in times]
    send(store, *bodies)

    found = _rates(store, "late", 15, 90, 15)

    assert not np.isnan(found).any()
    assert sum(found) * 15 == pytest.approx(75_000)


def test_slow_senders_fill_the_steps_between_their_points(store: Store) -> None:
    _counter(store, "slow", {at: at * 10 for at in range(0, 301, 60)})

    assert (
        _rates(store, "slow", 60, 300, 15) == [10] * 13 + [pytest.approx(np.nan, nan_ok=True)] * 3
    )


def test_the_first_value_of_an_older_counter_is_no_increase(store: Store) -> None:
    _counter(store, "old", {0: 10**12, 1: 10**12 + 5}, start=BASE - 10 * HOUR)

    unknown, known = _rates(store, "old", 0, 2, 1)

    assert np.isnan(unknown)
    assert known == 5


def test_a_counter_that_begins_counts_from_zero(store: Store) -> None:
    _counter(store, "young", {3: 70, 4: 75}, start=BASE + 2500)

    assert _rates(store, "young", 3, 5, 1) == [70, 5]


def test_a_series_that_its_sender_did_not_have_before_counts_from_zero(store: Store) -> None:
    agent = Sender("a", BASE - HOUR)
    old, new = {"name": "x"}, {"name": "y"}
    send(
        store,
        agent.snapshot(BASE, Point("born", 500, old)),
        agent.snapshot(BASE + 1000, Point("born", 500, old), Point("born", 90, new)),
    )
    asked = Range(BASE, BASE + 2000, 1000, "points")

    found = rates.increases(store.reader(), "born", asked, BY_NAME, distinct="Attributes['name']")

    assert by_name(found) == {"x": [0, 0], "y": [0, 90]}
    assert [found.labels["name"][int(row)] for row, _ in found.distinct] == ["y"]


def test_a_fall_without_a_new_start_counts_from_zero(store: Store) -> None:
    _counter(store, "fall", {0: 100, 1: 130, 2: 20, 3: 25})

    assert _rates(store, "fall", 1, 4, 1) == [30, 20, 5]


@pytest.mark.parametrize("tier", ["points", "points_1m", "points_5m", "points_1h"])
def test_increments_are_summed(store: Store, tier: str) -> None:
    metric = f"delta.{tier}"
    sender = Sender("a", 0, temporality=1)
    times = [BASE + at * 10_000 for at in range(30)]
    send(
        store,
        *(
            sender.snapshot(time, Point(metric, 7, {"name": "x"}, start=time - 10_000))
            for time in times
        ),
    )
    asked = Range(BASE, BASE + HOUR, HOUR, tier)

    found = rates.increases(store.reader(), metric, asked, BY_NAME)

    assert by_name(found)["x"] == [210]
    assert rates.totals(store.reader(), metric, asked, BY_NAME) == {("x",): 210}


def test_totals_begin_at_the_first_point_of_a_counter_that_is_older(store: Store) -> None:
    _counter(store, "older", {at: 1000 + at for at in range(3, 9)}, start=BASE - 10 * HOUR)
    asked = Range(BASE, BASE + 10_000, 1000, "points")

    assert rates.totals(store.reader(), "older", asked, BY_NAME) == {("x",): 5}
    assert rates.increases(store.reader(), "older", asked, BY_NAME).values.sum() == 5


def test_many_series_are_read_in_shares(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    agent = Sender("a", BASE)
    snapshots = [
        [Point("many", at * n, {"name": "x", "n": str(n)}) for n in range(100)] for at in range(4)
    ]
    send(store, *(agent.snapshot(BASE + at * 1000, *s) for at, s in enumerate(snapshots)))
    asked = Range(BASE, BASE + 4000, 1000, "points")
    whole = rates.increases(store.reader(), "many", asked, BY_NAME, distinct="Attributes['n']")

    monkeypatch.setattr("kernob.queries.runs.MOST_CELLS", 16 * 7)
    shares = rates.increases(store.reader(), "many", asked, BY_NAME, distinct="Attributes['n']")

    assert by_name(whole)["x"] == [0, 4950, 4950, 4950]
    assert (whole.values == shares.values).all()
    assert len(whole.distinct) == len(shares.distinct) == 99


def test_a_metric_that_nobody_sent_has_no_rows(store: Store) -> None:
    found = rates.increases(
        store.reader(), "none", Range(BASE, BASE + 5000, 1000, "points"), BY_NAME
    )

    assert found.values.shape == found.rates.shape == (0, 5)
    assert found.labels == {"name": []}


def test_steps_that_are_not_over_are_not_complete() -> None:
    asked = Range(0, 60_000, 10_000, "points", 5_000)

    assert rates.complete_steps(asked, 100_000) == 6
    assert rates.complete_steps(asked, 60_000) == 5
    assert rates.complete_steps(asked, 20_000 + 5_000 + rates.STORED_WITHIN) == 2
    assert rates.complete_steps(asked, 20_000 + 5_000) == 1
    assert rates.complete_steps(asked, 0) == 0
