"""`kernob up`: the agent, the server and the pages as processes of their own, kept alive.

One thread waits for all that happens: a line in a part's log, a part that ended, a signal, a time
that has come. A part that crashes is started again, later each time; one that ended for a reason
that starting again does not mend is given up, said once. Parts are stopped in their order (the
agent first: its last figures shall arrive), and die with the supervisor however that ends.
"""

from __future__ import annotations

import ctypes
import logging
import os
import selectors
import signal
import socket
import subprocess
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from kernob.logs import record_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

log = logging.getLogger(__name__)

FIRST_PAUSE: Final = 0.5
LONGEST_PAUSE: Final = 30.0
"""Seconds before a part that crashed starts again: twice as long each time."""
HEALTHY_SECONDS: Final = 60.0
"""A part that ran for so long begins anew with the shortest pause."""
STOP_SECONDS: Final = 15.0
"""For which a part may take to stop, requests on their way included; then it is killed."""
AGAIN_SECONDS: Final = 0.5
"""A signal that comes so soon after the first is the same one; a later one does not wait."""
LOOK_SECONDS: Final = 0.05
"""Between two looks whether an address is open."""
LONGEST_LINE: Final = 1 << 20
"""Bytes of one line of a part's log; what is longer is cut into several."""
_CHUNK: Final = 1 << 16
_STOPPING: Final = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
_PR_SET_PDEATHSIG: Final = 1  # linux/prctl.h


@dataclass(frozen=True, slots=True)
class Part:
    """One process to keep alive.

    Attributes:
        name: in the log.
        command: with its arguments.
        environ: its whole environment.
        final: exit codes after which it is not started again, each with what to do.
        needed: without it the others are of no use: once it is given up, all are stopped.
        address: host and port; once they answer, `greeting` is said.
    """

    name: str
    command: Sequence[str]
    environ: Mapping[str, str]
    final: Mapping[int, str] = field(default_factory=dict)
    needed: bool = False
    address: tuple[str, int] | None = None
    greeting: str = ""


class _Running:
    """A part, its process and what it says."""

    def __init__(self, part: Part) -> None:
        self.part = part
        self.process: subprocess.Popen[bytes] | None = None
        self.rest = b""
        self.started = 0.0
        self.start_at: float | None = 0.0
        self.kill_at: float | None = None
        self.pause = FIRST_PAUSE

    def say(self, chunk: bytes) -> None:
        """Takes a piece of its log in, and says the lines that are whole."""
        *lines, self.rest = (self.rest + chunk).split(b"\n")
        for line in lines:
            self._line(line)
        while len(self.rest) > LONGEST_LINE:
            self._line(self.rest[:LONGEST_LINE])
            self.rest = self.rest[LONGEST_LINE:]

    def say_rest(self) -> None:
        """Says what came after the last end of a line."""
        self._line(self.rest)
        self.rest = b""

    def _line(self, line: bytes) -> None:
        if line.strip():
            log.handle(record_of(line.decode(errors="replace").rstrip(), self.part.name))


