"""Accounts against a plain model: dictionaries, one addition at a time."""

from __future__ import annotations

import dataclasses
from collections import defaultdict
from types import SimpleNamespace
from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from kernob.identity.addresses import plain
from kernob.signals.accounts import (
    CONNECTIONS,
    OPERATIONS,
    PROCESS_IO,
    SERVICE_IO,
    Accounts,
)
from kernob.signals.flows import Reading, is_unspecified
from kernob.telemetry.model import Metric, Points

KEY = np.dtype(
    [
        ("start", np.uint64),
        ("address", np.uint8, (16,)),
        ("pid", np.uint32),
        ("port", np.uint16),
        ("transport", np.uint8),
        ("side", np.uint8),
    ]
)
VALUE = np.dtype(
    [("bytes", np.uint64, (2,)), ("operations", np.uint64, (2,)), ("connections", np.int64)]
)
LOOPBACK = b"\0" * 10 + b"\xff\xff\x7f\0\0\1"


@dataclasses.dataclass
class Row:
    pid: int = 1
    port: int = 80
    side: int = 2
    transport: int = 6
    address: bytes = LOOPBACK
    start: int = 1000
    bytes: tuple[int, int] = (0, 0)
    operations: tuple[int, int] = (0, 0)
    connections: int = 0


def reading(*rows: Row, ended: tuple[tuple[int, int], ...] = ()) -> Reading:
    keys, values = np.zeros(len(rows), KEY), np.zeros(len(rows), VALUE)
    for i, row in enumerate(rows):
        address = np.frombuffer(row.address, np.uint8)
        keys[i] = (row.start, address, row.pid, row.port, row.transport, row.side)
        values[i] = (row.bytes, row.operations, row.connections)
    return Reading(keys, values, ended)


def accounts(peers_per_server: int = 64, conversations: int = 1000) -> Accounts:
    served: dict[tuple[int, int], str] = {}

    def name_peer(address: bytes, port: int, transport: int) -> str:
        return served.get((transport, port)) or str(plain(address))

    def serves(transport: int, port: int, service: str) -> None:
        served[transport, port] = service

    def identify(pid: int, start: int) -> Any:
        # Two processes make one service.
        return SimpleNamespace(
            pid=pid, start=start, service=f"service-{pid // 2}", executable=f"program-{pid}"
        )

    return Accounts(
        identify=identify,
        name_peer=name_peer,
        serves=serves,
        resource={"service.name": "kernob-agent", "host.name": "here"},
        start=5_000,
        boot=4_500,
        peers_per_server=peers_per_server,
        conversations=conversations,
    )


def values(points: tuple[Points, ...], metric: Metric) -> dict[tuple[Any, ...], int]:
    """The points of a metric by the values of their attributes, in order of their names."""
    [found] = [p for p in points if p.metric == metric]
    return {
        tuple(value for _, value in series.attributes): int(value)
        for series, value in zip(found.series, found.values, strict=True)
    }


def test_a_row_becomes_points_of_its_process_and_its_service() -> None:
    book = accounts()

    book.update(reading(Row(pid=3, bytes=(10, 20), operations=(1, 2), connections=1)))

    points = book.points()
    assert values(points, PROCESS_IO) == {
        ("127.0.0.1", "transmit", "tcp", "program-3", 3, "service-1"): 10,
        ("127.0.0.1", "receive", "tcp", "program-3", 3, "service-1"): 20,
    }
    [io] = [p for p in points if p.metric == SERVICE_IO]
    assert dict(io.series[0].attributes) == {
        "kernob.peer": "127.0.0.1",
        "kernob.side": "server",
        "network.io.direction": "transmit",
        "network.transport": "tcp",
        "network.type": "ipv4",
        "server.port": 80,
        "service.name": "service-1",
    }
    assert io.values.tolist() == [10, 20]
    assert io.series[0].start == 5_000
    assert {dict(s.resource)["service.name"] for p in points for s in p.series} == {"kernob-agent"}
    assert list(values(points, OPERATIONS).values()) == [1, 2]
    assert list(values(points, CONNECTIONS).values()) == [1]


