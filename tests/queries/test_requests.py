"""Requests by service, operation, peer and name, against what was sent."""

import time

import numpy as np
import pytest

from kernob.queries.health import BAD_SHARE, health
from kernob.queries.model import Range
from kernob.queries.model_requests import Missed, RequestGrouping, RequestRow
from kernob.queries.requests import Asked, requests
from kernob.queries.service import Choice, service
from kernob.store.store import Store
from snapshots import Durations, Point, Sender, asked, itself, send

MINUTE = 60_000
NOW = time.time_ns() // 1_000_000
END = NOW // MINUTE * MINUTE - 3 * 60 * MINUTE
RANGE = Range(END - 20 * MINUTE, END, MINUTE, "points")
STEPS = 20


def shop(at: int) -> list[Durations]:
    """Returns all that the shop has counted after `at` minutes: it serves, asks and looks up."""
    web = {"peer": "client", "operation": "GET /users/{id}"}
    select = {"peer": "db", "operation": "SELECT users", "protocol": "postgresql", "side": "client"}
    lookup = {"protocol": "dns", "side": "client", "peer": "10.0.0.53"}
    return [
        asked("shop", (0.010,) * 90 * at, **web),
        asked("shop", (0.200,) * 10 * at, **web, error="500"),
        asked("shop", (0.040,) * 5 * at, peer="admin", operation="POST /users"),
        asked("shop", (0.004,) * 30 * at, **select),
        asked("shop", (1.5,) * at, **select, error="57014"),
        asked("shop", (0.001,) * 2 * at, **lookup, operation="A db.example"),
        asked("shop", (0.001,) * 2 * at, **lookup, operation="AAAA db.example", error="SERVFAIL"),
        asked("db", (0.003,) * 31 * at, peer="shop", operation="SELECT users",
              protocol="postgresql"),
    ]  # fmt: skip


@pytest.fixture(scope="module", autouse=True)
def sent(store: Store) -> None:
    agent = Sender("web-1", END - 30 * MINUTE)
    of = {"network.protocol.name": "http", "reason": "before"}
    bodies = []
    for at in range(30):
        own = [
            Point("kernob.agent.requests.unpaired", 3 * at, of),
            Point("kernob.agent.requests.unseen", at, of | {"reason": "sendfile"}),
            Point("kernob.requests.one_way", 2 * at, {"service.name": "shop"}),
        ]
        moment = END - 30 * MINUTE + at * MINUTE + 100
        bodies.append(agent.snapshot(moment, *shop(at), *itself(at), *own))
    send(store, *bodies)


def ask(store: Store, by: RequestGrouping, **only: str) -> dict[tuple[str, str], RequestRow]:
    answer = requests(store.reader(), RANGE, by=by, only=Asked(**only))
    return {(row.key, row.side): row for row in answer.rows}


def test_services_as_server_and_as_client(store: Store) -> None:
    found = ask(store, "service")

    counted = {key: (row.requests, row.errors) for key, row in found.items()}
    assert counted == {
        ("shop", "server"): (105 * STEPS, 10 * STEPS),
        ("shop", "client"): (35 * STEPS, 3 * STEPS),
        ("db", "server"): (31 * STEPS, 0),
    }
    assert found["shop", "server"].seconds == pytest.approx(STEPS * (0.9 + 2 + 0.2))
    assert found["shop", "server"].failures == {"500": 10 * STEPS}
    assert found["shop", "client"].failures == {"SERVFAIL": 2 * STEPS, "57014": STEPS}


def test_operations_have_exact_percentiles_and_their_share_of_time(store: Store) -> None:
    found = ask(store, "operation", service="shop", side="server")

    users = found["http GET /users/{id}", "server"]
    samples = np.repeat([0.010, 0.200], [90, 10])
    assert (users.requests, users.errors) == (100 * STEPS, 10 * STEPS)
    assert users.p50 == pytest.approx(np.quantile(samples, 0.5), rel=2**0.125 - 1)
    assert users.p99 == pytest.approx(np.quantile(samples, 0.99), rel=2**0.125 - 1)
    assert users.share == pytest.approx(2.9 / 3.1)
    assert set(found) == {("http GET /users/{id}", "server"), ("http POST /users", "server")}


def test_peers_know_which_are_services(store: Store) -> None:
    found = ask(store, "peer", service="shop")

    services = {name: row.service for (name, _), row in found.items()}
    assert services == {"client": False, "admin": False, "db": True, "10.0.0.53": False}


def test_names_that_were_looked_up(store: Store) -> None:
    found = ask(store, "name")

    row = found["db.example", "client"]
    assert (row.requests, row.errors, row.detail) == (4 * STEPS, 2 * STEPS, "A, AAAA")


def test_rows_are_bounded(store: Store) -> None:
    answer = requests(store.reader(), RANGE, by="peer", limit=2)

    assert (len(answer.rows), answer.rows_left_off) == (2, 3)
    assert answer.requests == (105 + 35 + 31) * STEPS


