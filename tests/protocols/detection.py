"""First bytes of many protocols against all detectors: the matrix in docs/detection.md.

`python -m protocols.detection`, from the directory `tests`, writes it.
"""

from __future__ import annotations

import random
import struct
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from protocols.host import AlienError, Direction, answers, asks, protocols, units

PAGE = Path(__file__).parents[2] / "docs" / "detection.md"
CLIENT, SERVER = Direction.CLIENT, Direction.SERVER


@dataclass(frozen=True)
class Sample:
    """The first bytes that one side of a connection sends."""

    protocol: str
    direction: Direction
    start: bytes

    def claimed(self) -> list[str]:
        """Returns the protocols that this may be to their detectors, in the order of trying."""
        detects = asks if self.direction is CLIENT else answers
        return [name for name in protocols() if detects(name, self.start)]

    def refused(self, protocol: str) -> bool:
        """Returns whether these bytes alone prove to the parser that this is not its protocol."""
        try:
            units(protocol, self.direction, self.start, waiting=False)
        except AlienError:
            return True
        return False


def _mysql(number: int, payload: bytes) -> bytes:
    return struct.pack("<I", len(payload))[:3] + bytes((number,)) + payload


def _greeting(version: bytes) -> bytes:
    salt = b"abcdefgh\0" + b"\xff\xf7\x2d\x02\0\xff\x81\x15" + bytes(10) + b"ijklmnopqrst\0"
    return _mysql(0, b"\x0a" + version + b"\0\x08\0\0\0" + salt + b"mysql_native_password\0")


def _tls(kind: int, version: bytes) -> bytes:
    hello = bytes((kind, 0, 0, 196)) + b"\x03\x03" + bytes(range(32)) + b"\x20" + bytes(161)
    return b"\x16" + version + struct.pack(">H", len(hello)) + hello


def _kafka(key: int, version: int, body: bytes = b"") -> bytes:
    head = struct.pack(">hhih", key, version, 1, 8) + b"consumer" + body
    return struct.pack(">I", len(head)) + head


def _mongodb(answer_to: int, document: bytes) -> bytes:
    message = struct.pack("<iiiI", 9, answer_to, 2013, 0) + b"\0" + document
    return struct.pack("<I", len(message) + 4) + message


def _memcached(magic: int, opcode: int, key: bytes = b"") -> bytes:
    return struct.pack(">BBHBBHIIQ", magic, opcode, len(key), 0, 0, 0, len(key), 7, 0) + key


def _dns(flags: int, answer: bytes = b"") -> bytes:
    question = b"\x07example\x03org\0\0\x01\0\x01"
    message = struct.pack(">HHHHHH", 0x1234, flags, 1, bool(answer), 0, 0) + question + answer
    return struct.pack(">H", len(message)) + message


def _postgresql(code: int, parameters: bytes = b"") -> bytes:
    return struct.pack(">II", 8 + len(parameters), code) + parameters


_RANDOM = random.Random(5)
_ENGLISH = (
    b"It was the best of times, it was the worst of times,\n",
    b"get on with it, said the king; nobody did.\n",
    b"*** A list of what remains to be done ***\n",
    b"set in stone are the rules of this house\n",
    b"The quick brown fox jumps over the lazy dog.\r\n",
    b"POST offices are closed on Sundays.\r\n",
)

