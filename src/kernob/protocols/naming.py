"""The contract of a protocol's module, and what several of them share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from kernob.telemetry.model import Kind, Metric

if TYPE_CHECKING:
    from collections.abc import Callable

    from kernob.telemetry.model import AttributeValue

UNKNOWN: Final = ""
"""Text of an operation that nobody knows: a statement prepared before the agent started."""

_HOW: Final = "from the first byte of the request to the last of the answer"
HTTP_SERVER: Final = Metric(
    "http.server.request.duration", Kind.HISTOGRAM, "s", f"HTTP requests served, {_HOW}."
)
HTTP_CLIENT: Final = Metric(
    "http.client.request.duration", Kind.HISTOGRAM, "s", f"HTTP requests made, {_HOW}."
)
DB_CLIENT: Final = Metric(
    "db.client.operation.duration", Kind.HISTOGRAM, "s", f"Database operations asked for, {_HOW}."
)
DB_SERVER: Final = Metric(
    "kernob.db.server.operation.duration",
    Kind.HISTOGRAM,
    "s",
    f"Database operations served, {_HOW}.",
)
DNS_LOOKUP: Final = Metric(
    "dns.lookup.duration", Kind.HISTOGRAM, "s", "Duration of DNS lookups, asked and answered."
)


@dataclass(frozen=True, slots=True)
class Operation:
    """What a row of the kernel's table is about.

    Attributes:
        text: of the operation, as the kernel sent it up; `UNKNOWN` if nobody knows.
        status: the protocol's; 0 is success, but for HTTP, whose codes are as they are.
        namespace: of the database, empty if none is known.
        server: this is the serving side.
    """

    text: str
    status: int
    namespace: str
    server: bool


@dataclass(frozen=True, slots=True)
class Protocol:
    """How one protocol's rows are named.

    Attributes:
        name: `network.protocol.name`.
        client: the metric of durations on the calling side.
        server: that on the serving side.
        attributes: those of an operation, `error.type` included if it failed.
    """

    name: str
    client: Metric
    server: Metric
    attributes: Callable[[Operation], dict[str, AttributeValue]]


def database(
    system: str, operation: Operation, *, name: str, summary: str, status: str
) -> dict[str, AttributeValue]:
    """Returns the attributes of a database's operation (semantic conventions 1.38, database).

    Args:
        system: `db.system.name`.
        operation: what it is about.
        name: `db.operation.name`, such as `SELECT` or `GET`.
        summary: `db.query.summary`; empty for none.
        status: `db.response.status_code` of a failed operation, empty if it went well.
    """
    found: dict[str, AttributeValue] = {"db.system.name": system}
    if name:
        found["db.operation.name"] = name
    if summary:
        found["db.query.summary"] = summary
    if operation.namespace:
        found["db.namespace"] = operation.namespace
    if status:
        found["db.response.status_code"] = status
        found["error.type"] = status
    return found
