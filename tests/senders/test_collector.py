"""A Collector in front of the server: all that goes through it is in the store."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from collector import Collector
from senders.checks import check
from servers import wait_until
from serving import Serving

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from senders.conftest import Sent

RETRY = {"enabled": True, "initial_interval": "200ms", "max_interval": "500ms"}


@pytest.mark.server
@pytest.mark.parametrize(
    ("language", "kind", "more"),
    [
        ("go", "otlp_http", {"compression": "zstd"}),
        ("java", "otlp_http", {"compression": "gzip", "encoding": "json"}),
        ("go", "otlp_grpc", {"compression": "gzip"}),
    ],
)
def test_all_that_goes_through_a_collector_is_in_the_store(
    server: Serving,
    collector_binary: str,
    tmp_path: Path,
    send: Callable[..., Sent],
    language: str,
    kind: str,
    more: dict[str, str],
) -> None:
    collector = Collector(
        collector_binary, tmp_path, exporters=exporter(server, kind, **more, retry_on_failure=RETRY)
    )

    with collector.running():
        sent = send_to(collector, send, language)
        wait_for(server, sent)

    check(server, sent.scenario, sent.told, sent.service, sent.temporality)


@pytest.mark.server
@pytest.mark.parametrize("kind", ["otlp_http", "otlp_grpc"])
def test_what_a_collector_holds_while_the_server_is_away_arrives_later(
    collector_binary: str, tmp_path: Path, send: Callable[..., Sent], kind: str
) -> None:
    server = Serving(tmp_path)
    collector = Collector(
        collector_binary, tmp_path, exporters=exporter(server, kind, retry_on_failure=RETRY)
    )
    with collector.running():
        sent = send_to(collector, send, "go")
        with server.running():
            wait_for(server, sent)
            check(server, sent.scenario, sent.told, sent.service, sent.temporality)
            server.kill()
            time.sleep(0.5)
            later = send_to(collector, send, "go")
            server.start()
            wait_for(server, later)
            for one in (sent, later):
                check(server, one.scenario, one.told, one.service, one.temporality)


def exporter(server: Serving, kind: str, **more: object) -> dict[str, object]:
    """Returns the configuration of an exporter that sends to the server."""
    where = server.url if kind == "otlp_http" else f"127.0.0.1:{server.grpc_port}"
    insecure = {"insecure": True}
    return {kind: {"endpoint": where, "tls": insecure, "timeout": "60s", **more}}


def send_to(collector: Collector, send: Callable[..., Sent], language: str) -> Sent:
    """Has a sender send its scenario to the Collector."""
    endpoint = f"http://127.0.0.1:{collector.ports['http/protobuf']}"
    return send(language, "http/protobuf", endpoint, compression="gzip", temporality="cumulative")


def wait_for(server: Serving, sent: Sent) -> None:
    """Waits until the last of each signal is in."""

    def arrived() -> bool:
        return all(
            server.value(f"SELECT count() FROM otel.{table} WHERE ServiceName = '{sent.service}'")
            >= count
            for table, count in (
                ("otel_traces", len(sent.scenario["spans"])),
                ("otel_logs", len(sent.scenario["logs"])),
                ("otel_metrics_exponential_histogram", sent.scenario["rounds"]),
            )
        )

    wait_until(arrived, "the Collector to send it all", 60)
