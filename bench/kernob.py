"""`kernob server` and `kernob up` on free ports, with a store of their own."""

from __future__ import annotations

import contextlib
import os
import subprocess
import time
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import msgspec

from bench import host
from bench.tools import KERNOB

if TYPE_CHECKING:
    from collections.abc import Iterator

QUIET_SHARE: Final = 0.1
"""Of a core: a process that uses less has nothing left to do."""
QUIET_SECONDS: Final = 20.0
"""Merges of what was stored may take that long; then the figures are taken all the same."""


@dataclass(frozen=True)
class Running:
    """One of Kernob's processes, and where it answers.

    Attributes:
        port: of OTLP over HTTP and the API.
        pages: port of the pages; nothing listens there if only the server runs.
        store: the folder.
    """

    process: subprocess.Popen[str]
    port: int
    pages: int
    store: Path
    log: Path

    @property
    def pid(self) -> int:
        """Of the process."""
        return self.process.pid

    def get(self, path: str) -> Any:
        """Returns the JSON of the API at `path`.

        Raises:
            OSError: it does not answer, or not with success.
        """
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=60) as answer:
            return msgspec.json.decode(answer.read())

    def lives(self) -> bool:
        """Returns that the process runs.

        Raises:
            SystemExit: it has ended; with what it said.
        """
        if self.process.poll() is not None:
            raise SystemExit(f"bench: kernob has ended: {self.log.read_text()[-2000:]}")
        return True

    def answers(self, path: str, port: int = 0) -> bool:
        """Tells whether `path` is there already, at the API or another port."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port or self.port}{path}", timeout=5):
                return self.lives()
        except OSError:
            return not self.lives()

    def parts(self) -> dict[str, int]:
        """Returns the process ids of `kernob up`'s parts by their command: agent, server, pages."""
        found: dict[str, int] = {}
        for child in Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text().split():
            words = Path(f"/proc/{child}/cmdline").read_text().split("\0")
            found |= {word: int(child) for word in words if word in ("agent", "server", "pages")}
        return found


@contextlib.contextmanager
def server(scratch: Path, store: str = "store") -> Iterator[Running]:
    """Runs `kernob server` and waits until it is ready."""
    with _running("server", scratch, store) as running:
        host.wait_for(lambda: running.lives() and host.listens(running.port), "server", 60)
        yield running


@contextlib.contextmanager
def up(scratch: Path, store: str = "store") -> Iterator[Running]:
    """Runs `kernob up`, and waits for nothing."""
    with _running("up", scratch, store) as running:
        yield running


@contextlib.contextmanager
def _running(command: str, scratch: Path, store: str) -> Iterator[Running]:
    port, grpc, pages, metrics = (host.free_port() for _ in range(4))
    # No other environment: what is set for another Kernob on this host is not meant for this one.
    environment = {
        "PATH": os.defpath,
        "HOME": str(scratch),
        "RUNTIME_DIRECTORY": str(scratch),
        "KERNOB_STORE_PATH": str(scratch / store),
        "KERNOB_SERVER_LISTEN": f"127.0.0.1:{port}",
        "KERNOB_SERVER_GRPC_LISTEN": f"127.0.0.1:{grpc}",
        "KERNOB_PAGES_LISTEN": f"127.0.0.1:{pages}",
        "KERNOB_PROMETHEUS_LISTEN": f"127.0.0.1:{metrics}",
    }
    log = scratch / f"{command}.log"
    with log.open("w") as output:
        process = subprocess.Popen(
            [KERNOB, command], env=environment, stdout=output, stderr=output, text=True
        )
    with host.running(process):
        yield Running(process, port, pages, scratch / store, log)


def wait_until_quiet(pid: int) -> float:
    """Waits until a process has nothing to do; returns the seconds of CPU it used meanwhile."""
    begin = last = host.cpu_seconds(pid)
    deadline = time.monotonic() + QUIET_SECONDS
    while time.monotonic() < deadline:
        time.sleep(1.0)
        before, last = last, host.cpu_seconds(pid)
        if last - before < QUIET_SHARE:
            break
    return last - begin
