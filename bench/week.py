"""A store with a week of 100 services, made in seconds.

The series are made by the server, of requests as agents send them: 4,000 of `kernob.network.io`
from four hosts, and all 50 of each of 20 simulated agents. Their points are then computed by SQL,
straight into each of the narrow tables (through the views it would take many minutes): the last day
every 15 seconds, as sent, and seven days in each rollup. Counters grow, gauges stay.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
import urllib.request
from typing import TYPE_CHECKING, Final

from bench import bodies, fleet, host
from kernob.config import Store as StoreSettings
from kernob.store.store import Store

if TYPE_CHECKING:
    from bench.kernob import Site
    from kernob.store.engine import Engine

DAY: Final = 86_400
HOSTS: Final = 4
AGENTS: Final = 20
INTERVAL: Final = 15
TIERS: Final = {"_1m": 60, "_5m": 300, "_1h": 3600}
# A counter's rate is its own, from one byte to 100 kB per second, and swings by a fifth.
_GROWN: Final = """
floor(multiIf(value = 0, 0, startsWith(MetricName, 'kernob.agent'), 0.01,
    exp10(SeriesId % 1000 / 200)) * (moment - {start} + 800 * sin(moment / 4000 + SeriesId % 7)))"""
# A block of series becomes as many points as a moment has series: small ones keep memory small.
_SETTINGS: Final = "SETTINGS max_block_size = 32"
_SERIES: Final = f"""
SELECT MetricName, SeriesId, toDateTime64({{start}}, 3) AS Start,
    arrayJoin(range(toUInt32({{first}}), toUInt32({{end}}), {{step}})) AS moment,
    if(monotonic, {_GROWN}, value) AS grown
FROM (
    SELECT MetricName, SeriesId, any(IsMonotonic) AS monotonic, any(Value) AS value
    FROM otel.kernob_points INNER JOIN otel.kernob_series USING (MetricName, SeriesId)
    WHERE ServiceName = 'kernob-agent' AND Time > toDateTime({{began}})
    GROUP BY MetricName, SeriesId ORDER BY MetricName, SeriesId)"""


def fill(site: Site, *, days: int = 7) -> None:
    """Makes the store of a site, which must not run; it ends now."""
    now = int(time.time()) // INTERVAL * INTERVAL
    with site.server():
        source = bodies.Points(HOSTS * bodies.SERIES, HOSTS)
        for body in source.bodies(1, now * bodies.SECOND, bodies.SECOND):
            _post(site, body)
        one_round = fleet.make(agents=AGENTS, rounds=1, interval=1.0, start=now * bodies.SECOND)
        asyncio.run(one_round.send(site.url))
    with contextlib.closing(Store.open(StoreSettings(path=site.store))) as store:
        _compute(store.engine, now, days)


def _compute(engine: Engine, now: int, days: int) -> None:
    host.say("a week of 100 services")
    # The views are there again when the server opens the store.
    for tier in TIERS:
        engine.command(f"DROP VIEW otel.kernob_rollup{tier}")
    start = now - days * DAY - 3600
    for day in range(days + 1):
        engine.command(
            "INSERT INTO otel.kernob_series SELECT * REPLACE "
            f"(toDate({now - day * DAY}) AS Day) FROM otel.kernob_series "
            f"WHERE Day = toDate({now}) AND toDate({now - day * DAY}) != toDate({now})"
        )
    for tier, step in TIERS.items():
        for day in range(days, 0, -1):
            rows = _SERIES.format(
                start=start, step=step, began=now - 60,
                first=(now - day * DAY) // step * step, end=now - (day - 1) * DAY,
            )  # fmt: skip
            engine.command(
                f"INSERT INTO otel.kernob_points{tier} SELECT MetricName, SeriesId, Start, "
                f"toDateTime(moment), grown, grown, 1 FROM ({rows}) {_SETTINGS}"
            )
    rows = _SERIES.format(start=start, step=INTERVAL, began=now - 60, first=now - DAY, end=now)
    engine.command(
        f"INSERT INTO otel.kernob_points SELECT MetricName, SeriesId, Start, "
        f"toDateTime64(moment, 3), grown FROM ({rows}) {_SETTINGS}"
    )


def _post(site: Site, body: bytes) -> None:
    headers = {"Content-Type": "application/x-protobuf"}
    request = urllib.request.Request(f"{site.url}/v1/metrics", body, headers)
    with urllib.request.urlopen(request, timeout=60):
        pass
