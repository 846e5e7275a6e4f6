"""MySQL and MariaDB: detection, the login, and what its parser makes of commands."""

from __future__ import annotations

import struct

import pytest

from protocols.host import (
    NO_EVENT,
    AlienError,
    Connection,
    Direction,
    Event,
    Unseen,
    answers,
    asks,
    messages,
    split,
    units,
)
from protocols.mysql_packets import (
    ALL,
    CHANGE_USER,
    CLOSE,
    COMPRESS,
    EXECUTE,
    FETCH,
    INIT_DB,
    LONG_DATA,
    PING,
    PLAIN,
    PREPARE,
    QUERY,
    RESET,
    SESSION_CHANGED,
    SSL,
    STATISTICS,
    WITH_DATABASE,
    ZSTD,
    client,
    command,
    error,
    greeting,
    logged_in,
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

# --- detection


def test_a_greeting_is_a_servers() -> None:
    stream = greeting()
    assert all(answers("mysql", stream[:n]) for n in range(1, len(stream) + 1))
    assert not asks("mysql", stream)


@pytest.mark.parametrize(
    "stream",
    [
        query("SELECT 1 FROM a_table"),
        query("SELECT 1") + query("SELECT 2"),
        command(QUERY, b"\x00\x01SELECT 1 FROM a_table"),
        query("SELECT " + "x" * 3000)[:1024],
        command(PING),
        command(PREPARE, b"SELECT ?, ?, ? FROM t"),
        command(EXECUTE, struct.pack("<IBI", 1, 0, 1)),
        command(CLOSE, struct.pack("<I", 1)) + query("COMMIT"),
        command(INIT_DB, b"shop"),
        command(FETCH, struct.pack("<II", 1, 100)),
    ],
)
def test_commands_of_an_old_connection_are_found(stream: bytes) -> None:
    assert asks("mysql", stream)


@pytest.mark.parametrize(
    "stream",
    [
        b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
        b"*1\r\n$4\r\nPING\r\n",
        b"SSH-2.0-OpenSSH_9.2p1\r\n",
        b"\x00\x00\x00\x08\x04\xd2\x16\x2f",  # PostgreSQL, SSLRequest
        b"Q\x00\x00\x00\x0dSELECT 1\x00",
        b"get key\r\n",
        b"\x80\x00\x00\x03\x00\x00\x00\x00\x00\x00\x00\x03\x00\x00\x00\x00\x00\x00\x00\x00key",
        # MongoDB's OP_MSG, number 3: the length counts itself
        b"\x25\x00\x00\x00\x03\x00\x00\x00\x00\x00\x00\x00\xdd\x07\x00\x00" + bytes(21),
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(100),  # TLS
        b"\x17\x03\x03\x00\x16" + bytes(range(0x80, 0x96)),
        b"\x00\x00\x00\x2a\x00\x12\x00\x04\x00\x00\x00\x01\x00\x0ckafka-client",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    ],
)
def test_other_protocols_are_not_taken_for_it(stream: bytes) -> None:
    for n in range(5, len(stream) + 1):
        assert not asks("mysql", stream[:n])
        assert not answers("mysql", stream[:n])


@pytest.mark.parametrize(
    "stream",
    [ok(), error(1146), result([b"\x011\x012"], old=True), prepared(1, 1, 1, old=False)],
)
def test_a_lost_place_is_found_again_where_an_answer_begins(stream: bytes) -> None:
    assert answers("mysql", stream)


# --- the login


def test_a_login_is_no_request() -> None:
    connection = Connection("mysql", waiting=False)
    assert [u.events for u in connection.server(greeting())] == [Event.APART]
    assert [u.events for u in connection.client(login(PLAIN))] == [NO_EVENT]
    switch = packet(b"\xfemysql_native_password\0saltsaltsalt\0", 2)
    assert [u.events for u in connection.server(switch)] == [Event.APART]
    assert [u.events for u in connection.client(packet(b"p" * 20, 3))] == [NO_EVENT]
    assert [u.events for u in connection.server(ok(4))] == [Event.APART]
    assert [u.text for u in connection.client(command(PING))] == [b"PING"]


def test_a_login_that_is_refused() -> None:
    connection = Connection("mysql", waiting=False)
    connection.server(greeting())
    connection.client(login(PLAIN))
    assert [u.events for u in connection.server(error(1045, 2))] == [Event.APART]


def test_a_login_says_which_database() -> None:
    for proof in (b"", b"p" * 20, b"p" * 250):
        connection = Connection("mysql", waiting=False)
        connection.server(greeting())
        (unit,) = connection.client(login(PLAIN | WITH_DATABASE, b"shop", proof))
        assert (unit.events, unit.text) == (Event.NAMESPACE, b"shop")


def test_a_login_is_cut_anywhere() -> None:
    stream = login(PLAIN | WITH_DATABASE, b"shop")
    for cuts in ([], *([n] for n in range(1, len(stream))), list(range(1, len(stream)))):
        connection = Connection("mysql", waiting=False)
        whole = greeting()
        connection.server(*(whole[i : i + 1] for i in range(len(whole))))
        assert [u.text for u in connection.client(*split(stream, cuts))] == [b"shop"]


def test_a_login_whose_greeting_came_before_the_agent() -> None:
    stream = login(PLAIN | WITH_DATABASE, b"shop")
    assert asks("mysql", stream)
    connection = Connection("mysql", waiting=False)
    assert [u.text for u in connection.client(stream)] == [b"shop"]
    assert [u.events for u in connection.server(ok(2))] == [Event.APART]
    assert [u.text for u in connection.client(command(PING))] == [b"PING"]


def test_encryption_ends_it() -> None:
    connection = Connection("mysql", waiting=False)
    connection.server(greeting())
    request = packet(struct.pack("<IIB", PLAIN | SSL, 1 << 24, 33) + bytes(23), 1)
    (unit,) = connection.client(request)
    assert (unit.events, unit.reason) == (Event.ENDS, Unseen.ENCRYPTED)


@pytest.mark.parametrize("how", [COMPRESS, ZSTD])
def test_compression_ends_it_if_both_can(how: int) -> None:
    connection = Connection("mysql", waiting=False)
    connection.server(greeting())
    (unit,) = connection.client(login(PLAIN | how))
    assert (unit.events, unit.reason) == (Event.ENDS, Unseen.COMPRESSED)

    connection = Connection("mysql", waiting=False)
    connection.server(greeting(ALL & ~how))
    (unit,) = connection.client(login(PLAIN | how))
    assert unit.events == NO_EVENT


def test_a_user_is_changed() -> None:
    arguments = b"other\0" + text(b"p" * 20) + b"shop\0" + struct.pack("<H", 33)
    found = client(command(CHANGE_USER, arguments))
    assert [(u.events, u.text) for u in found] == [
        (Event.REQUEST, b"CHANGE_USER"),
        (Event.NAMESPACE, b"shop"),
    ]
    switch = packet(b"\xfemysql_native_password\0saltsaltsalt\0", 1)
    assert outcome(server(switch + ok(3), CHANGE_USER)) == [
        (Event.ANSWER, 0, len(switch) + len(ok()))
    ]
    assert outcome(server(error(1045, 3), CHANGE_USER)) == [(Event.ANSWER, 1045, len(error(0)))]


# --- commands


def test_queries() -> None:
    stream = query("SELECT * FROM t WHERE id = 17") + query("select \"a\" from `t` -- 'x'")
    assert [(u.events, u.text, u.length, u.local) for u in client(stream)] == [
        (Event.REQUEST, b"SELECT * FROM t WHERE id = ?", 4 + 1 + 29, QUERY),
        (Event.REQUEST, b"select ? from `t`", len(stream) - 34, QUERY),
    ]


def attributes(*attributes: tuple[int, bytes, bytes | None]) -> bytes:
    """Returns what stands before the statement: type, name and value of each, None is NULL."""
    if not attributes:
        return b"\x00\x01"
    nulls = sum(1 << i for i, (_, _, value) in enumerate(attributes) if value is None)
    head = bytes([len(attributes), 1]) + nulls.to_bytes((len(attributes) + 7) // 8, "little")
    types = b"".join(bytes([kind, 0]) + text(name) for kind, name, _ in attributes)
    return head + b"\x01" + types + b"".join(value or b"" for _, _, value in attributes)


@pytest.mark.parametrize(
    "before",
    [
        attributes(),
        attributes((254, b"traceparent", text(b"00-" + b"a" * 52))),
        attributes((254, b"long", text(b"x" * 300)), (8, b"n", bytes(8)), (6, b"", None)),
        attributes((3, b"", b"\xfb" * 4), (2, b"", b"\0\0"), (1, b"", b"\1"), (12, b"", b"\4abcd")),
        attributes(*((1, b"a%d" % i, b"\1" if i % 2 else None) for i in range(40))),
    ],
)
def test_attributes_of_a_query(before: bytes) -> None:
    (unit,) = client(command(QUERY, before + b"SELECT 'secret'"))
    assert (unit.events, unit.text) == (Event.REQUEST, b"SELECT ?")


def test_attributes_longer_than_the_window_leave_no_text() -> None:
    before = attributes((254, b"long", text(b"secret" * 300)))
    (unit,) = client(command(QUERY, before + b"SELECT 1"))
    assert (unit.events, unit.text) == (Event.REQUEST, b"")


def test_long_queries_have_the_text_of_their_beginning() -> None:
    one, other = (
        client(query(f"SELECT '{'x' * n}' FROM t WHERE a = 'secret{'y' * 2000}'"))[0]
        for n in (10, 20)
    )
    assert one.text == b"SELECT ? FROM t WHERE a = ?"
    assert one.operation == other.operation


def test_the_same_statement_has_one_fingerprint_whatever_it_comes_in() -> None:
    sql = b"SELECT a, b FROM t WHERE " + b" OR ".join(b"c%d < d" % i for i in range(200))
    (plain,) = client(command(QUERY, sql))
    (attributed,) = client(command(QUERY, b"\0\1" + sql))
    preparing, remembered = client(command(PREPARE, sql))
    assert plain.operation == attributed.operation == remembered.operation
    assert plain.operation != preparing.operation


def test_names_of_other_commands() -> None:
    stream = b"".join(command(number) for number in (PING, STATISTICS, 0x0D, 0x1F))
    stream += command(RESET, bytes(4)) + command(FETCH, bytes(8)) + command(0x1B, b"\0\0")
    assert [u.text for u in client(stream)] == [
        b"PING",
        b"STATISTICS",
        b"DEBUG",
        b"RESET_CONNECTION",
        b"STMT_RESET",
        b"STMT_FETCH",
        b"SET_OPTION",
    ]


def test_commands_without_an_answer_are_no_requests() -> None:
    stream = command(CLOSE, bytes(4)) + command(LONG_DATA, bytes(6) + b"x" * 5000) + command(0x01)
    assert not [u for u in client(stream) if u.events]


@pytest.mark.parametrize("number", [0x00, 0x0B, 0x0F, 0x20, 0x7F, 0xFF])
def test_commands_that_do_not_exist(number: int) -> None:
    with pytest.raises(AlienError):
        units("mysql", Direction.CLIENT, command(number, b"abc"))


def test_packets_out_of_place() -> None:
    with pytest.raises(AlienError):
        units("mysql", Direction.CLIENT, packet(b"abc", 7))


def test_replication_ends_it() -> None:
    for number in (0x12, 0x1E):
        (unit,) = client(command(number, bytes(10)))
        assert (unit.events, unit.reason) == (Event.ENDS, Unseen.OTHER)


def test_packets_that_go_on() -> None:
    longest = (1 << 24) - 1
    begin = b"\xff\xff\xff\x00\x03INSERT INTO t VALUES ('"
    stream = begin + b"x" * (4 + longest - len(begin)) + packet(b"', 2)", 1) + query("SELECT 1")
    found = messages(units("mysql", Direction.CLIENT, stream, range(60000, len(stream), 60000)))
    assert [(u.text, u.length) for u in found] == [
        (b"INSERT INTO t VALUES (?", 4 + longest + 4 + 5),
        (b"SELECT ?", 13),
    ]
    # A packet that is exactly as long as can be is followed by an empty one.
    stream = begin + b"x" * (4 + longest - len(begin)) + packet(b"", 1) + query("SELECT 1")
    assert len(messages(units("mysql", Direction.CLIENT, stream))) == 2


# --- databases


def test_a_database_is_chosen() -> None:
    assert [(u.events, u.text) for u in client(command(INIT_DB, b"shop"))] == [
        (Event.REQUEST, b"INIT_DB"),
        (Event.NAMESPACE, b"shop"),
    ]
    (unit,) = server(ok(), INIT_DB)
    assert unit.events == Event.ANSWER


def test_a_database_that_is_not_there_is_not_chosen() -> None:
    connection = logged_in(PLAIN | WITH_DATABASE, b"shop")
    _, right = connection.client(command(INIT_DB, b"right"))
    connection = Connection("mysql", [INIT_DB, INIT_DB])
    _, first = connection.client(command(INIT_DB, b"right"))
    connection.server(ok())
    connection.client(command(INIT_DB, b"wrong"))
    (unit,) = connection.server(error(1049))
    assert unit.events == Event.ANSWER | Event.NAMESPACE
    assert unit.status == 1049
    assert unit.operation == first.operation == right.operation


def test_an_answer_says_that_the_database_has_changed() -> None:
    changes = b"\x00" + text(text(b"autocommit") + text(b"ON")) + b"\x01" + text(text(b"shop"))
    info = text(b"Database changed") + text(changes)
    (unit,) = server(ok(1, 2 | SESSION_CHANGED, info), QUERY)
    assert (unit.events, unit.text) == (Event.ANSWER | Event.NAMESPACE, b"shop")
    assert unit.operation == client(command(INIT_DB, b"shop"))[1].operation


def test_other_changes_of_the_session() -> None:
    for info in (
        b"",
        text(b"") + text(b"\x02" + text(b"\x011")),
        text(b"") + text(b"\x00" + text(text(b"x" * 200) + text(b"y"))),
        b"Rows matched: 1",
        text(b"") + b"\xff",
    ):
        (unit,) = server(ok(1, 2 | SESSION_CHANGED, info), QUERY)
        assert (unit.events, unit.status) == (Event.ANSWER, 0)


NO_ESCAPES = 0x0200
"""SERVER_STATUS_NO_BACKSLASH_ESCAPES: `\\` is an ordinary byte in strings."""


@pytest.mark.parametrize(
    ("flags", "statement", "text"),
    [
        (
            2,
            b"SELECT a FROM t WHERE b = 'it\\'s secret' AND c = 1",
            b"SELECT a FROM t WHERE b = ? AND c = ?",
        ),
        (
            2 | NO_ESCAPES,
            b"SELECT a FROM t WHERE b = 'it\\' AND c <> 'secret'",
            b"SELECT a FROM t WHERE b = ? AND c <> ?",
        ),
    ],
)
def test_the_server_says_whether_backslashes_escape(
    flags: int, statement: bytes, text: bytes
) -> None:
    connection = logged_in()
    connection.client(query("SET sql_mode = x"))
    connection.server(ok(1, flags))

    (found,) = connection.client(query(statement.decode()))

    assert found.text == text


def test_before_the_server_has_said_so_a_text_ends_where_it_matters() -> None:
    (plain,) = client(query("SELECT a FROM t WHERE b = 'x' AND c = 'y'"))
    assert plain.text == b"SELECT a FROM t WHERE b = ? AND c = ?"

    (unsure,) = client(query("SELECT a FROM t WHERE b = 'it\\' AND c <> 'secret'"))
    assert unsure.text == b"SELECT a FROM t WHERE b = ?"
