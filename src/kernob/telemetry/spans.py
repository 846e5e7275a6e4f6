"""Spans: single requests as OpenTelemetry sees them, and what they are called."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Mapping

    from kernob.telemetry.model import Attributes, AttributeValue


@dataclass(frozen=True, slots=True)
class Span:
    """One request, seen from one side.

    Attributes:
        name: see `name_of`.
        kind: `server` or `client`.
        start: nanoseconds since the Unix epoch.
        end: likewise.
        resource: of the service whose request it was.
        series: attributes that it shares with its series.
        own: the others.
        failed: its status is ERROR.
    """

    name: str
    kind: Literal["server", "client"]
    start: int
    end: int
    resource: Attributes
    series: Attributes
    own: Attributes
    failed: bool


def name_of(attributes: Mapping[str, AttributeValue]) -> str:
    """Returns the name of a span with these attributes: `GET /users/{id}`, `SELECT orders`.

    Source: OpenTelemetry semantic conventions 1.38, spans of HTTP and of databases; those of DNS
    have none, and are called as people ask: `A example.org`.
    """
    found = {name: str(value) for name, value in attributes.items()}
    if method := found.get("http.request.method"):
        route = found.get("http.route") or found.get("url.template", "")
        return f"{'HTTP' if method == '_OTHER' else method} {route}".strip()
    if system := found.get("db.system.name"):
        if summary := found.get("db.query.summary"):
            return summary
        place = f"{found.get('server.address', '')}:{found.get('server.port', '')}"
        target = found.get("db.namespace") or place.strip(":")
        return f"{found.get('db.operation.name', '')} {target}".strip() or system
    question = (found.get("kernob.dns.question.type"), found.get("dns.question.name"))
    return " ".join(filter(None, question)) or found.get("network.protocol.name", "request")
