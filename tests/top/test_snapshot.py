from __future__ import annotations

import io
import json
from typing import TYPE_CHECKING, Any

import pytest
from tables import GONE, Feed, make_row

from kernob.errors import ConfigError, KernobError
from kernob.rates import metered
from kernob.top import once as show

if TYPE_CHECKING:
    from collections.abc import Callable

    from kernob.traffic import Table


def once(source: Callable[[], Table], **options: Any) -> None:
    show(metered(source), **options)


def test_json_has_rates_totals_and_how_it_knows() -> None:
    out = io.StringIO()
    once(Feed(losses={"rows": 3}), out=out, interval=0.01, as_json=True)

    answer = json.loads(out.getvalue())

    assert answer["time"] == "1970-01-01T00:16:41Z"
    assert (answer["interval"], answer["by"], answer["mode"]) == (1.0, "process", "ebpf")
    assert answer["losses"] == {"rows": 3}
    assert answer["others"] is None
    assert answer["total"]["transmit_rate"] == 8900.0
    assert [row["pid"] for row in answer["rows"]] == [100, 201, 202, 300]
    assert answer["rows"][0] == {
        "pid": 100,
        "start": 100_000,
        "executable": "nginx",
        "command": "/usr/bin/nginx --serve",
        "user": "www",
        "unit": "",
        "container": "",
        "service": "nginx.service",
        "ended": False,
        "transmit_rate": 6000.0,
        "receive_rate": 4000.0,
        "operations_rate": 20.0,
        "transmit": 6_006_000,
        "receive": 4_004_000,
        "operations": 20_020,
        "connections": 2,
    }


def test_a_limit_sums_up_what_it_leaves_out() -> None:
    out = io.StringIO()
    once(Feed(), out=out, interval=0.01, by="service", sort="receive", limit=1, as_json=True)
    answer = json.loads(out.getvalue())
    assert [row["service"] for row in answer["rows"]] == ["nginx.service"]
    assert answer["others"]["count"] == 2
    assert answer["others"]["transmit_rate"] == 2900.0


def test_peers_name_their_services_and_polling_counts_no_operations() -> None:
    out = io.StringIO()
    once(Feed(mode="polling"), out=out, interval=0.01, by="peer", filter_text=":5432", as_json=True)
    (row,) = json.loads(out.getvalue())["rows"]
    assert (row["peer"], row["services"], row["processes"]) == ("db", ["shop"], 1)
    assert row["operations_rate"] is None


def test_text_is_aligned_and_says_what_is_polled_and_lost(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    out = io.StringIO()
    feed = Feed(mode="polling", description="polled: misses UDP", losses={"rows": 2})

    once(feed, out=out, interval=0.01, limit=3)

    head, about, lost, titles, *rows, others = out.getvalue().splitlines()
    assert head.startswith("web-01  polled  1970-01-01 00:16:41 UTC  over 1 s  transmit 8.90 kB/s")
    assert (about, lost) == ("polled: misses UDP", "lost: 2 rows")
    assert len(rows) == 3
    assert others.split()[:2] == ["1", "more"]
    for title in ("transmit", "receive"):
        end = titles.index(title) + len(title)
        assert all(row[:end].endswith("/s") for row in rows)
    assert all(len(row) <= 100 for row in rows)


def test_a_command_with_control_characters_stays_on_its_line() -> None:
    out = io.StringIO()
    once(
        Feed(lambda _: [make_row(1, "x", command="a\x1b[31m\nb")]),
        out=out,
        interval=0.01,
    )
    assert "\x1b" not in out.getvalue()
    assert len(out.getvalue().splitlines()) == 3


def test_a_slower_agent_is_waited_for() -> None:
    feed = Feed()
    feed.frozen.set()
    asked = 0

    def thaws():
        nonlocal asked
        asked += 1
        if asked == 4:
            feed.frozen.clear()
        return feed()

    once(thaws, out=io.StringIO(), interval=0.01)
    assert asked == 4


def test_figures_that_stand_still_are_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kernob.top.snapshot.PATIENCE", 0.1)
    feed = Feed()
    feed.frozen.set()
    with pytest.raises(KernobError, match="don't move on"):
        once(feed, out=io.StringIO(), interval=0.01)


def test_errors_of_the_source_and_of_the_user_are_raised() -> None:
    feed = Feed()
    feed.broken = True
    with pytest.raises(KernobError, match=str(GONE)):
        once(feed, out=io.StringIO(), interval=0.01)
    with pytest.raises(ConfigError):
        once(feed, out=io.StringIO(), sort="nothing")
