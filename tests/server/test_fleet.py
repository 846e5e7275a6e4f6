"""Many agents at once: every point is in, and Traffic shows what they sent, to the byte."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from bench import fleet, host
from serving import Serving

if TYPE_CHECKING:
    from pathlib import Path

AGENTS = 200
ROUNDS = 2
INTERVAL = 2.0


def test_what_two_hundred_agents_count_is_what_traffic_shows(tmp_path: Path) -> None:
    sender = host.compile_c("sender", tmp_path)
    with Serving(tmp_path).running() as server:
        agents = fleet.make(agents=AGENTS, rounds=ROUNDS, interval=INTERVAL)

        sent = agents.send(sender, server.port, tmp_path)

        assert sent.requests == AGENTS * ROUNDS
        assert sent.seconds >= (ROUNDS - 1) * INTERVAL
        stored = [
            server.value(f"SELECT count() FROM otel.{table} WHERE ServiceName = 'kernob-agent'")
            for table in ("otel_metrics_sum", "otel_metrics_gauge")
        ]
        assert sum(stored) == agents.points
        moments = "SELECT count(DISTINCT TimeUnix) FROM otel.otel_metrics_sum"
        assert server.value(f"{moments} WHERE ServiceName = 'kernob-agent'") == AGENTS * ROUNDS
        begin = agents.start // 1_000_000 - 60_000
        traffic = server.get(
            "/api/traffic", **{"from": begin, "to": int(time.time() * 1000), "limit": 10_000}
        )
        assert {row["name"]: row["transmit"] for row in traffic["rows"]} == agents.moved(0)
        assert {row["name"]: row["receive"] for row in traffic["rows"]} == agents.moved(1)
        assert traffic["transmit"] == sum(agents.moved(0).values())
        assert traffic["receive"] == sum(agents.moved(1).values())
        hosts = {row["host"] for row in server.get("/api/agents")["rows"]}
        assert hosts == {agent.host for agent in agents.agents}
