"""How a figure is known: which metrics, which hooks, which agents, and what they lost."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from kernob.queries.model import Provenance
from kernob.queries.rates import totals
from kernob.queries.runs import ALL, Which

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from kernob.queries.model import Range
    from kernob.store.engine import Reader

HOOKS: Final = {
    "ebpf": "in the kernel, as each call returns: sock_send_length and sock_recv_length "
    "(before Linux 6.5: fexit of inet_sendmsg, inet_recvmsg and their kin)",
    "polling": "sockets' own counters, read over sock_diag: TCP only, and what lives shorter than "
    "an interval is missed",
}
"""Where bytes and calls of the network are counted, by the agent's mode."""

REQUEST_HOOKS: Final = {
    "ebpf": "in the kernel, from the bytes of each call: request and answer are paired per "
    "connection, the duration goes from the first byte of the request to the last of the answer",
}
"""Where requests are counted, by the agent's mode; polling sees none."""


def provenance(
    reader: Reader,
    metrics: Sequence[str],
    asked: Range,
    *,
    host: str = "",
    points: int = 0,
    seconds: float = 0.0,
    hooks: Mapping[str, str] = HOOKS,
    which: Which | None = None,
) -> Provenance:
    """Returns how figures of the network, or of requests, within a range are known.

    The SQL lists the modes that agents said they count in, and how much `kernob.agent.lost` grew.

    Args:
        reader: of the store.
        metrics: their names.
        asked: the range.
        host: only agents of this one; empty for all.
        points: that were read for the figures.
        seconds: that it took.
        hooks: where they are counted, by mode.
        which: agents, by the columns of `kernob_series`; None for those of `host`.

    Raises:
        StoreError: as `Reader.read`.
    """
    which = which or at_host(host)
    found = reader.read(
        "SELECT DISTINCT Attributes['kernob.agent.mode'] AS mode FROM kernob_series "
        "WHERE MetricName = 'kernob.agent.info' "
        "AND Day >= toDate(fromUnixTimestamp64Milli({start:Int64}), 'UTC') - 1 "
        "AND Day <= toDate(fromUnixTimestamp64Milli({end:Int64}), 'UTC') + 1 "
        f"AND ({which.sql}) ORDER BY mode",
        start=asked.start,
        end=asked.end,
        **which.parameters,
    )
    modes = found["mode"].to_pylist() if found.num_rows else []
    return Provenance(
        metrics=list(metrics),
        hooks=[hooks[mode] for mode in modes if mode in hooks],
        modes=modes,
        exact="polling" not in modes,
        lost=lost(reader, asked, which),
        resolution=max(asked.interval, 0 if asked.tier == "points" else asked.step),
        rows_read=points,
        seconds=seconds,
    )


def lost(reader: Reader, asked: Range, which: Which = ALL) -> dict[str, float]:
    """Returns what agents could not count within the range, by reason; only what isn't zero."""
    reason = {"reason": "Attributes['reason']"}
    found = totals(reader, "kernob.agent.lost", asked, reason, which)
    return {name: count for (name,), count in found.items()}


def at_host(host: str) -> Which:
    """Returns the series of one host; of all if it is empty."""
    return Which("Host = {host:String}", {"host": host}) if host else ALL
