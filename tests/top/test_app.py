from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

from tables import Feed, make_row
from textual.widgets import Input, Static

from kernob.rates import metered
from kernob.top.app import TopApp
from kernob.top.base import SHOWN
from kernob.top.cells import NOT_MEASURED
from kernob.top.table import LinesTable
from kernob.top.words import PATH

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from textual.pilot import Pilot

    from kernob.rates import Sample, View
    from kernob.traffic import Row


class Hands:
    """What a user does, and what the screen shows then."""

    def __init__(self, pilot: Pilot[None]) -> None:
        self.pilot = pilot
        self.app = pilot.app

    @property
    def table(self) -> LinesTable:
        return self.app.query_one("#lines", LinesTable)

    def text(self, name: str) -> str:
        widget = self.app.query_one(f"#{name}", Static)
        return str(widget.visual) if widget.display else ""

    def lines(self, name: str = "lines") -> list[str]:
        table = self.app.query_one(f"#{name}", LinesTable)
        drawn = [table.render_line(y).text.rstrip() for y in range(table.size.height)]
        return [line for line in drawn if line.strip()]

    def first(self, column: int = 0) -> list[str]:
        """Returns a word of each line of the table."""
        return [line.split()[column] for line in self.lines()[1:]]

    async def press(self, *keys: str) -> None:
        await self.pilot.press(*keys)
        await self.pilot.pause()

    async def until(self, condition: Callable[[], object]) -> None:
        """Waits for figures that arrive in their own time."""
        deadline = time.monotonic() + 10
        while not condition():
            assert time.monotonic() < deadline, self.lines()
            await self.pilot.pause(0.01)

    async def shows(self, first: list[str]) -> None:
        """Waits until the lines begin with these words; on a busy machine keys take their time."""
        await self.until(lambda: self.first() == first)

    async def figures(self) -> None:
        await self.until(lambda: "web-01" in self.text("title"))


def use(
    feed: Callable[[], object],
    play: Callable[[Hands], Awaitable[None]],
    size: tuple[int, int] = (110, 30),
    **options: object,
) -> None:
    use_source(metered(feed), play, size, **options)  # type: ignore[arg-type]


def use_source(
    source: Callable[[View], Sample | None],
    play: Callable[[Hands], Awaitable[None]],
    size: tuple[int, int] = (110, 30),
    **options: object,
) -> None:
    async def whole() -> None:
        app = TopApp(source, interval=0.05, **options)  # type: ignore[arg-type]
        async with app.run_test(size=size) as pilot:
            await play(Hands(pilot))

    asyncio.run(whole())


def test_it_measures_until_there_are_two_tables() -> None:
    feed = Feed()
    feed.frozen.set()

    async def play(hands: Hands) -> None:
        await hands.until(lambda: feed.given > 3)
        assert hands.text("machine") == "measuring…"
        assert hands.lines()[-1].strip() == "measuring…"
        await hands.press("down", "enter", "i", "greater_than_sign", "2", "space", "space")
        feed.frozen.clear()
        await hands.figures()
        await hands.until(lambda: "8.90 kB/s" in hands.text("machine"))

    use(feed, play)


def test_the_views_show_processes_services_and_peers() -> None:
    async def play(hands: Hands) -> None:
        await hands.figures()
        await hands.shows(["100", "201", "202", "300"])
        assert "6.00 kB/s  4.00 kB/s" in hands.lines()[1]
        assert hands.text("views") == "1 processes 4   2 services 3   3 peers 5"
        await hands.press("2")
        await hands.shows(["nginx.service", "shop", "agent.service"])
        await hands.press("tab")
        await hands.shows(["client", "shop", "nginx.service", "db", "10.0.0.7"])
        await hands.press("tab")
        await hands.shows(["100", "201", "202", "300"])
        await hands.press("shift+tab")
        assert hands.first()[0] == "client"

    use(Feed(), play)


