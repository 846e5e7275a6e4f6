"""The supervisor over small processes that do at once what a part of Kernob may do some day."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from kernob.supervisor import reason_of
from servers import free_port, wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

MAIN = """
import json, logging, sys
from kernob import config, supervisor
from kernob.logs import set_up_logging
set_up_logging(config.Log(format="json"))
supervisor.FIRST_PAUSE, supervisor.STOP_SECONDS = 0.1, 1.0
parts = json.loads(sys.argv[1])
for part in parts:
    part["environ"] = {"PATH": "/usr/bin:/bin"}
    part["final"] = {int(code): text for code, text in part.get("final", {}).items()}
sys.exit(supervisor.Supervisor([supervisor.Part(**part) for part in parts]).run())
"""


class Up:
    """A supervisor that runs, and its log."""

    def __init__(self, folder: Path, parts: list[dict[str, Any]]) -> None:
        self.file = folder / "log"
        with self.file.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-c", MAIN, json.dumps(parts)], stderr=log
            )

    def lines(self, part: str | None = None) -> list[str]:
        entries = [json.loads(line) for line in self.file.read_text().splitlines()]
        return [e["message"] for e in entries if part is None or e.get("part") == part]

    def until(self, line: str, part: str | None = None, count: int = 1) -> None:
        wait_until(lambda: self.lines(part).count(line) >= count, lambda: self.file.read_text())


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Up]]:
    started = []

    def make(*parts: dict[str, Any]) -> Up:
        started.append(Up(tmp_path, list(parts)))
        return started[-1]

    yield make
    for up in started:
        if up.process.poll() is None:
            up.process.kill()
            up.process.wait(10)


def shell(name: str, script: str, **others: Any) -> dict[str, Any]:
    return {"name": name, "command": ["sh", "-c", script], **others}


def wait_on_term(name: str, **others: Any) -> dict[str, Any]:
    trap = "trap 'echo bye; exit 0' TERM"
    wait = "while :; do sleep 0.05; done"
    return shell(name, f"{trap}; echo pid $$; echo {name} is up; {wait}", **others)


def pid_of(up: Up, part: str) -> int:
    wait_until(lambda: any(line.startswith("pid ") for line in up.lines(part)), up.file.read_text)
    return int([line for line in up.lines(part) if line.startswith("pid ")][-1].split()[1])


def test_parts_stop_in_their_order(start: Callable[..., Up]) -> None:
    up = start(*(wait_on_term(name) for name in ("first", "second", "third")))
    for name in ("first", "second", "third"):
        up.until(f"{name} is up")

    up.process.send_signal(signal.SIGTERM)

    assert up.process.wait(10) == 0
    entries = [json.loads(line) for line in up.file.read_text().splitlines()]
    assert [e["part"] for e in entries if e["message"] == "bye"] == ["first", "second", "third"]
    assert "SIGTERM: stopping" in up.lines()


def test_a_part_that_does_not_stop_is_killed_with_all_it_started(start: Callable[..., Up]) -> None:
    up = start(
        shell("deaf", "trap '' TERM; sleep 1000 & echo child $!; echo pid $$; wait; sleep 1000")
    )
    pid_of(up, "deaf")
    [child] = [int(line.split()[1]) for line in up.lines("deaf") if line.startswith("child ")]

    up.process.send_signal(signal.SIGINT)

    assert up.process.wait(10) == 0
    assert "does not stop: killed" in up.lines("deaf")
    wait_until(lambda: not Path(f"/proc/{child}").exists(), "its child to die")


def test_a_second_signal_does_not_wait(start: Callable[..., Up]) -> None:
    up = start(shell("deaf", "trap '' TERM; echo pid $$; while :; do sleep 0.05; done"))
    pid_of(up, "deaf")

    up.process.send_signal(signal.SIGTERM)
    up.until("SIGTERM: stopping")
    time.sleep(0.6)
    up.process.send_signal(signal.SIGTERM)

    assert up.process.wait(10) == 0
    assert "SIGTERM again: killing what still runs" in up.lines()


def test_a_signal_that_comes_twice_at_once_is_one(start: Callable[..., Up]) -> None:
    script = "trap 'sleep 0.3; echo bye; exit 0' TERM; echo pid $$; while :; do sleep 0.05; done"
    up = start(shell("slow", script))
    pid_of(up, "slow")

    up.process.send_signal(signal.SIGTERM)
    up.until("SIGTERM: stopping")
    up.process.send_signal(signal.SIGTERM)

    assert up.process.wait(10) == 0
    assert up.lines("slow")[-1] == "bye"


def test_a_crashed_part_starts_again_and_later_each_time(start: Callable[..., Up]) -> None:
    up = start(shell("weak", "echo up; exit 1"), wait_on_term("well"))

    up.until("ended with exit code 1: starts again in 0.4 s", "weak")

    assert up.lines("weak") == [
        *("up", "ended with exit code 1: starts again in 0.1 s"),
        *("up", "ended with exit code 1: starts again in 0.2 s"),
        *("up", "ended with exit code 1: starts again in 0.4 s"),
    ]
    assert up.lines("well").count("well is up") == 1


def test_a_killed_part_says_by_what(start: Callable[..., Up]) -> None:
    up = start(wait_on_term("one"))

    os.kill(pid_of(up, "one"), signal.SIGSEGV)

    up.until("killed by SIGSEGV: starts again in 0.1 s", "one")
    up.until("one is up", count=2)


def test_a_part_whose_end_is_final_is_said_once_and_the_others_go_on(
    start: Callable[..., Up],
) -> None:
    up = start(
        shell("lost", "echo 'kernob: the address is taken'; exit 4", final={4: "move it"}),
        wait_on_term("well"),
    )
    up.until("is not started again: move it")
    up.until("well is up")
    time.sleep(0.4)

    assert up.process.poll() is None
    assert up.lines("lost") == ["the address is taken", "is not started again: move it"]
    up.process.terminate()
    assert up.process.wait(10) == 0


def test_without_the_part_that_all_need_everything_stops(start: Callable[..., Up]) -> None:
    up = start(
        wait_on_term("well"), shell("base", "sleep 0.3; exit 7", final={7: "x"}, needed=True)
    )

    assert up.process.wait(10) == 7
    assert "nothing works without the base: stopping" in up.lines()
    assert up.lines("well")[-1] == "bye"


def test_once_all_are_given_up_it_ends_with_the_first_code(start: Callable[..., Up]) -> None:
    up = start(
        shell("one", "exit 2", final={2: "x"}), shell("two", "sleep 0.3; exit 4", final={4: ""})
    )

    assert up.process.wait(10) == 2


def test_no_line_is_lost_nor_changed(start: Callable[..., Up]) -> None:
    # Half of them as JSON, in pieces that end anywhere; the last without its end of line.
    script = (
        "import sys, json, os\n"
        "for i in range(20000):\n"
        "    entry = {'time': '2026-01-02T03:04:05.678Z', 'level': 'debug', 'logger': 'a'}\n"
        "    entry['message'] = f'm{i}'\n"
        "    os.write(2, ((json.dumps(entry) if i % 2 else f'm{i}') + '\\n').encode())\n"
        "os.write(2, b'end ' + b'x' * 3000000 + b' \\xff'); sys.exit(3)"
    )
    up = start({"name": "loud", "command": [sys.executable, "-c", script], "final": {3: "x"}})

    assert up.process.wait(30) == 3

    said = up.lines("loud")
    assert said[:20000] == [f"m{i}" for i in range(20000)]
    assert "".join(said[20000:-1]) == "end " + "x" * 3_000_000 + " \ufffd"
    entry = json.loads(up.file.read_text().splitlines()[1])
    assert (entry["time"], entry["level"], entry["logger"]) == (
        "2026-01-02T03:04:05.678Z",
        "debug",
        "a",
    )


def test_killed_it_leaves_no_process(start: Callable[..., Up]) -> None:
    up = start(*(shell(name, "trap '' TERM; echo pid $$; exec sleep 1000") for name in "abc"))
    pids = [pid_of(up, name) for name in "abc"]

    up.process.kill()

    wait_until(
        lambda: not any(Path(f"/proc/{pid}/exe").exists() for pid in pids), "its parts to die"
    )


def test_it_says_where_to_look_once_that_answers(start: Callable[..., Up]) -> None:
    script = (
        "import socket, time\n"
        "time.sleep(0.3); print('soon', flush=True)\n"
        "s = socket.create_server(('127.0.0.1', {port})); time.sleep(1000)"
    )
    port = free_port()
    up = start(
        {
            "name": "pages",
            "command": [sys.executable, "-c", script.format(port=port)],
            "address": ["127.0.0.1", port],
            "greeting": "look there",
        }
    )

    up.until("look there", "pages")
    assert up.lines("pages") == ["soon", "look there"]


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        (-9, "killed by SIGKILL (out of memory?)"),
        (-15, "killed by SIGTERM"),
        (0, "ended, though nobody asked"),
        (3, "ended with exit code 3"),
    ],
)
def test_reasons(code: int, reason: str) -> None:
    assert reason_of(code) == reason
