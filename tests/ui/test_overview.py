from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from playwright.sync_api import expect

from serving import Serving
from snapshots import Sender, asked
from ui.conftest import pages_of
from ui.fleet import Host, now, send, send_application

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from playwright.sync_api import Page

pytestmark = pytest.mark.server

MINUTE = 60_000


@pytest.fixture(scope="module")
def serving(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    """A server of this file's own: it begins empty."""
    with Serving(tmp_path_factory.mktemp("overview")).running() as started:
        yield started


@pytest.fixture(scope="module")
def pages(serving: Serving, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with pages_of(serving.url, tmp_path_factory.mktemp("overview") / "log") as url:
        yield url


@pytest.fixture(scope="module")
def filled(serving: Serving) -> Host:
    """An agent that is well, and lost something 40 minutes ago; and an application."""
    moves = {"nginx": (60_000_000, 6_000_000), "cron": (600, 60)}
    host = Host(
        "web-1", now(), snapshots=60, lost={"datagrams_dropped": 1_204}, losing=20, moves=moves
    )
    send(serving, host)
    send_application(serving, "shop", points=3, spans=7, logs=5)
    return host


def test_an_empty_store_says_what_to_do(browse: Callable[..., Page], serving: Serving) -> None:
    page = browse("/")

    expect(page.get_by_role("heading", name="Nothing was stored yet")).to_be_visible()
    expect(page.locator(".k-chart")).to_be_hidden()
    commands = page.locator(".k-command:visible code")
    expect(commands.nth(0)).to_have_text(f"kernob agent --otlp {serving.url}")
    expect(commands.nth(1)).to_contain_text(f"OTEL_EXPORTER_OTLP_ENDPOINT={serving.url}\n")
    page.get_by_role("button", name="Copy kernob agent").click()
    assert page.evaluate("navigator.clipboard.readText()") == f"kernob agent --otlp {serving.url}"


def test_quiet_is_said_and_what_it_covers(browse: Callable[..., Page], filled: Host) -> None:
    del filled
    page = browse("/")

    expect(page.get_by_role("heading", name="All quiet")).to_be_visible()
    said = "1 host, 2 services, 1 other sender: no agent late, nothing lost in the last 15 min."
    expect(page.locator(".k-findings p")).to_have_text(said)
    assert page.evaluate("document.documentElement.scrollHeight <= innerHeight")


def test_who_is_busy_equals_what_was_sent(browse: Callable[..., Page], filled: Host) -> None:
    del filled
    page = browse("/")

    rows = page.locator("table[aria-label='Busy now'] tr[data-key]")
    expect(rows.locator(".k-col-name")).to_have_text(["nginx", "cron"])
    nginx = rows.nth(0)
    expect(nginx.locator(".k-col-out")).to_have_attribute("title", "1.00 MB/s")
    expect(nginx.locator(".k-col-in")).to_have_attribute("title", "100 kB/s")
    nginx.locator(".k-col-out").click()
    page.wait_for_url("**/traffic?service=nginx")


def test_hosts_and_senders(browse: Callable[..., Page], filled: Host) -> None:
    del filled
    page = browse("/")

    host = page.locator("table[aria-label='Hosts'] tr[data-key='web-1']")
    expect(host.locator(".k-col-state")).to_have_text("ok")
    expect(host.locator(".k-col-services")).to_have_text("2")
    expect(host.locator(".k-col-rate")).to_have_attribute("title", "1.10 MB/s")
    sender = page.locator("table[aria-label='Other OTLP senders'] tr[data-key]")
    expect(sender.locator("td")).to_have_text(["shop", "3", "7", "5"])
    twin = page.locator(".k-foot a", has_text="JSON").get_attribute("href")
    assert twin is not None
    assert twin.startswith("/api/overview?")


def test_a_host_without_an_agent_is_neither_gone_nor_wrong(
    browse: Callable[..., Page], filled: Host, serving: Serving
) -> None:
    del filled
    send(serving, Host("app-1", now(), agent=False, moves={"shop": (120_000_000, 0)}))
    page = browse("/")

    expect(page.get_by_role("heading", name="All quiet")).to_be_visible()
    expect(page.locator(".k-findings p")).to_contain_text("2 hosts (1 without an agent), ")
    host = page.locator("table[aria-label='Hosts'] tr[data-key='app-1']")
    expect(host.locator(".k-col-state")).to_have_text("no agent")
    expect(host.locator(".k-col-state .k-calm")).to_be_visible()
    expect(host.locator(".k-col-rate")).to_have_attribute("title", "2.00 MB/s")


def test_what_was_lost_is_a_finding_that_leads_there(
    browse: Callable[..., Page], filled: Host
) -> None:
    del filled
    page = browse("/?from=now-1h")

    finding = page.locator(".k-finding")
    expect(finding).to_have_count(1)
    expect(finding).to_contain_text("web-1")
    finding.click()
    page.wait_for_url("**/agents?**")
    assert "from=now-1h" in page.url
    expect(page.locator(".k-facts", has_text="datagrams dropped")).to_contain_text("1,204")


def test_an_agent_that_is_late_is_a_finding_and_then_the_worst_first(
    browse: Callable[..., Page], filled: Host, serving: Serving
) -> None:
    del filled
    send(serving, Host("web-2", now() - 5 * MINUTE), Host("web-3", now() - 16 * MINUTE))
    page = browse("/?from=now-30m")

    expect(page.locator(".k-finding.k-is-bad")).to_contain_text("web-3")
    texts = page.locator(".k-finding").all_inner_texts()
    assert "web-3" in texts[0]
    assert any("web-2" in text for text in texts[1:])
    states = page.locator("table[aria-label='Hosts'] tr[data-key] .k-col-state")
    assert states.all_inner_texts() == ["gone", "late", "ok", "no agent"]


def test_services_that_fail_come_first_and_lead_to_their_page(
    browse: Callable[..., Page], filled: Host, serving: Serving
) -> None:
    del filled
    last = now() // MINUTE * MINUTE
    agent = Sender("web-9", last - 600 * MINUTE)
    for at in range(70):
        fails = (0.02,) * 30 * max(0, at - 64)
        points = (
            asked("shop", (0.01,) * 300 * at, operation="GET /"),
            asked("shop", fails, operation="GET /", error="503"),
            asked("calm", (0.01,) * 60 * at, side="client"),
        )
        body = agent.snapshot(last - (70 - at) * MINUTE + 1, *points)
        assert serving.send("/v1/metrics", body).status_code == 200
    page = browse("/")

    rows = page.locator("table[aria-label='Requests'] tr[data-key]")
    expect(rows.locator(".k-col-service")).to_have_text(["shop", "calm"])
    expect(rows.locator(".k-col-state")).to_have_text(["fails", "ok"])
    expect(rows.nth(0).locator(".k-col-failing")).to_have_text("9.1 %")
    expect(rows.nth(1).locator(".k-col-rate")).to_contain_text("1")
    finding = page.locator(".k-finding.k-is-bad").first
    expect(finding).to_contain_text("shop: 9.1 % of the requests that it serves fail, 0.0 % in the")
    finding.click()
    page.wait_for_url("**/service?**name=shop*")
