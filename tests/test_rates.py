from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kernob import rates
from kernob.rates import VIEWS, Meter, Moved, Sample, bytes_text, count_text, rate_text
from kernob.traffic import Row, Table


def make_row(pid: int = 1, **changes: object) -> Row:
    values: dict[str, object] = {
        "pid": pid,
        "start": pid * 1000,
        "executable": f"program{pid}",
        "command": f"/usr/bin/program{pid} --serve",
        "user": "www",
        "unit": "",
        "container": "",
        "service": "shop",
        "transport": "tcp",
        "type": "ipv4",
        "peer": "10.0.0.7",
        "port": 443,
        "side": "client",
        "transmit": 0,
        "receive": 0,
        "operations": 0,
        "connections": 1,
        "ended": False,
    }
    return msgspec.convert(values | changes, Row)


def make_table(seconds: float, *rows: Row, losses: dict[str, int] | None = None) -> Table:
    return Table(
        time=int(seconds * 1e9),
        host="web-01",
        version="0.1.0",
        mode="ebpf",
        description="exact",
        losses=losses or {},
        rows=list(rows),
    )


def sample_of(before: list[Row], after: list[Row], seconds: float = 2.0) -> Sample:
    meter = Meter()
    assert meter.add(make_table(100, *before), 0.0) is None
    sample = meter.add(make_table(100 + seconds, *after), seconds)
    assert sample is not None
    return sample


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0 B"),
        (0.2, "<1 B"),
        (0.5, "<1 B"),
        (1, "1 B"),
        (12.4, "12 B"),
        (999, "999 B"),
        (999.4, "999 B"),
        (999.5, "1.00 kB"),
        (1000, "1.00 kB"),
        (1004.9, "1.00 kB"),
        (1236, "1.24 kB"),
        (9994, "9.99 kB"),
        (9995, "10.0 kB"),
        (99_949, "99.9 kB"),
        (99_951, "100 kB"),
        (999_499, "999 kB"),
        (999_500, "1.00 MB"),
        (1_240_000, "1.24 MB"),
        (12_400_000_000, "12.4 GB"),
        (3.2e12, "3.20 TB"),
        (7e15, "7.00 PB"),
        (2**63, "9.22 EB"),
        (2**64 - 1, "18.4 EB"),
        (5e21, "5000 EB"),
    ],
)
def test_bytes_have_three_digits_and_a_unit_that_fits(value: float, text: str) -> None:
    assert bytes_text(value) == text
    assert rate_text(value).endswith("/s")


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0"), (0.01, "<0.1"), (0.2, "0.2"), (3, "3"), (3.14, "3.1"), (9.96, "10"), (412, "412")],
)
def test_counts_below_ten_have_a_decimal_only_if_it_says_something(value: float, text: str) -> None:
    assert count_text(value) == text


def test_large_counts_have_a_prefix_without_space() -> None:
    assert count_text(12_345) == "12.3k"


@given(st.floats(1, 1e20))
def test_a_number_with_its_unit_is_within_half_a_digit(value: float) -> None:
    number, prefix = rates.scaled(value)
    factor = 1000 ** ["", "k", "M", "G", "T", "P", "E"].index(prefix)
    assert float(number) * factor == pytest.approx(value, rel=0.00501, abs=0.5)
    assert len(number) <= 4


def test_what_moved_is_the_difference() -> None:
    before = make_row(transmit=100, receive=10, operations=3)
    after = make_row(transmit=5100, receive=10, operations=8)

    sample = sample_of([before], [after])

    (line,) = rates.lines(sample, "process")
    assert (line.transmit_rate, line.receive_rate, line.operations_rate) == (2500, 0, 2.5)
    assert (line.transmit, line.receive, line.connections) == (5100, 10, 1)


def test_a_new_process_has_moved_all_it_has() -> None:
    sample = sample_of([], [make_row(transmit=700)])
    assert sample.flows[0].moved == Moved(700, 0, 0)


def test_the_same_pid_started_later_is_another_process() -> None:
    sample = sample_of([make_row(transmit=5000)], [make_row(start=9, transmit=80)])
    assert rates.total(sample).moved_transmit == 80


def test_a_counter_that_went_back_has_moved_nothing() -> None:
    sample = sample_of([make_row(transmit=5000)], [make_row(transmit=80)])
    assert sample.flows[0].moved == Moved(0, 0, 0)


