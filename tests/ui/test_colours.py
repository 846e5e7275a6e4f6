from __future__ import annotations

import re
from pathlib import Path

from kernob.ui.colours import OTHERS, SLOTS, Colours

STYLE = Path(__file__).parents[2] / "src/kernob/ui/web/kernob.css"


def test_ten_names_have_ten_colours_and_keep_them() -> None:
    colours = Colours()
    names = [f"service-{number}" for number in range(SLOTS)]

    first = [colours.slot(name) for name in names]

    assert sorted(first) == list(range(SLOTS))
    assert [colours.slot(name) for name in reversed(names)] == first[::-1]


def test_a_name_has_the_same_colour_in_every_process() -> None:
    assert Colours().slot("nginx") == Colours().slot("nginx")


def test_more_names_than_colours_take_nobodys_away() -> None:
    colours = Colours()
    owned = {f"service-{number}": colours.slot(f"service-{number}") for number in range(SLOTS)}

    extra = {colours.slot(f"more-{number}") for number in range(100)}

    assert extra <= set(range(SLOTS))
    assert {name: colours.slot(name) for name in owned} == owned


def test_others_are_grey() -> None:
    assert Colours().slot("others") == OTHERS


def luminance(colour: str) -> float:
    parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, other: str) -> float:
    """Returns the contrast ratio of WCAG 2.2."""
    high, low = sorted((luminance(one), luminance(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)


def themes() -> list[dict[str, str]]:
    """Returns the colours of the light and the dark theme, by name."""
    blocks = re.findall(r'\[data-theme="(\w+)"\] \{([^}]*)\}', STYLE.read_text("utf-8"))
    return [dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6})", block)) for _, block in blocks]


def test_contrast_is_enough_in_both_themes() -> None:
    light, dark = themes()

    for theme in (light, dark):
        for back in ("back", "raised", "hover"):
            for name in ("text", "text-2", "accent", "bad", "attention"):
                assert contrast(theme[name], theme[back]) >= 4.5, (name, back)
        assert contrast(theme["text"], theme["accent-back"]) >= 4.5
        for slot in range(SLOTS):
            assert contrast(theme[f"series-{slot}"], theme["back"]) >= 3, slot
