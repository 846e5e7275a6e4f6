"""The little HTTP server of both services: routes with one number in them, JSON, threads."""

from __future__ import annotations

import json
import queue
import re
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any, Final, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

Worker = TypeVar("Worker")
Answer = dict[str, Any]

WORKERS: Final = 12
"""Requests that are worked on at once; each has its own connections to everything."""


class FailedError(Exception):
    """What a request is answered with instead: a status and the reason."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status


def serve(
    port: int,
    make_worker: Callable[[], Worker],
    routes: Mapping[str, Callable[[Worker, int], Answer]],
) -> None:
    """Serves until the process is ended.

    Args:
        port: of 127.0.0.1.
        make_worker: called `WORKERS` times before the first request.
        routes: such as `GET /orders/{id}`; who answers gets the number, 0 if there is none.
    """
    workers: queue.SimpleQueue[Worker] = queue.SimpleQueue()
    for _ in range(WORKERS):
        workers.put(make_worker())
    patterns = {
        re.compile(re.escape(route).replace(r"\{id\}", r"(\d{1,9})")): answer
        for route, answer in routes.items()
    }

    def respond(request: str) -> tuple[int, Answer]:
        for pattern, answer in patterns.items():
            if found := pattern.fullmatch(request):
                worker = workers.get()
                try:
                    return 200, answer(worker, int(found[1]) if found.groups() else 0)
                except FailedError as exc:
                    return exc.status, {"error": str(exc)}
                finally:
                    workers.put(worker)
        return 404, {"error": f"there is no {request}"}

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        # Head and body leave in one call.
        wbufsize = -1
        disable_nagle_algorithm = True

        def _respond(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            status, answer = respond(f"{self.command} {self.path}")
            body = json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_GET = do_POST = _respond  # noqa: N815  (the names that http.server looks for)

        def log_request(self, code: object = "-", size: object = "-") -> None:
            pass

    ThreadingHTTPServer(("127.0.0.1", port), Handler).serve_forever()
