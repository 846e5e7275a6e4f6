from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

import pytest
from playwright.sync_api import expect

from ui.fleet import Host, now, send, send_without_ids

if TYPE_CHECKING:
    from collections.abc import Callable

    from playwright.sync_api import Locator, Page

    from serving import Serving

pytestmark = pytest.mark.server

MINUTE = 60_000
OFF = "loading programs needs root (CAP_BPF) and a kernel that lets it"


@pytest.fixture(scope="module")
def fleet(serving: Serving) -> dict[str, Host]:
    """Agents in each state, of which each snapshot is a minute apart; one of them lost things."""
    base = now()
    maps = {"flows": (1_311, 65_536, 8_000_000), "names": (6_144, 8_192, 1_000_000)}
    hosts = (
        Host("agent-ok", base, maps=maps, parts={"network": "", "program run times": "no right"}),
        Host("agent-late", base - 5 * MINUTE, cpu=1.2),
        Host("agent-gone", base - 16 * MINUTE),
        Host(
            "agent-polling",
            base,
            mode="polling",
            version="0.0.9",
            lost={"tails_unknown": 7, "sockets_without_process": 1_204},
            parts={"network": "", "counters in the kernel": OFF},
        ),
    )
    send(serving, *hosts)
    send_without_ids(serving, spans=3)
    return {host.name: host for host in hosts}


def cell(page: Page, host: str, column: str) -> Locator:
    return page.locator(f"table[aria-label='Agents'] tr[data-key='{host}'] .k-col-{column}")


@pytest.fixture
def hour(browse: Callable[..., Page], fleet: dict[str, Host]) -> Page:
    del fleet
    return browse("/agents?from=now-1h")


def test_each_state_is_said_in_words_and_trouble_comes_first(hour: Page) -> None:
    expect(cell(hour, "agent-ok", "state")).to_have_text("ok")
    expect(cell(hour, "agent-late", "state")).to_have_text("late, 5 min")
    expect(cell(hour, "agent-gone", "state")).to_have_text("gone, 16 min")

    order = hour.locator("table[aria-label='Agents'] tr[data-key]").evaluate_all(
        "rows => rows.map((row) => row.dataset.key)"
    )
    ranks = [order.index(f"agent-{name}") for name in ("gone", "late", "polling", "ok")]
    assert ranks == sorted(ranks)


def test_costs_equal_what_the_agent_said(hour: Page, fleet: dict[str, Host]) -> None:
    expect(cell(hour, "agent-ok", "memory")).to_have_attribute("title", "41,234,567 bytes")
    expect(cell(hour, "agent-ok", "cpu")).to_have_text("1.0 %")
    expect(cell(hour, "agent-late", "cpu")).to_have_text("2.0 %")
    expect(cell(hour, "agent-ok", "maps")).to_have_attribute("title", "9,000,000 bytes")
    expect(cell(hour, "agent-ok", "fill")).to_have_text("75 %")
    expect(cell(hour, "agent-polling", "version")).to_have_text("0.0.9 polling")
    berlin = datetime.fromtimestamp(fleet["agent-ok"].last / 1000, ZoneInfo("Europe/Berlin"))
    title = cell(hour, "agent-ok", "last").get_attribute("title")
    assert title is not None
    assert f"{berlin:%H:%M:%S}" in title
    assert cell(hour, "agent-ok", "memory_line").locator("path").get_attribute("d")


def test_losses_are_said_and_so_is_none(hour: Page) -> None:
    lost = cell(hour, "agent-polling", "lost")
    expect(lost).to_have_text("1.21k")
    expect(lost.locator(".k-attention")).to_be_visible()
    expect(cell(hour, "agent-ok", "lost")).to_have_text("nothing")


def test_a_row_opens_its_details_and_escape_closes_them(hour: Page) -> None:
    cell(hour, "agent-polling", "cpu").click()
    details = hour.locator(".k-aside")

    expect(details.get_by_role("heading", name="agent-polling")).to_be_visible()
    assert "host=agent-polling" in hour.url
    expect(details).to_contain_text(f"off: {OFF}")
    facts = details.locator(".k-facts").first
    expect(facts).to_have_text("sockets without process1,204tails unknown7")

    hour.keyboard.press("Escape")
    expect(details).to_be_hidden()
    assert "host=" not in hour.url


def test_details_of_a_link_show_each_table_of_the_kernel(
    browse: Callable[..., Page], fleet: dict[str, Host]
) -> None:
    del fleet
    page = browse("/agents?from=now-1h&host=agent-ok")

    rows = page.locator("table[aria-label='Tables in the kernel'] tr[data-key]")
    expect(rows).to_have_count(2)
    expect(rows.nth(0).locator("td")).to_have_text(
        ["flows", "2.0 %", "1.31\u2007", "65.5\u2007\u2007"], use_inner_text=True
    )
    expect(page.locator(".k-aside")).to_contain_text("nothing lost")
    expect(page.locator(".k-aside")).to_contain_text("off: no right")


def test_one_that_stops_sending_becomes_late_while_one_looks(
    browse: Callable[..., Page], serving: Serving
) -> None:
    page = browse("/agents?host=agent-stops")
    send(serving, Host("agent-stops", now(), interval=1500))

    expect(cell(page, "agent-stops", "state")).to_have_text("ok")
    expect(cell(page, "agent-stops", "state")).to_contain_text("late", timeout=25_000)
    expect(page.locator(".k-aside")).to_contain_text("late")


def test_what_the_server_refuses_is_said(
    browse: Callable[..., Page], fleet: object, serving: Serving
) -> None:
    del fleet
    for _ in range(2):
        assert serving.send("/v1/logs", b"\xff").status_code == 400
    page = browse("/agents")

    # The server writes down every ten seconds what it refused.
    table = page.locator("table[aria-label='Refused by the server in this range']")
    records = table.locator("tr[data-key='traces the trace_id is not 16 bytes'] td")
    expect(records.nth(3)).to_have_text("3", timeout=15_000)
    expect(records.nth(2)).to_have_attribute("title", "single records of requests were refused")
    requests = table.locator("tr[data-key='logs it is not OTLP'] td")
    expect(requests.nth(2)).to_have_text("2", timeout=15_000)
    expect(requests.nth(4)).not_to_have_text("not known")


@pytest.mark.parametrize("path", ["/agents?from=now-1h", "/agents?from=now-1h&host=agent-ok"])
def test_a_narrow_screen_needs_no_scrolling_sideways(
    browse: Callable[..., Page], fleet: dict[str, Host], path: str
) -> None:
    del fleet
    page = browse(path, viewport={"width": 390, "height": 844}, color_scheme="dark")

    expect(cell(page, "agent-gone", "state")).to_be_visible()
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
