"""SQL that people write: its answer as JSON, made by ClickHouse and not row by row in Python."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

import msgspec

from kernob.store import guard

if TYPE_CHECKING:
    from collections.abc import Callable

    import pyarrow as pa

_BEFORE: Final = "toTypeName(any("
_AFTER: Final = "))"


def answer(ask: Callable[[str], pa.Table], query: str, limit: int) -> bytes:
    """Returns the answer to one SELECT as the JSON of `model.Table`.

    Rows are arrays in the order of the columns; whole numbers of 64 bits are texts, since those of
    JavaScript have 53; times are texts as ClickHouse writes them.

    Args:
        ask: answers one SELECT within limits, and refuses all else.
        query: SQL.
        limit: rows at most; what exceeds it is left off, and said.

    Raises:
        QueryError: the query is no single SELECT, is wrong, or wants too much.
    """
    began = time.perf_counter()
    inner = guard.subquery(query)
    types = ask(f"SELECT * APPLY(any) APPLY(toTypeName) FROM (SELECT * FROM (\n{inner}\n) LIMIT 0)")
    found = ask(f"SELECT toJSONString(tuple(*)) AS row FROM (\n{inner}\n) LIMIT {limit + 1}")
    rows = found.column("row").cast("binary").to_pylist() if found.num_rows else []
    names = [name.removeprefix(_BEFORE).removesuffix(_AFTER) for name in types.column_names]
    head = {
        "columns": names,
        "types": [column[0].as_py() for column in types.columns],
        "truncated": len(rows) > limit,
        "seconds": round(time.perf_counter() - began, 6),
    }
    # Texts in the store may be any bytes, JSON may not.
    texts = b",".join(rows[:limit]).decode("utf-8", "replace").encode()
    return msgspec.json.encode(head)[:-1] + b',"rows":[' + texts + b"]}"
