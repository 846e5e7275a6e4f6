"""The types of an object file, read from its BTF, as numpy dtypes: no struct is written twice.

How C becomes numpy:

- a struct: a structured dtype with the offsets and the size that the compiler gave it;
- a union: a structured dtype whose fields all lie at offset 0;
- an anonymous struct or union inside another: its fields, at their place, in the outer one;
- an array: a subarray; of `char`: a byte string `S<n>` (reading cuts trailing NULs);
- an enum, a pointer, an integer, a float, a bool: the number of that size;
- an integer of 128 bits: `V16`. A bit-field has no dtype: `KernelError`.

Source: Documentation/bpf/btf.rst, Linux 6.12.
"""

from __future__ import annotations

import enum
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from kernob.errors import KernelError

if TYPE_CHECKING:
    from collections.abc import Iterator

_MAGIC = 0xEB9F
_HEADER: Final = struct.Struct("<HBBIIIII")
_TYPE: Final = struct.Struct("<III")
_WIDEST_INTEGER = 8


class _Kind(enum.IntEnum):
    VOID = 0
    INT = 1
    POINTER = 2
    ARRAY = 3
    STRUCT = 4
    UNION = 5
    ENUM = 6
    FORWARD = 7
    TYPEDEF = 8
    VOLATILE = 9
    CONST = 10
    RESTRICT = 11
    FUNCTION = 12
    PROTOTYPE = 13
    VARIABLE = 14
    SECTION = 15
    FLOAT = 16
    DECLARATION_TAG = 17
    TYPE_TAG = 18
    ENUM64 = 19


# What follows a type of this kind: 32-bit words, and more of them for each member.
_TAIL: Final = {
    _Kind.INT: (1, 0),
    _Kind.ARRAY: (3, 0),
    _Kind.STRUCT: (0, 3),
    _Kind.UNION: (0, 3),
    _Kind.ENUM: (0, 2),
    _Kind.PROTOTYPE: (0, 2),
    _Kind.VARIABLE: (1, 0),
    _Kind.SECTION: (0, 3),
    _Kind.DECLARATION_TAG: (1, 0),
    _Kind.ENUM64: (0, 3),
}
_TRANSPARENT: Final = frozenset(
    {
        *(_Kind.TYPEDEF, _Kind.VOLATILE, _Kind.CONST, _Kind.RESTRICT),
        *(_Kind.TYPE_TAG, _Kind.VARIABLE),
    }
)
_INT_SIGNED, _INT_BOOL = 1, 4


@dataclass(frozen=True, slots=True)
class _Type:
    kind: _Kind
    name: str
    flag: bool
    size_or_type: int
    tail: tuple[int, ...]


