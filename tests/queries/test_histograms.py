"""What histograms recorded against a plain loop over the points."""

import random
import time
from collections import Counter, defaultdict
from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kernob.queries.histograms import Recorded, recorded, stepwise, whole
from kernob.queries.model import Range
from kernob.queries.rates import LOOK_BACK
from kernob.store.store import Store
from snapshots import Durations, Point, Sender, asked, itself, send

HOUR = 3_600_000
MINUTE = 60_000
BASE = time.time_ns() // 1_000_000 // HOUR * HOUR - 3 * HOUR
RANGE = Range(BASE, BASE + 20 * MINUTE, MINUTE, "points")
BY_NAME = {"name": "Attributes['name']"}
SAMPLES = (0.0011, 0.019, 0.34, 2.6)


@dataclass(frozen=True)
class Sent:
    sender: str
    name: str
    start: int
    time: int
    samples: tuple[float, ...]


@st.composite
def histories(draw: st.DrawFn) -> list[Sent]:
    """Draws what agents sent each half minute, with restarts, gaps and series that begin late."""
    sent: list[Sent] = []
    for host in draw(st.lists(st.sampled_from("ab"), min_size=1, max_size=2, unique=True)):
        start = BASE - draw(st.integers(0, 40)) * MINUTE - 7
        born = {name: draw(st.integers(0, 20)) for name in ("x", "y")}
        samples: dict[str, tuple[float, ...]] = dict.fromkeys(born, ())
        gone = draw(st.sets(st.integers(0, 50), max_size=25))
        restarts = draw(st.sets(st.integers(1, 50), max_size=2))
        rng = random.Random(draw(st.integers(0, 1 << 30)))
        for at in range(50):
            moment = BASE - 4 * MINUTE + at * MINUTE // 2 + rng.randrange(9_000)
            if at in restarts:
                start, samples = moment - rng.randrange(9_000), dict.fromkeys(born, ())
            for name, first in born.items():
                if at >= first:
                    samples[name] += tuple(rng.choices(SAMPLES, k=rng.randrange(4)))
                if at >= first and at not in gone:
                    sent.append(Sent(host, name, start, moment, samples[name]))
    return sent


