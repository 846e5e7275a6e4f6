"""Where more of Kernob is installed from; `test_wheel.py` has pip read what it says."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest

from kernob import installed


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("", ["kernob[server]"]),
        (
            '{"url": "file:///a%20b", "dir_info": {"editable": true}}',
            ["--editable", "/a b[server]"],
        ),
        ('{"url": "file:///a", "dir_info": {}}', ["/a[server]"]),
        (
            '{"url": "https://e.example/k.git", "vcs_info": {"vcs": "git", "commit_id": "c0"}}',
            ["kernob[server] @ git+https://e.example/k.git@c0"],
        ),
    ],
)
def test_an_extra_comes_from_where_it_came(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, written: str, expected: list[str]
) -> None:
    folder = tmp_path / "kernob-0.1.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text("Name: kernob\nVersion: 0.1\n")
    if written:
        (folder / "direct_url.json").write_text(written)
    monkeypatch.syspath_prepend(tmp_path)

    assert shlex.split(installed.command("server"))[4:] == expected
