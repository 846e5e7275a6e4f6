"""SQL from outside: one SELECT and nothing beside it."""

from __future__ import annotations

import re
from typing import Final

from kernob.errors import QueryError

# Comments, and what stands in quotes; ClickHouse takes typographic quotes, too.
_QUIET: Final = re.compile(
    r"--[^\n]*|\#[ !][^\n]*|/\*.*?\*/"
    r"|'(?:[^'\\]|\\.|'')*'|\"(?:[^\"\\]|\\.|\"\")*\"|`(?:[^`\\]|\\.|``)*`",
    re.DOTALL,
)
_DOUBTFUL: Final = re.compile("['\"`;$\u2018\u2019\u201c\u201d]|/[*]|[*]/")
# Read-only queries may lift their own limits of time and memory.
_SETTINGS: Final = re.compile(r"\bSETTINGS\s+(?:\w+\s*,\s*)*\w*\s*=", re.IGNORECASE)
_LONGEST: Final = 64 << 10


def subquery(sql: str) -> str:
    """Returns a SELECT over what somebody asked for, so that it can't be anything but a SELECT.

    Raises:
        QueryError: it is no single SELECT: a `;`, or a bracket or quote without its twin.
    """
    if len(sql) > _LONGEST:
        raise QueryError(f"a query of at most {_LONGEST} characters is wanted")
    bare = _QUIET.sub(" ", sql.rstrip().removesuffix(";"))
    depth = 0
    for bracket in re.findall(r"[()]", bare):
        depth += 1 if bracket == "(" else -1
        if depth < 0:
            break
    doubtful = _DOUBTFUL.search(bare)
    if depth or doubtful:
        what = f"not {doubtful[0]}" if doubtful else "not brackets without their twins"
        raise QueryError(f"one SELECT is wanted, {what}")
    if _SETTINGS.search(bare):
        raise QueryError("a query without SETTINGS is wanted: its limits are the server's")
    if not re.match(r"\s*\(?\s*(SELECT|WITH)\b", bare, re.IGNORECASE):
        raise QueryError("a query that begins with SELECT or WITH is wanted")
    return f"SELECT * FROM (\n{sql.rstrip().removesuffix(';')}\n)"
