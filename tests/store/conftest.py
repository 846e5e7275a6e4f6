"""A store of chDB in a folder of its own: one at a time in a process."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from kernob import config
from kernob.store.store import Store

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def settings(tmp_path: Path) -> config.Store:
    return config.Store(path=tmp_path / "store")


@pytest.fixture
def store(settings: config.Store) -> Iterator[Store]:
    opened = Store.open(settings)
    yield opened
    opened.close()
