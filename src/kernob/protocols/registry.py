"""Every protocol by its number in the kernel."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from kernob.protocols import dns, http, memcached, mysql, postgresql, redis

if TYPE_CHECKING:
    from kernob.protocols.naming import Protocol

PROTOCOLS: Final[dict[int, Protocol]] = {
    1: http.PROTOCOL,
    2: redis.PROTOCOL,
    3: postgresql.PROTOCOL,
    4: mysql.PROTOCOL,
    5: memcached.PROTOCOL,
    6: dns.PROTOCOL,
}
"""By the number in enum protocol (bpf/include/unit.h)."""
