from __future__ import annotations

import gzip
import http.client
import logging
import socket
import ssl
import subprocess
import time
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

import pytest

from kernob.access import Tls
from kernob.errors import ListenError
from kernob.telemetry.http import BODY_SIZE, HEADER_SIZE, THREADS, Listener, Request, Response

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from servers import Certificates


def echo(request: Request) -> Response:
    text = f"{request.path} {dict(request.query)} {request.header('x-name')}"
    return Response(200, "text/plain", text.encode())


def long(_: Request) -> Response:
    return Response(200, "text/plain", b"long " * 1000)


def broken(_: Request) -> Response:
    raise ZeroDivisionError


ROUTES = {"/echo": echo, "/long": long, "/broken": broken}


@contextmanager
def listening(address: str = "127.0.0.1:0", **guards: object) -> Iterator[Listener]:
    listener = Listener(address, ROUTES, **guards)  # type: ignore[arg-type]
    listener.start()
    try:
        yield listener
    finally:
        listener.close()


@pytest.fixture(scope="module")
def plain() -> Iterator[Listener]:
    with listening() as listener:
        yield listener


@pytest.fixture
def token_file(tmp_path: Path) -> Path:
    file = tmp_path / "token"
    file.write_text("s3cret-token\n")
    return file


def ask(
    listener: Listener,
    path: str,
    headers: dict[str, str] | None = None,
    method: str = "GET",
    context: ssl.SSLContext | None = None,
) -> tuple[int, bytes, http.client.HTTPMessage]:
    port = int(listener.address.rpartition(":")[2])
    connection = (
        http.client.HTTPSConnection("127.0.0.1", port, timeout=10, context=context)
        if context
        else http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    )
    try:
        connection.request(method, path, headers=headers or {})
        answer = connection.getresponse()
        return answer.status, answer.read(), answer.headers
    finally:
        connection.close()


def raw(listener: Listener, sent: bytes) -> bytes:
    """Returns all that is answered, without the date."""
    port = int(listener.address.rpartition(":")[2])
    with socket.create_connection(("127.0.0.1", port), timeout=10) as client:
        client.sendall(sent)
        client.shutdown(socket.SHUT_WR)
        return b"".join(iter(lambda: client.recv(65536), b""))


def test_a_route_gets_path_query_and_headers(plain: Listener) -> None:
    status, body, _ = ask(plain, "/ec%68o?a=1&b=x%20y", {"X-Name": "n"})

    assert (status, body) == (200, b"/echo {'a': '1', 'b': 'x y'} n")


def test_health(plain: Listener) -> None:
    assert ask(plain, "/healthz")[:2] == (200, b"ok\n")


def test_head_has_the_length_and_no_body(plain: Listener) -> None:
    status, body, headers = ask(plain, "/long", method="HEAD")

    assert (status, body, headers["Content-Length"]) == (200, b"", "5000")


def test_unknown_paths_and_methods(plain: Listener) -> None:
    assert ask(plain, "/nothing")[0] == 404
    assert ask(plain, "/%ff%fe")[0] == 404
    status, _, headers = ask(plain, "/echo", method="POST")
    assert (status, headers["Allow"]) == (405, "GET, HEAD")


@pytest.mark.parametrize(
    ("accepted", "compressed"),
    [("gzip", True), ("br, gzip;q=0.5", True), ("gzip;q=0", False), ("br", False), ("", False)],
)
def test_gzip_if_the_client_takes_it(plain: Listener, accepted: str, *, compressed: bool) -> None:
    _, body, headers = ask(plain, "/long", {"Accept-Encoding": accepted})

    assert (headers.get("Content-Encoding") == "gzip") is compressed
    assert (gzip.decompress(body) if compressed else body) == b"long " * 1000


def test_curl_is_a_client_too(plain: Listener) -> None:
    command = ["curl", "-sS", "--compressed", f"{plain.url}/long", f"{plain.url}/healthz"]
    answered = subprocess.run(command, capture_output=True, check=True, timeout=10)

    assert answered.stdout == b"long " * 1000 + b"ok\n"


