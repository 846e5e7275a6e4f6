"""Which operation of which service a key of the kernel's is about: for series and samples alike."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from kernob.protocols.naming import UNKNOWN, Operation
from kernob.protocols.registry import PROTOCOLS
from kernob.signals.accounts import MANY_CLIENTS, MANY_PEERS, SIDES
from kernob.signals.flows import is_unspecified
from kernob.telemetry.model import Attributes, AttributeValue, Metric, attributes

if TYPE_CHECKING:
    from collections.abc import Callable

    from kernob.identity.process import Process
    from kernob.signals.requests import Text

TEXTS: Final = 65536
"""Most texts of operations that are kept: then the oldest are forgotten."""
TELLING: Final = frozenset(
    {
        *("http.route", "url.template", "dns.question.name"),
        *("db.namespace", "db.query.summary", "db.query.text"),
    }
)
"""Attributes that say more than method, command and status: left out if texts are."""


@dataclass(frozen=True, slots=True)
class Described:
    """What a key of the kernel's means.

    Attributes:
        attributes: of its series.
        side: `client` or `server`.
        duration: the metric that its durations count in.
    """

    attributes: Attributes
    side: str
    duration: Metric


class Operations:
    """Knows the texts of fingerprints, and describes keys (`struct series_key`) by them.

    Args:
        identify: the process of an id.
        name_peer: what to call an address (16 bytes), port (0: unknown) and transport.
        host: `host.name` of this one.
        texts: let texts of operations out; without, only methods, commands and statuses.
    """

    def __init__(
        self,
        *,
        identify: Callable[[int, int], Process],
        name_peer: Callable[[bytes, int, int], str],
        host: str,
        texts: bool,
    ) -> None:
        self._identify = identify
        self._name_peer = name_peer
        self._host = host
        self._with_texts = texts
        self._texts: dict[int, str] = {}

    def learn(self, text: Text) -> None:
        """Takes in what a fingerprint stands for."""
        if len(self._texts) >= TEXTS:
            for oldest in list(self._texts)[: TEXTS // 4]:
                del self._texts[oldest]
        self._texts[text.fingerprint] = text.text

    def knows(self, key: Any) -> bool:
        """Whether the texts of a key are known: the ring may have dropped one, or is late."""
        fingerprints = int(key["operation"]), int(key["namespace"])
        return all(not f or f in self._texts for f in fingerprints)

    def describe(self, key: Any) -> Described:
        """Returns what a key means; a text that is not known is left out."""
        side = SIDES[int(key["side"])]
        address, port = key["address"].tobytes(), int(key["port"])
        protocol = PROTOCOLS[int(key["protocol"])]
        process = self._identify(int(key["pid"]), int(key["start"]))
        transport = 6 if protocol.name != "dns" else 17
        if is_unspecified(address):
            peer = MANY_CLIENTS if side == "server" else MANY_PEERS
        else:
            # The port is that of the serving side: it says nothing about who calls.
            peer = self._name_peer(address, 0 if side == "server" else port, transport)
        operation = Operation(
            text=self._texts.get(int(key["operation"]), UNKNOWN),
            status=int(key["status"]),
            namespace=self._texts.get(int(key["namespace"]), "") if key["namespace"] else "",
            server=side == "server",
        )
        found = protocol.attributes(operation)
        if not self._with_texts:
            found = {name: value for name, value in found.items() if name not in TELLING}
        own: dict[str, AttributeValue] = {
            "service.name": process.service,
            "kernob.peer": peer,
            "kernob.side": side,
            "network.protocol.name": protocol.name,
            "server.address": self._host if side == "server" else peer,
            "server.port": port,
            **found,
        }
        if not key["operation"]:
            own["otel.metric.overflow"] = True
        duration = protocol.server if side == "server" else protocol.client
        return Described(attributes(own), side, duration)
