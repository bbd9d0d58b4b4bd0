"""nanotorch.func: transforms of functions, against torch.func and by hand."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pytest

import nanotorch as torch
from oracle import pytorch, to_numpy

func = torch.func


def vector(lib: Any, *values: float, requires_grad: bool = False) -> Any:
    return lib.tensor(values, dtype=lib.float64, requires_grad=requires_grad)


def scalar(lib: Any, value: float) -> Any:
    return lib.tensor(value, dtype=lib.float64)


# Programs written once in PyTorch's API; `f` is the library's `func`.
PROGRAMS: dict[str, Callable[[Any, Any], Any]] = {
    "grad": lambda lib, f: f.grad(lambda x: (x * x).sum())(vector(lib, 1, 2)),
    "third derivative": lambda lib, f: f.grad(f.grad(f.grad(lambda x: x**4)))(scalar(lib, 2)),
    "argnums": lambda lib, f: f.grad(lambda x, y: (x * y * y).sum(), argnums=1)(vector(lib, 1, 2), vector(lib, 3, 4)),
    "negative argnums": lambda lib, f: f.grad(lambda x, y: (x * y * y).sum(), argnums=-1)(
        vector(lib, 1, 2), vector(lib, 3, 4)
    ),
    "tuple of argnums": lambda lib, f: f.grad(lambda x, y: (x * y * y).sum(), argnums=(0, 1))(
        vector(lib, 1, 2), vector(lib, 3, 4)
    ),
    "an unused argument": lambda lib, f: f.grad(lambda x, y: x.sum(), argnums=1)(vector(lib, 1), vector(lib, 3, 4)),
    "aux": lambda lib, f: f.grad(lambda x: ((x * x).sum(), {"twice": x * 2}), has_aux=True)(vector(lib, 1, 2)),
    "grad_and_value": lambda lib, f: f.grad_and_value(lambda x: (x * x).sum())(vector(lib, 1, 2)),
    "grad_and_value with aux": lambda lib, f: f.grad_and_value(lambda x: ((x * x).sum(), x * 2), has_aux=True)(
        vector(lib, 1, 2)
    ),
    "dict argument": lambda lib, f: f.grad(lambda p, x: (p["w"] * x + p["b"]).sum())(
        {"w": vector(lib, 2), "b": vector(lib, 1)}, vector(lib, 3)
    ),
    "nested argument": lambda lib, f: f.grad(lambda p: (p[0] * p[1]["a"]).sum())(
        [vector(lib, 2), {"a": vector(lib, 5)}]
    ),
    "closure over the outer level": lambda lib, f: f.grad(lambda x: x * f.grad(lambda y: x * y * y)(x))(scalar(lib, 3)),
    "no perturbation confusion": lambda lib, f: f.grad(lambda x: x * f.grad(lambda y: x + y)(scalar(lib, 1)))(
        scalar(lib, 1)
    ),
    "inner level is constant": lambda lib, f: f.grad(lambda x: f.grad(lambda y: y * y)(x.detach()) * x)(scalar(lib, 3)),
    "vjp": lambda lib, f: f.vjp(lambda x: x.exp(), vector(lib, 1, 2))[1](vector(lib, 1, 10)),
    "vjp of two": lambda lib, f: f.vjp(lambda x, y: (x * y, x + y), vector(lib, 1, 2), vector(lib, 3, 4))[1](
        (vector(lib, 1, 10), vector(lib, 5, 7))
    ),
    "vjp with aux": lambda lib, f: f.vjp(lambda x: (x.exp(), x * 2), vector(lib, 1, 2), has_aux=True)[::2],
    "jvp": lambda lib, f: f.jvp(lambda x: x.sin(), (vector(lib, 1, 2),), (vector(lib, 1, 10),)),
    "jvp of two": lambda lib, f: f.jvp(
        lambda x, y: (x * y, x.exp()), (vector(lib, 1, 2), vector(lib, 3, 4)), (vector(lib, 1, 10), vector(lib, 5, 7))
    ),
    "jvp with aux": lambda lib, f: f.jvp(
        lambda x: (x.sin(), x * 2), (vector(lib, 1),), (vector(lib, 2),), has_aux=True
    ),
    "jvp of a constant": lambda lib, f: f.jvp(lambda x: vector(lib, 1, 2), (vector(lib, 1),), (vector(lib, 2),)),
    "gradient of a jvp": lambda lib, f: f.grad(lambda x: f.jvp(lambda t: (t**3).sum(), (x,), (vector(lib, 1, 10),))[1])(
        vector(lib, 1, 2)
    ),
    "jvp of a gradient": lambda lib, f: f.jvp(
        f.grad(lambda t: (t**3).sum()), (vector(lib, 1, 2),), (vector(lib, 1, 10),)
    ),
    "jacrev": lambda lib, f: f.jacrev(lambda x: x.cumsum(0) ** 2)(vector(lib, 1, 2, 3)),
    "jacrev of trees": lambda lib, f: f.jacrev(lambda x, y: {"a": x * y, "b": y.sum()}, argnums=(0, 1))(
        vector(lib, 1, 2), vector(lib, 3, 4)
    ),
    "jacrev with aux": lambda lib, f: f.jacrev(lambda x: (x**2, x * 3), has_aux=True)(vector(lib, 1, 2)),
    "jacfwd": lambda lib, f: f.jacfwd(lambda x: lib.stack([x, x**2, x**3]))(scalar(lib, 2)),
    "jacfwd of two": lambda lib, f: f.jacfwd(lambda x, y: (x * y, y.sum()), argnums=(0, 1))(
        vector(lib, 1, 2), vector(lib, 3, 4)
    ),
    "hessian": lambda lib, f: f.hessian(lambda x: (x**3).sum() + x[0] * x[1])(vector(lib, 1, 2)),
    "hessian of two": lambda lib, f: f.hessian(lambda x, y: (x**2 * y).sum(), argnums=(0, 1))(
        vector(lib, 1, 2), vector(lib, 3, 4)
    ),
    "hessian of a vector function": lambda lib, f: f.hessian(lambda x: x**3)(vector(lib, 1, 2)),
    "jacrev of jacfwd": lambda lib, f: f.jacrev(f.jacfwd(lambda x: x.prod() * x))(vector(lib, 1, 2)),
    "functional_call": lambda lib, f: f.functional_call(
        linear(lib), {"weight": vector(lib, 1, 2).reshape(1, 2)}, vector(lib, 3, 4)
    ),
    "gradient of a model": lambda lib, f: f.grad(of_model(lib, f))(
        {"weight": vector(lib, 0.3, -0.2).reshape(1, 2), "bias": vector(lib, 1)}
    ),
    "Hessian of a model": lambda lib, f: f.hessian(of_model(lib, f))(
        {"weight": vector(lib, 0.1, 0.2).reshape(1, 2), "bias": vector(lib, 0.1)}
    ),
}


def linear(lib: Any) -> Any:
    module = lib.nn.Linear(2, 1).double()
    with lib.no_grad():
        module.weight.fill_(0.5)
        module.bias.fill_(0.25)
    return module


def of_model(lib: Any, f: Any) -> Callable[[Any], Any]:
    model, x = linear(lib), vector(lib, 3, 4)
    return lambda weights: f.functional_call(model, weights, (x,)).tanh().sum()


def plain(tree: Any) -> Any:
    if isinstance(tree, dict):
        return {name: plain(part) for name, part in tree.items()}
    if isinstance(tree, tuple | list):
        return type(tree)(plain(part) for part in tree)
    return (to_numpy(tree).tolist(), tree.requires_grad) if hasattr(tree, "requires_grad") else tree


@pytest.mark.parity
# from PyTorch's own forward mode
@pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated:DeprecationWarning")
@pytest.mark.parametrize("name", PROGRAMS)
def test_parity(name: str) -> None:
    mine, theirs = plain(PROGRAMS[name](torch, torch.func)), plain(PROGRAMS[name](pytorch, pytorch.func))
    assert repr(type(mine)) == repr(type(theirs))
    np.testing.assert_equal(_rounded(mine), _rounded(theirs))


def _rounded(tree: Any) -> Any:
    if isinstance(tree, dict):
        return {name: _rounded(part) for name, part in tree.items()}
    if isinstance(tree, tuple | list):
        return type(tree)(_rounded(part) for part in tree)
    return float(f"{tree:.9g}") if isinstance(tree, float) else tree


@pytest.mark.parity
@pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated:DeprecationWarning")
@pytest.mark.parametrize(
    "program",
    [
        lambda lib, x, w: lib.func.grad(lambda t: (t**3).sum())(x),
        lambda lib, x, w: lib.func.grad(lambda t: (t**3 * w).sum())(x.detach()),
        lambda lib, x, w: lib.func.jacrev(lambda t: t**3 * w)(x),
        lambda lib, x, w: lib.func.vjp(lambda t: t**3 * w, x)[1](x)[0],
        lambda lib, x, w: lib.func.jvp(lambda t: t**3 * w, (x,), (x,))[1],
        lambda lib, x, w: lib.func.grad_and_value(lambda t: (t**3 * w).sum())(x)[1],
    ],
)
def test_results_can_be_differentiated_by_autograd(program: Callable[..., Any]) -> None:
    found = []
    for lib in (torch, pytorch):
        x, w = vector(lib, 1, 2, requires_grad=True), vector(lib, 3, 4, requires_grad=True)
        result = program(lib, x, w)
        assert result.requires_grad
        grads = lib.autograd.grad(result.sum(), (x, w), allow_unused=True, materialize_grads=True)
        found.append([to_numpy(g) for g in grads])
    for mine, theirs in zip(*found, strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=1e-12)


class TestSemantics:
    def test_no_grad_outside_still_differentiates_and_records_nothing(self) -> None:
        x = vector(torch, 1, 2, requires_grad=True)
        with torch.no_grad():
            found = func.grad(lambda t: (t**2).sum())(x)
            assert func.grad(func.grad(lambda t: t**3))(scalar(torch, 2)).item() == 12.0
        assert found.tolist() == [2.0, 4.0] and not found.requires_grad

    def test_inside_inference_mode_and_of_inference_tensors(self) -> None:
        with torch.inference_mode():
            x = vector(torch, 1, 2)
            inside = func.grad(lambda t: (t**2).sum())(vector(torch, 1, 2))
            jacobian = torch.autograd.functional.jacobian(torch.exp, torch.zeros(2))
        assert inside.tolist() == func.grad(lambda t: (t**2).sum())(x).tolist() == [2.0, 4.0]
        assert jacobian.tolist() == torch.eye(2).tolist()

    def test_no_grad_inside_is_respected(self) -> None:
        def f(x: Any) -> Any:
            with torch.no_grad():
                shift = x * 100
            return (x + shift).sum()

        assert func.grad(f)(vector(torch, 1, 2)).tolist() == [1.0, 1.0]

    def test_arguments_are_left_alone(self) -> None:
        x = vector(torch, 1, 2)
        func.grad(lambda t: (t**2).sum())(x)
        assert not x.requires_grad and x.grad is None and x._version == 0

    def test_named_tuples_keep_their_type(self) -> None:
        class Pair(NamedTuple):
            a: Any
            b: Any

        found = func.grad(lambda p: (p.a * p.b).sum())(Pair(vector(torch, 2), vector(torch, 3)))
        assert isinstance(found, Pair) and (found.a.item(), found.b.item()) == (3.0, 2.0)

    def test_a_pullback_runs_as_often_as_wanted(self) -> None:
        _, pullback = func.vjp(torch.exp, torch.zeros(2))
        assert [pullback(torch.ones(2) * k)[0].tolist() for k in (1.0, 2.0)] == [[1.0, 1.0], [2.0, 2.0]]

    def test_per_sample_gradients_by_a_loop(self) -> None:
        model, x = linear(torch), torch.tensor([[1.0, 2.0], [3.0, 4.0]], dtype=torch.float64)
        weights = {name: p.detach() for name, p in model.named_parameters()}
        gradient = func.grad(lambda w, row: func.functional_call(model, w, (row,)).sum())
        found = torch.stack([gradient(weights, row)["weight"] for row in x])
        assert found.reshape(2, 2).tolist() == x.tolist()

    def test_on_a_device(self, device: Any) -> None:
        x = torch.tensor([1.0, 2.0], device=device)
        assert func.grad(lambda t: (t**2).sum())(x).device is device
        assert func.jacfwd(lambda t: t**2)(x).cpu().tolist() == [[2.0, 0.0], [0.0, 4.0]]

    def test_errors(self) -> None:
        x = torch.ones(2)
        for call, message in (
            (lambda: func.grad(torch.exp)(x), r"scalar \(0-d\) tensor, got shape \(2,\)"),
            (lambda: func.grad(lambda t: 1.0)(x), "got a float"),
            (lambda: func.grad(torch.sum, argnums=1)(x), "names an argument"),
            (lambda: func.grad(torch.sum)(torch.arange(3)), "floating point dtype"),
            (lambda: func.grad(torch.sum, has_aux=True)(x), "returns a pair"),
            (lambda: func.vjp(torch.exp, x)[1](torch.ones(3)), r"shapes \[\(2,\)\], got \[\(3,\)\]"),
            (lambda: func.jvp(torch.exp, (x,), (torch.ones(3),)), "expected vectors"),
            (lambda: func.jvp(lambda t: torch.ones(2), (x,), (x,), strict=True), "strict"),
            (lambda: func.jacrev(lambda t: 1.0)(x), "at least one tensor"),
        ):
            with pytest.raises(RuntimeError, match=message):
                call()
        with pytest.raises(TypeError, match="tuples"):
            func.jvp(torch.exp, x, x)


class TestFunctionalCall:
    def test_the_module_is_as_before(self) -> None:
        model = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.BatchNorm1d(2))
        before = {name: t for name, t in [*model.named_parameters(), *model.named_buffers()]}
        replaced = {"0.weight": torch.zeros(2, 2), "1.running_mean": torch.ones(2)}
        func.functional_call(model, replaced, torch.ones(3, 2))
        with pytest.raises(RuntimeError):
            func.functional_call(model, replaced, torch.ones(3, 5))
        after = {name: t for name, t in [*model.named_parameters(), *model.named_buffers()]}
        assert before.keys() == after.keys() and all(before[name] is after[name] for name in before)

    def test_buffers_given_are_updated_instead_of_the_modules(self) -> None:
        model = torch.nn.BatchNorm1d(2)
        mean = torch.zeros(2)
        func.functional_call(model, {"running_mean": mean}, torch.ones(4, 2))
        assert mean.tolist() == pytest.approx([0.1, 0.1]) and model.running_mean.tolist() == [0.0, 0.0]

    def test_tied_weights(self) -> None:
        model = torch.nn.Sequential(torch.nn.Linear(2, 2, bias=False), torch.nn.Linear(2, 2, bias=False))
        model[1].weight = model[0].weight
        given, x = {"0.weight": torch.eye(2) * 3}, torch.ones(1, 2)
        assert func.functional_call(model, given, x).tolist() == [[9.0, 9.0]]
        untied = func.functional_call(model, given, x, tie_weights=False)
        assert torch.equal(untied, (x * 3) @ model[0].weight.T)

    def test_several_dicts_arguments_and_strictness(self) -> None:
        model = torch.nn.Linear(2, 1)
        weight, bias = {"weight": torch.ones(1, 2)}, {"bias": torch.ones(1)}
        assert func.functional_call(model, (weight, bias), (torch.ones(2),)).item() == 3.0
        assert func.functional_call(model, [weight, bias], kwargs={"input": torch.ones(2)}, strict=True).item() == 3.0
        with pytest.raises(ValueError, match="more than one"):
            func.functional_call(model, (weight, weight), torch.ones(2))
        with pytest.raises(RuntimeError, match="not given"):
            func.functional_call(model, weight, torch.ones(2), strict=True)
        with pytest.raises(RuntimeError, match="no parameters or buffers named"):
            func.functional_call(model, {"wieght": torch.ones(1, 2)}, torch.ones(2))