def test_a_handler_that_fails_is_said_once(
    plain: Listener, caplog: pytest.LogCaptureFixture
) -> None:
    assert [ask(plain, "/broken")[0] for _ in range(3)] == [500] * 3
    assert ask(plain, "/healthz")[0] == 200
    assert len([r for r in caplog.records if r.levelno >= logging.WARNING]) == 1


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"\x16\x03\x01\x02\x00\x01\x00\r\n\r\n", b"400"),
        (b"GET /echo HTTP/9.9\r\n\r\n", b"505"),
        (b"get /echo HTTP/1.1\r\n\r\n", b"400"),
        (b"GET /echo HTTP/1.1\r\nno colon\r\n\r\n", b"400"),
        (b"GET /echo HTTP/1.1\r\nContent-Length: x\r\n\r\n", b"400"),
        (b"GET /" + b"a" * HEADER_SIZE + b" HTTP/1.1\r\n\r\n", b"414"),
        (b"GET /echo HTTP/1.1\r\nA: " + b"a" * HEADER_SIZE + b"\r\n\r\n", b"413"),
        (b"GET /echo HTTP/1.1\r\nContent-Length: %d\r\n\r\n" % (BODY_SIZE + 1), b"413"),
    ],
)
def test_bad_requests_are_answered_and_do_no_harm(
    plain: Listener, sent: bytes, status: bytes, capfd: pytest.CaptureFixture[str]
) -> None:
    assert raw(plain, sent).split()[1] == status

    assert ask(plain, "/healthz")[0] == 200
    assert capfd.readouterr() == ("", "")


def test_a_chunked_body_is_not_the_next_request(plain: Listener) -> None:
    body = b"GET /long HTTP/1.1\r\n\r\n"
    sent = b"GET /echo HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n" + body

    assert raw(plain, sent).count(b"HTTP/1.1 ") == 1


def test_silent_clients_hold_nobody_up(plain: Listener) -> None:
    port = int(plain.address.rpartition(":")[2])
    silent = [socket.create_connection(("127.0.0.1", port)) for _ in range(THREADS * 3)]
    try:
        begin = time.monotonic()
        assert ask(plain, "/healthz")[0] == 200
        assert time.monotonic() - begin < 2
    finally:
        for client in silent:
            client.close()


def test_slow_clients_hold_up_only_their_own_thread(plain: Listener) -> None:
    port = int(plain.address.rpartition(":")[2])
    slow = [socket.create_connection(("127.0.0.1", port)) for _ in range(THREADS - 1)]
    try:
        for client in slow:
            client.sendall(b"GET /echo HTTP/1.1\r\n")
        assert ask(plain, "/healthz")[0] == 200
    finally:
        for client in slow:
            client.close()


def test_a_port_in_use_is_one_clear_line(plain: Listener) -> None:
    second = Listener(plain.address, ROUTES)

    with pytest.raises(
        ListenError, match=r"^can't listen on 127.0.0.1:\d+: Address already in use"
    ):
        second.start()


@pytest.mark.parametrize("address", ["9464", "127.0.0.1", "127.0.0.1:http", "127.0.0.1:70000"])
def test_an_address_that_is_none(address: str) -> None:
    with pytest.raises(ListenError, match="is no host:port"):
        Listener(address, ROUTES)


@pytest.mark.parametrize("address", ["0.0.0.0:0", ":0", "[::]:0"])
def test_off_loopback_it_needs_a_guard(
    address: str, token_file: Path, certificates: Certificates
) -> None:
    tls = Tls(certificates.server, certificates.server_key)

    with pytest.raises(ListenError, match="nothing guards it"):
        Listener(address, ROUTES, tls=tls)

    with listening(address, token_file=token_file) as listener:
        assert ask(listener, "/echo")[0] == 401
        assert ask(listener, "/echo", {"Authorization": "Bearer s3cret-token"})[0] == 200