STREAMS: dict[tuple[str, Direction], tuple[bytes, ...]] = {
    ("HTTP/1", CLIENT): (
        b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
        b"POST /users/1?x=2 HTTP/1.0\r\nContent-Length: 0\r\n\r\n",
        b"CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n\r\n",
        b"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n",
    ),
    ("HTTP/1", SERVER): (
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
        b"HTTP/1.0 404 Not Found\r\n\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\n",
    ),
    ("HTTP/2", CLIENT): (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0",),
    ("HTTP/2", SERVER): (b"\0\0\x06\x04\0\0\0\0\0\0\x03\0\0\0\x64\0\0\0\x04\x01\0\0\0\0",),
    ("TLS", CLIENT): (_tls(1, b"\x03\x01"), _tls(1, b"\x03\x03")),
    ("TLS", SERVER): (_tls(2, b"\x03\x03"), b"\x15\x03\x03\0\x02\x02\x28"),
    ("Redis", CLIENT): (
        b"*1\r\n$4\r\nPING\r\n",
        b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$1\r\nv\r\n",
        b"*2\r\n$5\r\nHELLO\r\n$1\r\n3\r\n",
        b"PING\r\n",
    ),
    ("Redis", SERVER): (
        b"+OK\r\n",
        b"-NOAUTH Authentication required.\r\n",
        b"$5\r\nhello\r\n",
        b"*2\r\n$1\r\na\r\n:1\r\n",
        b"%1\r\n$6\r\nserver\r\n$5\r\nredis\r\n",
        b":1000\r\n",
    ),
    ("PostgreSQL", CLIENT): (
        _postgresql(80877103),
        _postgresql(196608, b"user\0bob\0database\0app\0\0"),
        b"Q\0\0\0\x0dSELECT 1\0",
        b"P\0\0\0\x11\0SELECT $1\0\0\0",
    ),
    ("PostgreSQL", SERVER): (
        b"R\0\0\0\x08\0\0\0\0S\0\0\0\x16server_version\x0015.6\0",
        b"R\0\0\0\x17\0\0\0\x0aSCRAM-SHA-256\0\0",
        b"E\0\0\0\x1dSFATAL\0C28P01\0Mno such\0\0",
        b"N",
    ),
    ("MySQL", CLIENT): (
        _mysql(
            1, b"\x85\xa6\xff\x01\0\0\0\x01\x21" + bytes(23) + b"bob\0\0mysql_native_password\0"
        ),
        _mysql(0, b"\x03SELECT 1"),
        _mysql(0, b"\x0e"),
    ),
    ("MySQL", SERVER): (
        _greeting(b"5.5.5-10.11.6-MariaDB"),
        _greeting(b"8.0.36"),
    ),
    ("Memcached", CLIENT): (
        b"get key\r\n",
        b"set key 0 0 5\r\nhello\r\n",
        b"mg key v\r\n",
        b"version\r\n",
        _memcached(0x80, 0, b"key"),
    ),
    ("Memcached", SERVER): (
        b"STORED\r\n",
        b"END\r\n",
        b"VALUE key 0 5\r\nhello\r\nEND\r\n",
        b"HD\r\n",
        _memcached(0x81, 0),
    ),
    ("DNS over TCP", CLIENT): (_dns(0x0100), _dns(0x0120)),
    ("DNS over TCP", SERVER): (
        _dns(0x8180, b"\xc0\x0c\0\x01\0\x01\0\0\0\x3c\0\x04\x7f\0\0\x01"),
        _dns(0x8183),
    ),
    ("MongoDB", CLIENT): (
        _mongodb(0, b"\x1f\0\0\0\x10hello\0\x01\0\0\0\x02$db\0\x06\0\0\0admin\0\0"),
        _mongodb(0, b"\x1e\0\0\0\x02find\0\x02\0\0\0a\0\x02$db\0\x02\0\0\0b\0\0"),
    ),
    ("MongoDB", SERVER): (_mongodb(9, b"\x11\0\0\0\x01ok\0\0\0\0\0\0\0\xf0\x3f\0"),),
    ("Kafka", CLIENT): (
        _kafka(18, 3, b"\0\x07client\x061.0.0\0"),
        _kafka(3, 9, b"\0\x02\x05logs\x01\0\0"),
        _kafka(0, 8, b"\xff\xff\0\x01\0\0\x75\x30\0\0\0\x01\0\x04logs"),
    ),
    ("Kafka", SERVER): (struct.pack(">Iih", 46, 1, 0) + bytes(40),),
    ("Cassandra", CLIENT): (
        b"\x04\0\0\0\x05\0\0\0\0",
        b"\x04\0\0\x01\x01\0\0\0\x16\0\x01\0\x0bCQL_VERSION\0\x053.0.0",
        b"\x05\0\0\0\x05\0\0\0\0",
    ),
    ("Cassandra", SERVER): (
        b"\x84\0\0\0\x06\0\0\0\x0f\0\x01\0\x0bCOMPRESSION",
        b"\x84\0\0\x01\x02\0\0\0\0",
    ),
    ("AMQP 0-9-1", CLIENT): (b"AMQP\0\0\x09\x01",),
    ("AMQP 0-9-1", SERVER): (
        b"\x01\0\0\0\0\x01\xd8\0\x0a\0\x0a\0\x09\0\0\x01\xb3\x0ccapabilities",
    ),
    ("NATS", CLIENT): (
        b'CONNECT {"verbose":false}\r\nPING\r\n',
        b"PUB a.b 5\r\nhello\r\n",
        b"PING\r\n",
    ),
    ("NATS", SERVER): (
        b'INFO {"server_id":"NA","version":"2.9"}\r\n',
        b"MSG a.b 1 5\r\nhello\r\n",
        b"+OK\r\n",
    ),
    ("MQTT", CLIENT): (b"\x10\x0f\0\x04MQTT\x04\x02\0\x3c\0\x03abc",),
    ("MQTT", SERVER): (b"\x20\x02\0\0",),
    ("SSH", CLIENT): (b"SSH-2.0-OpenSSH_9.2p1 Debian-2\r\n",),
    ("SSH", SERVER): (b"SSH-2.0-OpenSSH_9.2p1 Debian-2\r\n",),
    ("SMTP", CLIENT): (b"EHLO a.example\r\n", b"MAIL FROM:<a@b.example>\r\n", b"quit\r\n"),
    ("SMTP", SERVER): (b"220 a.example ESMTP\r\n", b"250-a.example\r\n250 OK\r\n"),
    ("POP3", CLIENT): (b"USER bob\r\n", b"STAT\r\n"),
    ("POP3", SERVER): (b"+OK POP3 ready\r\n", b"-ERR no\r\n"),
    ("IMAP", CLIENT): (b"a1 LOGIN bob x\r\n",),
    ("IMAP", SERVER): (b"* OK IMAP4rev1 ready\r\n",),
    ("FTP", CLIENT): (b"USER bob\r\n",),
    ("beanstalkd", CLIENT): (
        b"put 0 0 60 5\r\nhello\r\n",
        b"reserve\r\n",
        b"delete 1\r\n",
        b"stats\r\n",
    ),
    ("beanstalkd", SERVER): (b"INSERTED 1\r\n", b"RESERVED 1 5\r\nhello\r\n", b"DELETED\r\n"),
    ("LDAP", CLIENT): (b"\x30\x0c\x02\x01\x01\x60\x07\x02\x01\x03\x04\0\x80\0",),
    ("LDAP", SERVER): (b"\x30\x0c\x02\x01\x01\x61\x07\x0a\x01\0\x04\0\x04\0",),
    ("STOMP", CLIENT): (b"CONNECT\naccept-version:1.2\n\n\0",),
    ("SIP", CLIENT): (b"OPTIONS sip:a@b SIP/2.0\r\nVia: SIP/2.0/TCP c\r\n\r\n",),
    ("RTSP", CLIENT): (b"OPTIONS rtsp://a/b RTSP/1.0\r\nCSeq: 1\r\n\r\n",),
    ("Graphite", CLIENT): (b"servers.web.cpu 1 1700000000\n",),
    ("syslog", CLIENT): (b"<34>1 2026-01-01T00:00:00Z a b - - - text\n",),
    ("ZooKeeper", CLIENT): (
        b"\0\0\0\x2d" + bytes(12) + b"\0\0\x75\x30" + bytes(8) + b"\0\0\0\x10" + bytes(17),
    ),
    ("rsync", SERVER): (b"@RSYNCD: 31.0\n",),
    ("English text", CLIENT): _ENGLISH,
    ("English text", SERVER): _ENGLISH,
    ("random bytes", CLIENT): tuple(_RANDOM.randbytes(64) for _ in range(2000)),
    ("random bytes", SERVER): tuple(_RANDOM.randbytes(64) for _ in range(2000)),
    ("zeros", CLIENT): (bytes(1), bytes(8), bytes(64), bytes(1024)),
    ("zeros", SERVER): (bytes(1), bytes(8), bytes(64), bytes(1024)),
}

OWN = {
    "HTTP/1": "http",
    "Redis": "redis",
    "PostgreSQL": "postgresql",
    "MySQL": "mysql",
    "Memcached": "memcached",
    "DNS over TCP": "dns",
}
"""The streams that Kernob has a parser for, by its name."""


def samples() -> list[Sample]:
    """Returns all of them, those of one protocol and side together."""
    return [
        Sample(protocol, direction, start)
        for (protocol, direction), starts in STREAMS.items()
        for start in starts
    ]


def page() -> str:
    """Returns docs/detection.md."""
    names = list(protocols())
    lines = [
        "# What a connection's first bytes are taken for",
        "",
        "Written by `python -m protocols.detection` in the directory `tests`; a test keeps it so.",
        "A client's first bytes are shown to each detector of requests, a server's to each of",
        "answers. A number is how many of a row's streams a detector claims; the leftmost one gets",
        "the connection. In brackets: how many of these its parser has not given up by the end of",
        "the bytes, so that only those of the other side can tell. Nothing is counted before both",
        "sides agree, and what a parser gives up is tried as another protocol.",
        "",
        f"| stream | from | streams | {' | '.join(names)} |",
        f"|---|---|---|{'---|' * len(names)}",
    ]
    for (protocol, direction), starts in STREAMS.items():
        claims: Counter[str] = Counter()
        kept: Counter[str] = Counter()
        for start in starts:
            sample = Sample(protocol, direction, start)
            for name in sample.claimed():
                claims[name] += 1
                kept[name] += not sample.refused(name)
        cells = [_cell(claims[name], kept[name], own=OWN.get(protocol) == name) for name in names]
        side = direction.name.lower()
        lines.append(f"| {protocol} | {side} | {len(starts)} | {' | '.join(cells)} |")
    return "\n".join([*lines, ""])


def _cell(claimed: int, kept: int, *, own: bool) -> str:
    if own:
        return f"**{claimed}**"
    return f"{claimed} ({kept})" if claimed else ""


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
