"""Memcached: the command is the operation; what its answer says is the status."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from kernob.protocols.naming import DB_CLIENT, DB_SERVER, Operation, Protocol, database

if TYPE_CHECKING:
    from kernob.telemetry.model import AttributeValue

ANSWERS: Final[dict[int, str]] = {}
"""Statuses that are no errors."""
ERRORS: Final[dict[int, str]] = {}
"""Statuses of errors."""


def attributes(operation: Operation) -> dict[str, AttributeValue]:
    """Returns the attributes of a command."""
    return database(
        "memcached",
        operation,
        name=operation.text,
        summary=operation.text,
        status=ERRORS.get(operation.status, "_OTHER" if operation.status else ""),
    )


PROTOCOL: Final = Protocol("memcached", DB_CLIENT, DB_SERVER, attributes)
