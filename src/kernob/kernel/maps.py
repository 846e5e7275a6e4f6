"""Maps of an object, read whole as numpy arrays.

A table's `read` fills buffers that it keeps: what it returns is valid until the next `read` of
the same table, so copy what must live longer. A table belongs to one thread at a time.

What a read of a changing hash shows: the kernel copies one bucket after the other, each whole and
under its lock, and a key always lies in the same bucket. So a key comes at most once; an entry
that exists from the beginning to the end of the read comes exactly once; one that is made or
deleted meanwhile comes or not. Each 64-bit counter of a value is whole, but two counters of one
value may be read on either side of an update (`__htab_map_lookup_and_delete_batch` in
kernel/bpf/hashtab.c, Linux 5.6 to 6.18).
"""

from __future__ import annotations

import ctypes
import enum
import errno
import mmap
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from kernob.errors import KernelError
from kernob.kernel import libbpf
from kernob.kernel.ring import Ring

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    from kernob.kernel.objects import Object
    from kernob.kernel.programs import Program

_MMAPABLE = 1 << 10  # BPF_F_MMAPABLE
# More than a bucket holds: with less room the kernel may refuse (ENOSPC) to copy even one.
_LEAST_ROOM = 1024


class MapType(enum.IntEnum):
    """Map types (enum bpf_map_type, linux/bpf.h) that this module reads."""

    HASH = 1
    ARRAY = 2
    PROG_ARRAY = 3
    PERCPU_HASH = 5
    PERCPU_ARRAY = 6
    LRU_HASH = 9
    LRU_PERCPU_HASH = 10
    QUEUE = 22
    RINGBUF = 27


_HASHES = (MapType.HASH, MapType.PERCPU_HASH, MapType.LRU_HASH, MapType.LRU_PERCPU_HASH)
_PER_CPU = (MapType.PERCPU_HASH, MapType.PERCPU_ARRAY, MapType.LRU_PERCPU_HASH)


