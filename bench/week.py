"""A store with a week of 100 services, made in seconds.

The series are made by the server, of requests as agents send them: 4,000 of `kernob.network.io`
from four hosts, and all 50 of each of 20 simulated agents. Their points are then computed by SQL,
straight into each of the narrow tables (through the views it would take many minutes): the last day
every 15 seconds, as sent, and seven days in each rollup. Counters grow, gauges stay.
"""

from __future__ import annotations

import contextlib
import time
import urllib.request
from typing import TYPE_CHECKING, Final

from bench import asked, bodies, fleet, host
from kernob.config import Store as StoreSettings
from kernob.store.store import Store

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bench.kernob import Site
    from kernob.store.engine import Engine

DAY: Final = 86_400
HOSTS: Final = 4
AGENTS: Final = 20
INTERVAL: Final = 15
AHEAD: Final = 1800
"""Seconds: the points go on for so long after now, so that something moves while pages are read."""
TIERS: Final = {"_1m": 60, "_5m": 300, "_1h": 3600}
# A counter's rate is its own, and its service's, from one byte to 1 MB per second; it swings.
_GROWN: Final = """
floor(multiIf(Value = 0, 0, startsWith(MetricName, 'kernob.agent'), 0.01,
    exp10(SeriesId % 1000 / 500 + Of % 100 / 25))
    * (moment - {start} + 800 * sin(moment / 4000 + SeriesId % 7)))"""
_POINTS: Final = f"""
SELECT MetricName, SeriesId, toDateTime64({{start}}, 3) AS Start,
    arrayJoin(range(toUInt32({{first}}), toUInt32({{end}}), {{step}})) AS moment,
    if(IsMonotonic, {_GROWN}, Value) AS grown
FROM otel.bench_series WHERE Number >= {{low}} AND Number < {{high}}"""
_ROWS_AT_ONCE: Final = 2_000_000


def fill(site: Site, *, days: int = 7) -> None:
    """Makes the store of a site, which must not run."""
    now = int(time.time()) // INTERVAL * INTERVAL
    with site.server():
        source = bodies.Points(HOSTS * bodies.SERIES, HOSTS)
        for body in source.bodies(1, now * bodies.SECOND, bodies.SECOND):
            _post(site, body)
        made = fleet.make(agents=AGENTS, rounds=1, interval=1.0, start=now * bodies.SECOND)
        for agent in made.agents:
            _post(site, agent.body)
        for body in asked.bodies(now * bodies.SECOND):
            _post(site, body)
    with contextlib.closing(Store.open(StoreSettings(path=site.store))) as store:
        _compute(store.engine, now, days)


def _compute(engine: Engine, now: int, days: int) -> None:
    host.say("a week of 100 services")
    # The views are there again when the server opens the store.
    for tier in TIERS:
        engine.command(f"DROP VIEW otel.kernob_rollup{tier}")
        engine.command(f"DROP VIEW otel.kernob_histograms_rollup{tier}")
    engine.command(
        "CREATE TABLE otel.bench_series ENGINE = Memory AS SELECT *, "
        "rowNumberInAllBlocks() AS Number FROM (SELECT MetricName, SeriesId, Value, IsMonotonic, "
        "cityHash64(CAST(Service, 'String')) AS Of FROM otel.kernob_points "
        "INNER JOIN otel.kernob_series USING (MetricName, SeriesId) WHERE Host != '' "
        "ORDER BY MetricName, SeriesId)"
    )
    for tier in ("", *TIERS):
        engine.command(f"TRUNCATE TABLE otel.kernob_points{tier}")
    for day in (-1, *range(1, days + 1)):
        engine.command(
            f"INSERT INTO otel.kernob_series SELECT * REPLACE (toDate({now - day * DAY}) AS Day) "
            f"FROM otel.kernob_series WHERE Day = toDate({now})"
        )
    asked.compute(engine, now, now + AHEAD, days)
    start, until = now - days * DAY - 3600, now + AHEAD
    for tier, step in TIERS.items():
        for day in range(days, 0, -1):
            first, end = until - day * DAY, until - (day - 1) * DAY
            for rows in _rows(start, first // step * step, end, step):
                engine.command(
                    f"INSERT INTO otel.kernob_points{tier} SELECT MetricName, SeriesId, Start, "
                    f"toDateTime(moment), grown, grown, 1 FROM ({rows})"
                )
    for rows in _rows(start, until - DAY, until, INTERVAL):
        engine.command(
            "INSERT INTO otel.kernob_points SELECT MetricName, SeriesId, Start, "
            f"toDateTime64(moment, 3), grown FROM ({rows})"
        )
    engine.command("DROP TABLE otel.bench_series")


def _rows(start: int, first: int, end: int, step: int) -> Iterator[str]:
    """Yields SELECTs of all points within a day, some million rows each: memory is bounded."""
    series = HOSTS * bodies.SERIES + AGENTS * fleet.SERIES
    at_once = _ROWS_AT_ONCE * step // DAY
    for low in range(0, series, at_once):
        yield _POINTS.format(
            start=start, first=first, end=end, step=step, low=low, high=low + at_once
        )


def _post(site: Site, body: bytes) -> None:
    headers = {"Content-Type": "application/x-protobuf"}
    request = urllib.request.Request(f"{site.url}/v1/metrics", body, headers)
    with urllib.request.urlopen(request, timeout=60):
        pass
