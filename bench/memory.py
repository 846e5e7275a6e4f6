"""Memory: the server at rest and under load, and `kernob up` in all."""

from __future__ import annotations

import re
import time
from pathlib import Path
from typing import Any, Final

from bench import bodies, browser, host, ingest, kernob, scale

PER_REQUEST: Final = 2_000
REQUESTS: Final = 150
QUICK_SHARE: Final = 10
IDLE_SECONDS: Final = 60.0
QUICK_IDLE_SECONDS: Final = 5.0


def measure(scratch: Path, *, quick: bool) -> dict[str, list[dict[str, Any]]]:
    """Returns a table: MiB resident, and less the share of what processes have in common."""
    idle = QUICK_IDLE_SECONDS if quick else IDLE_SECONDS
    requests = REQUESTS // QUICK_SHARE if quick else REQUESTS
    return {"memory": _server(scratch / "server", requests, idle) + _up(scratch / "up", idle)}


def _server(scratch: Path, requests: int, idle: float) -> list[dict[str, Any]]:
    site = kernob.Site(scratch)
    sender = host.compile_c("sender", scratch)
    file = scratch / "requests"
    with site.server() as server:
        kernob.wait_until_quiet(server.pid)
        rows = [_row("server, fresh", server.pid)]
        host.reset_peak(server.pid)
        for name, make in ingest.SOURCES.items():
            host.say(f"memory: load of {name}")
            source = make(PER_REQUEST)
            made = source.bodies(requests, time.time_ns() - 600 * bodies.SECOND, bodies.SECOND)
            bodies.write_requests(file, source, made, zipped=False)
            ingest.send(sender, site.port, ingest.CONNECTIONS[PER_REQUEST], file)
        loaded = _row("server, after load", server.pid)
        peak = {"process": "server, under load at most", "mib": host.peak_mib(server.pid)}
        host.say("memory: idle")
        time.sleep(idle)
        return [*rows, peak | {"own_mib": None}, loaded, _row("server, idle again", server.pid)]


def _up(scratch: Path, idle: float) -> list[dict[str, Any]]:
    """Returns the memory of each part, with a page open in live mode."""
    site = kernob.Site(scratch)
    with scale.trickle(), site.run("up") as up, browser.chromium() as chromium:
        host.wait_for(lambda: up.lives() and site.answers("/", pages=True), "pages", 60)
        context = browser.context_of(chromium)
        browser.visit(context, f"{site.pages_url}/traffic")
        host.say("memory: kernob up, with a page open")
        time.sleep(idle)
        parts = {"up, supervisor": up.pid} | {f"up, {n}": pid for n, pid in up.parts().items()}
        rows = [_row(name, pid) for name, pid in parts.items()]
        context.close()
    own = sum(row["own_mib"] for row in rows)
    return [*rows, {"process": "up, in all", "mib": sum(r["mib"] for r in rows), "own_mib": own}]


def _row(name: str, pid: int) -> dict[str, Any]:
    rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
    proportional = re.search(r"^Pss:\s+(\d+) kB", rollup, re.MULTILINE)
    own = int(proportional[1]) / 2**10 if proportional else None
    return {"process": name, "mib": host.resident_mib(pid), "own_mib": own}
