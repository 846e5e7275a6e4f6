"""The store: what the server writes to and the queries read from."""

from __future__ import annotations

import hashlib
import time
from typing import TYPE_CHECKING

from kernob.store import decode, schema
from kernob.store.embedded import Embedded, default_folder
from kernob.store.engine import Limits, Refused, Signal, Source

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pyarrow as pa

    from kernob import config
    from kernob.store.engine import Engine, Reader


class Store:
    """All that was sent. Methods may be called from any thread; two that write at once are right."""

    def __init__(self, engine: Engine, settings: config.Store) -> None:
        self.engine = engine
        self.settings = settings

    @classmethod
    def open(cls, settings: config.Store) -> Store:
        """Opens the store, and makes or migrates what it needs.

        Raises:
            StoreBusyError: another process holds it.
            StoreError: it can't be opened, or is of a newer Kernob.
        """
        engine = Embedded(settings.path or default_folder())
        try:
            schema.prepare(engine, settings)
        except BaseException:
            engine.close()
            raise
        return cls(engine, settings)

    def write(self, signal: Signal, bodies: Sequence[bytes]) -> list[Refused]:
        """Stores whole export requests (protobuf, well-formed) of one signal.

        Returns:
            One for each body: what was refused of it.

        Raises:
            StoreFullError: no space; nothing was acknowledged, send again later.
            StoreError: it failed otherwise.
        """
        now = time.time_ns()
        keep = int(getattr(self.settings, f"{signal}_retention"))
        bounds = decode.Bounds(now - keep * 10**9, now + decode.FUTURE)
        database = self.settings.database
        if signal == Signal.PROFILES:
            for body in bodies:
                name = hashlib.blake2b(body, digest_size=16).hexdigest()
                statement = decode.profiles(database, name, bounds)
                self._insert(statement, decode.MESSAGES[signal], body)
            return [Refused() for _ in bodies]
        body = b"".join(bodies)
        if signal == Signal.TRACES:
            statements = [decode.traces(database, bounds)]
        elif signal == Signal.LOGS:
            statements = [decode.logs(database, bounds)]
        else:
            survey = decode.survey(signal, bounds)
            source = Source(survey.structure, decode.SCHEMA, decode.MESSAGES[signal], body)
            counts = self.engine.select(survey.sql, source)
            statements = [
                decode.metrics(database, kind, bounds)
                for kind in schema.KINDS
                if counts.num_rows and sum(counts[kind].to_pylist())
            ]
        for statement in statements:
            self._insert(statement, decode.MESSAGES[signal], body)
        return [Refused() for _ in bodies]

    def _insert(self, statement: decode.Statement, message: str, body: bytes) -> None:
        source = Source(statement.structure, decode.SCHEMA, message, body)
        self.engine.insert(statement.sql, source)

    def reader(self, limits: Limits | None = None, tag: str = "") -> Reader:
        """Returns what answers questions; `cancel(tag)` ends them."""
        return _Reader(self.engine, limits or Limits(), tag)

    def cancel(self, tag: str) -> None:
        """Ends the queries of the reader with this tag."""
        self.engine.cancel(tag)

    def close(self) -> None:
        """Waits for what runs and lets go of the store."""
        self.engine.close()


class _Reader:
    def __init__(self, engine: Engine, limits: Limits, tag: str) -> None:
        self._engine = engine
        self._limits = limits
        self._tag = tag

    def read(self, query: str, **parameters: object) -> pa.Table:
        return self._engine.read(query, parameters, self._limits, self._tag)
