"""Packets of MySQL and MariaDB, built as the specifications say.

Sources: MySQL 8.4's "Client/Server Protocol" and MariaDB's "Client/Server Protocol".
"""

from __future__ import annotations

import struct

from protocols.host import Connection, Direction, Event, Unit, however_cut

QUERY = 0x03
INIT_DB, FIELD_LIST, STATISTICS, PING, CHANGE_USER = 0x02, 0x04, 0x09, 0x0E, 0x11
PREPARE, EXECUTE, LONG_DATA, CLOSE, RESET, FETCH = 0x16, 0x17, 0x18, 0x19, 0x1A, 0x1C
BULK = 0xFA

MORE_RESULTS, CURSOR, SESSION_CHANGED = 8, 64, 0x4000

# Capabilities
WITH_DATABASE, COMPRESS, PROTOCOL_41, SSL, SECURE = 8, 0x20, 0x200, 0x800, 0x8000
ZSTD, LENENC_AUTH, SESSION_TRACK, DEPRECATE_EOF = 1 << 26, 1 << 21, 1 << 23, 1 << 24
ALL = 0xFFFFFFFF


def packet(payload: bytes, sequence: int = 0) -> bytes:
    """Returns a packet with its header."""
    return struct.pack("<I", len(payload))[:3] + bytes([sequence]) + payload


def command(number: int, arguments: bytes = b"") -> bytes:
    return packet(bytes([number]) + arguments)


def query(sql: str) -> bytes:
    return command(QUERY, sql.encode())


def text(value: bytes) -> bytes:
    """Returns a string with its length before it."""
    if len(value) < 251:
        return bytes([len(value)]) + value
    return b"\xfc" + struct.pack("<H", len(value)) + value


def ok(sequence: int = 1, flags: int = 2, info: bytes = b"", header: int = 0) -> bytes:
    return packet(bytes([header, 0, 0]) + struct.pack("<HH", flags, 0) + info, sequence)


def eof(sequence: int, flags: int = 2) -> bytes:
    return packet(b"\xfe" + struct.pack("<HH", 0, flags), sequence)


def error(code: int, sequence: int = 1) -> bytes:
    return packet(b"\xff" + struct.pack("<H", code) + b"#42S02" + b"No such table", sequence)


def column(name: bytes, sequence: int) -> bytes:
    names = b"".join(map(text, (b"def", b"db", b"t", b"t", name, name)))
    return packet(names + b"\x0c" + bytes(12), sequence)


def result(rows: list[bytes], *, columns: int = 2, old: bool, flags: int = 2) -> bytes:
    """Returns a result: with `old`, definitions and rows end with an EOF, else rows with an OK."""
    parts = [bytes([columns]), *(column(b"c%d" % i, 0)[4:] for i in range(columns))]
    if old:
        parts.append(eof(0)[4:])
    parts += rows
    parts.append(eof(0, flags)[4:] if old else ok(0, flags, header=0xFE)[4:])
    return b"".join(packet(part, number & 255) for number, part in enumerate(parts, 1))


def prepared(number: int, columns: int, parameters: int, *, old: bool) -> bytes:
    head = struct.pack("<BIHHBH", 0, number, columns, parameters, 0, 0)
    stream = packet(head, 1)
    for count in (parameters, columns):
        stream += b"".join(column(b"?", 2) for _ in range(count))
        stream += eof(2) if old and count else b""
    return stream


def greeting(capabilities: int = ALL) -> bytes:
    low, high = capabilities & 0xFFFF, capabilities >> 16
    payload = b"\x0a5.5.5-10.11.6-MariaDB\0" + struct.pack("<I", 17) + b"saltsalt\0"
    payload += struct.pack("<HBHHB", low, 33, 2, high, 21) + bytes(10) + b"saltsaltsalt\0"
    return packet(payload + b"mysql_native_password\0")


def login(capabilities: int, database: bytes = b"", proof: bytes = b"p" * 20) -> bytes:
    payload = struct.pack("<IIB", capabilities, 1 << 24, 33) + bytes(23) + b"somebody\0"
    payload += text(proof)
    if capabilities & WITH_DATABASE:
        payload += database + b"\0"
    return packet(payload + b"mysql_native_password\0", 1)


PLAIN = PROTOCOL_41 | SECURE | LENENC_AUTH


def logged_in(capabilities: int = PLAIN, database: bytes = b"") -> Connection:
    connection = Connection("mysql", waiting=False)
    connection.server(greeting())
    connection.client(login(capabilities, database))
    connection.server(ok(2))
    return connection


def client(stream: bytes) -> list[Unit]:
    return however_cut("mysql", Direction.CLIENT, stream)


def server(stream: bytes, *asked: int) -> list[Unit]:
    return however_cut("mysql", Direction.SERVER, stream, asked, waiting=False)


def outcome(found: list[Unit]) -> list[tuple[Event, int, int]]:
    return [(unit.events, unit.status, unit.length) for unit in found]
