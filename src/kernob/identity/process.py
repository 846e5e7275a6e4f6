"""Whose traffic it is: the process behind a pid and a start time, living or gone.

The kernel side keeps a record of each process with traffic (bpf/include/process.h), which may
be all that is left of one that lived for five milliseconds; /proc tells more while it lives.
Each process is looked at once, when it first shows up, and then kept: an interval with known
processes costs nothing here. A process may execute another program or rename itself; `refresh`
finds that out for a few processes at a time, those not looked at for longest.

A process is its thread group's id and `task_struct.start_boottime`: an id comes back, the pair
does not. In a time namespace of its own the agent sees shifted starts in /proc, and then uses
the kernel's records alone.
"""

from __future__ import annotations

import functools
import pwd
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any, Final, TypeVar

from kernob.identity import procfs
from kernob.identity.cgroup import NO_CGROUP, Cgroup, parse_cgroups, parse_path
from kernob.identity.containers import Container, Containers
from kernob.identity.program import is_interpreter, program_name
from kernob.identity.redact import redact, shorten
from kernob.identity.service import Rule, service_name

if TYPE_CHECKING:
    from collections.abc import Hashable, Sequence

KERNEL: Final = "kernel"
"""The service of all kernel threads."""
UNKNOWN: Final = "unknown"
"""The service of a process of which nothing was kept: gone, and the kernel's table was full."""

_RECORD_COMMAND: Final = 256
_KTHREADD: Final = 2
_ROOT_CGROUP: Final = 1
_CACHED: Final = 8192
_NAME_LENGTH: Final = 15  # TASK_COMM_LEN less the NUL

Key = tuple[int, int]
"""Thread group id, and start in nanoseconds since boot."""
_H = TypeVar("_H", bound="Hashable")


@dataclass(frozen=True, slots=True)
class Process:
    """One process; texts are "" where unknown.

    Attributes:
        start: nanoseconds since boot.
        name: the kernel's, up to 15 characters (`comm`).
        executable: base name of the executed file; for a kernel thread its name up to the first
            slash (`kworker/0:1-events` is `kworker`): what follows is a processor, not a program.
        path: the executed file's, in the process's own mount namespace.
        command: the command line without secrets, at most 512 characters.
        user: real user's name on this host, else the number, as `ps -o ruser` shows it.
        cgroup: its path; only the last part where the process was gone too soon.
        unit: systemd's, with its type.
        service: the name under which traffic is added up.
    """

    pid: int
    start: int
    parent: int
    name: str
    executable: str
    path: str
    command: tuple[str, ...]
    user: str
    cgroup: str
    unit: str
    container: Container | None
    service: str


@dataclass(frozen=True, slots=True)
class _Facts:
    """What was found about a process, before it has a service."""

    parent: int
    name: str
    executable: str
    path: str
    command: bytes
    complete: bool
    user: int | None
    cgroup: Cgroup
    kernel_thread: bool


