"""MySQL and MariaDB: what its parser makes of answers, and of prepared statements."""

from __future__ import annotations

import struct

import pytest

from protocols.host import (
    NO_EVENT,
    AlienError,
    Connection,
    Direction,
    Event,
    messages,
    units,
)
from protocols.mysql_packets import (
    BULK,
    CURSOR,
    DEPRECATE_EOF,
    EXECUTE,
    FETCH,
    FIELD_LIST,
    MORE_RESULTS,
    PING,
    PLAIN,
    PREPARE,
    QUERY,
    STATISTICS,
    client,
    column,
    command,
    eof,
    error,
    greeting,
    login,
    ok,
    outcome,
    packet,
    prepared,
    query,
    result,
    server,
    text,
)

# --- answers


def test_ok_and_errors() -> None:
    large = packet(b"\x00\xfe" + b"\1" * 8 + b"\xfd\1\2\3" + b"\2\0\0\0" + b"x" * 3000, 1)
    stream = ok() + error(1146) + large + ok(1, info=b"Rows matched: 1")
    assert [(u.events, u.status) for u in server(stream, *[QUERY] * 4)] == [
        (Event.ANSWER, 0),
        (Event.ANSWER, 1146),
        (Event.ANSWER, 0),
        (Event.ANSWER, 0),
    ]


@pytest.mark.parametrize("old", [False, True])
@pytest.mark.parametrize(
    "rows",
    [
        [],
        [b"\x011\x012"],
        [b"\xfb\xfb"] * 300,  # NULLs
        [text(b"x" * 3000)] * 3,
        [b"\x00\x00\x01\x00\x00\x00"] * 20,  # binary
    ],
)
def test_results(rows: list[bytes], *, old: bool) -> None:
    stream = result(rows, old=old)
    found = messages(units("mysql", Direction.SERVER, stream * 2, (), [QUERY] * 2, waiting=False))
    assert outcome(found) == [(Event.ANSWER, 0, len(stream))] * 2
    if len(stream) < 2000:
        assert server(stream * 2, QUERY, QUERY) == found


@pytest.mark.parametrize("old", [False, True])
def test_an_error_among_the_rows(*, old: bool) -> None:
    stream = result([b"\x011\x012"] * 3, old=old)
    end = 9 if old else 11
    stream = stream[:-end] + error(1317, 9)
    assert outcome(server(stream, QUERY)) == [(Event.ANSWER, 1317, len(stream))]


@pytest.mark.parametrize("old", [False, True])
def test_many_columns(*, old: bool) -> None:
    count = packet(b"\xfc\x2c\x01", 1)
    columns = b"".join(column(b"c", 2) for _ in range(300))
    stream = count + columns + (eof(3) + eof(4) if old else ok(3, header=0xFE))
    found = messages(units("mysql", Direction.SERVER, stream, range(7, len(stream), 7), [QUERY]))
    assert outcome(found) == [(Event.ANSWER, 0, len(stream))]


@pytest.mark.parametrize("old", [False, True])
def test_several_results_are_one_answer(*, old: bool) -> None:
    one = result([b"\x011\x012"], old=old, flags=2 | MORE_RESULTS)
    stream = one + ok(9, 2 | MORE_RESULTS) + one + ok(9)
    assert outcome(server(stream + ok(), QUERY, QUERY)) == [
        (Event.ANSWER, 0, len(stream)),
        (Event.ANSWER, 0, len(ok())),
    ]
    stream = one + error(1146, 9)
    assert outcome(server(stream, QUERY)) == [(Event.ANSWER, 1146, len(stream))]


def test_definitions_that_the_client_knows_already() -> None:
    stream = packet(b"\x02\x00", 1) + packet(b"\0\0\1\0", 2) + ok(3, header=0xFE)
    assert outcome(server(stream, EXECUTE)) == [(Event.ANSWER, 0, len(stream))]
    stream = packet(b"\x02\x00", 1) + eof(2) + packet(b"\0\0\1\0", 3) + eof(4)
    assert outcome(server(stream, EXECUTE)) == [(Event.ANSWER, 0, len(stream))]
    stream = packet(b"\x01\x01", 1) + column(b"a", 2) + ok(3, header=0xFE)
    assert outcome(server(stream, EXECUTE)) == [(Event.ANSWER, 0, len(stream))]


def test_rows_that_go_on() -> None:
    longest = (1 << 24) - 1
    head = packet(b"\x01", 1) + column(b"a", 2)
    # The row begins with the byte of an end: it is a length of eight bytes.
    row = b"\xff\xff\xff\x03\xfe" + b"x" * (longest - 1) + packet(b"\xfe" + b"x" * 6, 4)
    stream = head + row + ok(5, header=0xFE)
    found = messages(
        units("mysql", Direction.SERVER, stream, range(70000, len(stream), 70000), [QUERY])
    )
    assert outcome(found) == [(Event.ANSWER, 0, len(stream))]


def test_progress_is_no_error() -> None:
    progress = packet(b"\xff\xff\xff\x01\x01\x01\0\0\0", 1)
    assert outcome(server(progress + ok(2), QUERY)) == [
        (Event.ANSWER, 0, len(progress) + len(ok()))
    ]


