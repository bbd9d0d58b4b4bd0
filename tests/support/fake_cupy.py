"""A NumPy-backed stand-in for CuPy, so that the device path is exercised on machines without a GPU.

It behaves as CuPy 14 does where CuPy differs from NumPy: nothing converts to NumPy implicitly, functions
refuse NumPy arrays and lists, keywords and names that CuPy lacks are refused, results stay 0-d device
arrays, integer arrays index out of bounds by wrapping around, repeated indices in an assignment do not keep
the last value, and an array can be used only while its device is the current one. Every copy between host
and device is counted in `counts`.

It is stricter than CuPy in one way: CuPy's functions that only call a method of their argument, such as
`cupy.sum`, silently compute on the host when they get a NumPy array; here that is a TypeError too. It
runs no CUDA: what passes on the stand-in is shown to respect CuPy's rules, not to run on a GPU.

Use it with `with fake_cupy.installed(): import cupy`.
"""

from __future__ import annotations

import contextlib
import importlib.machinery
import sys
import types
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

VERSION = "14.2.0"


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


#: NumPy's names that CuPy 14.2.0 lacks, and `random`, which it has but which the package must not use.
LACKING = _words(
    """
    False_ True_ ScalarType asmatrix block bmat busday_count busday_offset busdaycalendar bytes_ char
    character clongdouble complex256 core ctypeslib datetime64 datetime_as_string datetime_data dtypes
    einsum_path emath errstate f2py flexible float128 frompyfunc fromregex geomspace get_include getbufsize
    geterr geterrcall histogram_bin_edges info insert is_busday isnat little_endian longdouble ma matrix
    matvec memmap nanpercentile nanquantile ndenumerate nditer nested_iters object_ polyder polydiv polyint
    random rec recarray record sctypeDict setbufsize seterr seterrcall show_runtime spacing str_ strings
    test timedelta64 typecodes unstack vecdot vecmat void lib testing exceptions ctypeslib typing
    """
)
LINALG = _words(
    """
    cholesky cond cross det eig eigh eigvals eigvalsh inv LinAlgError lstsq matmul matrix_power matrix_rank
    matrix_transpose norm pinv qr slogdet solve svd tensorinv tensorsolve
    """
)

#: Keywords of NumPy's functions that CuPy's do not take: for every function, and by name.
REFUSED_EVERYWHERE = frozenset({"like", "device", "subok", "correction", "initial", "order_by"})
REFUSED = {
    **{
        name: {"where"}
        for name in _words("all any amax amin max min mean prod sum std var nanmax nanmin nansum nanmean")
    },
    "argsort": {"order", "stable"},
    "sort": {"order", "stable"},
    "argpartition": {"kind", "order"},
    "partition": {"kind", "order"},
    "clip": {"min", "max"},
    "count_nonzero": {"keepdims"},
    "einsum": {"out"},
    "flip": {"m"},
    "reshape": {"shape"},
    "take": {"mode"},
    "std": {"mean", "where"},
    "var": {"mean", "where"},
    "unique": {"sorted"},
    "lexsort": {"axis"},
}
#: Functions that may get their first argument from the host: numbers, shapes, lists.
FROM_HOST = _words(
    """
    arange eye identity tri linspace logspace indices einsum result_type promote_types can_cast isscalar
    unravel_index broadcast_shapes zeros ones empty full array asarray asanyarray iscomplexobj isrealobj
    min_scalar_type finfo iinfo
    """
)
#: Functions whose result is a Python object, not a device array.
HOST_RESULT = _words(
    """
    result_type promote_types can_cast isscalar ndim shape size broadcast_shapes may_share_memory
    shares_memory iscomplexobj isrealobj min_scalar_type
    """
)
#: Functions that have to fetch the size of their result from the device.
FETCHING = frozenset({"nonzero", "argwhere", "flatnonzero", "unique", "bincount", "extract", "compress", "union1d"})
SCATTER_DTYPES = frozenset({"int32", "uint32", "uint64", "float16", "float32", "float64"})
SCATTERING_UFUNCS = {"add", "subtract", "maximum", "minimum", "bitwise_and", "bitwise_or", "bitwise_xor"}


class Counts:
    """How often data crossed between host and device, and how often the host waited."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        self.host_to_device = self.device_to_host = self.synchronizations = 0

    @property
    def transfers(self) -> int:
        return self.host_to_device + self.device_to_host


counts = Counts()


class CUDARuntimeError(RuntimeError):
    """What every call into the CUDA runtime raises on failure."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class _Machine:
    """The pretended machine: how many GPUs it has, whether its driver works, which GPU is current."""

    device_count = 1
    driver_works = True
    current = 0


machine = _Machine()


def _check_driver() -> None:
    if not machine.driver_works:
        text = "cudaErrorInsufficientDriver: CUDA driver version is insufficient for CUDA runtime version"
        raise CUDARuntimeError(35, text)
    if machine.device_count == 0:
        raise CUDARuntimeError(100, "cudaErrorNoDevice: no CUDA-capable device is detected")


def get_device_count() -> int:
    _check_driver()
    return machine.device_count


def get_device() -> int:
    _check_driver()
    return machine.current


def set_device(index: int) -> None:
    _check_driver()
    if not 0 <= index < machine.device_count:
        raise CUDARuntimeError(101, "cudaErrorInvalidDevice: invalid device ordinal")
    machine.current = index