def test_a_process_has_a_series_for_each_peer_that_adds_up() -> None:
    book = accounts()
    rows = [
        Row(pid=3, side=1, port=port, address=LOOPBACK[:-1] + bytes([last]), bytes=(last, port))
        for last, port in ((1, 80), (1, 81), (2, 80))
    ]

    book.update(reading(*rows))
    seen = values(book.points(), PROCESS_IO)
    # It ends, its place is another's: nothing is left over.
    book.update(reading(*rows, ended=((1000, 3),)))
    book.update(reading(Row(pid=5, bytes=(9, 0))))
    later = values(book.points(), PROCESS_IO)

    assert {(key[0], key[1]): value for key, value in seen.items()} == {
        ("127.0.0.1", "transmit"): 2,
        ("127.0.0.1", "receive"): 161,
        ("127.0.0.2", "transmit"): 2,
        ("127.0.0.2", "receive"): 80,
    }
    assert {(key[0], key[4]): value for key, value in later.items() if value} == {
        ("127.0.0.1", 5): 9
    }


def test_a_service_keeps_what_its_ended_processes_moved() -> None:
    book = accounts()
    book.update(reading(Row(pid=2, bytes=(10, 0)), Row(pid=3, bytes=(5, 0))))

    settled = book.update(
        reading(Row(pid=2, bytes=(12, 0)), Row(pid=3, bytes=(6, 0)), ended=((1000, 2),))
    )

    assert settled.rows.tolist() == [0]
    assert settled.processes == [(1000, 2)]
    points = book.points()
    assert sum(values(points, SERVICE_IO).values()) == 18
    assert {key[4] for key in values(points, PROCESS_IO)} == {3}
    book.update(reading(Row(pid=3, bytes=(7, 0))))
    assert sum(values(book.points(), SERVICE_IO).values()) == 19


def test_rows_with_open_connections_wait_until_they_are_closed() -> None:
    book = accounts()
    open_row = Row(pid=2, bytes=(1, 1), connections=1)

    first = book.update(reading(open_row, ended=((1000, 2),)))
    second = book.update(reading(dataclasses.replace(open_row, bytes=(3, 3)), ended=((1000, 2),)))
    closed = dataclasses.replace(open_row, bytes=(4, 4), connections=0)
    third = book.update(reading(closed, ended=((1000, 2),)))

    assert (len(first.rows), len(second.rows), len(third.rows)) == (0, 0, 1)
    assert values(book.points(), PROCESS_IO) == {}
    assert sum(values(book.points(), SERVICE_IO).values()) == 8


def test_a_process_seen_only_after_its_end_still_counts() -> None:
    book = accounts()

    settled = book.update(reading(Row(pid=9, bytes=(7, 8)), ended=((1000, 9), (1000, 77))))

    assert settled.rows.tolist() == [0]
    assert sorted(settled.processes) == [(1000, 9), (1000, 77)]
    assert sum(values(book.points(), SERVICE_IO).values()) == 15


def test_an_id_that_comes_back_is_another_process() -> None:
    book = accounts()
    book.update(reading(Row(pid=2, start=1000, bytes=(10, 0)), ended=((1000, 2),)))

    book.update(reading(Row(pid=2, start=2000, bytes=(1, 0))))

    points = book.points()
    assert sum(values(points, SERVICE_IO).values()) == 11
    assert (
        values(points, PROCESS_IO)["127.0.0.1", "transmit", "tcp", "program-2", 2, "service-1"] == 1
    )


def test_a_caller_on_this_host_is_told_the_name_of_the_service_it_calls() -> None:
    book = accounts()

    book.update(
        reading(Row(pid=8, side=1, port=5432, bytes=(1, 0)), Row(pid=6, port=5432, bytes=(0, 1)))
    )

    [io] = [p for p in book.points() if p.metric == SERVICE_IO]
    peers = {
        dict(s.attributes)["service.name"]: dict(s.attributes)["kernob.peer"] for s in io.series
    }
    assert peers == {"service-4": "service-3", "service-3": "127.0.0.1"}


def test_who_served_a_connection_without_a_port_is_not_who_calls() -> None:
    book = accounts()

    book.update(reading(Row(pid=8, port=0, bytes=(1, 0)), Row(pid=6, port=5432, bytes=(0, 1))))

    [io] = [p for p in book.points() if p.metric == SERVICE_IO]
    assert {dict(s.attributes)["kernob.peer"] for s in io.series} == {"127.0.0.1"}


