"""Redis: the command is the operation, the first word of an error its status."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from kernob.protocols.naming import DB_CLIENT, DB_SERVER, Operation, Protocol, database

if TYPE_CHECKING:
    from kernob.telemetry.model import AttributeValue

ERRORS: Final = (
    *("ASK", "BUSY", "BUSYGROUP", "BUSYKEY", "CLUSTERDOWN", "CROSSSLOT", "ERR", "EXECABORT"),
    *("INPROG", "INVALIDOBJ", "IOERR", "LOADING", "MASTERDOWN", "MISCONF", "MOVED", "NOAUTH"),
    *("NOGOODSLAVE", "NOGROUP", "NOMASTERLINK", "NOPERM", "NOPROTO", "NOREPLICAS", "NOSCRIPT"),
    *("NOTBUSY", "NOTREADY", "OOM", "READONLY", "TRYAGAIN", "UNBLOCKED", "UNKILLABLE"),
    *("UNSTABLE", "WRONGPASS", "WRONGTYPE"),
)
"""First words of errors (Redis 7.0, src/): the kernel keeps six letters of each."""


_LETTERS: Final = " ABCDEFGHIJKLMNOPQRSTUVWXYZ"
_KEPT: Final = 6


def error(status: int) -> str:
    """Returns the first word of an error: six letters of five bits each, A is 1.

    What the six letters begin is completed if it is one of `ERRORS`; other errors have no word.
    """
    numbers = [status >> 5 * place & 31 for place in range(_KEPT)]
    word = "".join(_LETTERS[number] for number in numbers if 0 < number < len(_LETTERS))
    if not word:
        return "_OTHER" if status else ""
    if len(word) < _KEPT:
        return word
    return next((known for known in ERRORS if known.startswith(word)), word)


def attributes(operation: Operation) -> dict[str, AttributeValue]:
    """Returns the attributes of a command."""
    return database(
        "redis",
        operation,
        name=operation.text,
        summary=operation.text,
        status=error(operation.status),
    )


PROTOCOL: Final = Protocol("redis", DB_CLIENT, DB_SERVER, attributes)
