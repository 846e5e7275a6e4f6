from __future__ import annotations

import re
import socket
import time
from typing import TYPE_CHECKING

import pytest
from playwright.sync_api import expect

from ui.conftest import Address, Watched, pages_of
from ui.test_traffic import drawn, totals

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from playwright.sync_api import Browser, Page

    from serving import Serving
    from ui.truth import Truth

pytestmark = pytest.mark.server


def drag(page: Page, start: float, end: float) -> None:
    """Drags over a part of the chart, both as shares of its width."""
    box = page.locator(".k-canvas").first.bounding_box()
    assert box is not None
    left, width = box["x"] + 64, box["width"] - 64 - 12
    page.mouse.move(left + start * width, box["y"] + 80)
    page.mouse.down()
    page.mouse.move(left + (start + end) / 2 * width, box["y"] + 90)
    page.mouse.move(left + end * width, box["y"] + 90)
    page.mouse.up()


def seconds(page: Page) -> int:
    """Returns the length of the range that the URL says."""
    found = re.search(r"from=([^&]*)&to=([^&]*)", page.url)
    assert found is not None
    start, end = (
        page.evaluate("(text) => Date.parse(decodeURIComponent(text))", text)
        for text in found.groups()
    )
    return round((end - start) / 1000)


def test_dragging_zooms_and_a_double_click_goes_back(
    browse: Callable[..., Page], truth: Truth
) -> None:
    page = browse(f"/traffic?{truth.query}")
    whole = drawn(page)["nginx"]
    before = page.url

    drag(page, 0.25, 0.5)
    page.wait_for_url(lambda url: url != before)
    assert seconds(page) == pytest.approx(146, abs=3)  # a quarter of 39 steps
    page.wait_for_function(
        "() => getElement(document.querySelector('.k-chart')).raw.times.length < 15"
    )
    part = drawn(page)["nginx"]
    assert [point for point in whole if point in part] == part
    page.locator(".k-plot").dblclick(position={"x": 300, "y": 100})
    page.wait_for_url(before)
    page.wait_for_function(
        "() => getElement(document.querySelector('.k-chart')).raw.times.length > 30"
    )
    assert drawn(page)["nginx"] == whole


def test_presets_own_times_and_live_are_in_the_url(
    browse: Callable[..., Page], truth: Truth
) -> None:
    page = browse("/traffic")
    expect(page.get_by_role("button", name="Live")).to_have_attribute("aria-pressed", "true")

    page.locator(".k-pick").click()
    page.get_by_role("button", name="Last hour").click()
    page.wait_for_url("**/traffic?from=now-1h")
    page.get_by_role("button", name="Live").click()
    page.wait_for_url("**/traffic?from=now-1h&live=off")
    page.locator(".k-pick").click()
    local = "(ms) => new Date(ms + 3600e3).toISOString().slice(0, 19)"  # Berlin in November
    page.get_by_label("From", exact=True).fill(page.evaluate(local, truth.start))
    page.get_by_label("To", exact=True).fill(page.evaluate(local, truth.end))
    page.get_by_role("button", name="Show").click()
    page.wait_for_url(f"**/traffic?{truth.query}")
    page.wait_for_selector("tr[data-key='cron']")

    assert totals(page, "Services") == truth.totals
    expect(page.get_by_role("button", name="Live")).to_have_attribute("aria-pressed", "false")
    expect(page.locator(".k-foot")).to_contain_text("Times in Europe/Berlin UTC+1")
    page.go_back()
    expect(page.locator(".k-pick")).to_have_text("Last hour")


def test_an_end_before_the_start_is_said(browse: Callable[..., Page]) -> None:
    page = browse("/traffic")
    page.locator(".k-pick").click()
    page.get_by_label("From", exact=True).fill("2025-11-21T12:00:00")
    page.get_by_label("To", exact=True).fill("2025-11-21T11:00:00")
    page.get_by_role("button", name="Show").click()

    expect(page.get_by_role("alert")).to_contain_text("after the start")
    page.keyboard.press("Escape")
    expect(page.locator(".k-range .k-pop")).to_be_hidden()


def test_search_works_by_keyboard(browse: Callable[..., Page], truth: Truth) -> None:
    page = browse(f"/traffic?{truth.query}")
    page.wait_for_selector("tr[data-key]")

    page.keyboard.press("/")
    page.keyboard.type("o")
    expect(page.get_by_role("option")).not_to_have_count(0)
    page.keyboard.type("stgre")
    expect(page.get_by_role("option")).to_have_text(
        [re.compile(f"^{kind} *postgres") for kind in ("service", "process", *["operation"] * 2)]
    )
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowUp")
    page.keyboard.press("Enter")

    expect(page.get_by_role("heading", level=1)).to_have_text("postgres")
    assert f"{truth.query}&" in page.url
    assert "/service?" in page.url
    assert "name=postgres" in page.url
    page.keyboard.press("/")
    page.keyboard.type("nothing-is-called-so")
    expect(page.locator(".k-none")).to_contain_text("Nothing is called so")
    page.keyboard.press("Escape")
    expect(page.locator("#k-found")).to_be_hidden()


def test_a_copied_link_has_absolute_times(browse: Callable[..., Page], truth: Truth) -> None:
    del truth
    page = browse("/traffic?from=now-6h&service=nginx")
    page.wait_for_selector("tr[data-key]")
    page.get_by_role("button", name="Copy link").click()
    expect(page.get_by_role("button", name="Copied")).to_be_visible()
    link = page.evaluate("navigator.clipboard.readText()")

    assert re.fullmatch(r"http://.*/traffic\?from=2.*Z&to=2.*Z&service=nginx", link)


