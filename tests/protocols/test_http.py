"""HTTP/1.0 and 1.1: what its parser makes of streams of RFC 9112 and of odd ones."""

from __future__ import annotations

import pytest

from protocols.host import (
    AlienError,
    Direction,
    Event,
    Unit,
    Unseen,
    answers,
    asks,
    however_cut,
    messages,
    units,
)

HEAD = 1
CONNECT = 2
BYTES_OF_REST = 1 << 60
"""What a body that lasts until the connection ends is said to have: HTTP_MOST."""


def client(stream: bytes) -> list[Unit]:
    """Returns the messages of a client's stream, however it is cut."""
    return however_cut("http", Direction.CLIENT, stream)


def server(stream: bytes, asked: tuple[int, ...] = ()) -> list[Unit]:
    """Returns the messages of a server's stream, however it is cut."""
    return however_cut("http", Direction.SERVER, stream, asked)


def operation(target: bytes, method: bytes = b"GET", version: bytes = b"1.1") -> bytes:
    """Returns the text of the only request with this target."""
    stream = method + b" " + target + b" HTTP/" + version + b"\r\nHost: a\r\n\r\n"
    found = units("http", Direction.CLIENT, stream)
    assert [unit.length for unit in found] == [len(stream)]
    return found[0].text


def bodies(found: list[Unit]) -> list[tuple[int, int]]:
    """Returns status and bytes of body of each answer."""
    assert {unit.events for unit in found} == {Event.ANSWER}
    return [(unit.status, unit.body) for unit in found]


def test_requests_on_one_connection() -> None:
    first = b"GET / HTTP/1.1\r\nHost: a\r\nAccept: */*\r\n\r\n"
    second = b"POST /orders HTTP/1.1\r\nHost: a\r\nContent-Length: 11\r\n\r\nGET / HTTP/"
    third = b"DELETE /orders/7 HTTP/1.0\r\n\r\n"

    found = client(first + second + third)

    assert [(unit.text, unit.length, unit.body) for unit in found] == [
        (b"GET / HTTP/1.1", len(first), 0),
        (b"POST /orders HTTP/1.1", len(second), 11),
        (b"DELETE /orders/{id} HTTP/1.0", len(third), 0),
    ]
    assert {unit.events for unit in found} == {Event.REQUEST}
    assert len({unit.operation for unit in found}) == 3


def test_answers_on_one_connection() -> None:
    head = b"HTTP/1.1 %d Some Words\r\nServer: x\r\nContent-Length: %d\r\nDate: today\r\n\r\n"
    stream = b"".join(
        head % (status, size) + b"\n" * size for status, size in ((200, 3), (404, 0), (500, 25))
    )
    assert bodies(server(stream)) == [(200, 3), (404, 0), (500, 25)]


@pytest.mark.parametrize(
    ("target", "path"),
    [
        (b"/", b"/"),
        (b"/index.html", b"/index.html"),
        (b"/a/", b"/a/"),
        (b"//a//b", b"//a//b"),
        (b"/users/123", b"/users/{id}"),
        (b"/users/123/orders/4/", b"/users/{id}/orders/{id}/"),
        (b"/0", b"/{id}"),
        (b"/deadbeef", b"/deadbeef"),
        (b"/deadbee1", b"/{id}"),
        (b"/DEADBEE1", b"/{id}"),
        (b"/deadbe1", b"/deadbe0"),
        (b"/deadbee1x", b"/deadbee0x"),
        (b"/" + b"0a" * 32 + b"/x", b"/{id}/x"),
        (b"/" + b"0a" * 64, b"/{id}"),
        (b"/" + b"0a" * 40 + b"-", b"/" + b"0a" * 40 + b"-"),
        (b"/x/123e4567-e89b-12d3-a456-426614174000", b"/x/{id}"),
        (b"/x/123E4567-E89B-12D3-A456-426614174000/y", b"/x/{id}/y"),
        (b"/123e4567xe89b-12d3-a456-426614174000", b"/0e0xe0b-0d0-a0-0"),
        (b"/v1/x/v22/V3", b"/v1/x/v22/V3"),
        (b"/v1234/v1x", b"/v0/v0x"),
        (b"/report2023-10.pdf", b"/report0-0.pdf"),
        (b"/jquery-3.6.0.min.js", b"/jquery-0.0.0.min.js"),
        (b"/a%20b%2f12/%3x4", b"/a%20b%2f0/%3x0"),
        (b"/a/b?id=7&x=/y", b"/a/b"),
        (b"/?x", b"/"),
        (b"/12?x", b"/{id}"),
        (b"*", b"*"),
        (b"http://a.example:8080/b/7?x", b"/b/{id}"),
        (b"HTTPS://a.example", b"/"),
        (b"http://a.example?x=/y", b"/"),
        (b"/caf\xc3\xa9/\xb1\xb2\xb3", b"/caf\xc3\xa9/\xb1\xb2\xb3"),
        (b"/" + b"segment/" * 31 + b"12/longer", b"/" + b"segment/" * 31 + b"{id}/"),
        (b"/" + b"segment/" * 31 + b"is-cut", b"/" + b"segment/" * 31 + b"is-cut"),
        (b"/" + b"segment/" * 31 + b"is-cut-1", b"/" + b"segment/" * 31),
        (b"/" + b"x" * 300, b"/"),
        (b"/1" * 128, b"/{id}" * 128),
    ],
)
def test_path(target: bytes, path: bytes) -> None:
    assert operation(target) == b"GET " + path + b" HTTP/1.1"


