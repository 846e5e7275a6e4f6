"""`kernob store`, as people and scripts use it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

KERNOB = str(Path(sys.executable).with_name("kernob"))
FILL = """
import sys
from pathlib import Path
from kernob import config
from kernob.store.engine import Signal
from kernob.store.store import Store
from store.otlp import NOW, logs, traces
store = Store.open(config.Store(path=Path(sys.argv[1])))
old = {"start_time_unix_nano": NOW - 5 * 3600 * 10**9}
store.write(Signal.TRACES, [traces({}, old), traces({}, resource={"service.name": "other"})])
store.write(Signal.LOGS, [logs({})])
if len(sys.argv) > 2:
    print("open", flush=True)
    sys.stdin.read()
store.close()
"""


def python(store: Path, *more: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", FILL, store, *more],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parent)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def fill(store: Path) -> Path:
    """Makes a store with three spans of two services, one of them old, and a log record."""
    with python(store) as process:
        process.communicate(timeout=60)
    assert process.returncode == 0
    return store


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store that tests only read."""
    return fill(tmp_path_factory.mktemp("filled") / "store")


def run(*arguments: object, answer: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [KERNOB, "store", *map(str, arguments)],
        input=answer,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def rows(store: Path) -> dict[tuple[str, str], int]:
    """Rows by service and signal."""
    found = json.loads(run("sizes", "--store", store, "--json").stdout)
    return {(one["service"], one["signal"]): one["rows"] for one in found["services"]}


def test_what_is_stored_in_a_table_for_people(filled: Path) -> None:
    text = run("sizes", "--store", filled).stdout

    lines = [line.split() for line in text.splitlines()]
    assert lines[0] == ["table", "signal", "rows", "size", "oldest", "row", "(UTC)"]
    [spans] = [line for line in lines if line[:1] == ["otel_traces"]]
    assert spans[1:3] == ["traces", "3"]
    assert ["shop", "traces", "2"] in lines
    assert ["other", "traces", "1"] in lines


def test_it_drops_what_is_asked_for_once_that_is_confirmed(tmp_path: Path) -> None:
    filled = fill(tmp_path / "store")
    every = {("shop", "traces"): 2, ("other", "traces"): 1, ("shop", "logs"): 1}

    refused = run("drop", "--store", filled, "--service", "shop", answer="n\n")
    assert refused.returncode == 1
    assert "Drop all that is stored of the service shop for good?" in refused.stdout
    assert rows(filled) == every

    agreed = run("drop", "--store", filled, "--signal", "traces", "--before", "now-2h", answer="y")
    assert agreed.returncode == 0
    assert rows(filled) == every | {("shop", "traces"): 1}

    assert run("drop", "--store", filled, "--service", "shop", "--yes").returncode == 0
    assert rows(filled) == {("other", "traces"): 1}


def test_what_was_exported_can_be_imported(filled: Path, tmp_path: Path) -> None:
    written = run("export", "--store", filled, "--from", "now-2h", tmp_path / "files")
    read = run("import", "--store", tmp_path / "new", tmp_path / "files")

    assert f"{tmp_path}/files/otel_traces.parquet" in written.stdout
    assert read.returncode == 0
    expected = {("shop", "traces"): 1, ("other", "traces"): 1, ("shop", "logs"): 1}
    assert rows(tmp_path / "new") == expected


def test_a_store_that_a_server_has_is_one_line(tmp_path: Path) -> None:
    with python(tmp_path / "store", "stay") as server:
        assert server.stdout
        assert server.stdin
        assert server.stdout.readline() == "open\n"

        done = run("sizes", "--store", tmp_path / "store")

        server.stdin.close()
        assert server.wait(60) == 0
    assert done.returncode == 7
    assert done.stderr.startswith(f"kernob: process {server.pid} has the store")
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["sizes"], 7, "there is no store at"),
        (["drop"], 2, "what to drop is not said: give --signal, --service or --before"),
        (["drop", "--before", "soon"], 2, "--before: 'soon' is no time"),
    ],
)
def test_mistakes_are_one_line(tmp_path: Path, arguments: list[str], code: int, said: str) -> None:
    done = run(*arguments, "--store", tmp_path / "none")

    assert done.returncode == code
    assert said in done.stderr
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "none").exists()
