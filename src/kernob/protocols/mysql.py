"""MySQL and MariaDB: the statement is the operation, an error's number its status."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from kernob.protocols import sql
from kernob.protocols.naming import DB_CLIENT, DB_SERVER, Operation, Protocol, database

if TYPE_CHECKING:
    from kernob.telemetry.model import AttributeValue


def attributes(operation: Operation) -> dict[str, AttributeValue]:
    """Returns the attributes of a statement or command."""
    found = database(
        "mysql",
        operation,
        name=sql.operation_name(operation.text),
        summary=sql.summary(operation.text),
        status=str(operation.status) if operation.status else "",
    )
    if " " in operation.text:
        found["db.query.text"] = operation.text
    return found


PROTOCOL: Final = Protocol("mysql", DB_CLIENT, DB_SERVER, attributes)