def test_same_operation_same_fingerprint() -> None:
    def fingerprint(first_line: bytes) -> int:
        return units("http", Direction.CLIENT, first_line + b"\r\n\r\n")[0].operation

    assert fingerprint(b"GET /a/1 HTTP/1.1") == fingerprint(b"GET /a/23?x HTTP/1.1")
    others = (b"GET /a/1 HTTP/1.0", b"PUT /a/1 HTTP/1.1", b"GET /a/b HTTP/1.1", b"GET / HTTP/1.1")
    assert len({fingerprint(line) for line in (*others, b"GET /a/1 HTTP/1.1")}) == 5


def test_methods() -> None:
    assert operation(b"/", b"PROPFIND") == b"PROPFIND / HTTP/1.1"
    assert operation(b"/", b"VERSION-CONTROL") == b"VERSION-CONTROL / HTTP/1.1"
    assert operation(b"/7", b"X") == b"X /{id} HTTP/1.1"
    assert operation(b"/", b"GET", b"1.0") == b"GET / HTTP/1.0"


def test_chunks() -> None:
    head = b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n"
    body = b'5;name="a b"\r\nhello\r\n00A\r\n0123\r\n6789\r\n0\r\n\r\n'
    trailers = b"5\r\nhello\r\n0;x\r\nX-Sum: 1\r\nContent-Length: 9\r\n\r\n"

    found = client(head + body + head + trailers + b"GET / HTTP/1.1\r\n\r\n")

    assert [(unit.text, unit.length, unit.body) for unit in found] == [
        (b"POST / HTTP/1.1", len(head) + len(body), 15),
        (b"POST / HTTP/1.1", len(head) + len(trailers), 5),
        (b"GET / HTTP/1.1", 18, 0),
    ]


def test_chunked_answers() -> None:
    chunks = b"3\r\nabc\r\nFf\r\n" + b"x" * 255 + b"\r\n0\r\n"
    stream = (
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + chunks + b"\r\n"
        b"HTTP/1.1 500 No\r\nContent-Length: 5\r\ntransfer-encoding:gzip,  CHUNKED \t\r\n\r\n"
        + chunks
        + b"A: b\r\nHTTP/1.1 200 OK\r\n\r\nHTTP/1.1 404 No\r\nContent-Length: 1\r\n\r\nx"
    )
    assert bodies(server(stream)) == [(200, 258), (500, 258), (404, 1)]


def test_long_chunk_extension() -> None:
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    stream = head + b"4;x=" + b"y" * 3000 + b"\r\nabcd\r\n0;" + b"z" * 1500 + b"\r\n\r\n"
    for cuts in ((), (1000,), range(50, len(stream), 50)):
        found = messages(units("http", Direction.SERVER, stream, cuts))
        assert [(unit.length, unit.body) for unit in found] == [(len(stream), 4)]


