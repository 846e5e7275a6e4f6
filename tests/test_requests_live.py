"""Following an agent's samples: each once, and what was missed is said."""

from __future__ import annotations

import pytest

from kernob.errors import ConfigError
from kernob.rates import duration_text
from kernob.requests_live import Filter, Follower
from kernob.requests_table import Request, Requests


def request(number: int, **changes: object) -> Request:
    values: dict[str, object] = {
        **dict.fromkeys(("status", "error"), ""),
        "number": number,
        "time": number * 10**9,
        "service": "shop.service",
        "side": "server",
        "peer": "client",
        "protocol": "http",
        "operation": "GET /items/{id}",
        "duration": 2_000_000,
        "first_byte": 1_000_000,
        "weight": 1,
        "reason": "fair",
        "request_size": 100,
        "response_size": 200,
        "attributes": {},
        **changes,
    }
    return Request(**values)  # type: ignore[arg-type]


class Agent:
    """Keeps the latest three of its samples."""

    def __init__(self) -> None:
        self.since = 1
        self.last = 0
        self.reason = ""

    def __call__(self, after: int) -> Requests:
        kept = range(max(after, self.last - 3) + 1, self.last + 1)
        found = [request(number) for number in kept]
        return Requests(0, self.since, "web-01", self.reason, {"ring": 0}, found)


def numbers(follower: Follower) -> tuple[list[int], int]:
    found, missed = follower.look()
    return [one.number for one in found], missed


def test_each_sample_comes_once_and_what_was_missed_is_counted() -> None:
    agent = Agent()
    follower = Follower(agent)
    agent.last = 5
    assert numbers(follower) == ([3, 4, 5], 0)
    assert numbers(follower) == ([], 0)
    agent.last = 7
    assert numbers(follower) == ([6, 7], 0)
    agent.last = 20
    assert numbers(follower) == ([18, 19, 20], 10)


def test_another_agent_counts_anew() -> None:
    agent = Agent()
    follower = Follower(agent)
    agent.last = 9
    follower.look()
    agent.since, agent.last = 2, 2
    assert numbers(follower) == ([1, 2], 0)


def test_where_none_will_come_it_is_an_error() -> None:
    agent = Agent()
    agent.reason = "requests.enabled is off"
    with pytest.raises(ConfigError, match="no requests are seen here: requests.enabled is off"):
        Follower(agent).look()


@pytest.mark.parametrize(
    ("wanted", "shown"),
    [
        (Filter(), True),
        (Filter(service="SHOP", protocol="http", operation="items"), True),
        (Filter(service="mail"), False),
        (Filter(errors=True), False),
        (Filter(slower=0.001), True),
        (Filter(slower=0.003), False),
    ],
)
def test_filters(wanted: Filter, *, shown: bool) -> None:
    assert wanted.lets(request(1)) is shown
    assert Filter(errors=True).lets(request(1, error="503"))


def test_durations_have_three_digits() -> None:
    texts = [duration_text(seconds) for seconds in (0, 4.12e-7, 0.000412, 0.00124, 0.9997, 65.4)]
    assert texts == ["0.00 µs", "0.41 µs", "412 µs", "1.24 ms", "1.00 s", "65.4 s"]