class Map:
    """One map of an object: `Object.maps["flows"]`.

    Attributes:
        name: as in the C file.
        key: dtype of a key, from BTF; bytes (`V<n>`) if the map does not declare a type.
        value: dtype of a value, likewise.
    """

    def __init__(self, owner: Object, name: str, value: np.dtype[Any] | None = None) -> None:
        self._owner = owner
        self.name = name
        lib, pointer = libbpf.library(), self._pointer
        self.key = self._dtype(
            lib.bpf_map__btf_key_type_id(pointer), lib.bpf_map__key_size(pointer)
        )
        self.value = value or self._dtype(
            lib.bpf_map__btf_value_type_id(pointer), lib.bpf_map__value_size(pointer)
        )

    @property
    def _pointer(self) -> int:
        return self._owner.map_pointer(self.name)

    def _dtype(self, number: int, size: int) -> np.dtype[Any]:
        return self._owner.btf.dtype(number) if number else np.dtype(f"V{size}")

    @property
    def type(self) -> int:
        """The number of its type in enum bpf_map_type (linux/bpf.h)."""
        return int(libbpf.library().bpf_map__type(self._pointer))

    @property
    def flags(self) -> int:
        """Its flags (BPF_F_..., linux/bpf.h)."""
        return int(libbpf.library().bpf_map__map_flags(self._pointer))

    @property
    def max_entries(self) -> int:
        """How many entries it has room for; of a ring buffer, how many bytes."""
        return int(libbpf.library().bpf_map__max_entries(self._pointer))

    @property
    def fd(self) -> int:
        """Its file descriptor, which belongs to the object.

        Raises:
            KernelError: the object is not loaded, or closed.
        """
        found = libbpf.library().bpf_map__fd(self._pointer)
        if found < 0:
            raise KernelError(f"map {self.name} does not exist: its object is not loaded")
        return int(found)

    def resize(self, entries: int) -> None:
        """Sets `max_entries`, before the object is loaded.

        Raises:
            KernelError: the object is loaded, or the kernel can't make a map of this size.
        """
        self._owner.resize(self.name, entries)

    def memory(self) -> int:
        """Returns the bytes that the kernel keeps for it (exact from Linux 6.4, about before).

        Raises:
            KernelError: the object is not loaded.
        """
        text = Path(f"/proc/self/fdinfo/{self.fd}").read_text(encoding="ascii")
        fields = dict(line.split(":", 1) for line in text.splitlines())
        return int(fields["memlock"])

    def table(self) -> HashTable:
        """Returns a reader of a hash map, per CPU or not.

        Raises:
            KernelError: the map is no hash, or does not exist yet.
        """
        return HashTable(self)

    def array(self) -> ArrayTable:
        """Returns a reader of an array, per CPU or not.

        Raises:
            KernelError: the map is no array, or does not exist yet.
        """
        return ArrayTable(self)

    def mapped(self) -> NDArray[Any]:
        """Returns a BPF_F_MMAPABLE array as it is: memory shared with the kernel, no system call.

        Its shape is `(max_entries,)`. What programs count shows at once, and what is written
        here is seen by them. The memory outlives the object, until the last view of it is gone.

        Raises:
            KernelError: the map can't be mapped, or does not exist yet.
        """
        if self.type != MapType.ARRAY or not self.flags & _MMAPABLE:
            raise KernelError(f"map {self.name} is not an array with BPF_F_MMAPABLE")
        stride = _round_up(self.value.itemsize)
        length = stride * self.max_entries
        # A mapping has whole pages.
        size = -(-length // mmap.PAGESIZE) * mmap.PAGESIZE
        try:
            memory = mmap.mmap(self.fd, size)
        except OSError as exc:
            raise libbpf.error(exc.errno or 0, f"map {self.name} can't be mapped") from exc
        raw = np.frombuffer(memory, np.uint8, length).reshape(self.max_entries, stride)
        return _typed(raw, self.value)

    def push(self, values: NDArray[Any]) -> None:
        """Puts `values` (`(n,)`, of the map's dtype) at the end of a queue, in their order.

        Raises:
            KernelError: the map is no queue or full, or does not exist yet.
        """
        if self.type != MapType.QUEUE:
            raise KernelError(f"map {self.name} is not a queue")
        values = np.ascontiguousarray(values, self.value)
        for at in range(len(values)):
            code = libbpf.library().bpf_map_update_elem(
                self.fd, None, values[at : at + 1].ctypes.data, 0
            )
            libbpf.check(code, f"can't push to queue {self.name}")

    def chain(self, index: int, program: Program) -> None:
        """Has tail calls of `index` through this array of programs go to `program`.

        Raises:
            KernelError: the map holds no programs, or the kernel refused: the programs of one
                array must all be of the same hook.
        """
        if self.type != MapType.PROG_ARRAY:
            raise KernelError(f"map {self.name} is not an array of programs")
        key, value = np.array(index, np.uint32), np.array(program.fd, np.uint32)
        code = libbpf.library().bpf_map_update_elem(self.fd, key.ctypes.data, value.ctypes.data, 0)
        libbpf.check(code, f"can't put program {program.name} into {self.name}")

    def unchain(self, index: int) -> None:
        """Has tail calls of `index` through this array of programs go nowhere.

        Raises:
            KernelError: the kernel refused.
        """
        key = np.array(index, np.uint32)
        code = libbpf.library().bpf_map_delete_elem(self.fd, key.ctypes.data)
        if code != -errno.ENOENT:
            libbpf.check(code, f"can't take a program out of {self.name}")

    def ring(self, record: np.dtype[Any] | str) -> Ring:
        """Returns a reader of a ring buffer whose records are all `record`.

        `record` is a dtype, or the name of a struct in the object's BTF.

        Raises:
            KernelError: the map is no ring buffer, does not exist yet, or there is no such struct.
        """
        if self.type != MapType.RINGBUF:
            raise KernelError(f"map {self.name} is not a ring buffer")
        dtype = self._owner.btf.struct(record) if isinstance(record, str) else record
        return Ring(self.name, self.fd, self.max_entries, dtype)


class _Table:
    """What hashes and arrays share: buffers, whole reads in batches, single entries."""

    _types: tuple[MapType, ...]

    def __init__(self, map_: Map) -> None:
        if map_.type not in self._types:
            raise KernelError(f"map {map_.name} is none of {[t.name for t in self._types]}")
        self._map = map_
        self.key = map_.key
        self.value = map_.value
        self.cpus = libbpf.possible_cpus() if map_.type in _PER_CPU else 0
        # A per-CPU value is padded to 8 bytes for each possible CPU.
        self._shape = (
            (self.cpus, _round_up(self.value.itemsize)) if self.cpus else (self.value.itemsize,)
        )
        # Memory is only taken by what is written: the rest of a large buffer costs nothing.
        room = max(map_.max_entries, _LEAST_ROOM)
        self._keys = np.empty(room, self.key)
        self._values = np.empty((room, *self._shape), np.uint8)

    def get(self, key: ArrayLike) -> NDArray[Any] | None:
        """Returns the value of `key`, None without one; per CPU: an array `(cpus,)`.

        The value is a copy: an array of no dimensions, `int(...)` or `[...]["field"]` takes it
        apart. A key is a number, a tuple in the order of the fields, or one of the keys read.

        Raises:
            KernelError: the kernel refused.
        """
        wanted = np.asarray(key, self.key)
        raw = np.empty(self._shape, np.uint8)
        code = libbpf.library().bpf_map_lookup_elem(
            self._map.fd, wanted.ctypes.data, raw.ctypes.data
        )
        if code == -errno.ENOENT:
            return None
        libbpf.check(code, f"can't read map {self._map.name}")
        return _typed(raw, self.value)

    def put(self, key: ArrayLike, value: ArrayLike) -> None:
        """Sets the value of `key`, made if it is new; per CPU: the one value, or one for each.

        Raises:
            KernelError: the map is full, or the kernel refused.
        """
        wanted = np.asarray(key, self.key)
        raw = np.zeros(self._shape, np.uint8)
        _typed(raw, self.value)[...] = np.asarray(value, self.value)
        code = libbpf.library().bpf_map_update_elem(
            self._map.fd, wanted.ctypes.data, raw.ctypes.data, 0
        )
        libbpf.check(code, f"can't write map {self._map.name}")

    def _read(self) -> int:
        """Fills the buffers and returns how many entries there are."""
        lib, fd = libbpf.library(), self._map.fd
        # Where the kernel goes on: a bucket's number for a hash, a key for an array.
        position = np.zeros(max(8, self.key.itemsize), np.uint8)
        total, start = 0, None
        while True:
            room = len(self._keys) - total
            count = ctypes.c_uint32(room)
            code = lib.bpf_map_lookup_batch(
                fd,
                start,
                position.ctypes.data,
                self._keys[total:].ctypes.data,
                self._values[total:].ctypes.data,
                ctypes.byref(count),
                None,
            )
            if code != -errno.ENOSPC:
                if code != -errno.ENOENT:
                    libbpf.check(code, f"can't read map {self._map.name}")
                total, start = total + count.value, position.ctypes.data
                if code == -errno.ENOENT:
                    return total
            if len(self._keys) - total < _LEAST_ROOM:
                self._keys = _doubled(self._keys)
                self._values = _doubled(self._values)


class HashTable(_Table):
    """Reads and writes a hash map: HASH, LRU_HASH and their per-CPU kinds.

    Attributes:
        key: dtype of a key.
        value: dtype of a value.
        cpus: how many values each key has; 0: one, the map is not per CPU.
    """

    _types = _HASHES

    def read(self) -> tuple[NDArray[Any], NDArray[Any]]:
        """Returns all keys `(n,)` and their values `(n,)`, per CPU `(n, cpus)`.

        Both are views of the table's buffers, valid until the next `read`. In no order.

        Raises:
            KernelError: the kernel refused.
        """
        count = self._read()
        return self._keys[:count], _typed(self._values[:count], self.value)

    def delete(self, keys: ArrayLike) -> int:
        """Deletes one key or an array of keys; returns how many of them there were.

        Raises:
            KernelError: the kernel refused.
        """
        wanted = np.ascontiguousarray(np.atleast_1d(np.asarray(keys, self.key)))
        deleted, at = 0, 0
        while at < len(wanted):
            count = ctypes.c_uint32(len(wanted) - at)
            code = libbpf.library().bpf_map_delete_batch(
                self._map.fd, wanted[at:].ctypes.data, ctypes.byref(count), None
            )
            deleted += count.value
            if code == 0:
                break
            if code != -errno.ENOENT:
                libbpf.check(code, f"map {self._map.name}: can't delete")
            # The batch ends at a key that is not there: go on behind it.
            at += count.value + 1
        return deleted


class ArrayTable(_Table):
    """Reads and writes an array, ARRAY or PERCPU_ARRAY. The attributes are HashTable's."""

    _types = (MapType.ARRAY, MapType.PERCPU_ARRAY)

    def read(self) -> NDArray[Any]:
        """Returns all values `(max_entries,)`, per CPU `(max_entries, cpus)`.

        A view of the table's buffers, valid until the next `read`. Per CPU from Linux 5.13 on.

        Raises:
            KernelError: the kernel refused.
        """
        return _typed(self._values[: self._read()], self.value)


def _round_up(size: int) -> int:
    return -(-size // 8) * 8


def _typed(raw: NDArray[np.uint8], dtype: np.dtype[Any]) -> NDArray[Any]:
    """Returns the values at the head of each row of the last axis, an axis less; no copy."""
    return raw[..., : dtype.itemsize].view(dtype)[..., 0]


def _doubled(buffer: NDArray[Any]) -> NDArray[Any]:
    larger = np.empty((2 * len(buffer), *buffer.shape[1:]), buffer.dtype)
    larger[: len(buffer)] = buffer
    return larger
