"""ClickHouse's HTTP interface in front of chDB, as much as `clickhouse-connect` needs.

To be run as a program, in a process of its own: a process can open one folder only. It listens on
loopback and prints the port.
"""

from __future__ import annotations

import base64
import email.parser
import email.policy
import gzip
import re
import sys
import tempfile
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qsl, urlsplit

from chdb.state.sqlitelike import Connection

NOT_SETTINGS = {
    "query", "database", "query_id", "default_format", "compress", "session_id",
    "wait_end_of_query", "send_progress_in_http_headers", "client_protocol_version",
    "http_headers_progress_interval_ms", "enable_http_compression",
}  # fmt: skip
FOLDER = sys.argv[1]
PASSWORD = sys.argv[2]


def literal(value: str) -> str:
    escaped = value.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

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
        expected = base64.b64encode(f"default:{PASSWORD}".encode()).decode()
        if self.headers.get("Authorization") != f"Basic {expected}":
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
            elif match := re.match(r"(INSERT INTO \S+).*\bFORMAT Parquet\s*$", query, re.DOTALL):
                file.write(body)
                query = f"{match[1]} SELECT * FROM file('{file.name}', 'Parquet')"
            elif not query:
                query = body.decode()
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
        connection = Connection(FOLDER)
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


if __name__ == "__main__":
    keep = Connection(FOLDER)
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    print(server.server_port, flush=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    sys.stdin.read()
