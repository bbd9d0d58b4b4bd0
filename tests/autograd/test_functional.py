"""autograd.functional: Jacobians, Hessians and products with vectors, against PyTorch and by hand."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import nanotorch as torch
from oracle import pytorch, to_numpy

F = torch.autograd.functional
Make = Callable[[Any], Callable[..., Any]]

# Every function is written once in PyTorch's API: it gets the library, and returns a function of float64 tensors of the
# shapes.
FUNCTIONS: dict[str, tuple[Make, list[tuple[int, ...]]]] = {
    "elementwise": (lambda lib: lambda x: x.exp() * x.sin(), [(3,)]),
    "scalar in, scalar out": (lambda lib: lambda x: x**3, [()]),
    "scalar in, vector out": (lambda lib: lambda x: lib.stack([x, x * x, x.cos()]), [()]),
    "matrix to vector": (lambda lib: lambda x: x.exp().sum(dim=1), [(2, 3)]),
    "matrix to matrix": (lambda lib: lambda x: x @ x.tanh(), [(2, 2)]),
    "two inputs": (lambda lib: lambda x, y: (x * y).sin() + x.sum(), [(2,), (2,)]),
    "two inputs of unlike shapes": (lambda lib: lambda x, w: lib.tanh(x @ w), [(2, 3), (3, 1)]),
    "two outputs": (lambda lib: lambda x: (x.exp(), x.sum()), [(2,)]),
    "tuples on both sides": (lambda lib: lambda x, y: (x * y.sum(), y * y, x.sum() + y.sum()), [(2,), (3,)]),
    "an unused input": (lambda lib: lambda x, y: x * 2, [(2,), (3,)]),
    "an output that depends on one input": (lambda lib: lambda x, y: (x * x, y * y), [(2,), (2,)]),
    "constant output": (lambda lib: lambda x: lib.ones(2, dtype=lib.float64), [(3,)]),
    "linear": (lambda lib: lambda x: x.cumsum(0), [(3,)]),
    "softmax": (lambda lib: lambda x: lib.softmax(x, dim=1), [(2, 3)]),
    "layer": (lambda lib: lambda x, w, b: lib.nn.functional.linear(x, w, b).tanh(), [(2, 3), (4, 3), (4,)]),
    "views and in-place": (lambda lib: lambda x: _write(x.clone()), [(4,)]),
    "integer output beside": (lambda lib: lambda x: (x * 2, (x * 2).argmax()), [(3,)]),
}
SCALAR_FUNCTIONS: dict[str, tuple[Make, list[tuple[int, ...]]]] = {
    "quartic": (lambda lib: lambda x: (x**4).sum(), [(3,)]),
    "0-d": (lambda lib: lambda x: x.exp() * x, [()]),
    "one element": (lambda lib: lambda x: (x.sin() ** 2).reshape(1), [(1,)]),
    "mixed": (lambda lib: lambda x, y: (x.exp() * y).sum() + (y**3).sum(), [(2,), (2,)]),
    "bilinear": (lambda lib: lambda x, y: x @ y, [(2,), (2,)]),
    "linear": (lambda lib: lambda x: x.sum() * 2, [(2,)]),
    "linear in one": (lambda lib: lambda x, y: (x**3).sum() + y.sum(), [(2,), (2,)]),
    "unused": (lambda lib: lambda x, y: (x**3).sum(), [(2,), (2,)]),
    "log-sum-exp": (lambda lib: lambda x: lib.logsumexp(x.flatten(), dim=0), [(2, 2)]),
    "quadratic": (lambda lib: lambda x: (x * x).sum(), [(2,)]),
    "cross entropy": (
        lambda lib: lambda x, w: lib.nn.functional.cross_entropy(x @ w, lib.tensor([0, 1, 1])),
        [(3, 2), (2, 2)],
    ),
}


def _write(x: Any) -> Any:
    part = x[1:3]
    part.mul_(x[0].clone())
    return x * x


def arrays(shapes: list[tuple[int, ...]], seed: int = 0) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    return [rng.uniform(0.2, 1.5, shape) for shape in shapes]


def given(lib: Any, values: list[np.ndarray], requires_grad: bool = False) -> Any:
    tensors = tuple(lib.tensor(value, requires_grad=requires_grad) for value in values)
    return tensors if len(tensors) > 1 else tensors[0]


def plain(result: Any) -> Any:
    """The structure of a result with arrays in place of tensors, and whether each requires grad."""
    if isinstance(result, tuple):
        return tuple(plain(part) for part in result)
    return to_numpy(result), result.requires_grad


def outcome(call: Callable[[], Any]) -> Any:
    try:
        return plain(call())
    except RuntimeError:
        return "RuntimeError"


def assert_equal(mine: Any, theirs: Any) -> None:
    assert type(mine) is type(theirs), (mine, theirs)
    if isinstance(theirs, str):
        assert mine == theirs
    elif isinstance(theirs[0], np.ndarray) and isinstance(theirs[1], bool):
        assert mine[0].shape == theirs[0].shape and mine[0].dtype == theirs[0].dtype
        np.testing.assert_allclose(mine[0], theirs[0], rtol=1e-10, atol=1e-12)
        assert mine[1] == theirs[1]
    else:
        assert len(mine) == len(theirs)
        for a, b in zip(mine, theirs, strict=True):
            assert_equal(a, b)


def compare(name: str, functions: Any, call: Callable[[Any, Any, Any], Any], requires_grad: bool = False) -> Any:
    make, shapes = functions[name]
    results = []
    for lib in (torch, pytorch):
        inputs = given(lib, arrays(shapes), requires_grad)
        results.append(outcome(lambda lib=lib, inputs=inputs: call(lib, make(lib), inputs)))
    assert_equal(*results)
    return results[0]


def like(lib: Any, value: Any, seed: int) -> Any:
    """Random tensors of the shapes of some tensors."""
    many = isinstance(value, tuple)
    made = [lib.tensor(v) for v in arrays([tuple(t.shape) for t in (value if many else (value,))], seed)]
    return tuple(made) if many else made[0]


FLAGS = [(create_graph, strict) for create_graph in (False, True) for strict in (False, True)]
DIFFERENTIABLE = [name for name in FUNCTIONS if name != "integer output beside"]


@pytest.mark.parametrize(("create_graph", "strict"), FLAGS)
class TestParity:
    @pytest.mark.parity
    @pytest.mark.parametrize("name", FUNCTIONS)
    def test_jacobian(self, name: str, create_graph: bool, strict: bool) -> None:
        for requires_grad in (False, True):
            compare(
                name,
                FUNCTIONS,
                lambda lib, f, x: lib.autograd.functional.jacobian(f, x, create_graph, strict),
                requires_grad,
            )

    @pytest.mark.parity
    @pytest.mark.parametrize("name", DIFFERENTIABLE)
    def test_vjp(self, name: str, create_graph: bool, strict: bool) -> None:
        def call(lib: Any, f: Any, x: Any) -> Any:
            outputs = f(*x) if isinstance(x, tuple) else f(x)
            return lib.autograd.functional.vjp(f, x, like(lib, outputs, 1), create_graph, strict)

        for requires_grad in (False, True):
            compare(name, FUNCTIONS, call, requires_grad)

    @pytest.mark.parity
    @pytest.mark.parametrize("name", DIFFERENTIABLE)
    def test_jvp(self, name: str, create_graph: bool, strict: bool) -> None:
        def call(lib: Any, f: Any, x: Any) -> Any:
            return lib.autograd.functional.jvp(f, x, like(lib, x, 2), create_graph, strict)

        for requires_grad in (False, True):
            compare(name, FUNCTIONS, call, requires_grad)

    @pytest.mark.parity
    @pytest.mark.parametrize("name", SCALAR_FUNCTIONS)
    def test_hessian(self, name: str, create_graph: bool, strict: bool) -> None:
        for requires_grad in (False, True):
            compare(
                name,
                SCALAR_FUNCTIONS,
                lambda lib, f, x: lib.autograd.functional.hessian(f, x, create_graph, strict),
                requires_grad,
            )

    @pytest.mark.parity
    @pytest.mark.parametrize("product", ["hvp", "vhp"])
    @pytest.mark.parametrize("name", SCALAR_FUNCTIONS)
    def test_hessian_products(self, name: str, product: str, create_graph: bool, strict: bool) -> None:
        def call(lib: Any, f: Any, x: Any) -> Any:
            return getattr(lib.autograd.functional, product)(f, x, like(lib, x, 3), create_graph, strict)

        for requires_grad in (False, True):
            compare(name, SCALAR_FUNCTIONS, call, requires_grad)


class TestForwardMode:
    @pytest.mark.parametrize("create_graph", [False, True])
    @pytest.mark.parametrize("name", DIFFERENTIABLE)
    def test_columns_equal_rows(self, name: str, create_graph: bool) -> None:
        make, shapes = FUNCTIONS[name]
        x = given(torch, arrays(shapes), True)
        columns = F.jacobian(make(torch), x, create_graph, strategy="forward-mode")
        rows = F.jacobian(make(torch), x, create_graph)
        assert_equal(*(_values(plain(found)) for found in (columns, rows)))

    def test_outer_strategy_of_the_hessian(self) -> None:
        make, shapes = SCALAR_FUNCTIONS["mixed"]
        x = given(torch, arrays(shapes))
        assert_equal(
            plain(F.hessian(make(torch), x, outer_jacobian_strategy="forward-mode")), plain(F.hessian(make(torch), x))
        )

    def test_one_backward_for_every_input_element(self) -> None:
        """A curve in 50 dimensions: its Jacobian costs three backward passes, not fifty."""
        calls = []

        class Curve(torch.autograd.Function):
            @staticmethod
            def forward(ctx: Any, t: Any) -> Any:
                ctx.save_for_backward(t)
                return t.expand(50) * torch.arange(50.0)

            @staticmethod
            def backward(ctx: Any, grad: Any) -> Any:
                calls.append(1)
                return (grad * torch.arange(50.0)).sum().reshape(())

        F.jacobian(Curve.apply, torch.tensor(1.0), strategy="forward-mode")
        assert len(calls) == 1
        F.jacobian(Curve.apply, torch.tensor(1.0))
        assert len(calls) == 51

    def test_refusals(self) -> None:
        with pytest.raises(ValueError, match="sideways"):
            F.jacobian(torch.exp, torch.ones(2), strategy="sideways")
        with pytest.raises(RuntimeError, match="strict=True needs"):
            F.jacobian(torch.exp, torch.ones(2), strategy="forward-mode", strict=True)


def _values(result: Any) -> Any:
    """The arrays of `plain`, with the same flag everywhere:
    a constant zero block may be recorded in one of two ways.
    """
    if isinstance(result[0], np.ndarray):
        return result[0], True
    return tuple(_values(part) for part in result)


class TestSemantics:
    def test_third_order(self) -> None:
        """d/dx of the Hessian of sum(x^4) along the diagonal: 24 x."""
        x = torch.tensor([1.0, 2.0], dtype=torch.float64, requires_grad=True)
        h = F.hessian(lambda t: (t**4).sum(), x, create_graph=True)
        (third,) = torch.autograd.grad(h.sum(), x)
        assert third.tolist() == [24.0, 48.0]

    @pytest.mark.parity
    def test_products_can_be_differentiated_again(self) -> None:
        make, shapes = SCALAR_FUNCTIONS["mixed"]
        for product in ("jvp", "vjp", "hvp", "vhp"):
            found = []
            for lib in (torch, pytorch):
                x, y = given(lib, arrays(shapes), True)
                v = tuple(t.requires_grad_() for t in like(lib, (x, y), 5)) if product != "vjp" else None
                _, parts = getattr(lib.autograd.functional, product)(make(lib), (x, y), v, create_graph=True)
                total = sum((p**2).sum() for p in (parts if isinstance(parts, tuple) else (parts,)))
                leaves = [x, y, *(v or ())]
                found.append(
                    [to_numpy(g) for g in lib.autograd.grad(total, leaves, allow_unused=True, materialize_grads=True)]
                )
            for mine, theirs in zip(*found, strict=True):
                np.testing.assert_allclose(mine, theirs, rtol=1e-10, atol=1e-12)

    def test_gradients_reach_tensors_that_the_function_captures(self) -> None:
        w = torch.tensor(3.0, requires_grad=True)
        j = F.jacobian(lambda x: w * x**2, torch.tensor(2.0), create_graph=True)
        assert torch.autograd.grad(j, w)[0].item() == 4.0

    def test_the_same_tensor_captured_is_a_constant(self) -> None:
        """What the function uses besides its argument is not differentiated, even if it is the same tensor."""
        for requires_grad in (False, True):
            x = torch.tensor(3.0, requires_grad=requires_grad)
            assert F.jacobian(lambda t, x=x: t * x, x).item() == 3.0

    def test_inputs_and_their_gradients_are_left_alone(self) -> None:
        x = torch.tensor([1.0, 2.0], requires_grad=True)
        F.jacobian(torch.exp, x)
        F.hvp(lambda t: (t**3).sum(), x, torch.ones(2))
        assert x.grad is None and x.is_leaf and x._version == 0
        y = torch.tensor([1.0])
        F.jvp(torch.exp, y, y)
        assert not y.requires_grad

    def test_no_grad_outside_changes_nothing(self) -> None:
        with torch.no_grad():
            assert F.jacobian(lambda x: x**2, torch.tensor(3.0)).item() == 6.0
            assert F.hessian(lambda x: x**3, torch.tensor(3.0)).item() == 18.0
            assert F.jvp(lambda x: x**2, torch.tensor(3.0))[1].item() == 6.0
            assert F.hvp(lambda x: x**3, torch.tensor(3.0))[1].item() == 18.0

    def test_results_hold_no_graph_unless_asked(self) -> None:
        x = torch.tensor([1.0], requires_grad=True)
        for value in (*F.vjp(torch.exp, x), *F.jvp(torch.exp, x), *F.hvp(torch.exp, x), *F.vhp(torch.exp, x)):
            assert not value.requires_grad

    def test_no_elements(self) -> None:
        assert F.jacobian(lambda x: x * 2, torch.ones(0, 3)).shape == (0, 3, 0, 3)
        assert F.jacobian(lambda x: x.sum(0), torch.ones(0, 3)).shape == (3, 0, 3)
        assert F.jacobian(lambda x: x.sum(0), torch.ones(0, 3), strategy="forward-mode").shape == (3, 0, 3)

    def test_on_a_device(self, device: Any) -> None:
        x = torch.tensor([1.0, 2.0], device=device)
        assert F.jacobian(lambda t: t**2, x).device is device
        assert F.jvp(lambda t: t**2, x, x)[1].cpu().tolist() == [2.0, 8.0]
        assert F.hessian(lambda t: (t**3).sum(), x).cpu().tolist() == [[6.0, 0.0], [0.0, 12.0]]

    def test_functions_that_cannot_be_differentiated_twice_say_so(self) -> None:
        """PyTorch 2.13 returns zeros here."""

        class Once(torch.autograd.Function):
            @staticmethod
            def forward(ctx: Any, x: Any) -> Any:
                return x * 2

            @staticmethod
            @torch.autograd.function.once_differentiable
            def backward(ctx: Any, grad: Any) -> Any:
                return grad * 2

        with pytest.raises(RuntimeError, match="once_differentiable"):
            F.jvp(Once.apply, torch.ones(2), torch.ones(2))


class TestErrors:
    @pytest.mark.parametrize(
        ("call", "error", "message"),
        [
            (lambda: F.vjp(torch.exp, [1.0]), TypeError, "inputs of vjp"),
            (lambda: F.jacobian(torch.exp, (torch.ones(1), 2.0)), TypeError, "at index 1"),
            (lambda: F.jacobian(lambda x: 3.0, torch.ones(1)), TypeError, "outputs of the user-provided function"),
            (lambda: F.vjp(torch.exp, torch.ones(2)), RuntimeError, "can only be None"),
            (lambda: F.jvp(torch.exp, torch.ones(2)), RuntimeError, "can only be None"),
            (
                lambda: F.vjp(torch.exp, torch.ones(2), torch.ones(3)),
                RuntimeError,
                r"v has invalid size: should be \(2,\) but got \(3,\)",
            ),
            (
                lambda: F.jvp(torch.mul, (torch.ones(2), torch.ones(2)), torch.ones(2)),
                RuntimeError,
                "should be 2 but got 1",
            ),
            (
                lambda: F.jvp(torch.mul, (torch.ones(2),) * 2, (torch.ones(2), torch.ones(1))),
                RuntimeError,
                "Entry 1 in v",
            ),
            (lambda: F.hessian(torch.exp, torch.ones(2)), RuntimeError, r"single element, got shape \(2,\)"),
            (lambda: F.hvp(lambda x: (x, x), torch.ones(1)), RuntimeError, "single Tensor"),
            (lambda: F.vhp(torch.exp, torch.ones(2)), RuntimeError, "can only be None"),
            (lambda: F.jacobian(torch.exp, torch.arange(3)), RuntimeError, "floating point"),
        ],
    )
    def test_errors_say_what_to_do(self, call: Callable[[], Any], error: type[Exception], message: str) -> None:
        with pytest.raises(error, match=message):
            call()
