"""The traffic of all hosts that a server knows, for the same table."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final
from urllib.parse import urlencode

from kernob.queries.model import Traffic, TrafficRow
from kernob.rates import Flow, Moved, Sample, View
from kernob.top.remote import ask
from kernob.traffic import Row, Table

if TYPE_CHECKING:
    from collections.abc import Callable

PATH: Final = "/api/traffic"
RANGE: Final = "now-15m"
"""Totals are of this range; rates of its latest step, 5 s: one lets late agents look idle."""
ROWS: Final = 1000


def traffic_of_server(url: str, token: str = "", host: str = "") -> Callable[[View], Sample]:
    """Returns a source of samples for `kernob.top.run` and `once`.

    Args:
        url: of the server, such as `http://127.0.0.1:4318`.
        token: the bearer token that guards it, if it has one.
        host: only what is of this host; empty for all.

    The source raises:
        ConfigError: `url` isn't one of a server, or the server refuses the token.
        KernobError: nobody answers there, or not as a server does.
    """

    def look(view: View) -> Sample:
        query = {"from": RANGE, "to": "now", "by": view, "top": 1, "limit": ROWS}
        if host:
            query["host"] = host
        found = ask(f"{url.rstrip('/')}{PATH}?{urlencode(query)}", token, Traffic, "server")
        table = _table(found, host or url.partition("://")[2])
        flows = [
            # In a second: rates are what the server tells.
            Flow(row, Moved(round(one.transmit_rate), round(one.receive_rate), 0))
            for one, row in zip(found.rows, table.rows, strict=True)
        ]
        return Sample(table, 1.0, flows, by=view)

    return look


def _table(found: Traffic, name: str) -> Table:
    known = found.provenance
    about = "" if known.exact else "some agents poll: see `kernob doctor` on their hosts"
    left_off = f"{found.rows_left_off:,} more rows are not shown" if found.rows_left_off else ""
    return Table(
        time=time.time_ns(),
        host=name,
        version="",
        mode="ebpf" if known.exact else "polling",
        description="; ".join(part for part in (about, left_off) if part),
        losses={reason: round(count) for reason, count in known.lost.items()},
        rows=[_row(found, row) for row in found.rows],
    )


def _row(found: Traffic, row: TrafficRow) -> Row:
    service = row.name if found.by == "service" else row.service
    return Row(
        pid=row.pid,
        start=0,
        executable=row.name if found.by == "process" else "",
        command="",
        user="",
        unit="",
        container="",
        service=service,
        transport="",
        type="",
        peer=row.name if found.by == "peer" else "",
        port=0,
        side="",
        transmit=row.transmit,
        receive=row.receive,
        operations=row.operations or 0,
        connections=row.connections or 0,
        ended=False,
        host=", ".join(row.hosts),
    )
