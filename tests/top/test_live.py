from __future__ import annotations

import os
import pty
import re
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from kernob.errors import ConfigError, KernobError
from kernob.top import run
from kernob.top.themes import _is_light

HERE = Path(__file__).parent
SCRIPT = """
from tables import Feed
from kernob.rates import metered
from kernob.top import run
run(metered(Feed()), interval=0.1)
print("left")
"""
REQUESTS = """
from operations import Feed
from kernob.request_rates import metered
from kernob.top import run_requests
run_requests(metered(Feed()), interval=0.1)
print("left")
"""


class Terminal:
    """A program in a real terminal of 80 columns and 24 lines."""

    def __init__(self, answers: bytes = b"", script: str = SCRIPT, **environment: str) -> None:
        self._answers = answers
        self._fd, other = pty.openpty()
        os.set_blocking(self._fd, False)
        self._seen = b""
        kept = {name: value for name, value in os.environ.items() if name != "NO_COLOR"}
        self.process = subprocess.Popen(
            [sys.executable, "-c", script],
            stdin=other,
            stdout=other,
            stderr=other,
            cwd=HERE,
            env=kept
            | {"TERM": "xterm-256color", "COLUMNS": "80", "LINES": "24", "COLORTERM": "truecolor"}
            | environment,
            start_new_session=True,
        )
        os.close(other)

    def type(self, keys: str) -> None:
        os.write(self._fd, keys.encode())

    def until(self, text: str) -> str:
        """Returns what was written until `text` came, without what moves the cursor."""
        deadline = time.monotonic() + 20
        while text not in (shown := self._shown()):
            assert time.monotonic() < deadline, shown[-2000:]
            if select.select([self._fd], [], [], 0.1)[0]:
                try:
                    more = os.read(self._fd, 65536)
                except OSError:  # EIO: the other end is closed
                    more = b""
                    time.sleep(0.02)
                if b"\x1b]11;?" in more:
                    os.write(self._fd, self._answers)
                self._seen += more
        seen, self._seen = self._seen, b""
        return seen.decode(errors="replace")

    def _shown(self) -> str:
        return re.sub(r"\x1b\[[0-9;?<>$]*[A-Za-z]", "", self._seen.decode(errors="replace"))

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGKILL)
        self.process.wait(10)
        os.close(self._fd)


def test_in_a_terminal_it_shows_moves_and_leaves() -> None:
    terminal = Terminal(b"\x1b]11;rgb:0000/0000/0000\x1b\\\x1b[?6c")
    try:
        seen = terminal.until("6.00 kB/s")
        assert "38;2;216;220;227" in seen
        terminal.type("2")
        terminal.until("procs")
        terminal.type("/mail")
        terminal.until("nothing matches")
        terminal.type("\x03")
        terminal.until("left")
        assert terminal.process.wait(10) == 0
    finally:
        terminal.close()


def test_operations_in_a_terminal() -> None:
    terminal = Terminal(b"\x1b]11;rgb:0000/0000/0000\x1b\\\x1b[?6c", REQUESTS)
    try:
        seen = terminal.until("/items/{id}")
        assert "38;2;216;220;227" in seen
        terminal.type("/mail")
        terminal.until("nothing matches")
        terminal.type("\x03")
        terminal.until("left")
        assert terminal.process.wait(10) == 0
    finally:
        terminal.close()


def test_a_light_terminal_gets_light_colours() -> None:
    terminal = Terminal(b"\x1b]11;rgb:ffff/ffff/eeee\x1b\\\x1b[?6c")
    try:
        assert "48;2;255;255;255" in terminal.until("6.00 kB/s")
        terminal.type("q")
        terminal.until("left")
    finally:
        terminal.close()


def test_without_colour_no_colour_is_written() -> None:
    terminal = Terminal(NO_COLOR="1")
    try:
        seen = terminal.until("6.00 kB/s")
        styles = {
            code for part in re.findall(r"\x1b\[([0-9;]*)m", seen) for code in part.split(";")
        }
        assert styles <= {"", "0", "1", "2", "4", "7", "39", "49"}
        terminal.type("q")
        terminal.until("left")
    finally:
        terminal.close()


@pytest.mark.parametrize(
    ("answer", "environment", "light"),
    [
        (b"\x1b]11;rgb:ffff/ffff/ffff\x07\x1b[?62c", "", True),
        (b"\x1b]11;rgb:fd/f6/e3\x1b\\\x1b[?62c", "", True),
        (b"\x1b]11;rgb:1e1e/1e1e/2e2e\x1b\\\x1b[?62c", "0;15", False),
        (b"\x1b[?6c", "0;15", True),
        (b"\x1b[?6c", "15;default;0", False),
        (b"", "", False),
    ],
)
def test_the_background_is_what_the_terminal_says(
    monkeypatch: pytest.MonkeyPatch,
    answer: bytes,
    environment: str,
    light: bool,  # noqa: FBT001
) -> None:
    monkeypatch.setenv("COLORFGBG", environment)
    assert _is_light(answer) is light


def test_without_a_terminal_it_says_what_to_use() -> None:
    asked = subprocess.run(
        [sys.executable, "-c", SCRIPT],
        cwd=HERE,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    last = asked.stderr.splitlines()[-1]
    assert last.endswith("the live table needs a terminal: use --once, or --once --json")


def test_wrong_options_are_told_before_anything_is_drawn() -> None:
    with pytest.raises(ConfigError):
        run(lambda _: 1 / 0, by="colour")  # type: ignore[arg-type,return-value]
    with pytest.raises(KernobError, match="has no column"):
        run(lambda _: 1 / 0, sort="colour")  # type: ignore[arg-type,return-value]


def test_scripts_do_not_pay_for_the_live_table() -> None:
    code = "import sys, kernob.top; sys.exit('textual' in sys.modules or 'numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