def test_keys_and_the_header_sort_and_reverse() -> None:
    async def play(hands: Hands) -> None:
        await hands.figures()
        await hands.press("p")
        await hands.shows(["100", "201", "202", "300"])
        await hands.press("i")
        await hands.shows(["300", "202", "201", "100"])
        await hands.press("t")
        await hands.shows(["100", "201", "202", "300"])
        await hands.press("t")
        await hands.shows(["300", "202", "201", "100"])
        assert "▲transmit" in hands.lines()[0]
        await hands.press("greater_than_sign")
        assert "▼receive" in hands.lines()[0]
        await hands.press("less_than_sign", "less_than_sign")
        assert "▼share" in hands.lines()[0]
        await hands.press("n")
        assert hands.first()[0] == "300"
        at = hands.lines()[0].index("user")
        await hands.pilot.click(LinesTable, offset=(at, 0))
        await hands.pilot.pause()
        assert hands.first()[0] == "202"

    use(Feed(), play)


def test_typing_filters_and_escape_clears() -> None:
    async def play(hands: Hands) -> None:
        await hands.figures()
        await hands.press("slash", *"shop")
        await hands.shows(["100", "201", "202"])
        # Of nginx, only what it moves with the shop is left.
        assert "2.00 kB/s" in hands.lines()[1]
        await hands.press("enter", "3", "slash", "q", "2")
        assert "nothing matches “q2”" in hands.lines()[1]
        await hands.press("escape")
        assert len(hands.lines()) == 6
        assert hands.app.query_one(Input).value == ""
        await hands.press("1")
        assert len(hands.lines()) == 5

    use(Feed(), play)


def test_enter_opens_a_service_then_a_process_and_escape_goes_back() -> None:
    async def play(hands: Hands) -> None:
        await hands.figures()
        await hands.press("2", "down", "down", "enter")
        assert hands.text("facts") == "shop"
        await hands.shows(["201", "202"])
        assert [line.split()[0] for line in hands.lines("peers")[1:]] == ["nginx.service", "db"]
        await hands.press("down", "down", "enter")
        assert hands.text("facts").startswith(f"shop{PATH}python3 202  ·  eva  ·  shop")
        assert hands.text("views") == "3 peers 1"
        await hands.shows(["db"])
        await hands.press("down", "enter", "tab", "1")
        await hands.shows(["db"])
        await hands.press("escape", "escape")
        assert hands.table.selected == ("shop",)
        await hands.shows(["nginx.service", "shop", "agent.service"])

    use(Feed(), play)


def test_a_peer_opens_to_the_processes_that_use_it() -> None:
    async def play(hands: Hands) -> None:
        await hands.figures()
        await hands.press("3", "down", "down", "enter")
        assert hands.text("facts") == "shop:8080"
        await hands.shows(["100"])

    use(Feed(), play)


def test_updates_keep_selection_scroll_and_sort() -> None:
    def crowd(seconds: float) -> list[Row]:
        return [
            make_row(
                pid, "worker", transmit=int(seconds * (pid if int(seconds) % 2 else 999 - pid))
            )
            for pid in range(1, 101)
        ]

    async def play(hands: Hands) -> None:
        await hands.figures()
        await hands.press("p", "pagedown", "pagedown", "down")
        seen, top = hands.table.selected, hands.table.scroll_y
        page = hands.table.size.height - 1
        assert seen == (1000 * (2 * page + 2), 2 * page + 2)
        assert top > 0
        given = feed.given
        await hands.until(lambda: feed.given > given + 6)
        assert (hands.table.selected, hands.table.scroll_y) == (seen, top)
        assert "▲pid" in hands.lines()[0]
        await hands.press("m")
        given = feed.given
        await hands.until(lambda: feed.given > given + 6)
        assert (hands.table.selected, hands.table.scroll_y) == (seen, top)
        await hands.press("enter")
        assert hands.text("facts").startswith(f"worker {seen[1]}  ·")

    feed = Feed(crowd)
    use(feed, play)


