"""`kernob top` in a terminal."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from kernob.errors import KernobError
from kernob.top import columns, request_columns

if TYPE_CHECKING:
    from collections.abc import Callable

    from textual.app import App

    from kernob import request_rates
    from kernob.rates import Sample, View


def run(
    source: Callable[[View], Sample | None],
    *,
    by: str = "process",
    interval: float = 1.0,
    sort: str = columns.DEFAULT_SORT,
    reverse: bool = False,
    filter_text: str = "",
) -> None:
    """Shows the live table until the user leaves it.

    `source` is called in a thread of its own, one call at a time, and never again after this
    returns (unless it hangs for longer than `kernob.top.remote.TIMEOUT` at the end).

    Args:
        source: returns what moved lately, as `kernob.rates.metered` and
            `kernob.top.server.traffic_of_server` do, for the view that is looked at; None if
            there is nothing new. A `KernobError` it raises is shown, and it is asked again.
        by: the first view: `process`, `service` or `peer`.
        interval: seconds between two tables.
        sort: a column of that view.
        reverse: the other way round.
        filter_text: as typed after `/`.

    Raises:
        ConfigError: `by` or `sort` name nothing.
        KernobError: there is no terminal, or an error of this program ended it.

    """
    view = columns.view_of(by)
    columns.column(view, sort)
    _need_terminal()
    # A third of a second and 20 MiB, which nothing but the live table shall pay for.
    from kernob.top.app import TopApp  # noqa: PLC0415
    from kernob.top.themes import theme_of_terminal  # noqa: PLC0415

    app = TopApp(
        source,
        view=view,
        interval=interval,
        sort=sort,
        reverse=reverse,
        filter_text=filter_text,
        theme=theme_of_terminal(),
    )
    _run(app)


def run_requests(
    source: Callable[[], request_rates.Sample | None],
    *,
    interval: float = 1.0,
    sort: str = request_columns.DEFAULT_SORT,
    filter_text: str = "",
) -> None:
    """Shows the live table of operations until the user leaves it; else as `run`.

    Args:
        source: returns what two tables say, as `kernob.request_rates.metered` does.
        interval: seconds between two tables.
        sort: a column.
        filter_text: as typed after `/`.

    Raises:
        ConfigError: `sort` names nothing.
        KernobError: there is no terminal, or an error of this program ended it.

    """
    request_columns.column(sort)
    _need_terminal()
    from kernob.top.requests import RequestsApp  # noqa: PLC0415
    from kernob.top.themes import theme_of_terminal  # noqa: PLC0415

    _run(
        RequestsApp(
            source,
            interval=interval,
            sort=sort,
            filter_text=filter_text,
            theme=theme_of_terminal(),
        )
    )


def _need_terminal() -> None:
    # Textual draws on stderr.
    if not all(stream.isatty() for stream in (sys.stdin, sys.stdout, sys.stderr)):
        raise KernobError("the live table needs a terminal", remedy="use --once, or --once --json")


def _run(app: App[None]) -> None:
    app.run()
    if app.return_code:
        raise KernobError("the live table stopped, see above")
