"""DNS: what its parser makes of messages, in streams and as datagrams are (RFC 1035, RFC 7766).

Most messages are dnspython's, so that the parser is not held against our own idea of the format.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

import dns.flags
import dns.message
import dns.name
import dns.opcode
import dns.rcode
import dns.rdatatype
import dns.rrset
import dns.update
import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocols.host import AlienError, Connection, Direction, Event, answers, asks, however_cut

if TYPE_CHECKING:
    from collections.abc import Callable

NO_DATA, TRUNCATED = 257, 258
ASKED = Event.REQUEST | Event.BY_ID
ANSWERED = Event.ANSWER | Event.BY_ID


def framed(*messages: bytes | dns.message.Message) -> bytes:
    """Returns messages as a stream has them."""
    wires = [m if isinstance(m, bytes) else m.to_wire() for m in messages]
    return b"".join(struct.pack(">H", len(wire)) + wire for wire in wires)


def query(name: str = "www.example.org", kind: str = "A", **more: object) -> dns.message.Message:
    return dns.message.make_query(name, kind, **more)  # type: ignore[arg-type]


def answer(asked: dns.message.Message, *records: str, code: str = "NOERROR") -> dns.message.Message:
    """Returns a resolver's answer; records are in the form of zone files, without the name."""
    given = dns.message.make_response(asked, recursion_available=True)
    given.set_rcode(dns.rcode.from_text(code))
    question = asked.question[0]
    for record in records:
        given.answer.append(dns.rrset.from_text(question.name, 60, "IN", *record.split(" ", 1)))
    return given


def question(name: bytes, kind: int = 1, rest: bytes = b"", **fields: int) -> bytes:
    """Returns a question by hand: what dnspython would not write."""
    values = {"flags": 0x100, "qd": 1, "an": 0, "ns": 0, "ar": 0, "qclass": 1} | fields
    counts = (values[field] for field in ("flags", "qd", "an", "ns", "ar"))
    return struct.pack(">6H", 7, *counts) + name + struct.pack(">HH", kind, values["qclass"]) + rest


def only(stream: bytes, direction: Direction = Direction.CLIENT) -> tuple[Event, bytes, int]:
    """Returns events, text and status of a stream that is one message."""
    (unit,) = however_cut("dns", direction, stream)
    assert unit.length == len(stream)
    return unit.events, unit.text, unit.status


@pytest.mark.parametrize(
    ("name", "kind", "text"),
    [
        ("www.example.org", "A", b"A www.example.org"),
        ("WwW.eXample.ORG.", "AAAA", b"AAAA www.example.org"),
        (".", "NS", b"NS ."),
        ("_sip._tcp.example.org", "SRV", b"SRV _sip._tcp.example.org"),
        ("1.0.0.127.in-addr.arpa", "PTR", b"PTR 1.0.0.127.in-addr.arpa"),
        ("k", "HTTPS", b"HTTPS k"),
        ("k", "DNSKEY", b"DNSKEY k"),
        ("k", "OPENPGPKEY", b"OPENPGPK k"),
        ("k", "TYPE65280", b"TYPE65280 k"),
        ("k", "TYPE7", b"TYPE7 k"),
        ("k", "ANY", b"ANY k"),
        (r"two\.parts.a\032b.x\255y.\\z", "A", rb"A two\046parts.a\032b.x\255y.\092z"),
        ("xn--bcher-kva.example", "MX", b"MX xn--bcher-kva.example"),
    ],
)
def test_questions(name: str, kind: str, text: bytes) -> None:
    assert only(framed(query(name, kind))) == (ASKED, text, 0)


def test_the_longest_name() -> None:
    labels = [b"\x00" * 63] * 3 + [b"\xff" * 61]
    wire = b"".join(bytes([len(label)]) + label for label in labels) + b"\0"
    assert len(wire) == 255

    _, text, _ = only(framed(question(wire, 65535)))

    assert text == b"TYPE65535 " + b".".join([rb"\000" * 63] * 3 + [rb"\255" * 61])


