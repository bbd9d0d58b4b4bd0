"""The stand-in for CuPy differs from NumPy where CuPy does."""

from __future__ import annotations

import copy
import importlib
import pickle
import sys
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import fake_cupy


@pytest.fixture(autouse=True)
def counts() -> Iterator[fake_cupy.Counts]:
    with fake_cupy.installed(device_count=2) as counts:
        yield counts


@pytest.fixture
def cupy(counts: fake_cupy.Counts) -> Any:
    import cupy

    return cupy


@pytest.fixture
def x(cupy: Any, counts: fake_cupy.Counts) -> Any:
    x = cupy.arange(6.0).reshape(2, 3).copy()
    assert counts.transfers == 0
    return x


HOST = np.arange(6.0).reshape(2, 3)


def same(device_array: Any, expected: Any) -> bool:
    expected = np.asarray(expected)
    return device_array.dtype == expected.dtype and np.array_equal(device_array.get(), expected)


# -- conversion and mixing -------------------------------------------------------------------------
@pytest.mark.parametrize("convert", [np.asarray, np.array, np.ascontiguousarray, lambda x: HOST.__setitem__(0, x[0])])
def test_implicit_conversion_raises(x: Any, convert: Any) -> None:
    with pytest.raises(TypeError, match=r"Implicit conversion to a NumPy array is not allowed.*\.get\(\)"):
        convert(x)


@pytest.mark.parametrize(
    "mix",
    [
        lambda cupy, x: x + HOST,
        lambda cupy, x: HOST + x,
        lambda cupy, x: x @ HOST.T,
        lambda cupy, x: x > HOST,
        lambda cupy, x: x + np.array(2.0),
        lambda cupy, x: x.__iadd__(HOST),
        lambda cupy, x: x * [1],
        lambda cupy, x: cupy.exp(HOST),
        lambda cupy, x: cupy.exp([1.0]),
        lambda cupy, x: cupy.add(x, x, out=HOST),
        lambda cupy, x: cupy.sum(HOST),
        lambda cupy, x: cupy.sum([1, 2]),
        lambda cupy, x: cupy.sum(x, out=HOST),
        lambda cupy, x: cupy.concatenate([x, HOST]),
        lambda cupy, x: cupy.stack([1, 2]),
        lambda cupy, x: cupy.where(x > 1, x, HOST),
        lambda cupy, x: cupy.maximum(x, None),
        lambda cupy, x: cupy.matmul(x, HOST.T),
        lambda cupy, x: cupy.einsum("ij->i", HOST),
        lambda cupy, x: cupy.ascontiguousarray(HOST),
        lambda cupy, x: np.concatenate([x, HOST]),
        lambda cupy, x: np.add(x, HOST),
        lambda cupy, x: x == None,  # noqa: E711
    ],
)
def test_numpy_arrays_and_lists_are_refused(cupy: Any, x: Any, mix: Any) -> None:
    with pytest.raises(TypeError):
        mix(cupy, x)


def test_python_condition_of_where_is_refused(cupy: Any, x: Any) -> None:
    with pytest.raises(AttributeError):
        cupy.where(True, x, x)


@pytest.mark.parametrize("value", [HOST, [1.0, 2.0, 3.0]])
def test_numpy_arrays_cannot_fill(x: Any, value: Any) -> None:
    with pytest.raises(ValueError, match="non-scalar"):
        x[...] = value
    with pytest.raises(ValueError, match="non-scalar"):
        x.fill(value)


def test_scalars_of_the_host_are_welcome_and_weak(cupy: Any, counts: fake_cupy.Counts) -> None:
    x = cupy.ones(3, np.float32)
    for result in (
        x + 1,
        2.5 * x,
        np.float32(2) * x,
        x > 0.5,
        cupy.maximum(x, 0.0),
        cupy.where(x > 0, 1.0, x),
        -x,
        +x,
        abs(x),
    ):
        assert isinstance(result, cupy.ndarray)
        assert result.dtype in (np.float32, np.bool_)
    assert (np.float64(2) * x).dtype == np.float64  # a NumPy scalar is not weak
    assert counts.transfers == 0


