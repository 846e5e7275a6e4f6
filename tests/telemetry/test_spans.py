"""Names of spans, as the conventions want them."""

from __future__ import annotations

import pytest

from kernob.telemetry.spans import name_of

SERVER = {"server.address": "db", "server.port": 5432}


@pytest.mark.parametrize(
    ("name", "attributes"),
    [
        ("GET /users/{id}", {"http.request.method": "GET", "http.route": "/users/{id}"}),
        ("POST /items", {"http.request.method": "POST", "url.template": "/items"}),
        ("HTTP", {"http.request.method": "_OTHER"}),
        ("SELECT orders", {"db.system.name": "mysql", "db.query.summary": "SELECT orders"}),
        ("SELECT shop", {"db.system.name": "mysql", "db.operation.name": "SELECT",
                         "db.namespace": "shop", **SERVER}),
        ("GET db:5432", {"db.system.name": "redis", "db.operation.name": "GET", **SERVER}),
        ("redis", {"db.system.name": "redis"}),
        ("A example.org", {"kernob.dns.question.type": "A", "dns.question.name": "example.org"}),
        ("dns", {"network.protocol.name": "dns"}),
    ],
)  # fmt: skip
def test_names(name: str, attributes: dict[str, str | int]) -> None:
    assert name_of(attributes) == name
