"""Pages: how long the server takes for their data, and Chromium until a chart is there.

Over a week of 100 services; see week.py.
"""

from __future__ import annotations

import time
from statistics import median
from typing import TYPE_CHECKING, Any, Final

from bench import browser, host, kernob, week
from kernob.ui import source
from kernob.ui.state import parse

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from playwright.sync_api import Browser

    from bench.browser import Visit
    from bench.kernob import Site
    from kernob.ui.state import State

RANGES: Final = {
    "15 min": "from=now-15m&to=now",
    "24 h": "from=now-24h&to=now",
    "7 d": "from=now-7d&to=now",
}
SERVICE: Final = "service-042"
ASKS: Final[dict[str, Callable[[State], source.Ask[Any]]]] = {
    "traffic by service": lambda state: source.traffic(state, "service"),
    "one service by peer": lambda state: source.traffic(state, "peer", service=SERVICE),
    "overview": source.overview,
    "requests by service": lambda state: source.requests(state, "service"),
    "one service's requests": lambda state: source.service(state, SERVICE),
    "agents": source.agents,
    "search": lambda _: source.search(SERVICE[:9]),
}
PAGES: Final = {
    "Traffic, 15 min": "/traffic?live=off",
    "Traffic, 24 h": f"/traffic?{RANGES['24 h']}&live=off",
    "Traffic, 7 d": f"/traffic?{RANGES['7 d']}&live=off",
    "Overview": "/",
    "Service, 24 h": f"/service?{RANGES['24 h']}&name={SERVICE}&live=off",
}


def measure(scratch: Path, *, quick: bool) -> dict[str, list[dict[str, Any]]]:
    """Returns two tables: the API's answers, and pages in Chromium."""
    site = kernob.Site(scratch)
    week.fill(site, days=2 if quick else 7)
    with site.server() as server:
        kernob.wait_until_quiet(server.pid)
        answers = [
            row
            for name, ask in ASKS.items()
            for row in _answers(site, name, ask, times=3 if quick else 10)
        ]
        with site.run("pages") as pages, browser.chromium() as chromium:
            host.wait_for(lambda: pages.lives() and site.answers("/", pages=True), "pages")
            visits = [
                row
                for name, path in PAGES.items()
                for row in _visits(chromium, name, site.pages_url + path, times=2 if quick else 5)
            ]
    return {"answers": answers, "pages": visits}


def _answers(
    site: Site, name: str, ask: Callable[[State], source.Ask[Any]], times: int
) -> list[dict[str, Any]]:
    """Returns a row for each range; a search has none, and so one row."""
    host.say(f"pages: /api, {name}")
    rows = []
    for length, query in RANGES.items():
        path = ask(parse(query)).path
        walls, seconds, answer = [], [], {}
        for _ in range(times):
            begin = time.perf_counter()
            answer = site.get(path)
            walls.append(time.perf_counter() - begin)
            seconds.append(answer.get("provenance", {}).get("seconds"))
        known = "provenance" in answer
        rows.append(
            {
                "question": name,
                "range": length if known else "",
                "median_ms": median(walls) * 1e3,
                "max_ms": max(walls) * 1e3,
                "queries_median_ms": median(seconds) * 1e3 if known else None,
                "rows_read": answer["provenance"]["rows_read"] if known else None,
                "rows_shown": len(
                    answer.get("rows") or answer.get("found") or answer.get("busy") or ()
                ),
            }
        )
        if not known:
            break
    return rows


def _visits(chromium: Browser, name: str, url: str, times: int) -> list[dict[str, Any]]:
    """Returns two rows: of visitors who come for the first time, and who come again."""
    host.say(f"pages: {name} in Chromium")
    first: list[Visit] = []
    again: list[Visit] = []
    for _ in range(times):
        context = browser.context_of(chromium)
        for visits in (first, again):
            page, visit = browser.visit(context, url)
            page.close()
            visits.append(visit)
        context.close()
    return [
        {
            "page": name,
            "visit": kind,
            "first_chart_median_ms": median(visit.milliseconds for visit in visits),
            "first_chart_max_ms": max(visit.milliseconds for visit in visits),
            "received_kib": median(visit.received for visit in visits) / 1024,
            "requests": round(median(visit.requests for visit in visits)),
        }
        for kind, visits in (("first", first), ("again", again))
    ]
