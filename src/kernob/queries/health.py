"""Whose requests fail or slow down now: the last minutes against the hour before."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Literal, cast

import numpy as np

from kernob.queries.histograms import recorded
from kernob.queries.model import Health
from kernob.queries.percentiles import quantiles_of
from kernob.queries.rates import STORED_WITHIN
from kernob.queries.requests import LABELS, OPERATIONS
from kernob.queries.runs import Grid

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from kernob.queries.model import Range, Side
    from kernob.queries.stored import Labels
    from kernob.store.engine import Reader

MINUTE: Final = 60_000
LATELY: Final = 5 * MINUTE
BEFORE: Final = 60 * MINUTE
LOOK_BACK: Final = 10 * MINUTE
"""Milliseconds, one before the other."""
FEW: Final = 20
"""Requests that durations are compared from on."""
FEW_ERRORS: Final = 3
"""Errors that are worth a word."""
SHARE: Final = 0.01
BAD_SHARE: Final = 0.05
"""Of requests that fail: worth attention, or bad."""
WORSE: Final = 2.0
"""How many times the figure of the hour before is worth a word."""
SLOW: Final = 0.005
"""Seconds: what stays below is never slow."""

_STATES: Final = ("bad", "attention", "ok")
_WORDS: Final = {"server": "requests that it serves", "client": "requests that it makes"}


def health(reader: Reader, asked: Range, now: int) -> list[Health]:
    """Returns how requests of each service and side went, those in trouble first.

    The SQL is that of `histograms.recorded`, over the rollup of minutes: the last five that are
    whole, and the hour before. Lookups of names are not in it: that some names do not exist is
    nothing wrong.

    Args:
        reader: of the store.
        asked: its end is what "now" means, if it lies in the past.
        now: milliseconds since the Unix epoch.

    Raises:
        StoreError: as `Reader.read`.
    """
    end = min(asked.end, now - asked.interval - STORED_WITHIN) // MINUTE * MINUTE
    lately, before = end - LATELY, end - LATELY - BEFORE
    bucket = (
        f"multiIf(toUnixTimestamp(Time) < {before // 1000}, 0, "
        f"toUnixTimestamp(Time) < {lately // 1000}, 1, 2)"
    )
    grid = Grid("points_1m", before - LOOK_BACK, end, bucket, before=1, steps=3, inside=True)
    keys: dict[tuple[str, str], int] = {}

    def group(labels: Labels) -> NDArray[np.intp]:
        named = zip(labels["service"], labels["side"], strict=True)
        return np.array([keys.setdefault(key, len(keys)) for key in named], np.intp)

    wanted = {name: LABELS[name] for name in ("service", "side", "error")}
    found = recorded(reader, OPERATIONS, grid, wanted, group=group)
    groups = group(found.labels)
    failed = np.array([bool(error) for error in found.labels["error"]], np.bool_)
    requests, errors = np.zeros((2, len(keys), grid.steps))
    np.add.at(requests, groups, found.counts)
    np.add.at(errors, groups[failed], found.counts[failed])
    p95 = quantiles_of(found.of_steps, found.frame, [0.95])[:, :, 0]
    made = [
        _health(service, side, requests[at], errors[at], p95[at])
        for (service, side), at in keys.items()
        if requests[at, 1:].any()
    ]
    return sorted(made, key=lambda one: (_STATES.index(one.state), -one.errors, -one.requests))


def _health(
    service: str,
    side: str,
    requests: NDArray[np.float64],
    errors: NDArray[np.float64],
    p95: NDArray[np.float64],
) -> Health:
    """Makes one of three windows: what is before, the hour, and the last minutes."""
    shares = [float(errors[at] / requests[at]) if requests[at] else None for at in (1, 2)]
    lasted = [float(p95[at]) if requests[at] else None for at in (1, 2)]
    state, why = _judged(service, side, requests, errors, lasted)
    return Health(
        service=service,
        side=cast("Side", side),
        state=state,
        why=why,
        rate=float(requests[2]) / (LATELY / 1000),
        requests=round(requests[2]),
        errors=round(errors[2]),
        error_share=shares[1],
        error_share_before=shares[0],
        p95=lasted[1],
        p95_before=lasted[0],
    )


def _judged(
    service: str,
    side: str,
    requests: NDArray[np.float64],
    errors: NDArray[np.float64],
    p95: list[float | None],
) -> tuple[Literal["ok", "attention", "bad"], str]:
    """Returns the state, and why in words."""
    share = errors[2] / requests[2] if requests[2] else 0.0
    before = errors[1] / requests[1] if requests[1] else 0.0
    if errors[2] >= FEW_ERRORS and share >= SHARE:
        compared = f", {_percent(before)} in the hour before" if requests[1] else ""
        text = f"{service}: {_percent(share)} of the {_WORDS[side]} fail{compared}."
        return "bad" if share >= BAD_SHARE and share >= WORSE * before else "attention", text
    slow, was = p95[1], p95[0]
    if slow and was and min(requests[1:]) >= FEW and slow >= max(SLOW, WORSE * was):
        return "attention", (
            f"{service}: {_WORDS[side]} slow down, 95 % take up to {_seconds(slow)}, "
            f"{_seconds(was)} in the hour before."
        )
    return "ok", ""


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def _seconds(value: float) -> str:
    return f"{value:.3g} s" if value >= 1 else f"{value * 1000:.3g} ms"
