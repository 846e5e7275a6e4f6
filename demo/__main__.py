"""Starts the demo, shows its progress, and ends it at Ctrl-C: `python -m demo`."""

from __future__ import annotations

import contextlib
import os
import select
import shutil
import signal
import sys
import tempfile
import termios
import time
import tty
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from demo import settings
from demo.fault import NotSwitchedError, switch
from demo.processes import FailedError, Processes, owner
from demo.servers import FOLDERS, MissingError, Server, load, servers, service

if TYPE_CHECKING:
    from collections.abc import Iterator

KEYS: Final = {"0": settings.OFF} | {
    str(number): name
    for number, name in enumerate((name for name in settings.FAULTS if name != settings.OFF), 1)
}
_LOOK_SECONDS: Final = 0.5
SERVICES: Final = ("shop", "stock")


def say(text: str) -> None:
    """Tells whoever looks on."""
    click.echo(f"demo: {text}", err=True)


def make_folder(as_user: tuple[int, int] | None) -> Path:
    """Returns a new folder with one for each server that wants one, of the user whose they are."""
    folder = Path(tempfile.mkdtemp(prefix="kernob-demo-"))
    for path in (folder, *(folder / name for name in FOLDERS)):
        path.mkdir(exist_ok=True)
        path.chmod(0o755)
        if as_user:
            os.chown(path, *as_user)
    return folder


def kernob(found: settings.Settings) -> Server:
    """Returns agent, server and pages, with a store of their own."""
    ports = {name: f"127.0.0.1:{found.ports[name]}" for name in ("prometheus", "server", "grpc")}
    store = found.folder / "kernob"
    store.mkdir()
    return Server(
        "kernob",
        [
            "env",
            f"RUNTIME_DIRECTORY={store}",
            f"KERNOB_PROMETHEUS_LISTEN={ports['prometheus']}",
            f"KERNOB_SERVER_LISTEN={ports['server']}",
            f"KERNOB_SERVER_GRPC_LISTEN={ports['grpc']}",
            *(sys.executable, "-m", "kernob", "up", "--store", str(store / "store")),
            *("--config", str(Path(__file__).with_name("kernob.yaml"))),
            *("--listen", f"127.0.0.1:{found.ports['pages']}"),
        ],
        found.ports["pages"],
    )


def start(found: settings.Settings, processes: Processes, *, watched: bool) -> None:
    """Starts everything, and the load last."""
    begin = time.monotonic()
    debian = servers(found)
    if watched:
        say("1/4 Kernob")
        processes.start(kernob(found), as_user=False, quiet=False)
        processes.wait()
    say("2/4 folders of PostgreSQL and MariaDB")
    processes.prepare(debian)
    say("3/4 " + ", ".join(server.name for server in debian))
    pids = {server.name: processes.start(server) for server in debian}
    processes.wait()
    say(f"4/4 {', '.join(SERVICES)}, load")
    # Whoever runs this as root may have it in a folder that nobody else can read.
    as_user = "SUDO_UID" in os.environ
    for name in SERVICES:
        processes.start(service(found, name), as_user=as_user)
    processes.wait()
    processes.start(load(found, pids["memcached"], pids["dnsmasq"]), as_user=as_user)
    processes.wait()
    say(f"all are there after {time.monotonic() - begin:.0f} s")


@contextlib.contextmanager
def keys() -> Iterator[bool]:
    """Lets single keys be read; yields whether there is a terminal to read them from."""
    if not sys.stdin.isatty():
        yield False
        return
    before = termios.tcgetattr(sys.stdin)
    tty.setcbreak(sys.stdin)
    try:
        yield True
    finally:
        termios.tcsetattr(sys.stdin, termios.TCSADRAIN, before)


def turn(control: int, name: str) -> None:
    """Switches a fault on, and says so."""
    try:
        say(switch(control, name))
    except NotSwitchedError as exc:
        say(str(exc))


def look_on(processes: Processes, control: int) -> None:
    """Does what keys say, until it is interrupted or something ends."""
    with keys() as terminal:
        if terminal:
            for key, name in KEYS.items():
                say(f"press {key} for {name}: {settings.FAULTS[name]}")
        while True:
            processes.check()
            if not terminal:
                time.sleep(_LOOK_SECONDS)
            elif select.select([sys.stdin], [], [], _LOOK_SECONDS)[0]:
                name = KEYS.get(os.read(sys.stdin.fileno(), 1).decode(errors="replace"), "")
                if name:
                    turn(control, name)


@click.command()
@click.option("--control", default=settings.CONTROL_PORT, show_default=True, help="Faults' port.")
@click.option("--no-kernob", is_flag=True, help="Start only what is to be watched.")
def main(control: int, *, no_kernob: bool) -> None:
    """Starts the demo on free ports of 127.0.0.1, until it is stopped (Ctrl-C)."""

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, interrupt)
    # Others read what is written here.
    os.umask(0o022)
    as_user = owner()
    ports = settings.free_ports(
        *("nginx", "shop", "stock", "postgresql", "mariadb", "redis", "memcached", "dns"),
        *("pages", "server", "grpc", "prometheus"),
    )
    folder = make_folder(as_user)
    found = settings.Settings(folder, ports | {"control": control})
    processes = Processes(folder, as_user)
    try:
        found.switch(settings.OFF)
        found.know_name(known=True)
        found.save()
        start(found, processes, watched=not no_kernob)
        say(f"the shop is http://127.0.0.1:{ports['nginx']}, faults are on port {control}")
        if not no_kernob:
            say(f"look at http://127.0.0.1:{ports['pages']}; Ctrl-C ends everything")
        look_on(processes, control)
    except KeyboardInterrupt:
        say("ending")
    except (FailedError, MissingError) as exc:
        say(str(exc))
        sys.exit(1)
    finally:
        for ending in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(ending, signal.SIG_IGN)
        click.echo(processes.stop(), nl=False)
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
