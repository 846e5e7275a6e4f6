import pytest

from kernob.identity.service import Rule, service_name

FACTS = {
    "command": "python app.py --shop north",
    "container": "",
    "executable": "python3.11",
    "name": "python",
    "unit": "shop@north.service",
    "user": "shop",
    "service": "shop@north",
}
PATH = "/usr/bin/python3.11"


@pytest.mark.parametrize(
    ("match", "name", "expected"),
    [
        ({"unit": "shop@*.service"}, "shop", "shop"),
        ({"unit": "shop@*"}, "{unit} of {user}", "shop@north of shop"),
        ({"executable": "python*"}, "{executable}", "python3.11"),
        ({"executable": "/usr/bin/*"}, "x", "x"),
        ({"executable": "/opt/*"}, "x", "shop@north"),
        ({"command": "*--shop north*", "user": "shop"}, "north", "north"),
        ({"command": "*--shop north*", "user": "root"}, "north", "shop@north"),
        ({"name": "pyth[no]n"}, "{service}!", "shop@north!"),
        ({"container": "*"}, "x", "shop@north"),
        ({"unit": "*"}, "{container}", "shop@north"),
        ({"unit": "*"}, "x" * 300, "x" * 128),
    ],
)
def test_rule(match: dict[str, str], name: str, expected: str) -> None:
    assert service_name(FACTS, PATH, [Rule(match, name)]) == expected


def test_first_match_counts() -> None:
    rules = [Rule({"user": "root"}, "a"), Rule({"user": "shop"}, "b"), Rule({"user": "*"}, "c")]

    assert service_name(FACTS, PATH, rules) == "b"


@pytest.mark.parametrize(
    ("match", "name", "message"),
    [
        ({}, "x", "anything to match"),
        ({"colour": "red"}, "x", "'colour'"),
        ({"user": "*"}, "{colour}", "{colour}"),
        ({"user": "*"}, "{user.name}", "{user.name}"),
        ({"user": "*"}, " ", "without a name"),
    ],
)
def test_mistake(match: dict[str, str], name: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Rule(match, name)
