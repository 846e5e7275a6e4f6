"""Redis: what its parser makes of the streams of the specification.

https://redis.io/docs/latest/develop/reference/protocol-spec
"""

from __future__ import annotations

import pytest

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
    split,
    units,
)

SUBSCRIBES, MONITORS, REPLICATES, SELECTS, RESETS = range(1, 6)


def command(*words: bytes) -> bytes:
    """Returns a command as clients send it."""
    return array(*(bulk(word) for word in words))


def bulk(value: bytes) -> bytes:
    return b"$%d\r\n%s\r\n" % (len(value), value)


def array(*values: bytes, kind: bytes = b"*") -> bytes:
    return b"%s%d\r\n%s" % (kind, len(values), b"".join(values))


def confirmation(kind: bytes, channel: bytes | None, count: int, form: bytes = b"*") -> bytes:
    name = b"$-1\r\n" if channel is None else bulk(channel)
    return array(bulk(kind), name, b":%d\r\n" % count, kind=form)


def requests(stream: bytes) -> list[Unit]:
    return however_cut("redis", Direction.CLIENT, stream)


def responses(stream: bytes, *asked: int, waiting: bool = True) -> list[Unit]:
    return however_cut("redis", Direction.SERVER, stream, asked, waiting=waiting)


def names(stream: bytes) -> list[bytes]:
    return [unit.text for unit in requests(stream)]


def kinds(stream: bytes, *asked: int, waiting: bool = True) -> list[tuple[Event, int]]:
    """Returns each message's events and length."""
    found = responses(stream, *asked, waiting=waiting)
    return [(unit.events, unit.length) for unit in found]


def status(kind: str) -> int:
    """Returns the status of an error that begins so: six letters of five bits."""
    return sum((ord(letter) - ord("A") + 1) << 5 * i for i, letter in enumerate(kind[:6]))


def test_commands() -> None:
    commands = [command(b"get", b"k"), command(b"PING"), command(b"SET", b"k", b"v" * 300)]
    found = requests(b"".join(commands))
    assert [(unit.text, unit.length) for unit in found] == [
        (b"GET", len(commands[0])),
        (b"PING", len(commands[1])),
        (b"SET", len(commands[2])),
    ]
    assert {unit.events for unit in found} == {Event.REQUEST}


def test_names_are_told_apart_and_written_in_one_way() -> None:
    stream = b"".join(
        command(name, b"x")
        for name in (b"FT.search", b"FT.SEARCH", b"georadiusbymember_ro", b"GEORADIUSBYMEMBER")
    )
    found = requests(stream)
    assert [unit.text for unit in found] == [
        b"FT.SEARCH",
        b"FT.SEARCH",
        b"GEORADIUSBYMEMBER_RO",
        b"GEORADIUSBYMEMBER",
    ]
    assert len({unit.operation for unit in found}) == 3


def test_what_is_no_name_is_one_operation() -> None:
    found = requests(
        command(b"a b", b"x") + command(b"caf\xc3\xa9") + command(b"") + command(b"n" * 2000)
    )
    assert [unit.text for unit in found] == [b"?", b"?", b"?", b"N" * 32]
    assert len({unit.operation for unit in found}) == 2


def test_no_command_is_no_request() -> None:
    found = requests(b"*0\r\n*-1\r\n" + command(b"PING"))
    assert [unit.text for unit in found if unit.events] == [b"PING"]


def test_a_value_larger_than_the_window_is_passed_over() -> None:
    large = command(b"SET", b"k", b"*1\r\n" * 1_000_000)
    found = units("redis", Direction.CLIENT, large + command(b"GET", b"k"), (7, 2000, 2_000_000))
    assert [unit.text for unit in found if unit.events] == [b"SET", b"GET"]


def test_inline_commands() -> None:
    assert names(b"PING\r\nset a b\r\n\r\nGET a\n") == [b"PING", b"SET", b"GET"]
    assert requests(b"ping\r\n" + b"ECHO " + b"x" * 3000 + b"\r\nget a\r\n")[1:] == [
        Unit(3007, Event.REQUEST, b"ECHO", requests(command(b"echo"))[0].operation),
        Unit(7, Event.REQUEST, b"GET", requests(command(b"get"))[0].operation),
    ]
    with pytest.raises(AlienError):
        units("redis", Direction.CLIENT, b"USER bob\r\n")


