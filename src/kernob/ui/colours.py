"""The colour of each name: the same on every page, and its own in each chart.

Ten colours, chosen by search: in either theme of nearly equal lightness (OKLCH 0.74 or 0.60,
within 0.05), at least 3:1 against the background, none that says bad, and no two nearer than 0.05
in OKLab, for normal sight and for protanopia, deuteranopia and tritanopia (Machado et al., 2009).
Their values are in `web/kernob.css` (`--series-0` to `--series-9`).

Ten are less than there are names, so:

1. A name that is drawn first gets the colour of its hash; if another name has that, the next one
   that nobody has; if all are taken, the next one that is free in its chart. It keeps it.
2. Two names with one colour may meet in a chart later. There, the one that has had it for longer
   keeps it; the other gets the next one that is free, in this chart only.
3. So only a chart of more than ten names shows two in one colour.
"""

from __future__ import annotations

import time
import zlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable

SLOTS: Final = 10
OTHERS: Final = -1
"""The grey of all the rest, summed."""
BAD: Final = -2
"""The red of what fails."""
KEPT: Final = 3600.0
"""Seconds for which a colour stays with a name that isn't drawn."""
MOST: Final = 1000
"""Names that are kept in mind."""


@dataclass(slots=True)
class Colours:
    """Gives slots, 0 to 9, to names of one kind."""

    _owned: dict[str, int] = field(default_factory=dict)
    """Slot of each name, in the order in which they got theirs."""
    _seen: dict[str, float] = field(default_factory=dict)

    def slots(self, names: Iterable[str]) -> dict[str, int]:
        """Returns the slot of each name of one chart; `others` is grey.

        Args:
            names: that are drawn; the first ones choose first.
        """
        self._forget()
        now = time.monotonic()
        asked = dict.fromkeys(name for name in names if name != "others")
        self._seen.update(dict.fromkeys(asked, now))
        known = [name for name in self._owned if name in asked]
        # The last one that is put in stays: who has had it for longest.
        keeps = {self._owned[name]: name for name in reversed(known)}
        chart = {"others": OTHERS, **{name: slot for slot, name in keeps.items()}}
        for name in [*known, *asked]:
            if name in chart:
                continue
            taken = set(chart.values())
            chart[name] = _free(name, taken, self._owned.get(name))
            if name not in self._owned:
                owned = taken.union(self._owned.values())
                chart[name] = self._owned[name] = _free(name, owned, chart[name])
        return chart

    def _forget(self) -> None:
        """Takes colours away from names that were not drawn for long."""
        since = time.monotonic() - KEPT
        latest = sorted(self._seen, key=lambda name: self._seen[name], reverse=True)[:MOST]
        for name in set(self._seen) - {name for name in latest if self._seen[name] > since}:
            del self._owned[name], self._seen[name]


def _free(name: str, taken: set[int], otherwise: int | None = None) -> int:
    """Returns the first slot from a name's hash on that isn't taken.

    If all are taken, it is the other one that is given, or the hash's.
    """
    wanted = zlib.crc32(name.encode()) % SLOTS
    order = ((wanted + step) % SLOTS for step in range(SLOTS))
    return next((s for s in order if s not in taken), wanted if otherwise is None else otherwise)


_KINDS: Final[dict[str, Colours]] = {}


def slots(names: Iterable[str], kind: str = "service") -> dict[str, int]:
    """Returns the colour slots of the services (processes, peers, hosts) of one chart."""
    return _KINDS.setdefault(kind, Colours()).slots(names)