def _synchronize() -> None:
    _check_driver()
    counts.synchronizations += 1


class Device:
    """`cupy.cuda.Device`: a number, and a context in which it is the current device."""

    def __init__(self, device: int | Device | None = None) -> None:
        self.id = get_device() if device is None else int(device)
        self._before: list[int] = []

    def __int__(self) -> int:
        return self.id

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Device) and other.id == self.id

    def __hash__(self) -> int:
        return hash(self.id)

    def __repr__(self) -> str:
        return f"<CUDA Device {self.id}>"

    def use(self) -> None:
        set_device(self.id)

    def __enter__(self) -> Device:
        self._before.append(get_device())
        set_device(self.id)
        return self

    def __exit__(self, *exception: object) -> None:
        set_device(self._before.pop())

    def synchronize(self) -> None:
        _synchronize()


class Stream:
    """`cupy.cuda.Stream`; all work is done at once, so waiting only counts."""

    null: Stream

    def __init__(self, null: bool = False, non_blocking: bool = False) -> None:
        self.ptr = 0

    def synchronize(self) -> None:
        _synchronize()

    def __enter__(self) -> Stream:
        return self

    def __exit__(self, *exception: object) -> None:
        pass


Stream.null = Stream(null=True)


class Memory:
    """`MemoryPointer.mem`: one allocation."""

    def __init__(self, owner: np.ndarray, device: Device) -> None:
        self.owner, self.device, self.device_id = owner, device, device.id
        self.ptr, self.size = owner.__array_interface__["data"][0], owner.nbytes


class MemoryPointer:
    """`ndarray.data`: where the elements lie."""

    def __init__(self, mem: Memory, offset: int) -> None:
        self.mem, self.ptr, self.device, self.device_id = mem, mem.ptr + offset, mem.device, mem.device_id


class MemoryPool:
    """`cupy.get_default_memory_pool()`: nothing is pooled here."""

    def used_bytes(self) -> int:
        return 0

    def total_bytes(self) -> int:
        return 0

    def free_all_blocks(self) -> None:
        pass


class Flags:
    """`ndarray.flags`: CuPy knows these three and no writeable flag."""

    def __init__(self, c_contiguous: bool, f_contiguous: bool, owndata: bool) -> None:
        self.c_contiguous, self.f_contiguous, self.owndata = c_contiguous, f_contiguous, owndata
        self.fnc, self.forc = f_contiguous and not c_contiguous, f_contiguous or c_contiguous

    def __getitem__(self, name: str) -> bool:
        known = {"C_CONTIGUOUS": self.c_contiguous, "F_CONTIGUOUS": self.f_contiguous, "OWNDATA": self.owndata}
        if name not in known:
            raise KeyError(f"{name} is not defined for cupy.ndarray.flags")
        return known[name]


SCALARS = (bool, int, float, complex, np.generic)


def _unsupported(value: object) -> TypeError:
    return TypeError(f"Unsupported type {type(value)}")


def _owner(array: np.ndarray) -> np.ndarray:
    while isinstance(array.base, np.ndarray):
        array = array.base
    return array


