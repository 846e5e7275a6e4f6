from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import httpx
import numpy as np
import pytest
from playwright.sync_api import expect

from ui.truth import REQUESTS, SNAPSHOTS, STEP, UNPAIRED

if TYPE_CHECKING:
    from collections.abc import Callable

    from playwright.sync_api import Page

    from serving import Serving
    from ui.truth import Truth

pytestmark = pytest.mark.server

BUCKET = 2 ** (1 / 8)
SERVED = [row for row in REQUESTS if row[0] == "nginx" and row[2] == "server"]
USERS = quote("http GET /users/{id}")


def shown(page: Page, label: str) -> dict[str, list[str]]:
    """Returns the texts of a table's cells by the row's name."""
    page.wait_for_selector(f"table[aria-label='{label}'] tr[data-key]")
    found: list[list[str]] = page.evaluate(
        """(label) => [...document.querySelectorAll(`table[aria-label='${label}'] tr[data-key]`)]
            .map((row) => [...row.querySelectorAll('td')].map((cell) => cell.innerText.trim()))""",
        label,
    )
    return {row[0]: row[1:] for row in found}


def drawn(page: Page, number: int) -> dict[str, list[Any]]:
    """Returns what ECharts draws in the chart with this number, by name."""
    page.wait_for_selector(".k-three .k-canvas canvas")
    found: dict[str, list[Any]] = page.evaluate(
        """(n) => Object.fromEntries(getElement(document.querySelectorAll('.k-three .k-chart')[n])
            .chart.getOption().series
            .map((s) => [s.name, s.data.map((d) => (d.value ?? d)[1])]))""",
        number,
    )
    return found


def samples(rows: list[Any]) -> np.ndarray:
    return np.repeat([row[6] for row in rows], [row[7] for row in rows])


def test_charts_draw_rate_errors_and_percentiles_of_what_was_sent(
    browse: Callable[..., Page], truth: Truth
) -> None:
    page = browse(f"/service?{truth.query}&name=nginx")

    assert drawn(page, 0)["requests"] == pytest.approx([100 / 15] * SNAPSHOTS, rel=1e-4)
    assert drawn(page, 1)["errors"] == pytest.approx([3 / 15] * SNAPSHOTS, rel=1e-4)
    for name, values in drawn(page, 2).items():
        expected = np.quantile(samples(SERVED), float(name[1:]) / 100, method="inverted_cdf")
        assert values == pytest.approx([expected] * SNAPSHOTS, rel=BUCKET - 1)
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_tables_are_what_was_sent(browse: Callable[..., Page], truth: Truth) -> None:
    page = browse(f"/service?{truth.query}&name=nginx")

    operations = shown(page, "Operations")
    assert {name: row[1] for name, row in operations.items()} == {
        "GET /users/{id}": "3.72",
        "POST /orders": "0.280",
    }
    assert operations["GET /users/{id}"][2] == "3.2 %"
    time = 90 * 0.012 + 3 * 0.35
    assert operations["GET /users/{id}"][-1] == f"{time / (time + 0.56):.0%}".replace("%", " %")
    assert set(shown(page, "Callers")) == {"alpha.example", "beta.example"}
    title = page.locator(
        "table[aria-label='Operations'] tr[data-key='http GET /users/{id}'] .k-col-name"
    )
    expect(title).to_have_attribute("title", re.compile("failed: 500 120 times"))
    names = shown(page, "Names looked up")
    assert names["db.example"][:3] == ["A", "80", "0"]
    assert names["gone.example"][1:4] == ["40", "40", "100 %"]


def test_the_heat_map_tells_count_and_range(browse: Callable[..., Page], truth: Truth) -> None:
    page = browse(f"/service?{truth.query}&name=nginx")
    page.wait_for_selector(".k-heat canvas")
    cells = page.evaluate(
        """() => { const heat = getElement(document.querySelector('.k-heat'));
            return heat.raw.cells.filter(([x]) => x === 7)
                .map(([, y, n]) => [heat.raw.bounds[y], heat.raw.bounds[y + 1], n]); }"""
    )

    for _, _, _, _, _, _, lasted, many in SERVED:
        assert [n for low, high, n in cells if low < lasted <= high] == [many]
    plot = page.locator(".k-heat .k-plot")
    plot.focus()
    for _ in range(8):
        page.keyboard.press("ArrowRight")
    tip = page.locator(".k-heat .k-tip")
    expect(tip).to_contain_text("90 requests took ")
    expect(page.locator(".k-three .k-hair:visible")).to_have_count(3)
    expect(plot).to_have_attribute("aria-label", re.compile(r"4\.00k requests, most of them"))


