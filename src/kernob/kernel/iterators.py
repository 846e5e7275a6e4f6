"""BPF iterators: programs that the kernel runs over all its objects of a kind, on each reading."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import numpy as np

from kernob.errors import KernelError
from kernob.kernel import libbpf
from kernob.kernel.links import Link

if TYPE_CHECKING:
    from numpy.typing import NDArray

_CHUNK = 65536


class Iterator(Link):
    """An attached iterator: attach once, read as often as you like."""

    def __init__(self, pointer: int, name: str) -> None:
        super().__init__(pointer)
        self._name = name

    def read(self) -> bytes:
        """Runs the program over every object and returns all that it wrote.

        Objects that come or go meanwhile are seen or not, as with /proc.

        Raises:
            KernelError: the kernel refused, or one object's output is more than its buffer.
        """
        what = f"can't read iterator {self._name}"
        fd = libbpf.check(libbpf.library().bpf_iter_create(self.fd), what)
        chunks: list[bytes] = []
        try:
            while True:
                try:
                    chunk = os.read(fd, _CHUNK)
                except BlockingIOError:
                    # A million objects in a row wrote nothing; the next read goes on from there.
                    continue
                if not chunk:
                    break
                chunks.append(chunk)
        except OSError as exc:
            raise libbpf.error(exc.errno or 0, what) from exc
        finally:
            os.close(fd)
        return b"".join(chunks)

    def records(self, record: np.dtype[Any]) -> NDArray[Any]:
        """Runs the program and returns what it wrote as records `(n,)`, read-only.

        Raises:
            KernelError: as `read`, or what it wrote is not whole records.
        """
        data = self.read()
        if len(data) % record.itemsize:
            raise KernelError(f"iterator {self._name} wrote other records than {record}")
        return np.frombuffer(data, record)
