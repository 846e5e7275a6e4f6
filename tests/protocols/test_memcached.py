"""Memcached: what its parser makes of text, meta and binary streams.

https://github.com/memcached/memcached/blob/1.6.18/doc/protocol.txt
https://docs.memcached.org/protocols/binary
"""

from __future__ import annotations

import struct

import pytest

from kernob.protocols.memcached import attributes
from kernob.protocols.naming import Operation
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

NOT_FOUND, EXISTS, CLIENT_ERROR, NOT_STORED, ERROR, SERVER_ERROR = 1, 2, 4, 5, 0x81, 0x84
GET, SET, QUIT, GETQ, NOOP, GETKQ, STAT, SETQ = 0, 1, 7, 9, 10, 13, 16, 17


def packet(opcode: int, key: bytes = b"", extras: bytes = b"", value: bytes = b"") -> bytes:
    """Returns a binary request."""
    body = extras + key + value
    head = (0x80, opcode, len(key), len(extras), 0, 0, len(body), 7, 0)
    return struct.pack(">BBHBBHIIQ", *head) + body


def reply(opcode: int, status: int = 0, key: bytes = b"", body: bytes = b"") -> bytes:
    """Returns a binary response; `body` with its extras, none of them announced."""
    head = (0x81, opcode, len(key), 0, 0, status, len(key + body), 7, 0)
    return struct.pack(">BBHBBHIIQ", *head) + key + body


def requests(stream: bytes) -> list[Unit]:
    return however_cut("memcached", Direction.CLIENT, stream)


def responses(stream: bytes, *asked: int) -> list[Unit]:
    return however_cut("memcached", Direction.SERVER, stream, asked)


def parts(commands: list[bytes]) -> list[tuple[bytes, int]]:
    """Returns each request's operation and length."""
    return [(unit.text, unit.length) for unit in requests(b"".join(commands))]


def local(command: bytes) -> int:
    """Returns what the answer's parser is told of a command."""
    return units("memcached", Direction.CLIENT, command)[0].local


def test_text_commands() -> None:
    commands = [
        b"set k 0 0 5\r\nhello\r\n",
        b"get k\r\n",
        b"gets a b c\r\n",
        b"gat 10 a b\r\n",
        b"add k 0 0 0\r\n\r\n",
        b"replace k 1 2 3\r\nget\r\n",
        b"append k 0 0 4\r\n\r\n\r\n\r\n",
        b"prepend k 0 0 1\nx\r\n",
        b"cas k 0 0 2 18446744073709551615\r\nab\r\n",
        b"incr n 1\r\n",
        b"decr n 1\r\n",
        b"touch k 0\r\n",
        b"delete k\r\n",
        b"flush_all\r\n",
        b"version\r\n",
        b"stats items\r\n",
        b"verbosity 1\r\n",
        b"lru_crawler enable\r\n",
        b"cache_memlimit 64\r\n",
    ]
    names = [command.split()[0] for command in commands]
    assert parts(commands) == [(n, len(c)) for n, c in zip(names, commands, strict=True)]


def test_what_gets_no_answer() -> None:
    found = requests(
        b"set k 0 0 1 noreply\r\nx\r\ncas k 0 0 1 7 noreply\r\nx\r\ndelete k noreply\r\n"
        b"flush_all 0 noreply\r\nincr n 1 noreply\r\nms k 1 q\r\nx\r\nmg k v O1 q\r\nmd k q\r\n"
        b"quit\r\n"
    )
    assert {unit.events for unit in found} == {Event.REQUEST | Event.ONE_WAY}
    assert len(found) == 9
    found = requests(b"get noreply\r\nset noreply 0 0 1\r\nx\r\nmg q v\r\nmg k Oq v\r\nmn\r\n")
    assert {unit.events for unit in found} == {Event.REQUEST}
    assert len(found) == 5


def test_meta_commands() -> None:
    commands = [
        b"mg k\r\n",
        b"mg aGk= b k v\r\n",
        b"ms k 2 T0 I\r\nhi\r\n",
        b"ms " + b"k" * 250 + b" 5 b\r\nhello\r\n",
        b"md k I\r\n",
        b"ma n D5 v\r\n",
        b"me k\r\n",
        b"mn\r\n",
    ]
    names = [command.split()[0] for command in commands]
    assert parts(commands) == [(n, len(c)) for n, c in zip(names, commands, strict=True)]


