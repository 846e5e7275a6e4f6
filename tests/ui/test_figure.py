from __future__ import annotations

import random
from typing import TYPE_CHECKING

import pytest

from kernob import rates

if TYPE_CHECKING:
    from collections.abc import Callable

    from playwright.sync_api import Page

pytestmark = pytest.mark.server


def test_figures_are_the_same_texts_as_in_the_terminal(browse: Callable[..., Page]) -> None:
    page = browse("/traffic")
    chance = random.Random(4)
    values = [0, 0.2, 0.5, 1, 7.5, 999, 999.4, 999.5, 1000, 9995, 9994.9, 99_950, 999_499, 1e6]
    values += [chance.random() * 10 ** chance.uniform(-2, 21) for _ in range(2000)]
    shown = page.evaluate(
        """async (values) => { const { text } = await import("kernob");
          return values.map((v) => [text(v, "bytes"), text(v, "rate"), text(v, "count")]); }""",
        values,
    )

    expected = [
        [rates.bytes_text(value), rates.rate_text(value), rates.count_text(value)]
        for value in values
    ]
    assert shown == expected


@pytest.mark.parametrize(
    ("largest", "before", "unit"),
    [
        (400, "", "B/s"),
        (400, "B", "B/s"),  # as a column has it whose unit was B/s
        (600, "k", "kB/s"),
        (400, "k", "B/s"),
        (1200, "B", "kB/s"),
        (999_600, "k", "MB/s"),
    ],
)
def test_a_columns_unit_stays_while_it_fits(
    browse: Callable[..., Page], largest: float, before: str, unit: str
) -> None:
    page = browse("/traffic")
    ask = 'async ([v, b]) => (await import("kernob")).column([v, 0], "rate", b)[0]'

    assert page.evaluate(ask, [largest, before]) == unit


@pytest.mark.parametrize(
    ("kind", "value", "text"),
    [
        ("share", 0, "0.0 %"),
        ("share", 0.0001, "<0.1 %"),
        ("share", 0.0123, "1.2 %"),
        ("share", 1, "100 %"),
        ("seconds", 0.18, "180 ms"),
        ("seconds", 0.00123, "1.23 ms"),
        ("seconds", 42, "42.0 s"),
        ("seconds", 900, "15 min"),
        ("rate", None, "\u2013"),
    ],
)
def test_shares_times_and_what_is_not_known(
    browse: Callable[..., Page], kind: str, value: float | None, text: str
) -> None:
    page = browse("/traffic")

    assert (
        page.evaluate('async ([v, k]) => (await import("kernob")).text(v, k)', [value, kind])
        == text
    )