def _quiet(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """Call a NumPy function; CuPy never warns about divisions by zero or overflow."""
    with np.errstate(all="ignore"):
        return function(*args, **kwargs)


def _wrap(host: np.ndarray, base: ndarray | None = None) -> ndarray:
    array = object.__new__(ndarray)
    array._host, array.base = host, base
    array._device = machine.current if base is None else base._device
    return array


def _result(value: Any, sources: list[ndarray]) -> Any:
    """Turn what NumPy returned into device arrays; views keep their base, new arrays become C-contiguous."""
    if isinstance(value, np.ndarray):
        owner = _owner(value)
        for source in sources:
            if value is source._host:
                return source
            if owner is _owner(source._host):
                if not value.flags.writeable:  # NumPy's diagonal and broadcast_to; CuPy has no such flag
                    value.setflags(write=True)
                return _wrap(value, source if source.base is None else source.base)
        if value.base is not None:
            value = np.array(value, order="C")
        return _wrap(np.asarray(value, order="C"))
    if isinstance(value, np.generic | bool):
        return _wrap(np.array(value))
    if isinstance(value, list):
        return [_result(item, sources) for item in value]
    if isinstance(value, tuple):
        return tuple(_result(item, sources) for item in value)
    return value


def _check_device(*arrays: ndarray) -> None:
    _check_driver()
    for array in arrays:
        if array._device != machine.current:
            raise ValueError(
                "Array device must be same as the current device: "
                f"array device = {array._device} while current = {machine.current}"
            )


def _unwrap(value: Any, sources: list[ndarray]) -> Any:
    """Take NumPy arrays out of device arrays, also in sequences; refuse NumPy arrays."""
    if isinstance(value, ndarray):
        sources.append(value)
        return value._host
    if isinstance(value, np.ndarray):
        raise _unsupported(value)
    if isinstance(value, list | tuple):
        return type(value)(_unwrap(item, sources) for item in value)
    return value


class ufunc:
    """`cupy.ufunc`: takes device arrays and scalars, and nothing else."""

    def __init__(self, function: np.ufunc) -> None:
        self._function = function
        self.__name__ = self.name = function.__name__
        self.nin, self.nout, self.nargs = function.nin, function.nout, function.nargs

    def __repr__(self) -> str:
        return f"<ufunc 'cupy_{self.name}'>"

    def __call__(
        self, *args: Any, out: Any = None, where: Any = None, dtype: Any = None, casting: str = "same_kind"
    ) -> Any:
        if not self.nin <= len(args) <= self.nargs:
            raise TypeError(f"Wrong number of arguments for {self.__name__}: {len(args)}")
        inputs, outputs = args[: self.nin], args[self.nin :]
        if out is not None:
            if outputs:
                raise ValueError("Cannot specify 'out' as both a positional and keyword argument")
            outputs = out if isinstance(out, tuple) else (out,)
        sources: list[ndarray] = []
        for value in inputs:
            if not isinstance(value, (ndarray, *SCALARS)):
                raise _unsupported(value)
        for value in outputs:
            if not isinstance(value, ndarray):
                raise TypeError(f"Output arguments type must be cupy.ndarray, not {type(value)}")
        keywords: dict[str, Any] = {"casting": casting}
        if dtype is not None:
            keywords["dtype"] = dtype
        if where is not None:
            keywords["where"] = _unwrap(where, sources)
        host_inputs = [_unwrap(value, sources) for value in inputs]
        if outputs:
            keywords["out"] = tuple(_unwrap(value, sources) for value in outputs)
        _check_device(*sources)
        value = _quiet(self._function, *host_inputs, **keywords)
        if outputs:
            return outputs[0] if self.nout == 1 else outputs
        return _result(value, [])

    def at(self, a: ndarray, indices: Any, b: Any = None) -> None:
        if self.name not in SCATTERING_UFUNCS:
            raise NotImplementedError(f"`{self.name}.at` is not supported yet")
        _scatter(self._function, a, indices, b)

    def reduce(self, array: ndarray, axis: Any = 0, dtype: Any = None, out: Any = None, keepdims: bool = False) -> Any:
        return _call(self._function.reduce, array, axis=axis, dtype=dtype, out=out, keepdims=keepdims)

    def accumulate(self, array: ndarray, axis: int = 0, dtype: Any = None, out: Any = None) -> Any:
        return _call(self._function.accumulate, array, axis=axis, dtype=dtype, out=out)

    def outer(self, A: ndarray, B: ndarray) -> Any:
        return _call(self._function.outer, A, B)


def _call(host_function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """Run a NumPy function on device arrays."""
    sources: list[ndarray] = []
    host_args = [_unwrap(value, sources) for value in args]
    host_kwargs = {
        name: _unwrap(value, sources) for name, value in kwargs.items() if value is not None or name != "out"
    }
    if kwargs.get("out") is not None and not isinstance(kwargs["out"], ndarray):
        raise TypeError(f"Output arguments type must be cupy.ndarray, not {type(kwargs['out'])}")
    value = _quiet(host_function, *host_args, **host_kwargs)
    if kwargs.get("out") is not None:
        return kwargs["out"]
    result = _result(value, sources)
    if any(
        item.base is None
        for item in (result if isinstance(result, tuple | list) else [result])
        if isinstance(item, ndarray)
    ):
        _check_device(*sources)  # something was computed; views may be taken from anywhere
    return result


def _function(name: str, host_function: Callable[..., Any]) -> Callable[..., Any]:
    """Make the function of the stand-in that has this name in NumPy."""

    def call(*args: Any, **kwargs: Any) -> Any:
        _check_driver()
        refused = (REFUSED_EVERYWHERE | REFUSED.get(name, set())) & kwargs.keys()
        if refused:
            raise TypeError(f"{name}() got an unexpected keyword argument '{min(refused)}'")
        if name in ("argsort", "sort") and kwargs.get("kind") not in (None, "stable"):
            raise ValueError("kind can only be None or 'stable'")
        if args and name not in FROM_HOST:
            first = args[0]
            elements = first if isinstance(first, list | tuple) else [first]
            for element in elements or [first]:
                if not isinstance(element, ndarray):
                    raise TypeError(f"'a' must be a cupy.ndarray object, not {type(element)}.")
        if name in FETCHING or (name == "where" and len(args) == 1):
            counts.device_to_host += 1
        if name in HOST_RESULT:
            return host_function(*[_unwrap(value, []) for value in args], **kwargs)
        result = _call(host_function, *args, **kwargs)
        return _wrap(np.array(result)) if type(result) is int else result

    call.__name__ = call.__qualname__ = name
    call.__module__ = "cupy"
    return call


def asarray(
    a: Any, dtype: Any = None, order: str | None = None, *, copy: bool | None = None, blocking: bool = False
) -> ndarray:
    return array(a, dtype, copy, order or "K")


def array(
    obj: Any,
    dtype: Any = None,
    copy: bool | None = True,
    order: str = "K",
    subok: bool = False,
    ndmin: int = 0,
    *,
    blocking: bool = False,
) -> ndarray:
    _check_driver()
    if isinstance(obj, ndarray):
        if obj._device == machine.current:
            host: np.ndarray
            host = np.array(obj._host, dtype, copy=copy, order=order, ndmin=ndmin)  # type: ignore[call-overload]
            return obj if host is obj._host else _result(host, [obj])
        return _wrap(np.array(obj._host, dtype=dtype, order="C", ndmin=ndmin))  # from device to device
    if isinstance(obj, list | tuple) and any(isinstance(item, ndarray) for item in obj):
        return _wrap(np.array(_unwrap(list(obj), []), dtype=dtype, ndmin=ndmin))
    if copy is False:
        raise ValueError("Unable to avoid copy while creating an array as requested.")
    host = np.array(obj, dtype=dtype, order="F" if order == "F" else "C", ndmin=ndmin)
    if host.dtype.kind not in "biufc":
        raise ValueError(f"Unsupported dtype {host.dtype}")
    counts.host_to_device += 1
    return _wrap(host)


def asnumpy(a: Any, stream: Any = None, order: str = "C", out: Any = None, *, blocking: bool = True) -> np.ndarray:
    return a.get(stream, order, out) if isinstance(a, ndarray) else np.asarray(a)


def take(a: ndarray, indices: Any, axis: int | None = None, out: ndarray | None = None) -> Any:
    """Take elements; indices out of bounds wrap around, as everywhere in CuPy."""
    if not isinstance(a, ndarray):
        raise TypeError(f"'a' must be a cupy.ndarray object, not {type(a)}.")
    if not isinstance(indices, ndarray | int | np.integer):
        indices = array(indices, dtype=int)
    return _call(np.take, a, indices, axis=axis, out=out, mode="wrap")


def take_along_axis(a: ndarray, indices: ndarray, axis: int | None) -> Any:
    return _call(lambda host, index: np.take_along_axis(host, index % max(_size(host, axis), 1), axis), a, indices)


def put_along_axis(arr: ndarray, indices: ndarray, values: Any, axis: int | None) -> None:
    def put(host: np.ndarray, index: np.ndarray, value: Any) -> None:
        np.put_along_axis(host, index % max(_size(host, axis), 1), value, axis)

    if not isinstance(values, (ndarray, *SCALARS)):
        raise _unsupported(values)
    _call(put, arr, indices, values)


def _size(host: np.ndarray, axis: int | None) -> int:
    return host.size if axis is None else host.shape[axis]


def repeat(a: ndarray, repeats: Any, axis: int | None = None) -> Any:
    if isinstance(repeats, ndarray):
        counts.device_to_host += 1
    return _call(np.repeat, a, repeats, axis=axis)


def reshape(a: ndarray, newshape: Any, order: str = "C", *, copy: bool | None = None) -> ndarray:
    if not isinstance(a, ndarray):
        raise TypeError(f"'a' must be a cupy.ndarray object, not {type(a)}.")
    return _call(np.reshape, a, newshape, order=order, copy=copy)


def where(condition: ndarray, x: Any = None, y: Any = None) -> Any:
    if x is None and y is None:
        return _function("where", np.where)(condition)
    if not isinstance(condition, ndarray):
        raise AttributeError(f"'{type(condition).__name__}' object has no attribute 'astype'")
    for value in (x, y):
        if not isinstance(value, (ndarray, *SCALARS)):
            raise _unsupported(value)
    return _call(lambda c, a, b: np.where(c.astype(bool), a, b), condition, x, y)


def copyto(dst: ndarray, src: Any, casting: str = "same_kind", where: ndarray | None = None) -> None:
    if isinstance(src, np.ndarray | list | tuple):
        raise ValueError("non-scalar numpy.ndarray cannot be used for copyto")
    _check_device(*(a for a in (dst, src, where) if isinstance(a, ndarray)))
    mask = True if where is None else _unwrap(where, [])
    np.copyto(dst._host, _unwrap(src, []), casting=casting, where=mask)  # type: ignore[arg-type]


def ascontiguousarray(a: ndarray, dtype: Any = None) -> ndarray:
    if not isinstance(a, ndarray):
        raise TypeError(f"Argument 'a' has incorrect type (expected cupy.ndarray, got {type(a).__name__})")
    same = a.flags.c_contiguous and (dtype is None or a.dtype == dtype)
    return a if same else a.astype(dtype or a.dtype, order="C")


def get_array_module(*args: Any) -> Any:
    return cupy if any(isinstance(value, ndarray) for value in args) else np


def is_available() -> bool:
    return machine.driver_works and machine.device_count > 0


def scatter_add(a: ndarray, slices: Any, value: Any) -> None:
    _scatter(np.add, a, slices, value)


def scatter_max(a: ndarray, slices: Any, value: Any) -> None:
    _scatter(np.maximum, a, slices, value)


def _scatter(function: np.ufunc, a: ndarray, slices: Any, value: Any) -> None:
    if not isinstance(a, ndarray):
        raise _unsupported(a)
    index, advanced = a._index(slices)
    if advanced and a.dtype.name not in SCATTER_DTYPES:
        raise TypeError(
            "scatter_add only supports int32, float16, float32, float64, uint32, uint64, as data type, "
            f"not {a.dtype.name}"
        )
    source = value if isinstance(value, ndarray) else _wrap(np.asarray(value, dtype=a.dtype))
    _check_device(a, source)
    function.at(a._host, index, source._host.astype(a.dtype, copy=False))


def _use_other(self: ndarray, other: Any) -> bool:
    """Whether Python should try the other operand's reflected operator, by CuPy's rule."""
    if isinstance(other, SCALARS):
        return False
    if hasattr(other, "__array_ufunc__"):
        return other.__array_ufunc__ is None
    return getattr(other, "__array_priority__", 0) > self.__array_priority__


def _binary(function: np.ufunc, reflected: bool = False) -> Callable[[ndarray, Any], Any]:
    wrapped = ufunc(function)

    def operate(self: ndarray, other: Any) -> Any:
        if not isinstance(other, ndarray):
            if _use_other(self, other):
                return NotImplemented
            if isinstance(other, np.ndarray) and other.ndim == 0 and wrapped.name in COMPARISONS:
                other = other.item()
        return wrapped(other, self) if reflected else wrapped(self, other)

    return operate


def _inplace(function: np.ufunc) -> Callable[[ndarray, Any], Any]:
    wrapped = ufunc(function)
    return lambda self, other: wrapped(self, other, self)


COMPARISONS = {"less", "less_equal", "equal", "not_equal", "greater", "greater_equal"}
OPERATORS = {
    "add": np.add,
    "sub": np.subtract,
    "mul": np.multiply,
    "truediv": np.true_divide,
    "floordiv": np.floor_divide,
    "mod": np.remainder,
    "divmod": np.divmod,
    "pow": np.power,
    "lshift": np.left_shift,
    "rshift": np.right_shift,
    "and": np.bitwise_and,
    "or": np.bitwise_or,
    "xor": np.bitwise_xor,
}
METHODS = _words(
    """
    all any argmax argmin argpartition choose clip compress cumprod cumsum diagonal dot max mean min nonzero
    prod ravel repeat round searchsorted squeeze std sum swapaxes take trace var conj
    """
)


class ndarray:
    """`cupy.ndarray`: holds a NumPy array and hands it out only through counted transfers."""

    __slots__ = ("__weakref__", "_device", "_host", "base")
    __array_priority__ = 100
    __hash__ = None  # type: ignore[assignment]
    __module__ = "cupy"
    _host: np.ndarray
    base: ndarray | None
    _device: int

    def __init__(
        self, shape: Any, dtype: Any = float, memptr: Any = None, strides: Any = None, order: str = "C"
    ) -> None:
        _check_driver()
        self.base, self._device = None, machine.current
        if memptr is None:
            self._host = np.empty(shape, dtype, order=order)  # type: ignore[call-overload]
        else:
            memory = memptr.mem.owner.reshape(-1, copy=False)
            self._host = np.ndarray(shape, dtype, memory, memptr.ptr - memptr.mem.ptr, strides)
            self._device = memptr.device_id

    # -- what it is --------------------------------------------------------------------------------
    dtype = property(lambda self: self._host.dtype)
    ndim = property(lambda self: self._host.ndim)
    size = property(lambda self: self._host.size)
    nbytes = property(lambda self: self._host.nbytes)
    itemsize = property(lambda self: self._host.itemsize)
    strides = property(lambda self: self._host.strides)
    device = property(lambda self: Device(self._device))
    T = property(lambda self: self.transpose())
    mT = property(lambda self: self.swapaxes(-1, -2))
    real = property(lambda self: self)

    @property
    def shape(self) -> tuple[int, ...]:
        return self._host.shape

    @shape.setter
    def shape(self, shape: Any) -> None:
        self._host = np.reshape(self._host, shape, copy=False)

    @property
    def data(self) -> MemoryPointer:
        memory = Memory(_owner(self._host), Device(self._device))
        return MemoryPointer(memory, self._host.__array_interface__["data"][0] - memory.ptr)

    @property
    def flags(self) -> Flags:
        flags = self._host.flags
        return Flags(bool(flags.c_contiguous), bool(flags.f_contiguous), self.base is None)

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        return {"shape": self.shape, "typestr": self.dtype.str, "data": (self.data.ptr, False), "version": 3}

    def __len__(self) -> int:
        if not self.ndim:
            raise TypeError("len() of unsized object")
        return self.shape[0]

    def __iter__(self) -> Iterator[ndarray]:
        if not self.ndim:
            raise TypeError("iteration over a 0-d array")
        return (self[number] for number in range(self.shape[0]))

    # -- from device to host -----------------------------------------------------------------------
    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        raise TypeError(
            "Implicit conversion to a NumPy array is not allowed. "
            "Please use `.get()` to construct a NumPy array explicitly."
        )

    def get(
        self, stream: Any = None, order: str = "C", out: np.ndarray | None = None, blocking: bool = True
    ) -> np.ndarray:
        _check_driver()
        counts.device_to_host += 1
        if out is None:
            return np.array(self._host, order=order)  # type: ignore[call-overload]
        if out.dtype != self.dtype:
            raise TypeError(f"{out.dtype} array cannot be obtained from {self.dtype} array")
        if out.shape != self.shape:
            raise ValueError(f"Shape mismatch. Expected shape: {self.shape}, actual shape: {out.shape}")
        out[...] = self._host
        return out

    def set(self, arr: np.ndarray, stream: Any = None) -> None:
        if not isinstance(arr, np.ndarray):
            raise TypeError("Only numpy.ndarray can be set to cupy.ndarray")
        if arr.dtype != self.dtype:
            raise TypeError(f"{arr.dtype} array cannot be set to {self.dtype} array")
        if arr.shape != self.shape:
            raise ValueError(f"Shape mismatch. Old shape: {self.shape}, new shape: {arr.shape}")
        if not self.flags.forc:
            raise RuntimeError("Cannot set to non-contiguous array")
        counts.host_to_device += 1
        self._host[...] = arr

    def item(self) -> Any:
        if self.size != 1:
            raise ValueError("can only convert an array of size 1 to a Python scalar")
        return self.get().item()

    def tolist(self) -> Any:
        return self.get().tolist()

    def tobytes(self, order: str = "C") -> bytes:
        return self.get().tobytes(order)  # type: ignore[arg-type]

    def __bool__(self) -> bool:
        if self.size != 1:
            raise ValueError(
                "The truth value of an array with more than one element is ambiguous. Use a.any() or a.all()"
            )
        return bool(self.get())

    def __int__(self) -> int:
        return int(self.get())

    def __float__(self) -> float:
        return float(self.get())

    def __complex__(self) -> complex:
        return complex(self.get())

    def __repr__(self) -> str:
        return repr(self.get())

    def __str__(self) -> str:
        return str(self.get())

    def __format__(self, specification: str) -> str:
        return format(self.get(), specification)

    def __reduce__(self) -> tuple[Any, ...]:
        return array, (self.get(),)

    # -- indexing ----------------------------------------------------------------------------------
    def _index(self, index: Any) -> tuple[Any, bool]:
        """Return NumPy's index for CuPy's, wrapped into bounds, and whether it is an advanced one."""
        parts = list(index) if isinstance(index, tuple) else [index]
        sources: list[ndarray] = []
        for number, part in enumerate(parts):
            if isinstance(part, list | tuple | np.ndarray | bool | np.bool_):
                part = parts[number] = array(part)
                if part.size == 0 and part.dtype.kind == "f":
                    part = parts[number] = part.astype(np.int32)
            if isinstance(part, ndarray):
                if part.dtype.kind not in "biu":
                    raise IndexError(
                        f"arrays used as indices must be of integer or boolean type. (actual: {part.dtype.type})"
                    )
                sources.append(part)
        used = sum(
            p.ndim if isinstance(p, ndarray) and p.dtype.kind == "b" else p is not None and p is not Ellipsis
            for p in parts
        )
        axis = 0
        for number, part in enumerate(parts):
            if part is Ellipsis:
                axis += self.ndim - used
            elif isinstance(part, ndarray) and part.dtype.kind == "b":
                parts[number] = part._host
                axis += part.ndim
            elif isinstance(part, ndarray):
                size = self.shape[axis] if axis < self.ndim else 0
                parts[number] = part._host.astype(np.int64) % size if size else part._host
                axis += 1
            elif part is not None:
                axis += 1
        _check_device(*sources)
        if Ellipsis not in [part for part in parts if not isinstance(part, np.ndarray)]:
            parts.append(Ellipsis)  # so that NumPy gives a 0-d view, not a scalar
        return tuple(parts), bool(sources)

    def __getitem__(self, index: Any) -> ndarray:
        host_index, advanced = self._index(index)
        value = self._host[host_index]
        if not advanced:
            return _wrap(value, self if self.base is None else self.base)
        _check_device(self)
        counts.device_to_host += any(isinstance(part, np.ndarray) and part.dtype.kind == "b" for part in host_index)
        return _wrap(np.array(value, order="C"))

    def __setitem__(self, index: Any, value: Any) -> None:
        host_index, advanced = self._index(index)
        _check_device(self)
        if not advanced:
            if isinstance(value, list | tuple) or (isinstance(value, np.ndarray) and value.ndim):
                raise ValueError("non-scalar numpy.ndarray cannot be used for fill")
            if isinstance(value, ndarray):
                _check_device(value)
                value = value._host
            self._host[host_index] = _quiet(np.asarray(value).astype, self.dtype)
            return
        source = value if isinstance(value, ndarray) else array(value, dtype=self.dtype)
        _check_device(source)
        # CuPy leaves open which of several values for one element stays: NumPy the last, here the first.
        places = np.arange(self.size).reshape(self.shape)[host_index]
        values = np.broadcast_to(_quiet(source._host.astype, self.dtype), places.shape)
        self._host[np.unravel_index(places.ravel()[::-1], self.shape)] = values.ravel()[::-1]

    # -- copies and views --------------------------------------------------------------------------
    def astype(
        self, dtype: Any, order: str = "K", casting: Any = None, subok: Any = None, copy: bool = True
    ) -> ndarray:
        _check_device(self)
        if not copy and self.dtype == dtype:
            return self
        return _wrap(_quiet(self._host.astype, dtype, order=order, casting=casting or "unsafe"))

    def copy(self, order: str = "C") -> ndarray:
        _check_driver()
        return _wrap(self._host.copy(order=order))  # type: ignore[arg-type]

    def __copy__(self) -> ndarray:
        return self.copy()

    def __deepcopy__(self, memo: Any) -> ndarray:
        with self.device:
            return self.copy()

    def flatten(self, order: str = "C") -> ndarray:
        return _wrap(self._host.flatten(order))  # type: ignore[arg-type]

    def view(self, dtype: Any = None, type: Any = None) -> ndarray:
        return _result(self._host.view() if dtype is None else self._host.view(dtype), [self])

    def reshape(self, *shape: Any, order: str = "C", copy: bool | None = None) -> ndarray:
        return reshape(self, shape[0] if len(shape) == 1 else shape, order, copy=copy)

    def transpose(self, *axes: Any) -> ndarray:
        order = axes[0] if len(axes) == 1 and not isinstance(axes[0], int) else axes or None
        return _wrap(self._host.transpose(order), self if self.base is None else self.base)

    def fill(self, value: Any) -> None:
        if isinstance(value, np.ndarray | list | tuple) and np.ndim(value):  # type: ignore[arg-type]
            raise ValueError("non-scalar numpy.ndarray cannot be used for fill")
        _check_device(self)
        self._host.fill(value._host if isinstance(value, ndarray) else value)

    def sort(self, axis: int = -1, kind: str | None = None) -> None:
        self._host[...] = _function("sort", np.sort)(self, axis=axis, kind=kind)._host

    def argsort(self, axis: int | None = -1, kind: str | None = None) -> ndarray:
        return _function("argsort", np.argsort)(self, axis=axis, kind=kind)

    def put(self, indices: Any, values: Any, mode: str = "wrap") -> None:
        self.reshape(-1)[indices if isinstance(indices, ndarray) else array(indices)] = values

    def scatter_add(self, slices: Any, value: Any) -> None:
        scatter_add(self, slices, value)

    # -- operators ---------------------------------------------------------------------------------
    def __neg__(self) -> Any:
        return ufunc(np.negative)(self)

    def __pos__(self) -> Any:
        return ufunc(np.positive)(self)

    def __abs__(self) -> Any:
        return ufunc(np.absolute)(self)

    def __invert__(self) -> Any:
        return ufunc(np.invert)(self)

    __lt__, __le__ = _binary(np.less), _binary(np.less_equal)
    __gt__, __ge__ = _binary(np.greater), _binary(np.greater_equal)
    __eq__, __ne__ = _binary(np.equal), _binary(np.not_equal)  # type: ignore[assignment]

    def __matmul__(self, other: Any) -> Any:
        if not isinstance(other, ndarray):
            if _use_other(self, other):
                return NotImplemented
            raise TypeError(f"Argument 'b' has incorrect type (expected cupy.ndarray, got {type(other).__name__})")
        return _function("matmul", np.matmul)(self, other)

    # -- NumPy's protocols: dispatch to the stand-in, never convert --------------------------------
    def __array_ufunc__(self, function: np.ufunc, method: str, *inputs: Any, **kwargs: Any) -> Any:
        if method != "__call__" or function.__name__ in LACKING:
            return NotImplemented
        for value in (*inputs, *kwargs.get("out", ())):
            if not isinstance(value, (ndarray, np.ndarray, *SCALARS)):
                return NotImplemented
        target = getattr(cupy, function.__name__)
        if "out" in kwargs:
            kwargs["out"] = kwargs["out"][0]
        return target(*inputs, **kwargs)

    def __array_function__(self, function: Any, kinds: Any, args: Any, kwargs: Any) -> Any:
        home = cupy.linalg if function.__module__ == "numpy.linalg" else cupy
        target = getattr(home, function.__name__, None)
        if target is None or any(kind not in (ndarray, np.ndarray) for kind in kinds):
            return NotImplemented
        return target(*args, **kwargs)


def _add_operators_and_methods() -> None:
    for name, function in OPERATORS.items():
        setattr(ndarray, f"__{name}__", _binary(function))
        setattr(ndarray, f"__r{name}__", _binary(function, reflected=True))
        if name != "divmod":
            setattr(ndarray, f"__i{name}__", _inplace(function))
    for name in sorted(METHODS):
        setattr(ndarray, name, _method(name))


def _method(name: str) -> Callable[..., Any]:
    def call(self: ndarray, *args: Any, **kwargs: Any) -> Any:
        return getattr(cupy, name)(self, *args, **kwargs)

    def clip(self: ndarray, min: Any = None, max: Any = None, out: Any = None) -> Any:
        return cupy.clip(self, min, max, out)

    chosen = clip if name == "clip" else call
    chosen.__name__ = name
    return chosen


class _Namespace(types.ModuleType):
    """A module that makes its functions from those of a NumPy or SciPy module when they are asked for."""

    def __init__(self, name: str, source: Any, has: Callable[[str], bool], **own: Any) -> None:
        super().__init__(name)
        self.__spec__ = importlib.machinery.ModuleSpec(name, None)
        self.__path__ = []  # type: ignore[assignment]
        self.__version__ = VERSION
        self._source, self._has = source, has
        for key, value in own.items():
            setattr(self, key, value)

    def __getattr__(self, name: str) -> Any:
        source = self._source() if callable(self._source) else self._source
        if name.startswith("_") or not self._has(name) or not hasattr(source, name):
            raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}")
        value = getattr(source, name)
        if isinstance(value, np.ufunc) and name != "matmul":
            value = ufunc(value)
        elif callable(value) and not isinstance(value, type):
            value = _function(name, value)
        elif isinstance(value, types.ModuleType):
            raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}")
        setattr(self, name, value)
        return value


