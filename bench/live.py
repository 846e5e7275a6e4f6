"""Live: how long a byte takes from the call that sends it to its place on the page."""

from __future__ import annotations

import contextlib
import random
import socket
import subprocess
import sys
import threading
import time
from statistics import median
from typing import TYPE_CHECKING, Any, Final

from bench import browser, host, kernob

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

SCRIPT: Final = "bench-beat.py"
"""Names the service, too."""
BEAT: Final = """
import socket, sys, time
connection = socket.create_connection(("127.0.0.1", int(sys.argv[1])))
for _ in sys.stdin:
    connection.sendall(b".")
    print(time.monotonic(), flush=True)
"""
SHOWN: Final = """
([name, bytes]) => {
  const rows = [...document.querySelectorAll("tr[data-key]")];
  const row = rows.find((one) => one.dataset.key.includes(name));
  return row?.querySelector(".k-col-total_out")?.title.startsWith(`${bytes} byte`);
}
"""
"""Tells whether a service's row shows a total; the cell's title has it to the byte."""


def measure(scratch: Path, *, quick: bool) -> dict[str, list[dict[str, Any]]]:
    """Returns a table with one row: seconds over all bytes that were sent, one at a time."""
    site = kernob.Site(scratch)
    delays = []
    with (
        site.run("up") as up,
        _beat(scratch) as beat,
        browser.chromium() as chromium,
        contextlib.closing(browser.context_of(chromium)) as context,
    ):
        host.wait_for(lambda: up.lives() and site.answers("/", pages=True), "pages", 60)
        beat()
        page, _ = browser.visit(context, f"{site.pages_url}/traffic")
        page.wait_for_function(SHOWN, arg=["bench-beat", 1])
        host.say("live: bytes, one at a time")
        for number in range(2, 7 if quick else 22):
            time.sleep(random.random())  # At any moment of the intervals that there are.
            sent = beat()
            page.wait_for_function(SHOWN, arg=["bench-beat", number])
            delays.append(time.monotonic() - sent)
    return {
        "live": [
            {
                "bytes": len(delays),
                "delay_median_s": median(delays),
                "delay_max_s": max(delays),
            }
        ]
    }


@contextlib.contextmanager
def _beat(scratch: Path) -> Iterator[Callable[[], float]]:
    """Has a program send to this one; yields what makes it send a byte and returns when it did."""
    script = scratch / SCRIPT
    script.write_text(BEAT)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        command = [sys.executable, str(script), str(listener.getsockname()[1])]
        process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        with host.running(process), listener.accept()[0] as connection:

            def drain() -> None:
                while connection.recv(1 << 16):
                    pass

            def beat() -> float:
                assert process.stdin
                assert process.stdout
                process.stdin.write("\n")
                process.stdin.flush()
                return float(process.stdout.readline())

            drainer = threading.Thread(target=drain)
            drainer.start()
            yield beat
            assert process.stdin
            process.stdin.close()
            drainer.join()
