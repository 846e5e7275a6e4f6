"""The command line, as a process: what it prints and how it exits."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import Any

import pytest

from kernob import config, installed
from kernob.cli import flags_of, where
from servers import free_port

KERNOB = str(Path(sys.executable).with_name("kernob"))
SOURCE = Path(__file__).parents[1] / "src"
FIELDS = {"pid", "service", "transmit", "receive"}


def run(
    *arguments: str, environ: dict[str, str] | None = None, prefix: tuple[str, ...] = ()
) -> subprocess.CompletedProcess[str]:
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("KERNOB_", "OTEL_"))}
    return subprocess.run(
        [*prefix, KERNOB, *arguments],
        env={**clean, **(environ or {})},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


def nobody_listens() -> dict[str, str]:
    """An address for the agent where none is, so that `top` and `doctor` find none."""
    return {"KERNOB_PROMETHEUS_LISTEN": f"127.0.0.1:{free_port()}"}


def test_version() -> None:
    assert run("version").stdout == "kernob 0.1.0\n"


def test_a_mistake_in_the_configuration_names_its_line(tmp_path: Path) -> None:
    file = tmp_path / "kernob.yaml"
    file.write_text("agent:\n  mode: auto\n  intervall: 2s\n")

    done = run("agent", "--config", str(file))

    assert done.returncode == 2
    assert done.stderr.startswith(f"kernob: {file}:3: agent.intervall: ")
    assert "did you mean interval?" in done.stderr
    assert done.stderr.count("\n") == 1


def test_config_says_what_is_in_force_and_from_where(tmp_path: Path) -> None:
    file = tmp_path / "kernob.yaml"
    file.write_text("agent:\n  interval: 2s\n")

    text = run("config", "--config", str(file), environ={"KERNOB_LOG_LEVEL": "debug"}).stdout

    settings = [[part.strip() for part in line.split("#")] for line in text.splitlines()]
    assert ["interval: 2s", f"{file}:2"] in settings
    assert ["level: debug", "KERNOB_LOG_LEVEL"] in settings
    assert ["mode: auto", "default"] in settings


@pytest.mark.live
def test_doctor_finds_all_programs_at_work() -> None:
    done = run("doctor", "--json", environ=nobody_listens())

    found: dict[str, Any] = json.loads(done.stdout)
    assert done.returncode == 0
    assert found["ebpf"] is True
    assert found["programs"]["drain_connections"] == ""
    assert sum(found["maps"].values()) < 64 << 20
    assert found["agent"] is False


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to become an ordinary user")
def test_doctor_tells_an_ordinary_user_what_is_missing_and_what_to_do() -> None:
    # The user stays root, who can read the interpreter wherever it is; the privileges go.
    prefix = ("setpriv", "--bounding-set=-all", "--inh-caps=-all", "--reuid=0", "--no-new-privs")
    done = run("doctor", environ=nobody_listens(), prefix=prefix)

    assert done.returncode == 3
    assert "lacks CAP_BPF" in done.stdout
    assert "counting    polled from sock_diag" in done.stdout
    assert "missed: UDP" in done.stdout
    assert "to do       run Kernob as root" in done.stdout


def test_top_once_prints_json_without_an_agent() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        client = socket.create_connection(server.getsockname())
        with client, server.accept()[0] as served:
            client.sendall(b"x" * 100_000)
            left = 100_000
            while left:
                left -= len(served.recv(left))

            done = run(
                *("top", "--once", "--json", "--mode", "polling", "--interval", "0.3"),
                environ=nobody_listens(),
            )

    table = json.loads(done.stdout)
    assert done.returncode == 0, done.stderr
    assert table["mode"] == "polling"
    assert table["by"] == "process"
    assert all(set(row) >= FIELDS for row in table["rows"])


def test_the_live_table_needs_a_terminal() -> None:
    done = run("top", "--mode", "polling", environ=nobody_listens())

    assert done.returncode == 1
    assert "use --once" in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("command", ["up", "server", "pages", "store sizes"])
def test_without_the_servers_packages_it_says_how_to_get_them(tmp_path: Path, command: str) -> None:
    for package in Path(sysconfig.get_path("purelib")).iterdir():
        if package.name not in ("chdb", "nicegui"):
            (tmp_path / package.name).symlink_to(package)
    # An interpreter that knows only these.
    code = (
        f"import sys, os; sys.path[:0] = [{str(tmp_path)!r}, {str(SOURCE)!r}]; "
        f"sys.argv = ['kernob', *{command.split()!r}]; from kernob.cli import main; main()"
    )

    done = subprocess.run(
        [sys.executable, "-S", "-c", code], capture_output=True, text=True, timeout=30, check=False
    )

    assert done.returncode == 2
    assert done.stderr.endswith(f"not installed (chdb, nicegui): {installed.command('server')}\n")
    assert done.stderr.count("\n") == 1


def test_a_store_is_a_folder_or_a_url() -> None:
    variables = {"KERNOB_STORE_URL": "http://elsewhere:8123", "KERNOB_STORE_PATH": "/one"}

    folder = config.load(None, variables, flags_of(**where("/two"))).config.store
    url = config.load(None, variables, flags_of(**where("https://here:8443"))).config.store

    assert (folder.url, folder.path) == ("", Path("/two"))
    assert url.url == "https://here:8443"