def test_a_file_is_sent() -> None:
    connection = Connection("mysql", [QUERY, QUERY], waiting=False)
    connection.client(query("LOAD DATA LOCAL INFILE 'f' INTO TABLE t"))
    connection.server(packet(b"\xfbf", 1))
    # Sequences come again after 256 packets, and what is in them may look like a command.
    for number in range(2, 600):
        (unit,) = connection.client(packet(b"\x03SELECT", number & 255))
        assert unit.events == NO_EVENT
    connection.client(packet(b"", 600 & 255))
    (unit,) = connection.server(ok((601) & 255))
    assert (unit.events, unit.status) == (Event.ANSWER, 0)
    assert [u.text for u in connection.client(query("SELECT 1"))] == [b"SELECT ?"]


def test_other_answers() -> None:
    assert outcome(server(packet(b"Uptime: 17  Threads: 1", 1), STATISTICS)) == [
        (Event.ANSWER, 0, 26)
    ]
    fields = column(b"a", 1) + column(b"b", 2)
    assert outcome(server(fields + eof(3), FIELD_LIST)) == [(Event.ANSWER, 0, len(fields) + 9)]
    assert outcome(server(eof(1), 0x1B)) == [(Event.ANSWER, 0, 9)]
    with pytest.raises(AlienError):
        units("mysql", Direction.SERVER, packet(b"\x02", 1), (), [PING])


# --- prepared statements


@pytest.mark.parametrize("old", [False, True])
@pytest.mark.parametrize(("columns", "parameters"), [(0, 0), (2, 0), (0, 3), (300, 2)])
def test_statements_are_prepared(columns: int, parameters: int, *, old: bool) -> None:
    stream = prepared(7, columns, parameters, old=old) * 2
    connection = Connection("mysql", [PREPARE, PREPARE], waiting=False)
    connection.server(greeting())
    connection.client(login(PLAIN | (0 if old else DEPRECATE_EOF)))
    connection.server(ok(2))
    found = messages(connection.server(*(stream[i : i + 50] for i in range(0, len(stream), 50))))
    assert [(u.events, u.statement, u.length) for u in found] == [
        (Event.ANSWER | Event.PREPARED, 1 << 32 | 7, len(stream) // 2)
    ] * 2


def test_a_statement_that_can_not_be_prepared() -> None:
    assert outcome(server(error(1064), PREPARE)) == [(Event.ANSWER, 1064, len(error(0)))]


def test_an_old_end_behind_definitions_is_apart_if_it_could_not_be_told() -> None:
    stream = prepared(7, 0, 2, old=True)
    found = server(stream + ok(), PREPARE, QUERY)
    assert found[0].events == Event.ANSWER | Event.PREPARED
    # With another request waiting, it would be its answer: a statement's is waited for.
    found = server(stream, PREPARE)
    assert [u.events for u in found] == [Event.ANSWER | Event.PREPARED, Event.APART]


def test_statements_are_executed_by_number() -> None:
    stream = command(EXECUTE, struct.pack("<IBI", 7, 0, 1) + b"\0\1\x0f\0" + text(b"secret"))
    stream += command(BULK, struct.pack("<IH", 8, 0))
    assert [(u.events, u.statement, u.text) for u in client(stream)] == [
        (Event.REQUEST | Event.RECALL, 1 << 32 | 7, b""),
        (Event.REQUEST | Event.RECALL, 1 << 32 | 8, b""),
    ]


def test_a_prepared_statement_is_executed_before_its_number_is_known() -> None:
    stream = command(PREPARE, b"INSERT INTO t VALUES (?, 17)")
    stream += command(EXECUTE, struct.pack("<IBI", 0xFFFFFFFF, 0, 1))
    preparing, remembered, executing = client(stream)
    assert preparing.text == b"PREPARE INSERT INTO t VALUES (?)"
    assert (remembered.events, remembered.text) == (
        Event.REMEMBER,
        b"INSERT INTO t VALUES (?)",
    )
    assert preparing.local & 0xFF == PREPARE
    assert preparing.local == remembered.statement == executing.statement
    (again, _) = client(stream + stream)[3:5]
    assert again.local != preparing.local


def test_cursors() -> None:
    opened = packet(b"\x01", 1) + column(b"a", 2) + eof(3, 2 | CURSOR)
    assert outcome(server(opened, EXECUTE)) == [(Event.ANSWER, 0, len(opened))]
    opened = packet(b"\x01", 1) + column(b"a", 2) + ok(3, 2 | CURSOR, header=0xFE)
    assert outcome(server(opened, EXECUTE)) == [(Event.ANSWER, 0, len(opened))]
    rows = b"".join(packet(b"\0\0\1\0\0\0", i) for i in range(1, 9))
    for end in (eof(9, 2 | 128), ok(9, 2 | 128, header=0xFE)):
        assert outcome(server(rows + end, FETCH)) == [(Event.ANSWER, 0, len(rows + end))]
    assert outcome(server(eof(1, 2 | 128), FETCH)) == [(Event.ANSWER, 0, 9)]


# --- a connection older than the agent


def test_the_end_of_an_answer_to_nobody_is_apart() -> None:
    found = server(packet(b"\x011", 17) + eof(18) + ok(1))
    assert [u.events for u in found] == [Event.APART, Event.ANSWER]