@given(
    st.lists(st.binary(min_size=1, max_size=63), max_size=8).filter(
        lambda s: sum(map(len, s)) < 240
    )
)
def test_any_name(labels: list[bytes]) -> None:
    name = dns.name.Name([*labels, b""])

    (unit,) = Connection("dns").client(framed(query(name.to_text())))

    # dnspython writes some bytes in another way; read again, it is the same name.
    read = dns.name.from_text(unit.text.decode("ascii").partition(" ")[2])
    assert read == name.canonicalize()


def test_fingerprints() -> None:
    connection = Connection("dns")
    same = connection.client(framed(query("a.example"), query("A.EXAMPLE")))
    others = connection.client(
        framed(
            query("b.example"), query("a.exampl"), query("example"), query("a.example", "AAAA"),
            query(r"a\.example"), query("a.b.example"), query("ab.example"), query("."),
        )
    )  # fmt: skip

    assert same[0].operation == same[1].operation
    assert same[0].statement != same[1].statement  # the ids differ
    assert len({unit.operation for unit in [same[0], *others]}) == 1 + len(others)


def test_what_follows_the_question() -> None:
    asked = query(use_edns=0, payload=4096, want_dnssec=True, options=[])
    asked.use_tsig({dns.name.from_text("key."): b"secret"}, algorithm="hmac-sha256")

    assert only(framed(asked)) == (ASKED, b"A www.example.org", 0)


@pytest.mark.parametrize(
    ("records", "code", "status"),
    [
        (["A 192.0.2.1"], "NOERROR", 0),
        (["A 192.0.2.1", "CNAME other.example."], "NOERROR", 0),
        ([], "NOERROR", NO_DATA),
        ([], "NXDOMAIN", 3),
        ([], "SERVFAIL", 2),
        ([], "REFUSED", 5),
        (["CNAME other.example."], "NXDOMAIN", 3),
    ],
)
def test_answers(records: list[str], code: str, status: int) -> None:
    stream = framed(answer(query(), *records, code=code))

    events, _, found = only(stream, Direction.SERVER)

    assert (events, found) == (ANSWERED, status)


def test_a_referral_is_no_empty_answer() -> None:
    given = dns.message.make_response(query())
    given.authority.append(dns.rrset.from_text("example.org.", 60, "IN", "NS", "ns.example.org."))

    assert only(framed(given), Direction.SERVER)[2] == 0


def test_truncated() -> None:
    given = answer(query(), "A 192.0.2.1")
    given.flags |= dns.flags.TC

    assert only(framed(given), Direction.SERVER)[2] == TRUNCATED


def test_answers_in_another_order() -> None:
    questions = [query(f"n{number}.example", id=number + 1) for number in range(20)]
    given = [answer(asked, "A 192.0.2.1") for asked in reversed(questions)]
    connection = Connection("dns")

    asked = connection.client(framed(*questions))
    answered = connection.server(framed(*given))

    assert [unit.statement for unit in answered] == [unit.statement for unit in reversed(asked)]
    assert len({unit.statement for unit in asked}) == len(asked)


def test_a_large_answer() -> None:
    given = answer(query(kind="TXT"), *(f'TXT "{"x" * 250}{number}"' for number in range(200)))
    stream = framed(given.to_wire(max_size=65535))
    connection = Connection("dns")

    units = connection.server(*(stream[at : at + 1000] for at in range(0, len(stream), 1000)))

    assert [unit.length for unit in units] == [len(stream)]
    assert connection.server(framed(answer(query()))) != []


def test_a_zone_is_one_answer() -> None:
    asked, other = query("example.org", "AXFR", id=5), query("example.org", "AXFR", id=6)
    parts = [answer(asked, "TXT x").to_wire() for _ in range(3)]
    # Later parts need not repeat the question.
    bare = struct.pack(">6H", 5, 0x8400, 0, 1, 0, 0) + b"\0\0\x10\0\1\0\0\0\0\0\2\1x"
    stream = framed(*parts, bare, answer(other, "TXT x"))

    units = however_cut("dns", Direction.SERVER, stream)

    assert [unit.events for unit in units] == [ANSWERED, Event.APART, ANSWERED]


