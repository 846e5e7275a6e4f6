import time

import pytest

from kernob.errors import QueryError
from kernob.queries.model import Range, Traffic
from kernob.queries.traffic import Filters, traffic
from kernob.store.store import Store
from snapshots import Point, Sender, itself, moved, process, send

BASE = time.time_ns() // 10**9 // 3600 * 3_600_000 - 7_200_000
RANGE = Range(BASE, BASE + 600_000, 10_000, "points", 10_000)
NOW = BASE + 3_600_000


@pytest.fixture(scope="module", autouse=True)
def sent(store: Store) -> None:
    """Two hosts for ten minutes: `shop` on both, `mail` quiet after four, `cron` for one."""
    bodies = []
    for host, size in (("web-1", 1000), ("web-2", 10)):
        agent = Sender(host, BASE - 100_000)
        for at in range(-10, 60):
            points = moved("shop", (at + 11) * size, (at + 11) * 3, calls=at + 11)
            points += moved("shop", (at + 11) * 2, peer="10.0.0.2")
            points.append(_connections("shop", 5))
            points += itself(at + 11, lost={"flows_overflowed": max(0, at)})
            points.append(process(42, "nginx", "shop", (at + 11) * size, BASE - 90_000))
            if host == "web-1":
                points += moved("mail", min(at + 11, 35) * 100, peer="10.0.0.3")
                if at >= 30:
                    points += moved("cron", 5_000_000 if at >= 31 else 0)
            bodies.append(agent.snapshot(BASE + at * 10_000 + 5000, *points))
    send(store, *bodies)


def _connections(service: str, count: int) -> Point:
    own = {"service.name": service, "kernob.peer": "10.0.0.1"}
    return Point("kernob.connections", count, own)


def ask(store: Store, asked: Range = RANGE, **more: object) -> Traffic:
    filters = Filters(**{k: str(more.pop(k)) for k in list(more) if k in Filters.__slots__})
    return traffic(store.reader(), asked, filters=filters, now=NOW, **more)  # type: ignore[arg-type]


def test_services_by_size(store: Store) -> None:
    found = ask(store)

    rows = {row.name: row for row in found.rows}
    assert list(rows) == ["cron", "shop", "mail"]
    assert rows["shop"].transmit == 60 * (1000 + 2 + 10 + 2)
    assert rows["shop"].receive == 60 * 3 * 2
    assert rows["shop"].hosts == ["web-1", "web-2"]
    assert rows["shop"].operations == 60 * 2
    assert rows["shop"].peers == 2
    assert rows["shop"].transmit_rate == pytest.approx(101.4)
    assert rows["cron"].transmit == 5_000_000
    assert found.transmit == sum(row.transmit for row in found.rows)
    assert found.receive == 60 * 6


def test_lines_are_as_long_as_the_times_and_the_rest_is_others(store: Store) -> None:
    found = ask(store, top=1)

    assert [line.name for line in found.lines] == ["cron", "others"]
    assert all(len(line.transmit) == len(line.receive) == len(found.times) for line in found.lines)
    # In bytes per second: the lines' area is the total.
    area = sum(value or 0 for line in found.lines for value in line.transmit) * 10
    assert area == pytest.approx(found.transmit)


def test_since_when_and_until_when(store: Store) -> None:
    rows = {row.name: row for row in ask(store).rows}

    assert (rows["shop"].since, rows["shop"].last) == (BASE, BASE + 590_000)
    assert (rows["mail"].since, rows["mail"].last) == (None, BASE + 240_000)
    assert (rows["cron"].since, rows["cron"].last) == (None, BASE + 310_000)


def test_connections_open_now(store: Store) -> None:
    found = traffic(store.reader(), RANGE, now=RANGE.end)

    assert {row.name: row.connections for row in found.rows} == {"cron": 0, "shop": 10, "mail": 0}


