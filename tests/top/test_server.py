"""What a server tells, in the same table."""

from __future__ import annotations

import io
import json
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, urlsplit

import msgspec
import pytest
from test_app import Hands, use_source

from kernob.errors import ConfigError, KernobError
from kernob.queries.model import Provenance, Range, Traffic, TrafficRow
from kernob.top import once
from kernob.top.server import traffic_of_server

if TYPE_CHECKING:
    from collections.abc import Iterator

NOW = 1_700_000_000_000


def row(name: str, transmit: float, **more: object) -> TrafficRow:
    usual = {
        "name": name, "service": "", "hosts": ["web-1"], "pid": 0, "transmit_rate": transmit,
        "receive_rate": 7.0, "transmit": 5_000_000, "receive": 400, "operations": 3, "peers": 2,
        "connections": 4, "since": NOW, "last": NOW,
    }  # fmt: skip
    return TrafficRow(**(usual | more))  # type: ignore[arg-type]


ROWS = {
    "process": [
        row("nginx", 1000.0, pid=42, service="shop", connections=None, operations=None),
        row("nginx", 9.0, pid=42, service="shop", hosts=["web-2"], connections=None),
    ],
    "service": [row("shop", 1009.0, hosts=["web-1", "web-2"])],
    "peer": [row("client", 1000.0), row("db", 9.0)],
}


class Handler(BaseHTTPRequestHandler):
    """A server that wants a token."""

    asked: list[dict[str, list[str]]]

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        query = parse_qs(url.query)
        self.server.asked.append(query)  # type: ignore[attr-defined]
        by = query["by"][0]
        traffic = Traffic(
            range=Range(NOW - 300_000, NOW, 1000, "points"),
            by=by,  # type: ignore[arg-type]
            times=[], lines=[], rows=ROWS[by], rows_left_off=0, transmit=0, receive=0, marks=[],
            provenance=Provenance(exact=True, lost={"flows_overflowed": 3.0}),
        )  # fmt: skip
        status = 200 if self.headers.get("Authorization") == "Bearer open" else 401
        body = msgspec.json.encode(traffic)
        self.send_response(status if url.path == "/api/traffic" else 404)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Says nothing."""


@pytest.fixture
def server() -> Iterator[HTTPServer]:
    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        server.asked = []  # type: ignore[attr-defined]
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def url(server: HTTPServer) -> str:
    return f"http://127.0.0.1:{server.server_port}"


def test_a_process_of_each_host_is_a_line_with_what_is_known(server: HTTPServer) -> None:
    out = io.StringIO()

    once(traffic_of_server(url(server), "open"), out=out, by="process")

    head, lost, titles, *lines = out.getvalue().splitlines()
    assert "1.01 kB/s" in head
    assert lost == "lost: 3 flows overflowed"
    titles_wanted = "pid program service host share transmit receive transmitted received"
    assert titles.split() == titles_wanted.split()
    assert [line.split()[:5] for line in lines] == [
        ["42", "nginx", "shop", "web-1", "98"],
        ["42", "nginx", "shop", "web-2", "2"],
    ]
    assert "5.00 MB" in lines[0]


def test_json_of_a_server_has_its_rates(server: HTTPServer) -> None:
    out = io.StringIO()

    once(traffic_of_server(url(server), "open", "web-1"), out=out, by="service", as_json=True)

    [line] = json.loads(out.getvalue())["rows"]
    assert (line["service"], line["transmit_rate"], line["transmit"]) == ("shop", 1009, 5_000_000)
    assert server.asked[0]["host"] == ["web-1"]  # type: ignore[attr-defined]


def test_another_view_is_another_question(server: HTTPServer) -> None:
    async def play(hands: Hands) -> None:
        await hands.shows(["42", "42"])
        await hands.press("3")
        await hands.shows(["client", "db"])
        # Sums have nothing inside.
        await hands.press("down", "enter")
        await hands.shows(["client", "db"])

    use_source(traffic_of_server(url(server), "open"), play)

    assert {query["by"][0] for query in server.asked} == {"process", "peer"}  # type: ignore[attr-defined]


def test_a_refused_token_and_a_server_that_is_not_there_are_told_apart(server: HTTPServer) -> None:
    with pytest.raises(ConfigError, match="the server at .* refuses this token"):
        traffic_of_server(url(server), "shut")("process")
    with pytest.raises(KernobError, match="no server answers .* start one with `kernob server`"):
        traffic_of_server("http://127.0.0.1:1", "open")("process")
