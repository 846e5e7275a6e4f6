"""One store of chDB for the tests of a file: each of them has names of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from kernob import config
from kernob.store.store import Store

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    opened = Store.open(config.Store(path=tmp_path_factory.mktemp("store")))
    yield opened
    opened.close()
