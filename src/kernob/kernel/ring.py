"""Ring buffers, read as one numpy array: no callback, no system call, no step per record.

The kernel writes `{u32 length; u32 page_offset}` and the record, rounded up to 8 bytes; bit 31 of
the length says that the record is not complete, bit 30 that it was discarded. The positions only
grow; the data is mapped twice in a row, so what wraps reads as one piece (kernel/bpf/ringbuf.c,
since Linux 5.8). A full ring refuses new records, and only the program that asked knows: it has
to count them.
"""

from __future__ import annotations

import mmap
import threading
from typing import TYPE_CHECKING, Any

import numpy as np

from kernob.errors import KernelError
from kernob.kernel import libbpf

if TYPE_CHECKING:
    from numpy.typing import NDArray

_BUSY = np.uint32(1 << 31)
_DISCARDED = np.uint32(1 << 30)
_LENGTH = np.uint32((1 << 30) - 1)
_HEAD = 8


class Ring:
    """The reader of a ring buffer that holds one type of record. One thread at a time."""

    def __init__(self, name: str, fd: int, size: int, record: np.dtype[Any]) -> None:
        self.name = name
        self.record = record
        self.size = size
        page = mmap.PAGESIZE
        try:
            consumer = mmap.mmap(fd, page)
            producer = mmap.mmap(fd, page + 2 * size, prot=mmap.PROT_READ, offset=page)
        except OSError as exc:
            raise libbpf.error(exc.errno or 0, f"ring {name} can't be mapped") from exc
        self._consumed: NDArray[np.uint64] = np.frombuffer(consumer, np.uint64, 1)
        self._produced: NDArray[np.uint64] = np.frombuffer(producer, np.uint64, 1)
        self._data: NDArray[np.uint8] = np.frombuffer(producer, np.uint8, offset=page)
        self._stride = _HEAD + -(-record.itemsize // 8) * 8
        self._slot = np.dtype(
            {
                "names": ["length", "record"],
                "formats": [np.uint32, record],
                "offsets": [0, _HEAD],
                "itemsize": self._stride,
            }
        )
        self._lock = threading.Lock()
        self._lock.acquire()

    def backlog(self) -> int:
        """Returns how many bytes wait to be read, of `size`."""
        return int(self._produced[0]) - int(self._consumed[0])

    def read(self) -> NDArray[Any]:
        """Returns the complete records since the last read, `(n,)`, and frees their room.

        The array is a copy and the caller's own. A record that a program is still writing, and
        all behind it, come with a later read; discarded ones never do.

        Raises:
            KernelError: a record is not of the size of `record`.
        """
        start, end = int(self._consumed[0]), int(self._produced[0])
        self._barrier()
        at, count = start % self.size, (end - start) // self._stride
        slots = self._data[at : at + count * self._stride].view(self._slot)
        lengths = slots["length"].copy()
        busy = (lengths & _BUSY).nonzero()[0]
        if len(busy):
            count = int(busy[0])
        self._barrier()
        lengths = lengths[:count]
        if ((lengths & _LENGTH) != self.record.itemsize).any():
            raise KernelError(f"ring {self.name} holds other records than {self.record}")
        kept = (lengths & _DISCARDED) == 0
        slots = slots[:count]
        records = slots.copy() if kept.all() else slots[kept]
        self._barrier()
        self._consumed[0] = start + count * self._stride
        return records["record"]

    def _barrier(self) -> None:
        """Orders the memory accesses before it and after it, as arm64 does not by itself.

        Releasing a lock orders what was before, taking it what comes after, and the two are not
        swapped: that is a full barrier, and the only one that Python has.
        """
        self._lock.release()
        self._lock.acquire()
