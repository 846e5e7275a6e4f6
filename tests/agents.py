"""A real `kernob agent` in a process of its own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from servers import free_port

if TYPE_CHECKING:
    from collections.abc import Callable

KERNOB = str(Path(sys.executable).with_name("kernob"))


class Running:
    """An agent that runs, and what it says."""

    def __init__(
        self,
        directory: Path,
        *options: str,
        prefix: tuple[str, ...] = (),
        runtime: Path | None = None,
    ) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._log = directory / f"agent-{self.port}.log"
        environ = {k: v for k, v in os.environ.items() if not k.startswith(("OTEL_", "KERNOB_"))}
        with self._log.open("wb") as log:
            self.process = subprocess.Popen(
                [*prefix, KERNOB, "agent", "--listen", f"127.0.0.1:{self.port}", *options],
                env={**environ, "RUNTIME_DIRECTORY": str(runtime or directory)},
                stderr=log,
            )

    @property
    def log(self) -> str:
        return self._log.read_text()

    def wait_until_it_answers(self) -> None:
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline and self.process.poll() is None:
            try:
                self.get("/healthz")
            except urllib.error.URLError:
                time.sleep(0.02)
            else:
                return
        pytest.fail(f"no agent answers: {self.log}")

    def get(self, path: str) -> str:
        with urllib.request.urlopen(self.url + path, timeout=5) as answer:
            return str(answer.read().decode())

    def rows(self) -> list[dict[str, Any]]:
        return list(json.loads(self.get("/api/network"))["rows"])

    def until(self, wanted: Callable[[], bool]) -> None:
        """Waits until it is so: on an idle machine an interval or two."""
        deadline = time.monotonic() + 10
        while not wanted():
            if time.monotonic() > deadline:
                pytest.fail("it did not show up in time")
            time.sleep(0.05)

    def stop(self, number: int = signal.SIGTERM) -> int:
        self.process.send_signal(number)
        return self.process.wait(10)
