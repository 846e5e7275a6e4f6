"""What `kernob up` runs: the agent, the server and the pages of one configuration."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Final
from urllib.parse import quote

from kernob.errors import AlreadyRunningError, ConfigError, KernelError, ListenError, StoreError
from kernob.supervisor import Part

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from kernob.config import Config, Loaded

LIVE_INTERVAL: Final = "1s"
"""How often the agent sends: a byte is in the store within two seconds."""
CONFIGURATION: Final = "mend the configuration (kernob config shows it), and start kernob up anew"


def parts(
    loaded: Loaded, environ: Mapping[str, str], options: Mapping[str, Sequence[str]]
) -> list[Part]:
    """Returns the three parts in the order in which they are stopped: whoever sends goes first.

    Args:
        loaded: the configuration in force.
        environ: the environment.
        options: of the command line, for each part.
    """
    config = loaded.config
    # The supervisor reads their logs and writes them as the user wants them.
    common = {**environ, "KERNOB_LOG_FORMAT": "json", "PYTHONUNBUFFERED": "1"}
    url = config.server.url
    store = {} if config.store.url else {StoreError.exit_code: "see above; store.path moves it"}
    found = [
        Part(
            "agent",
            _command("agent", options),
            {**common, **_sending(loaded)},
            {
                ConfigError.exit_code: CONFIGURATION,
                KernelError.exit_code: "without agent.mode: ebpf it would poll instead",
                ListenError.exit_code: "prometheus.listen moves it, or turns it off",
                AlreadyRunningError.exit_code: "to see the figures of the agent that runs already "
                f"on these pages, have it send here: kernob agent --otlp {url}",
            },
        ),
        Part(
            "pages",
            _command("pages", options),
            common,
            {ConfigError.exit_code: CONFIGURATION, ListenError.exit_code: "pages.listen moves it"},
            address=_address(config),
            greeting=f"look at {config.pages.url}",
        ),
        Part(
            "server",
            _command("server", options),
            common,
            {
                ConfigError.exit_code: CONFIGURATION,
                ListenError.exit_code: "server.listen and server.grpc_listen move it",
                **store,
            },
            needed=True,
        ),
    ]
    return [part for part in found if part.name != "pages" or config.pages.enabled]


def _command(name: str, options: Mapping[str, Sequence[str]]) -> list[str]:
    return [sys.executable, "-m", "kernob", name, *options.get(name, ())]


def _sending(loaded: Loaded) -> dict[str, str]:
    """Returns the variables that make the agent send to this server, unless it sends elsewhere."""
    if "otlp.endpoint" in loaded.origins:
        return {}
    server = loaded.config.server
    found = {
        "KERNOB_OTLP_ENDPOINT": server.url,
        "OTEL_EXPORTER_OTLP_METRICS_PROTOCOL": "http/protobuf",
        "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL": "http/protobuf",
    }
    if "otlp.interval" not in loaded.origins:
        found["KERNOB_OTLP_INTERVAL"] = LIVE_INTERVAL
    if token := server.token():
        header = f"authorization={quote(f'Bearer {token}')}"
        found["OTEL_EXPORTER_OTLP_METRICS_HEADERS"] = header
        found["OTEL_EXPORTER_OTLP_TRACES_HEADERS"] = header
    return found


def _address(config: Config) -> tuple[str, int]:
    host, _, port = config.pages.url.partition("://")[2].rpartition(":")
    return host.strip("[]"), int(port or 0)
