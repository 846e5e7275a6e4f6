"""A real server with known data, the pages' process, and a real Chromium that is watched."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect, sync_playwright

from servers import free_port, is_open, wait_until
from serving import Serving
from ui import truth as known

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ui.truth import Truth


# A busy machine is slow, which is no failure.
expect.set_options(timeout=20_000)


class Address(str):
    """Where pages are.

    Attributes:
        pid: of their process.
    """

    __slots__ = ("pid",)
    pid: int

    def resident(self) -> int:
        """Returns the bytes of memory that the process holds."""
        status = Path(f"/proc/{self.pid}/status").read_text()
        return int(status.split("VmRSS:")[1].split()[0]) << 10


@contextlib.contextmanager
def pages_of(url: str, log: Path, host: str = "127.0.0.1", **environ: str) -> Iterator[Address]:
    """Runs the pages of a server; yields their URL."""
    port = free_port()
    command = [sys.executable, "-m", "kernob", "pages"]
    command += ["--listen", f"{host}:{port}", "--server", url]
    environ = os.environ | {"KERNOB_CONFIG": os.devnull, **environ}
    with (
        log.open("ab") as out,
        subprocess.Popen(command, env=environ, stdout=out, stderr=out) as process,
    ):
        try:
            wait_until(lambda: is_open(port) or process.poll() is not None, log.read_text, 30)
            assert process.poll() is None, log.read_text()[-4000:]
            address = Address(f"http://127.0.0.1:{port}")
            address.pid = process.pid
            yield address
        finally:
            process.terminate()
            process.wait(10)


@pytest.fixture(scope="session")
def serving(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    with Serving(tmp_path_factory.mktemp("pages")).running() as started:
        yield started


@pytest.fixture(scope="session")
def truth(serving: Serving) -> Truth:
    return known.fill(serving)


@pytest.fixture(scope="session")
def pages(serving: Serving, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Address]:
    with pages_of(serving.url, tmp_path_factory.mktemp("pages") / "log") as url:
        yield url


@pytest.fixture(scope="session")
def chromium() -> Iterator[Browser]:
    path = shutil.which("chromium")
    if path is None:
        pytest.skip("chromium is missing: apt-get install chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=path,
            args=["--no-sandbox", "--disable-gpu", "--disable-background-networking"],
        )
        new_context(browser)
        yield browser
        browser.close()


def new_context(browser: Browser, **options: Any) -> BrowserContext:
    wanted = {"viewport": {"width": 1440, "height": 900}, "color_scheme": "light", **options}
    context = browser.new_context(timezone_id="Europe/Berlin", locale="en-GB", **wanted)
    context.set_default_timeout(10_000)
    context.grant_permissions(["clipboard-read", "clipboard-write"])
    return context


@dataclass
class Watched:
    """Opens browser pages, and keeps what they complain about.

    Attributes:
        complaints: errors on the console, exceptions, requests to other hosts.
        expected: parts of complaints that the test brings about itself.
    """

    browser: Browser
    base: str
    complaints: list[str] = field(default_factory=list)
    expected: list[str] = field(default_factory=list)

    def open(self, path: str, **options: object) -> Page:
        """Opens a path; with options (`viewport`, `color_scheme`) in a browser of its own."""
        context = new_context(self.browser, **options) if options else self.browser.contexts[0]
        page = context.new_page()
        page.on("console", lambda said: said.type == "error" and self.complaints.append(said.text))
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.on("request", lambda request: self._request(request.url))
        page.goto(self.base + path)
        return page

    def _request(self, url: str) -> None:
        local = (self.base, self.base.replace("http", "ws", 1), "data:", "blob:")
        if not url.startswith(local):
            self.complaints.append(f"a request to {url}")


@pytest.fixture
def watched(chromium: Browser, pages: str) -> Iterator[Watched]:
    found = Watched(chromium, pages)
    yield found
    # The first keeps its cache for the next test, as a person's browser does.
    for context in chromium.contexts[1:]:
        context.close()
    for page in chromium.contexts[0].pages:
        page.close()
    left = [c for c in found.complaints if not any(part in c for part in found.expected)]
    assert not left


@pytest.fixture
def browse(watched: Watched) -> Callable[..., Page]:
    return watched.open
