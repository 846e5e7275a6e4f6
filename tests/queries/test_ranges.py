import contextlib
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kernob.errors import QueryError
from kernob.queries import ranges
from kernob.queries.model import Range
from kernob.store.store import Store
from snapshots import Sender, itself, send

NOW = 1_800_000_000_000
HOUR = 3_600_000
DAY = 24 * HOUR


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("now", NOW),
        ("now-15m", NOW - 900_000),
        ("now-7d", NOW - 7 * DAY),
        ("now-2w", NOW - 14 * DAY),
        ("1800000000123", 1_800_000_000_123),
        ("2027-01-15T08:00:00Z", NOW),
        ("2027-01-15T09:00:00+01:00", NOW),
        ("2027-01-15T08:00:00.250Z", NOW + 250),
        (" 2027-01-15 08:00 ", NOW),
    ],
)
def test_a_moment_is_relative_or_absolute(text: str, expected: int) -> None:
    assert ranges.moment(text, NOW) == expected


@pytest.mark.parametrize("text", ["", "yesterday", "now-", "now+1h", "now-1y", "9" * 30, "\0"])
def test_what_is_no_time_is_refused_in_words(text: str) -> None:
    with pytest.raises(QueryError, match="is no time: write now"):
        ranges.moment(text, NOW)


@given(st.text(max_size=40))
def test_any_text_is_a_time_or_refused(text: str) -> None:
    with contextlib.suppress(QueryError):
        assert isinstance(ranges.moment(text, NOW), int)


@pytest.mark.parametrize(
    ("start", "end", "message"),
    [
        (NOW, NOW, "ends before it starts"),
        (NOW, NOW - 1, "ends before it starts"),
        (NOW - 1000 * DAY, NOW, "1000 days long"),
        (NOW, NOW + 2 * DAY, "in the future"),
        (-5, DAY, "before 1970"),
    ],
)
def test_what_is_no_range_is_refused_in_words(start: int, end: int, message: str) -> None:
    with pytest.raises(QueryError, match=message):
        ranges.check(start, end, NOW)


@pytest.mark.parametrize(
    ("length", "step", "tier"),
    [
        (60_000, 1_000, "points"),
        (15 * 60_000, 5_000, "points"),
        (HOUR, 10_000, "points"),
        (3 * HOUR, 60_000, "points_1m"),
        (6 * HOUR, 60_000, "points_1m"),
        (12 * HOUR, 300_000, "points_5m"),
        (DAY, 300_000, "points_5m"),
        (2 * DAY, 600_000, "points_5m"),
        (7 * DAY, HOUR, "points_1h"),
        (30 * DAY, 2 * HOUR, "points_1h"),
        (365 * DAY, 2 * DAY, "points_1h"),
    ],
)
def test_the_length_chooses_step_and_table(length: int, step: int, tier: str) -> None:
    asked = ranges.choose(NOW - length, NOW, 1000, {})

    assert (asked.step, asked.tier) == (step, tier)


def test_no_step_is_smaller_than_the_agents_interval() -> None:
    assert ranges.choose(NOW - 900_000, NOW, 15_000, {}).step == 15_000
    assert ranges.choose(NOW - 900_000, NOW, 20_000, {}).step == 30_000


@given(
    st.integers(1, ranges.LONGEST),
    st.integers(0, 10 * DAY),
    st.sampled_from([1000, 15_000, 60_000]),
    st.lists(st.integers(0, 100 * DAY), min_size=4, max_size=4),
)
def test_a_range_covers_what_was_asked_in_bounded_steps(
    length: int, ago: int, interval: int, ages: list[int]
) -> None:
    start, end = NOW - ago - length, NOW - ago
    oldest = {name: NOW - age for name, age in zip(ranges.TIERS, ages, strict=True)}

    asked = ranges.choose(start, end, interval, oldest)

    assert asked.start <= start
    assert end <= asked.end < end + asked.step
    assert asked.start % asked.step == asked.end % asked.step == 0
    assert asked.step >= max(interval, ranges.TIERS[asked.tier][1])
    assert len(ranges.times(asked)) <= ranges.MOST_EMPTY + 2
    with_data = [time for time in ranges.times(asked) if time >= oldest[asked.tier]]
    assert len(with_data) <= ranges.MOST_STEPS + 2


def test_a_table_that_has_expired_gives_way_to_the_next() -> None:
    oldest = {"points": NOW - DAY, "points_1m": NOW - 7 * DAY, "points_5m": NOW - 7 * DAY}

    assert ranges.choose(NOW - 3 * DAY, NOW - 3 * DAY + HOUR, 1000, oldest).tier == "points_1m"
    assert ranges.choose(NOW - HOUR, NOW, 1000, oldest).tier == "points"


def test_a_young_store_is_read_as_sent() -> None:
    # Rollups hold the same five minutes, under the start of their bucket.
    young = NOW - 300_000
    oldest = {"points": young, "points_1m": young - 30_000, "points_5m": young - 200_000}

    assert ranges.choose(NOW - 900_000, NOW, 1000, oldest).tier == "points"


def test_a_new_store_is_looked_at_closely() -> None:
    quarter, hour = 15 * 60_000, 60 * 60_000

    assert ranges.choose(NOW - quarter, NOW, 1000, {"points": NOW - 5000}).step == 1000
    assert ranges.choose(NOW - hour, NOW, 1000, {"points": NOW - 5000}).step == 5000
    assert ranges.choose(NOW - quarter, NOW, 1000, {"points": NOW - hour}).step == 5000


def test_the_interval_is_that_of_the_agents(store: Store) -> None:
    now = time.time_ns() // 1_000_000
    agent = Sender("a", now - 60_000)
    assert ranges.resolve(store.reader(), "now-15m", "now").interval == 1_000

    send(store, *(agent.snapshot(now - at * 2000 + at % 3, *itself(9 - at)) for at in range(9)))

    asked = ranges.resolve(store.reader(), "now-15m", "now")
    assert asked == Range(asked.start, asked.end, 2000, "points", 2000)