def test_an_error_without_its_question_is_apart() -> None:
    assert (
        only(framed(struct.pack(">6H", 7, 0x8001, 0, 0, 0, 0)), Direction.SERVER)[0] is Event.APART
    )


def test_notifications_and_updates() -> None:
    notify = query("example.org", "SOA")
    notify.set_opcode(dns.opcode.NOTIFY)
    update = dns.update.UpdateMessage("example.org")
    update.add("new", 60, "A", "192.0.2.1")
    connection = Connection("dns")

    asked = connection.client(framed(notify, update, query("example.org", "SOA")))
    answered = connection.server(framed(answer(notify), dns.message.make_response(update)))

    assert [unit.text for unit in asked] == [
        *(b"NOTIFY example.org", b"UPDATE example.org", b"SOA example.org"),
    ]
    assert [unit.statement for unit in answered] == [unit.statement for unit in asked[:2]]
    assert [unit.status for unit in answered] == [0, 0]  # nothing is missing in them
    assert len({unit.operation for unit in asked}) == 3


WWW = b"\3www\7example\3org\0"


@pytest.mark.parametrize(
    "message",
    [
        question(WWW, qd=0),
        question(WWW, qd=2),
        question(WWW, an=1, rest=bytes(11)),
        question(WWW, ar=3, rest=bytes(33)),
        question(WWW, ar=1),  # no room for it
        question(WWW, flags=0x0140),  # Z
        question(WWW, flags=0x0102),  # a question with a response code
        question(WWW, flags=0x0300),  # truncated
        question(WWW, flags=0x1100),  # opcode 2, STATUS
        question(WWW, qclass=2),
        question(WWW, qclass=0x8001),  # multicast DNS
        question(WWW, kind=0),
        question(b"\3www\xc0\x0c"),
        question(b"\x40" + b"x" * 64 + b"\0"),
        question((b"\x3f" + b"x" * 63) * 4 + b"\0"),
        question(WWW)[:-1],
        question(b"\3www\7exampl"),
        WWW,
        b"",
    ],
    ids=range(19),
)
def test_not_dns(message: bytes) -> None:
    with pytest.raises(AlienError):
        Connection("dns").client(framed(message) + bytes(300))


def test_each_direction_has_its_own() -> None:
    with pytest.raises(AlienError):
        Connection("dns").server(framed(query()))
    with pytest.raises(AlienError):
        Connection("dns").client(framed(answer(query())))


@pytest.mark.parametrize(
    ("looks", "other", "stream"),
    [(asks, answers, framed(query())), (answers, asks, framed(answer(query())))],
)
def test_detection(
    looks: Callable[[str, bytes], bool], other: Callable[[str, bytes], bool], stream: bytes
) -> None:
    assert all(looks("dns", stream[:count]) for count in range(1, len(stream) + 1))
    assert not any(other("dns", stream[:count]) for count in range(6, len(stream) + 1))


@pytest.mark.parametrize(
    "stream",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        b"*1\r\n$4\r\nPING\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        bytes.fromhex("0000000804d2162f"),  # PostgreSQL: SSLRequest
        bytes.fromhex("16030100c8010000c40303"),  # TLS
        bytes.fromhex("3f000000000000000000000dd407000000000000"),  # MongoDB
        bytes.fromhex("00000023001200040000000100056b636174"),  # Kafka
        bytes.fromhex("0400000001000000160001000b43514c"),  # Cassandra
        b"SSH-2.0-OpenSSH_9.2\r\n",
        bytes(32),
        b"\xff" * 32,
    ],
)
def test_others(stream: bytes) -> None:
    assert not asks("dns", stream)
    assert not answers("dns", stream)
