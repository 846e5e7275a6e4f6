"""From request to store: what came is checked, waits for its batch, and is answered once it is in.

Everything here is bounded by the bytes of requests that are in the server at once, from their
first byte to their answer. Two threads write, since the store does best with two; each takes all
that waits for one signal. A batch is natural: what came while the last one was written, and at
least `PAUSE` seconds of it, so that small requests do not make hundreds of parts a second.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
import time
from collections import Counter, deque
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Protocol

from kernob.errors import OverloadedError, RequestError, StoreError, StoreFullError
from kernob.server import otlp, otlp_json
from kernob.store.engine import Refused, Signal

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from kernob.server.otlp import Service

WRITERS: Final = 2
PARSERS: Final = 2
"""Threads that unpack (without Python's lock) and parse (with it): more would gain nothing."""
SMALL: Final = 32 << 10
"""Bytes up to which a request is parsed at once: the way to a thread and back costs 0.1 ms."""
PAUSE: Final = 0.5
"""Seconds between the beginnings of two inserts of one signal, unless a lot waits."""
BATCH_BYTES: Final = 16 << 20
BATCH_RECORDS: Final = 80_000
"""What an insert takes at most, but for a single request that is larger."""
LOT_BYTES: Final = 4 << 20
LOT_REQUESTS: Final = 50
"""What is a lot: about 20,000 data points, or as many senders that wait for their answer."""
LINGER: Final = 0.05
"""Seconds that a lot waits for more: an insert costs as much as 5,000 points, however small."""

FAILURE_SECONDS: Final = 60
"""For how long a failed write says how the store is, unless the signal is written again: senders
try again sooner, if there are any."""

log = logging.getLogger(__name__)


class Writes(Protocol):
    """What of the store is needed here."""

    def write(self, signal: Signal, bodies: Sequence[bytes]) -> list[Refused]:
        """Stores requests, see `kernob.store.store.Store.write`."""
        ...


@dataclass(slots=True)
class Figures:
    """What was done since the start; all but `waiting_bytes` only grow.

    Attributes:
        requests: by signal and what became of them: `stored`, `store_full`, `store_failed`, or the
            `outcome` of a `RequestError`.
        records: stored, by signal; what is lost the store counts.
        received_bytes: of the requests that were stored, unpacked, by signal.
        batches: inserts, by signal.
        insert_seconds: how long they took, by signal.
        waiting_bytes: of requests that are in the server now.
    """

    requests: Counter[tuple[Signal, str]] = field(default_factory=Counter)
    records: Counter[Signal] = field(default_factory=Counter)
    received_bytes: Counter[Signal] = field(default_factory=Counter)
    batches: Counter[Signal] = field(default_factory=Counter)
    insert_seconds: dict[Signal, float] = field(default_factory=lambda: dict.fromkeys(Signal, 0.0))
    waiting_bytes: int = 0


class Room:
    """The bytes that one request takes, out of those that may be in the server at once."""

    def __init__(self, figures: Figures, limit: int) -> None:
        self._figures = figures
        self._limit = limit
        self.taken = 0

    def take(self, size: int) -> None:
        """Takes that much more; a request that is alone may be larger than the limit.

        Raises:
            OverloadedError: there is no room for it now.
        """
        before = self._figures.waiting_bytes
        if before + size > self._limit and before > self.taken:
            raise OverloadedError(f"{before} bytes of requests wait already")
        self._resize(self.taken + size)

    def _resize(self, size: int) -> None:
        self._figures.waiting_bytes += size - self.taken
        self.taken = size

    def give_back(self) -> None:
        """Gives all back; twice is once."""
        self._resize(0)


@dataclass(slots=True)
class _Waiting:
    body: bytes
    records: int
    room: Room
    answer: asyncio.Future[Refused]


@dataclass(slots=True)
class _Line:
    """What waits for one signal."""

    waiting: deque[_Waiting] = field(default_factory=deque)
    size: int = 0
    since: float = 0.0
    """When the first of those that wait came."""
    began: float = 0.0
    """When the last insert began."""

    def ready_at(self) -> float:
        """Returns from when on it may be written; infinite if nothing waits."""
        if not self.waiting:
            return float("inf")
        lot = self.size >= LOT_BYTES or len(self.waiting) >= LOT_REQUESTS
        return self.since + LINGER if lot else max(self.since, self.began + PAUSE)

    def put(self, item: _Waiting) -> None:
        """Adds a request."""
        if not self.waiting:
            self.since = time.monotonic()
        self.waiting.append(item)
        self.size += len(item.body)

    def take(self) -> list[_Waiting]:
        """Returns the next batch."""
        batch: list[_Waiting] = []
        size = records = 0
        while self.waiting:
            size += len(self.waiting[0].body)
            records += self.waiting[0].records
            if batch and (size > BATCH_BYTES or records > BATCH_RECORDS):
                break
            batch.append(self.waiting.popleft())
            self.size -= len(batch[-1].body)
        self.began = self.since = time.monotonic()
        return batch


class Ingest:
    """Takes requests and has the store write them; all but `close` belongs to one event loop.

    Attributes:
        figures: what was done.
        largest_body: bytes of one request at most, as it comes and unpacked.
    """

    def __init__(self, store: Writes, *, largest_body: int, waiting: int) -> None:
        """Starts the writers.

        Args:
            store: takes the batches, from two threads.
            largest_body: bytes of one request at most, as it comes and unpacked.
            waiting: bytes of requests that may be in the server at once.
        """
        self.figures = Figures()
        self.largest_body = largest_body
        self._store = store
        self._limit = waiting
        self._loop = asyncio.get_running_loop()
        self._parsers = ThreadPoolExecutor(PARSERS, "kernob-parse")
        # JSON takes up to sixteen times its size in memory: one at a time.
        self._json = ThreadPoolExecutor(1, "kernob-json")
        self._lines = {service.signal: _Line() for service in otlp.SERVICES}
        self._changed = threading.Condition()
        self._closing = False
        self._failing: dict[Signal, tuple[str, float]] = {}
        self._writers = [
            threading.Thread(target=self._write, name=f"kernob-write-{number}", daemon=True)
            for number in range(WRITERS)
        ]
        for writer in self._writers:
            writer.start()

    @contextlib.contextmanager
    def room(self, signal: Signal) -> Iterator[Room]:
        """Gives a request its room for as long as it is read, and counts what became of it."""
        room = Room(self.figures, self._limit)
        try:
            yield room
        except RequestError as error:
            self.figures.requests[signal, error.outcome] += 1
            raise
        finally:
            room.give_back()

    def failure(self) -> str:
        """Returns which signal can't be stored now and why; empty if none is known to fail.

        A signal can't be stored if the latest attempt, of the last `FAILURE_SECONDS`, failed.
        """
        since = time.monotonic() - FAILURE_SECONDS
        latest = (
            f"{signal} can't be stored: {why}"
            for signal, (why, at) in self._failing.items()
            if at > since
        )
        return next(latest, "")

    async def take(
        self, service: Service, room: Room, body: bytes, *, encoding: str = "", json: bool = False
    ) -> Refused:
        """Has a request stored; returns what of it was not.

        Args:
            service: whose request it is.
            room: of the request, with its bytes as they came.
            body: as it came.
            encoding: how it is packed, one of `otlp.ENCODINGS`.
            json: it is in JSON, not in protobuf.

        Raises:
            MalformedError: it is not well-formed.
            TooLargeError: it is too large once unpacked.
            OverloadedError: too much waits already.
            StoreError: it could not be stored; it may be sent again.
        """
        if len(body) < SMALL and not (json or encoding):
            records = service.parse(body)
        else:
            pool, parse = (self._json, _parse_json) if json else (self._parsers, _parse)
            body, records = await self._loop.run_in_executor(
                pool, parse, service, body, encoding, self.largest_body
            )
        if not records:
            self.figures.requests[service.signal, "stored"] += 1
            return Refused()
        # From here on the request stays until it is stored, even if its sender goes away.
        room.give_back()
        queued = Room(self.figures, self._limit)
        queued.take(len(body))
        item = _Waiting(body, records, queued, self._loop.create_future())
        with self._changed:
            self._lines[service.signal].put(item)
            self._changed.notify()
        return await item.answer

    def _write(self) -> None:
        """Writes batch after batch; a writer's whole life."""
        while chosen := self._next_batch():
            self._write_batch(*chosen)
            del chosen  # its bodies are large

    def _next_batch(self) -> tuple[Signal, list[_Waiting]] | None:
        """Waits for the signal that is ready first; returns None at the end."""
        with self._changed:
            while True:
                signal, line = min(self._lines.items(), key=lambda item: item[1].ready_at())
                seconds = line.ready_at() - time.monotonic()
                if line.waiting and (seconds <= 0 or self._closing):
                    return signal, line.take()
                if self._closing:
                    return None
                self._changed.wait(seconds if line.waiting else None)

    def _write_batch(self, signal: Signal, batch: list[_Waiting]) -> None:
        begin = time.monotonic()
        outcome: list[Refused] | StoreError
        try:
            outcome = self._store.write(signal, [item.body for item in batch])
        except StoreError as error:
            outcome = error
        except Exception:
            # The writer must outlive it, and the senders must not take it for success.
            log.exception("a batch of %s was not stored", signal)
            outcome = StoreError("the store failed; the server's log says how")
        seconds = time.monotonic() - begin
        self._loop.call_soon_threadsafe(self._answer, signal, batch, outcome, seconds)

    def _answer(
        self,
        signal: Signal,
        batch: list[_Waiting],
        outcome: list[Refused] | StoreError,
        seconds: float,
    ) -> None:
        figures = self.figures
        figures.batches[signal] += 1
        figures.insert_seconds[signal] += seconds
        for item in batch:
            item.room.give_back()
        if isinstance(outcome, StoreError):
            self._say(signal, str(outcome))
            full = isinstance(outcome, StoreFullError)
            figures.requests[signal, "store_full" if full else "store_failed"] += len(batch)
            for item in batch:
                if not item.answer.done():
                    item.answer.set_exception(outcome)
            return
        self._say(signal, "")
        for item, refused in zip(batch, outcome, strict=True):
            figures.requests[signal, "stored"] += 1
            figures.records[signal] += item.records - refused.records
            figures.received_bytes[signal] += len(item.body)
            if not item.answer.done():
                item.answer.set_result(refused)

    def _say(self, signal: Signal, failure: str) -> None:
        """Keeps in mind why a signal can't be stored; logs that, and that it can be, once each."""
        if failure and signal not in self._failing:
            log.error("%s can't be stored, senders are asked to wait: %s", signal, failure)
        elif not failure and signal in self._failing:
            log.info("%s are stored again", signal)
            del self._failing[signal]
        if failure:
            self._failing[signal] = failure, time.monotonic()

    async def close(self) -> None:
        """Writes what waits, and ends the threads."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        for writer in self._writers:
            await asyncio.to_thread(writer.join)
        self._parsers.shutdown()
        self._json.shutdown()


def _parse(service: Service, body: bytes, encoding: str, largest: int) -> tuple[bytes, int]:
    """Returns a request in protobuf, unpacked, and how many records it holds."""
    body = otlp.unpack(encoding, body, largest)
    return body, service.parse(body)


def _parse_json(service: Service, body: bytes, encoding: str, largest: int) -> tuple[bytes, int]:
    """As `_parse`, of a request in JSON."""
    message = otlp_json.to_message(otlp.unpack(encoding, body, largest), service.request)
    return message.SerializeToString(), service.count(message)
