"""ClickHouse's HTTP interface over chDB, as far as the Collector's exporter needs it.

    python clickhouse.py PORT FOLDER

No ClickHouse server can be had for tests. The tables are Kernob's; what is inserted, and what is
answered, is encoded by ClickHouse's own code.
"""

from __future__ import annotations

import os
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

from chdb.state.sqlitelike import Connection

from kernob.config import Store as Settings
from kernob.store.store import Store

GREETING = "SELECT displayName(), version(), revision(), timezone()"


def greeting() -> bytes:
    """Returns the answer to `GREETING` in the Native format of revision 54460.

    chDB writes that format without revisions: so the answer says that ours is 0.
    """
    columns = [("String", text("chdb")), ("String", text("26.5.0"))]
    columns += [("UInt32", bytes(4)), ("String", text("UTC"))]
    information = b"\x01\x00\x02\xff\xff\xff\xff\x00"
    return (
        information
        + bytes([len(columns), 1])
        + b"".join(text(kind) + text(kind) + b"\0" + value for kind, value in columns)
    )


def text(value: str) -> bytes:
    return bytes([len(value)]) + value.encode()


class Handler(BaseHTTPRequestHandler):
    """Runs one statement after the other."""

    protocol_version = "HTTP/1.1"
    connection_to: Connection
    lock = threading.Lock()

    def do_POST(self) -> None:
        """Answers one statement: the body's, or that of the address with data in the body."""
        parameters = parse_qs(urlsplit(self.path).query)
        length = self.headers["Content-Length"]
        body = self.rfile.read(int(length)) if length else self._chunks()
        try:
            with self.lock:
                if "query" in parameters:
                    answer = self._insert(parameters["query"][0], body)
                elif body.decode() == GREETING:
                    answer = greeting()
                else:
                    wanted = parameters["default_format"][0]
                    answer = self.connection_to.query(body.decode(), wanted).bytes()
            self._send(200, answer)
        except RuntimeError as error:
            self._send(500, str(error).encode())

    def _insert(self, statement: str, body: bytes) -> bytes:
        file = os.memfd_create("native")
        try:
            os.write(file, body)
            source = f"SELECT * FROM file('/proc/self/fd/{file}', 'Native')"
            answer = self.connection_to.query(statement.partition("FORMAT")[0] + source)
            return bytes(answer.bytes())
        finally:
            os.close(file)

    def _chunks(self) -> bytes:
        body = b""
        while size := int(self.rfile.readline(), 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return body

    def _send(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002
        """Says nothing."""


def main() -> None:
    port, folder = int(sys.argv[1]), Path(sys.argv[2])
    Store.open(Settings(path=folder)).close()
    Handler.connection_to = Connection(str(folder))
    ThreadingHTTPServer(("127.0.0.1", port), Handler).serve_forever()


if __name__ == "__main__":
    main()
