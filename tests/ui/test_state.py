from __future__ import annotations

import pytest

from kernob.ui.state import DEFAULT_LENGTH, Span, State, parse

NOW = 1_763_740_800_123
NOON = 1_763_726_400_000  # 2025-11-21T12:00:00Z


@pytest.mark.parametrize(
    ("query", "state"),
    [
        ("", State()),
        ("?from=now-1h", State(Span(3_600_000))),
        ("from=now-7d&live=off", State(Span(7 * 86_400_000), live=False)),
        (
            "from=2025-11-21T12:00:00Z&to=2025-11-21T12:00:30.500Z",
            State(Span(0, NOON, NOON + 30_500), live=False),
        ),
        (
            "from=2025-11-21T13:00:00%2B01:00&to=2025-11-21T12:01:00Z",
            State(Span(0, NOON, NOON + 60_000), live=False),
        ),
        ("service=a%20b%26c&by=peer", State(choices={"service": "a b&c", "by": "peer"})),
    ],
)
def test_a_query_says_a_state_and_a_state_says_the_query(query: str, state: State) -> None:
    assert parse(query) == state
    assert parse(state.query()) == state


@pytest.mark.parametrize(
    "query",
    [
        "from=now-0m",
        "from=now-1s",
        "from=now-9999999d",
        "from=yesterday",
        "from=2025-11-21T12:00:00&to=2025-11-21T13:00:00",
        "from=2025-11-21T12:00:00Z&to=2025-11-21T11:00:00Z",
        "from=2025-11-21T12:00:00Z",
        "&&&=;%ff%fe",
    ],
)
def test_what_makes_no_sense_counts_as_not_said(query: str) -> None:
    assert parse(query).span == Span(DEFAULT_LENGTH)


def test_a_link_changes_some_choices_and_keeps_the_range() -> None:
    state = parse("from=now-1h&service=nginx&sort=-out")

    assert state.link(service="", peer="a/b") == "?from=now-1h&peer=a/b&sort=-out"
    assert state.link("/agents", host="web-1") == "/agents?from=now-1h&host=web-1"
    assert State().link("/agents") == "/agents"


def test_a_copied_link_has_absolute_times() -> None:
    copied = parse("from=now-1m&service=nginx").fixed(NOON)

    assert copied.query() == "from=2025-11-21T11:59:00Z&to=2025-11-21T12:00:00Z&service=nginx"
    assert not copied.live


def test_wider_is_three_times_as_long_and_not_ahead() -> None:
    assert Span(0, NOON, NOON + 60_000).wider(NOW) == Span(0, NOON - 60_000, NOON + 120_000)
    assert Span(60_000).wider(NOW) == Span(0, NOW - 180_000, NOW)


def test_long_choices_are_left_out() -> None:
    assert parse(f"service={'x' * 5000}").choices == {}
    assert len(parse("&".join(f"a{n}=1" for n in range(50))).choices) == 20
