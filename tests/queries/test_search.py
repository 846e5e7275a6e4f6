import time

import pytest

from kernob.queries.search import search
from kernob.store.store import Store
from snapshots import Sender, asked, moved, process, send

NOW = time.time_ns() // 1_000_000


@pytest.fixture(scope="module", autouse=True)
def sent(store: Store) -> None:
    agent = Sender("web-1", NOW)
    send(
        store,
        agent.snapshot(
            NOW,
            *moved("web", 1, peer="db.example"),
            *moved("my-web", 1, peer="10.9.8.7"),
            *moved("Webshop", 1, peer="it's"),
            asked("Webshop", [0.1], operation="GET /carts/{id}"),
            process(42, "webserver", "web", 1, NOW),
            *(process(pid, "worker", "many", 1, NOW) for pid in range(100, 150)),
        ),
    )


def names(store: Store, text: str) -> list[tuple[str, str]]:
    return [(found.kind, found.name) for found in search(store.reader(), text).found]


def test_equal_names_come_first_then_beginnings(store: Store) -> None:
    assert names(store, "Web") == [
        ("service", "web"),
        ("service", "Webshop"),
        ("host", "web-1"),
        ("process", "webserver 42"),
        ("service", "my-web"),
    ]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("9.8", [("peer", "10.9.8.7")]),
        ("it's", [("peer", "it's")]),
        ("r 42", [("process", "webserver 42")]),
        ("%", []),
        ("", []),
        ("  ", []),
    ],
)
def test_any_part_of_a_name(store: Store, text: str, expected: list[tuple[str, str]]) -> None:
    assert names(store, text) == expected


def test_links_lead_to_the_thing(store: Store) -> None:
    links = {f.name: f.link for text in ("web", "it's") for f in search(store.reader(), text).found}

    assert links["web"] == "/traffic?by=peer&service=web"
    assert links["webserver 42"] == "/traffic?by=process&process=web-1:42"
    assert links["web-1"] == "/traffic?by=service&host=web-1"
    assert links["it's"] == "/traffic?by=service&peer=it%27s"


def test_services_with_requests_and_operations_lead_to_their_page(store: Store) -> None:
    (operation,) = search(store.reader(), "carts").found
    (service,) = search(store.reader(), "webshop").found

    assert (operation.kind, operation.detail) == ("operation", "Webshop")
    link = "/service?name=Webshop&side=server&operation=http+GET+%2Fcarts%2F%7Bid%7D"
    assert operation.link == link
    assert service.link == "/service?name=Webshop"


def test_at_most_twenty(store: Store) -> None:
    assert len(names(store, "worker")) == 20