def test_many_clients_of_a_port_share_one_name() -> None:
    book = accounts(peers_per_server=2)
    rows = [
        Row(address=LOOPBACK[:-1] + bytes([last]), bytes=(1, 0), connections=1)
        for last in (1, 2, 3, 4)
    ]

    book.update(reading(*rows))

    [connections] = [p for p in book.points() if p.metric == CONNECTIONS]
    by_peer = {
        dict(s.attributes)["kernob.peer"]: int(v)
        for s, v in zip(connections.series, connections.values, strict=True)
    }
    assert by_peer == {"127.0.0.1": 1, "127.0.0.2": 1, "client": 2}


def test_conversations_are_bounded_and_nothing_is_lost() -> None:
    book = accounts(conversations=3)
    rows = [Row(pid=2 * i, port=i, side=1, bytes=(1, 0)) for i in range(1, 20)]

    book.update(reading(*rows))

    [io] = [p for p in book.points() if p.metric == SERVICE_IO]
    assert len(io.series) <= 2 * (2 * 3 + 1)
    assert int(io.values.sum()) == 19
    assert any(("otel.metric.overflow", True) in s.attributes for s in io.series)
    assert any(("kernob.peer", "other") in s.attributes for s in io.series)
    assert len(book.table()) == 19


def test_peers_of_processes_are_bounded_and_each_process_keeps_its_sum() -> None:
    book = accounts(conversations=8)
    rows = [
        Row(pid=pid, port=port, side=1, address=LOOPBACK[:-1] + bytes([port]), bytes=(1, 0))
        for pid in (2, 3, 4)
        for port in range(1, 5)
    ]

    book.update(reading(*rows))

    sums: dict[Any, int] = defaultdict(int)
    peers: dict[Any, set[Any]] = defaultdict(set)
    for key, value in values(book.points(), PROCESS_IO).items():
        sums[key[4]] += value
        peers[key[4]].add(key[0])
    assert sums == {2: 4, 3: 4, 4: 4}
    assert peers == {2: {"127.0.0.1", "127.0.0.2", "other"}, 3: {"other"}, 4: {"other"}}


def test_the_table_keeps_what_ended_processes_have_moved() -> None:
    book = accounts()
    book.update(reading(Row(pid=2, bytes=(10, 5)), Row(pid=3, bytes=(1, 1))))

    book.update(reading(Row(pid=2, bytes=(11, 5)), Row(pid=3, bytes=(1, 1)), ended=((1000, 2),)))

    rows = {row.process.pid if row.process else 0: row for row in book.table()}
    assert {pid: (row.transmit, row.receive, row.ended) for pid, row in rows.items()} == {
        0: (11, 5, True),
        3: (1, 1, False),
    }
    assert rows[0].peer == rows[3].peer


def test_the_row_of_zeros_is_the_overflow_series() -> None:
    book = accounts()
    zeros = Row(pid=0, start=0, port=0, transport=0, side=0, address=bytes(16), bytes=(3, 4))

    book.update(reading(zeros))

    [io] = [p for p in book.points() if p.metric == SERVICE_IO]
    assert dict(io.series[0].attributes) == {
        "otel.metric.overflow": True,
        "network.io.direction": "transmit",
    }
    assert io.values.tolist() == [3, 4]


def test_a_process_that_executes_another_program_changes_its_service() -> None:
    book = accounts()
    book.update(reading(Row(pid=2, bytes=(10, 0), connections=1)))
    later = SimpleNamespace(pid=2, start=1000, service="other", executable="program-other")

    book.rename(later)  # type: ignore[arg-type]
    book.update(reading(Row(pid=2, bytes=(13, 0), connections=1)))

    points = book.points()
    [io] = [p for p in points if p.metric == SERVICE_IO]
    by_service: dict[Any, int] = defaultdict(int)
    for series, value in zip(io.series, io.values, strict=True):
        by_service[dict(series.attributes)["service.name"]] += int(value)
    assert by_service == {"service-1": 10, "other": 3}
    own = values(points, PROCESS_IO)
    assert own["127.0.0.1", "transmit", "tcp", "program-other", 2, "other"] == 13
    book.update(reading(Row(pid=2, bytes=(14, 0)), ended=((1000, 2),)))
    assert sum(values(book.points(), SERVICE_IO).values()) == 14


