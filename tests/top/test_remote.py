from __future__ import annotations

import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import TYPE_CHECKING

import msgspec
import pytest
from tables import make_table, shop

from kernob.errors import ConfigError, KernobError
from kernob.top import traffic_from_agent

if TYPE_CHECKING:
    from collections.abc import Iterator

TABLE = make_table(5, shop(5))


class Handler(BaseHTTPRequestHandler):
    """An agent that wants a token, and answers what the first part of the path says."""

    def do_GET(self) -> None:
        status, body = 404, b"not found"
        if self.headers.get("Authorization") != "Bearer open sesame":
            status, body = 401, b"who are you"
        elif self.path == "/api/network":
            status, body = 200, msgspec.json.encode(TABLE)
        elif self.path == "/other/api/network":
            status, body = 200, b'{"time": "today"}'
        elif self.path == "/broken/api/network":
            self.wfile.write(b"no http at all\r\n")
            return
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Says nothing."""


@pytest.fixture
def agent() -> Iterator[str]:
    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_the_agents_table_comes_whole(agent: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    assert traffic_from_agent(f"{agent}/", "open sesame") == TABLE


@pytest.mark.parametrize(
    ("path", "token", "message"),
    [
        ("", "", "refuses this token: give the token"),
        ("/nowhere", "open sesame", "with status 404: is this a Kernob agent"),
        ("/other", "open sesame", "sent no traffic table .*: is it an agent of this version"),
        ("/broken", "open sesame", "no agent answers at"),
    ],
)
def test_a_wrong_answer_is_one_line_with_a_remedy(
    agent: str, path: str, token: str, message: str
) -> None:
    with pytest.raises(KernobError, match=message) as caught:
        traffic_from_agent(agent + path, token)
    assert "\n" not in str(caught.value)


def test_nobody_there_is_one_line_with_a_remedy() -> None:
    with pytest.raises(
        KernobError, match=r"no agent answers at .* \(Connection refused\): start one"
    ):
        traffic_from_agent("http://127.0.0.1:9")


@pytest.mark.parametrize("url", ["file:///etc/passwd", "localhost:9464", ""])
def test_what_is_no_address_is_refused(url: str) -> None:
    with pytest.raises(ConfigError):
        traffic_from_agent(url)
