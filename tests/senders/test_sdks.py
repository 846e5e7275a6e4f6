"""Applications with OpenTelemetry's SDKs: all that they send is in the store, as they sent it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from senders.checks import check

if TYPE_CHECKING:
    from collections.abc import Callable

    from senders.conftest import Sent
    from serving import Serving


@pytest.mark.server
@pytest.mark.parametrize(
    ("language", "protocol", "compression", "temporality"),
    [
        ("go", "http/protobuf", "gzip", "cumulative"),
        ("go", "grpc", "none", "delta"),
        ("java", "http/protobuf", "none", "delta"),
        ("java", "grpc", "gzip", "cumulative"),
        ("node", "http/protobuf", "gzip", "delta"),
        ("node", "grpc", "gzip", "cumulative"),
        ("node", "http/json", "none", "cumulative"),
        ("node", "http/json", "gzip", "delta"),
        ("python", "http/protobuf", "gzip", "cumulative"),
        ("python", "grpc", "gzip", "delta"),
    ],
)
def test_all_that_an_sdk_sends_is_in_the_store(
    server: Serving,
    send: Callable[..., Sent],
    language: str,
    protocol: str,
    compression: str,
    temporality: str,
) -> None:
    port = server.grpc_port if protocol == "grpc" else server.port

    sent = send(
        language,
        protocol,
        f"http://127.0.0.1:{port}",
        compression=compression,
        temporality=temporality,
    )

    check(server, sent.scenario, sent.told, sent.service, sent.temporality)
