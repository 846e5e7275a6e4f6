from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from kernob.errors import RequestError
from kernob.queries.model import Range, Refusals, RefusedRow
from kernob.queries.refused import OUTCOMES, STALE, Counted, refused
from kernob.store.engine import Signal
from kernob.store.store import REASONS
from snapshots import Point, Sender, send

if TYPE_CHECKING:
    from kernob.store.store import Store

NOW = time.time_ns() // 10**9 * 1000
STEP = 10_000
START = NOW // STEP * STEP - 600_000
# What is refused while the tests run is in it, however late they are.
RANGE = Range(START, START + 4_000_000, STEP, "points", STEP)
STARTED = START - 3_600_000
IN_MEMORY = Counted(STARTED, {("traces", "overloaded"): 4}, {("logs", "time"): 6})


@pytest.fixture(scope="module", autouse=True)
def sent(store: Store) -> None:
    """Two requests that are malformed before the range, and three in it, until `START` + 45 s."""
    server = Sender("a", STARTED, service="kernob-server")
    for at, malformed in ((-20_000, 2), (5_000, 2), (35_000, 4), (45_000, 5), (95_000, 5)):
        points = [
            Point(
                "kernob.server.requests",
                count,
                {"kernob.signal": "logs", "kernob.outcome": outcome},
            )
            for outcome, count in (("malformed", malformed), ("stored", 1000 + at))
        ]
        send(store, server.snapshot(START + at, *points))
    store.count_lost(Signal.METRICS, "time", 5)
    store.write_losses()


def test_requests_and_records_within_the_range(store: Store) -> None:
    found = refused(store.reader(), RANGE, NOW)

    assert found.since is None
    whole, single = found.rows
    assert whole == RefusedRow("logs", "it is not OTLP", 3, None, START + 50_000)
    assert (single.signal, single.reason) == ("metrics", REASONS["time"])
    assert (single.requests, single.records) == (None, 5)
    assert single.last is not None
    assert NOW <= single.last <= time.time() * 1000


def test_what_is_in_memory_is_told_if_the_store_lacks_the_latest(store: Store) -> None:
    found = refused(store.reader(), RANGE, NOW, IN_MEMORY)

    assert found == Refusals(
        STARTED,
        [
            RefusedRow("traces", OUTCOMES["overloaded"], 4, None, None),
            RefusedRow("logs", REASONS["time"], None, 6, None),
        ],
    )


@pytest.mark.parametrize(
    ("now", "started"),
    [
        (START + 100_000, STARTED),  # it is stored
        (NOW, NOW - STALE + 1000),  # it has not had the time to
        (RANGE.end + 2 * STALE, STARTED),  # a range of the past
    ],
)
def test_else_the_range_is_told(store: Store, now: int, started: int) -> None:
    counted = Counted(started, IN_MEMORY.requests, IN_MEMORY.records)

    found = refused(store.reader(), RANGE, now, counted)

    assert found.since is None
    assert (found.rows[0].reason, found.rows[0].requests) == ("it is not OTLP", 3)


def test_each_outcome_has_words() -> None:
    kinds = {kind.outcome for kind in (RequestError, *RequestError.__subclasses__())}

    assert set(OUTCOMES) == kinds | {"store_full", "store_failed"}