def _special() -> Any:
    import scipy.special

    return scipy.special


def _erf(x: Any) -> Any:
    """CuPy's error function computes float16 in float64, unlike SciPy's."""
    widened = x.astype(np.float64) if isinstance(x, ndarray) and x.dtype == np.float16 else x
    return ufunc(_special().erf)(widened)


def _zeta(x: Any, q: Any) -> Any:
    """CuPy's zeta function is a ufunc, SciPy's a function around one."""
    return ufunc(_special()._ufuncs._zeta)(x, q)


def _no_kernels(*args: Any, **kwargs: Any) -> Any:
    raise NotImplementedError("the stand-in for CuPy compiles no CUDA source")


def as_strided(x: ndarray, shape: Any = None, strides: Any = None) -> ndarray:
    if not isinstance(x, ndarray):
        raise _unsupported(x)
    view = np.lib.stride_tricks.as_strided(x._host, shape, strides)
    return _wrap(view, x if x.base is None else x.base)


_raising = [False]


@contextlib.contextmanager
def errstate(*, linalg: str | None = None) -> Iterator[None]:
    """`cupyx.errstate`: without `linalg="raise"` nobody asks the routines
    of `cupy.linalg` whether they succeeded.
    """
    before, _raising[0] = _raising[0], linalg == "raise"
    try:
        yield
    finally:
        _raising[0] = before