def test_a_click_isolates_an_operation_and_the_url_says_it(
    browse: Callable[..., Page], truth: Truth
) -> None:
    page = browse(f"/service?{truth.query}&name=nginx")
    row = "table[aria-label='Operations'] tr[data-key='http POST /orders']"
    page.locator(f"{row} .k-col-requests").click()

    page.wait_for_url("**operation=http%20POST%20/orders*")
    expect(page.locator(row)).to_have_attribute("aria-selected", "true")
    expect(page.locator(".k-figure", has_text="Requests")).to_contain_text("280")
    assert drawn(page, 0)["requests"] == pytest.approx([7 / 15] * SNAPSHOTS, rel=1e-4)
    assert set(shown(page, "Callers")) == {"beta.example"}
    assert len(shown(page, "Operations")) == 2

    page.locator(".k-crumbs").get_by_role("link", name="nginx").click()
    expect(page.locator(".k-figure", has_text="Requests")).to_contain_text("4.00")


def test_the_other_side_and_its_dependencies(browse: Callable[..., Page], truth: Truth) -> None:
    page = browse(f"/service?{truth.query}&name=nginx")
    page.get_by_role("radio", name="as client").click()

    page.wait_for_selector("table[aria-label='Dependencies'] tr[data-key='postgres']")
    assert shown(page, "Operations").keys() == {"SELECT users"}
    assert drawn(page, 0)["requests"] == pytest.approx([41 / 15] * SNAPSHOTS, rel=1e-4)
    page.locator("table[aria-label='Dependencies']").get_by_role("link", name="postgres").click()
    page.wait_for_url("**name=postgres*")
    expect(page.get_by_role("heading", level=1)).to_have_text("postgres")
    assert shown(page, "Operations")["SELECT users"][1] == "1.64"


def test_a_caller_that_is_no_service_leads_to_its_traffic(
    browse: Callable[..., Page], truth: Truth
) -> None:
    page = browse(f"/service?{truth.query}&name=nginx")
    page.locator("table[aria-label='Callers']").get_by_role("link", name="alpha.example").click()

    page.wait_for_url("**/traffic?**peer=alpha.example*")


def test_what_is_missing_is_said_with_how_the_rest_is_known(
    browse: Callable[..., Page], truth: Truth
) -> None:
    page = browse(f"/service?{truth.query}&name=nginx")

    said = f"{UNPAIRED * SNAPSHOTS:,} http requests on its hosts could not be paired"
    expect(page.locator(".k-missed")).to_contain_text(f"{said} (began before the agent did)")
    expect(page.locator(".k-provenance:visible")).to_contain_text("Exact: every request is counted")


def test_all_services_and_the_ways_to_them(browse: Callable[..., Page], truth: Truth) -> None:
    page = browse(f"/service?{truth.query}")

    rows = shown(page, "Services")
    assert set(rows) == {"nginx", "postgres"}
    page.locator("tr[data-key='postgres server'] .k-col-requests").click()
    page.wait_for_url("**name=postgres**")
    page.goto(page.url.split("/service")[0] + f"/traffic?{truth.query}&service=nginx")
    page.get_by_role("link", name="Its requests").click()
    page.wait_for_url("**/service?**name=nginx*")


def test_the_twin_is_what_the_page_shows(
    browse: Callable[..., Page], serving: Serving, truth: Truth
) -> None:
    page = browse(f"/service?{truth.query}&name=nginx&operation={USERS}")
    requests = shown(page, "Operations")["GET /users/{id}"][1]
    link = page.locator(".k-foot a", has_text="JSON").get_attribute("href")

    assert link is not None
    twin = httpx.get(serving.url + link, trust_env=False).json()
    row = next(row for row in twin["operations"] if row["name"] == "GET /users/{id}")
    assert (row["requests"], row["errors"]) == (93 * SNAPSHOTS, 3 * SNAPSHOTS)
    assert requests == f"{row['requests'] / 1000:.2f}"
    rate = drawn(page, 0)["requests"]
    assert rate == pytest.approx(twin["lines"]["rate"][: len(rate)], rel=1e-4)
    assert twin["range"]["step"] == STEP


def test_no_requests_say_why_and_what_to_do(browse: Callable[..., Page], truth: Truth) -> None:
    page = browse(f"/service?{truth.query}&name=cron")

    empty = page.locator(".k-empty")
    expect(empty).to_be_visible()
    expect(empty).to_contain_text("encrypted")
    expect(page.locator(".k-three")).to_be_hidden()
