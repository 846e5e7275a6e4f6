"""What both engines share of ClickHouse's language: errors, quoting, parameters, answers."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

import pyarrow as pa

from kernob.errors import (
    QueryCancelledError,
    QueryError,
    QueryLimitError,
    StoreDataError,
    StoreError,
    StoreFullError,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from kernob.store.engine import Limits, Source

_LONGEST: Final = 500
"""Characters of an error that are worth a line."""
_EXCEPTION: Final = re.compile(r"Code: (\d+)\. DB::Exception: (.*)")
# By their names in ClickHouse's src/Common/ErrorCodes.cpp.
_CANCELLED: Final = {394}  # QUERY_WAS_CANCELLED
_FULL: Final = {243}  # NOT_ENOUGH_SPACE
_LIMITS: Final = {158, 159, 241, 307, 396}  # TOO_MANY_*, TIMEOUT_EXCEEDED, MEMORY_LIMIT_EXCEEDED
_DATA: Final = {
    *(6, 25, 26, 27, 32, 33, 38, 41, 53, 69, 70, 72),  # CANNOT_PARSE_*, CANNOT_CONVERT_TYPE, ...
    *(117, 128, 131, 173, 190),  # INCORRECT_DATA, TOO_LARGE_*, CANNOT_ALLOCATE_MEMORY, SIZES_...
    *(321, 407, 436, 443, 444, 523),  # VALUE_IS_OUT_OF_RANGE, DECIMAL_OVERFLOW, PROTOBUF_*, ...
}


def error(problem: str, *, reading: bool = False) -> StoreError:
    """Returns our error for one of ClickHouse, with its first line.

    Args:
        problem: ClickHouse's text.
        reading: a query failed, not a write.
    """
    line = problem.strip().partition("\n")[0][:_LONGEST]
    match = _EXCEPTION.search(line)
    code = int(match[1]) if match else 0
    text = f"{match[2]} ({code})" if match else line
    if code in _CANCELLED:
        return QueryCancelledError("the query was cancelled")
    if code in _FULL or "No space left on device" in problem or "Disk quota exceeded" in problem:
        return StoreFullError("the store's disk is full", remedy="free space or lower retention")
    if reading and code in _LIMITS:
        return QueryLimitError(text, remedy="ask for less: a shorter range, fewer rows or columns")
    if reading:
        return QueryError(text)
    return StoreDataError(text) if code in _DATA else StoreError(text)


def quoted(text: str) -> str:
    """Returns a text as SQL's literal."""
    escaped = text.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"


def literal(value: object) -> str:
    """Returns a number, text or list of them as SQL's literal."""
    if isinstance(value, list | tuple):
        return f"[{', '.join(literal(item) for item in value)}]"
    return quoted(value) if isinstance(value, str) else str(value)


def parameters(values: Mapping[str, object]) -> dict[str, str]:
    """Returns query parameters as ClickHouse reads them: escaped text, lists as literals."""
    return {
        name: literal(value)
        if isinstance(value, list | tuple)
        else str(value).replace("\\", "\\\\").replace("\t", "\\t").replace("\n", "\\n")
        for name, value in values.items()
    }


def reading(limits: Limits) -> dict[str, object]:
    """Returns the settings of a query within limits."""
    return {
        "max_execution_time": limits.seconds,
        "max_memory_usage": limits.memory,
        "max_result_rows": limits.rows,
        "result_overflow_mode": "throw",
        # What a query makes into JSON is for browsers: their numbers have 53 bits.
        "output_format_json_quote_64bit_integers": 1,
        "enable_named_columns_in_function_tuple": 0,
        # chDB 26.5 hangs now and then when two threads encode an answer.
        "output_format_arrow_parallel_encoding": 0,
    }


def writing(source: Source) -> dict[str, object]:
    """Returns the settings of a statement over one protobuf message."""
    return {
        "format_schema_source": "string",
        "format_schema_message_name": source.message,
        "format_schema": source.schema,
        "output_format_arrow_parallel_encoding": 0,
        # Computing the exporter's bloom filters takes a sixth of an insert; merges do it.
        "materialize_skip_indexes_on_insert": 0,
        # A statement over one message has nothing to optimize, and is analysed each time.
        "query_plan_enable_optimizations": 0,
        # All or nothing: one block, and so one part for each day, whatever its size.
        "min_insert_block_size_rows": 1 << 32,
        "min_insert_block_size_bytes": 0,
        # What comes late may be of many days; times are checked before.
        "max_partitions_per_insert_block": 0,
    }


def table(stream: bytes | memoryview) -> pa.Table:
    """Returns the answer that ClickHouse gave in the format ArrowStream."""
    if not stream:
        return pa.table({})
    with pa.ipc.open_stream(stream) as batches:
        return batches.read_all()
