"""The agent's resource, against what the kernel and OpenTelemetry's own SDK say."""

from __future__ import annotations

import os
import socket
from typing import TYPE_CHECKING

import pytest
from opentelemetry.sdk.resources import OTELResourceDetector

from kernob import __version__
from kernob.identity.host import resource

if TYPE_CHECKING:
    from pathlib import Path


def test_it_says_who_and_where(tmp_path: Path) -> None:
    (tmp_path / "machine-id").write_text("0123456789abcdef0123456789abcdef\n")

    found = resource({}, tmp_path / "machine-id")

    assert len(str(found.pop("service.instance.id"))) == 36
    assert found == {
        "service.name": "kernob-agent",
        "service.version": __version__,
        "host.name": socket.gethostname(),
        "host.id": "0123456789abcdef0123456789abcdef",
        "os.type": "linux",
        "os.version": os.uname().release,
    }


@pytest.mark.parametrize("content", [None, "", "uninitialized\n"])
def test_without_a_machine_id_there_is_no_host_id(tmp_path: Path, content: str | None) -> None:
    if content is not None:
        (tmp_path / "machine-id").write_text(content)

    assert "host.id" not in resource({}, tmp_path / "machine-id")


def test_each_run_is_an_instance_of_its_own() -> None:
    assert resource({})["service.instance.id"] != resource({})["service.instance.id"]


@pytest.mark.parametrize(
    "text",
    ["deployment.environment.name=prod", "a=b, c = d%20e%2Cf ,,g=", "host.name=node7", "a=b=c"],
)
def test_the_variable_is_read_as_opentelemetry_reads_it(
    monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    monkeypatch.delenv("OTEL_SERVICE_NAME", raising=False)
    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", text)

    theirs = OTELResourceDetector().detect().attributes

    assert theirs
    assert resource(os.environ).items() >= dict(theirs).items()


def test_the_service_name_has_a_variable_of_its_own() -> None:
    environ = {"OTEL_SERVICE_NAME": "watcher", "OTEL_RESOURCE_ATTRIBUTES": "service.name=other"}

    assert resource(environ)["service.name"] == "watcher"


def test_a_mistake_in_the_variable_leaves_all_of_it_out(caplog: pytest.LogCaptureFixture) -> None:
    assert "a" not in resource({"OTEL_RESOURCE_ATTRIBUTES": "a=b,c"})
    assert "'c' is no key=value" in caplog.text
