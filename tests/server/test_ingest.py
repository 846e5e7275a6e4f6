"""Between request and store: batches, bounds, and that nothing taken is lost."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

import pytest

from kernob import config
from kernob.errors import MalformedError, OverloadedError, StoreError
from kernob.server import ingest as ingest_module
from kernob.server import otlp
from kernob.server.ingest import BATCH_RECORDS, PAUSE, WRITERS, Ingest
from kernob.store import embedded
from kernob.store.engine import Refused, Signal
from kernob.store.store import Store
from server import records

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

METRICS, TRACES, LOGS, _ = otlp.SERVICES
COUNT = "SELECT count(), uniqExact(LogAttributes['id']) FROM otel.otel_logs"


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    store = Store.open(config.Store(path=tmp_path_factory.mktemp("ingest") / "store"))
    yield store
    store.close()


@pytest.fixture
def store(opened: Store) -> Store:
    opened.engine.command("TRUNCATE TABLE otel.otel_logs")
    return opened


def ingesting(
    store: Store, scenario: Callable[[Ingest], Awaitable[None]], *, waiting: int = 64 << 20
) -> Ingest:
    """Plays a scenario and returns what took it, closed."""

    async def play() -> Ingest:
        ingest = Ingest(store, largest_body=16 << 20, waiting=waiting)
        try:
            await scenario(ingest)
        finally:
            await ingest.close()
        return ingest

    return asyncio.run(play())


async def take(
    ingest: Ingest, body: bytes, service: otlp.Service = LOGS, *, json: bool = False
) -> Refused:
    with ingest.room(service.signal) as room:
        room.take(len(body))
        return await ingest.take(service, room, body, json=json)


def found(store: Store, query: str = COUNT) -> tuple[int, ...]:
    table = store.reader().read(query)
    return tuple(column[0].as_py() for column in table.columns)


def test_small_requests_are_written_together(store: Store) -> None:
    async def scenario(ingest: Ingest) -> None:
        bodies = [records.logs([str(number)]) for number in range(300)]
        assert await asyncio.gather(*(take(ingest, body) for body in bodies)) == [Refused()] * 300

    figures = ingesting(store, scenario).figures

    assert found(store) == (300, 300)
    assert figures.batches[Signal.LOGS] <= 3
    assert figures.requests == {(Signal.LOGS, "stored"): 300}
    assert (figures.records[Signal.LOGS], figures.waiting_bytes) == (300, 0)


def test_inserts_of_one_signal_begin_with_a_pause_between_them(store: Store) -> None:
    async def scenario(ingest: Ingest) -> None:
        begin = asyncio.get_running_loop().time()
        for number in range(4):
            await take(ingest, records.logs([str(number)]))
        assert asyncio.get_running_loop().time() - begin > 3 * PAUSE

    ingesting(store, scenario)


def test_a_lot_is_written_at_once_and_in_batches_of_bounded_size(store: Store) -> None:
    ids = [str(number) for number in range(BATCH_RECORDS // 4 + 1)]
    body = records.logs(ids)

    async def scenario(ingest: Ingest) -> None:
        await asyncio.gather(*(take(ingest, body) for _ in range(8)))

    figures = ingesting(store, scenario).figures

    assert found(store) == (8 * len(ids), len(ids))
    assert figures.batches[Signal.LOGS] >= 3


def test_signals_do_not_wait_for_each_other(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ingest_module, "PAUSE", 1.0)

    async def scenario(ingest: Ingest) -> None:
        await take(ingest, records.logs(["a"]))
        waits = asyncio.create_task(take(ingest, records.logs(["b"])))
        await take(ingest, records.traces(["a"]), TRACES)
        await take(ingest, records.metrics({"a": 1}), METRICS)
        assert not waits.done()
        await waits

    ingesting(store, scenario)


def test_who_goes_away_leaves_what_was_taken(store: Store) -> None:
    async def scenario(ingest: Ingest) -> None:
        await take(ingest, records.logs(["first"]))
        waits = asyncio.create_task(take(ingest, records.logs(["second"])))
        await asyncio.sleep(PAUSE / 4)
        size = ingest.figures.waiting_bytes
        waits.cancel()
        await asyncio.sleep(0)
        assert ingest.figures.waiting_bytes == size > 0

    ingest = ingesting(store, scenario)

    assert found(store) == (2, 2)
    assert ingest.figures.waiting_bytes == 0
    assert ingest.figures.requests == {(Signal.LOGS, "stored"): 2}


def test_what_waits_at_the_end_is_written(store: Store) -> None:
    late: list[asyncio.Task[Refused]] = []

    async def scenario(ingest: Ingest) -> None:
        await take(ingest, records.logs(["0"]))
        late.extend(asyncio.create_task(take(ingest, records.logs([str(n)]))) for n in range(1, 50))
        await asyncio.sleep(PAUSE / 4)

    ingesting(store, scenario)

    assert found(store) == (50, 50)
    assert [task.result() for task in late] == [Refused()] * 49


def test_each_request_learns_what_of_it_was_refused(store: Store) -> None:
    async def scenario(ingest: Ingest) -> None:
        bodies = [records.logs(["a"]), records.logs(["b", "c"], at=1), records.logs(["d"])]
        answers = await asyncio.gather(*(take(ingest, body) for body in bodies))
        assert [answer.records for answer in answers] == [0, 2, 0]
        assert answers[1].reason

    figures = ingesting(store, scenario).figures

    assert found(store) == (2, 2)
    assert figures.records[Signal.LOGS] == 2


def test_a_request_larger_than_all_room_is_taken_alone(store: Store) -> None:
    async def scenario(ingest: Ingest) -> None:
        large = asyncio.create_task(take(ingest, records.logs(["large"], body="x" * 5000)))
        await asyncio.sleep(0)
        with pytest.raises(OverloadedError):
            await take(ingest, records.logs(["small"]))
        await large
        await take(ingest, records.logs(["later"]))

    figures = ingesting(store, scenario, waiting=1000).figures

    assert figures.requests == {(Signal.LOGS, "stored"): 2, (Signal.LOGS, "overloaded"): 1}


def test_a_failure_is_told_to_all_it_concerns_and_said_once(
    store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")

    async def scenario(ingest: Ingest) -> None:
        store.engine.command("RENAME TABLE otel.otel_logs TO otel.away")
        bodies = [records.logs([str(number)]) for number in range(10)]
        for _ in range(2):
            failed = await asyncio.gather(
                *(take(ingest, body) for body in bodies), return_exceptions=True
            )
            assert {type(error) for error in failed} == {StoreError}
        assert await take(ingest, records.traces(["other"]), TRACES) == Refused()
        store.engine.command("RENAME TABLE otel.away TO otel.otel_logs")
        await asyncio.gather(*(take(ingest, body) for body in bodies))

    figures = ingesting(store, scenario).figures

    assert found(store) == (10, 10)
    assert figures.requests[Signal.LOGS, "store_failed"] == 20
    said = [r.message for r in caplog.records if r.name == "kernob.server.ingest"]
    assert [text.partition(",")[0] for text in said] == [
        "logs can't be stored", "logs are stored again",
    ]  # fmt: skip


def test_json_and_malformed_requests(store: Store) -> None:
    async def scenario(ingest: Ingest) -> None:
        record = (
            b'{"resourceLogs":[{"scopeLogs":[{"logRecords":[{"observedTimeUnixNano":"%d"}]}]}]}'
        )
        await take(ingest, record % time.time_ns(), json=True)
        with pytest.raises(MalformedError):
            await take(ingest, b"[", json=True)
        with pytest.raises(MalformedError):
            await take(ingest, b"\xff")
        large = records.logs(["x"], body="x" * 100_000)
        with pytest.raises(MalformedError):
            await take(ingest, large[:-1])

    figures = ingesting(store, scenario).figures

    assert figures.requests == {(Signal.LOGS, "stored"): 1, (Signal.LOGS, "malformed"): 3}
    assert figures.waiting_bytes == 0


def test_as_many_writers_as_the_store_has_connections() -> None:
    assert WRITERS == embedded.WRITERS