def test_answers_without_a_body() -> None:
    stream = (
        b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n"  # to HEAD
        b"HTTP/1.1 204 No Content\r\n\r\n"
        b"HTTP/1.1 304 Not Modified\r\nContent-Length: 50\r\n\r\n"
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"  # to HEAD
        b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
    )
    found = bodies(server(stream, (HEAD, 0, 0, HEAD, 0)))
    assert found == [(200, 0), (204, 0), (304, 0), (200, 0), (200, 0)]


def test_head_tells_its_answer() -> None:
    assert client(b"HEAD /a HTTP/1.1\r\n\r\n")[0].local == HEAD
    assert client(b"HEADER /a HTTP/1.1\r\n\r\n")[0].local == 0


def test_interim_answers() -> None:
    stream = (
        b"HTTP/1.1 100 Continue\r\n\r\n"
        b"HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\nContent-Length: 3\r\n\r\n"
        b"HTTP/1.1 201 Created\r\nContent-Length: 2\r\n\r\nok"
    )
    interim, answer = server(stream)
    assert interim.events == Event.APART
    assert (answer.events, answer.status, answer.body) == (Event.ANSWER, 201, 2)


def test_upgrade_ends_it() -> None:
    stream = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n\x81\x05hello"
    found = server(stream)
    assert [(unit.events, unit.status, unit.reason) for unit in found] == [
        (Event.ANSWER | Event.ENDS, 101, Unseen.OTHER)
    ]


def test_tunnel() -> None:
    asked = client(b"CONNECT a.example:443 HTTP/1.1\r\nHost: a.example:443\r\n\r\n")[0]
    opened = server(b"HTTP/1.1 200 Connected\r\n\r\n\x16\x03\x01", (CONNECT,))
    refused = server(b"HTTP/1.1 403 No\r\nContent-Length: 2\r\n\r\nno", (CONNECT,))

    assert (asked.text, asked.local) == (b"CONNECT  HTTP/1.1", CONNECT)
    assert [(unit.events, unit.status) for unit in opened] == [(Event.ANSWER | Event.ENDS, 200)]
    assert bodies(refused) == [(403, 2)]


@pytest.mark.parametrize(
    "head",
    [
        b"HTTP/1.0 200 OK\r\nServer: x\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\nContent-Length: 3\r\n\r\n",
    ],
)
def test_body_to_the_end_of_the_connection(head: bytes) -> None:
    found = server(head + b"HTTP/1.1 404 this is no answer\r\n\r\n")
    assert [(unit.events, unit.status, unit.length, unit.body) for unit in found] == [
        (Event.TO_CLOSE, 200, len(head) + BYTES_OF_REST, BYTES_OF_REST)
    ]


@pytest.mark.parametrize(
    "field",
    [
        b"content-length:7",
        b"CONTENT-LENGTH: 7",
        b"Content-Length:\t 7 \t",
        b"Content-Length : 7",
        b"Content-Length: 007",
        b"Content-Length: 7, 7",
        b"Content-Length: 7\r\nContent-Length: 7",
        b"Content-Type: a\r\nContent-Lengthy: 9\r\nX-Content-Length: 8\r\nContent-Length: 7",
        b"T: Transfer-Encoding: chunked\r\nTransfer-Encodings: chunked\r\nContent-Length: 7",
    ],
)
def test_odd_lengths(field: bytes) -> None:
    stream = b"HTTP/1.1 200 OK\r\n" + field + b"\r\n\r\n\r\n\r\nabc" + b"HTTP/1.1 204 No\r\n\r\n"
    assert bodies(server(stream)) == [(200, 7), (204, 0)]


def test_bare_line_feeds() -> None:
    found = client(b"PUT /a HTTP/1.1\nContent-Length: 3\nHost: a\n\nabcGET /b HTTP/1.0\n\n")
    assert [(unit.text, unit.body) for unit in found] == [
        (b"PUT /a HTTP/1.1", 3),
        (b"GET /b HTTP/1.0", 0),
    ]
    assert bodies(server(b"HTTP/1.1 200\nContent-Length: 1\n\nx")) == [(200, 1)]