class Processes:
    """Finds processes and keeps them: at most `capacity`, those least lately looked at go first.

    Attributes:
        evicted: how many were dropped for lack of room; they are looked up again when asked for.
    """

    def __init__(
        self,
        rules: Sequence[Rule] = (),
        *,
        capacity: int = 16384,
        containers: Containers | None = None,
        proc: str = "/proc",
    ) -> None:
        self._rules = tuple(rules)
        self._capacity = capacity
        self._containers = containers or Containers()
        self._proc = proc
        self._known: dict[Key, Process] = {}
        self._cgroups: dict[int, Cgroup] = {}
        self._shared: dict[Any, Any] = {}
        self.evicted = 0

    def __len__(self) -> int:
        """Returns how many processes are kept."""
        return len(self._known)

    def resolve(self, pid: int, start: int, record: Any = None) -> Process:
        """Returns the process, at once if it is known.

        Args:
            pid: thread group id in the initial pid namespace.
            start: `start_boottime`, or what `procfs.process_start` returns.
            record: its `struct process` as a numpy record, if the kernel has one.
        """
        known = self._known.get((pid, start))
        if known:
            return known
        while len(self._known) >= self._capacity:
            del self._known[next(iter(self._known))]
            self.evicted += 1
        process = self._look_up(pid, start, record)
        self._known[pid, start] = process
        return process

    def forget(self, pid: int, start: int) -> None:
        """Lets go of a process that has ended and whose numbers have been folded."""
        self._known.pop((pid, start), None)

    def refresh(self, limit: int = 32) -> list[Process]:
        """Looks again at the `limit` processes not looked at for longest; 15 µs each.

        Returns those that now run another program or belong elsewhere: what they moved before
        stays their former service's, the rest is their new one's.
        """
        changed = []
        for key in list(islice(self._known, limit)):
            old = self._known.pop(key)
            new = (self._differs(old) and self._living(*key)) or old
            self._known[key] = new
            if (new.service, new.executable) != (old.service, old.executable):
                changed.append(new)
        return changed

    def _differs(self, process: Process) -> bool:
        with procfs.process_directory(process.pid, self._proc) as directory:
            stat = procfs.read_stat(directory) if directory is not None else None
            if directory is None or not stat or not procfs.same_start(stat.start, process.start):
                return False
            # Kernel threads rename themselves all the time, and the dead stay what they were.
            return not (stat.kernel_thread or stat.ended) and (
                stat.name != process.name
                or procfs.read_executable(directory) != process.path
                or not process.command  # it was looked at in the midst of exec
            )

    def _living(self, pid: int, start: int) -> Process | None:
        facts = self._from_proc(pid, start, None)
        return self._process(pid, start, facts) if facts else None

    def _look_up(self, pid: int, start: int, record: Any) -> Process:
        recorded = self._from_record(record) if record is not None else None
        living = self._from_proc(pid, start, recorded)
        facts = living or recorded
        if living and record is not None and living.cgroup is not NO_CGROUP:
            self._learn(int(record["cgroup_id"]), living.cgroup)
        return self._process(pid, start, facts)

    def _from_proc(self, pid: int, start: int, recorded: _Facts | None) -> _Facts | None:
        with procfs.process_directory(pid, self._proc) as directory:
            stat = procfs.read_stat(directory) if directory is not None else None
            if directory is None or not stat or not procfs.same_start(stat.start, start):
                return None
            if stat.ended and recorded:
                return None  # what the kernel kept says more than a zombie
            command, complete = procfs.read_command(directory)
            path = "" if stat.kernel_thread else procfs.read_executable(directory)
            cgroup = parse_cgroups(procfs.read_cgroups(directory))
            user = recorded.user if recorded else procfs.read_user(directory)
        executable = path.rpartition("/")[2] or (recorded.executable if recorded else "")
        return _Facts(
            parent=stat.parent,
            name=stat.name,
            executable=executable,
            path=path,
            command=command,
            complete=complete,
            user=user,
            cgroup=cgroup,
            kernel_thread=stat.kernel_thread,
        )

    def _from_record(self, record: Any) -> _Facts:
        length = int(record["command_length"])
        base = _text(record, "cgroup")
        parent = int(record["parent"])
        return _Facts(
            parent=parent,
            name=_text(record, "name"),
            executable=_text(record, "executable"),
            path="",
            command=bytes(record["command"])[:length],
            complete=length < _RECORD_COMMAND,
            user=int(record["uid"]),
            cgroup=self._cgroup(int(record["cgroup_id"]), base, parent),
            kernel_thread=parent == _KTHREADD,
        )

    def _cgroup(self, number: int, base: str, parent: int) -> Cgroup:
        """Finds the path of which only the last part is known: by number, else by the parent."""
        learned = self._cgroups.get(number)
        if learned and learned.path.endswith(f"/{base}"):
            return learned
        with procfs.process_directory(parent, self._proc) as directory:
            text = procfs.read_cgroups(directory) if directory is not None else ""
        cgroup = parse_cgroups(text)
        return cgroup if base and cgroup.path.endswith(f"/{base}") else parse_path(base or "/")

    def _learn(self, number: int, cgroup: Cgroup) -> None:
        if number > _ROOT_CGROUP:
            while len(self._cgroups) >= _CACHED:
                del self._cgroups[next(iter(self._cgroups))]
            self._cgroups[number] = cgroup

    def _process(self, pid: int, start: int, facts: _Facts | None) -> Process:
        if not facts:
            return Process(pid, start, 0, "", "", "", (), "", "", "", None, UNKNOWN)
        text = facts.command.rstrip(b"\0").decode(errors="replace")
        words = text.split("\0") if text else []
        arguments = redact(words, complete=facts.complete)
        executable = _executable(facts, arguments)
        cgroup = facts.cgroup
        container = (
            self._containers.find(cgroup.container, cgroup.path) if cgroup.container else None
        )
        user = "" if facts.user is None else user_name(facts.user)
        program = (
            KERNEL
            if facts.kernel_thread
            else program_name(_called(facts.name, executable, arguments), arguments)
        )
        command = shorten(arguments)
        service = service_name(
            {
                "command": " ".join(command),
                "container": container.name if container else "",
                "executable": executable,
                "name": facts.name,
                "unit": cgroup.unit,
                "user": user,
                "service": (
                    (container.name if container else "")
                    or cgroup.unit.removesuffix(".service")
                    or program
                    or UNKNOWN
                ),
            },
            facts.path,
            self._rules,
        )
        return Process(
            pid=pid,
            start=start,
            parent=facts.parent,
            name=self._share(facts.name),
            executable=self._share(executable),
            path=self._share(facts.path),
            command=self._share(command),
            user=user,
            cgroup=cgroup.path,
            unit=cgroup.unit,
            container=container,
            service=self._share(service),
        )

    def _share(self, value: _H) -> _H:
        """Returns an equal value that others hold already: many processes are alike."""
        if len(self._shared) >= _CACHED:
            self._shared.clear()
        result: _H = self._shared.setdefault(value, value)
        return result


def _text(record: Any, field: str) -> str:
    return procfs.decode(bytes(record[field]).partition(b"\0")[0])


def _executable(facts: _Facts, arguments: Sequence[str]) -> str:
    """Returns the executable's base name, or the best guess where it is hidden from us."""
    if facts.kernel_thread:
        return facts.name.partition("/")[0]
    if facts.executable:
        return facts.executable
    # The kernel's name is the first 15 characters; of a script it is the script's.
    first = _first_word(arguments)
    return first if first.startswith(facts.name) or is_interpreter(first) else facts.name


def _called(name: str, executable: str, arguments: Sequence[str]) -> str:
    """Returns by what name the executable was called, where it has several.

    Debian's redis-server is a link to redis-check-rdb: the kernel's name and the command line
    agree on the link.
    """
    first = _first_word(arguments)
    agreed = name and first[:_NAME_LENGTH] == name
    return first if agreed and not is_interpreter(executable) else executable


def _first_word(arguments: Sequence[str]) -> str:
    return arguments[0].split(" ")[0].rpartition("/")[2].rstrip(":") if arguments else ""


@functools.lru_cache(maxsize=4096)
def user_name(uid: int) -> str:
    """Returns the user's name; the number if this host has no such user."""
    try:
        return pwd.getpwuid(uid).pw_name
    except (KeyError, OverflowError):  # a container's user, or one above this libc's range
        return str(uid)