class Btf:
    """The types of one object file; of `data`, the bytes of a BTF blob.

    Raises:
        KernelError: `data` is no BTF, or has a kind of type that came after Linux 6.12.
    """

    def __init__(self, data: bytes) -> None:
        self._types, self._strings = _parse(data)
        self._dtypes: dict[int, np.dtype[Any]] = {}

    def struct(self, name: str) -> np.dtype[Any]:
        """Returns the dtype of the struct, union or typedef `name`.

        The compiler only describes types that something in the C file uses.

        Raises:
            KernelError: there is no such type, or it has no dtype.
        """
        for number, kind in enumerate(self._types):
            if kind.name == name and kind.kind in (_Kind.STRUCT, _Kind.UNION, _Kind.TYPEDEF):
                return self.dtype(number)
        raise KernelError(f"no struct {name} in the object's BTF")

    def section(self, name: str) -> np.dtype[Any]:
        """Returns the dtype of the data section `name`, a field a variable; empty without it."""
        for number, kind in enumerate(self._types):
            if kind.name == name and kind.kind is _Kind.SECTION:
                return self.dtype(number)
        return _structured({}, 0)

    def dtype(self, number: int) -> np.dtype[Any]:
        """Returns the dtype of the type with this number.

        Raises:
            KernelError: the type has none.
        """
        found = self._dtypes.get(number)
        if found is None:
            found = self._dtypes[number] = self._make(number)
        return found

    def _make(self, number: int) -> np.dtype[Any]:  # noqa: PLR0911 (one return a kind)
        kind = self._types[number]
        if kind.kind in _TRANSPARENT:
            return self.dtype(kind.size_or_type)
        match kind.kind:
            case _Kind.INT:
                return _integer(kind)
            case _Kind.POINTER:
                return np.dtype(np.uint64)
            case _Kind.ENUM | _Kind.ENUM64:
                return np.dtype(f"{'i' if kind.flag else 'u'}{kind.size_or_type}")
            case _Kind.FLOAT:
                return np.dtype(f"f{kind.size_or_type}")
            case _Kind.ARRAY:
                return self._array(kind)
            case _Kind.STRUCT | _Kind.UNION:
                return _structured(self._members(kind), kind.size_or_type)
            case _Kind.SECTION:
                return _structured(self._variables(kind), kind.size_or_type)
        raise KernelError(f"BTF type {kind.name or number} ({kind.kind.name}) has no size")

    def _array(self, kind: _Type) -> np.dtype[Any]:
        element, _, count = kind.tail
        if self._is_char(element) and count:
            return np.dtype(f"S{count}")
        return np.dtype((self.dtype(element), (count,)))

    def _is_char(self, number: int) -> bool:
        while self._types[number].kind in _TRANSPARENT:
            number = self._types[number].size_or_type
        return self._types[number].kind is _Kind.INT and self._types[number].name == "char"

    def _members(self, kind: _Type) -> dict[str, tuple[np.dtype[Any], int]]:
        fields: dict[str, tuple[np.dtype[Any], int]] = {}
        for label, number, place in _triples(kind):
            name = _text(self._strings, label)
            bits, start = (place >> 24, place & 0xFFFFFF) if kind.flag else (0, place)
            if bits or start % 8:
                raise KernelError(f"{kind.name}.{name} is a bit-field: numpy has no dtype for it")
            dtype, offset = self.dtype(number), start // 8
            if name:
                fields[name] = dtype, offset
            else:
                for inner, field in (dtype.fields or {}).items():
                    fields[inner] = field[0], field[1] + offset
        return fields

    def _variables(self, kind: _Type) -> dict[str, tuple[np.dtype[Any], int]]:
        return {
            self._types[number].name: (self.dtype(number), offset)
            for number, offset, _ in _triples(kind)
        }


def _triples(kind: _Type) -> Iterator[tuple[int, int, int]]:
    words = iter(kind.tail)
    return zip(words, words, words, strict=True)


def _integer(kind: _Type) -> np.dtype[Any]:
    size, encoding = kind.size_or_type, kind.tail[0] >> 24
    if kind.tail[0] & 0xFF != size * 8:
        raise KernelError(f"{kind.name} is a bit-field: numpy has no dtype for it")
    if encoding & _INT_BOOL:
        return np.dtype(np.bool_)
    if size > _WIDEST_INTEGER:
        return np.dtype(f"V{size}")
    return np.dtype(f"{'i' if encoding & _INT_SIGNED else 'u'}{size}")


def _structured(fields: dict[str, tuple[np.dtype[Any], int]], size: int) -> np.dtype[Any]:
    return np.dtype(
        {
            "names": list(fields),
            "formats": [dtype for dtype, _ in fields.values()],
            "offsets": [offset for _, offset in fields.values()],
            "itemsize": size,
        }
    )


def _text(strings: bytes, start: int) -> str:
    return strings[start : strings.index(b"\0", start)].decode()


def _parse(data: bytes) -> tuple[list[_Type], bytes]:
    if len(data) < _HEADER.size or _HEADER.unpack_from(data)[0] != _MAGIC:
        raise KernelError("the object has no BTF of this machine's byte order")
    _, _, _, head, types_at, types_length, strings_at, strings_length = _HEADER.unpack_from(data)
    strings = data[head + strings_at : head + strings_at + strings_length]
    types = [_Type(_Kind.VOID, "void", flag=False, size_or_type=0, tail=())]
    at, end = head + types_at, head + types_at + types_length
    while at < end:
        label, info, size_or_type = _TYPE.unpack_from(data, at)
        number = info >> 24 & 0x1F
        try:
            kind = _Kind(number)
        except ValueError as exc:
            raise KernelError(f"BTF kind {number} is newer than this program") from exc
        fixed, per_member = _TAIL.get(kind, (0, 0))
        words = fixed + per_member * (info & 0xFFFF)
        tail = struct.unpack_from(f"<{words}I", data, at + _TYPE.size)
        name, flag = _text(strings, label), bool(info >> 31)
        types.append(_Type(kind, name, flag, size_or_type, tail))
        at += _TYPE.size + 4 * words
    return types, strings