def test_numpy_functions_dispatch_to_the_device(cupy: Any, x: Any, counts: fake_cupy.Counts) -> None:
    for result in (np.exp(x), np.sum(x), np.concatenate([x, x]), np.add(x, 1.0), np.linalg.norm(x)):
        assert isinstance(result, cupy.ndarray)
    assert counts.transfers == 0


def test_an_object_without_array_ufunc_takes_the_operator(x: Any) -> None:
    class Other:
        __array_ufunc__ = None

        def __radd__(self, other: Any) -> str:
            return "reflected"

        __rmatmul__ = __rmul__ = __radd__

    assert x + Other() == x @ Other() == x * Other() == "reflected"


def test_what_cupy_lacks(cupy: Any, x: Any) -> None:
    for name in ("__contains__", "__index__", "__round__", "__imatmul__", "__array_interface__", "ctypes", "setflags"):
        assert not hasattr(cupy.ndarray, name), name
    with pytest.raises(TypeError):
        range(cupy.asarray(3))
    with pytest.raises(TypeError):
        hash(x)
    with pytest.raises(AttributeError):
        x.flags.writeable  # noqa: B018
    for name in ("random", "block", "insert", "errstate", "ndenumerate", "vecdot", "float128"):
        with pytest.raises(AttributeError):
            getattr(cupy, name)
    with pytest.raises(ImportError):
        importlib.import_module("cupy.random")


@pytest.mark.parametrize(
    "call",
    [
        lambda cupy, x: cupy.sum(x, where=x > 0),
        lambda cupy, x: cupy.max(x, initial=0.0),
        lambda cupy, x: cupy.var(x, correction=1),
        lambda cupy, x: cupy.argsort(x, stable=True),
        lambda cupy, x: cupy.take(x, x.astype(int), mode="clip"),
        lambda cupy, x: cupy.zeros(3, like=x),
        lambda cupy, x: cupy.count_nonzero(x, keepdims=True),
        lambda cupy, x: cupy.clip(x, min=0),
        lambda cupy, x: cupy.reshape(x, shape=(6,)),
        lambda cupy, x: x.sum(where=x > 0),
        lambda cupy, x: x.item(0),
    ],
)
def test_keywords_that_cupy_lacks_are_refused(cupy: Any, x: Any, call: Any) -> None:
    with pytest.raises(TypeError, match=r"unexpected keyword|positional"):
        call(cupy, x)


def test_only_the_default_and_stable_sorts_exist(cupy: Any, x: Any) -> None:
    assert same(cupy.argsort(x, kind="stable", axis=1), [[0, 1, 2]] * 2)
    with pytest.raises(ValueError, match="stable"):
        cupy.sort(x, kind="mergesort")


# -- results ---------------------------------------------------------------------------------------
def test_results_stay_on_the_device_as_0d_arrays(cupy: Any, x: Any, counts: fake_cupy.Counts) -> None:
    results = [
        x.sum(),
        cupy.mean(x),
        x.max(),
        cupy.argmax(x),
        x.any(),
        cupy.all(x),
        cupy.count_nonzero(x),
        x[0, 0],
        x[1][2],
        cupy.exp(x[0, 0]),
        x[0, 0] + 1,
        cupy.array_equal(x, x),
        cupy.einsum("ij->", x),
        x.prod(),
        x.std(),
        -x[0, 0],
        cupy.dot(x[0], x[1]),
        cupy.add.reduce(x[0]),
        cupy.where(x[0, 0] > 0, 1.0, 0.0),
        cupy.full((), 3.0),
    ]
    for number, result in enumerate(results):
        assert type(result) is cupy.ndarray, number
        assert result.shape == (), number
    assert counts.transfers == 0


def test_results_that_are_python_objects(cupy: Any, x: Any) -> None:
    assert cupy.ndim(x) == 2 and cupy.shape(x) == (2, 3)
    assert cupy.result_type(x, np.float32) == np.float64
    assert cupy.may_share_memory(x, x[0]) is True


