"""The whole agent on other kernels: each has hooks of its own, and the bytes are the same."""

from __future__ import annotations

import re
from collections import Counter
from typing import TYPE_CHECKING

import pytest

from bench.vm import machine, package

if TYPE_CHECKING:
    from pathlib import Path

# Server and client in one process, by TCP over IPv4 and IPv6, and by UDP. Another one scrapes:
# its bytes would be among those that it asks for.
TRAFFIC = """
import os, socket, subprocess, sys, threading, time

def take(connection, size):
    while size:
        size -= len(connection.recv(min(size, 65536)))

def exchange(address, sent, answered):
    with socket.create_server((address, 0), family=socket.AF_INET6 if ":" in address
                              else socket.AF_INET) as server:
        client = socket.create_connection(server.getsockname()[:2])
        peer, _ = server.accept()
        reader = threading.Thread(target=take, args=(peer, sent))
        reader.start()
        with open("/tmp/sent", "wb") as file:
            file.truncate(sent)
        with open("/tmp/sent", "rb") as file:
            client.sendfile(file)
        reader.join()
        peer.sendall(bytes(answered))
        take(client, answered)

exchange("127.0.0.1", 1_000_003, 777)
exchange("::1", 2_000_005, 99)
a, b = (socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(2))
b.bind(("127.0.0.1", 0))
for size in (1, 500, 1400):
    a.sendto(bytes(size), b.getsockname())
    b.recv(2000)
time.sleep(2.5)
SCRAPE = "import urllib.request as r; print(r.urlopen('http://127.0.0.1:9464/metrics').read().decode())"
text = subprocess.run([sys.executable, "-c", SCRAPE], stdout=subprocess.PIPE, text=True).stdout
pid = f'process_pid="{os.getpid()}"'
for line in text.splitlines():
    if line.startswith("process_network_io_bytes_total{") and pid in line:
        print(line)
"""
EXPECTED = {"tcp": 1_000_003 + 777 + 2_000_005 + 99, "udp": 1 + 500 + 1400}

SCRIPT = f"""#!/bin/bash
export PYTHONPATH={package.PYTHONPATH}
python3 -c 'from kernob.cli import main; main()' agent --mode ebpf &
for i in $(seq 300); do
  (exec 3<>/dev/tcp/127.0.0.1/9464) 2>/dev/null && break
  sleep 0.1
done
python3 traffic.py > "$OUT/metrics"
"""


@pytest.mark.live
@pytest.mark.parametrize("release", ["6.1", "6.12"])
def test_bytes_are_exact(release: str, tmp_path: Path) -> None:
    if missing := machine.missing_packages():
        pytest.skip(f"no virtual machine here: apt-get install {' '.join(missing)}")
    traffic = tmp_path / "traffic.py"
    traffic.write_text(TRAFFIC)

    outcome = machine.run(release, SCRIPT, package.kernob_files(tmp_path) | {"traffic.py": traffic})

    assert outcome.status == 0, outcome.console
    lines = outcome.files["metrics"].decode().splitlines()
    found: Counter[tuple[str, str]] = Counter()
    for line in lines:
        labels = dict(re.findall(r'(\w+)="([^"]*)"', line))
        key = labels["network_transport"], labels["network_io_direction"]
        found[key] += int(float(line.rsplit(" ", 1)[1]))
    assert found == {
        (transport, direction): size
        for transport, size in EXPECTED.items()
        for direction in ("transmit", "receive")
    }, outcome.console
