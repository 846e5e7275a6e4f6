"""PostgreSQL: what its parser makes of streams of the specification."""

from __future__ import annotations

import struct

import pytest

from kernob.protocols.postgresql import sqlstate
from protocols.host import (
    AlienError,
    Connection,
    Direction,
    Event,
    Unit,
    Unseen,
    answers,
    asks,
    however_cut,
    units,
)

SYNC, EXECUTE, SIMPLE = None, 1, 2
"""What a waiting request tells the answer's parser; a Sync is a marker."""


def message(kind: bytes, *parts: bytes | int) -> bytes:
    """Returns a message; numbers are of 16 bits."""
    body = b"".join(struct.pack(">H", p) if isinstance(p, int) else p for p in parts)
    return kind + struct.pack(">I", 4 + len(body)) + body


def startup(*parameters: bytes, version: int = 3 << 16) -> bytes:
    pairs = b"".join(parameter + b"\0" for parameter in parameters)
    return message(b"", struct.pack(">I", version), pairs, b"\0")


def query(text: bytes) -> bytes:
    return message(b"Q", text, b"\0")


def parse(name: bytes, text: bytes, *types: int) -> bytes:
    return message(
        b"P", name, b"\0", text, b"\0", len(types), *(struct.pack(">I", kind) for kind in types)
    )


def bind(portal: bytes, statement: bytes, value: bytes = b"secret") -> bytes:
    size = struct.pack(">I", len(value))
    return message(b"B", portal, b"\0", statement, b"\0", 0, 1, size, value, 0)


def execute(portal: bytes = b"", rows: int = 0) -> bytes:
    return message(b"E", portal, b"\0", struct.pack(">I", rows))


def error(code: bytes, severity: bytes = b"ERROR", local: bytes = b"") -> bytes:
    fields = [b"S" + (local or severity), b"V" + severity, b"C" + code, b"Msecret", b"L12"]
    return message(b"E", *(field + b"\0" for field in fields), b"\0")


SSL, GSS = (message(b"", struct.pack(">I", number)) for number in (80877103, 80877104))
CANCEL = message(b"", struct.pack(">I", 80877102), bytes(8))
DESCRIBE, SYNC_MESSAGE, FLUSH = message(b"D", b"S\0"), message(b"S"), message(b"H")
PARSED, BOUND, CLOSED = message(b"1"), message(b"2"), message(b"3")
ROWS = message(b"T", 1, b"a\0", bytes(18)) + message(b"D", 1, b"\0\0\0\1x") * 3
DONE, READY = message(b"C", b"SELECT 3\0"), message(b"Z", b"I")
NOTICE = message(b"N", b"SNOTICE\0C00000\0Msecret\0\0")
LOGIN = (
    message(b"R", struct.pack(">I", 10), b"SCRAM-SHA-256\0\0")
    + message(b"R", struct.pack(">I", 0))
    + message(b"S", b"server_version\x0015.6\0")
    + message(b"S", b"standard_conforming_strings\0on\0")
    + message(b"K", bytes(8))
    + READY
)
CONNECTION = startup(b"user", b"bob", b"database", b"shop") + message(b"p", b"SCRAM-SHA-256\0")
STATEMENTS = (
    parse(b"", b"SELECT $1", 25)
    + bind(b"", b"")
    + DESCRIBE
    + execute()
    + parse(b"named", b"UPDATE t SET a = 'secret'")
    + bind(b"portal", b"named")
    + execute(b"portal", 5)
    + FLUSH
    + execute(b"portal", 5)
    + message(b"C", b"Pportal\0")
    + SYNC_MESSAGE
)


def client(stream: bytes) -> list[Unit]:
    return however_cut("postgresql", Direction.CLIENT, stream)


def server(stream: bytes, *asked: int | None) -> list[Unit]:
    return however_cut("postgresql", Direction.SERVER, stream, asked, waiting=False)


def told(found: list[Unit]) -> list[tuple[Event, str]]:
    """Returns events, and the SQLSTATE."""
    return [(unit.events, sqlstate(unit.status)) for unit in found]


@pytest.mark.parametrize(
    ("stream", "name"),
    [
        (startup(b"user", b"bob", b"database", b"shop", b"options", b"-c x=1"), b"shop"),
        (startup(b"database", b"d" * 63, b"user", b"bob"), b"d" * 63),
        (startup(b"application_name", b"a" * 200, b"user", b"bob"), b"bob"),
        (startup(b"user", b"bob", b"databases", b"x", version=(3 << 16) + 2), b"bob"),
        (SSL + startup(b"user", b"bob"), b"bob"),
    ],
)
def test_the_database(stream: bytes, name: bytes) -> None:
    (unit,) = (unit for unit in client(stream) if unit.events)
    assert (unit.events, unit.text) == (Event.NAMESPACE, name)
    assert 0 < unit.operation < 2**32


