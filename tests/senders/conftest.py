"""The programs that send, built once, and a server that all of them send to."""

from __future__ import annotations

import itertools
import json
import os
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from senders.scenario import scenario
from serving import Serving

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

HERE = Path(__file__).parent
BUILD = HERE.parents[1] / "tools" / "senders.sh"
COMMANDS = {
    "go": ["{folder}/sender"],
    "java": ["java", "-XX:TieredStopAtLevel=1", "-cp", "{folder}/classes:{folder}/lib/*", "Sender"],
    "node": ["node", "{folder}/sender.js"],
    "python": [sys.executable, str(HERE / "python" / "sender.py")],
}


@dataclass(frozen=True)
class Sent:
    """What a sender was told to send, and what it says of it."""

    scenario: dict[str, Any]
    told: dict[str, Any]
    service: str
    temporality: str


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    with Serving(tmp_path_factory.mktemp("senders")).running() as server:
        yield server


def command(language: str) -> list[str]:
    """Returns what runs a sender; skips where it could not be built."""
    if language == "python":
        return COMMANDS[language]
    found = subprocess.run([BUILD, "--path", language], capture_output=True, text=True, check=True)
    folder = found.stdout.strip()
    if not Path(folder).is_dir():
        pytest.skip(f"the sender in {language} is missing: tools/senders.sh builds it")
    if language != "go" and shutil.which(language) is None:
        pytest.skip(f"{language} is missing")
    return [part.format(folder=folder) for part in COMMANDS[language]]


@pytest.fixture
def send(tmp_path: Path) -> Callable[..., Sent]:
    """Runs a sender, over a protocol, to an endpoint; each time it is another service."""
    number = itertools.count()

    def send(
        language: str, protocol: str, endpoint: str, *, compression: str, temporality: str
    ) -> Sent:
        told_to = scenario(time.time_ns() - 60 * 10**9, nested=language != "node")
        plan = tmp_path / "scenario.json"
        plan.write_text(json.dumps(told_to))
        service = f"{language} {tmp_path.name} {next(number)}"
        environ = {
            "OTEL_SERVICE_NAME": service,
            "OTEL_EXPORTER_OTLP_ENDPOINT": endpoint,
            "OTEL_EXPORTER_OTLP_PROTOCOL": protocol,
            "OTEL_EXPORTER_OTLP_COMPRESSION": compression,
            "OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE": temporality,
            "OTEL_METRIC_EXPORT_INTERVAL": "60000",
            # Variables of this machine that would lead elsewhere.
            "NO_PROXY": "*",
        }
        run = subprocess.run(
            [*command(language), plan],
            env=os.environ | environ,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert run.returncode == 0, run.stderr
        assert not run.stderr, "the SDK complains"
        return Sent(told_to, json.loads(run.stdout), service, temporality)

    return send
