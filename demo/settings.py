"""What all parts of the demo know: its folder, its ports, the fault that is switched on."""

from __future__ import annotations

import json
import socket
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

CONTROL_PORT: Final = 8430
"""Where the load generator takes orders, unless it is said otherwise."""
OFF: Final = "off"
FAULTS: Final = {
    "slow-query": "PostgreSQL sleeps 0.4 s in the query for an order",
    "errors": "stock answers 500 when something is reserved",
    "cache-timeout": "Memcached is stopped (SIGSTOP): stock waits 0.1 s for it, each time",
    "name-stops": "dnsmasq no longer knows stock.demo",
    OFF: "all is well",
}
STOCK_NAME: Final = "stock.demo"
THINGS: Final = 200
"""Products, orders at the start, and rows of the stock have the numbers 1 to this one."""


@dataclass(frozen=True)
class Settings:
    """Where things are: `settings.json` in the folder.

    Attributes:
        folder: for everything that is written; removed at the end.
        ports: on 127.0.0.1, by what listens there.
    """

    folder: Path
    ports: dict[str, int]

    def save(self) -> None:
        """Writes it into its folder."""
        text = json.dumps(asdict(self) | {"folder": str(self.folder)})
        (self.folder / "settings.json").write_text(text)

    @property
    def fault(self) -> str:
        """The fault that is on; a file, since services have no door for it that would be traced."""
        return (self.folder / "fault").read_text()

    def switch(self, name: str) -> None:
        """Says which fault is on."""
        self._replace("fault", name)

    @property
    def hosts(self) -> Path:
        """The file of names that dnsmasq reads."""
        return self.folder / "hosts"

    def know_name(self, *, known: bool) -> None:
        """Writes the file of names; dnsmasq reads it at SIGHUP."""
        self._replace(self.hosts.name, f"127.0.0.1 {STOCK_NAME}\n" if known else "")

    def _replace(self, name: str, text: str) -> None:
        # In one step: who reads meanwhile sees the old or the new.
        written = self.folder / f"{name}.new"
        written.write_text(text)
        written.rename(self.folder / name)


def load(folder: str) -> Settings:
    """Returns what `save` has written there."""
    found = json.loads((Path(folder) / "settings.json").read_text())
    return Settings(Path(found["folder"]), found["ports"])


def free_ports(*names: str) -> dict[str, int]:
    """Returns a free port of 127.0.0.1 for each name, each another one."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in names]
    ports = [listener.getsockname()[1] for listener in sockets]
    for listener in sockets:
        listener.close()
    return dict(zip(names, ports, strict=True))
