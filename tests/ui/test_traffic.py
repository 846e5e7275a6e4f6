from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import pytest
from playwright.sync_api import expect

from ui.truth import SNAPSHOTS, STEP, Agent

if TYPE_CHECKING:
    from collections.abc import Callable

    from playwright.sync_api import Page

    from serving import Serving
    from ui.truth import Truth

pytestmark = pytest.mark.server


def cells(page: Page, label: str, column: str) -> dict[str, str]:
    """Returns what a column says on hovering, the exact number, by the row's name."""
    page.wait_for_selector(f"table[aria-label='{label}'] tr[data-key]")
    found: dict[str, str] = page.evaluate(
        """([label, column]) => Object.fromEntries(
          [...document.querySelectorAll(`table[aria-label='${label}'] tr[data-key]`)].map((row) => [
            row.querySelector('.k-col-name').innerText.trim(),
            row.querySelector('.k-col-' + column).title]))""",
        [label, column],
    )
    return found


def totals(page: Page, label: str) -> dict[str, tuple[int, int]]:
    out, in_ = cells(page, label, "total_out"), cells(page, label, "total_in")
    return {name: (_bytes(out[name]), _bytes(in_[name])) for name in out}


def _bytes(text: str) -> int:
    return int(text.removesuffix(" bytes").replace(",", ""))


def drawn(page: Page) -> dict[str, list[list[Any]]]:
    """Returns what ECharts draws, by name: time and value of each point."""
    page.wait_for_selector(".k-canvas canvas")
    found: dict[str, list[list[Any]]] = page.evaluate(
        """() => Object.fromEntries(getElement(document.querySelector('.k-chart'))
            .chart.getOption().series.map((s) => [s.name, s.data.map((d) => d.value ?? d)]))"""
    )
    return found


def test_totals_equal_what_was_sent_to_the_byte(browse: Callable[..., Page], truth: Truth) -> None:
    page = browse(f"/traffic?{truth.query}")

    assert totals(page, "Services") == truth.totals
    out = sum(sent for sent, _ in truth.totals.values())
    title = page.locator(".k-figure", has_text="Out total").get_attribute("title")
    assert title is not None
    assert _bytes(title) == out


def test_the_chart_draws_what_was_sent_in_each_step(
    browse: Callable[..., Page], truth: Truth
) -> None:
    page = browse(f"/traffic?{truth.query}&show=transmit")

    series = drawn(page)
    assert list(series) == ["nginx", "postgres", "cron"]
    times = [time for time, _ in series["postgres"]]
    assert times == [truth.start + step * STEP for step in range(SNAPSHOTS)]
    for step, (_, value) in enumerate(series["postgres"]):
        assert value == pytest.approx((7_500_013 + step) / 15, abs=0.01)


def test_a_service_shows_its_peers_and_its_processes(
    browse: Callable[..., Page], truth: Truth
) -> None:
    page = browse(f"/traffic?{truth.query}")
    page.get_by_role("link", name="nginx", exact=True).click()
    page.wait_for_selector("table[aria-label='Peers'] tr[data-key]")

    assert "service=nginx" in page.url
    assert totals(page, "Peers") == truth.peers
    expected = {f"nginx {pid}": sent for pid, sent in truth.processes.items()}
    assert totals(page, "Processes") == expected


def test_a_process_shows_its_peers_and_the_way_back(
    browse: Callable[..., Page], truth: Truth
) -> None:
    page = browse(f"/traffic?{truth.query}&service=nginx")
    page.get_by_role("link", name="nginx 812").click()
    expect(page.get_by_role("heading", level=1)).to_contain_text("812")
    page.wait_for_selector("table[aria-label='Peers'] tr[data-key='alpha.example']")
    expect(page.locator("table[aria-label='Peers'] tr[data-key]")).to_have_count(1)
    assert totals(page, "Peers") == {"alpha.example": truth.processes[812]}

    page.locator(".k-crumbs").get_by_role("link", name="Traffic").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Traffic")
    page.go_back()
    expect(page.get_by_role("heading", level=1)).to_contain_text("812")


def test_peers_have_their_requests_and_errors(browse: Callable[..., Page], truth: Truth) -> None:
    page = browse(f"/traffic?{truth.query}&service=nginx")
    page.wait_for_selector("table[aria-label='Peers'] tr[data-key]")

    rows = {
        name: [
            page.locator(f"table[aria-label='Peers'] tr[data-key='{name}'] .k-col-{c}").inner_text()
            for c in ("requests", "errors")
        ]
        for name in truth.peers
    }
    assert {name: [text.strip() for text in texts] for name, texts in rows.items()} == {
        "alpha.example": ["3.72", "120"],
        "beta.example": ["0.280", "0"],
    }


@pytest.mark.parametrize(
    ("by", "label", "names"),
    [
        ("process", "Processes", {"nginx 812", "nginx 813", "postgres 900"}),
        ("peer", "Peers", {"alpha.example", "beta.example", "10.0.0.5", "ntp.example"}),
        ("host", "Hosts", {"web-1", "web-2"}),
    ],
)
def test_rows_are_what_is_grouped_by(
    browse: Callable[..., Page], truth: Truth, by: str, label: str, names: set[str]
) -> None:
    page = browse(f"/traffic?{truth.query}")
    page.get_by_role("radio", name=by, exact=True).click()
    page.wait_for_selector(f"table[aria-label='{label}'] tr[data-key]")

    assert set(totals(page, label)) == names
    assert f"by={by}" in page.url


def test_a_reload_and_a_second_browser_show_the_same(
    browse: Callable[..., Page], truth: Truth
) -> None:
    page = browse(f"/traffic?{truth.query}&by=peer&show=receive")
    page.get_by_role("button", name="Total out").click()
    page.get_by_role("searchbox", name="Filter Peers").fill("example")
    page.wait_for_url("**filter=example**")
    before = (totals(page, "Peers"), drawn(page))
    page.reload()
    other = browse(page.url.partition("/traffic")[1] + page.url.partition("/traffic")[2])

    assert list(before[0]) == ["alpha.example", "beta.example", "ntp.example"]
    assert (totals(page, "Peers"), drawn(page)) == before
    assert (totals(other, "Peers"), drawn(other)) == before


def test_an_empty_range_says_what_to_do(browse: Callable[..., Page], truth: Truth) -> None:
    del truth
    page = browse("/traffic?from=2020-01-01T00:00:00Z&to=2020-01-01T01:00:00Z")

    expect(page.locator(".k-empty")).to_be_visible()
    expect(page.locator(".k-empty")).to_contain_text("kernob up")
    expect(page.locator(".k-chart")).to_be_hidden()


def test_a_byte_sent_is_on_the_page_within_three_seconds(
    browse: Callable[..., Page], serving: Serving, truth: Truth
) -> None:
    del truth
    began = time.time_ns() // 10**6
    agent = Agent(serving, "live-1", began)
    agent.moves("live-service", "far.example", 1000, 10)
    agent.snap(began)
    agent.send()
    page = browse("/traffic?from=now-5m&service=live-service")
    row = page.locator("tr[data-key='far.example'] .k-col-total_out")
    expect(row).to_have_attribute("title", "1,000 bytes")
    agent.moves("live-service", "far.example", 123_455_789, 10)
    agent.snap(time.time_ns() // 10**6)
    agent.send()

    expect(row).to_have_attribute("title", "123,456,789 bytes", timeout=3000)
