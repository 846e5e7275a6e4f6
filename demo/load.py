"""`load`: 50 requests a second, and the port on which faults are switched on and off.

    GET  /fault           answers the fault that is on
    POST /fault/{name}    switches one on, instead of the one before; `off` for none
    GET  /report          answers the requests so far

The report is printed as JSON at the end, when all requests are answered.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import sys
from collections import Counter
from typing import Final

import aiohttp
from aiohttp import web

from demo import settings

RATE: Final = 50
IN_FLIGHT: Final = 100
"""Requests without an answer; one more is not sent but counted as such."""
TIMEOUT: Final = 10
MIX: Final = (
    *("GET /products/{id}", "GET /orders/{id}", "GET /products/{id}", "GET /stock/{id}"),
    *("POST /products/{id}/orders", "GET /products/{id}", "GET /orders/{id}"),
    *("GET /products/{id}", "GET /stock/{id}", "POST /products/{id}/orders"),
)
"""Routes in the order in which they are asked for, again and again."""


class Load:
    """The requests, and what became of them.

    Attributes:
        answered: number of answers by route and status, as `GET /orders/{id} 200`.
        failed: number of requests without an answer, by the error's name.
        not_sent: number of requests that were left out, since too many waited.
    """

    def __init__(self, session: aiohttp.ClientSession, url: str) -> None:
        self._session = session
        self._url = url
        self._running: set[asyncio.Task[None]] = set()
        self._random = random.Random(1)  # noqa: S311  (the same each time)
        self.answered: Counter[str] = Counter()
        self.failed: Counter[str] = Counter()
        self.not_sent = 0

    async def run(self, stop: asyncio.Event) -> None:
        """Sends at the same rate however long answers take, until told to stop; waits for all."""
        clock = asyncio.get_running_loop().time
        begin = clock()
        number = 0
        while not stop.is_set():
            self._send(MIX[number % len(MIX)])
            number += 1
            await asyncio.sleep(begin + number / RATE - clock())
        await asyncio.gather(*self._running)

    def _send(self, route: str) -> None:
        if len(self._running) >= IN_FLIGHT:
            self.not_sent += 1
            return
        task = asyncio.create_task(self._ask(route))
        self._running.add(task)
        task.add_done_callback(self._running.discard)

    async def _ask(self, route: str) -> None:
        thing = self._random.randint(1, settings.THINGS)
        method, path = route.format(id=thing).split()
        try:
            async with self._session.request(method, self._url + path) as answer:
                await answer.read()
        except (aiohttp.ClientError, TimeoutError) as exc:
            self.failed[type(exc).__name__] += 1
        else:
            self.answered[f"{route} {answer.status}"] += 1

    def report(self) -> dict[str, object]:
        """Returns what is printed at the end."""
        return {
            "answered": dict(sorted(self.answered.items())),
            "failed": dict(self.failed),
            "not_sent": self.not_sent,
        }


class Faults:
    """Switches faults on and off.

    Args:
        found: where `shop` and `stock` read which fault is on.
        memcached: its process id.
        dnsmasq: its process id.
    """

    def __init__(self, found: settings.Settings, memcached: int, dnsmasq: int) -> None:
        self._settings = found
        self._memcached = memcached
        self._dnsmasq = dnsmasq

    def switch(self, name: str) -> None:
        """Switches one on instead of the one before."""
        self._settings.switch(name)
        stopped = name == "cache-timeout"
        os.kill(self._memcached, signal.SIGSTOP if stopped else signal.SIGCONT)
        self._settings.know_name(known=name != "name-stops")
        os.kill(self._dnsmasq, signal.SIGHUP)


async def control(port: int, load: Load, faults: Faults, found: settings.Settings) -> web.AppRunner:
    """Takes orders on a port of 127.0.0.1; returns what is to be cleaned up at the end."""

    async def show(_: web.Request) -> web.Response:
        return web.json_response({"fault": found.fault, "faults": settings.FAULTS})

    async def switch(request: web.Request) -> web.Response:
        name = request.match_info["name"]
        if name not in settings.FAULTS:
            raise web.HTTPNotFound(
                text=f"no such fault: take one of {', '.join(settings.FAULTS)}\n"
            )
        faults.switch(name)
        return web.Response(text=f"{name}: {settings.FAULTS[name]}\n")

    async def report(_: web.Request) -> web.Response:
        return web.json_response(load.report())

    app = web.Application()
    app.add_routes(
        [web.get("/fault", show), web.post("/fault/{name}", switch), web.get("/report", report)]
    )
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    return runner


async def run(found: settings.Settings, memcached: int, dnsmasq: int) -> None:
    """Sends requests until SIGTERM, then switches faults off and prints the report."""
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    faults = Faults(found, memcached, dnsmasq)
    timeout = aiohttp.ClientTimeout(total=TIMEOUT)
    connector = aiohttp.TCPConnector(limit=IN_FLIGHT)
    async with aiohttp.ClientSession(timeout=timeout, connector=connector) as session:
        load = Load(session, f"http://127.0.0.1:{found.ports['nginx']}")
        runner = await control(found.ports["control"], load, faults, found)
        await load.run(stop)
        await runner.cleanup()
    faults.switch(settings.OFF)
    print(json.dumps(load.report()))


def main() -> None:
    """Sends: `python -m demo.load FOLDER PID-OF-MEMCACHED PID-OF-DNSMASQ`."""
    asyncio.run(run(settings.load(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])))


if __name__ == "__main__":
    main()