def test_what_begins_no_session() -> None:
    for stream in (SSL, GSS, CANCEL, startup()):
        (unit,) = client(stream)
        assert (unit.length, unit.events) == (len(stream), 0)


def test_simple_queries() -> None:
    call = message(b"F", struct.pack(">I", 1598), 0, 0, 1)
    stream = query(b"SELECT 'secret'") + query(b"") + call + message(b"X")
    found = client(CONNECTION + stream)[1:]
    assert [unit.text for unit in found if unit.events] == [b"SELECT ?", b"", b"FUNCTION CALL"]
    assert {unit.local for unit in found if unit.events} == {SIMPLE}


def test_statements_are_told_by_their_names() -> None:
    unnamed, bound, described, one, named, portal, two, three, sync = client(STATEMENTS)
    assert (unnamed.events, unnamed.text) == (Event.BEFORE | Event.REMEMBER, b"SELECT ?")
    assert (bound.events, described.events) == (Event.BEFORE, Event.BEFORE)
    assert (one.events, one.local) == (Event.REQUEST | Event.RECALL, EXECUTE)
    assert one.statement == unnamed.statement
    assert named.text == b"UPDATE t SET a = ?"
    assert portal.events == Event.BEFORE | Event.REMEMBER | Event.RECALL
    assert portal.operation == named.statement
    assert portal.statement == two.statement == three.statement
    assert len({unnamed.statement, named.statement, portal.statement}) == 3
    assert sync.events == Event.REQUEST | Event.MARKER


def test_types_behind_a_statement_are_not_of_it() -> None:
    for types in ((), (1043, 25, 2950), (0x41424344, 0x0A0A0A0A)):
        for text in (b"SELECT $1 -- x", b"SELECT $1", b"SELECT 'x"):
            (unit,) = client(parse(b"s", text, *types))
            assert unit.text == b"SELECT ?"


def test_long_names_and_statements() -> None:
    long = b"SELECT '" + b"secret" * 1000 + b"' FROM t"
    stream = query(long) + parse(b"n" * 63, long) + bind(b"p" * 63, b"n" * 63, b"x" * 3000)
    stream += parse(b"n" * 64, b"SELECT 1") + query(b"a, " * 1000) + parse(b"n", b"a, " * 1000)
    found = units("postgresql", Direction.CLIENT, stream)
    assert [unit.text for unit in found[:2]] == [b"SELECT ?"] * 2
    assert found[0].operation == found[1].operation
    assert found[2].operation == found[1].statement
    assert found[3].events == 0
    # As much of a text is looked at whatever it comes in.
    assert found[4].operation == found[5].operation
    assert sum(unit.length for unit in found) == len(stream)


def test_a_session_begins() -> None:
    assert told(server(LOGIN)) == [(Event.APART, "")]
    assert told(server(error(b"28P01", b"FATAL"))) == [(Event.APART, "")]


def test_answers_of_simple_queries() -> None:
    failed = ROWS + DONE + error(b"22012") + error(b"42601") + READY
    copied = message(b"H", 0, 0) + message(b"d", b"a\n") * 9 + message(b"c") + DONE + READY
    stream = ROWS + DONE + ROWS + DONE + READY + failed + message(b"I") + READY + copied
    found = server(LOGIN + stream, SIMPLE, SIMPLE, SIMPLE, SIMPLE)
    done = (Event.ANSWER, "")
    assert told(found)[1:] == [done, (Event.ANSWER, "22012"), done, done]
    assert sum(unit.length for unit in found[1:]) == len(stream)


def test_notices_are_apart() -> None:
    apart = NOTICE + message(b"S", b"TimeZone\0UTC\0") + message(b"A", bytes(4), b"c\0secret\0")
    found = server(ROWS + apart + DONE + apart + READY + apart, SIMPLE)
    assert [unit.length for unit in found if unit.events == Event.APART] == [
        2 * len(apart),
        len(apart),
    ]
    assert [unit.events for unit in found if unit.events != Event.APART] == [Event.ANSWER]


def test_answers_of_statements() -> None:
    stream = PARSED + BOUND + ROWS + DONE + BOUND + message(b"s") + message(b"I") + CLOSED + READY
    found = server(stream, EXECUTE, EXECUTE, EXECUTE, SYNC)
    assert told(found) == [(Event.ANSWER, "")] * 3 + [(Event.APART, ""), (Event.UNTIL, "")]