def test_the_json_twin_is_at_the_pages_address(browse: Callable[..., Page], truth: Truth) -> None:
    page = browse(f"/traffic?{truth.query}&show=receive")
    page.wait_for_selector("tr[data-key]")
    twin = page.get_by_role("link", name="JSON").get_attribute("href")
    answer = page.evaluate("async (url) => (await fetch(url)).json()", twin)

    assert {
        row["name"]: (row["transmit"], row["receive"]) for row in answer["rows"]
    } == truth.totals


def test_dark_and_light_follow_the_system_and_a_choice_is_kept(
    browse: Callable[..., Page], truth: Truth
) -> None:
    page = browse(f"/traffic?{truth.query}", color_scheme="dark")
    theme = "document.documentElement.dataset.theme"
    assert page.evaluate(theme) == "dark"
    colour = "getElement(document.querySelector('.k-chart')).chart.getOption().series[0].color"
    page.wait_for_selector(".k-canvas canvas")
    dark = page.evaluate(colour)

    page.get_by_role("button", name="Theme: system").click()
    page.get_by_role("button", name="Theme: dark").click()
    assert page.evaluate(theme) == "light"
    assert page.evaluate(colour) != dark
    page.reload()
    assert page.evaluate(theme) == "light"
    assert "theme" not in page.url


def test_a_phone_shows_it_without_scrolling_sideways(
    browse: Callable[..., Page], truth: Truth
) -> None:
    page = browse(f"/traffic?{truth.query}", viewport={"width": 390, "height": 844})
    page.wait_for_selector("tr[data-key]")

    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    expect(page.locator(".k-canvas canvas")).to_be_visible()
    expect(page.locator("tr[data-key='nginx'] .k-col-out")).to_be_visible()
    expect(page.get_by_role("navigation")).to_be_visible()


def test_keyboard_focus_is_visible_everywhere(browse: Callable[..., Page], truth: Truth) -> None:
    page = browse(f"/traffic?{truth.query}")
    page.wait_for_selector("tr[data-key]")
    seen = set()
    for _ in range(25):
        page.keyboard.press("Tab")
        name, style, width = page.evaluate(
            """() => { const at = document.activeElement, style = getComputedStyle(at);
              return [at.outerHTML.slice(0, 200), style.outlineStyle, style.outlineWidth]; }"""
        )
        assert (style, width) == ("solid", "2px"), name
        seen.add(name)
    assert len(seen) > 15


def test_two_browsers_do_not_disturb_each_other(browse: Callable[..., Page], truth: Truth) -> None:
    one = browse(f"/traffic?{truth.query}")
    other = browse(f"/traffic?{truth.query}", color_scheme="dark")
    one.get_by_role("link", name="postgres", exact=True).click()
    expect(one.get_by_role("heading", level=1)).to_have_text("postgres")

    assert totals(other, "Services") == truth.totals
    expect(other.get_by_role("heading", level=1)).to_have_text("Traffic")


def test_a_tab_left_open_does_not_grow(
    browse: Callable[..., Page], truth: Truth, pages: Address
) -> None:
    del truth
    page = browse("/traffic?from=now-6h")
    page.wait_for_selector("tr[data-key]")
    session = page.context.new_cdp_session(page)

    def heap() -> int:
        session.send("HeapProfiler.collectGarbage")
        return int(page.evaluate("performance.memory.usedJSHeapSize"))

    def refresh(times: int) -> None:
        # As the timer does, but not as slow: each is a whole round through server and browser.
        for _ in range(times):
            loads = page.evaluate("window.nextMessageId")
            page.evaluate(
                "getElement(document.querySelector('.k-foot')).$emit('location', location.search)"
            )
            page.wait_for_function(f"window.nextMessageId > {loads}")

    refresh(10)
    nodes, before = page.evaluate("document.querySelectorAll('*').length"), heap()
    elements = page.evaluate("Object.keys(mounted_app.elements).length")
    resident = pages.resident()
    refresh(60)

    assert heap() - before < 1_000_000
    assert pages.resident() - resident < 8_000_000
    assert page.evaluate("document.querySelectorAll('*').length") == nodes
    assert page.evaluate("Object.keys(mounted_app.elements).length") == elements


def test_a_server_that_is_down_leaves_what_was_there_and_comes_back(
    chromium: Browser, serving: Serving, truth: Truth, tmp_path: Path
) -> None:
    with pages_of(serving.url, tmp_path / "log") as url:
        watched = Watched(chromium, url)
        page = watched.open(f"/traffic?{truth.query}")
        before = totals(page, "Services")
        serving.kill()
        try:
            page.get_by_role("radio", name="peer", exact=True).click()
            alert = page.get_by_role("alert")
            expect(alert).to_contain_text("can't be reached")
            expect(alert).to_contain_text("Shown is what was known")
            assert totals(page, "Services") == before
        finally:
            serving.start()
        page.get_by_role("button", name="Try again").click()
        expect(alert).to_be_hidden(timeout=20_000)
        assert set(totals(page, "Peers")) >= set(truth.peers)
        page.close()
        assert watched.complaints == []


def test_a_page_that_goes_away_takes_its_request_along(chromium: Browser, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        silent.settimeout(10)
        address = f"http://127.0.0.1:{silent.getsockname()[1]}"
        with pages_of(address, tmp_path / "log") as url:
            page = Watched(chromium, url).open("/traffic")
            asked, _ = silent.accept()
            with asked:
                asked.settimeout(10)
                assert asked.recv(65536).startswith(b"GET /api/traffic?")
                expect(page.locator(".k-skeleton")).to_be_visible()
                page.close()
                left = time.monotonic()
                assert asked.recv(65536) == b""
                assert time.monotonic() - left < 3
