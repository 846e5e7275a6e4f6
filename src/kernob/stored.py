"""`kernob store`: what is stored, in words and as JSON."""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import msgspec

from kernob.errors import ConfigError, QueryError
from kernob.queries import ranges
from kernob.rates import bytes_text
from kernob.store import admin
from kernob.store.engine import Signal

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from kernob.store.store import Store


def moment(text: str | None, option: str) -> datetime | None:
    """Returns the time that an option says (see `ranges.moment`), None if it says none.

    Raises:
        ConfigError: it is no time.
    """
    if text is None:
        return None
    try:
        return datetime.fromtimestamp(ranges.moment(text, int(time.time() * 1000)) / 1000, UTC)
    except QueryError as error:
        raise ConfigError(f"{option}: {error}") from error


@dataclass(frozen=True, slots=True)
class Wanted:
    """What to drop: rows that meet all that is said.

    Attributes:
        signal: None for all.
        service: empty for all.
        before: None for all.
    """

    signal: Signal | None
    service: str
    before: datetime | None

    @classmethod
    def parse(cls, signal: str | None, service: str, before: str | None) -> Wanted:
        """Returns what the options say.

        Raises:
            ConfigError: they say nothing, or `before` is no time.
        """
        if not (signal or service or before):
            raise ConfigError(
                "what to drop is not said", remedy="give --signal, --service or --before"
            )
        return cls(Signal(signal) if signal else None, service, moment(before, "--before"))

    def __str__(self) -> str:
        """Returns it in words."""
        words = [f"all {self.signal or 'that is stored'}"]
        if self.service:
            words.append(f"of the service {self.service}")
        if self.before:
            words.append(f"from before {_time(self.before)}")
        return " ".join(words)


def sizes(store: Store, *, as_json: bool) -> str:
    """Returns how large each table is, and how many rows each service has.

    Raises:
        StoreError: the store can't be read.
    """
    tables, services = admin.sizes(store), admin.services(store)
    if as_json:
        body = msgspec.json.encode({"tables": tables, "services": services})
        return msgspec.json.format(body).decode() + "\n"
    used = [
        (t.table, str(t.signal), f"{t.rows:,}", bytes_text(t.bytes), _time(t.oldest))
        for t in tables
        if t.rows
    ]
    total = ("all", "", "", bytes_text(sum(t.bytes for t in tables)), "")
    counts = [(s.service or "(no name)", str(s.signal), f"{s.rows:,}") for s in services]
    return (
        _aligned([("table", "signal", "rows", "size", "oldest row (UTC)"), *used, total])
        + "\n"
        + _aligned([("service", "signal", "rows"), *counts])
    )


def drop(store: Store, wanted: Wanted) -> str:
    """Drops what is wanted; returns what is gone.

    Raises:
        StoreError: the store failed.
    """
    dropped = admin.drop(store, signal=wanted.signal, service=wanted.service, before=wanted.before)
    rows = [(one.table, f"{one.rows:,}") for one in dropped]
    return _aligned([("table", "rows dropped"), *rows]) if rows else "nothing is so: none dropped\n"


def export(store: Store, folder: Path, start: datetime | None, end: datetime | None) -> str:
    """Writes Parquet files; returns what is in them.

    Raises:
        StoreError: a file can't be written, or the store not read.
    """
    return _files(admin.export(store, folder, start=start, end=end), "written")


def import_(store: Store, folder: Path) -> str:
    """Adds what Parquet files hold; returns what that was.

    Raises:
        StoreError: there are none, one can't be read, or the store failed.
    """
    return _files(admin.import_(store, folder), "read")


def _files(files: Sequence[admin.TableFile], done: str) -> str:
    rows = [(str(one.file), f"{one.rows:,}") for one in files]
    return _aligned([("file", f"rows {done}"), *rows]) if rows else "nothing is stored\n"


def _time(time: datetime | None) -> str:
    return f"{time.astimezone(UTC):%Y-%m-%d %H:%M:%S}" if time else ""


def _aligned(rows: Iterable[Sequence[str]]) -> str:
    """Returns a table; numbers and sizes to the right."""
    rows = list(rows)
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    right = [title.startswith(("rows", "size")) for title in rows[0]]
    lines = [
        "  ".join(
            cell.rjust(width) if to_right else cell.ljust(width)
            for cell, width, to_right in zip(row, widths, right, strict=True)
        ).rstrip()
        for row in rows
    ]
    return "\n".join(lines) + "\n"
