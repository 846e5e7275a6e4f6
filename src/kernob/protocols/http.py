"""HTTP/1: method, route and version are the operation, the code its status."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from kernob.protocols.naming import HTTP_CLIENT, HTTP_SERVER, Operation, Protocol

if TYPE_CHECKING:
    from kernob.telemetry.model import AttributeValue

_METHODS: Final = frozenset(
    {"CONNECT", "DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT", "QUERY", "TRACE"}
)
"""RFC 9110, RFC 5789 and the QUERY draft: what the conventions call known methods."""
_CLIENT_ERROR: Final = 400
_SERVER_ERROR: Final = 500


def attributes(operation: Operation) -> dict[str, AttributeValue]:
    """Returns the attributes of a request (semantic conventions 1.38, HTTP).

    A code of 500 and more is an error of the server, one of 400 and more of the client.
    """
    head, _, version = operation.text.rpartition(" HTTP/")
    method, _, target = head.partition(" ")
    # No client should send a fragment; what some send there is as private as a query.
    route = target.partition("#")[0]
    found: dict[str, AttributeValue] = {
        "http.request.method": method if method in _METHODS else "_OTHER",
        "http.response.status_code": operation.status,
    }
    if route:
        found["http.route" if operation.server else "url.template"] = route
    if version:
        found["network.protocol.version"] = version
    if operation.status >= (_SERVER_ERROR if operation.server else _CLIENT_ERROR):
        found["error.type"] = str(operation.status)
    return found


PROTOCOL: Final = Protocol("http", HTTP_CLIENT, HTTP_SERVER, attributes)
