"""Tables made by hand, shared by the tests of `kernob.top`."""

from __future__ import annotations

import itertools
import threading
from typing import TYPE_CHECKING

import msgspec

from kernob.errors import KernobError
from kernob.traffic import Row, Table

if TYPE_CHECKING:
    from collections.abc import Callable

GONE = KernobError("no agent answers", remedy="start one")


def make_row(pid: int, name: str, **changes: object) -> Row:
    values: dict[str, object] = {
        "pid": pid,
        "start": pid * 1000,
        "executable": name,
        "command": f"/usr/bin/{name} --serve",
        "user": "www",
        "unit": "",
        "container": "",
        "service": f"{name}.service",
        "transport": "tcp",
        "type": "ipv4",
        "peer": "10.0.0.7",
        "port": 443,
        "side": "client",
        "transmit": 0,
        "receive": 0,
        "operations": 0,
        "connections": 1,
        "ended": False,
    }
    return msgspec.convert(values | changes, Row)


def make_table(seconds: float, rows: list[Row], **changes: object) -> Table:
    values: dict[str, object] = {
        "time": int(seconds * 1e9),
        "host": "web-01",
        "version": "0.1.0",
        "mode": "ebpf",
        "description": "counted in the kernel by eBPF: exact",
        "losses": {},
        "rows": rows,
    }
    return msgspec.convert(values | changes, Table)


def shop(seconds: float) -> list[Row]:
    """A web server with two peers, two workers of a shop, a quiet agent; all at known rates."""

    def moving(pid: int, name: str, transmit: float, receive: float, **more: object) -> Row:
        moved = {
            "transmit": int(transmit * seconds),
            "receive": int(receive * seconds),
            "operations": int(10 * seconds) if transmit else 0,
        }
        return make_row(pid, name, **(moved | more))

    return [
        moving(100, "nginx", 4000, 1000, peer="client", side="server"),
        moving(100, "nginx", 2000, 3000, peer="shop", port=8080),
        moving(201, "python3", 1500, 1000, service="shop", peer="nginx.service", port=8080),
        moving(202, "python3", 1400, 1000, service="shop", peer="db", port=5432, user="eva"),
        moving(300, "agent", 0, 0),
    ]


class Feed:
    """A source whose tables the test makes: one second apart, however fast they are asked for."""

    def __init__(self, rows: Callable[[float], list[Row]] = shop, **changes: object) -> None:
        self.rows = rows
        self.changes = changes
        self.broken = False
        self.given = 0
        self.frozen = threading.Event()
        self._seconds = itertools.count(1000)
        self._table: Table | None = None

    def __call__(self) -> Table:
        if self.broken:
            raise GONE
        if self._table is None or not self.frozen.is_set():
            seconds = next(self._seconds)
            self._table = make_table(seconds, self.rows(seconds), **self.changes)
        self.given += 1
        return self._table