def test_a_pause_holds_the_picture() -> None:
    feed = Feed()

    async def play(hands: Hands) -> None:
        await hands.figures()
        await hands.press("space")
        held, given = hands.lines(), feed.given
        await hands.until(lambda: feed.given > given + 5)
        assert hands.lines() == held
        assert "PAUSED" in hands.text("state")
        await hands.press("space")
        assert hands.lines() != held

    use(feed, play)


def test_an_agent_that_is_gone_leaves_its_figures_and_comes_back() -> None:
    feed = Feed()

    async def play(hands: Hands) -> None:
        await hands.figures()
        feed.broken = True
        await hands.until(lambda: hands.text("error"))
        assert "no agent answers: start one; old figures, trying again" in hands.text("error")
        await hands.shows(["100", "201", "202", "300"])
        feed.broken = False
        await hands.until(lambda: not hands.text("error"))

    use(feed, play)


def test_an_agent_that_was_never_there_is_said() -> None:
    feed = Feed()
    feed.broken = True

    async def play(hands: Hands) -> None:
        await hands.until(lambda: hands.text("error"))
        assert "no figures yet" in hands.lines()[1]
        feed.broken = False
        await hands.figures()
        assert not hands.text("error")

    use(feed, play)


def test_polling_and_losses_are_said() -> None:
    async def play(hands: Hands) -> None:
        await hands.figures()
        assert "polled" in hands.text("title")
        assert hands.text("about") == "polled: misses UDP"
        assert hands.text("lost") == "lost: 4 rows"
        assert NOT_MEASURED in hands.lines()[1]

    use(Feed(mode="polling", description="polled: misses UDP", losses={"rows": 4}), play)


def test_exact_figures_without_loss_say_nothing_more() -> None:
    async def play(hands: Hands) -> None:
        await hands.figures()
        assert (hands.text("about"), hands.text("lost"), hands.text("facts")) == ("", "", "")
        await hands.press("question_mark", "slash", "x")
        assert "exact" in str(hands.app.screen.query_one(Static).visual)
        await hands.press("escape")
        assert len(hands.app.screen_stack) == 1
        assert len(hands.lines()) == 5

    use(Feed(losses={"rows": 0}), play)


def test_a_process_that_ended_fades_without_rate() -> None:
    def ends(seconds: float) -> list[Row]:
        alive = make_row(1, "lasting", transmit=int(seconds))
        return [alive] if seconds > 1003 else [alive, make_row(2, "brief", transmit=10**9)]

    feed = Feed(ends)

    async def play(hands: Hands) -> None:
        await hands.until(lambda: feed.given > 6)
        await hands.pilot.pause()
        brief = next(line for line in hands.lines() if "brief" in line)
        assert "0  B/s     0  B/s" in brief
        assert "1.00 GB" in brief

    use(feed, play)


def test_ten_thousand_processes_stay_quick_and_are_summed_up() -> None:
    def crowd(seconds: float) -> list[Row]:
        return [make_row(pid, "worker", transmit=int(seconds * pid)) for pid in range(1, 10_001)]

    feed = Feed(crowd)

    async def play(hands: Hands) -> None:
        await hands.figures()
        feed.frozen.set()
        await hands.press("end")
        assert hands.lines()[-1].split()[:2] == [f"{10_000 - SHOWN:,}", "more"]
        assert hands.table.selected == (9501 * 1000, 9501)
        started = time.thread_time()
        await hands.press("2", "1", "t", "slash", "9", "9", "escape")
        assert (time.thread_time() - started) / 7 < 0.3
        assert len(hands.lines()) == hands.table.size.height

    use(feed, play)


def test_it_fits_into_eighty_columns() -> None:
    async def play(hands: Hands) -> None:
        await hands.figures()
        assert all(len(line) <= 80 for line in hands.lines())
        assert hands.lines()[0].split() == (
            ["pid", "user", "program", "service", "▼share", "transmit", "receive", "conn"]
        )
        await hands.pilot.resize_terminal(160, 24)
        await hands.pilot.pause()
        assert "command" in hands.lines()[0]
        await hands.pilot.resize_terminal(30, 8)
        await hands.pilot.pause()
        assert hands.lines()

    use(Feed(), play, size=(80, 24))
