"""Tables in the terminal; `python -m bench.report` prints the README's, of what is stored."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from rich.console import Console
from rich.table import Table

if TYPE_CHECKING:
    from collections.abc import Sequence

SHARE: Final = "_share"
"""What the name of a column ends with that is printed in percent."""

README: Final[dict[str, tuple[str, ...]]] = {
    "ingest": (
        *("signal", "per_request", "encoding", "with", "records_per_s", "both_cores_per_s"),
        *("later_cpu_s_per_million", "p50_ms", "p99_ms", "peak_mib", "stored_share"),
    ),
    "disk": ("signal", "where", "rows_per_million", "mib_per_million"),
    "answers": ("question", "range", "median_ms", "max_ms", "rows_read"),
    "pages": ("page", "visit", "first_chart_median_ms", "received_kib", "requests"),
    "memory": ("process", "mib", "own_mib"),
    "startup": ("store", "server_s", "pages_s", "agent_s", "chart_s", "chart_max_s"),
    "live": ("bytes", "delay_median_s", "delay_max_s"),
    "fleet": (
        *("interval_s", "agents", "offered_points_per_s", "points_per_s", "stored_share"),
        *("server_cpu_share", "server_peak_mib", "answer_p99_ms", "late_max_ms"),
        *("to_store_median_ms", "to_api_median_ms", "to_api_max_ms", "bytes_share"),
    ),
}
"""Columns of the README's tables about the server, in their order."""


def show(title: str, rows: Sequence[dict[str, Any]]) -> None:
    """Prints rows, all with the same columns; a rule where the first column changes."""
    table = Table(title=title, title_justify="left")
    for name in rows[0]:
        text = isinstance(rows[0][name], str)
        table.add_column(_heading(name), justify="left" if text else "right")
    for row, following in zip(rows, [*rows[1:], rows[0]], strict=True):
        first = next(iter(row))
        table.add_row(
            *(_cell(name, value) for name, value in row.items()),
            end_section=row[first] != following[first],
        )
    Console(width=None if Console().is_terminal else 180).print(table)


def markdown(rows: Sequence[dict[str, Any]], columns: Sequence[str]) -> str:
    """Returns a table in Markdown, of some columns."""
    sides = ["---" if isinstance(rows[0][name], str) else "---:" for name in columns]
    lines = [[_heading(name) for name in columns], sides]
    lines += [[_cell(name, row[name]) for name in columns] for row in rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _heading(name: str) -> str:
    return name.removesuffix(SHARE).replace("_", " ")


def _cell(name: str, value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    if name.endswith(SHARE):
        return f"{100 * value:.2f} %"
    if isinstance(value, int) or abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.3g}"


def main() -> None:
    """Prints the README's tables that are stored."""
    stored = json.loads(Path(__file__).with_name("results.json").read_text())
    for title, columns in README.items():
        if title in stored:
            print(f"**{title}**\n\n{markdown(stored[title], columns)}\n")


if __name__ == "__main__":
    main()
