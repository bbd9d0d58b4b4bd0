"""The compiled interpreter of tables: from a cache on disk, or compiled meanwhile by a process of its own.

What finds and reads the cache is imported where that happens: NumPy programs do without, in half the time.

Note [The interpreter of tables]
~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~
numba takes seconds for the interpreter, once per machine; the object file that it gives is kept in the user's cache and
loaded by llvmlite alone, in some milliseconds. The name of the file is a hash of all that it depends on: the source of
the interpreter, the versions of Python, numba and llvmlite, the processor. What is not there, or not as it was written
(the file begins with the hash of the rest), is compiled anew, so no cache can do harm: it costs time at worst.

Nobody waits for seconds. Loading happens in a thread while the first calls are recorded, so where the cache is there
the same call is always the first that runs as a table, and a run can be repeated; `nanotorch compile` makes it be
there. Compiling happens in a process of low priority; until it is over programs run as NumPy code, and where numba is
not installed, that stays so. That process ends with the one that began it, however that ends: the other end of its
input is closed then.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib.util
import os
import platform
import sys
import threading
from typing import TYPE_CHECKING, Any

import numpy as np

from nanotorch.autograd.graph.locks import give_lock
from nanotorch.backend.formulas import NEAR
from nanotorch.backend.numpy_backend import ODDS

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SOURCES = ("instructions.py", "interpreter.py", "product.py")
SYMBOLS = (
    "memset", "memcpy", "memmove", "exp", "log", "tanh", "log1p", "expm1", "sin", "cos", "sinf", "cosf", "expf", "logf",
    "floor", "floorf", "ceil", "ceilf", "erf", "erff", "erfc",
)  # fmt: skip
"""Functions of the C library that compiled loops call."""
KEPT = 8  # files of the cache, those that were used last: of other versions, or of processors that share a home
DIGEST = 32  # bytes of the hash in front of an object file


def installed() -> bool:
    """Whether numba is installed."""
    return all(importlib.util.find_spec(name) is not None for name in ("numba", "llvmlite"))


def cache_directory() -> Path:
    """Return the folder of the cache: that of the user, or what NANOTORCH_CACHE_DIR names."""
    from pathlib import Path

    named = os.environ.get("NANOTORCH_CACHE_DIR")
    if named:
        return Path(named)
    if sys.platform == "win32":
        base = os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local"
    elif sys.platform == "darwin":
        base = Path.home() / "Library" / "Caches"
    else:
        base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "nanotorch"


def cache_file() -> Path:
    """Return the file of the interpreter for this processor and these versions."""
    from hashlib import sha256
    from importlib.metadata import version
    from pathlib import Path

    import llvmlite.binding as llvm

    here = Path(__file__).parent
    parts = [(here / name).read_bytes() for name in SOURCES]
    facts = (
        platform.python_version(), version("numba"), version("llvmlite"), llvm.get_default_triple(),
        llvm.get_host_cpu_name(), llvm.get_host_cpu_features().flatten(), repr([NEAR, ODDS]),
    )  # fmt: skip
    digest = sha256(b"\0".join([*parts, *[fact.encode() for fact in facts]])).hexdigest()
    return cache_directory() / f"table-{digest[:24]}.o"


def packed(name: str, code: bytes) -> bytes:
    """Return an object file with the name of its symbol as it is kept, the hash of it all in front."""
    from hashlib import sha256

    content = name.encode() + b"\0" + code
    return sha256(content).digest() + content


def unpacked(content: bytes) -> tuple[str, bytes] | None:
    """Return the name of the symbol and the object file; None where the content is not what was written."""
    from hashlib import sha256

    digest, rest = content[:DIGEST], content[DIGEST:]
    if sha256(rest).digest() != digest:
        return None
    name, _, code = rest.partition(b"\0")
    return name.decode(), code


def keep(path: Path, content: bytes) -> None:
    """Write a file of the cache, all of it or nothing; where that is not possible there is none."""
    import tempfile

    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(".part", "table-", path.parent)
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(content)
            os.replace(name, path)
        except OSError:
            os.unlink(name)
        files = sorted(path.parent.glob("table-*"), key=lambda file: file.stat().st_mtime)
        for old in files[:-KEPT]:
            old.unlink()


class Interpreter:
    """The function that walks a table, and the matrix products that it calls."""

    def __init__(self, name: str, code: bytes) -> None:
        import llvmlite.binding as llvm

        llvm.initialize_native_target()
        llvm.initialize_native_asmprinter()
        library = ctypes.CDLL("ucrtbase" if sys.platform == "win32" else None)
        for symbol in SYMBOLS:
            llvm.add_symbol(symbol, address(getattr(library, symbol)))
        machine = llvm.Target.from_default_triple().create_target_machine()
        self._engine = llvm.create_mcjit_compiler(llvm.parse_assembly(""), machine)  # owns the code
        self._engine.add_object_file(llvm.object_file.ObjectFileRef.from_data(code))
        self._engine.finalize_object()
        entry = self._engine.get_function_address(name)
        if not entry:
            raise ValueError(f"no {name} in the object file")
        self._function = ctypes.CFUNCTYPE(ctypes.c_int32, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64)(entry)
        self.sgemm, self.dgemm = blas()

    def each(self, contexts: Any) -> list[int]:
        """Run what contexts describe, one after the other, and return how many steps ran of each."""
        result, error = ctypes.c_int64(), ctypes.c_void_p()
        function, first, second = self._function, ctypes.addressof(result), ctypes.addressof(error)
        done = []
        for address in starts(contexts).tolist():
            function(first, second, address)
            done.append(result.value)
        return done

    def bound(self, context: Any) -> Any:
        """Return a function without arguments that runs what a context describes, and tells how many steps ran."""
        result, error = ctypes.c_int64(), ctypes.c_void_p()
        function, places = self._function, (ctypes.addressof(result), ctypes.addressof(error), context.ctypes.data)
        keep_alive = (result, error, context)

        def run() -> int:
            function(*places)
            return keep_alive[0].value

        return run


def starts(array: Any) -> Any:
    """Return the addresses of the entries of the first axis of an array."""
    begin, step = array.ctypes.data, array.strides[0]
    found: Any = np.arange(begin, begin + step * len(array), step) if step else np.full(len(array), begin)
    return found


_sharing = 1  # processes that compute at the same time


def threads() -> int:
    """Return how many threads may compute: what OMP_NUM_THREADS says, or as many as there are processors, of which
    processes that `share` them each have a part.
    """
    said = os.environ.get("OMP_NUM_THREADS", "")
    processors = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    processors = max(1, processors // _sharing)
    return min(int(said), processors) if said.isdigit() and int(said) else processors


@contextlib.contextmanager
def share(processes: int) -> Iterator[None]:
    """Within, leave room for other processes: of so many, this one included, each has a part of the processors."""
    global _sharing
    before, _sharing = _sharing, processes
    try:
        yield
    finally:
        _sharing = before


def blas() -> tuple[int, int]:
    """Return the addresses of matrix products for float32 and float64: NumPy's own, where the library that it calls
    can be asked for them by name, else SciPy's, whose import takes half a second.
    """
    return blas_of_numpy() or blas_of_scipy()


def blas_of_numpy() -> tuple[int, int] | None:
    """Return the products that NumPy calls; None where they cannot be found."""
    core = sys.modules.get("numpy._core._multiarray_umath")  # a private name, which NumPy may give up
    if core is None or core.__file__ is None:
        return None
    library = ctypes.CDLL(core.__file__)
    for name in ("scipy_{}gemm_64_", "{}gemm_64_", "scipy_{}gemm_", "{}gemm_"):
        with contextlib.suppress(AttributeError):
            single, double = [getattr(library, name.format(letter)) for letter in "sd"]
            return address(single), address(double)
    return None


def blas_of_scipy() -> tuple[int, int]:
    """Return the products that SciPy lends to other programs."""
    from scipy.linalg import cython_blas

    table = cython_blas.__pyx_capi__
    name, pointer = ctypes.pythonapi.PyCapsule_GetName, ctypes.pythonapi.PyCapsule_GetPointer
    name.restype, name.argtypes = ctypes.c_char_p, [ctypes.py_object]
    pointer.restype, pointer.argtypes = ctypes.c_void_p, [ctypes.py_object, ctypes.c_char_p]
    return pointer(table["sgemm"], name(table["sgemm"])), pointer(table["dgemm"], name(table["dgemm"]))


def address(function: Any) -> int:
    """Return the address of a function of a library."""
    return ctypes.cast(function, ctypes.c_void_p).value or 0


class Machine:
    """The interpreter, as soon as it is there.

    Attributes:
        interpreter: None until then.
        reason: why there is none, or none yet.
    """

    _lock: Any

    def __init__(self) -> None:
        self.interpreter: Interpreter | None = None
        self.reason = "nobody has asked for it yet"
        give_lock(self)
        self._thread: threading.Thread | None = None
        self._settled = threading.Event()  # it is loaded, or known that it takes longer

    def start(self) -> None:
        """Begin to load or compile the interpreter, if that has not begun."""
        with self._lock:
            if self._thread is None:
                self._thread = threading.Thread(target=self._prepare, name="nanotorch table", daemon=True)
                self._thread.start()

    def soon(self) -> Interpreter | None:
        """Return the interpreter, which may take a moment to load; None where it is compiled yet, or there is none."""
        if self.interpreter is None:
            self.start()
            while not self._settled.wait(0.05) and self._thread is not None and self._thread.is_alive():
                pass  # in a child of a fork there is no thread that could tell
        return self.interpreter

    def wait(self) -> Interpreter | None:
        """Return the interpreter when loading and compiling is over; None where there is none."""
        self.start()
        assert self._thread is not None
        self._thread.join()
        return self.interpreter

    def _prepare(self) -> None:
        try:
            if not installed():
                self.reason = "numba is not installed: pip install numba"
                return
            path = cache_file()
            content = b""
            with contextlib.suppress(OSError):
                content = path.read_bytes()
                os.utime(path)  # it is in use
            if not self._load(content):
                self.reason = "it is being compiled, once for this machine"
                self._settled.set()
                content = compile_apart()
                if self._load(content):
                    keep(path, content)
        except Exception as error:
            self.reason = f"{type(error).__name__}: {error}"
        finally:
            self._settled.set()

    def _load(self, content: bytes) -> bool:
        """Load an interpreter; whether that went well."""
        parts = unpacked(content)
        if parts is None:
            self.reason = "what the compiler gave is not complete"
            return False
        self.interpreter, self.reason = Interpreter(*parts), ""
        return True


def compile_apart() -> bytes:
    """Return the interpreter, compiled by another process, as it is kept in the cache."""
    import subprocess

    paths = [os.path.abspath(part) for part in [*filter(None, sys.path), os.path.join(__file__, *[".."] * 4)]]
    code = (
        f"import sys; sys.path[:] = {paths!r}; import os, threading; "
        "threading.Thread(target=lambda: os.read(0, 1) or os._exit(1), daemon=True).start(); "
        "out = os.fdopen(os.dup(1), 'wb'); os.dup2(2, 1); "
        "hasattr(os, 'nice') and os.nice(10); "
        "from nanotorch.capture.table import interpreter, machine; "
        "out.write(machine.packed(*interpreter.compiled())); out.flush()"
    )
    end, alive = os.pipe()
    try:
        command = [sys.executable, "-P", "-c", code]  # nothing of the directory where somebody happens to be
        done = subprocess.run(command, stdin=end, capture_output=True, check=False)
    finally:
        os.close(end)
        os.close(alive)
    if done.returncode:
        raise RuntimeError(f"compiling the interpreter failed: {done.stderr.decode(errors='replace')[-500:]}")
    return done.stdout


MACHINE = Machine()
