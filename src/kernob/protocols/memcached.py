"""Memcached: the command is the operation; what its answer says is the status."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from kernob.protocols.naming import DB_CLIENT, DB_SERVER, Operation, Protocol, database

if TYPE_CHECKING:
    from kernob.telemetry.model import AttributeValue

ANSWERS: Final[dict[int, str]] = {1: "NOT_FOUND", 2: "EXISTS", 5: "NOT_STORED"}
"""Statuses that are no errors; the kernel gives each form of the protocol the binary one's numbers
(docs.memcached.org/protocols/binary)."""
ERRORS: Final[dict[int, str]] = {
    0x03: "TOO_LARGE",
    0x04: "CLIENT_ERROR",
    0x06: "NON_NUMERIC",
    0x20: "AUTH_ERROR",
    0x21: "AUTH_CONTINUE",
    0x81: "ERROR",
    0x82: "OUT_OF_MEMORY",
    0x84: "SERVER_ERROR",
    0x85: "BUSY",
}
"""Statuses of errors: text's words where it has one."""


def attributes(operation: Operation) -> dict[str, AttributeValue]:
    """Returns the attributes of a command."""
    answer = ANSWERS.get(operation.status, "")
    failed = operation.status and not answer
    found = database(
        "memcached",
        operation,
        name=operation.text,
        summary=operation.text,
        status=ERRORS.get(operation.status, "_OTHER") if failed else "",
    )
    if answer:
        found["db.response.status_code"] = answer
    return found


PROTOCOL: Final = Protocol("memcached", DB_CLIENT, DB_SERVER, attributes)
