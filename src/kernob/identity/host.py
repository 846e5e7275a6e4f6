"""Who sends: the OpenTelemetry resource of everything that the agent says."""

from __future__ import annotations

import logging
import platform
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import unquote

from kernob import __version__

if TYPE_CHECKING:
    from collections.abc import Mapping

    from kernob.telemetry.model import AttributeValue

AGENT: Final = "kernob-agent"
"""`service.name` of the agent, unless OpenTelemetry's variables say otherwise."""
MACHINE_ID: Final = Path("/etc/machine-id")

log = logging.getLogger(__name__)


def resource(
    environ: Mapping[str, str], machine_id_file: Path = MACHINE_ID
) -> dict[str, AttributeValue]:
    """Returns what describes this agent and its host; `service.instance.id` is new at each call.

    What OTEL_RESOURCE_ATTRIBUTES and OTEL_SERVICE_NAME say counts more than what is found here.

    Source: OpenTelemetry semantic conventions 1.37, resources `service`, `host` and `os`;
    specification 1.50, "Specifying resource information via an environment variable".
    """
    found: dict[str, AttributeValue] = {
        "service.name": AGENT,
        "service.version": __version__,
        "service.instance.id": str(uuid.uuid4()),
        "host.name": platform.node(),
        "os.type": "linux",
        "os.version": platform.release(),
    }
    if machine := _machine_id(machine_id_file):
        found["host.id"] = machine
    found |= _attributes(environ.get("OTEL_RESOURCE_ATTRIBUTES", ""))
    if service := environ.get("OTEL_SERVICE_NAME", "").strip():
        found["service.name"] = service
    return found


def _machine_id(file: Path) -> str:
    """Returns the id of this installation (machine-id(5)), empty if it has none (yet)."""
    try:
        text = file.read_text("ascii").strip()
    except (OSError, ValueError) as error:
        log.debug("no host.id: %s", error)
        return ""
    return "" if text == "uninitialized" else text


def _attributes(text: str) -> dict[str, AttributeValue]:
    """Returns `key=value,...`, percent-decoded; nothing of it if there is a mistake in it.

    The SDK of OpenTelemetry does the same, for 8 MiB of memory.
    """
    found: dict[str, AttributeValue] = {}
    for item in filter(None, (part.strip() for part in text.split(","))):
        name, equals, value = item.partition("=")
        if not equals or not name.strip():
            log.warning("OTEL_RESOURCE_ATTRIBUTES: %r is no key=value: all of it is left out", item)
            return {}
        found[unquote(name.strip())] = unquote(value.strip())
    return found