def test_empty_lines_between_requests() -> None:
    found = client(b"POST /a HTTP/1.1\r\nContent-Length: 1\r\n\r\nx\r\n\r\nGET / HTTP/1.1\r\n\r\n")
    assert [(unit.text, unit.body) for unit in found] == [
        (b"POST /a HTTP/1.1", 1),
        (b"GET / HTTP/1.1", 0),
    ]


LONG = {
    "fields": b"".join(b"X-%d: some value\r\n" % i for i in range(300)),
    "one field": b"Cookie: " + b"content-length: 9\r" * 400 + b"\r\n",
    "as long as a window": b"A: " + b"b" * (1024 - 3 - 2) + b"\r\n",
    "of a window's lines": b"".join(b"A: " + b"b" * (512 - 5) + b"\r\n" for _ in range(4)),
}


@pytest.mark.parametrize("filling", LONG.values(), ids=LONG)
def test_long_heads(filling: bytes) -> None:
    request = b"PUT /a/1 HTTP/1.1\r\n" + filling + b"Content-Length: 3\r\n" + filling + b"\r\nabc"
    answer = b"HTTP/1.1 200 OK\r\n" + filling + b"Content-Length: 3\r\n" + filling + b"\r\nabc"
    interim = b"HTTP/1.1 103 Hints\r\n" + filling + b"\r\n"
    for cuts in ((), (1,), (1023,), (1024,), (1025,), range(100, len(request), 100)):
        found = messages(units("http", Direction.CLIENT, request * 2, cuts))
        assert [(unit.text, unit.length, unit.body) for unit in found] == [
            (b"PUT /a/{id} HTTP/1.1", len(request), 3)
        ] * 2
        found = messages(units("http", Direction.SERVER, answer * 2 + interim + answer, cuts))
        assert [(unit.events, unit.status, unit.length, unit.body) for unit in found] == [
            (Event.ANSWER, 200, len(answer), 3),
            (Event.ANSWER, 200, len(answer), 3),
            (Event.APART, 0, len(interim), 0),
            (Event.ANSWER, 200, len(answer), 3),
        ]


def test_long_heads_in_calls_of_a_byte() -> None:
    stream = b"GET /a HTTP/1.1\r\nCookie: " + b"x" * 1200 + b"\r\nContent-Length: 1\r\n\r\nx"
    found = messages(units("http", Direction.CLIENT, stream, range(1, len(stream))))
    assert [(unit.text, unit.length, unit.body) for unit in found] == [
        (b"GET /a HTTP/1.1", len(stream), 1)
    ]


def test_long_first_line() -> None:
    for target, path in (
        (b"/a?" + b"x" * 5000, b"/a"),
        (b"/a/1/" + b"x" * 5000, b"/a/{id}/"),
        (b"http://a/b?" + b"x" * 5000, b"/b"),
    ):
        stream = b"PUT " + target + b" HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc"
        found = messages(units("http", Direction.CLIENT, stream, range(70, len(stream), 70)))
        assert [(unit.text, unit.length, unit.body) for unit in found] == [
            (b"PUT " + path + b" HTTP/1.1", len(stream), 3)
        ]


@pytest.mark.parametrize(
    "stream",
    [
        b"GET /\r\n\r\n",
        b"GET / HTTP/2.0\r\n\r\n",
        b"GET / HTTP/1.x\r\n\r\n",
        b"GET / RTSP/1.0\r\n\r\n",
        b"GET\r\n\r\n",
        b"GET / HTTP/1.1\r\nContent-Length: x\r\n\r\n",
        b"GET / HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
        b"GET / HTTP/1.1\r\nContent-Length: 99999999999999999999\r\n\r\n",
        b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n",
        b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n1234567890abcdef\r\n",
        b"\x16\x03\x01\x02\x00",
    ],
)
def test_not_http_of_a_client(stream: bytes) -> None:
    with pytest.raises(AlienError):
        units("http", Direction.CLIENT, stream)


