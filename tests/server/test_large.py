"""A store of ten million points: questions are answered in time, and memory is bounded."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import httpx
import pytest

from kernob.config import Store as Settings
from kernob.store.store import Store
from serving import Serving

if TYPE_CHECKING:
    from collections.abc import Iterator

BATCH = 100_000
ROWS = 10_000_000
SERVICES, PEERS = 100, 10
SERIES = SERVICES * PEERS * 2
INTERVAL = 15
SLOW = 10.0  # seconds, after which a page's question is refused; how quick it is: the benchmark
MEMORY = 1 << 30

# Point n is of series n % SERIES, round n / SERIES; in each round a series moves 1,000 bytes.
FILL = f"""
INSERT INTO otel.otel_metrics_sum (ResourceAttributes, ScopeName, ServiceName, MetricName,
    MetricUnit, Attributes, StartTimeUnix, TimeUnix, Value, AggregationTemporality, IsMonotonic)
SELECT
    map('service.name', 'kernob-agent', 'host.name', 'host-' || toString(series % 10)),
    'kernob', 'kernob-agent', 'kernob.network.io', 'By',
    map('service.name', 'service-' || toString(series % {SERVICES}),
        'network.io.direction', if(series % 2000 < 1000, 'transmit', 'receive'),
        'network.transport', 'tcp', 'network.type', 'ipv4', 'kernob.side', 'client',
        'kernob.peer', 'peer-' || toString(intDiv(series, {SERVICES}) % {PEERS}),
        'server.port', '443'),
    fromUnixTimestamp64Nano(toInt64({{start}})),
    fromUnixTimestamp64Nano(toInt64({{start}} + round * {INTERVAL} * 1000000000)),
    round * 1000, 2, true
FROM (SELECT number % {SERIES} AS series, intDiv(number, {SERIES}) + 1 AS round
      FROM numbers({{first}}, {{count}}))
"""


@pytest.fixture(scope="module")
def start() -> int:
    """When all series began, nanoseconds."""
    return time.time_ns() - (ROWS // SERIES + 1) * INTERVAL * 10**9


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, start: int) -> Iterator[Serving]:
    folder = tmp_path_factory.mktemp("large")
    store = Store.open(Settings(path=folder / "store"))
    for first in range(0, ROWS, BATCH):
        store.engine.command(FILL.format(start=start, first=first, count=BATCH))
    store.close()
    with Serving(folder).running() as server:
        yield server


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_pages_of_ten_million_points_are_right_and_soon_there(server: Serving, start: int) -> None:
    assert server.value("SELECT count() FROM otel.otel_metrics_sum") >= ROWS
    begin = start // 1_000_000 - 60_000

    took, traffic = timed(server, "/api/traffic", **{"from": begin, "to": "now", "limit": 1000})

    moved = ROWS // SERIES * 1000 * PEERS
    assert {(row["transmit"], row["receive"]) for row in traffic["rows"]} == {(moved, moved)}
    assert len(traffic["rows"]) == SERVICES
    assert took < SLOW
    for path in ("/api/overview", "/api/agents"):
        assert timed(server, path, **{"from": "now-24h"})[0] < SLOW
    assert timed(server, "/api/search", q="service-4")[0] < SLOW
    assert server.resident() < MEMORY


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_sql_over_ten_million_points_stays_within_its_limits(server: Serving) -> None:
    queries = {
        "SELECT count(), max(Value) FROM otel.otel_metrics_sum": (200,),
        "SELECT * FROM otel.otel_metrics_sum LIMIT 1000": (200,),
        # More memory, or more time, than a question may take.
        "SELECT a.Value FROM otel.otel_metrics_sum AS a "
        "CROSS JOIN otel.otel_metrics_sum AS b ORDER BY a.Value * b.Value LIMIT 1": (422,),
        "SELECT count() FROM "
        "(SELECT DISTINCT Value, Attributes, generateUUIDv4() FROM otel.otel_metrics_sum)": (422,),
    }
    for query, wanted in queries.items():
        answer = httpx.post(
            f"{server.url}/api/query", json={"query": query}, timeout=60, trust_env=False
        )
        assert answer.status_code in wanted, f"{query}: {answer.status_code} {answer.text[:500]}"
        assert server.resident() < MEMORY
    assert server.ready()


def timed(server: Serving, path: str, **parameters: str | int) -> tuple[float, dict[str, object]]:
    """Returns the seconds that an answer took, and the answer."""
    begin = time.monotonic()
    answer = server.get(path, **parameters)
    return time.monotonic() - begin, answer
