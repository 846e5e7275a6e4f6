from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len
from tables import make_row, make_table, shop

from kernob import rates
from kernob.errors import ConfigError
from kernob.rates import VIEWS
from kernob.top import cells, columns


def lines_of(view: rates.View) -> list[rates.Line]:
    meter = rates.Meter()
    meter.add(make_table(10, shop(10)), 0)
    sample = meter.add(make_table(11, shop(11)), 1)
    assert sample is not None
    return rates.lines(sample, view)


HERE = columns.absent("process", None)
"""What an agent's own table has no column for."""


@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("width", [20, 40, 78, 100, 160, 400])
def test_what_fits_is_no_wider_than_the_terminal_and_shows_the_sorted_column(
    view: rates.View, width: int
) -> None:
    for one in columns.COLUMNS[view]:
        fitted = cells.fit(columns.COLUMNS[view], max(width, one.width + 22), one)
        assert one in [column for column, _ in fitted]
        assert sum(w + cells.GAP for _, w in fitted) - cells.GAP <= max(width, one.width + 22)


def test_eighty_columns_show_who_and_how_much() -> None:
    fitted = cells.fit(columns.COLUMNS["process"], 78, columns.column("process", "share"), HERE)
    assert [one.name for one, _ in fitted] == [
        "pid",
        "user",
        "program",
        "service",
        "share",
        "transmit",
        "receive",
        "connections",
    ]


def test_a_wide_terminal_shows_every_column() -> None:
    for view in VIEWS:
        fitted = cells.fit(columns.COLUMNS[view], 200, columns.column(view, "share"), HERE)
        known = [one for one in columns.COLUMNS[view] if one.name != "host"]
        assert [one for one, _ in fitted] == known
        assert sum(width + cells.GAP for _, width in fitted) - cells.GAP == 200


@pytest.mark.parametrize("view", VIEWS)
def test_every_column_sorts_and_reverses(view: rates.View) -> None:
    lines = lines_of(view)
    for one in columns.COLUMNS[view]:
        values = [one.value(line) for line in columns.ordered(lines, one, reverse=False)]
        assert values == sorted(values, reverse=one.descending)
        values = [one.value(line) for line in columns.ordered(lines, one, reverse=True)]
        assert values == sorted(values, reverse=not one.descending)


def test_cells_say_what_moved() -> None:
    scale = columns.Scale(20_000, operations=True)
    line = next(line for line in lines_of("process") if line.row.pid == 100)
    cells = {one.name: one.cell(line, scale).strip() for one in columns.COLUMNS["process"]}
    assert cells == {
        "pid": "100",
        "user": "www",
        "program": "nginx",
        "service": "nginx.service",
        "host": "",
        "share": "50 %",
        "transmit": "6.00 kB/s",
        "receive": "4.00 kB/s",
        "transmitted": "66.0 kB",
        "received": "44.0 kB",
        "operations": "20",
        "connections": "2",
        "command": "/usr/bin/nginx --serve",
    }


def test_operations_that_are_not_measured_are_no_zero() -> None:
    line = lines_of("process")[0]
    cell = columns.column("process", "operations").cell
    assert cell(line, columns.Scale(1, operations=False)) == cells.NOT_MEASURED


def test_the_port_says_who_called() -> None:
    assert columns.port_text(make_row(1, "x", port=443, side="server")) == "←   443 tcp"
    assert columns.port_text(make_row(1, "x", port=5432)) == "→  5432 tcp"


def test_units_of_a_column_stand_below_each_other() -> None:
    texts = [columns.aligned_bytes(value, "/s") for value in (0, 7, 1240, 999_499, 5.5e9)]
    assert texts == ["   0  B/s", "   7  B/s", "1.24 kB/s", " 999 kB/s", "5.50 GB/s"]


@given(st.text(), st.integers(1, 40), st.booleans())
def test_a_cell_is_as_wide_as_its_column_and_holds_nothing_that_controls(
    text: str,
    width: int,
    right: bool,  # noqa: FBT001
) -> None:
    cell = cells.placed(text, width, right=right)
    assert cell_len(cell) == width
    assert cell.isprintable()


def test_unknown_columns_and_views_are_named_with_the_known_ones() -> None:
    with pytest.raises(ConfigError, match="sort by one of share|sort by one of pid"):
        columns.column("process", "colour")
    with pytest.raises(ConfigError, match="use one of process, service, peer"):
        columns.view_of("port")


def test_losses_are_said_only_if_there_are_any() -> None:
    assert columns.losses_text(make_table(1, [], losses={"rows": 0})) == ""
    lost = make_table(1, [], losses={"rows": 0, "bytes_without_process": 1200})
    assert columns.losses_text(lost) == "lost: 1,200 bytes without process"
