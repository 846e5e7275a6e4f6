"""An OTLP backend over HTTP that keeps what it is sent, and answers as told."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from opentelemetry.proto.trace.v1.trace_pb2 import Span


class Received:
    """A span, and the attributes of it and of its resource."""

    def __init__(self, span: Span, resource: dict[str, Any]) -> None:
        self.span = span
        self.name = span.name
        self.resource = resource
        self.attributes = _values(span.attributes)

    def has(self, wanted: dict[str, Any]) -> bool:
        """Whether it, or its resource, has all these attributes."""
        found = {**self.resource, **self.attributes}
        return all(found.get(name) == value for name, value in wanted.items())


class Capture:
    """The backend.

    Attributes:
        url: to be set as OTEL_EXPORTER_OTLP_ENDPOINT.
        bodies: of all requests, by path.
        status: to answer with.
        answer: to answer.
    """

    def __init__(self) -> None:
        self.status = 200
        self.answer = b""
        self.bodies: list[tuple[str, bytes]] = []
        capture = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                capture.bodies.append((self.path, body))
                self.send_response(capture.status)
                self.send_header("Content-Type", "application/x-protobuf")
                self.send_header("Content-Length", str(len(capture.answer)))
                self.end_headers()
                self.wfile.write(capture.answer)

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    def spans(self, **wanted: Any) -> list[Received]:
        """Returns the spans whose attributes, with `_` for `.` and `__` for `_`, are as wanted."""
        named = {
            name.replace("__", " ").replace("_", ".").replace(" ", "_"): value
            for name, value in wanted.items()
        }
        found = []
        for path, body in list(self.bodies):
            if path != "/v1/traces":
                continue
            for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
                of = _values(resource.resource.attributes)
                found += [
                    Received(span, of) for scope in resource.scope_spans for span in scope.spans
                ]
        return [one for one in found if one.has(named)]

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


def _values(attributes: Any) -> dict[str, Any]:
    return {one.key: getattr(one.value, one.value.WhichOneof("value")) for one in attributes}


@contextmanager
def capturing() -> Iterator[Capture]:
    capture = Capture()
    try:
        yield capture
    finally:
        capture.close()
