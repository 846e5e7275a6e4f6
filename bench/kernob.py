"""`kernob up` and its parts on free ports, with a store of their own."""

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

START_SECONDS: Final = 60.0
QUIET_SHARE: Final = 0.1
"""Of a core: a process that uses less has nothing left to do."""
QUIET_SECONDS: Final = 20.0
"""Merges of what was stored may take that long; then the figures are taken all the same."""


class Site:
    """Where a Kernob is: its ports on loopback and its store.

    Attributes:
        port: of OTLP over HTTP and the API.
        pages: port of the pages.
        url, pages_url: of these.
        store: the folder.
    """

    def __init__(self, scratch: Path) -> None:
        scratch.mkdir(exist_ok=True)
        self._scratch = scratch
        self.store = scratch / "store"
        self.port, grpc, self.pages, metrics = (host.free_port() for _ in range(4))
        self.url = f"http://127.0.0.1:{self.port}"
        self.pages_url = f"http://127.0.0.1:{self.pages}"
        # No other environment: what is set for another Kernob on this host is not meant for it.
        self._environment = {
            "PATH": os.defpath,
            "HOME": str(scratch),
            "RUNTIME_DIRECTORY": str(scratch),
            "KERNOB_CONFIG": os.devnull,
            "KERNOB_STORE_PATH": str(self.store),
            "KERNOB_SERVER_LISTEN": f"127.0.0.1:{self.port}",
            "KERNOB_SERVER_GRPC_LISTEN": f"127.0.0.1:{grpc}",
            "KERNOB_PAGES_LISTEN": f"127.0.0.1:{self.pages}",
            "KERNOB_PROMETHEUS_LISTEN": f"127.0.0.1:{metrics}",
        }

    @contextlib.contextmanager
    def run(self, command: str) -> Iterator[Running]:
        """Runs `kernob COMMAND` meanwhile, and waits for nothing."""
        log = self._scratch / f"{command}.log"
        with log.open("w") as output:
            process = subprocess.Popen(
                [KERNOB, command], env=self._environment, stdout=output, stderr=output, text=True
            )
        with host.running(process):
            yield Running(process, log)

    @contextlib.contextmanager
    def server(self) -> Iterator[Running]:
        """Runs the server meanwhile, from when it takes requests."""
        with self.run("server") as server:
            host.wait_for(
                lambda: server.lives() and self.answers("/ready"), "server", START_SECONDS
            )
            yield server

    def get(self, path: str) -> Any:
        """Returns the JSON of the API at `path`.

        Raises:
            OSError: it does not answer, or not with success.
        """
        with urllib.request.urlopen(self.url + path, timeout=60) as answer:
            return msgspec.json.decode(answer.read())

    def answers(self, path: str, *, pages: bool = False) -> bool:
        """Tells whether the API, or the pages, have something at `path`."""
        try:
            with urllib.request.urlopen((self.pages_url if pages else self.url) + path, timeout=5):
                return True
        except OSError:
            return False


@dataclass(frozen=True)
class Running:
    """One of Kernob's processes."""

    process: subprocess.Popen[str]
    log: Path

    @property
    def pid(self) -> int:
        """Of the process."""
        return self.process.pid

    def lives(self) -> bool:
        """Returns that it runs.

        Raises:
            SystemExit: it has ended; with what it said.
        """
        if self.process.poll() is not None:
            raise SystemExit(f"bench: kernob has ended: {self.log.read_text()[-2000:]}")
        return True

    def parts(self) -> dict[str, int]:
        """Returns the process ids of what `kernob up` runs: agent, server, pages."""
        found: dict[str, int] = {}
        for child in Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text().split():
            words = Path(f"/proc/{child}/cmdline").read_text().split("\0")
            found |= {word: int(child) for word in words if word in ("agent", "server", "pages")}
        return found


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