def test_a_line_longer_than_the_window() -> None:
    line = b"get " + b" ".join(b"key%05d" % i for i in range(1000)) + b"\r\n"
    found = units("memcached", Direction.CLIENT, line + b"get a\r\n", (100, 1023, 1024, 5000))
    assert [unit.text for unit in found if unit.events] == [b"get", b"get"]
    assert sum(unit.length for unit in found) == len(line) + 7


def test_a_large_value_is_passed_over() -> None:
    stream = b"set k 0 0 1000000\r\n" + b"get k\r\n" * 142857 + b"x\r\n" + b"get k\r\n"
    found = units("memcached", Direction.CLIENT, stream, (5, 3000))
    assert [unit.text for unit in found] == [b"set", b"get"]


def test_a_malformed_line_has_no_data() -> None:
    """As the server takes it: what follows is the next command."""
    assert parts(
        [b"version\r\n", b"set k 0 0 -1\r\n", b"set k 0 0 x\r\n", b"set k\r\n", b"secret\r\n"]
    ) == [
        (b"version", 9),
        (b"set", 14),
        (b"set", 13),
        (b"set", 7),
        (b"?", 8),
    ]
    for first in (b"secret\r\n", b"set in stone\r\n", b"set in stone are the rules\r\n"):
        with pytest.raises(AlienError):
            units("memcached", Direction.CLIENT, first)


def test_text_answers() -> None:
    values = b"VALUE a 0 5\r\nhello\r\nVALUE b 0 5 77\r\nEND\r\n\r\nEND\r\n"
    lines = [
        b"STORED\r\n",
        b"13\r\n",
        b"DELETED\r\n",
        b"TOUCHED\r\n",
        b"OK\r\n",
        b"VERSION 1.6\r\n",
    ]
    stats = b"STAT pid 1\r\nSTAT END 2\r\nEND\r\n"
    found = responses(values + b"".join(lines) + stats)
    assert [unit.length for unit in found] == [len(values), *map(len, lines), len(stats)]
    assert {unit.events for unit in found} == {Event.ANSWER}
    assert {unit.status for unit in found} == {0}


def test_statuses() -> None:
    get, plain, meta = local(b"get k\r\n"), local(b"stats\r\n"), local(b"mg k\r\n")
    found = responses(
        b"END\r\n" + b"VALUE a 0 1\r\nx\r\nEND\r\n" + b"END\r\n" + b"EN\r\n" + b"NOT_FOUND\r\n"
        b"NOT_STORED\r\nEXISTS\r\nERROR\r\nCLIENT_ERROR bad data chunk\r\nSERVER_ERROR oom\r\n"
        b"NF\r\nNS\r\nEX O1\r\n",
        *(get, get, plain, meta),
    )
    assert [unit.status for unit in found] == [
        *(NOT_FOUND, 0, 0, NOT_FOUND, NOT_FOUND),
        *(NOT_STORED, EXISTS, ERROR, CLIENT_ERROR, SERVER_ERROR),
        *(NOT_FOUND, NOT_STORED, EXISTS),
    ]


def test_meta_answers() -> None:
    answered = [
        b"HD f1 O2\r\n",
        b"VA 5 kk\r\nhello\r\n",
        b"VA 0\r\n\r\n",
        b"ME k exp=-1\r\n",
        b"MN\r\n",
    ]
    found = responses(b"".join(answered))
    assert [unit.length for unit in found] == [len(answer) for answer in answered]


def test_quiet_meta_commands_belong_to_what_ends_them() -> None:
    asked = [local(b"mn\r\n")] * 2
    batch, failed = b"VA 2 ka\r\nhi\r\nHD\r\nMN\r\n", b"HD\r\nNS kb\r\nSERVER_ERROR x\r\nMN\r\n"
    found = responses(batch + failed, *asked)
    assert [(unit.length, unit.status) for unit in found] == [
        (len(batch), 0),
        (len(failed), NOT_STORED),
    ]


