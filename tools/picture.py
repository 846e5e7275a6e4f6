# ruff: noqa: INP001 (a script, no package)
"""Draws the picture of `kernob top` for the README: runs it without a terminal, writes an SVG.

    .venv/bin/python tools/picture.py --agent http://127.0.0.1:9464 docs/top.svg

shows an agent that runs; from Python, `picture(source, path)` takes any source of tables.
"""

from __future__ import annotations

import argparse
import asyncio
import os
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from kernob.rates import metered
from kernob.top.app import TopApp
from kernob.top.columns import view_of
from kernob.top.remote import traffic_from_agent
from kernob.top.themes import DARK, LIGHT

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from kernob.traffic import Table


async def picture(
    source: Callable[[], Table],
    path: Path,
    *,
    seconds: float = 12.0,
    by: str = "process",
    keys: Iterable[str] = (),
    size: tuple[int, int] = (132, 28),
    light: bool = False,
) -> None:
    """Writes what `kernob top` shows of `source` after some seconds and keys to `path`."""
    os.environ.pop("NO_COLOR", None)
    app = TopApp(metered(source), view=view_of(by), theme=LIGHT if light else DARK)
    async with app.run_test(size=size) as pilot:
        await asyncio.sleep(seconds)
        await pilot.press(*keys)
        await pilot.pause()
        path.write_text(app.export_screenshot(title="kernob top"), encoding="utf-8")


def main() -> None:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("path", type=Path)
    parser.add_argument("--agent", default="http://127.0.0.1:9464", metavar="URL")
    parser.add_argument("--token", default="")
    parser.add_argument("--seconds", type=float, default=12.0)
    parser.add_argument("--by", default="process")
    parser.add_argument("--light", action="store_true")
    asked = parser.parse_args()
    source = partial(traffic_from_agent, asked.agent, asked.token)
    asyncio.run(picture(source, asked.path, seconds=asked.seconds, by=asked.by, light=asked.light))


if __name__ == "__main__":
    main()