def _linalg(name: str) -> Callable[..., Any]:
    """Make a function of `cupy.linalg` that may fail: it leaves garbage behind unless errors are asked for."""

    def call(a: ndarray, *args: Any) -> Any:
        if name == "solve" and not (a.ndim - args[0].ndim in (0, 1) and a.shape[:-1] == args[0].shape[: a.ndim - 1]):
            raise ValueError("a must have (..., M, M) shape and b must have (..., M) or (..., M, K)")
        try:
            return _function(name, getattr(np.linalg, name))(a, *args)
        except np.linalg.LinAlgError:
            if _raising[0]:
                counts.synchronizations += 1
                raise
            return _wrap(np.full((args[0] if args else a).shape, -12345.0, a.dtype))

    return call


runtime = types.ModuleType("cupy.cuda.runtime")
runtime.CUDARuntimeError = CUDARuntimeError  # type: ignore[attr-defined]
runtime.getDeviceCount, runtime.getDevice = get_device_count, get_device  # type: ignore[attr-defined]
runtime.setDevice, runtime.deviceSynchronize = set_device, _synchronize  # type: ignore[attr-defined]

cuda = types.ModuleType("cupy.cuda")
cuda.Device, cuda.Stream, cuda.runtime = Device, Stream, runtime  # type: ignore[attr-defined]
cuda.is_available = is_available  # type: ignore[attr-defined]
cuda.get_current_stream = lambda device_id=-1: Stream.null  # type: ignore[attr-defined]
cuda.MemoryPointer, cuda.MemoryPool = MemoryPointer, MemoryPool  # type: ignore[attr-defined]

