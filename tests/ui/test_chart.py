from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from playwright.sync_api import expect

from ui.test_traffic import drawn
from ui.truth import PEERS, STEP

if TYPE_CHECKING:
    from collections.abc import Callable

    from playwright.sync_api import Page

    from ui.truth import Truth

pytestmark = pytest.mark.server


def test_gaps_stay_gaps(browse: Callable[..., Page], truth: Truth) -> None:
    page = browse(f"/traffic?{truth.crowd}&service=pausing")

    values = [value for _, value in drawn(page)["here.example"]]
    assert values[:10] == [3000] * 10
    assert values[10:20] == [None] * 10
    assert values[20:] == [3000] * 20


def test_the_rest_is_summed_as_others(browse: Callable[..., Page], truth: Truth) -> None:
    page = browse(f"/traffic?{truth.crowd}&service=crowded&show=transmit")

    series = drawn(page)
    assert len(series) == 11
    assert next(iter(series)) == f"peer-{PEERS - 1:04}.example"
    bytes_of = {
        name: sum(value or 0 for _, value in points) * STEP / 1000
        for name, points in series.items()
    }
    whole = 2 * sum(1_000 + number for number in range(PEERS))
    largest = 2 * sum(1_000 + number for number in range(PEERS - 10, PEERS))
    assert bytes_of["others"] == pytest.approx(whole - largest, rel=1e-4)


def test_a_click_in_the_legend_isolates_and_sums_the_rest(
    browse: Callable[..., Page], truth: Truth
) -> None:
    page = browse(f"/traffic?{truth.query}&show=transmit")
    before = drawn(page)
    page.locator(".k-keys").get_by_role("button", name="postgres").click()
    page.wait_for_url("**only=postgres**")

    series = drawn(page)
    assert list(series) == ["postgres", "others"]
    assert series["postgres"] == before["postgres"]
    assert series["others"][3][1] == pytest.approx(
        before["nginx"][3][1] + before["cron"][3][1], abs=0.001
    )
    page.reload()
    assert list(drawn(page)) == ["postgres", "others"]
    page.locator(".k-keys").get_by_role("button", name="postgres").click()
    page.wait_for_url(lambda url: "only" not in url)
    assert drawn(page) == before


def test_each_line_has_its_own_colour(browse: Callable[..., Page], truth: Truth) -> None:
    page = browse(f"/traffic?{truth.crowd}&service=crowded")

    swatches = page.locator(".k-keys tbody .k-swatch")
    expect(swatches).to_have_count(11)
    colours = swatches.evaluate_all("all => all.map((one) => getComputedStyle(one).background)")
    assert len(set(colours)) == 11


def test_on_a_narrow_screen_the_legend_opens_by_a_button(
    browse: Callable[..., Page], truth: Truth
) -> None:
    page = browse(f"/traffic?{truth.query}", viewport={"width": 390, "height": 844})
    legend = page.locator(".k-keys").first
    expect(page.locator("tr[data-key]").first).to_be_visible()
    expect(legend).to_be_hidden()

    page.get_by_role("button", name="Show the legend").first.click()
    legend.get_by_role("button", name="postgres").click()

    page.wait_for_url("**only=postgres**")
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    page.get_by_role("button", name="Hide the legend").first.click()
    expect(legend).to_be_hidden()


def test_the_cross_hair_says_the_values_of_its_time(
    browse: Callable[..., Page], truth: Truth
) -> None:
    page = browse(f"/traffic?{truth.query}&show=transmit")
    page.wait_for_selector(".k-canvas canvas")
    page.locator(".k-plot").focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    tip = page.locator(".k-tip")

    expect(tip).to_be_visible()
    expect(tip).to_contain_text("nginx")
    # 150,000,003 + 45,000,007 + 30,000,019 and 3 for the second step, in 15 s
    expect(tip).to_contain_text("15.0")
    page.keyboard.press("Escape")
    expect(tip).to_be_hidden()


def test_it_has_words_for_who_does_not_see_it(browse: Callable[..., Page], truth: Truth) -> None:
    page = browse(f"/traffic?{truth.query}&show=transmit")
    page.wait_for_selector(".k-canvas canvas")
    said = page.get_by_role("img").get_attribute("aria-label")

    assert said is not None
    assert said.startswith("Traffic by service, out, ")
    assert "nginx: last 15.0 MB/s, highest 15.0 MB/s" in said


def test_it_tells_how_it_knows(browse: Callable[..., Page], truth: Truth) -> None:
    page = browse(f"/traffic?{truth.query}&host=web-1")
    page.wait_for_selector("tr[data-key]")
    page.locator(".k-provenance summary").click()

    known = page.locator(".k-provenance")
    expect(known).to_contain_text("Exact")
    expect(known).to_contain_text("kernob.network.io")
    expect(known).to_contain_text("sock_send_length")
    expect(known).to_contain_text("nothing")


def test_nothing_moves_on_the_page_when_data_come(
    browse: Callable[..., Page], truth: Truth
) -> None:
    del truth
    page = browse("/traffic?from=now-6h")
    page.wait_for_selector("tr[data-key]")
    shifts = page.evaluate(
        """() => new Promise((resolve) => {
          let sum = 0;
          new PerformanceObserver((list) => { for (const e of list.getEntries()) sum += e.value; })
            .observe({ type: "layout-shift", buffered: true });
          setTimeout(() => resolve(sum), 2500);
        })"""
    )

    assert shifts < 0.01