def test_what_the_answer_must_know() -> None:
    found = requests(
        command(b"subscribe", b"a", b"b")
        + command(b"PUNSUBSCRIBE")
        + command(b"monitor")
        + command(b"psync", b"?", b"-1")
        + command(b"SELECT", b"12")
        + command(b"SELECT", b"no")
        + command(b"RESET")
    )
    assert [unit.local for unit in found][:5] == [
        SUBSCRIBES | 2 << 8,
        SUBSCRIBES,
        MONITORS,
        REPLICATES,
        SELECTS | 12 << 8,
    ]
    assert found[-1].local == RESETS


def test_muted_replies() -> None:
    def reply(how: bytes) -> bytes:
        return command(b"client", b"Reply", how)

    found = requests(
        command(b"GET", b"a")
        + reply(b"skip")
        + command(b"INCR", b"a")
        + command(b"GET", b"a")
        + reply(b"OFF")
        + reply(b"SKIP")
        + command(b"INCR", b"a") * 2
        + command(b"CLIENT", b"GETNAME")
        + reply(b"On")
        + command(b"GET", b"a")
        + command(b"CLIENT", b"REPLICA", b"x")
    )
    muted = [bool(unit.events & Event.ONE_WAY) for unit in found]
    assert muted == [False, True, True, False, *[True] * 5, False, False, False]


def test_values() -> None:
    values = [
        b"+OK\r\n",
        b":-9223372036854775808\r\n",
        bulk(b"hello"),
        bulk(b""),
        b"$-1\r\n",
        b"*-1\r\n",
        b"*0\r\n",
        array(bulk(b"a"), array(b":1\r\n", b"$-1\r\n"), b"+x\r\n"),
        b"_\r\n",
        b"#t\r\n",
        b",1.5\r\n",
        b"(3492890328409238509324850943850943825024385\r\n",
        b"=15\r\ntxt:Some string\r\n",
        array(b"+a\r\n", b":1\r\n", kind=b"~"),
        b"%1\r\n+a\r\n*1\r\n:2\r\n",
        b"|1\r\n+ttl\r\n%1\r\n+a\r\n,0.1\r\n*2\r\n:1\r\n:2\r\n",
    ]
    assert kinds(b"".join(values)) == [(Event.ANSWER, len(value)) for value in values]


def test_errors() -> None:
    found = responses(
        b"-ERR unknown command\r\n"
        b"-WRONGTYPE Operation against a key\r\n"
        b"-MOVED 3999 127.0.0.1:6381\r\n"
        b"!21\r\nSYNTAX invalid syntax\r\n"
        b"*3\r\n+OK\r\n-ASK 1 :1\r\n-ERR later\r\n"
        b"+OK\r\n"
        b"-nothing known\r\n"
    )
    kinds = ["ERR", "WRONGTYPE", "MOVED", "SYNTAX", "ASK", "", "_"]
    assert [unit.status for unit in found] == [status(kind) for kind in kinds]


def test_lines_longer_than_the_window() -> None:
    error = b"-ERR " + b"y" * 5000 + b"\r\n"
    within = b"*2\r\n+" + b"x" * 1500 + b"\r\n:1\r\n"
    found = units("redis", Direction.SERVER, error + within + b"+OK\r\n", (3, 1600, 5100))
    assert sum(unit.length for unit in found) == len(error + within) + 5
    assert [unit.status for unit in found if unit.events] == [status("ERR"), 0, 0]


def test_subscriptions_of_resp2() -> None:
    message = array(bulk(b"message"), bulk(b"a"), bulk(b"subscribe"))
    pattern = array(bulk(b"pmessage"), bulk(b"c*"), bulk(b"c"), bulk(b"x" * 3000))
    first, second = confirmation(b"subscribe", b"a", 1), confirmation(b"subscribe", b"b", 2)
    third = confirmation(b"psubscribe", b"c*", 3)
    pong = array(bulk(b"pong"), bulk(b""))
    stream = first + message + second + third + pattern + pong
    assert kinds(stream, SUBSCRIBES | 2 << 8, SUBSCRIBES | 1 << 8, 0) == [
        (Event.ANSWER, len(first)),
        (Event.APART, len(message + second)),
        (Event.ANSWER, len(third)),
        (Event.APART, len(pattern)),
        (Event.ANSWER, len(pong)),
    ]