def test_rows_that_were_never_used_make_no_series() -> None:
    book = accounts()

    book.update(reading(Row(address=bytes(16)), Row(port=81, connections=1)))
    book.points()
    book.update(reading(Row(address=bytes(16)), Row(port=81, connections=0)))

    [connections] = [p for p in book.points() if p.metric == CONNECTIONS]
    assert [dict(s.attributes)["server.port"] for s in connections.series] == [81]
    assert connections.values.tolist() == [0]


def test_a_figure_never_goes_back() -> None:
    book = accounts()
    book.update(reading(Row(bytes=(10, 10), operations=(5, 5))))

    book.update(reading(Row(bytes=(9, 11), operations=(4, 6))))

    assert list(values(book.points(), SERVICE_IO).values()) == [10, 11]
    assert list(values(book.points(), OPERATIONS).values()) == [5, 6]


def test_text_of_addresses() -> None:
    assert str(plain(LOOPBACK)) == "127.0.0.1"
    assert str(plain(b"\0" * 15 + b"\1")) == "::1"
    assert is_unspecified(bytes(16))
    assert is_unspecified(b"\0" * 10 + b"\xff\xff" + bytes(4))
    assert not is_unspecified(b"\0" * 15 + b"\1")
    assert not is_unspecified(b"\x20" + bytes(15))


def moved_by_the_living(
    table: dict[tuple[int, int, int], Row], generation: dict[int, int]
) -> dict[int, int]:
    """The bytes of each process that has moved some, by its id."""
    moved: dict[int, int] = defaultdict(int)
    for (start, pid, _), row in table.items():
        if start == generation[pid] and any(row.bytes):
            moved[pid] += sum(row.bytes)
    return moved


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_totals_agree_with_a_plain_model(data: st.DataObject) -> None:
    """Processes come, move bytes, end and come back; nothing is lost and nothing falls."""
    book = accounts()
    table: dict[tuple[int, int, int], Row] = {}
    truth: dict[tuple[str, int], int] = defaultdict(int)
    ended: set[tuple[int, int]] = set()
    before: dict[tuple[Any, ...], int] = {}
    generation: dict[int, int] = defaultdict(lambda: 1000)
    for _ in range(data.draw(st.integers(1, 12))):
        for _ in range(data.draw(st.integers(0, 6))):
            pid, port = data.draw(st.integers(1, 5)), data.draw(st.integers(1, 3))
            start = generation[pid]
            row = table.setdefault((start, pid, port), Row(pid=pid, port=port, start=start))
            sent = data.draw(st.integers(0, 2**40))
            row.bytes = (row.bytes[0] + sent, row.bytes[1] + 1)
            row.connections = data.draw(st.integers(0, 1))
            truth[f"service-{pid // 2}", port] += sent + 1
        for pid in data.draw(st.sets(st.integers(1, 5), max_size=2)):
            ended.add((generation[pid], pid))
            generation[pid] += 1
        for key in list(table):
            if key[:2] in ended and data.draw(st.booleans()):
                table[key].connections = 0
        order = data.draw(st.permutations(list(table)))

        settled = book.update(reading(*(table[key] for key in order), ended=tuple(ended)))

        for position in settled.rows:
            del table[order[position]]
        ended -= set(settled.processes)
        points = book.points()
        totals: dict[tuple[str, int], int] = defaultdict(int)
        [io] = [p for p in points if p.metric == SERVICE_IO]
        for series, value in zip(io.series, io.values, strict=True):
            own = dict(series.attributes)
            totals[str(own["service.name"]), int(own["server.port"])] += int(value)
        assert {k: v for k, v in totals.items() if v} == {k: v for k, v in truth.items() if v}
        own_bytes: dict[int, int] = defaultdict(int)
        [own_io] = [p for p in points if p.metric == PROCESS_IO]
        for series, value in zip(own_io.series, own_io.values, strict=True):
            own_bytes[int(dict(series.attributes)["process.pid"])] += int(value)
        assert own_bytes == moved_by_the_living(table, generation)
        now = values(points, SERVICE_IO)
        assert all(now[key] >= value for key, value in before.items())
        before = now