def test_new_arrays_are_c_contiguous(cupy: Any, x: Any) -> None:
    assert (x.T + x.T).flags.c_contiguous
    assert cupy.exp(x.T).flags.c_contiguous
    assert not x.T.flags.c_contiguous and x.T.flags.f_contiguous and not x.T.flags.owndata
    assert cupy.ascontiguousarray(x) is x
    assert x.astype(np.float64, copy=False) is x


def test_no_warnings_from_the_device(cupy: Any, x: Any) -> None:
    assert np.isnan((x / 0.0).get()[0, 0])
    assert np.isinf(cupy.log(x).get()[0, 0])
    assert np.isnan(cupy.sqrt(-1 - x).get()).all()


# -- transfers -------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "fetch",
    [
        float,
        bool,
        int,
        str,
        repr,
        lambda a: f"{a:.2f}",
        lambda a: a.item(),
        lambda a: a.get(),
        lambda a: a.tolist(),
        lambda a: a.tobytes(),
        pickle.dumps,
        lambda a: sys.modules["cupy"].asnumpy(a),
        lambda a: a.reshape(1).nonzero(),
        lambda a: a.reshape(1)[a.reshape(1) > 0],
    ],
)
def test_reading_counts_as_a_transfer_to_the_host(x: Any, counts: fake_cupy.Counts, fetch: Any) -> None:
    fetch(x[1, 2])
    assert (counts.host_to_device, counts.device_to_host) == (0, 1)


def test_sending_counts_as_a_transfer_to_the_device(cupy: Any, x: Any, counts: fake_cupy.Counts) -> None:
    source = np.arange(3)
    sent = cupy.asarray(source)
    cupy.array([1.0, 2.0])
    x[[0, 1]]
    x[:, source]
    x.set(HOST)
    x[[0], [1]] = np.array([1.0])
    assert counts.host_to_device == 8
    source[0] = 100
    assert same(sent, np.arange(3))  # a copy
    counts.reset()
    for unchanged in (cupy.asarray(x), cupy.asarray(x, dtype=np.float64)):
        assert unchanged is x
    assert cupy.array(x) is not x
    assert counts.transfers == 0


def test_waiting_is_counted(cupy: Any, counts: fake_cupy.Counts) -> None:
    cupy.cuda.Device(0).synchronize()
    cupy.cuda.get_current_stream().synchronize()
    cupy.cuda.Stream.null.synchronize()
    cupy.cuda.runtime.deviceSynchronize()
    assert (counts.synchronizations, counts.transfers) == (4, 0)


def test_truth_of_several_elements_is_ambiguous(x: Any) -> None:
    with pytest.raises(ValueError, match="ambiguous"):
        bool(x)
    with pytest.raises(ValueError, match="size 1"):
        x.item()


def test_only_numbers(cupy: Any) -> None:
    for values in (["a"], [None], np.array(["x"]), [object()]):
        with pytest.raises(ValueError, match="Unsupported dtype"):
            cupy.array(values)


# -- indexing --------------------------------------------------------------------------------------
def test_integer_arrays_wrap_out_of_bounds(cupy: Any, x: Any) -> None:
    index = cupy.asarray([1, 3, -1, 7])
    assert same(cupy.arange(3)[index], [1, 0, 2, 1])
    assert same(cupy.take(cupy.arange(3), index), [1, 0, 2, 1])
    assert same(x[:, index], HOST[:, [1, 0, 2, 1]])
    assert same(x[cupy.asarray([2, 3]), cupy.asarray([3, 4])], [0.0, 4.0])
    assert same(x[..., None, index], HOST[..., None, [1, 0, 2, 1]])
    assert same(cupy.take_along_axis(x, cupy.asarray([[3], [4]]), axis=1), [[0.0], [4.0]])
    x[0, cupy.asarray([3])] = 9.0
    assert float(x[0, 0]) == 9.0
    cupy.put_along_axis(x, cupy.asarray([[4], [5]]), -1.0, axis=1)
    assert float(x[0, 1]) == float(x[1, 2]) == -1.0


def test_integer_scalars_are_checked(x: Any) -> None:
    with pytest.raises(IndexError):
        x[2]
    with pytest.raises(IndexError):
        x[0, 0, 0]


