"""Texts and small lines that several pages make in Python."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

POINTS: Final = 48
"""Of a small line, which is 96 pixels wide."""


def counted(number: int, what: str) -> str:
    """Returns how many there are: `1 host`, `12 hosts`."""
    return f"{number:,} {what}" if number == 1 else f"{number:,} {what}s"


def length(milliseconds: float) -> str:
    """Returns a stretch of time: `9 s`, `21 min`, `3 h`, `12 d`."""
    seconds = max(0.0, milliseconds / 1000)
    for most, unit, size in ((100, "s", 1), (6000, "min", 60), (172_800, "h", 3600)):
        if seconds < most:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds / 86_400:.0f} d"


def rounded(value: float) -> float:
    """Returns a number without the digits that nobody sees: it goes to the browser as text."""
    return round(value, 4) if abs(value) >= 1 else float(f"{value:.6g}")


def thinned(values: Sequence[float | None], most: int = POINTS) -> tuple[float | None, ...]:
    """Returns a line with at most so many points: the highest of each stretch, None for a gap."""
    size = -(-len(values) // most) or 1
    stretches = (values[at : at + size] for at in range(0, len(values), size))
    highest = (max((v for v in part if v is not None), default=None) for part in stretches)
    return tuple(None if v is None else float(f"{v:.3g}") for v in highest)
