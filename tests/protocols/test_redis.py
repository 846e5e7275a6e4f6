"""Redis: what its parser makes of streams of the specification."""

from __future__ import annotations

from protocols.host import Direction, however_cut


def test_commands() -> None:
    stream = b"*2\r\n$3\r\nget\r\n$1\r\nk\r\n*1\r\n$4\r\nPING\r\n"
    found = however_cut("redis", Direction.CLIENT, stream)
    assert [(unit.text, unit.length) for unit in found] == [(b"GET", 20), (b"PING", 14)]