cupy = _Namespace(
    "cupy",
    np,
    lambda name: name not in LACKING,
    ndarray=ndarray,
    ufunc=ufunc,
    array=array,
    asarray=asarray,
    asanyarray=asarray,
    asnumpy=asnumpy,
    take=take,
    take_along_axis=take_along_axis,
    put_along_axis=put_along_axis,
    repeat=repeat,
    reshape=reshape,
    where=where,
    copyto=copyto,
    ascontiguousarray=ascontiguousarray,
    get_array_module=get_array_module,
    is_available=is_available,
    get_default_memory_pool=MemoryPool,
    get_default_pinned_memory_pool=MemoryPool,
    cuda=cuda,
    linalg=_Namespace(
        "cupy.linalg", np.linalg, LINALG.__contains__, **{name: _linalg(name) for name in ("inv", "solve", "cholesky")}
    ),
    ElementwiseKernel=_no_kernels,
    ReductionKernel=_no_kernels,
    RawKernel=_no_kernels,
    RawModule=_no_kernels,
    fuse=_no_kernels,
)
stride_tricks = types.ModuleType("cupy.lib.stride_tricks")
stride_tricks.as_strided = as_strided  # type: ignore[attr-defined]
cupy.lib = types.ModuleType("cupy.lib")
cupy.lib.stride_tricks = stride_tricks
special = _Namespace("cupyx.scipy.special", _special, lambda name: name not in ("erf", "zeta"), erf=_erf, zeta=_zeta)
cupyx_scipy = _Namespace("cupyx.scipy", types.SimpleNamespace(), lambda name: False, special=special)
cupyx = _Namespace(
    "cupyx",
    types.SimpleNamespace(),
    lambda name: False,
    scatter_add=scatter_add,
    scatter_max=scatter_max,
    errstate=errstate,
    scipy=cupyx_scipy,
)
_add_operators_and_methods()

MODULES = {
    "cupy": cupy,
    "cupy.cuda": cuda,
    "cupy.cuda.runtime": runtime,
    "cupy.lib": cupy.lib,
    "cupy.lib.stride_tricks": stride_tricks,
    "cupy.linalg": cupy.linalg,
    "cupyx": cupyx,
    "cupyx.scipy": cupyx_scipy,
    "cupyx.scipy.special": special,
}


@contextlib.contextmanager
def installed(device_count: int = 1, driver_works: bool = True) -> Iterator[Counts]:
    """Let `import cupy` find the stand-in, on a machine with so many GPUs; give the counts, at zero."""
    before = {name: sys.modules.get(name) for name in MODULES}
    sys.modules.update(MODULES)
    state = machine.device_count, machine.driver_works, machine.current
    machine.device_count, machine.driver_works, machine.current = device_count, driver_works, 0
    counts.reset()
    try:
        yield counts
    finally:
        machine.device_count, machine.driver_works, machine.current = state
        for name, module in before.items():
            if module is None:
                sys.modules.pop(name, None)
            else:
                sys.modules[name] = module
