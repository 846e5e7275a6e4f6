from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from playwright.sync_api import expect

from servers import wait_until
from ui.truth import PEERS

if TYPE_CHECKING:
    from collections.abc import Callable

    from playwright.sync_api import Page

    from ui.truth import Truth

pytestmark = pytest.mark.server


@pytest.fixture
def crowd(browse: Callable[..., Page], truth: Truth) -> Page:
    """A table of a thousand peers, and 200 that are left off."""
    page = browse(f"/traffic?{truth.crowd}&service=crowded")
    page.wait_for_selector("tr[data-key]")
    return page


def names(page: Page) -> list[str]:
    found: list[str] = page.evaluate(
        """[...document.querySelectorAll("table[aria-label='Peers'] tr[data-key]")]
            .map((row) => row.dataset.key)"""
    )
    return found


def test_of_a_thousand_rows_only_those_in_sight_are_drawn(crowd: Page) -> None:
    assert names(crowd)[0] == f"peer-{PEERS - 1:04}.example"
    assert len(names(crowd)) < 80
    expect(crowd.get_by_text("200 more are not shown")).to_be_attached()

    crowd.evaluate("scrollTo(0, 14000)")
    expect(crowd.locator("tr[data-key='peer-0700.example']")).to_be_attached()
    row = crowd.locator("tr[data-key='peer-0700.example']").bounding_box()
    assert row is not None
    assert row["height"] == 28
    head = crowd.locator("table[aria-label='Peers'] thead th").first.bounding_box()
    assert head is not None
    assert head["y"] == pytest.approx(48, abs=1)  # below the bar


def test_it_keeps_scroll_sorting_and_filter_while_rows_change(crowd: Page) -> None:
    crowd.get_by_role("button", name="Peer", exact=True).click()
    expect(crowd.locator("th[aria-sort='ascending']")).to_contain_text("Peer")
    assert names(crowd)[0] == "peer-0200.example"
    crowd.evaluate("scrollTo(0, 5000)")
    wait_until(lambda: names(crowd)[0] != "peer-0200.example", "rows of where it was scrolled to")
    before = names(crowd)
    crowd.evaluate(
        "getElement(document.querySelector('.k-foot')).$emit('location', location.search)"
    )
    crowd.wait_for_timeout(600)

    assert crowd.evaluate("scrollY") == 5000
    assert names(crowd) == before
    assert "sort=name" in crowd.url


def test_typing_in_the_table_filters_and_arrows_move(crowd: Page) -> None:
    crowd.get_by_role("searchbox", name="Filter Peers").fill("peer-07")
    expect(crowd.get_by_text("100 of 1000")).to_be_visible()
    crowd.keyboard.press("ArrowDown")
    crowd.keyboard.press("ArrowDown")
    expect(crowd.locator("tr[data-key]:focus")).to_have_attribute("data-key", "peer-0798.example")
    crowd.keyboard.type("5")
    expect(crowd.get_by_role("searchbox", name="Filter Peers")).to_have_value("peer-075")
    expect(crowd.get_by_text("10 of 1000")).to_be_visible()
    crowd.keyboard.press("ArrowDown")
    crowd.keyboard.press("Enter")
    expect(crowd.get_by_role("heading", level=1)).to_have_text("peer-0759.example")


def test_csv_has_all_rows_and_plain_numbers(crowd: Page) -> None:
    crowd.get_by_role("button", name="Copy CSV").first.click()
    expect(crowd.get_by_role("button", name="Copied").first).to_be_visible()
    lines = crowd.evaluate("navigator.clipboard.readText()").splitlines()

    assert lines[0].startswith("Peer,Out,In,Total out,Total in")
    assert len(lines) == 1001
    name, _, _, out, in_ = lines[1].split(",")[:5]
    assert (name, out, in_) == (f"peer-{PEERS - 1:04}.example", str(2 * (1_000 + PEERS - 1)), "14")


def test_a_column_has_one_unit(browse: Callable[..., Page], truth: Truth) -> None:
    page = browse(f"/traffic?{truth.query}")
    page.wait_for_selector("tr[data-key]")
    header = page.locator("th.k-col-total_out").first.inner_text()

    assert "GB" in header
    cells = page.locator("td.k-col-total_out").all_inner_texts()
    figures = [cell.replace("\u2007", "").replace("\u2008", "").strip() for cell in cells]
    assert figures == ["9.00", "0.300", "<0.001"]
    # Points stand below each other: all are as wide.
    assert len({len(cell) - cell.find(".") for cell in cells if "." in cell}) == 1
