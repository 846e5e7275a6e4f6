"""Startup: from `kernob up` to the first chart with figures in Chromium, and what comes when."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from statistics import median
from typing import TYPE_CHECKING, Any, Final

from bench import browser, host, kernob, scale
from kernob.ui import source
from kernob.ui.state import parse

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from playwright.sync_api import Browser

PATIENCE: Final = 60.0
PARTS: Final = ("server", "pages", "agent", "chart")
TRAFFIC: Final = source.traffic(parse(""), "service").path


def measure(scratch: Path, *, quick: bool) -> dict[str, list[dict[str, Any]]]:
    """Returns a table: seconds from the start of the process, with a new store and an old one."""
    rounds: dict[str, list[dict[str, float]]] = {"new": [], "existing": []}
    with scale.trickle(), browser.chromium() as chromium:
        for number in range(1 if quick else 3):
            site = kernob.Site(scratch / str(number))
            for store, times in rounds.items():
                host.say(f"startup: {store} store")
                times.append(_start(site, chromium))
    return {
        "startup": [
            {"store": store}
            | {f"{part}_s": median(one[part] for one in times) for part in PARTS}
            | {"chart_max_s": max(one["chart"] for one in times)}
            for store, times in rounds.items()
        ]
    }


def _start(site: kernob.Site, chromium: Browser) -> dict[str, float]:
    """Returns when each part was there; Chromium runs already, and comes as soon as it can."""
    context = browser.context_of(chromium)
    begin = time.monotonic()
    with site.run("up") as up, ThreadPoolExecutor() as threads:

        def when(there: Callable[[], bool], what: str) -> float:
            host.wait_for(lambda: up.lives() and there(), what, PATIENCE)
            return time.monotonic() - begin

        server = threads.submit(when, lambda: site.answers("/ready"), "server")
        agent = threads.submit(when, lambda: _has_figures(site), "figures of the agent")
        pages = when(lambda: site.answers("/", pages=True), "pages")
        browser.visit(context, f"{site.pages_url}/traffic")
        chart = time.monotonic() - begin
        context.close()
        return {
            "server": server.result(),
            "pages": pages,
            "agent": agent.result(),
            "chart": chart,
        }


def _has_figures(site: kernob.Site) -> bool:
    time.sleep(0.05)
    try:
        return bool(site.get(TRAFFIC)["rows"])
    except OSError:
        return False