@pytest.mark.parametrize("address", ["127.0.0.1:0", "localhost:0", "[::1]:0", "127.1.2.3:0"])
def test_on_loopback_it_needs_none(address: str) -> None:
    with listening(address) as listener:
        assert not listener.address.endswith(":0")


def test_only_the_token_opens(token_file: Path) -> None:
    with listening(token_file=token_file) as listener:
        refused = [
            {},
            {"Authorization": "s3cret-token"},
            {"Authorization": "Basic s3cret-token"},
            {"Authorization": "Bearer s3cret-toke"},
            {"Authorization": "Bearer \xe9"},
        ]
        for headers in refused:
            status, _, answered = ask(listener, "/echo", headers)
            assert (status, answered["WWW-Authenticate"]) == (401, "Bearer")
        assert ask(listener, "/echo", {"authorization": "bearer s3cret-token"})[0] == 200
        assert ask(listener, "/healthz")[0] == 200


def test_an_empty_or_missing_token_file(tmp_path: Path) -> None:
    (tmp_path / "empty").write_text("\n")

    with pytest.raises(ListenError, match="is empty"):
        Listener("127.0.0.1:0", {}, token_file=tmp_path / "empty")
    with pytest.raises(ListenError, match="No such file"):
        Listener("127.0.0.1:0", {}, token_file=tmp_path / "missing")


def client_context(certificates: Certificates) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=certificates.ca)


def test_tls(certificates: Certificates) -> None:
    with listening(tls=Tls(certificates.server, certificates.server_key)) as listener:
        assert listener.url.startswith("https://127.0.0.1:")
        assert ask(listener, "/echo", context=client_context(certificates))[0] == 200
        # A client of plain HTTP is no reason to fall over.
        with suppress(OSError):
            assert raw(listener, b"GET /echo HTTP/1.1\r\n\r\n")[:4] != b"HTTP"
        assert ask(listener, "/echo", context=client_context(certificates))[0] == 200


def test_a_client_silent_in_the_handshake_holds_nobody_up(certificates: Certificates) -> None:
    with listening(tls=Tls(certificates.server, certificates.server_key)) as listener:
        port = int(listener.address.rpartition(":")[2])
        with socket.create_connection(("127.0.0.1", port)):
            begin = time.monotonic()
            assert ask(listener, "/echo", context=client_context(certificates))[0] == 200
            assert time.monotonic() - begin < 2


def test_mutual_tls(certificates: Certificates) -> None:
    tls = Tls(certificates.server, certificates.server_key, certificates.ca)
    with listening("0.0.0.0:0", tls=tls) as listener:
        known = client_context(certificates)
        known.load_cert_chain(certificates.client, certificates.client_key)
        assert ask(listener, "/echo", context=known)[0] == 200

        stranger = client_context(certificates)
        stranger.load_cert_chain(certificates.stranger, certificates.stranger_key)
        for context in (client_context(certificates), stranger):
            with pytest.raises((ssl.SSLError, ConnectionError, http.client.RemoteDisconnected)):
                ask(listener, "/echo", context=context)


def test_a_certificate_that_is_none(tmp_path: Path, certificates: Certificates) -> None:
    with pytest.raises(ListenError, match=r"TLS: .*missing.pem"):
        Listener("127.0.0.1:0", {}, tls=Tls(tmp_path / "missing.pem", certificates.server_key))
    (tmp_path / "token").write_text("no PEM")
    no_pem = Tls(certificates.server, certificates.server_key, tmp_path / "token")
    with pytest.raises(ListenError, match=r"TLS: .*token"):
        Listener("127.0.0.1:0", {}, tls=no_pem)


def test_close_is_prompt_and_frees_the_port() -> None:
    with listening() as listener:
        ask(listener, "/echo")
        begin = time.monotonic()
    assert time.monotonic() - begin < 2
    with listening(listener.address):
        pass
