"""Attribute values that ClickHouse's statements can't make texts of: Python does, before.

These are arrays, maps and bytes, and numbers so large or small that they are written with an
exponent. Few bodies hold any, so they are looked for with numpy over the whole body first; only
the messages around what was found are taken apart, and put together with the text in its place.
The texts are those of the Collector's `AsString` (pdata v1.55.0): JSON, base64, Go's numbers.
"""

from __future__ import annotations

import base64
import functools
import json
import math
from bisect import bisect_left
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from opentelemetry.proto.common.v1.common_pb2 import AnyValue

from kernob.store.engine import Signal

if TYPE_CHECKING:
    from numpy.typing import NDArray

Tree = dict[int, Any]
"""The messages inside a message, by the number of their field."""

_VALUE: Final[Tree] = {}
_ATTRIBUTE: Final[Tree] = {2: _VALUE}
_RESOURCE: Final[Tree] = {1: _ATTRIBUTE}
_SCOPE: Final[Tree] = {3: _ATTRIBUTE}
_EXEMPLAR: Final[Tree] = {7: _ATTRIBUTE}
_NUMBERS: Final[Tree] = {1: {7: _ATTRIBUTE, 5: _EXEMPLAR}}
_METRIC: Final[Tree] = {
    5: _NUMBERS,
    7: _NUMBERS,
    9: {1: {9: _ATTRIBUTE, 8: _EXEMPLAR}},
    10: {1: {1: _ATTRIBUTE, 11: _EXEMPLAR}},
    11: {1: {7: _ATTRIBUTE}},
}
_RECORDS: Final[dict[Signal, Tree]] = {
    Signal.METRICS: _METRIC,
    Signal.TRACES: {9: _ATTRIBUTE, 11: {3: _ATTRIBUTE}, 13: {4: _ATTRIBUTE}},
    Signal.LOGS: {5: _VALUE, 6: _ATTRIBUTE},
    Signal.PROFILES: {},
}
_REQUESTS: Final[dict[Signal, Tree]] = {
    signal: {1: {1: _RESOURCE, 2: {1: _SCOPE, 2: record}}} for signal, record in _RECORDS.items()
}

# Tags: a value inside an attribute and a log record's body, the nested kinds, a double.
_HOLDERS: Final = (0x12, 0x2A)
_NESTED: Final = (0x2A, 0x32, 0x3A)
_DOUBLE: Final = 0x21
_DOUBLE_SIZE: Final = 9
_LONGEST: Final = 5
"""Bytes of the varint of a length."""
_ROOM: Final = 16
_MORE: Final = 0x80
"""The bit of a varint's byte that says that another follows."""
_SMALLEST: Final = 1e-6
_LARGEST: Final = 1e21
"""Numbers from the one up to the other are written without an exponent (ECMAScript, and Go)."""


def to_text(signal: Signal, body: bytes) -> bytes:
    """Returns an export request without values that only Python can make texts of.

    Args:
        signal: what the request carries.
        body: the request, or several one after the other; well-formed.
    """
    places = candidates(body)
    if not places:
        return body
    return _Rewriter(body, places).message(0, len(body), _REQUESTS[signal])


def candidates(body: bytes) -> list[int]:
    """Returns where values may start that only Python can make texts of, in ascending order.

    None is missed: an AnyValue has one field, so its first byte is the field's tag, and before it
    stand its own length and its tag in the message around it. A few others may be in.
    """
    # Room on both sides, so that looking around needs no bounds.
    padded = bytes(_ROOM) + body + bytes(_ROOM)
    data = np.frombuffer(padded, np.uint8)
    nested = np.flatnonzero((data == _NESTED[0]) | (data == _NESTED[1]) | (data == _NESTED[2]))
    nested = nested[data[nested - 1] < _MORE]
    short = (data[nested - 1] == data[nested + 1] + 2) & _holder(data[nested - 2])
    found = [nested[short]]
    for size in range(2, _LONGEST + 1):
        nested = nested[data[nested - size] >= _MORE]
        held = nested[_holder(data[nested - size - 1])].tolist()
        found.append(np.array([at for at in held if _fits(padded, at, size)], np.intp))
    doubles = np.flatnonzero(data == _DOUBLE)
    doubles = doubles[(data[doubles - 1] == _DOUBLE_SIZE) & _holder(data[doubles - 2])]
    values = np.abs(data[doubles[:, None] + np.arange(1, _DOUBLE_SIZE)].view("<f8").ravel())
    plain = (values == 0) | ((values >= _SMALLEST) & (values < _LARGEST))
    found.append(doubles[~plain])
    places: list[int] = (np.sort(np.concatenate(found)) - _ROOM).tolist()
    return places


