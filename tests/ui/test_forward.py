from __future__ import annotations

from typing import TYPE_CHECKING

import httpx
import pytest

from ui.conftest import pages_of

if TYPE_CHECKING:
    from pathlib import Path

    from serving import Serving
    from ui.truth import Truth

pytestmark = pytest.mark.server


def test_the_api_is_passed_on_as_it_is(pages: str, serving: Serving, truth: Truth) -> None:
    for path in (f"/api/search?q=nginx&{truth.query}", "/api/openapi.json", "/api/nothing"):
        own = httpx.get(pages + path, trust_env=False)
        servers = httpx.get(serving.url + path, trust_env=False)

        assert own.status_code == servers.status_code
        assert own.headers["content-type"] == servers.headers["content-type"]
        assert own.json() == servers.json()


def test_sql_is_passed_on(pages: str, truth: Truth) -> None:
    del truth
    query = {"query": "SELECT uniqExact(Service) FROM kernob_series WHERE Service = 'nginx'"}
    answer = httpx.post(f"{pages}/api/query", json=query, trust_env=False)

    assert answer.status_code == 200
    assert answer.json()["rows"] == [["1"]]


def test_a_question_may_not_be_endless(pages: str) -> None:
    answer = httpx.post(f"{pages}/api/query", content=b" " * (2 << 20), trust_env=False)

    assert answer.status_code == 413
    assert answer.headers["content-type"] == "application/problem+json"


def test_a_server_that_is_not_there_is_a_problem(tmp_path: Path) -> None:
    with pages_of("http://127.0.0.1:1", tmp_path / "log") as url:
        answer = httpx.get(f"{url}/api/traffic", trust_env=False)
        page = httpx.get(f"{url}/traffic", trust_env=False)

    assert answer.status_code == 502
    assert "can't be reached" in answer.json()["title"]
    assert page.status_code == 200
