"""The server's guard: the same for OTLP over HTTP and gRPC, and for the API."""

from __future__ import annotations

from typing import TYPE_CHECKING

import grpc
import pytest
from google.rpc import status_pb2
from opentelemetry._logs import LogRecord
from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import SimpleLogRecordProcessor
from opentelemetry.sdk.resources import Resource

from kernob import config
from kernob.errors import ListenError
from kernob.server.run import Server
from kernob.store.engine import Signal
from server import records
from server.conftest import Receiver

if TYPE_CHECKING:
    from pathlib import Path

    from servers import Certificates

LOGS = "/opentelemetry.proto.collector.logs.v1.LogsService/Export"


def test_only_who_has_the_token_comes_in(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("secret\n")
    body = records.logs(["a"])
    with (
        Receiver(tmp_path, token_file=str(tmp_path / "token")).running() as receiver,
        grpc.insecure_channel(receiver.grpc) as channel,
    ):
        export = channel.unary_unary(LOGS)
        for wrong in ("", "Bearer no", "Basic secret", "secret", "Bearer secret2"):
            answer = receiver.post("/v1/logs", body, Authorization=wrong)
            assert (answer.status_code, answer.headers["WWW-Authenticate"]) == (401, "Bearer")
            assert status_pb2.Status.FromString(answer.content).message
            with pytest.raises(grpc.RpcError) as raised:
                export(body, metadata=[("authorization", wrong)])
            assert raised.value.code() is grpc.StatusCode.UNAUTHENTICATED
            api = receiver.client.get("/api/server", headers={"Authorization": wrong})
            assert api.status_code == 401
        right = {"Authorization": "Bearer secret"}

        assert receiver.post("/v1/logs", body, **right).status_code == 200
        assert export(body, metadata=[("authorization", "bearer secret")]) == b""
        assert receiver.client.get("/api/server", headers=right).status_code == 200
        assert receiver.client.get("/health").status_code == 200
        assert receiver.requests(Signal.LOGS, "unauthorized") == 10
        assert receiver.requests(Signal.LOGS, "stored") == 2


def test_only_who_has_a_certificate_comes_in(
    tmp_path: Path, certificates: Certificates, monkeypatch: pytest.MonkeyPatch
) -> None:
    for variable in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):
        # The exporter would heed it before its own setting.
        monkeypatch.delenv(variable, raising=False)
    c = certificates
    settings = {"certificate": c.server, "key": c.server_key, "client_ca": c.ca}
    with Receiver(tmp_path, **{n: str(f) for n, f in settings.items()}).running() as receiver:
        for service, certificate, key, seconds in (
            ("stranger", c.stranger, c.stranger_key, 0.5),
            ("client", c.client, c.client_key, 10),
        ):
            exporter = OTLPLogExporter(
                f"{receiver.url}/v1/logs",
                certificate_file=str(c.ca),
                client_certificate_file=str(certificate),
                client_key_file=str(key),
                timeout=seconds,
            )
            logs = LoggerProvider(resource=Resource({"service.name": f"{service} by HTTP"}))
            logs.add_log_record_processor(SimpleLogRecordProcessor(exporter))
            logs.get_logger("l").emit(LogRecord(body="hello"))
            logs.shutdown()
            pems = (c.ca.read_bytes(), key.read_bytes(), certificate.read_bytes())
            with grpc.secure_channel(receiver.grpc, grpc.ssl_channel_credentials(*pems)) as channel:
                call = channel.unary_unary(LOGS).future(records.logs([service]), timeout=5)
                known = service == "client"
                assert (call.exception() is None) == known

        assert receiver.rows(
            "SELECT ServiceName, LogAttributes['id'] FROM otel.otel_logs ORDER BY ServiceName"
        ) == [("client by HTTP", ""), ("records", "client")]


@pytest.mark.parametrize("door", ["LISTEN", "GRPC_LISTEN"])
def test_off_loopback_it_does_not_listen_without_a_guard(door: str, tmp_path: Path) -> None:
    environ = {
        "KERNOB_CONFIG": "/dev/null",
        "KERNOB_SERVER_LISTEN": "127.0.0.1:0",
        "KERNOB_STORE_PATH": str(tmp_path / "store"),
        f"KERNOB_SERVER_{door}": "0.0.0.0:0",
    }

    with pytest.raises(ListenError, match="give a token file or a CA of clients"):
        Server(config.load(None, environ, {}))

    assert not (tmp_path / "store").exists()
