"""Tables in the terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from rich.console import Console
from rich.table import Table

if TYPE_CHECKING:
    from collections.abc import Sequence

SHARE: Final = "_share"
"""What the name of a column ends with that is printed in percent."""


def show(title: str, rows: Sequence[dict[str, Any]]) -> None:
    """Prints rows, all with the same columns; a rule where the first column changes."""
    table = Table(title=title, title_justify="left")
    for name in rows[0]:
        text = isinstance(rows[0][name], str)
        table.add_column(
            name.removesuffix(SHARE).replace("_", " "), justify="left" if text else "right"
        )
    for row, following in zip(rows, [*rows[1:], rows[0]], strict=True):
        first = next(iter(row))
        table.add_row(
            *(_cell(name, value) for name, value in row.items()),
            end_section=row[first] != following[first],
        )
    Console(width=None if Console().is_terminal else 180).print(table)


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
