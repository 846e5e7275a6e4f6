"""chDB as a store: one process, a full disk, a sudden death, little memory."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest

from kernob import config
from kernob.errors import StoreBusyError, StoreError, StoreFullError
from kernob.store import embedded
from kernob.store.engine import Signal
from kernob.store.store import Store
from store.otlp import one, traces

TESTS = Path(__file__).parent.parent
START = """
    import sys
    from pathlib import Path
    sys.path.insert(0, {tests!r})
    from kernob import config
    from kernob.store.engine import Signal
    from kernob.store.store import Store
    from store.otlp import *
    store = Store.open(config.Store(path=Path(sys.argv[1])))
"""


def _child(folder: Path, code: str, cwd: Path | None = None) -> subprocess.Popen[str]:
    start = textwrap.dedent(START.format(tests=str(TESTS)))
    return subprocess.Popen(
        [sys.executable, "-c", start + textwrap.dedent(code), str(folder)],
        cwd=cwd,
        stdout=subprocess.PIPE,
        text=True,
    )


def _line(child: subprocess.Popen[str]) -> str:
    assert child.stdout is not None
    return child.stdout.readline().strip()


def test_a_second_process_is_told_who_holds_the_store(tmp_path: Path) -> None:
    settings = config.Store(path=tmp_path)
    with _child(tmp_path, "print('open', flush=True); input()") as child:
        child_stdin = child
        assert _line(child) == "open"

        with pytest.raises(StoreBusyError) as caught:
            Store.open(settings)

        child_stdin.kill()
    assert str(caught.value) == (
        f"process {child.pid} has the store {tmp_path} open: stop it, or choose another store.path"
    )
    # With the process its lock is gone.
    Store.open(settings).close()


def test_what_was_acknowledged_survives_a_kill(tmp_path: Path) -> None:
    writing = """
        import os, threading
        def work(first):
            for n in range(first, 10**6, 2):
                store.write(Signal.METRICS, [sums({"as_int": n}, {"as_int": n}, name=f"m{n}")])
                os.write(1, b"%d\\n" % n)  # At once, whatever the other thread says.
        for first in (0, 1):
            threading.Thread(target=work, args=(first,)).start()
    """
    acknowledged: set[int] = set()
    for _ in range(2):
        with _child(tmp_path, writing) as child:
            for _ in range(20):
                acknowledged.add(int(_line(child)))
            os.kill(child.pid, signal.SIGKILL)
            # What it said before it died was acknowledged, too; its last line may be cut.
            rest = child.communicate()[0].split("\n")[:-1]
            acknowledged.update(int(line) for line in rest)

    store = Store.open(config.Store(path=tmp_path))
    try:
        for table in ("otel.otel_metrics_sum", "otel.kernob_points", "otel.kernob_series"):
            sql = f"SELECT groupUniqArray(toUInt64(substring(MetricName, 2))) FROM {table}"
            assert acknowledged <= set(one(store, sql))
        # Each time the two first numbers came again, and at most one more of each thread.
        extra = one(store, "SELECT count() FROM otel.otel_metrics_sum") - 2 * len(acknowledged)
        assert extra >= 0
    finally:
        store.close()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", str(folder)],
        capture_output=True,
        check=False,
    )
    if mounted.returncode:
        pytest.skip("mounting a tmpfs needs root")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def _fill(file: Path) -> None:
    with file.open("wb", buffering=0) as ballast, contextlib.suppress(OSError):
        while True:
            ballast.write(bytes(4096))


def test_a_full_disk_is_said_and_space_is_all_it_takes(small_disk: Path) -> None:
    ballast = small_disk / "ballast"
    store = Store.open(config.Store(path=small_disk / "store"))
    try:
        store.write(Signal.TRACES, [traces({})])
        _fill(ballast)
        # Another one that does not compress.
        noise = [{"trace_id": os.urandom(16), "name": os.urandom(30).hex()} for _ in range(2000)]
        body = traces(*noise)

        for _ in range(3):
            with pytest.raises(StoreFullError):
                store.write(Signal.TRACES, [body])
        assert one(store, "SELECT count() FROM otel.otel_traces") == 1

        ballast.unlink()
        store.write(Signal.TRACES, [body])

        assert one(store, "SELECT count() FROM otel.otel_traces") == 2001
    finally:
        ballast.unlink(missing_ok=True)
        store.close()


def test_memory_at_rest(tmp_path: Path) -> None:
    code = """
        body = sums(*({"as_int": n, "attributes": attributes({"n": str(n)})} for n in range(20000)))
        for _ in range(10):
            store.write(Signal.METRICS, [body])
        store.engine.release_memory()
        for line in open("/proc/self/status"):
            if line.startswith("VmRSS"):
                print(int(line.split()[1]) // 1024, flush=True)
        store.close()
    """
    with _child(tmp_path, code) as child:
        assert int(_line(child)) < 330


def test_bodies_leave_no_file_and_nothing_is_written_beside_the_store(tmp_path: Path) -> None:
    code = """
        import os
        store.write(Signal.METRICS, [sums({"as_int": 1})])
        links = [f"/proc/self/fd/{name}" for name in os.listdir("/proc/self/fd")]
        files = [os.readlink(link) for link in links if os.path.exists(link)]
        print(len([file for file in files if "memfd:kernob" in file]), flush=True)
        store.close()
    """
    before = set(Path("/dev/shm").iterdir())

    with _child(tmp_path / "store", code, cwd=tmp_path) as child:
        assert _line(child) == "0"

    assert set(Path("/dev/shm").iterdir()) == before
    assert [file.name for file in tmp_path.iterdir()] == ["store"]


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")

    with pytest.raises(StoreError, match=r"choose another store\.path"):
        Store.open(config.Store(path=tmp_path / "file" / "store"))


def test_the_usual_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(embedded, "SYSTEM_FOLDER", tmp_path / "var" / "store")
    assert embedded.default_folder() == tmp_path / "var" / "store"

    (tmp_path / "file").write_text("x")
    monkeypatch.setattr(embedded, "SYSTEM_FOLDER", tmp_path / "file" / "store")
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    assert embedded.default_folder() == tmp_path / "data" / "kernob" / "store"
    monkeypatch.delenv("XDG_DATA_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert embedded.default_folder() == tmp_path / ".local" / "share" / "kernob" / "store"