def test_repeated_indices_in_an_assignment_do_not_keep_the_last_value(cupy: Any) -> None:
    x = cupy.zeros(3)
    x[cupy.asarray([1, 1])] = cupy.asarray([5.0, 6.0])
    assert float(x[1]) == 5.0  # NumPy says 6, CuPy says nothing
    host = np.zeros((2, 3))
    host[:, [0, 2]] = [[1.0, 2.0], [3.0, 4.0]]
    y = cupy.zeros((2, 3))
    y[:, cupy.asarray([0, 2])] = cupy.asarray([[1.0, 2.0], [3.0, 4.0]])
    assert same(y, host)


def test_masks(cupy: Any, x: Any) -> None:
    assert same(x[x > 2], HOST[HOST > 2])
    x[x > 2] = 0.0
    x[cupy.asarray([False, True])] += 1.0
    assert same(x, [[0.0, 1.0, 2.0], [1.0, 1.0, 1.0]])
    with pytest.raises(IndexError):
        x[cupy.ones(3, bool)]
    with pytest.raises(IndexError):
        x[cupy.ones(3)]


def test_basic_indexing_gives_views(x: Any) -> None:
    for view in (
        x[0],
        x[:, 1:],
        x[..., None],
        x[1, 2],
        x.T,
        x.reshape(6),
        x.ravel(),
        x.view(),
        x[0][1:],
        x.swapaxes(0, 1),
    ):
        assert view.base is x
    row = x[1]
    row[1:] = 7.0
    x[0, 0][...] = 8.0
    assert same(x, [[8.0, 1.0, 2.0], [3.0, 7.0, 7.0]])
    assert x[1].data.ptr == x.data.ptr + 24 and x[1].strides == (8,)


def test_advanced_indexing_gives_copies(cupy: Any, x: Any) -> None:
    for part in (x[cupy.asarray([0])], x[[0, 1]], x[x > 0], x[cupy.asarray(1)], x.take(cupy.asarray([0]), axis=0)):
        assert part.base is None
    assert same(x[cupy.asarray(1)], HOST[1])


def test_functions_that_view_are_writable_views(cupy: Any, x: Any) -> None:
    square = cupy.zeros((3, 3))
    cupy.diagonal(square)[...] = 1.0
    assert same(square, np.eye(3))
    for view in (
        cupy.broadcast_to(x, (4, 2, 3)),
        cupy.squeeze(x[None]),
        cupy.moveaxis(x, 0, 1),
        cupy.expand_dims(x, 0),
        cupy.flip(x, 0),
        cupy.transpose(x),
        cupy.reshape(x, (3, 2)),
        cupy.split(x, 3, axis=1)[1],
    ):
        assert view.base is x
    with pytest.raises(ValueError, match="copy"):
        cupy.reshape(x.T, (6,), copy=False)


# -- writing ---------------------------------------------------------------------------------------
def test_inplace_operators_and_out(cupy: Any, x: Any) -> None:
    before, pointer = x, x.data.ptr
    x += 1
    x *= x
    x -= x[0]
    x /= 2.0
    assert x is before and x.data.ptr == pointer
    out = cupy.empty_like(x)
    assert cupy.add(x, 1.0, out=out) is out
    assert cupy.add(x, 2.0, out) is out
    assert cupy.matmul(x, x.T, out=cupy.empty((2, 2))).shape == (2, 2)
    assert cupy.sum(x, axis=0, out=cupy.empty(3)).shape == (3,)
    cupy.copyto(out, 3.0, where=x > 0)
    cupy.copyto(out, x)
    assert same(out, x.get())
    with pytest.raises(TypeError):
        cupy.add(x, 1.5, out=cupy.empty((2, 3), np.int32))
    with pytest.raises(ValueError, match="non-scalar"):
        cupy.copyto(out, HOST)


def test_matmul_in_place_makes_a_new_array(cupy: Any) -> None:
    x = before = cupy.eye(2)
    x @= x
    assert x is not before


