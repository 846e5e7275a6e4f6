"""kill -9 under load: what was acknowledged is there after the restart, and once."""

from __future__ import annotations

import itertools
import random
import threading
import time
from typing import TYPE_CHECKING

import httpx
import pytest

from server import records
from servers import wait_until
from serving import Serving

if TYPE_CHECKING:
    from pathlib import Path

KILLS = 2
RECORDS = 20  # of a request


class Sender(threading.Thread):
    """Sends request after request, each with new ids, until the server goes away.

    Attributes:
        acknowledged: ids of records whose request was answered.
        unanswered: the last request, and its ids, that was not.
    """

    def __init__(self, signal: str, name: str, url: str) -> None:
        super().__init__(name=name)
        self.signal = signal
        self.url = url
        self.acknowledged: set[str] = set()
        self.unanswered: list[tuple[bytes, list[str]]] = []

    def run(self) -> None:
        headers = {"Content-Type": "application/x-protobuf"}
        with httpx.Client(base_url=self.url, headers=headers, trust_env=False) as client:
            for number in itertools.count():
                ids = [f"{self.name}-{number}-{i}" for i in range(RECORDS)]
                body = request(self.signal, ids)
                try:
                    answer = client.post(records.PATHS[self.signal], content=body)
                except httpx.TransportError:
                    self.unanswered.append((body, ids))
                    return
                assert answer.status_code == 200, answer.text
                assert not answer.content, "something was refused"
                self.acknowledged.update(ids)


def request(signal: str, ids: list[str]) -> bytes:
    if signal == "metrics":
        return records.metrics(dict.fromkeys(ids, 7))
    return records.traces(ids) if signal == "traces" else records.logs(ids)


@pytest.mark.timeout(120)
def test_what_was_acknowledged_survives_kill_9_and_is_there_once(tmp_path: Path) -> None:
    server = Serving(tmp_path)
    finished: list[Sender] = []
    with server.running():
        for kill in range(KILLS):
            senders = [
                Sender(signal, f"{signal}-{kill}-{i}", server.url)
                for signal in records.PATHS
                for i in range(2)
            ]
            for sender in senders:
                sender.start()
            wait_until(lambda s=senders: all(len(x.acknowledged) >= 2 * RECORDS for x in s), "load")
            time.sleep(random.random() / 2)
            server.kill()
            for sender in senders:
                sender.join(30)
                assert not sender.is_alive()
            finished += senders
            server.start()

        for signal in records.PATHS:
            acknowledged = {one for s in finished if s.signal == signal for one in s.acknowledged}
            ids = found(server, signal)
            assert acknowledged <= set(ids)
            assert len(ids) == len(set(ids)), "stored twice, though sent once"

        # Senders send again what was not answered: then a record may be there twice.
        for sender in finished:
            for body, ids in sender.unanswered:
                assert server.send(records.PATHS[sender.signal], body).status_code == 200
                sender.acknowledged.update(ids)
        for signal in records.PATHS:
            every = {one for s in finished if s.signal == signal for one in s.acknowledged}
            assert set(found(server, signal)) == every
        # But a counter reads the same.
        sums = server.rows(
            "SELECT SeriesId, max(Max) AS Value FROM otel.kernob_points_1m GROUP BY SeriesId"
        )
        assert len(sums) == len(set(found(server, "metrics")))
        assert {row["Value"] for row in sums} == {7.0}


def found(server: Serving, signal: str) -> list[str]:
    table, expression = records.IDS[signal]
    return [row["id"] for row in server.rows(f"SELECT {expression} AS id FROM otel.{table}")]
