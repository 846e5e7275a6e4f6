"""An HTTP/1.1 server of the standard library, for the tests of requests: `http_server.py PORT`.

What it does stands in the path: /size/N, /chunks/COUNT/SIZE, /rest/N (a body until the connection
ends), /status/CODE, /sleep/MILLISECONDS, /upgrade. POST answers with how many bytes it has read.
"""

from __future__ import annotations

import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Handler(BaseHTTPRequestHandler):
    """Answers by the path."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def answer(self, body: bytes, status: int = 200) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def do_GET(self) -> None:
        what, *numbers = self.path.partition("?")[0].strip("/").split("/")
        number = int(numbers[0]) if numbers else 0
        if what == "chunks":
            self.send_response(200)
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            size = int(numbers[1])
            for _ in range(number):
                self.wfile.write(b"%x;name=value\r\n%s\r\n" % (size, b"c" * size))
            self.wfile.write(b"0\r\nX-Trailer: 1\r\n\r\n")
        elif what == "rest":
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"r" * number)
            self.close_connection = True
        elif what == "upgrade":
            self.send_response(101)
            self.send_header("Upgrade", "other")
            self.end_headers()
            self.wfile.write(b"\x81\x05hello")
            self.close_connection = True
        elif what == "status":
            self.answer(b"" if number in (204, 304) else b"status", number)
        elif what == "sleep":
            time.sleep(number / 1000)
            self.answer(b"slept")
        else:
            self.answer(b"s" * number)

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_DELETE(self) -> None:
        self.do_GET()

    def do_POST(self) -> None:
        count = 0
        if self.headers.get("Transfer-Encoding") == "chunked":
            while size := int(self.rfile.readline().partition(b";")[0], 16):
                count += len(self.rfile.read(size))
                self.rfile.readline()
            self.rfile.readline()
        else:
            count = len(self.rfile.read(int(self.headers["Content-Length"])))
        self.answer(b"%d" % count)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Says nothing."""


class Server(ThreadingHTTPServer):
    """Has room for many at once."""

    request_queue_size = 1024
    daemon_threads = True


if __name__ == "__main__":
    Server(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
