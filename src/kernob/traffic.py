"""The traffic table: who moves how much, as `kernob top` and `GET /api/network` show it.

One table of rows with cumulative figures; two of them, some time apart, make rates. The agent
serves it as JSON, so that `top` shows what the agent counts instead of counting a second time.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from kernob.signals.accounts import Accounts, FlowRow


class Row(msgspec.Struct, frozen=True):
    """What one process has moved with one peer, since the agent or the process started.

    Attributes:
        pid: 0 where the row stands for all processes of the service that have ended.
        start: of the process, nanoseconds since boot; with `pid` its identity.
        peer: the peer's name, else its address; `client` and `other` stand for many.
        port: of the serving side.
        side: `client` or `server`: what this process is.
        transmit: bytes.
        receive: bytes.
        operations: calls that moved data, both directions.
        connections: open TCP connections.
        ended: the process is gone; its connections are not, yet.
        host: where a server saw it; empty in an agent's table, which says it once.

    """

    pid: int
    start: int
    executable: str
    command: str
    user: str
    unit: str
    container: str
    service: str
    transport: str
    type: str
    peer: str
    port: int
    side: str
    transmit: int
    receive: int
    operations: int
    connections: int
    ended: bool
    host: str = ""


class Table(msgspec.Struct, frozen=True):
    """All rows of one moment.

    Attributes:
        time: nanoseconds since the Unix epoch.
        mode: `ebpf` (exact) or `polling`.
        description: in one line, how the figures are known and what they miss.
        losses: what could not be counted, by reason; empty or all zero if nothing was lost.

    """

    time: int
    host: str
    version: str
    mode: str
    description: str
    losses: dict[str, int]
    rows: list[Row]


def rows_of(accounts: Accounts) -> list[Row]:
    """Returns the rows of `accounts` as of its last update."""
    return [_row(flow) for flow in accounts.table()]


def _row(flow: FlowRow) -> Row:
    process = flow.process
    container = process.container if process else None
    return Row(
        pid=process.pid if process else 0,
        start=process.start if process else 0,
        executable=process.executable if process else "",
        command=" ".join(process.command) if process else "",
        user=process.user if process else "",
        unit=process.unit if process else "",
        container=container.name if container else "",
        service=flow.peer.service,
        transport=flow.peer.transport,
        type=flow.peer.type,
        peer=flow.peer.peer,
        port=flow.peer.port,
        side=flow.peer.side,
        transmit=flow.transmit,
        receive=flow.receive,
        operations=flow.operations,
        connections=flow.connections,
        ended=flow.ended,
    )
