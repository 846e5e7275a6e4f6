"""DNS: type and name are the operation, the answer's code its status."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from kernob.protocols.naming import DNS_LOOKUP, Operation, Protocol

if TYPE_CHECKING:
    from kernob.telemetry.model import AttributeValue

TIMEOUT: Final = 256
"""Status of a lookup that nobody answered."""
NO_DATA: Final = 257
"""Status of an answer that there is such a name, but nothing of this type (RFC 2308, 2.2)."""
TRUNCATED: Final = 258
"""Status of an answer that did not fit into its datagram: the client asks again, over TCP."""
CODES: Final = {
    1: "FORMERR",
    2: "SERVFAIL",
    3: "NXDOMAIN",
    4: "NOTIMP",
    5: "REFUSED",
    6: "YXDOMAIN",
    7: "YXRRSET",
    8: "NXRRSET",
    9: "NOTAUTH",
    10: "NOTZONE",
    TIMEOUT: "timeout",
}
"""RFC 6895, 2.3."""


def attributes(operation: Operation) -> dict[str, AttributeValue]:
    """Returns the attributes of a lookup."""
    kind, _, name = operation.text.partition(" ")
    found: dict[str, AttributeValue] = {}
    if kind:
        found["kernob.dns.question.type"] = kind
        found["dns.question.name"] = name or "."
    if operation.status == NO_DATA:
        found["kernob.dns.response"] = "no_data"
    elif operation.status == TRUNCATED:
        found["kernob.dns.response"] = "truncated"
    elif operation.status:
        found["error.type"] = CODES.get(operation.status, str(operation.status))
    return found


PROTOCOL: Final = Protocol("dns", DNS_LOOKUP, DNS_LOOKUP, attributes)