def test_the_end_of_subscriptions() -> None:
    all_of_them = confirmation(b"unsubscribe", b"a", 1) + confirmation(b"unsubscribe", b"b", 0)
    nothing = confirmation(b"unsubscribe", None, 0)
    usual = array(bulk(b"message"), bulk(b"x"), bulk(b"y"))
    stream = confirmation(b"subscribe", b"a", 1) + all_of_them + nothing + usual
    found = kinds(stream, SUBSCRIBES | 1 << 8, SUBSCRIBES, SUBSCRIBES, 0)
    assert [events for events, _ in found] == [
        *(Event.ANSWER, Event.ANSWER, Event.APART, Event.ANSWER),
        Event.ANSWER,
    ]


def test_pushes_of_resp3() -> None:
    invalidate = array(bulk(b"invalidate"), array(bulk(b"k")), kind=b">")
    message = array(bulk(b"message"), bulk(b"a"), bulk(b"x"), kind=b">")
    first = confirmation(b"subscribe", b"a", 1, b">")
    second = confirmation(b"subscribe", b"b", 2, b">")
    usual = array(bulk(b"message"), bulk(b"x"), bulk(b"y"))
    stream = invalidate + first + message + second + b"+OK\r\n" + usual
    assert kinds(stream, SUBSCRIBES | 2 << 8, 0, 0) == [
        (Event.APART, len(invalidate)),
        (Event.ANSWER, len(first)),
        (Event.APART, len(message + second)),
        (Event.ANSWER, 5),
        (Event.ANSWER, len(usual)),
    ]


def test_messages_of_subscriptions_from_before_the_agent() -> None:
    stream = array(bulk(b"message"), bulk(b"a"), bulk(b"x")) * 3 + b'+1339518083.1 [0 x] "get"\r\n'
    assert kinds(stream, waiting=False) == [(Event.APART, len(stream))]


def test_a_monitor() -> None:
    lines = b'+1339518083.107412 [0 127.0.0.1:60866] "keys" "*"\r\n' * 2
    assert kinds(b"+OK\r\n" + lines + b"+OK\r\n", MONITORS, 0) == [
        (Event.ANSWER, 5),
        (Event.APART, len(lines)),
        (Event.ANSWER, 5),
    ]


def test_databases() -> None:
    found = responses(
        b"+OK\r\n+OK\r\n+RESET\r\n-ERR DB index is out of range\r\n+QUEUED\r\n",
        *(0, SELECTS | 12 << 8, RESETS, SELECTS | 99 << 8, SELECTS | 1 << 8),
    )
    named = [unit.text for unit in found if unit.events & Event.NAMESPACE]
    assert named == [b"12", b"0"]
    assert len(found) == 5


def test_replication_ends_what_can_be_read() -> None:
    stream = b"+OK\r\n\n+FULLRESYNC 8371445ee9 0\r\n$EOF:0123456789\r\nREDIS0010"
    found = responses(stream, 0, REPLICATES)
    assert [unit.events for unit in found] == [
        Event.ANSWER,
        Event.APART,
        Event.ANSWER | Event.ENDS,
    ]
    assert found[-1].reason == Unseen.OTHER
    assert [unit.events for unit in responses(b"$1000\r\nREDIS", REPLICATES)] == [
        Event.ANSWER | Event.ENDS
    ]
    assert kinds(b"-NOMASTERLINK\r\n+OK\r\n", REPLICATES, 0)[1] == (Event.ANSWER, 5)


@pytest.mark.parametrize(
    "stream",
    [b"$?\r\n;4\r\nHell\r\n;0\r\n", b"*?\r\n:1\r\n.\r\n", b"HTTP/1.1 200 OK\r\n", b"$5a\r\n"],
)
def test_what_is_refused_of_servers(stream: bytes) -> None:
    with pytest.raises(AlienError):
        units("redis", Direction.SERVER, stream)


