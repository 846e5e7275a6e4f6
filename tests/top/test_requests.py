from __future__ import annotations

import asyncio
import io
import json
from typing import TYPE_CHECKING

import pytest
from operations import Feed, series
from test_app import Hands

from kernob.errors import ConfigError, KernobError
from kernob.request_rates import metered
from kernob.top import once_requests, request_columns, run_requests
from kernob.top.cells import NOT_MEASURED
from kernob.top.requests import RequestsApp

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

ORDER = ["POST", "GET", "SELECT"]
"""By share of time."""


def use(
    feed: Feed, play: Callable[[Hands], Awaitable[None]], size: tuple[int, int] = (120, 24)
) -> None:
    async def whole() -> None:
        app = RequestsApp(metered(feed), interval=0.05)
        async with app.run_test(size=size) as pilot:
            await play(Hands(pilot))

    asyncio.run(whole())


def operations(hands: Hands) -> list[str]:
    names = ("GET", "POST", "SELECT")
    return [next((n for n in names if f" {n} " in line), "") for line in hands.lines()[1:]]


def test_it_shows_how_often_how_fast_and_errors() -> None:
    async def play(hands: Hands) -> None:
        await hands.figures()
        await hands.until(lambda: operations(hands) == ORDER)
        head, post, get, idle = hands.lines()
        assert head.split()[-5:] == ["req/s", "err/s", "p50", "p95", "p99"]
        assert post.split()[-8:] == ["1", "0", "1.04", "s", "1.09", "s", "1.09", "s"]
        assert get.split()[-8:] == ["10", "2", "1.02", "ms", "1.06", "ms", "1.06", "ms"]
        assert idle.split()[-3:] == [NOT_MEASURED] * 3
        assert "11 requests/s" in hands.text("machine")
        assert hands.text("views") == "3 operations"

    use(Feed(), play)


def test_keys_sort_filter_pause_and_help() -> None:
    async def play(hands: Hands) -> None:
        await hands.until(lambda: operations(hands) == ORDER)
        await hands.press("r")
        await hands.until(lambda: operations(hands) == ["GET", "POST", "SELECT"])
        await hands.press("r")
        await hands.until(lambda: operations(hands) == ["SELECT", "POST", "GET"])
        await hands.press("slash", *"items", "enter")
        await hands.until(lambda: operations(hands) == ["GET"])
        await hands.press("escape", "e")
        await hands.until(lambda: operations(hands) == ["GET", "POST", "SELECT"])
        await hands.press("down", "tab", "enter", "space")
        assert "PAUSED" in hands.text("state")
        await hands.press("question_mark")
        assert len(hands.app.screen_stack) == 2

    use(Feed(), play)


def test_what_is_lost_is_said_and_many_lines_are_summed_up() -> None:
    def many(second: int) -> list[object]:
        return [series(f"GET /{number}", second) for number in range(600)]

    async def play(hands: Hands) -> None:
        await hands.figures()
        assert "3 series overflowed" in hands.text("lost")
        await hands.press("end", "down")
        await hands.until(lambda: any("100 more" in line for line in hands.lines()))

    use(Feed(many, losses={"series_overflowed": 3}), play)  # type: ignore[arg-type]


@pytest.mark.parametrize("width", [40, 60, 80, 100])
def test_a_narrow_terminal_keeps_the_operation(width: int) -> None:
    async def play(hands: Hands) -> None:
        await hands.until(lambda: len(hands.lines()) == 4)
        assert "operation" in hands.lines()[0]
        assert "req/s" in hands.lines()[0]
        assert all(len(line) <= width for line in hands.lines())

    use(Feed(), play, (width, 20))


def test_once_as_json_and_as_text(monkeypatch: pytest.MonkeyPatch) -> None:
    out = io.StringIO()
    once_requests(metered(Feed()), out=out, interval=0.01, limit=2, as_json=True)
    answer = json.loads(out.getvalue())

    assert [row["operation"].split()[0] for row in answer["rows"]] == ["POST", "GET"]
    assert answer["rows"][1]["request_rate"] == 10.0
    assert answer["rows"][1]["error_rate"] == 2.0
    assert answer["rows"][0]["share"] == pytest.approx(1.05 / 1.06)
    assert (answer["total"]["requests"], answer["others"]["count"]) == (11, 1)
    monkeypatch.setenv("COLUMNS", "100")
    out = io.StringIO()
    once_requests(metered(Feed()), out=out, interval=0.01, filter_text="items")
    head, titles, row = out.getvalue().splitlines()
    assert head == "web-01  1970-01-01 00:16:41 UTC  over 1 s  11 requests/s  2 errors/s"
    assert "GET /items/{id}" in row
    assert len(titles) <= 100


def test_what_is_wrong_is_said() -> None:
    with pytest.raises(ConfigError, match="sort by one of service"):
        request_columns.column("colour")
    with pytest.raises(KernobError, match="needs a terminal"):
        run_requests(metered(Feed()))