def test_processes(store: Store) -> None:
    found = ask(store, by="process")

    assert [(row.name, row.pid, row.hosts, row.key, row.service) for row in found.rows] == [
        ("nginx", 42, ["web-1"], "web-1:42", "shop"),
        ("nginx", 42, ["web-2"], "web-2:42", "shop"),
    ]
    assert [row.transmit for row in found.rows] == [60_000, 600]
    assert found.rows[0].operations is None
    assert [line.name for line in found.lines] == ["nginx 42 @ web-1", "nginx 42 @ web-2"]
    assert [line.key for line in found.lines] == ["web-1:42", "web-2:42"]


@pytest.mark.parametrize(
    ("filters", "names"),
    [
        ({"host": "web-2"}, ["shop"]),
        ({"service": "mail"}, ["mail"]),
        ({"peer": "10.0.0.3"}, ["mail"]),
        ({"text": "HOP"}, ["shop"]),
        ({"text": "10.0.0.1"}, ["cron", "shop"]),
        ({"service": "shop", "host": "web-2"}, ["shop"]),
        ({"service": "nobody"}, []),
        ({"process": "web-2:42"}, ["shop"]),
        ({"process": "web-2:43"}, []),
        ({"by": "peer"}, ["10.0.0.1", "10.0.0.3", "10.0.0.2"]),
        ({"by": "peer", "process": "web-1:42"}, ["10.0.0.1"]),
        ({"by": "host"}, ["web-1", "web-2"]),
        ({"direction": "receive"}, ["shop"]),
    ],
)
def test_filters_and_groups(store: Store, filters: dict[str, str], names: list[str]) -> None:
    assert [row.name for row in ask(store, **filters).rows] == names


def test_rows_beyond_the_limit_are_counted(store: Store) -> None:
    found = ask(store, limit=1)

    assert (len(found.rows), found.rows_left_off) == (1, 2)
    assert found.transmit > found.rows[0].transmit


def test_a_process_is_host_and_pid(store: Store) -> None:
    with pytest.raises(QueryError, match="write host:pid"):
        ask(store, process="web-1")


def test_how_it_is_known(store: Store) -> None:
    known = ask(store, host="web-1").provenance

    assert known.metrics[0] == "kernob.network.io"
    assert known.modes == ["ebpf"]
    assert "sock_send_length" in known.hooks[0]
    assert known.exact
    assert known.lost == {"flows_overflowed": 59}
    assert known.resolution == 10_000
    assert known.rows_read > 100
    assert known.seconds > 0


def test_steps_that_are_not_over_have_no_rate_but_count(store: Store) -> None:
    found = traffic(store.reader(), RANGE, now=RANGE.end - 15_000)

    assert found.lines[1].transmit[-4] is not None
    assert found.lines[1].transmit[-3:] == [None, None, None]
    assert {row.name: row.transmit for row in found.rows}["shop"] == 60 * 1014


def test_agents_and_processes_that_start_are_marks(store: Store) -> None:
    start = BASE + 700_000
    agent = Sender("web-3", start, instance="second")
    born = start + 8000
    old, new = (
        process(7, "postgres", "db", 1, start - 200),
        process(9, "psql", "db", 1, born),
    )
    old.start = start + 200
    send(
        store,
        agent.snapshot(start + 1000, *itself(1), old),
        agent.snapshot(start + 9000, *itself(2), old, new),
    )
    later = Range(BASE + 650_000, BASE + 800_000, 1000, "points")

    started = (start, "web-3", "the agent started")

    assert [(m.time, m.name, m.what) for m in ask(store, later).marks] == [started]
    assert [(m.time, m.name, m.what) for m in ask(store, later, service="db").marks] == [
        started,
        (born, "db", "psql 9 started on web-3"),
    ]


def test_rollups_tell_the_same(store: Store) -> None:
    sent = ask(store)
    tiers = [ask(store, Range(BASE, BASE + 600_000, 300_000, f"points_{t}")) for t in ("1m", "5m")]

    for found in tiers:
        assert [(r.name, r.transmit, r.receive, r.operations) for r in found.rows] == [
            (r.name, r.transmit, r.receive, r.operations) for r in sent.rows
        ]


def test_nothing_stored_is_nothing_shown(store: Store) -> None:
    found = ask(store, Range(BASE - 9_000_000, BASE - 8_400_000, 10_000, "points"))

    assert (found.rows, found.lines, found.transmit) == ([], [], 0)