def test_a_service_over_time(store: Store) -> None:
    found = service(store.reader(), RANGE, "shop", now=END + MINUTE)

    assert [(row.side, row.requests) for row in found.sides] == [
        ("server", 105 * STEPS),
        ("client", 31 * STEPS),
    ]
    assert found.side == "server"
    assert found.lines.rate == pytest.approx([105 / 60] * STEPS)
    assert found.lines.errors == pytest.approx([10 / 60] * STEPS, rel=1e-5)
    assert found.lines.p50 == pytest.approx([0.010] * STEPS, rel=0.1)
    assert found.lines.p99 == pytest.approx([0.200] * STEPS, rel=0.1)
    assert [row.key for row in found.operations] == ["http GET /users/{id}", "http POST /users"]
    assert [row.key for row in found.peers] == ["client", "admin"]
    assert [row.key for row in found.names] == ["db.example"]
    assert found.provenance.exact


def test_the_heat_map_is_the_buckets(store: Store) -> None:
    heat = service(store.reader(), RANGE, "shop").heat

    assert len(heat.counts) == STEPS
    for counts in heat.counts:
        held = {
            seconds: counts[int(np.searchsorted(heat.bounds, seconds)) - 1]
            for seconds in (0.010, 0.040, 0.200)
        }
        assert held == {0.010: 90, 0.040: 5, 0.200: 10}
        assert sum(counts) == 105
    assert heat.bounds[1] / heat.bounds[0] == pytest.approx(2**2.0**-heat.scale)


def test_a_choice_isolates_an_operation_and_a_peer(store: Store) -> None:
    select = service(
        store.reader(), RANGE, "shop", Choice(side="client", operation="postgresql SELECT users")
    )
    admin = service(store.reader(), RANGE, "shop", Choice(peer="admin"), now=END + MINUTE)

    assert select.side == "client"
    assert [(row.key, row.requests) for row in select.peers] == [("db", 31 * STEPS)]
    assert np.sum(select.heat.counts) == 31 * STEPS
    assert admin.lines.rate == pytest.approx([5 / 60] * STEPS)
    assert [row.key for row in admin.operations] == ["http POST /users"]
    assert len(admin.peers) == 2


def test_what_was_missed_is_said(store: Store) -> None:
    found = service(store.reader(), RANGE, "shop").missed

    assert found == [
        Missed("unpaired", "http", "before", 3 * STEPS),
        Missed("one_way", "", "", 2 * STEPS),
        Missed("unseen", "http", "sendfile", STEPS),
    ]


def test_a_service_without_requests_is_known_or_not(store: Store) -> None:
    unknown = service(store.reader(), RANGE, "nobody")

    assert (unknown.known, unknown.sides, unknown.heat.counts) == (False, [], [])
    assert set(unknown.lines.rate) == {None}
    assert service(store.reader(), RANGE, "kernob-agent").known


def test_a_gap_stays_a_gap(store: Store) -> None:
    agent = Sender("gap", END - 30 * MINUTE)
    for at in (*range(10, 16), *range(21, 30)):
        point = asked("gap", (0.1,) * 60 * at)
        send(store, agent.snapshot(END - 30 * MINUTE + at * MINUTE, point, *itself(at)))

    rate = service(store.reader(), RANGE, "gap", now=END + MINUTE).lines.rate

    assert rate[6:11] == [None] * 5
    assert rate[1:6] == pytest.approx([1.0] * 5)
    # What came after the gap belongs to all of it.
    assert rate[11] == pytest.approx(1.0)


def lately(store: Store, name: str, minutes: list[list[Durations]]) -> None:
    """Sends what a service has counted after each of the last minutes."""
    agent = Sender(name, NOW - 3 * 60 * MINUTE)
    first = NOW // MINUTE * MINUTE - len(minutes) * MINUTE
    send(
        store,
        *(
            agent.snapshot(first + at * MINUTE + 1, *points, *itself(at))
            for at, points in enumerate(minutes)
        ),
    )


def test_who_fails_or_slows_down_comes_first(store: Store) -> None:
    def minute(at: int, *, slow: bool) -> list[Durations]:
        before, after = min(at, 64), max(0, at - 64)
        fails = ("" if slow else "500") if after else ""
        good = (0.01,) * 100 * before
        return [
            asked("slow" if slow else "fails", good + (0.2,) * (100 * after if slow else 0)),
            asked("slow" if slow else "fails", (0.01,) * 20 * after, error=fails),
        ]

    lately(store, "fails", [minute(at, slow=False) for at in range(71)])
    lately(store, "slow", [minute(at, slow=True) for at in range(71)])
    lately(store, "good", [[asked("good", (0.01,) * 50 * at)] for at in range(71)])

    span = Range(NOW // MINUTE * MINUTE - 60 * MINUTE, NOW // MINUTE * MINUTE, MINUTE, "points")
    found = health(store.reader(), span, NOW + MINUTE)

    assert [(one.service, one.state) for one in found] == [
        ("fails", "bad"),
        ("slow", "attention"),
        ("good", "ok"),
    ]
    fails, slow, good = found
    assert fails.error_share is not None
    assert fails.error_share > BAD_SHARE
    assert "in the hour before" in fails.why
    assert slow.p95 == pytest.approx(0.2, rel=0.1)
    assert slow.p95_before == pytest.approx(0.01, rel=0.1)
    assert (good.why, good.rate) == ("", pytest.approx(50 / 60))


def test_how_it_is_known_is_told_of_its_own_hosts(store: Store) -> None:
    polling = Sender("elsewhere", END - 30 * MINUTE)
    send(store, polling.snapshot(END - MINUTE, *itself(1, mode="polling", lost={"rows": 3})))

    found = service(store.reader(), RANGE, "shop").provenance

    assert (found.modes, found.exact, found.lost) == (["ebpf"], True, {})
