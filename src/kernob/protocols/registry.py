"""Every protocol by its number in the kernel."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from kernob.protocols import redis

if TYPE_CHECKING:
    from kernob.protocols.naming import Protocol

PROTOCOLS: Final[dict[int, Protocol]] = {2: redis.PROTOCOL}
"""By the number in enum protocol (bpf/include/unit.h)."""
