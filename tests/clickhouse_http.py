"""ClickHouse's HTTP interface over chDB, as much as its clients need.

These are `clickhouse-connect` and the Collector's exporter (clickhouse-go). No ClickHouse server
can be had for tests; what is inserted, and what is answered, is encoded by ClickHouse's own code.

    with clickhouse(folder) as url: ...

It runs as a program, in a process of its own, since a process can open one folder only:

    python clickhouse_http.py FOLDER PASSWORD

It listens on loopback, prints the port, and ends with its input.
"""

from __future__ import annotations

import base64
import email.parser
import email.policy
import gzip
import re
import subprocess
import sys
import tempfile
import threading
from contextlib import contextmanager
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, urlsplit

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

NOT_SETTINGS = {
    "query", "database", "query_id", "default_format", "compress", "session_id",
    "wait_end_of_query", "send_progress_in_http_headers", "client_protocol_version",
    "http_headers_progress_interval_ms", "enable_http_compression",
}  # fmt: skip
GREETING = "SELECT displayName(), version(), revision(), timezone()"


@contextmanager
def clickhouse(folder: Path, password: str = "") -> Iterator[str]:
    """Runs it on an empty folder; yields its URL.

    Args:
        folder: for its data.
        password: of the user `default`; without one everybody may come in.
    """
    with subprocess.Popen(
        [sys.executable, __file__, str(folder / "data"), password],
        cwd=folder, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    ) as server:  # fmt: skip
        assert server.stdout is not None
        try:
            yield f"http://127.0.0.1:{server.stdout.readline().strip()}"
        finally:
            server.kill()


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


def literal(value: str) -> str:
    escaped = value.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    connect: Callable[[], Any]
    password: str

    def do_GET(self) -> None:
        self.do_POST()

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if self.headers.get("Transfer-Encoding") == "chunked":
            body = self._chunks()
        if self.headers.get("Content-Encoding") == "gzip":
            body = gzip.decompress(body)
        arguments = dict(parse_qsl(urlsplit(self.path).query, keep_blank_values=True))
        try:
            self._send(200, *self._answer(arguments, body))
        except RuntimeError as error:
            self._send(500, str(error).encode(), "")

    def _chunks(self) -> bytes:
        parts = []
        while size := int(self.rfile.readline(), 16):
            parts.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(parts)

    def _answer(self, arguments: dict[str, str], body: bytes) -> tuple[bytes, str]:
        expected = base64.b64encode(f"default:{self.password}".encode()).decode()
        if self.password and self.headers.get("Authorization") != f"Basic {expected}":
            raise RuntimeError("Code: 516. DB::Exception: default: Authentication failed")
        query = arguments.get("query", "")
        with tempfile.NamedTemporaryFile() as file:
            if self.headers.get_content_type() == "multipart/form-data":
                parts = self._parts(body)
                (name,) = (part for part in parts if f"{part}_structure" in arguments)
                file.write(parts[name])
                structure = arguments.pop(f"{name}_structure")
                form = arguments.pop(f"{name}_format")
                query = query.replace(name, f"file('{file.name}', '{form}', '{structure}')")
            elif "input('" in query:
                file.write(body)
                over = rf"file('{file.name}', 'ProtobufSingle', '\1')"
                query = re.sub(r"input\('(.*?)'\)", over, query, flags=re.DOTALL)
                query = query.removesuffix("FORMAT ProtobufSingle")
            elif match := re.match(r"(INSERT INTO .*)\bFORMAT (\w+)\s*$", query, re.DOTALL):
                file.write(body)
                query = f"{match[1]} SELECT * FROM file('{file.name}', '{match[2]}')"
            elif not query:
                query = body.decode()
            if query == GREETING:
                return greeting(), "Native"
            file.flush()
            return self._run(query, arguments)

    def _parts(self, body: bytes) -> dict[str, bytes]:
        head = f"Content-Type: {self.headers['Content-Type']}\r\n\r\n".encode()
        message = email.parser.BytesParser(policy=email.policy.HTTP).parsebytes(head + body)
        return {
            str(part.get_param("name", header="Content-Disposition")): part.get_payload(decode=True)
            for part in message.iter_parts()
        }

    def _run(self, query: str, arguments: dict[str, str]) -> tuple[bytes, str]:
        form = "TabSeparated"
        if match := re.search(r"\bFORMAT (\w+)\s*$", query):
            query, form = query[: match.start()], match[1]
        form = arguments.get("default_format", form)
        values = {k[6:]: v for k, v in arguments.items() if k.startswith("param_")}
        settings = {
            name: value
            for name, value in arguments.items()
            if name not in NOT_SETTINGS and not name.startswith("param_")
        }
        # chDB takes no query_id: what is killed is found by the comment that stands for it.
        settings["log_comment"] = arguments.get("query_id", "")
        query = query.replace("startsWith(query_id,", "startsWith(Settings['log_comment'],")
        connection = self.connect()
        try:
            connection.query(f"USE {arguments['database']}") if arguments.get("database") else None
            connection.query("SET " + ", ".join(f"{k} = {literal(v)}" for k, v in settings.items()))
            return connection.query(query, form, params=values).bytes(), form
        finally:
            connection.close()

    def _send(self, status: int, body: bytes, form: str) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("X-ClickHouse-Format", form)
        self.send_header("X-ClickHouse-Summary", "{}")
        self.send_header("X-ClickHouse-Timezone", "UTC")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


def main() -> None:
    # Only here: whoever starts the program need not load it.
    from chdb.state.sqlitelike import Connection  # noqa: PLC0415

    folder, Handler.password = sys.argv[1:]
    Handler.connect = partial(Connection, folder)
    keep = Handler.connect()
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    print(server.server_port, flush=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    sys.stdin.read()
    keep.close()


if __name__ == "__main__":
    main()