def test_scatter_add_accumulates_and_knows_few_dtypes(cupy: Any) -> None:
    import cupyx

    x = cupy.zeros(3, np.float32)
    cupyx.scatter_add(x, cupy.asarray([0, 0, 4]), cupy.ones(3, np.float32))
    cupyx.scatter_add(x, slice(0, 2), 1.0)
    cupy.add.at(x, cupy.asarray([0]), 1.0)
    assert same(x, np.array([4, 2, 0], np.float32))
    with pytest.raises(TypeError, match="scatter_add only supports"):
        cupyx.scatter_add(cupy.zeros(3, np.int64), cupy.asarray([0]), 1)
    with pytest.raises(NotImplementedError):
        cupy.multiply.at(x, cupy.asarray([0]), 1.0)


def test_special_functions(cupy: Any, x: Any) -> None:
    import cupyx.scipy.special

    assert abs(float(cupyx.scipy.special.erf(x)[0, 1]) - 0.8427007929497149) < 1e-15
    with pytest.raises(TypeError):
        cupyx.scipy.special.erf(HOST)


def test_copies(cupy: Any, x: Any) -> None:
    for duplicate in (x.copy(), copy.copy(x), copy.deepcopy(x), pickle.loads(pickle.dumps(x))):
        assert duplicate is not x and duplicate.base is None and same(duplicate, HOST)


def test_kernels_are_not_compiled(cupy: Any) -> None:
    with pytest.raises(NotImplementedError):
        cupy.ElementwiseKernel("T x", "T y", "y = x", "identity")


# -- devices ---------------------------------------------------------------------------------------
def test_arrays_are_made_on_the_current_device_and_used_only_there(cupy: Any, x: Any) -> None:
    assert x.device == cupy.cuda.Device(0) and x.device.id == 0
    with cupy.cuda.Device(1):
        y = cupy.ones(3)
        assert cupy.cuda.runtime.getDevice() == 1
        with pytest.raises(ValueError, match="must be same as the current device"):
            x + 1
        moved = cupy.asarray(x)
        assert moved.device.id == 1 and moved is not x
        assert x.T.device.id == 0
        assert copy.deepcopy(x).device.id == 0
    assert cupy.cuda.runtime.getDevice() == 0
    assert y.device.id == 1
    with pytest.raises(ValueError, match="array device = 1 while current = 0"):
        y.sum()
    with pytest.raises(ValueError, match="current device"):
        y[cupy.asarray([0])]


def test_device_numbers_are_checked(cupy: Any) -> None:
    assert cupy.cuda.runtime.getDeviceCount() == 2
    with pytest.raises(cupy.cuda.runtime.CUDARuntimeError) as caught, cupy.cuda.Device(2):
        pass
    assert caught.value.status == 101


def test_installed_without_a_driver() -> None:
    with fake_cupy.installed(driver_works=False):
        import cupy

        assert not cupy.is_available()
        for call in (lambda: cupy.zeros(3), cupy.cuda.runtime.getDeviceCount, lambda: cupy.asarray(HOST)):
            with pytest.raises(cupy.cuda.runtime.CUDARuntimeError, match="cudaErrorInsufficientDriver"):
                call()
        assert cupy.get_array_module(HOST) is np


def test_installing_ends_with_the_block() -> None:
    with fake_cupy.installed(device_count=3):
        assert sys.modules["cupy"].cuda.runtime.getDeviceCount() == 3
    assert sys.modules["cupy"].cuda.runtime.getDeviceCount() == 2  # the fixture's


# -- linear algebra --------------------------------------------------------------------------------
def test_linear_algebra_leaves_garbage_unless_errors_are_asked_for(cupy: Any) -> None:
    import cupyx

    singular = cupy.asarray(np.ones((2, 2)))
    assert cupy.linalg.inv(singular).shape == (2, 2)
    with cupyx.errstate(linalg="raise"), pytest.raises(np.linalg.LinAlgError):
        cupy.linalg.inv(singular)
    with pytest.raises(ValueError, match="must have"):
        cupy.linalg.solve(cupy.asarray(np.ones((3, 2, 2))), cupy.asarray(np.ones((2, 1))))