def test_an_error_is_of_its_statement_and_the_rest_is_skipped() -> None:
    first = PARSED + BOUND + DONE
    for failed in (error(b"42601"), PARSED + error(b"42601"), PARSED + BOUND + error(b"42601")):
        found = server(
            (first + failed + READY) * 2 + first + READY,
            *(EXECUTE, EXECUTE, EXECUTE, SYNC),
            *(EXECUTE, EXECUTE, SYNC, EXECUTE, SYNC),
        )
        answer, until = (Event.ANSWER, ""), (Event.UNTIL, "")
        assert told(found) == [answer, (Event.ANSWER, "42601"), until] * 2 + [answer, until]


def test_preparing_is_no_request() -> None:
    described = message(b"t", 0) + message(b"n")
    stream = PARSED + described + READY + error(b"42P01") + READY
    found = server(stream, SYNC, SYNC)
    assert [unit.events for unit in found] == [Event.APART, Event.UNTIL] * 2


@pytest.mark.parametrize("code", [b"00000", b"0A000", b"42P01", b"XX000", b"ZZZZZ"])
def test_every_sqlstate_comes_back(code: bytes) -> None:
    for stream in (
        error(code),
        error(code, local="ОШИБКА".encode()),
        message(b"E", b"SERROR\0C" + code + b"\0Mx\0\0"),  # before 9.6
    ):
        assert told(server(stream, EXECUTE)) == [(Event.ANSWER, code.decode())]


def test_a_fatal_error_is_the_last_word() -> None:
    found = server(ROWS + error(b"57P01", b"FATAL", "ВАЖНО".encode()), SIMPLE)
    assert told(found) == [(Event.ANSWER, "57P01")]


def test_the_answer_to_a_wish_for_encryption() -> None:
    for wish, yes in ((SSL, b"S"), (GSS, b"G")):
        connection = Connection("postgresql", waiting=False)
        connection.client(wish)
        assert connection.server(b"N") == [Unit(1, Event.APART)]
        connection.client(SSL)
        assert connection.server(yes) == [Unit(1, Event.ENDS, reason=Unseen.ENCRYPTED)]
    # The wish came before the agent.
    assert [unit.length for unit in server(b"N" + NOTICE)] == [1 + len(NOTICE)]
    connection = Connection("postgresql", waiting=False)
    connection.client(SSL)
    assert [unit.events for unit in connection.server(error(b"0A000"))] == [Event.APART]


def test_replication_is_not_seen() -> None:
    *_, unit = server(LOGIN + message(b"W", 0, 0), SIMPLE)
    assert (unit.events, unit.reason) == (Event.ANSWER | Event.ENDS, Unseen.OTHER)


def test_a_sync_within_a_copy_has_no_answer() -> None:
    connection = Connection("postgresql", (EXECUTE, SYNC, SYNC, EXECUTE, SYNC), waiting=False)
    copy = parse(b"", b"COPY t FROM STDIN") + bind(b"", b"") + execute() + SYNC_MESSAGE
    connection.client(copy, message(b"d", b"1\n"), message(b"c") + SYNC_MESSAGE)
    found = connection.server(PARSED + BOUND + message(b"G", 0, 0), DONE + READY, DONE + READY)
    events = [unit.events for unit in found if unit.events]
    until = Event.UNTIL
    assert events == [Event.ANSWER, until, until, Event.ANSWER, until]


def test_a_sync_whose_answer_was_not_seen() -> None:
    found = server(DONE + READY, SYNC, EXECUTE, SYNC)
    assert [unit.events for unit in found] == [Event.UNTIL, Event.ANSWER, Event.UNTIL]


def test_strings_as_the_session_has_them() -> None:
    connection = Connection("postgresql", waiting=False)
    statement = query(b"SELECT 'it\\'s secret'")
    for setting in (b"off", b"on"):
        connection.server(message(b"S", b"standard_conforming_strings\0" + setting + b"\0"))
        (unit,) = connection.client(statement)
        assert (unit.text == b"SELECT ?") == (setting == b"off")


@pytest.mark.parametrize(
    "stream",
    [b"Q\0\0\0\1", b"S\0\0\0\5x", b"GET / HTTP/1.1\r\n", b"Q\x7f\0\0\0\0", b"\0\0\0\x08\0\2\0\0"],
)
def test_others_are_alien(stream: bytes) -> None:
    with pytest.raises(AlienError):
        client(stream)


def test_detection() -> None:
    for stream in (SSL, GSS, CANCEL, CONNECTION, query(b"SELECT 1"), STATEMENTS, bind(b"", b"x")):
        assert asks("postgresql", stream)
    for stream in (LOGIN, ROWS + DONE + READY, PARSED + BOUND, BOUND + DONE, DONE, READY, b"N"):
        assert answers("postgresql", stream)
    for stream in (
        query(b"SELECT 1") + b"x",
        b"POST / HTTP/1.1\r\n",
        bytes(20),
        b"P\0\0\0\x16" + b"SELECT " * 11 + b"ab",
    ):
        assert not asks("postgresql", stream)
    assert not answers("postgresql", DONE + b"x")