class Supervisor:
    """Runs parts until it is asked to stop, or none is left.

    Args:
        parts: in the order in which they are stopped.
    """

    def __init__(self, parts: Sequence[Part]) -> None:
        self._parts = [_Running(part) for part in parts]
        self._selector = selectors.DefaultSelector()
        self._looking = [one for one in self._parts if one.part.address]
        self._stopping = False
        self._asked_at: float | None = None
        self._code = 0

    def run(self) -> int:
        """Returns the exit code: 0 if it was asked to stop, else that of the part that was lost."""
        waker, woken = socket.socketpair()
        waker.settimeout(0)
        woken.settimeout(0)
        self._selector.register(woken, selectors.EVENT_READ)
        for number in (*_STOPPING, signal.SIGCHLD):
            signal.signal(number, lambda _number, _frame: None)
        # Written by the interpreter's own handler: no signal is lost between two looks.
        signal.set_wakeup_fd(waker.fileno())
        self._looking = [one for one in self._looking if not _is_open(one.part)]
        try:
            while self._act():
                for key, _ in self._selector.select(self._timeout()):
                    if key.data is None:
                        self._on_signals(woken.recv(_CHUNK))
                    else:
                        self._hear(key.data)
        finally:
            signal.set_wakeup_fd(-1)
            for one in self._parts:
                _kill(one)
            self._selector.close()
            waker.close()
            woken.close()
        return self._code

    # -- what is due ---------------------------------------------------------------------------

    def _act(self) -> bool:
        """Does what is due now; returns whether there is anything left to wait for."""
        now = time.monotonic()
        for one in self._parts:
            if one.process is not None and one.process.poll() is not None:
                self._ended(one, now)
        if self._stopping:
            self._stop_next(now)
        for one in self._parts:
            if one.start_at is not None and one.start_at <= now:
                self._start(one, now)
            if one.kill_at is not None and one.kill_at <= now:
                log.error("does not stop: killed", extra={"part": one.part.name})
                one.kill_at = None
                _kill(one)
        self._looking = [one for one in self._looking if not self._says_where(one)]
        return any(one.process or one.start_at is not None for one in self._parts)

    def _timeout(self) -> float | None:
        times = [at for one in self._parts for at in (one.start_at, one.kill_at) if at is not None]
        if any(one.process for one in self._looking):
            times.append(time.monotonic() + LOOK_SECONDS)
        return max(0.0, min(times) - time.monotonic()) if times else None

    def _start(self, one: _Running, now: float) -> None:
        one.start_at, one.started = None, now
        parent = os.getpid()
        library = ctypes.CDLL(None)

        def die_with_parent() -> None:
            library.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
            if os.getppid() != parent:
                os._exit(1)

        one.process = subprocess.Popen(  # there is but one thread: nothing can hold a lock
            one.part.command,
            env=one.part.environ,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            process_group=0,  # Ctrl-C is for the supervisor, which knows the order
            preexec_fn=die_with_parent,  # noqa: PLW1509
        )
        assert one.process.stdout  # noqa: S101  (for mypy)
        os.set_blocking(one.process.stdout.fileno(), False)
        self._selector.register(one.process.stdout, selectors.EVENT_READ, one)

    def _hear(self, one: _Running) -> bool:
        """Takes in what a part has said; returns whether there was something."""
        if one.process is None or one.process.stdout is None:
            return False
        try:
            chunk = os.read(one.process.stdout.fileno(), _CHUNK)
        except BlockingIOError:
            return False
        if not chunk:
            self._selector.unregister(one.process.stdout)
            one.process.stdout.close()
            one.process.stdout = None
        one.say(chunk)
        return bool(chunk)

    def _says_where(self, one: _Running) -> bool:
        if one.process is None or not _is_open(one.part):
            return False
        log.info("%s", one.part.greeting, extra={"part": one.part.name})
        return True

    # -- what happened -------------------------------------------------------------------------

    def _ended(self, one: _Running, now: float) -> None:
        assert one.process  # noqa: S101  (for mypy)
        while self._hear(one):
            pass
        one.say_rest()
        if one.process.stdout:
            # A process of its own still holds the other end.
            self._selector.unregister(one.process.stdout)
            one.process.stdout.close()
        code, one.process, one.kill_at = one.process.returncode, None, None
        if self._stopping:
            return
        part = {"part": one.part.name}
        if code in one.part.final:
            self._give_up(one, code)
            return
        if now - one.started >= HEALTHY_SECONDS:
            one.pause = FIRST_PAUSE
        log.error("%s: starts again in %g s", reason_of(code), one.pause, extra=part)
        one.start_at = now + one.pause
        one.pause = min(2 * one.pause, LONGEST_PAUSE)

    def _give_up(self, one: _Running, code: int) -> None:
        log.error("is not started again: %s", one.part.final[code], extra={"part": one.part.name})
        others = [other for other in self._parts if other.process or other.start_at is not None]
        self._code = self._code or code
        if one.part.needed and others:
            log.error("nothing works without the %s: stopping", one.part.name)
            self._stopping = True
            for other in others:
                other.start_at = None

    def _on_signals(self, numbers: bytes) -> None:
        for number in numbers:
            if number not in _STOPPING:
                continue
            name = signal.Signals(number).name
            if self._asked_at is not None:
                if time.monotonic() - self._asked_at < AGAIN_SECONDS:
                    continue  # timeout(1), for one, sends it to a process and to its group
                log.warning("%s again: killing what still runs", name)
                for one in self._parts:
                    _kill(one)
                continue
            log.info("%s: stopping", name)
            self._stopping, self._code, self._asked_at = True, 0, time.monotonic()
            for one in self._parts:
                one.start_at = None

    def _stop_next(self, now: float) -> None:
        """Asks the next part to stop, once the one before it has."""
        for one in self._parts:
            if one.process is None:
                continue
            if one.kill_at is None and one.process.poll() is None:
                one.process.terminate()
                one.kill_at = now + STOP_SECONDS
            return


def reason_of(code: int) -> str:
    """Returns in words why a process ended, by its exit code (below 0: the signal)."""
    if code < 0:
        hint = " (out of memory?)" if code == -signal.SIGKILL else ""
        return f"killed by {signal.Signals(-code).name}{hint}"
    return "ended, though nobody asked" if code == 0 else f"ended with exit code {code}"


def _kill(one: _Running) -> None:
    """Kills a part and all processes it has started."""
    if one.process is not None and one.process.poll() is None:
        os.killpg(one.process.pid, signal.SIGKILL)


def _is_open(part: Part) -> bool:
    if part.address is None:
        return False
    try:
        with socket.create_connection(part.address, LOOK_SECONDS):
            return True
    except OSError:
        return False
