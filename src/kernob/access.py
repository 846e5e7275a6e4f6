"""Who may come in at an address: one rule for all that listens, of the agent and of the server.

On loopback everybody on the host, elsewhere only who has the token or a certificate.
"""

from __future__ import annotations

import hmac
import ipaddress
import socket
import ssl
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from kernob.errors import ListenError

if TYPE_CHECKING:
    from pathlib import Path

_LAST_PORT: Final = 65535


@dataclass(frozen=True, slots=True)
class Tls:
    """PEM files.

    Attributes:
        client_ca: who signs the certificates of clients; with it a client must have one.
    """

    certificate: Path
    key: Path
    client_ca: Path | None = None

    def context(self) -> ssl.SSLContext:
        """Returns what a server needs of them.

        Raises:
            ListenError: a file can't be used.
        """
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        file = self.certificate
        try:
            context.load_cert_chain(self.certificate, self.key)
            if self.client_ca:
                file = self.client_ca
                context.load_verify_locations(self.client_ca)
                context.verify_mode = ssl.CERT_REQUIRED
        except OSError as error:
            raise ListenError(f"TLS: {file} (or its key): {error}") from error
        return context


class Access:
    """An address to listen on, and its guard; the token is read here.

    Attributes:
        host: as given.
        ip: the address to listen on.
        port: 0 for a free one.
        tls: the certificates; None for plain text.
    """

    def __init__(
        self, address: str, *, token_file: Path | None = None, tls: Tls | None = None
    ) -> None:
        """Reads and checks.

        Args:
            address: `host:port`, `[IPv6]:port`, `:port` for all addresses; port 0 for a free one.
            token_file: holds the bearer token that clients must send.
            tls: without it, plain text.

        Raises:
            ListenError: the address is none, a file can't be used, or it is not on loopback and
                neither a token nor certificates of clients guard it.
        """
        self.host, self.ip, self.port = _resolve(address)
        self.tls = tls
        self._token = _token(token_file) if token_file else None
        guarded = token_file is not None or (tls is not None and tls.client_ca is not None)
        if not guarded and not ipaddress.ip_address(self.ip).is_loopback:
            raise ListenError(
                f"{address} is not on loopback, and nothing guards it",
                remedy="give a token file or a CA of clients, or listen on 127.0.0.1",
            )

    def allows(self, authorization: str) -> bool:
        """Returns whether a request may come in, by its header or metadata `authorization`."""
        if self._token is None:
            return True
        scheme, _, given = authorization.partition(" ")
        # In constant time, so that how long it takes tells nothing of the token.
        return hmac.compare_digest(given.strip().encode("latin-1", "replace"), self._token) and (
            scheme.lower() == "bearer"
        )

    def bind(self) -> socket.socket:
        """Returns a socket that is bound, and does not listen yet.

        Raises:
            ListenError: the address is taken, or not this host's, or not allowed.
        """
        family = socket.AF_INET6 if ":" in self.ip else socket.AF_INET
        bound = socket.socket(family, socket.SOCK_STREAM)
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            bound.bind((self.ip, self.port))
        except OSError as error:
            bound.close()
            raise taken(f"{self.host}:{self.port}", error.strerror) from error
        return bound

    def listen(self, bound: socket.socket, waiting: int) -> None:
        """Has a socket of `bind` take connections; `waiting` of them may wait to be accepted.

        Raises:
            ListenError: somebody else who had bound the address listens there by now.
        """
        try:
            bound.listen(waiting)
        except OSError as error:
            raise taken(f"{self.host}:{self.port}", error.strerror) from error


def taken(address: str, reason: str | None) -> ListenError:
    """Returns the error of an address that can't be had."""
    return ListenError(
        f"can't listen on {address}: {reason}",
        remedy="end what listens there, or set another address",
    )


def _resolve(address: str) -> tuple[str, str, int]:
    """Returns host as given, IP address, and port."""
    host, colon, port = address.rpartition(":")
    if not colon or not port.isascii() or not port.isdigit() or int(port) > _LAST_PORT:
        raise ListenError(f"{address!r} is no host:port")
    try:
        found = socket.getaddrinfo(
            host.strip("[]") or "::", int(port), type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
    except OSError as error:
        raise ListenError(f"{address!r}: {error.strerror}") from error
    return host, str(found[0][4][0]), int(port)


def _token(file: Path) -> bytes:
    try:
        token = file.read_bytes().strip()
    except OSError as error:
        raise ListenError(f"can't read the token file {file}: {error.strerror}") from error
    if not token:
        raise ListenError(f"the token file {file} is empty")
    return token