def test_a_process_that_has_gone_stays_for_a_while_without_rate() -> None:
    meter = Meter()
    meter.add(make_table(100, make_row(1, transmit=5000), make_row(2)), 0.0)
    sample = meter.add(make_table(101, make_row(2)), 1.0)
    assert sample is not None
    gone = [line for line in rates.lines(sample, "process") if line.ended]
    assert [(line.row.pid, line.transmit, line.transmit_rate) for line in gone] == [(1, 5000, 0)]
    assert rates.total(sample).transmit == 0

    sample = meter.add(make_table(107, make_row(2)), 7.0)
    assert sample is not None
    assert [flow.row.pid for flow in sample.flows] == [2]


def test_gone_processes_are_bounded() -> None:
    crowd = [make_row(pid) for pid in range(1, 2001)]
    sample = sample_of(crowd, [])
    assert len(sample.flows) == rates.MOST_GONE


def test_bytes_of_ended_processes_are_counted_once() -> None:
    folded = make_row(0, start=0, transmit=1000, ended=True)
    before = [folded, make_row(7, transmit=500)]
    # Process 7 sent 30 more and ended; another one came, sent 12 and ended in between.
    after = [msgspec.structs.replace(folded, transmit=1000 + 530 + 12)]

    sample = sample_of(before, after)

    assert rates.total(sample).moved_transmit == 42


def test_rows_that_look_alike_are_one() -> None:
    before = [make_row(transmit=10), make_row(transmit=20)]
    after = [make_row(transmit=15), make_row(transmit=26)]
    (flow,) = sample_of(before, after).flows
    assert (flow.moved.transmit, flow.row.transmit, flow.row.connections) == (11, 41, 2)


def test_the_same_table_again_says_nothing_new() -> None:
    meter = Meter()
    meter.add(make_table(100, make_row()), 0.0)
    assert meter.add(make_table(100, make_row()), 0.4) is None
    sample = meter.add(make_table(101, make_row(transmit=50)), 0.9)
    assert sample is not None
    assert sample.seconds == 1.0


@pytest.mark.parametrize("wall", [-3600.0, -0.999])
def test_a_clock_set_back_makes_no_absurd_rate(wall: float) -> None:
    meter = Meter()
    meter.add(make_table(5000), 10.0)
    sample = meter.add(make_table(5001 + wall, make_row(transmit=100)), 11.0)
    assert sample is not None
    assert rates.total(sample).transmit_rate == 100


small = st.integers(0, 2)
anything = st.integers(0, 2**63)
rows = st.builds(
    lambda pid, service, peer, side, sent, got, operations: make_row(
        pid,
        service=f"service{service}",
        peer=f"peer{peer}",
        side=side,
        transmit=sent,
        receive=got,
        operations=operations,
    ),
    small,
    small,
    small,
    st.sampled_from(["client", "server"]),
    anything,
    anything,
    anything,
)


@given(st.lists(rows), st.lists(rows), st.floats(0.001, 1000))
def test_nothing_is_negative_and_every_view_adds_up_to_the_same(
    before: list[Row], after: list[Row], seconds: float
) -> None:
    sample = sample_of(before, after, seconds)

    everything = rates.total(sample)

    assert everything.transmit == sum(row.transmit for row in after)
    for view in VIEWS:
        found = rates.lines(sample, view)
        assert len({(line.key, line.ended) for line in found}) == len(found)
        for line in found:
            assert min(line.transmit_rate, line.receive_rate, line.operations_rate) >= 0
        live = rates.summed([line for line in found if not line.flows[0].gone], seconds)
        for name in ("moved_transmit", "moved_receive", "moved_operations", "transmit", "receive"):
            assert getattr(live, name) == getattr(everything, name)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("", {1, 2}),
        ("PROGRAM1", {1}),
        ("shop", {1}),
        ("10.0.0.8", {2}),
        ("eva", {2}),
        ("443", {1, 2}),
        (":443", {1}),
        (":44", set()),
        ("program 5443", {2}),
        ("program nothing", set()),
        ("::1", set()),
    ],
)
def test_a_filter_matches_names_users_and_numbers(text: str, found: set[int]) -> None:
    one = make_row(1, port=443)
    two = make_row(2, service="mail", peer="10.0.0.8", user="eva", port=5443)
    flows = rates.matching(sample_of([], [one, two]).flows, text)
    assert {flow.row.pid for flow in flows} == found


def test_names_come_by_what_they_move() -> None:
    quiet = make_row(peer="quiet", transmit=10**9)
    busy = make_row(peer="busy", transmit=50)
    sample = sample_of([quiet], [quiet, busy])
    (line,) = rates.lines(sample, "service")
    assert line.names(lambda row: row.peer) == ["busy", "quiet"]