@pytest.mark.parametrize(
    "stream",
    [b"HTTP/2.0 200 OK\r\n", b"HTTP/1.1 20 OK\r\n\r\n", b"HTTP/1.1 099 OK\r\n\r\n", b"+OK\r\n"],
)
def test_not_http_of_a_server(stream: bytes) -> None:
    with pytest.raises(AlienError):
        units("http", Direction.SERVER, stream)


def test_detection() -> None:
    for line in (
        b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
        b"OPTIONS * HTTP/1.0\n",
        b"CONNECT [::1]:443 HTTP/1.1\r\n",
        b"PROPFIND http://a/ HTTP/1.1\r\n",
        b"GET /" + b"x" * 2000,
    ):
        assert all(asks("http", line[:count]) for count in range(1, len(line)))
    answer = b"HTTP/1.1 200 OK\r\n"
    assert all(answers("http", answer[:count]) for count in range(1, len(answer)))
    for line in (
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"GET key\r\n",
        b"get key\r\n",
        b'CONNECT {"verbose":false}\r\n',
        b"PUB subject 3\r\n",
        b"EHLO there\r\n",
        b"OPTIONS rtsp://a/ RTSP/1.0\r\n",
        b"AMQP\x00\x00\x09\x01",
        b"\x16\x03\x01",
        b"*1\r\n$4\r\nPING\r\n",
    ):
        assert not asks("http", line)
    for line in (b"HTTP/2.0 200 OK\r\n", b"SSH-2.0-OpenSSH\r\n", b"HTTP/1.1 abc", b"220 hello\r\n"):
        assert not answers("http", line)


def test_heads_that_repeat_and_change() -> None:
    def request(target: bytes, body: bytes) -> bytes:
        head = b"PUT %s HTTP/1.1\r\nContent-Length: %d\r\n\r\n" % (target, len(body))
        return head + body

    def answer(status: int, date: int, body: bytes) -> bytes:
        head = b"HTTP/1.1 %d OK\r\nDate: %02d\r\nContent-Length: %d\r\n\r\n"
        return head % (status, date, len(body)) + body

    asked = [(b"/a", b"1"), (b"/a", b"2"), (b"/a", b""), (b"/a", b""), (b"/b", b""), (b"/a", b"")]
    found = client(b"".join(request(*each) for each in asked))
    assert [(unit.text, unit.body) for unit in found] == [
        (b"PUT %s HTTP/1.1" % target, len(body)) for target, body in asked
    ]
    assert len({unit.operation for unit in found}) == 2

    answered = [(200, 1, b"a"), (200, 1, b"b"), (201, 1, b"b"), (200, 2, b"c"), (200, 2, b"dd")]
    found = server(b"".join(answer(*each) for each in answered * 2))
    assert bodies(found) == [(status, len(body)) for status, _, body in answered * 2]


def test_heads_that_repeat_after_others() -> None:
    get, head = b"GET /a HTTP/1.1\r\n\r\n", b"HEAD /a HTTP/1.1\r\n\r\n"
    asked = client(get + get + head + head + b"\r\n" + get)
    assert [unit.local for unit in asked] == [0, 0, HEAD, HEAD, 0]

    sized = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n"
    empty = b"HTTP/1.1 204 No Content\r\n\r\n"
    chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n"
    interim = b"HTTP/1.1 100 Continue\r\n\r\n"
    stream = sized + b"ab" + sized + b"cd" + sized + empty + sized + b"ef" + chunked + sized + b"gh"
    found = server(stream + interim + sized + b"ij" + sized, (0, 0, HEAD, 0, 0, 0, 0, 0, HEAD))
    assert [(unit.status, unit.body) for unit in found if unit.events != Event.APART] == [
        *((200, 2), (200, 2), (200, 0), (204, 0)),
        *((200, 2), (200, 1), (200, 2), (200, 2), (200, 0)),
    ]


def test_heads_that_never_repeat() -> None:
    lines = [b"GET /a%d HTTP/1.1\r\nX-Id: %02d\r\n\r\n" % (i % 2, i) for i in range(40)]
    found = units("http", Direction.CLIENT, b"".join(lines) + lines[-1] * 3)
    assert [unit.length for unit in found] == [len(line) for line in (*lines, *lines[-1:] * 3)]
    assert {unit.text for unit in found} == {b"GET /a0 HTTP/1.1"}
