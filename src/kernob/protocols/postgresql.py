"""PostgreSQL: the statement is the operation, an error's SQLSTATE its status."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from kernob.protocols import sql
from kernob.protocols.naming import DB_CLIENT, DB_SERVER, Operation, Protocol, database

if TYPE_CHECKING:
    from kernob.telemetry.model import AttributeValue

_DIGITS: Final = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ"
_LENGTH: Final = 5


def sqlstate(status: int) -> str:
    """Returns the five characters of an SQLSTATE: one more than the number they are in base 36."""
    if not status:
        return ""
    number, code = status - 1, ""
    for _ in range(_LENGTH):
        number, digit = divmod(number, 36)
        code = _DIGITS[digit] + code
    return code


def attributes(operation: Operation) -> dict[str, AttributeValue]:
    """Returns the attributes of a statement."""
    found = database(
        "postgresql",
        operation,
        name=sql.operation_name(operation.text),
        summary=sql.summary(operation.text),
        status=sqlstate(operation.status),
    )
    if operation.text:
        found["db.query.text"] = operation.text
    return found


PROTOCOL: Final = Protocol("postgresql", DB_CLIENT, DB_SERVER, attributes)
