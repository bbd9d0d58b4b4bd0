"""What tensors' operators, NumPy's functions and matplotlib do with each other and with objects that nobody knows."""

from __future__ import annotations

import importlib
import operator
from typing import Any

import numpy as np
import pytest

import nanotorch
from oracle import outcome, pytorch

FOREIGN = [None, "text", [1, 2], (1.0, 2.0), {}, {1}, b"x", object, ...]
COMPARED = [operator.eq, operator.ne]
OTHERS = [
    operator.lt,
    operator.le,
    operator.gt,
    operator.ge,
    operator.add,
    operator.sub,
    operator.mul,
    operator.truediv,
    operator.floordiv,
    operator.mod,
    operator.pow,
    operator.matmul,
    operator.and_,
    operator.or_,
    operator.xor,
    operator.lshift,
    operator.rshift,
]


class Own:
    """An object that knows how to answer tensors."""

    def answer(self, other: Any) -> str:
        return "own"

    __eq__ = __ne__ = __lt__ = __le__ = __gt__ = __ge__ = __radd__ = __rsub__ = __rmul__ = __rtruediv__ = (
        __rfloordiv__
    ) = answer  # type: ignore[assignment]
    __rmod__ = __rpow__ = __rmatmul__ = __rand__ = __ror__ = __rxor__ = __rlshift__ = __rrshift__ = answer
    __hash__ = None  # type: ignore[assignment]


@pytest.mark.parity
@pytest.mark.parametrize("symbol", [*COMPARED, *OTHERS], ids=lambda f: f.__name__)
def test_objects_that_tensors_do_not_know(symbol: Any) -> None:
    """Equal to nothing, no operand of anything else, but free to answer themselves: as in PyTorch."""

    def results(library: Any) -> list[Any]:
        found = []
        for x in (library.tensor([1, 2]), library.tensor(1), library.ones(2), library.ones(2, requires_grad=True)):
            for value in FOREIGN if symbol in COMPARED else FOREIGN[:2] + FOREIGN[4:]:
                found.append(outcome(lambda _, x=x, v=value: symbol(x, v), library))
                if symbol in COMPARED:
                    found.append(symbol(value, x))
            found.append(symbol(x, Own()))
            if not x.is_floating_point():
                found += [outcome(lambda _, x=x, v=v: symbol(x, v), library) for v in (3, np.int64(2))]
        return found

    assert results(nanotorch) == results(pytorch)


@pytest.mark.parity
def test_tensors_in_lists_and_as_members() -> None:
    def results(library: Any) -> list[Any]:
        x = library.tensor([1.0, 2.0])
        found: list[Any] = [
            [None, "a", x].index(x),
            1.0 in x,
            library.tensor(2.0) in x,
            3 in x,
            x in [None, x],
            None in [x, None],
        ]
        return [*found, *[outcome(lambda lib, v=v: v in lib.tensor([1.0]), library) for v in (None, "a", [1.0])]]

    assert results(nanotorch) == results(pytorch)


@pytest.mark.parametrize(
    "name",
    ["add", "sub", "mul", "true_divide", "floor_divide", "remainder", "pow", "matmul", "eq", "ne", "lt", "bitwise_and"],
)
@pytest.mark.parametrize("value", [None, "text", [1, 2], object()], ids=["none", "text", "list", "object"])
def test_functions_name_the_argument_that_is_no_operand(name: str, value: Any) -> None:
    with pytest.raises(TypeError, match=r"must be Tensor|matmul"):
        getattr(nanotorch, name)(nanotorch.tensor([1, 2]), value)


def arrays() -> list[np.ndarray[Any, Any]]:
    return [np.array([4.0, 9.0]), np.array(2.0), np.array([1, 2]), np.array([[1.0], [2.0]], np.float32)]


SYMBOLS = [
    operator.add,
    operator.sub,
    operator.mul,
    operator.truediv,
    operator.floordiv,
    operator.mod,
    operator.pow,
    operator.lt,
    operator.ge,
    operator.eq,
    operator.ne,
]


@pytest.mark.parametrize("symbol", SYMBOLS, ids=lambda f: f.__name__)
def test_an_array_first_is_the_tensor_of_it_first(symbol: Any) -> None:
    """The result, its dtype and its gradient are those of the tensor that shares the array's memory."""
    for array in [*arrays(), np.float64(3.0), np.int32(2)]:
        for dtype in (nanotorch.float32, nanotorch.float64, nanotorch.int64):
            results = []
            for first in (array, nanotorch.from_numpy(array) if isinstance(array, np.ndarray) else array.item()):
                x = nanotorch.tensor([2, 3], dtype=dtype, requires_grad=dtype.is_floating_point)
                result = symbol(first, x)
                assert isinstance(result, nanotorch.Tensor)
                grad = None
                if result.requires_grad and type(result.grad_fn).__name__ != "NotImplemented":
                    result.sum().backward()
                    grad = x.grad.tolist()
                results.append((result.dtype, result.tolist(), grad))
            assert results[0] == results[1]


