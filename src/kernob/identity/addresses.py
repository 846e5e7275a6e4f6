"""IP addresses: which are this host's, their text, and what kind of network they are in.

Everywhere an address is 16 bytes; one of IPv4 is mapped (RFC 4291, section 2.5.5.2).
"""

from __future__ import annotations

import enum
import socket
import struct
from ipaddress import IPv4Address, IPv6Address
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

MAPPED: Final = bytes(10) + b"\xff\xff"
"""What an IPv4 address begins with."""

_RTM_NEWADDR, _RTM_GETADDR = 20, 22  # rtnetlink(7)
_NLMSG_ERROR, _NLMSG_DONE = 2, 3  # netlink(7)
_NLM_F_REQUEST_DUMP = 0x301
_IFA_ADDRESS, _IFA_LOCAL = 1, 2
_RECEIVED: Final = 65536


class NetworkClass(enum.Enum):
    """What kind of network an address is in, as far as the address itself tells."""

    LOOPBACK = "loopback"
    LINK_LOCAL = "link-local"
    MULTICAST = "multicast"
    PRIVATE = "private"
    """Not to be routed in the Internet: RFC 1918, RFC 4193, RFC 6598 and other special ones."""
    PUBLIC = "public"


def plain(address: bytes) -> IPv4Address | IPv6Address:
    """Returns the address, a mapped one as the IPv4 address it is."""
    if address.startswith(MAPPED):
        return IPv4Address(address[len(MAPPED) :])
    return IPv6Address(address)


def packed(address: IPv4Address | IPv6Address) -> bytes:
    """Returns the 16 bytes of an address, IPv4 mapped."""
    return address.packed if isinstance(address, IPv6Address) else MAPPED + address.packed


def network_class(address: bytes) -> NetworkClass:
    """Returns what kind of network the address is in."""
    ip = plain(address)
    if ip.is_loopback:
        return NetworkClass.LOOPBACK
    if ip.is_link_local:
        return NetworkClass.LINK_LOCAL
    if ip.is_multicast:
        return NetworkClass.MULTICAST
    return NetworkClass.PUBLIC if ip.is_global else NetworkClass.PRIVATE


def local_addresses() -> frozenset[bytes]:
    """Returns the addresses of this network namespace, asked of the kernel by RTM_GETADDR.

    Raises:
        OSError: the kernel does not answer (a sandbox without netlink).
    """
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE) as netlink:
        netlink.settimeout(1)
        netlink.send(struct.pack("=IHHIIB7x", 24, _RTM_GETADDR, _NLM_F_REQUEST_DUMP, 1, 0, 0))
        found: set[bytes] = set()
        while True:
            data = netlink.recv(_RECEIVED)
            for kind, message in _messages(data):
                if kind == _NLMSG_ERROR:
                    error = -struct.unpack_from("=i", message)[0]
                    raise OSError(error, "the kernel refused to list its addresses")
                if kind == _NLMSG_DONE:
                    return frozenset(found)
                if kind == _RTM_NEWADDR:
                    found.add(_address(message))


def _messages(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Yields type and payload of each netlink message."""
    offset = 0
    while offset + 16 <= len(data):
        length, kind = struct.unpack_from("=IH", data, offset)
        yield kind, data[offset + 16 : offset + length]
        offset += max(length + 3 & ~3, 16)


def _address(message: bytes) -> bytes:
    """Returns the address in an ifaddrmsg: IFA_LOCAL, since at a tunnel IFA_ADDRESS is the peer."""
    values = {}
    offset = 8
    while offset + 4 <= len(message):
        length, kind = struct.unpack_from("=HH", message, offset)
        values[kind] = message[offset + 4 : offset + length]
        offset += max(length + 3 & ~3, 4)
    value = values.get(_IFA_LOCAL) or values[_IFA_ADDRESS]
    return MAPPED + value if len(value) == 4 else value  # noqa: PLR2004
