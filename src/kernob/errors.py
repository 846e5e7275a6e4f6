"""Every error Kernob raises on purpose: one tree, each with what the user can do.

The command line prints an error as one line and exits with its `exit_code`; these codes are
part of the interface (README, "Exit codes").
"""

from __future__ import annotations


class KernobError(Exception):
    """The root of the tree.

    Attributes:
        exit_code: what the process exits with when this error ends it.
        remedy: what the user can do, one sentence; empty if there is nothing.
    """

    exit_code = 1

    def __init__(self, message: str, *, remedy: str = "") -> None:
        super().__init__(message)
        self.remedy = remedy

    def __str__(self) -> str:
        """Returns the message and the remedy as one line."""
        message = super().__str__()
        return f"{message}: {self.remedy}" if self.remedy else message


class ConfigError(KernobError):
    """A setting that can't be used; the message points at the file and line, variable or flag."""

    exit_code = 2


class KernelError(KernobError):
    """The kernel, or libbpf, refused something."""

    exit_code = 3


class ListenError(KernobError):
    """An address can't be listened on: taken, not allowed, or off loopback without a guard."""

    exit_code = 4


class AlreadyRunningError(KernobError):
    """Another agent observes this machine already."""

    exit_code = 5


class ExportError(KernobError):
    """A collector refused what was sent, or can't be reached."""

    exit_code = 6


class ServerError(KernobError):
    """The Kernob server can't be reached, or could not answer what the pages or `top` asked."""

    exit_code = 8


class StoreError(KernobError):
    """The store can't be opened, read or written; what was acknowledged is safe."""

    exit_code = 7


class StoreBusyError(StoreError):
    """Another process holds the store."""


class StoreFullError(StoreError):
    """No space is left for what was sent: the sender may try again later."""


class StoreDataError(StoreError):
    """The store can't read what was sent: sending it again is of no use."""


class QueryError(StoreError):
    """A query that the store refused: wrong, or larger than its limits."""


class QueryLimitError(QueryError):
    """A query that wanted more time, memory or rows than it may have."""


class QueryCancelledError(QueryError):
    """Nobody waits for the query's answer any more."""


class RequestError(KernobError):
    """What a client sent was not taken; this never ends the server.

    Attributes:
        outcome: what the server counts it as.
    """

    outcome = "failed"


class MalformedError(RequestError):
    """What was sent is not OTLP: sending it again is of no use."""

    outcome = "malformed"


class TooLargeError(RequestError):
    """What was sent is larger than `server.largest_body`, as it came or unpacked."""

    outcome = "too_large"


class UnsupportedError(RequestError):
    """What was sent is of a type, or packed in a way, that the server does not know."""

    outcome = "unsupported"


class UnauthorizedError(RequestError):
    """Who sent has neither the token nor a certificate."""

    outcome = "unauthorized"


class LateError(RequestError):
    """What was sent did not arrive in time."""

    outcome = "late"


class OverloadedError(RequestError):
    """Too much waits already: the sender may try again soon."""

    outcome = "overloaded"