@pytest.mark.parametrize(
    "name", ["exp", "sqrt", "isnan", "negative", "modf", "frexp", "spacing", "sign", "logical_not", "rint", "cbrt"]
)
@pytest.mark.parametrize("shape", [(), (3,), (0, 2)])
def test_functions_of_elements_give_tensors(name: str, shape: tuple[int, ...]) -> None:
    function, x = getattr(np, name), nanotorch.rand(shape)
    actual, expected = function(x), function(x.numpy())
    for a, e in zip(
        actual if isinstance(actual, tuple) else (actual,),
        expected if isinstance(expected, tuple) else (expected,),
        strict=True,
    ):
        assert isinstance(a, nanotorch.Tensor) and tuple(a.shape) == shape
        np.testing.assert_array_equal(a.numpy(), e, strict=bool(shape))


@pytest.mark.parametrize(
    "call",
    [
        np.exp,
        np.sum,
        np.asarray,
        np.array,
        lambda x: np.add.reduce(x),
        lambda x: np.maximum.outer(x, x),
        lambda x: np.divmod(np.ones(2), x),
        lambda x: np.stack([x, x]),
        lambda x: np.testing.assert_allclose(x, 1.0),
        lambda x: np.add(np.ones(2), x, out=np.ones(2)),
        lambda x: operator.iadd(np.ones(2), x),
    ],
)
def test_history_is_never_lost_silently(call: Any) -> None:
    x = nanotorch.ones(2)
    if call is not np.sum:  # a method of the tensor, which has no axis
        call(x)
    with pytest.raises((RuntimeError, TypeError), match=r"detach\(\)|axis"):
        call(x.requires_grad_())


def test_arrays_are_written_and_tensors_are_not() -> None:
    array, x = np.ones(2), nanotorch.tensor([1.0, 2.0])
    array += x
    assert isinstance(array, np.ndarray) and array.tolist() == [2.0, 3.0]
    assert np.exp(x, out=np.empty(2, np.float32)).__class__ is np.ndarray
    assert np.add(x, 1.0, where=x > 1, out=np.zeros(2)).tolist() == [0.0, 3.0]
    for write in (lambda: np.exp(np.ones(2), out=x), lambda: np.add.at(x, [0], 1.0)):
        with pytest.raises(TypeError, match="writes to arrays, not to tensors"):
            write()


def test_dtypes_that_tensors_do_not_have() -> None:
    x = nanotorch.ones(2)
    for array in (np.ones(2, complex), np.ones(2, np.uint16), np.array(["a", "b"]), np.array([None, 1])):
        for call in (
            lambda a=array: a + x,
            lambda a=array: x + a,
            lambda a=array: nanotorch.add(x, a),
            lambda a=array: nanotorch.exp(a),
        ):
            with pytest.raises(TypeError, match=r"cannot hold NumPy dtype|must be Tensor"):
                call()
    assert (np.ones(2, ">f8") + x).dtype is nanotorch.float64
    for scalar in (1j, np.complex64(1)):
        with pytest.raises(TypeError):
            x + scalar


def test_a_gpu_says_cpu_first(device: Any) -> None:
    x = nanotorch.ones(2).to(device)
    if device.type == "cpu":
        assert np.exp(x).tolist() == np.exp(x.numpy()).tolist()
        return
    for call in (np.exp, np.asarray, lambda x: np.add.reduce(x)):
        with pytest.raises(TypeError, match=r"Tensor\.cpu\(\)"):
            call(x)


def test_matplotlib_draws_tensors() -> None:
    pyplot = importlib.import_module("matplotlib.pyplot")
    figure, axes = pyplot.subplots()
    x, y = nanotorch.arange(3), nanotorch.tensor([1.0, 4.0, 9.0])
    assert axes.plot(x, y)[0].get_ydata().tolist() == [1.0, 4.0, 9.0]
    axes.scatter(x, y)
    axes.bar(x, y)
    axes.imshow(nanotorch.rand(3, 3))
    axes.errorbar(x, y, yerr=y)
    for draw in (
        lambda: axes.plot(y.requires_grad_()),
        lambda: axes.scatter(x, y),
        lambda: axes.imshow(nanotorch.rand(3, 3, requires_grad=True)),
    ):
        with pytest.raises(RuntimeError, match=r"detach\(\)"):
            draw()
    pyplot.close(figure)
