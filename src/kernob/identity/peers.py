"""The names of peers: what `kernob.peer` shows for an address and a port.

In this order: a name from the configuration, the service of this host that listens there, the
name in /etc/hosts, the address itself. There is no reverse DNS: a busy server meets thousands of
addresses a minute, each a query (and, where there is no answer, a wait) that would load the very
network under observation, for names that say little (`ec2-3-64-...`).
"""

from __future__ import annotations

from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import TYPE_CHECKING, Final

from kernob.identity.addresses import local_addresses, packed, plain

if TYPE_CHECKING:
    from collections.abc import Mapping

_HOSTS: Final = Path("/etc/hosts")
_HOSTS_LENGTH: Final = 1 << 20
_NAME_LENGTH: Final = 128
_CACHED: Final = 65536


class Peers:
    """Names peers; each address is looked at once until something changes.

    Args:
        names: for addresses and networks (`10.0.0.0/8`, `fd00::/8`); the narrowest one counts.
        hosts: a file in the form of hosts(5).

    Raises:
        ValueError: a key of `names` is neither address nor network.
    """

    def __init__(self, names: Mapping[str, str] | None = None, hosts: Path = _HOSTS) -> None:
        networks = [(ip_network(address), name) for address, name in (names or {}).items()]
        self._networks = sorted(networks, key=lambda pair: pair[0].prefixlen, reverse=True)
        self._hosts = hosts
        self._hosts_state: tuple[int, int] | None = None
        self._host_names: dict[bytes, str] = {}
        self._local: frozenset[bytes] = frozenset()
        self._served: dict[tuple[int, int], str] = {}
        self._known: dict[bytes, tuple[str, bool, str]] = {}
        self.refresh()

    def name(self, address: bytes, port: int, transport: int) -> str:
        """Returns the peer's name, or its address as text (`192.0.2.1`, `2001:db8::1`).

        Args:
            address: 16 bytes, IPv4 mapped.
            port: the peer's; 0 if it is the one that called.
            transport: IP protocol number.
        """
        known = self._known.get(address)
        if known is None:
            if len(self._known) >= _CACHED:
                self._known.clear()
            known = self._known[address] = self._look_up(address)
        configured, local, otherwise = known
        if configured or not local:
            return configured or otherwise
        return self._served.get((transport, port), otherwise)

    def is_local(self, address: bytes) -> bool:
        """Returns whether the address is this host's."""
        return address in self._local or plain(address).is_loopback

    def serves(self, transport: int, port: int, service: str) -> None:
        """Takes note that a service of this host serves a port; the latest one counts."""
        self._served[transport, port] = service

    def refresh(self) -> None:
        """Looks whether this host's addresses or /etc/hosts have changed; call it now and then."""
        try:
            local = local_addresses()
        except OSError:  # a sandbox: loopback is known without asking
            local = frozenset()
        hosts_changed = self._read_hosts()
        if local != self._local or hosts_changed:
            self._local = local
            self._known.clear()

    def _read_hosts(self) -> bool:
        """Returns whether the file's names may have changed."""
        try:
            stat = self._hosts.stat()
            state = (stat.st_mtime_ns, stat.st_size)
            if state == self._hosts_state:
                return False
            with self._hosts.open(errors="replace") as file:
                names = _parse_hosts(file.read(_HOSTS_LENGTH))
        except OSError:  # no such file: no names from it
            state, names = None, {}
        changed = names != self._host_names
        self._hosts_state, self._host_names = state, names
        return changed

    def _look_up(self, address: bytes) -> tuple[str, bool, str]:
        """Returns the configured name, whether it is local, and what it is otherwise."""
        ip = plain(address)
        configured = next((name for network, name in self._networks if ip in network), "")
        otherwise = "" if ip.is_loopback else self._host_names.get(address, "")
        return configured, self.is_local(address), otherwise or str(ip)


def _parse_hosts(text: str) -> dict[bytes, str]:
    """Returns the first name of each address."""
    names: dict[bytes, str] = {}
    for line in text.splitlines():
        words = line.partition("#")[0].split()
        if len(words) > 1:
            try:
                address = packed(ip_address(words[0].partition("%")[0]))
            except ValueError:  # the resolver skips such a line as well
                continue
            names.setdefault(address, words[1][:_NAME_LENGTH])
    return names
