"""Which protocol a stream's first bytes are taken for: the matrix, and what must hold of it."""

from __future__ import annotations

import pytest

from protocols.detection import OWN, PAGE, STREAMS, Sample, page, samples
from protocols.host import protocols

OURS = [sample for sample in samples() if OWN.get(sample.protocol) in protocols()]
STRANGERS = [sample for sample in samples() if sample.protocol not in OWN]
ALIKE = {
    # What the other side says tells: PONG has no plus there, and no answer is a line of text.
    ("NATS", b"PING\r\n", "redis"),
    ("NATS", b"+OK\r\n", "redis"),
    ("POP3", b"-ERR no\r\n", "redis"),
    ("beanstalkd", b"stats\r\n", "memcached"),
    ("English text", b"get on with it, said the king; nobody did.\n", "memcached"),
    # A message begins with its length: more of it has to come.
    ("NATS", b"+OK\r\n", "dns"),
    ("MQTT", b"\x20\x02\0\0", "dns"),
    ("zeros", b"\0", "dns"),
    ("zeros", b"\0", "postgresql"),
}
"""Streams of others that a parser can't tell from its own by one side's first bytes."""


@pytest.mark.parametrize("sample", OURS, ids=lambda sample: f"{sample.protocol}-{sample.start[:9]}")
def test_each_is_found_and_by_no_other_before(sample: Sample) -> None:
    assert sample.claimed()[:1] == [OWN[sample.protocol]]


def test_strangers_are_given_up_at_once() -> None:
    kept = {
        (sample.protocol, sample.start, name)
        for sample in STRANGERS
        for name in sample.claimed()
        if not sample.refused(name) and sample.protocol != "random bytes"
    }
    assert kept == ALIKE


def test_random_bytes_are_rarely_taken_for_anything() -> None:
    claimed = [s.claimed() for s in STRANGERS if s.protocol == "random bytes"]
    assert sum(map(bool, claimed)) < len(claimed) / 100


def test_the_page_is_true() -> None:
    again = "cd tests && python -m protocols.detection"
    assert PAGE.read_text(encoding="utf-8") == page(), again


def test_both_sides_of_ours_are_there() -> None:
    assert {protocol for protocol, direction in STREAMS if direction} >= set(OWN)
    assert {protocol for protocol, direction in STREAMS if not direction} >= set(OWN)
