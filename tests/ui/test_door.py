from __future__ import annotations

import json
from typing import TYPE_CHECKING

import httpx
import pytest
from playwright.sync_api import expect

from ui.conftest import Watched, pages_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from playwright.sync_api import Browser

    from serving import Serving
    from ui.truth import Truth

pytestmark = pytest.mark.server

TOKEN = "open sesame"


@pytest.fixture(scope="module")
def guarded(serving: Serving, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("guarded")
    (folder / "token").write_text(TOKEN + "\n")
    environ = {"KERNOB_PAGES_TOKEN_FILE": str(folder / "token")}
    with pages_of(serving.url, folder / "log", **environ) as url:
        yield url


def test_a_browser_gives_the_token_once(chromium: Browser, guarded: str, truth: Truth) -> None:
    watched = Watched(chromium, guarded)
    watched.expected = ["401"]
    page = watched.open(f"/traffic?{truth.query}", viewport={"width": 800, "height": 600})
    page.get_by_label("token").fill("a guess")
    page.get_by_role("button", name="Come in").click()
    expect(page.get_by_role("alert")).to_have_text("That is not the token.")
    page.get_by_label("token").fill(TOKEN)
    page.get_by_role("button", name="Come in").click()
    page.wait_for_selector("tr[data-key='nginx']")

    assert page.url.endswith(f"/traffic?{truth.query}")
    (cookie,) = page.context.cookies()
    assert cookie["httpOnly"]
    assert cookie["sameSite"] == "Strict"
    assert TOKEN not in json.dumps(cookie)
    page.context.close()


@pytest.mark.parametrize(
    "path", ["/traffic", "/api/traffic", "/api/query", "/_nicegui_ws/socket.io/"]
)
@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Authorization": "Bearer open"},
        {"Authorization": f"Basic {TOKEN}"},
        {"Cookie": "kernob_session=99999999999.0"},
        {"Cookie": "kernob_session=99999999999"},
    ],
)
def test_without_the_token_nothing_is_told(
    guarded: str, path: str, headers: dict[str, str]
) -> None:
    answer = httpx.get(guarded + path, headers=headers, trust_env=False)

    assert answer.status_code == 401
    assert answer.headers["WWW-Authenticate"] == "Bearer"


def test_a_bearer_gets_the_api(guarded: str, truth: Truth) -> None:
    answer = httpx.get(
        f"{guarded}/api/traffic?{truth.query}",
        headers={"Authorization": f"Bearer {TOKEN}"},
        trust_env=False,
    )

    assert answer.status_code == 200
    assert {row["name"] for row in answer.json()["rows"]} == set(truth.totals)


@pytest.mark.parametrize("there", ["//evil.example/", "https://evil.example/", "/\\evil.example"])
def test_the_form_leads_to_no_other_site(guarded: str, there: str) -> None:
    answer = httpx.post(f"{guarded}/login", data={"token": TOKEN, "next": there}, trust_env=False)

    assert answer.status_code == 303
    assert answer.headers["Location"] == "/"


@pytest.mark.parametrize(
    ("name", "status"),
    [("localhost", 200), ("127.0.0.1:8420", 200), ("[::1]:8420", 200), ("evil.example", 421)],
)
def test_without_a_token_only_the_hosts_own_names_are_answered(
    pages: str, name: str, status: int
) -> None:
    answer = httpx.get(f"{pages}/api/openapi.json", headers={"Host": name}, trust_env=False)

    assert answer.status_code == status


def test_off_loopback_it_does_not_listen_unguarded(serving: Serving, tmp_path: Path) -> None:
    with (
        pytest.raises(AssertionError, match="nothing guards it"),
        pages_of(serving.url, tmp_path / "log", "0.0.0.0"),
    ):
        pass