def reference(sent: list[Sent], *, rolled_up: bool) -> dict[tuple[str, int], Counter[float]]:
    """Returns what was recorded by name and step: a loop over each run's points."""
    begin = RANGE.start - LOOK_BACK * RANGE.step
    known = [p for p in sent if begin <= p.time < RANGE.end]
    step_of = {p: (p.time - begin) // RANGE.step for p in known}
    resolution = MINUTE if rolled_up else 1
    heard: dict[str, int] = {}
    for point in known:
        moment = point.time // resolution
        heard[point.sender] = min(heard.get(point.sender, moment), moment)
    runs: dict[tuple[str, str, int], list[Sent]] = defaultdict(list)
    for point in sorted(known, key=lambda p: p.time):
        runs[point.sender, point.name, point.start].append(point)
    found: dict[tuple[str, int], Counter[float]] = defaultdict(Counter)
    for (sender, name, start), points in runs.items():
        first, began = step_of[points[0]], points[0].time // resolution
        last = {step_of[point]: Counter(point.samples) for point in points}
        before = Counter() if start >= begin or heard[sender] < began else last[first]
        for step, samples in last.items():
            found[name, step - LOOK_BACK] += samples - before
            before = samples
    return found


def bucket(sample: float) -> int:
    return int(np.ceil(np.log2(sample) * 8)) - 1


def ask(store: Store, metric: str, tier: str = "points") -> Recorded:
    grid = stepwise(Range(RANGE.start, RANGE.end, RANGE.step, tier))
    return recorded(
        store.reader(), [metric], grid, BY_NAME,
        group=lambda labels: np.array([name == "y" for name in labels["name"]], np.intp),
    )  # fmt: skip


_tests = iter(range(1 << 30))


@settings(max_examples=8, deadline=None, suppress_health_check=list(HealthCheck))
@given(histories(), st.sampled_from([1, 2]), st.randoms(use_true_random=False))
def test_what_was_recorded_is_that_of_a_plain_loop(
    store: Store, sent: list[Sent], times: int, rng: random.Random
) -> None:
    metric = f"lasted.{next(_tests)}"
    bodies = [
        Sender(point.sender, point.start).snapshot(
            point.time, Durations(metric, point.samples, {"name": point.name})
        )
        for point in sent
    ] * times
    rng.shuffle(bodies)
    send(store, *bodies)
    for tier in ("points", "points_1m"):
        expected = reference(sent, rolled_up=tier != "points")
        found = ask(store, metric, tier)
        for at, name in enumerate("xy"):
            of_name = np.array([one == name for one in found.labels["name"]], bool)
            total = Counter[float]()
            for step in range(20):
                cells = expected[name, step]
                total += cells
                counts = found.counts[of_name, found.before + step]
                assert counts.sum() == cells.total()
                sums = found.sums[of_name, found.before + step].sum()
                assert sums == pytest.approx(sum(s * n for s, n in cells.items()), abs=1e-9)
                if at < len(found.of_steps):
                    row = found.of_steps[at, found.before + step]
                    assert in_buckets(row, found) == by_bucket(cells)
            assert in_buckets(found.of_series[of_name].sum(axis=0), found) == by_bucket(total)


def in_buckets(row: np.ndarray, found: Recorded) -> dict[int, int]:
    at = np.flatnonzero(row)
    return {int(n) - 1 + found.frame.lowest: int(row[n]) for n in at}


def by_bucket(samples: Counter[float]) -> dict[int, int]:
    found = Counter[int]()
    for sample, count in samples.items():
        found[bucket(sample)] += count
    return dict(found)


def test_the_whole_range_is_the_sum_of_its_steps(store: Store) -> None:
    sender = Sender("whole", BASE - HOUR)
    send(
        store,
        *(
            sender.snapshot(
                BASE - 5 * MINUTE + at * MINUTE, Durations("whole", (0.1, 0.2, 0.4) * at)
            )
            for at in range(25)
        ),
    )

    found = recorded(store.reader(), ["whole"], whole(RANGE), {})
    steps = recorded(store.reader(), ["whole"], stepwise(RANGE), {})

    assert found.counts[:, 1:].tolist() == [[60]]
    assert steps.counts[:, steps.before :].sum() == 60
    assert found.of_series.tolist() == steps.of_series.tolist()


def test_what_nobody_knows_the_beginning_of_begins_with_its_lowest(store: Store) -> None:
    sender = Sender("unknown", BASE - 10 * HOUR)
    send(
        store,
        *(
            sender.snapshot(BASE + at * MINUTE, Durations("unknown", (0.1,) * (100 + at)))
            for at in range(3, 10)
        ),
    )

    found = recorded(store.reader(), ["unknown"], whole(RANGE), {})

    assert found.counts[:, 1:].tolist() == [[6]]
    assert found.of_series.sum() == 6


def test_what_is_new_counts_if_its_agent_was_heard_of_before(store: Store) -> None:
    agent = Sender("late", BASE - 10 * HOUR)
    for at in range(10):
        points: list[Point | Durations] = [*itself(at)]
        if at >= 5:
            points.append(asked("late", [0.1] * 7))
        send(store, agent.snapshot(BASE + at * MINUTE, *points))

    for grid in (stepwise(RANGE), whole(RANGE)):
        found = recorded(store.reader(), ["http.server.request.duration"], grid, {}, service="late")
        assert found.counts[:, found.before :].sum() == 7


def test_a_count_that_falls_begins_anew(store: Store) -> None:
    sender = Sender("falls", BASE)
    for at, count in enumerate((5, 9, 2, 4)):
        point = Durations("falls", (0.1,) * count)
        send(store, sender.snapshot(BASE + at * MINUTE + 1, point))

    found = recorded(store.reader(), ["falls"], stepwise(RANGE), {})

    assert found.counts[0, found.before :][:4].tolist() == [5, 4, 2, 2]


def test_increments_stay_exact_in_each_rollup(store: Store) -> None:
    sender = Sender("delta", BASE, temporality=1)
    bodies = [
        sender.snapshot(BASE + at * 10_000, Durations("increments", (0.1, 3.0))) for at in range(12)
    ]
    send(store, *bodies, *bodies[:3])

    for tier in ("points", "points_1m", "points_5m", "points_1h"):
        span = Range(BASE, BASE + HOUR, HOUR, tier)
        found = recorded(store.reader(), ["increments"], whole(span), {})
        assert found.counts[:, 1:].tolist() == [[24]]
        assert found.sums[:, 1:].tolist() == [[pytest.approx(37.2)]]


def test_nothing_is_nothing(store: Store) -> None:
    found = recorded(store.reader(), ["nothing"], stepwise(RANGE), BY_NAME)

    assert found.counts.shape == (0, 20 + LOOK_BACK)
    assert found.points == 0
