from __future__ import annotations

import pytest

from kernob.top.table import bar
from kernob.top.words import sparkline


@pytest.mark.parametrize(
    ("share", "text"),
    [(0, "    "), (0.001, "    "), (0.5, "██  "), (0.28, "█▏  "), (1, "████"), (1.7, "████")],
)
def test_a_bar_is_drawn_in_eighths(share: float, text: str) -> None:
    assert bar(share, 4) == text


def test_a_sparkline_starts_at_zero_and_keeps_gaps() -> None:
    assert sparkline([0.0, 50.0, None, 100.0], 6) == "  ▁▅ █"
    assert sparkline([0.0, 0.0], 2) == "▁▁"
    assert sparkline([9.0, 1.0, 1.0], 2) == "██"
    assert sparkline([], 3) == "   "
