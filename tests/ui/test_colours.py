from __future__ import annotations

import random
import re
from pathlib import Path

import pytest

from kernob.ui.colours import MOST, OTHERS, SLOTS, Colours

STYLE = Path(__file__).parents[2] / "src/kernob/ui/web/kernob.css"


def services(count: int) -> list[str]:
    return [f"service-{number}" for number in range(count)]


def test_ten_names_have_ten_colours_and_keep_them_in_any_order() -> None:
    colours = Colours()

    first = colours.slots(services(SLOTS))

    assert sorted(first.values()) == [OTHERS, *range(SLOTS)]
    assert colours.slots(reversed(services(SLOTS))) == first
    assert colours.slots(["service-3"])["service-3"] == first["service-3"]


def test_a_name_has_the_same_colour_in_every_process() -> None:
    assert Colours().slots(["nginx"]) == Colours().slots(["nginx"])


def test_each_name_of_a_chart_has_its_own_however_many_there_are_elsewhere() -> None:
    colours = Colours()
    alone = {name: colours.slots([name])[name] for name in services(200)}

    for seed in range(50):
        chart = random.Random(seed).sample(services(200), SLOTS)
        drawn = colours.slots(chart)
        del drawn["others"]

        assert len(set(drawn.values())) == SLOTS
        # Of those with one colour, the one that has had it for longest keeps it.
        keeps = {alone[name]: name for name in sorted(chart, key=services(200).index, reverse=True)}
        assert all(drawn[name] == slot for slot, name in keeps.items())
        assert colours.slots(random.Random(0).sample(chart, SLOTS)) == colours.slots(chart)
    assert {name: colours.slots([name])[name] for name in services(200)} == alone


def test_more_names_than_colours_in_one_chart_share_them() -> None:
    drawn = Colours().slots([*services(25), "others"])

    assert drawn.pop("others") == OTHERS
    assert set(drawn.values()) == set(range(SLOTS))


def test_names_that_are_not_drawn_for_long_give_theirs_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    colours = Colours()
    colours.slots(services(SLOTS))
    monkeypatch.setattr("kernob.ui.colours.KEPT", 0)

    assert colours.slots(["nginx"]) == Colours().slots(["nginx"])
    assert list(colours._owned) == ["nginx"]


def test_so_many_names_are_kept_in_mind() -> None:
    colours = Colours()
    for name in services(MOST + 50):
        colours.slots([name])

    assert len(colours._owned) <= MOST + 1
    assert services(MOST + 50)[-1] in colours._owned


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
