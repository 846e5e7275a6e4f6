"""Object files: opened from memory, configured, loaded with every program optional.

    with read("network") as network:
        network.set_constants(peers_per_server=64)
        network.maps["flows"].resize(65536)
        network.load()
        network.programs["send_length"].attach()
        keys, values = network.maps["flows"].table().read()

libbpf loads an object as a whole or not at all. So when the kernel refuses a program, `load` notes
why, opens the object anew and loads it without that program. Where the kernel still counts maps as
locked memory (before 5.11), libbpf lifts RLIMIT_MEMLOCK itself, after trying.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib.resources
import re
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from kernob.errors import KernelError
from kernob.kernel import libbpf
from kernob.kernel.btf import Btf
from kernob.kernel.maps import Map
from kernob.kernel.programs import Program

if TYPE_CHECKING:
    from collections.abc import Iterable
    from types import TracebackType

    from numpy.typing import ArrayLike, NDArray

    from kernob.kernel.links import Link

_LOG_LINES = 12
_CONSTANTS = ".rodata"
_VARIABLES = (".bss", ".data")


def read(name: str) -> Object:
    """Opens the compiled object of this package, such as `network` of bpf/network.bpf.c.

    Raises:
        KernelError: it is not there (a source tree that is not built), or can't be opened.
    """
    resource = importlib.resources.files("kernob.bpf").joinpath(f"{name}.bpf.o")
    try:
        data = resource.read_bytes()
    except FileNotFoundError as exc:
        raise KernelError(
            f"there is no compiled object {name}", remedy="run `make setup` in a source tree"
        ) from exc
    return Object.open(data, name)


class Object:
    """One object file, and what it has in the kernel. A context manager; not for two threads.

    Attributes:
        name: what the kernel's names of its data sections begin with.
        btf: its types.
        programs: by name, in the order of the file.
        maps: by name, without the data sections.
        failures: why a program is not in the kernel, by its name: the kernel's reason and the
            last lines of the verifier's log. Filled by `load`.
    """

    def __init__(self, data: bytes, name: str) -> None:
        self.name = name
        self._data = data
        self._handle: int | None = None
        self._loaded = False
        self._constants: dict[str, NDArray[Any]] = {}
        self._sizes: dict[str, int] = {}
        self._shared: dict[str, Map] = {}
        self._switches: dict[str, bool] = {}
        self._links: list[Link] = []
        self._variables: dict[str, NDArray[Any]] | None = None
        self.failures: dict[str, str] = {}
        self._open()
        try:
            self.btf = Btf(self._read_btf())
            self.programs = {name: Program(self, name) for name in self._program_names()}
            self.maps = {name: Map(self, name) for name in self._map_names()}
        except KernelError:
            self._close_handle()
            raise

    @classmethod
    def open(cls, data: bytes, name: str) -> Self:
        """Returns the object made of the bytes of an object file; nothing is loaded yet.

        Raises:
            KernelError: libbpf is missing, or can't read the file.
        """
        return cls(data, name)

    def set_constants(self, **values: ArrayLike) -> None:
        """Sets variables that the C file declares `const volatile`, before the load.

        Raises:
            KernelError: there is no such variable, the value does not fit, or it is too late.
        """
        self._not_loaded_yet()
        section = self.btf.section(_CONSTANTS)
        for name, value in values.items():
            if name not in (section.names or ()):
                raise KernelError(f"object {self.name} has no constant {name}")
            dtype = section[name]
            try:
                self._constants[name] = np.broadcast_to(np.array(value, dtype.base), dtype.shape)
            except (OverflowError, TypeError, ValueError) as exc:
                raise KernelError(f"constant {name} can't be {value!r}: {exc}") from exc

    def resize(self, name: str, entries: int) -> None:
        """Sets how many entries the map `name` has room for, before the load.

        Raises:
            KernelError: there is no such map, or it is too late.
        """
        self._not_loaded_yet()
        self.map_pointer(name)
        self._sizes[name] = entries

    def share(self, other: Map) -> None:
        """Has this object's map of the same name be `other`, a map of a loaded object.

        Raises:
            KernelError: there is no such map here, it is of another shape, or it is too late.
        """
        self._not_loaded_yet()
        own = self.maps.get(other.name)
        if own is None:
            raise KernelError(f"object {self.name} has no map {other.name}")
        if (own.type, own.key, own.value) != (other.type, other.key, other.value):
            raise KernelError(f"map {other.name} of object {self.name} has other types")
        self._shared[other.name] = other

    def disable(self, *names: str) -> None:
        """Leaves programs out of the load.

        Raises:
            KernelError: there is no such program, or it is too late.
        """
        self._switch(names, on=False)

    def enable(self, *names: str) -> None:
        """Has programs loaded that the C file leaves out (`SEC("?...")`), or `disable` did.

        Raises:
            KernelError: there is no such program, or it is too late.
        """
        self._switch(names, on=True)

    def load(self) -> None:
        """Makes the maps and loads the programs; those that the kernel refuses go to `failures`.

        Raises:
            KernelError: a map can't be made, or BPF is not allowed at all.
        """
        self._not_loaded_yet()
        while True:
            self._configure()
            with libbpf.captured() as messages:
                code = libbpf.library().bpf_object__load(self._handle)
            if code == 0:
                self._loaded = True
                return
            culprit = self._culprit(messages)
            if culprit is None:
                raise libbpf.error(-code, f"can't load object {self.name}", tuple(messages))
            self.failures[culprit] = _reason(culprit, code, messages)
            self._switches[culprit] = False
            self._close_handle()
            self._open()

    @property
    def variables(self) -> dict[str, NDArray[Any]]:
        """The global variables, zeroed (.bss) or not (.data), by name: live memory.

        Each is a view of memory that is shared with the programs: of no dimensions if it is a
        number or a struct (`int(object.variables["bytes"])`), else of the array's. A `static`
        one is there under its name, too.

        Raises:
            KernelError: the object is not loaded, or closed.
        """
        if self._variables is None:
            self._variables = {}
            for section in _VARIABLES:
                dtype = self.btf.section(section)
                if dtype.names:
                    values = Map(self, section, dtype).mapped()[0:1].reshape(())
                    self._variables |= {name: values[name] for name in dtype.names}
        return self._variables

    def keep(self, link: Link) -> None:
        """Closes `link` with the object."""
        self._links.append(link)

    def close(self) -> None:
        """Detaches every program and frees maps and programs; a second call does nothing."""
        with contextlib.ExitStack() as last_first:
            last_first.callback(self._close_handle)
            while self._links:
                last_first.callback(self._links.pop(0).close)

    def __enter__(self) -> Self:
        """Returns itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Closes the object."""
        self.close()

    def program_pointer(self, name: str) -> int:
        """Returns libbpf's pointer to the program `name`.

        Raises:
            KernelError: there is no such program, or the object is closed.
        """
        found = libbpf.library().bpf_object__find_program_by_name(self._opened, name.encode())
        if not found:
            raise KernelError(f"object {self.name} has no program {name}")
        return int(found)

    def map_pointer(self, name: str) -> int:
        """Returns libbpf's pointer to the map or data section `name`.

        Raises:
            KernelError: there is no such map, or the object is closed.
        """
        found = libbpf.library().bpf_object__find_map_by_name(self._opened, name.encode())
        if not found:
            raise KernelError(f"object {self.name} has no map {name}")
        return int(found)

    @property
    def _opened(self) -> int:
        if self._handle is None:
            raise KernelError(f"object {self.name} is closed")
        return self._handle

    def _switch(self, names: Iterable[str], *, on: bool) -> None:
        self._not_loaded_yet()
        for name in names:
            self.program_pointer(name)
            self._switches[name] = on

    def _not_loaded_yet(self) -> None:
        if self._loaded:
            raise KernelError(f"object {self.name} is loaded already: too late to change it")

    def _open(self) -> None:
        options = libbpf.OpenOptions(
            sz=ctypes.sizeof(libbpf.OpenOptions), object_name=self.name.encode()
        )
        with libbpf.captured() as messages:
            handle = libbpf.library().bpf_object__open_mem(
                self._data, len(self._data), ctypes.byref(options)
            )
        what = f"can't open object {self.name}"
        self._handle = libbpf.check_pointer(handle, what, tuple(messages))

    def _close_handle(self) -> None:
        handle, self._handle = self._handle, None
        if handle is not None:
            libbpf.library().bpf_object__close(handle)

    def _read_btf(self) -> bytes:
        lib, size = libbpf.library(), ctypes.c_uint32()
        btf = lib.bpf_object__btf(self._handle)
        if not btf:
            raise KernelError(f"object {self.name} has no BTF: compile it with -g")
        return ctypes.string_at(lib.btf__raw_data(btf, ctypes.byref(size)), size.value)

    def _program_names(self) -> Iterable[str]:
        lib = libbpf.library()
        program = lib.bpf_object__next_program(self._handle, None)
        while program:
            yield lib.bpf_program__name(program).decode()
            program = lib.bpf_object__next_program(self._handle, program)

    def _map_names(self) -> Iterable[str]:
        lib = libbpf.library()
        map_ = lib.bpf_object__next_map(self._handle, None)
        while map_:
            if not lib.bpf_map__is_internal(map_):
                yield lib.bpf_map__name(map_).decode()
            map_ = lib.bpf_object__next_map(self._handle, map_)

    def _configure(self) -> None:
        lib = libbpf.library()
        for name, entries in self._sizes.items():
            libbpf.check(
                lib.bpf_map__set_max_entries(self.map_pointer(name), entries),
                f"can't resize map {name}",
            )
        for name, other in self._shared.items():
            libbpf.check(
                lib.bpf_map__reuse_fd(self.map_pointer(name), other.fd), f"can't share map {name}"
            )
        for name, on in self._switches.items():
            lib.bpf_program__set_autoload(self.program_pointer(name), on)
        if self._constants:
            self._write_constants()

    def _write_constants(self) -> None:
        size = ctypes.c_size_t()
        pointer = libbpf.library().bpf_map__initial_value(
            self.map_pointer(_CONSTANTS), ctypes.byref(size)
        )
        memory = (ctypes.c_uint8 * size.value).from_address(
            libbpf.check_pointer(pointer, f"object {self.name} has no constants")
        )
        section = np.frombuffer(memoryview(memory), self.btf.section(_CONSTANTS), 1)
        for name, value in self._constants.items():
            section[name] = value

    def _culprit(self, messages: Iterable[str]) -> str | None:
        """The program that libbpf spoke of last, before it gave up."""
        named = [match[1] for text in messages if (match := _PROGRAM.match(text))]
        candidates = [n for n in named if n in self.programs and self._switches.get(n, True)]
        return candidates[-1] if candidates else None


_PROGRAM = re.compile(r"libbpf: prog '([^']+)': ")


def _reason(name: str, code: int, messages: Iterable[str]) -> str:
    """What libbpf said of the program, and the last lines of the verifier's log."""
    prefix = f"libbpf: prog '{name}': "
    lines: list[str] = []
    for text in messages:
        first, *rest = text.splitlines() or [""]
        if rest:
            lines += [line for line in rest if not line.startswith("--")][-_LOG_LINES:]
        elif first.startswith(f"{prefix}BPF program load failed"):
            lines.append(f"the kernel refuses it: {libbpf.describe(-code)}")
        elif first.startswith(prefix) and "failed to load" not in first:
            lines.append(first.removeprefix(prefix))
    return "\n".join(lines)