@pytest.mark.parametrize(
    "stream",
    [
        b"*1\r\n:1\r\n",
        b"GET / HTTP/1.1\r\n",
        b"*99999999999\r\n",
        b"*1\r\n$-1\r\n",
        b"*x\r\n$3\r\n",
    ],
)
def test_what_is_refused_of_clients(stream: bytes) -> None:
    with pytest.raises(AlienError):
        units("redis", Direction.CLIENT, stream)


def test_a_deep_answer_stays_bounded() -> None:
    found = units("redis", Direction.SERVER, b"*1\r\n" * 3000 + b":1\r\n")
    assert [unit.events for unit in found if unit.events] == [Event.ANSWER]
    with pytest.raises(AlienError):
        units("redis", Direction.SERVER, b"*2147483647\r\n" * 100)


def test_detection() -> None:
    stream = command(b"get", b"k")
    assert all(asks("redis", stream[:end]) for end in range(1, len(stream)))
    assert asks("redis", b"PING\r\n")
    assert not asks("redis", b"*0\r\n")
    assert not asks("redis", b"*2\r\n:1\r\n")
    assert not asks("redis", b"INFO {}\r\n")
    for stream in (b"+OK\r\n", b"-ERR x\r\n", b":12\r\n", b"$-1\r\n", b"*2\r\n", b"%1\r\n"):
        assert all(answers("redis", stream[:end]) for end in range(1, len(stream)))
    assert not answers("redis", b"+OK POP3 ready\r\n")


def test_both_directions() -> None:
    connection = Connection("redis", (SELECTS | 3 << 8,))
    assert connection.client(command(b"SELECT", b"3"))[0].local == SELECTS | 3 << 8
    assert connection.server(b"+O", b"K\r\n")[0].events == Event.ANSWER | Event.NAMESPACE


PIPELINE = (
    b"".join(
        b"*3\r\n$3\r\nSET\r\n$%d\r\n%s\r\n$3\r\nxyz\r\n" % (len(key), key)
        for key in (b"k%d" % 7**power for power in range(40))
    )
    + b"*2\r\n$3\r\nget\r\n$1\r\nk\r\n" * 30
    + b"*1\r\n$4\r\nPING\r\n"
)
ANSWERS = b"+OK\r\n" * 40 + b"$-1\r\n$3\r\nxyz\r\n" * 15 + b":12\r\n-ERR no\r\n+PONG\r\n"


def totals(found: list[Unit]) -> dict[tuple[bytes, int], int]:
    """How many requests and answers there were, by text and status."""
    counts: dict[tuple[bytes, int], int] = {}
    for unit in found:
        if unit.events & (Event.REQUEST | Event.ANSWER):
            key = unit.text, unit.status
            counts[key] = counts.get(key, 0) + 1 + unit.again
    return counts


@pytest.mark.parametrize("runs", [1, 2, 7, 256])
def test_equal_units_are_told_as_one(runs: int) -> None:
    expected = {(b"SET", 0): 40, (b"GET", 0): 30, (b"PING", 0): 1}
    for cuts in ((), range(1, len(PIPELINE)), range(5, len(PIPELINE), 11), (300, 301, 900)):
        client = Connection("redis", runs=runs)
        found = client.client(*split(PIPELINE, cuts))

        assert totals(found) == expected
        assert sum(unit.length for unit in found) == len(PIPELINE)
        assert max(unit.again for unit in found) < runs

    server = Connection("redis", runs=runs)
    found = server.server(ANSWERS)
    assert [(key[1] != 0, count) for key, count in totals(found).items()] == [
        (False, 72),
        (True, 1),
    ]
    assert sum(unit.length for unit in found) == len(ANSWERS)
    if runs > 40:
        assert len(found) < 20


def test_a_value_too_long_for_a_run_ends_it() -> None:
    short = b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$2\r\nxy\r\n"
    large = b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$5000\r\n" + b"y" * 5000 + b"\r\n"

    found = Connection("redis", runs=256).client(short * 3 + large + short)

    assert totals(found) == {(b"SET", 0): 5}
    assert sum(unit.length for unit in found) == 4 * len(short) + len(large)
