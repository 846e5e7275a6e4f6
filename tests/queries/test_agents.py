import time

import pytest

from kernob.queries.agents import agents, state
from kernob.queries.model import AgentPart, Range
from kernob.store.store import Store
from snapshots import Sender, itself, send

NOW = time.time_ns() // 10**9 * 1000
RANGE = Range(NOW - 600_000, NOW + 10_000, 10_000, "points", 10_000)


@pytest.fixture(scope="module", autouse=True)
def sent(store: Store) -> None:
    bodies = []
    for host, silent in (("well", 0), ("late", 40_000), ("gone", 2_000_000)):
        agent = Sender(host, NOW - 3_000_000)
        for at in range(20):
            points = itself(
                at + 1,
                cpu=at * 0.1,
                memory=(50 << 20) + at,
                mode="polling" if host == "late" else "ebpf",
                lost={"bytes_lost": 3 * at if host == "well" else 0},
                entries={"flows": (at, 100)},
                parts={"network": "", "datagram peers": "no cgroup version 2"},
            )
            bodies.append(agent.snapshot(NOW - silent - (19 - at) * 10_000, *points))
    old = Sender("well", NOW - 900_000, instance="before")
    bodies.append(old.snapshot(NOW - 800_000, *itself(1, cpu=9.0)))
    send(store, *bodies)


def test_those_in_trouble_come_first(store: Store) -> None:
    found = agents(store.reader(), RANGE, now=NOW)

    assert [(row.host, row.state) for row in found.rows] == [
        ("gone", "gone"),
        ("late", "late"),
        ("well", "ok"),
    ]


def test_an_agent_as_of_its_latest_snapshot(store: Store) -> None:
    row = agents(store.reader(), RANGE, "well", now=NOW).rows[0]

    assert (row.version, row.mode) == ("1.2.3", "ebpf")
    assert (row.started, row.last, row.interval) == (NOW - 3_000_000, NOW, 10_000)
    assert row.cpu == pytest.approx(0.01)
    assert row.memory == (50 << 20) + 19
    assert row.map_memory == 10_000
    assert row.fill == {"flows": (19, 100)}
    assert row.parts == [
        AgentPart("datagram peers", on=False, reason="no cgroup version 2"),
        AgentPart("network", on=True, reason=""),
    ]
    assert row.series == 10
    assert len(row.cpu_line) == len(row.memory_line) == 61
    assert row.memory_line[-4] is not None


def test_losses_are_those_within_the_range(store: Store) -> None:
    whole = agents(store.reader(), RANGE, now=NOW).rows
    recent = Range(NOW - 50_000, NOW + 10_000, 10_000, "points", 10_000)

    assert [row.lost for row in whole] == [{}, {}, {"bytes_lost": 57.0}]
    assert agents(store.reader(), recent, "well", now=NOW).rows[0].lost == {"bytes_lost": 18.0}


@pytest.mark.parametrize(
    ("silent", "interval", "expected"),
    [
        (0, 1000, "ok"),
        (2_999, 1000, "ok"),
        (9_999, 1000, "ok"),
        (10_000, 1000, "late"),
        (44_999, 15_000, "ok"),
        (45_000, 15_000, "late"),
        (899_999, 1000, "late"),
        (900_000, 1000, "gone"),
        (900_000, 600_000, "gone"),
    ],
)
def test_the_state_goes_by_the_agents_own_interval(
    silent: int, interval: int, expected: str
) -> None:
    assert state(NOW - silent, interval, NOW) == expected


def test_no_agent_is_no_row(store: Store) -> None:
    assert agents(store.reader(), RANGE, "nobody", now=NOW).rows == []
