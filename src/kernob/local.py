"""What commands show of this host: from the agent that runs here, else counted by themselves."""

from __future__ import annotations

import contextlib
import functools
import logging
import time
from typing import TYPE_CHECKING

from kernob.errors import ConfigError, KernobError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from kernob import request_rates
    from kernob.config import Config
    from kernob.rates import Sample, View
    from kernob.requests_table import Requests, SeriesTable
    from kernob.traffic import Table

log = logging.getLogger(__name__)


@contextlib.contextmanager
def traffic(settings: Config, *, own: bool) -> Iterator[Callable[[View], Sample | None]]:
    """What `top` shows: the table of the agent that runs here, else of a collector of its own.

    Raises:
        KernelError: neither can be had.
    """
    from kernob.rates import metered  # noqa: PLC0415
    from kernob.top import traffic_from_agent  # noqa: PLC0415

    address = settings.prometheus
    if address.enabled and not own:
        ask = functools.partial(traffic_from_agent, address.url, address.token())
        if _answers(ask):
            yield metered(ask)
            return
    from kernob.collector import Collector  # noqa: PLC0415

    with contextlib.closing(Collector(settings)) as collector:

        def read() -> Table:
            collector.collect()
            return collector.table()

        yield metered(read)


@contextlib.contextmanager
def samples(settings: Config) -> Iterator[Callable[[int], Requests]]:
    """What `requests` shows: samples of the agent that runs here, else of a collector of its own.

    Raises:
        KernelError: neither can be had.
    """
    from kernob.requests_live import requests_from_agent  # noqa: PLC0415
    from kernob.requests_table import requests_of  # noqa: PLC0415

    address = settings.prometheus
    if address.enabled:
        ask = requests_from_agent(address.url, address.token())
        if _answers(lambda: ask(0)):
            yield ask
            return
    from kernob.collector import Collector  # noqa: PLC0415

    with contextlib.closing(Collector(settings)) as collector:

        def read(after: int) -> Requests:
            collector.collect()
            dropped = {"ring": collector.samples_dropped()}
            return requests_of(collector, dropped, since=0, after=after)

        yield read


@contextlib.contextmanager
def operations(
    settings: Config, *, own: bool
) -> Iterator[Callable[[], request_rates.Sample | None]]:
    """What `top --requests` shows: likewise.

    Raises:
        ConfigError: no requests can be seen here; says why.
        KernelError: neither can be had.
    """
    from kernob.request_rates import metered  # noqa: PLC0415
    from kernob.requests_live import series_from_agent  # noqa: PLC0415
    from kernob.requests_table import series_table  # noqa: PLC0415

    address = settings.prometheus
    if address.enabled and not own:
        ask = functools.partial(series_from_agent, address.url, address.token())
        if _answers(ask):
            yield metered(ask)
            return
    from kernob.collector import Collector  # noqa: PLC0415

    with contextlib.closing(Collector(settings)) as collector:
        if collector.no_requests:
            raise ConfigError(f"no requests are seen here: {collector.no_requests}")

        def read() -> SeriesTable:
            return series_table(collector, collector.collect(), time.time_ns())

        yield metered(read)


def _answers(ask: Callable[[], object]) -> bool:
    """Whether an agent answers; if none does, the log says why.

    Raises:
        ConfigError: one does, but not to us.
    """
    try:
        ask()
    except ConfigError:
        raise
    except KernobError as error:
        log.info("%s; counting here instead", error)
        return False
    return True
