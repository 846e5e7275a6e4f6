"""The command line."""

from __future__ import annotations

import contextlib
import importlib.util
import logging
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from kernob import __version__, config, installed, local
from kernob.errors import ConfigError, KernobError, StoreError
from kernob.logs import set_up_logging

if TYPE_CHECKING:
    from collections.abc import Iterator

    from kernob.config import Loaded
    from kernob.store.store import Store

SERVER_PACKAGES: Final = ("chdb", "fastapi", "httpx", "nicegui", "pyarrow", "uvicorn")
"""Of the extra `server`, enough to tell whether it is installed."""

log = logging.getLogger("kernob")

config_option = click.option(
    "--config",
    "path",
    type=click.Path(path_type=Path),
    help="The configuration file (default: /etc/kernob/kernob.yaml, if there is one).",
)
listen_option = click.option("--listen", help="Where it listens: host:port.")
store_option = click.option(
    "--store", help="Where records are kept: a folder, or the URL of a ClickHouse server."
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


def flags_of(**flags: object) -> dict[str, object]:
    """Returns the settings that were given as flags: `agent__mode` means `agent.mode`."""
    return {
        name.replace("__", "."): value
        for name, value in flags.items()
        if value is not None and value != ()
    }


def load(path: Path | None, **flags: object) -> Loaded:
    """Returns the configuration in force.

    Raises:
        ConfigError: a mistake, with its place.
    """
    return config.load(path, os.environ, flags_of(**flags))


def where(store: str | None) -> dict[str, str | None]:
    """Returns `--store` as flags of `load`: the last word on both settings."""
    if store is None:
        return {}
    if store.startswith(("http://", "https://")):
        return {"store__url": store}
    return {"store__url": "", "store__path": store}


def require_extra(command: str) -> None:
    """Checks that what only the server and its pages need is installed.

    Raises:
        ConfigError: it is not; says how to install it.
    """
    missing = [name for name in SERVER_PACKAGES if importlib.util.find_spec(name) is None]
    if missing:
        raise ConfigError(
            f"{command} needs packages that the agent does without, and that are not installed "
            f"({', '.join(missing)})",
            remedy=installed.command("server"),
        )


@contextlib.contextmanager
def opened_store(path: Path | None, where_: str | None, *, new: bool = False) -> Iterator[Store]:
    """The store of the configuration, for as long as a command needs it.

    Raises:
        StoreBusyError: a server has it.
        StoreError: there is none, unless it may be `new`, or it can't be opened.
    """
    require_extra("kernob store")
    from kernob.store.embedded import default_folder  # noqa: PLC0415
    from kernob.store.store import Store  # noqa: PLC0415

    loaded = load(path, **where(where_)).config
    set_up_logging(loaded.log, quiet=True)
    folder = loaded.store.path or default_folder()
    if not new and not loaded.store.url and not folder.is_dir():
        raise StoreError(f"there is no store at {folder}", remedy="say where with --store")
    with contextlib.closing(Store.open(loaded.store)) as opened:
        yield opened


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def kernob() -> None:
    """Shows what every service on this host does, counted in the kernel."""


@kernob.command()
@config_option
@click.option("--mode", type=click.Choice(["auto", "ebpf", "polling"]), help="How to count.")
@click.option("--interval", help="How often to read the kernel's tables (1s).")
@click.option("--listen", help="Where Prometheus finds the metrics (127.0.0.1:9464), or off.")
@click.option("--otlp", help="The OTLP endpoint to send to; its settings are OTEL_EXPORTER_OTLP_*.")
def agent(
    path: Path | None, mode: str | None, interval: str | None, listen: str | None, otlp: str | None
) -> None:
    """Counts, and serves and sends what it counted, until it is stopped."""
    from kernob.agent import Agent  # noqa: PLC0415

    settings = load(
        path,
        agent__mode=mode,
        agent__interval=interval,
        prometheus__listen=listen,
        otlp__endpoint=otlp,
    )
    set_up_logging(settings.config.log)
    Agent(settings).run()


@kernob.command()
@config_option
@listen_option
@click.option("--grpc-listen", help="Where it takes OTLP over gRPC (127.0.0.1:4317), or off.")
@store_option
def server(
    path: Path | None, listen: str | None, grpc_listen: str | None, store: str | None
) -> None:
    """Takes OTLP from agents and applications, keeps it, and answers questions about it."""
    require_extra("kernob server")
    settings = load(path, server__listen=listen, server__grpc_listen=grpc_listen, **where(store))
    set_up_logging(settings.config.log)
    from kernob.server.run import Server  # noqa: PLC0415

    Server(settings).run()


@kernob.command()
@config_option
@listen_option
@click.option("--server", "url", help="URL of the server they read (that of the configuration).")
def pages(path: Path | None, listen: str | None, url: str | None) -> None:
    """Shows in a browser what a server knows."""
    require_extra("kernob pages")
    settings = load(path, pages__listen=listen, pages__server=url)
    set_up_logging(settings.config.log)
    from kernob.ui.run import Pages  # noqa: PLC0415

    Pages(settings).run()


@kernob.command()
@config_option
@click.option("--mode", type=click.Choice(["auto", "ebpf", "polling"]), help="How to count.")
@store_option
@click.option("--listen", help="Where the pages are (127.0.0.1:8420).")
def up(path: Path | None, mode: str | None, store: str | None, listen: str | None) -> None:
    """Runs agent, server and pages on this machine, until it is stopped."""
    require_extra("kernob up")
    from kernob.supervisor import Supervisor  # noqa: PLC0415
    from kernob.up import parts  # noqa: PLC0415

    settings = load(path, agent__mode=mode, pages__listen=listen, **where(store))
    set_up_logging(settings.config.log)
    given = [("--config", path), ("--mode", mode), ("--store", store), ("--listen", listen)]
    takes = {
        "agent": ("--config", "--mode"),
        "server": ("--config", "--store"),
        "pages": ("--config", "--listen"),
    }
    options = {
        part: [
            text for name, value in given if value and name in names for text in (name, str(value))
        ]
        for part, names in takes.items()
    }
    sys.exit(Supervisor(parts(settings, os.environ, options)).run())


@kernob.command()
@config_option
@click.option("--mode", type=click.Choice(["auto", "ebpf", "polling"]), help="How to count.")
@click.option("--by", type=click.Choice(["process", "service", "peer"]), default="process")
@click.option("--sort", default="share", show_default=True, help="The column to sort by.")
@click.option("--filter", "filter_text", default="", help="Only rows that contain this text.")
@click.option("--limit", type=click.IntRange(min=1), default=100, show_default=True)
@click.option("--interval", type=click.FloatRange(0.1, 60), default=1.0, show_default=True)
@click.option("--requests", is_flag=True, help="Show operations: how often, how fast, errors.")
@click.option("--once", is_flag=True, help="Print one table and exit.")
@click.option("--server", "url", help="Show all hosts that the server at this URL knows.")
@click.option("--host", default="", help="Of a server: only this host.")
@click.option(
    "--token-file", type=click.Path(path_type=Path), help="Of a server: holds its bearer token."
)
@json_option
def top(
    path: Path | None,
    mode: str | None,
    by: str,
    sort: str,
    filter_text: str,
    limit: int,
    interval: float,
    requests: bool,  # noqa: FBT001
    once: bool,  # noqa: FBT001
    url: str | None,
    host: str,
    token_file: Path | None,
    as_json: bool,  # noqa: FBT001
) -> None:
    """Shows live who moves how much; reads a running agent or a server, or counts itself."""
    from kernob import top as view  # noqa: PLC0415
    from kernob.top.server import traffic_of_server  # noqa: PLC0415

    settings = load(path, agent__mode=mode, server__token_file=token_file).config
    set_up_logging(settings.log, quiet=True)
    shown: dict[str, Any] = {"sort": sort, "filter_text": filter_text, "interval": interval}
    if requests:
        if url or by != "process":
            raise ConfigError("--requests shows operations of this host: no --server, no --by")
        with local.operations(settings, own=mode is not None) as operations:
            if once:
                view.once_requests(
                    operations, limit=limit, as_json=as_json, out=sys.stdout, **shown
                )
            else:
                view.run_requests(operations, **shown)
        return
    with (
        contextlib.nullcontext(traffic_of_server(url, settings.server.token(), host))
        if url
        else local.traffic(settings, own=mode is not None)
    ) as source:
        if once:
            view.once(source, by=by, limit=limit, as_json=as_json, out=sys.stdout, **shown)
        else:
            view.run(source, by=by, **shown)


def seconds(_context: click.Context, _option: click.Parameter, text: str | None) -> float:
    """Returns a duration that was given as a flag; 0 if none was.

    Raises:
        click.BadParameter: it is none.
    """
    try:
        return config.duration(text) if text else 0.0
    except ValueError as error:
        raise click.BadParameter(str(error)) from error


@kernob.command()
@config_option
@click.option("--service", default="", help="Only services whose name holds this text.")
@click.option("--protocol", default="", help="Only this protocol: http, redis, postgresql, ...")
@click.option("--operation", default="", help="Only operations that hold this text.")
@click.option("--errors", is_flag=True, help="Only those that failed.")
@click.option("--slower", callback=seconds, help="Only those that took longer: 100ms.")
@json_option
def requests(
    path: Path | None,
    service: str,
    protocol: str,
    operation: str,
    errors: bool,  # noqa: FBT001
    slower: float,
    as_json: bool,  # noqa: FBT001
) -> None:
    """Shows single requests as they come: errors, the slowest, and one of each kind a second."""
    from kernob import requests_live as live  # noqa: PLC0415

    settings = load(path).config
    set_up_logging(settings.log, quiet=True)
    wanted = live.Filter(service, protocol, operation, errors, slower)
    with local.samples(settings) as source:
        live.follow(source, wanted, as_json=as_json)


@kernob.command()
@config_option
@json_option
def doctor(path: Path | None, as_json: bool) -> None:  # noqa: FBT001
    """Says what this kernel and these privileges allow, and what to do about the rest."""
    from kernob import doctor as checks  # noqa: PLC0415

    settings = load(path).config
    set_up_logging(settings.log, quiet=True)
    sys.exit(checks.run(settings, as_json=as_json, out=sys.stdout))


@kernob.command(name="config")
@config_option
@json_option
def show_config(path: Path | None, as_json: bool) -> None:  # noqa: FBT001
    """Prints the configuration in force and where each setting comes from."""
    click.echo(config.describe(load(path), as_json=as_json), nl=False)


@kernob.group(name="store")
def store_group() -> None:
    """What a server has stored; only while that server does not run, unless it is a ClickHouse."""


@store_group.command()
@config_option
@store_option
@json_option
def sizes(path: Path | None, store: str | None, as_json: bool) -> None:  # noqa: FBT001
    """Says how large each table is, how old, and how many rows each service has."""
    from kernob import stored  # noqa: PLC0415

    with opened_store(path, store) as found:
        click.echo(stored.sizes(found, as_json=as_json), nl=False)


@store_group.command()
@config_option
@store_option
@click.option("--signal", type=click.Choice(["metrics", "traces", "logs", "profiles"]))
@click.option("--service", default="", help="Only what is of this service.")
@click.option("--before", help="Only what is older: now-7d, or a time as 2026-11-21T10:00:00Z.")
@click.option("--yes", is_flag=True, help="Don't ask.")
def drop(
    path: Path | None,
    store: str | None,
    signal: str | None,
    service: str,
    before: str | None,
    yes: bool,  # noqa: FBT001
) -> None:
    """Drops for good what meets all that is given."""
    from kernob import stored  # noqa: PLC0415

    wanted = stored.Wanted.parse(signal, service, before)
    with opened_store(path, store) as found:
        if not yes:
            click.confirm(f"Drop {wanted} for good?", abort=True)
        click.echo(stored.drop(found, wanted), nl=False)


@store_group.command()
@config_option
@store_option
@click.option("--from", "start", help="Since when: now-7d, or a time as 2026-11-21T10:00:00Z.")
@click.option("--to", "end", help="Until when.")
@click.argument("folder", type=click.Path(path_type=Path, file_okay=False))
def export(
    path: Path | None, store: str | None, start: str | None, end: str | None, folder: Path
) -> None:
    """Writes all that was sent as Parquet files, one for each table."""
    from kernob import stored  # noqa: PLC0415

    times = (stored.moment(start, "--from"), stored.moment(end, "--to"))
    with opened_store(path, store) as found:
        click.echo(stored.export(found, folder, *times), nl=False)


@store_group.command(name="import")
@config_option
@store_option
@click.argument("folder", type=click.Path(path_type=Path, file_okay=False, exists=True))
def import_(path: Path | None, store: str | None, folder: Path) -> None:
    """Adds what `kernob store export` wrote."""
    from kernob import stored  # noqa: PLC0415

    with opened_store(path, store, new=True) as found:
        click.echo(stored.import_(found, folder), nl=False)


@kernob.command()
@click.argument("part", type=click.Choice(["agent", "server", "pages"]))
@config_option
def systemd(part: str, path: Path | None) -> None:
    """Prints a unit for systemd, with the least privileges that work."""
    from kernob.systemd import unit  # noqa: PLC0415

    option = ["--config", str(path.absolute())] if path else []
    click.echo(unit(part, [sys.executable, "-m", "kernob", part, *option]), nl=False)


@kernob.command()
def version() -> None:
    """Prints the version."""
    click.echo(f"kernob {__version__}")


def main() -> None:
    """Runs the command line; errors of Kernob become one line and their exit code."""
    try:
        kernob()
    except KernobError as error:
        click.echo(f"kernob: {error}", err=True)
        sys.exit(error.exit_code)
    except Exception as error:
        log.critical("a mistake in Kernob, please report it: %r", error, exc_info=True)
        sys.exit(1)