def test_a_watcher_is_given_up() -> None:
    found = responses(b"OK\r\nts=1 gid=2 type=conn_new\r\n", local(b"watch\r\n"))
    assert [unit.events for unit in found] == [Event.ANSWER | Event.ENDS]
    assert found[0].reason == Unseen.OTHER


def test_binary_requests() -> None:
    packets = [
        packet(SET, b"k", bytes(8), b"hello"),
        packet(GET, b"k"),
        packet(GETQ, b"k"),
        packet(GETKQ, b"k"),
        packet(SETQ, b"k", bytes(8), b"v" * 3000),
        packet(NOOP),
        packet(STAT),
        packet(0x22, b"PLAIN", b"", b"\0user\0secret"),
        packet(0x7F),
        packet(QUIT),
    ]
    found = units("memcached", Direction.CLIENT, b"".join(packets))
    assert [unit.length for unit in found] == [len(one) for one in packets]
    assert [unit.text for unit in found] == [
        *(b"set", b"get", b"getq", b"getkq", b"setq", b"noop"),
        *(b"stats", b"sasl_step", b"?", b"quit"),
    ]
    quiet = [unit.text for unit in found if unit.events & Event.ONE_WAY]
    assert quiet == [b"getq", b"getkq", b"setq"]
    assert requests(b"".join(packets[:4]))[0].length == len(packets[0])


def test_binary_answers() -> None:
    hits = reply(GETQ, body=b"hello") + reply(GETKQ, key=b"k", body=b"x") + reply(NOOP)
    stats = reply(STAT, key=b"pid", body=b"1") + reply(STAT, key=b"a", body=b"2") + reply(STAT)
    found = responses(reply(SET) + hits + stats + reply(GET, 1, body=b"Not found") + reply(GET))
    assert [(unit.length, unit.status) for unit in found] == [
        (24, 0),
        (len(hits), 0),
        (len(stats), 0),
        (33, NOT_FOUND),
        (24, 0),
    ]
    assert [unit.status for unit in responses(reply(SETQ, 0x82) + reply(NOOP))] == [0x82]


@pytest.mark.parametrize("stream", [b"GET / HTTP/1.1\r\n", b"*1\r\n$4\r\nPING\r\n", b"HELO x\r\n"])
def test_what_is_refused_of_clients(stream: bytes) -> None:
    assert not asks("memcached", stream)
    with pytest.raises(AlienError):
        units("memcached", Direction.CLIENT, stream)


@pytest.mark.parametrize("stream", [b"+OK\r\n", b"<html>\r\n", b"VALUE a b c\r\n", b"VA x\r\n"])
def test_what_is_refused_of_servers(stream: bytes) -> None:
    with pytest.raises(AlienError):
        units("memcached", Direction.SERVER, stream)


def test_detection() -> None:
    for stream in (b"get k\r\n", b"set k 0 0 1\r\nx\r\n", b"mg k v\r\n", b"version\r\n"):
        assert all(asks("memcached", stream[:end]) for end in range(1, len(stream)))
    assert not asks("memcached", b"getting")
    assert asks("memcached", packet(GET, b"k"))
    assert asks("memcached", b"delete key\r\n")
    assert not asks("memcached", b"delete 17\r\n")
    assert answers("memcached", reply(GET))
    assert answers("memcached", b"END\r\n")
    assert answers("memcached", b"VALUE k 0 1\r\n")


def test_both_directions() -> None:
    connection = Connection("memcached", (local(b"get k\r\n"),))
    assert connection.client(b"get ", b"k\r\n")[0].text == b"get"
    assert connection.server(b"EN", b"D\r\n")[0].status == NOT_FOUND


def test_names_of_statuses() -> None:
    def named(status: int) -> list[object]:
        found = attributes(Operation("get", status, "", server=False))
        return [found.get(name) for name in ("db.response.status_code", "error.type")]

    assert named(0) == [None, None]
    assert named(NOT_FOUND) == ["NOT_FOUND", None]
    assert named(SERVER_ERROR) == ["SERVER_ERROR", "SERVER_ERROR"]
    assert named(0x7777) == ["_OTHER", "_OTHER"]
