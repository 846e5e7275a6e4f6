"""The colour of each name, the same on every page.

Ten colours, chosen by search: in either theme of nearly equal lightness (OKLCH 0.74 or 0.60,
within 0.05), at least 3:1 against the background, none that says bad, and no two nearer than 0.05
in OKLab, for normal sight and for protanopia, deuteranopia and tritanopia (Machado et al., 2009).
Their values are in `web/kernob.css` (`--series-0` to `--series-9`).
"""

from __future__ import annotations

import time
import zlib
from dataclasses import dataclass, field
from typing import Final

SLOTS: Final = 10
OTHERS: Final = -1
"""The grey of all the rest, summed."""
KEPT: Final = 3600.0
"""Seconds for which a colour stays with a name that isn't drawn."""


@dataclass(slots=True)
class Colours:
    """Gives slots to names: by a hash of the name, or the next that is free.

    With ten names and ten colours, a hash alone would give two of them the same one nearly always.
    When all are taken, the hash decides.
    """

    _owners: dict[int, tuple[str, float]] = field(default_factory=dict)

    def slot(self, name: str) -> int:
        """Returns the slot of a name that is drawn, 0 to 9; `others` is grey."""
        if name == "others":
            return OTHERS
        now = time.monotonic()
        wanted = zlib.crc32(name.encode()) % SLOTS
        free = None
        for step in range(SLOTS):
            slot = (wanted + step) % SLOTS
            owner, seen = self._owners.get(slot, ("", float("-inf")))
            if owner == name:
                self._owners[slot] = (name, now)
                return slot
            if free is None and now - seen > KEPT:
                free = slot
        if free is None:
            return wanted
        self._owners[free] = (name, now)
        return free


_KINDS: Final[dict[str, Colours]] = {}


def slot(name: str, kind: str = "service") -> int:
    """Returns the colour slot of a service (process, peer, host), -1 for `others`."""
    return _KINDS.setdefault(kind, Colours()).slot(name)
