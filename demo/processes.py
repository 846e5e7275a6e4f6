"""Processes that end with the demo: started, waited for and ended by their ids."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from demo.servers import Server

ROOT: Final = 0
NOBODY: Final = (65534, 65534)
_START_SECONDS: Final = 60.0
_STOP_SECONDS: Final = 10.0
_LOG_END: Final = 2000
# PostgreSQL waits for its clients at SIGTERM.
_STOPPED_BY: Final = {"postgresql": signal.SIGINT}


class FailedError(Exception):
    """A process ended, or does not listen; the message has the end of its log."""


def owner() -> tuple[int, int] | None:
    """Returns whose servers are to be, as user and group; None for whoever runs this.

    PostgreSQL and MariaDB do not run as root: they are those of the user who said `sudo`, or
    nobody's.
    """
    if os.geteuid() != ROOT:
        return None
    user = int(os.environ.get("SUDO_UID", ROOT))
    return (user, int(os.environ["SUDO_GID"])) if user != ROOT else NOBODY


@dataclass(frozen=True)
class _Process:
    server: Server
    popen: subprocess.Popen[str]


class Processes:
    """What was started, in this order.

    Args:
        folder: for a folder and a log of each.
        as_user: whose servers are to be, see `owner`.
    """

    def __init__(self, folder: Path, as_user: tuple[int, int] | None) -> None:
        self._folder = folder
        self._as_user = as_user
        self._all: list[_Process] = []
        self._awaited: list[Server] = []

    def prepare(self, servers: Iterable[Server]) -> None:
        """Runs what servers want to be run before they start; those of different ones at once.

        Raises:
            FailedError: one of these commands failed.
        """
        waiting = [(server, list(server.prepare)) for server in servers]
        while waiting := [(server, steps) for server, steps in waiting if steps]:
            now: list[tuple[Server, subprocess.Popen[str], str]] = []
            try:
                for server, steps in waiting:
                    command, text = steps.pop(0)
                    popen = self._popen(server, command, as_user=True, stdin=subprocess.PIPE)
                    now.append((server, popen, text))
                for server, popen, text in now:
                    popen.communicate(text)
                    if popen.returncode != 0:
                        raise FailedError(f"{server.name} can't be set up: {self._log_of(server)}")
            finally:
                for _, popen, _ in now:
                    _kill(popen)

    def start(self, server: Server, *, as_user: bool = True, quiet: bool = True) -> int:
        """Starts a process and returns its id.

        Args:
            server: what to start.
            as_user: as the one whom servers are run by.
            quiet: its messages go into its log, and not to the terminal.
        """
        popen = self._popen(server, server.command, as_user=as_user, quiet=quiet)
        self._all.append(_Process(server, popen))
        self._awaited.append(server)
        return popen.pid

    def _popen(
        self,
        server: Server,
        command: list[str],
        *,
        as_user: bool,
        quiet: bool = True,
        stdin: int = subprocess.DEVNULL,
    ) -> subprocess.Popen[str]:
        # It ends with this one, however that ends.
        stop = _STOPPED_BY.get(server.name, signal.SIGTERM)
        prefix = ["setpriv", f"--pdeathsig={stop.name.removeprefix('SIG')}"]
        if as_user and self._as_user:
            user, group = self._as_user
            prefix += [f"--reuid={user}", f"--regid={group}", "--clear-groups"]
        with self._log(server).open("ab") as log:
            return subprocess.Popen(
                [*prefix, "--", *command],
                stdin=stdin,
                stdout=subprocess.PIPE if server.reports else log,
                stderr=log if quiet else None,
                text=True,
                # Ctrl-C is for this one only: it ends the others in order.
                process_group=0,
            )

    def wait(self) -> None:
        """Waits until all that were started listen.

        Raises:
            FailedError: one ended instead, or takes too long.
        """
        end = time.monotonic() + _START_SECONDS
        while self._awaited:
            server = self._awaited[0]
            if _is_open(server.port):
                del self._awaited[0]
                continue
            self.check()
            if time.monotonic() > end:
                raise FailedError(f"{server.name} does not listen: {self._log_of(server)}")
            time.sleep(0.02)

    def check(self) -> None:
        """Looks whether all are still there.

        Raises:
            FailedError: one has ended.
        """
        for process in self._all:
            if process.popen.poll() is not None:
                raise FailedError(f"{process.server.name} ended: {self._log_of(process.server)}")

    def stop(self) -> str:
        """Ends all, the latest first; returns what the one that reports has printed."""
        printed = ""
        while self._all:
            process = self._all.pop()
            popen = process.popen
            if popen.poll() is None:
                popen.send_signal(_STOPPED_BY.get(process.server.name, signal.SIGTERM))
                # One that is stopped (SIGSTOP) would not notice.
                popen.send_signal(signal.SIGCONT)
            try:
                printed += popen.communicate(timeout=_STOP_SECONDS)[0] or ""
            except subprocess.TimeoutExpired:
                _kill(popen)
                printed += popen.communicate()[0] or ""
        return printed

    def _log(self, server: Server) -> Path:
        return self._folder / f"{server.name}.log"

    def _log_of(self, server: Server) -> str:
        return self._log(server).read_text(errors="replace")[-_LOG_END:].strip()


def _kill(popen: subprocess.Popen[str]) -> None:
    """Kills a process that is still there, with what it has started itself."""
    if popen.poll() is None:
        os.killpg(popen.pid, signal.SIGKILL)
        popen.wait()


def _is_open(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