def _holder(tags: NDArray[np.uint8]) -> NDArray[np.bool_]:
    return np.isin(tags, _HOLDERS)


def _fits(data: bytes, at: int, size: int) -> bool:
    """Returns whether the length before a nested value's tag, `size` bytes, is the value's."""
    outer, _ = varint(data, at - size)
    inner, content = varint(data, at + 1)
    return content + inner == at + outer


class _Rewriter:
    """Takes messages apart where a candidate is in them."""

    def __init__(self, body: bytes, places: list[int]) -> None:
        self._body = body
        self._places = places

    def message(self, start: int, end: int, tree: Tree) -> bytes:
        """Returns the message that is the body's bytes from start to end."""
        body = self._body
        parts: list[bytes] = []
        copied = at = start
        while at < end:
            tag, content = varint(body, at)
            kind = tag & 7
            if kind == 0:
                _, at = varint(body, content)
            elif kind == 2:  # noqa: PLR2004  (wire types of protobuf)
                tag_end = content
                size, content = varint(body, content)
                at = content + size
                child = tree.get(tag >> 3)
                if child is not None and self._any(content, at):
                    inner = (
                        _plain(body[content:at])
                        if child is _VALUE
                        else self.message(content, at, child)
                    )
                    parts += (body[copied:tag_end], to_varint(len(inner)), inner)
                    copied = at
            else:
                at = content + {1: 8, 5: 4}.get(kind, 0)
        parts.append(body[copied:end])
        return b"".join(parts)

    def _any(self, start: int, end: int) -> bool:
        index = bisect_left(self._places, start)
        return index < len(self._places) and self._places[index] < end


def varint(data: bytes, at: int) -> tuple[int, int]:
    """Returns a varint and where it ends."""
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < _MORE:
            return value, at
        shift += 7


def to_varint(value: int) -> bytes:
    """Returns a number as varint."""
    parts = bytearray()
    while value >= _MORE:
        parts.append(value & 0x7F | _MORE)
        value >>= 7
    parts.append(value)
    return bytes(parts)


# Most nested values are the same in each request of a process: its command line, for one.
@functools.lru_cache(maxsize=1024)
def _plain(encoded: bytes) -> bytes:
    """Returns an AnyValue of a string in place of any other."""
    value = AnyValue.FromString(encoded)
    return bytes(AnyValue(string_value=text(value)).SerializeToString())


def text(value: AnyValue) -> str:
    """Returns a value as the Collector's `AsString` writes it."""
    kind = value.WhichOneof("value")
    if kind == "string_value":
        return str(value.string_value)
    if kind == "bytes_value":
        return base64.b64encode(value.bytes_value).decode()
    if kind == "double_value" and not math.isfinite(value.double_value):
        return f"json: unsupported value: {_infinite(value.double_value)}"
    try:
        return "" if kind is None else _json(value)
    except ValueError:  # JSON has neither infinity nor NaN: the Collector writes nothing.
        return ""


def _json(value: AnyValue) -> str:
    """Returns JSON as Go's encoding/json writes it.

    Raises:
        ValueError: a number in it isn't finite.
    """
    kind = value.WhichOneof("value")
    if kind == "array_value":
        return f"[{','.join(_json(item) for item in value.array_value.values)}]"
    if kind == "kvlist_value":
        entries = {entry.key: entry.value for entry in value.kvlist_value.values}
        fields = (f"{_string(key)}:{_json(entries[key])}" for key in sorted(entries))
        return f"{{{','.join(fields)}}}"
    if kind == "double_value":
        return _number(value.double_value)
    if kind in ("bytes_value", "string_value"):
        return _string(text(value))
    if kind == "bool_value":
        return "true" if value.bool_value else "false"
    return str(value.int_value) if kind == "int_value" else "null"


_ESCAPES: Final = str.maketrans(
    {char: f"\\u{ord(char):04x}" for char in ("<", ">", "&", "\u2028", "\u2029")}
)


def _string(content: str) -> str:
    return json.dumps(content, ensure_ascii=False).translate(_ESCAPES)


def _number(value: float) -> str:
    if not math.isfinite(value):
        raise ValueError(value)
    size = abs(value)
    if size and not _SMALLEST <= size < _LARGEST:
        digits, _, exponent = repr(value).partition("e")
        return f"{digits}e{exponent[0]}{exponent[1:].lstrip('0')}"
    plain = format(Decimal(repr(value)), "f")
    return plain.removesuffix(".0")


def _infinite(value: float) -> str:
    return "NaN" if math.isnan(value) else f"{value:+}".replace("inf", "Inf")
