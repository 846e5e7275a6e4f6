"""Chromium, and when a chart is on its screen."""

from __future__ import annotations

import contextlib
import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from playwright.sync_api import sync_playwright

if TYPE_CHECKING:
    from collections.abc import Iterator

    from playwright.sync_api import Browser, BrowserContext, Page

PATIENCE: Final = 60_000
"""Milliseconds until what is waited for is given up."""
PAINTED: Final = """
(() => {
  const copy = new OffscreenCanvas(1, 1);
  const pen = copy.getContext("2d", { willReadFrequently: true });
  const coloured = (canvas) => {
    copy.width = canvas.width;
    copy.height = canvas.height;
    pen.drawImage(canvas, 0, 0);
    const { data } = pen.getImageData(0, 0, copy.width, copy.height);
    let count = 0;
    for (let i = 0; i < data.length; i += 4) {
      const red = data[i], green = data[i + 1], blue = data[i + 2];
      const spread = Math.max(red, green, blue) - Math.min(red, green, blue);
      if (spread > 40 && data[i + 3] > 150) count++;
    }
    return count > 20;
  };
  const look = () => {
    const canvases = [...document.querySelectorAll("canvas")].filter((c) => c.width && c.height);
    if (canvases.some(coloured)) window.benchPainted = performance.now();
    else requestAnimationFrame(look);
  };
  requestAnimationFrame(look);
})();
"""
"""Looks at each frame for a chart with colours: axes and skeletons are grey. Sets `benchPainted`,
milliseconds since the navigation began."""


@dataclass
class Visit:
    """A page from the start of its navigation until its first chart was painted.

    Attributes:
        milliseconds: between the two.
        requests: made meanwhile.
        received: bytes meanwhile, as they came: with heads, compressed, WebSockets included.
    """

    milliseconds: float = 0.0
    requests: int = 0
    received: int = 0


@contextlib.contextmanager
def chromium() -> Iterator[Browser]:
    """Runs Chromium without a screen."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=shutil.which("chromium"),
            args=["--no-sandbox", "--disable-gpu", "--disable-background-networking"],
        )
        with contextlib.closing(browser):
            yield browser


def context_of(browser: Browser) -> BrowserContext:
    """Returns a visitor who has never been there, with a laptop's screen."""
    context = browser.new_context(viewport={"width": 1440, "height": 900})
    context.set_default_timeout(PATIENCE)
    context.add_init_script(PAINTED)
    return context


def visit(context: BrowserContext, url: str) -> tuple[Page, Visit]:
    """Opens a page and waits for its first chart; the page stays open."""
    page = context.new_page()
    found = Visit()
    session = context.new_cdp_session(page)
    session.send("Network.enable")

    def sent(_: Any) -> None:
        found.requests += 1

    def finished(event: dict[str, Any]) -> None:
        found.received += round(event["encodedDataLength"])

    def framed(event: dict[str, Any]) -> None:
        found.received += len(event["response"]["payloadData"])

    session.on("Network.requestWillBeSent", sent)
    session.on("Network.loadingFinished", finished)
    session.on("Network.webSocketFrameReceived", framed)
    page.goto(url, wait_until="commit")
    painted = page.wait_for_function("window.benchPainted")
    found.milliseconds = float(painted.json_value())
    session.detach()
    return page, found
