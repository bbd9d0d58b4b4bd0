"""Every sample of every op row and composite, and how to call an op with it on tensors of either library."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

import nanotorch
from nanotorch.ops.rows.row import COMPOSITES, ROWS
from nanotorch.ops.rows.sample import Drawn, Sample


@dataclass(frozen=True, eq=False)
class Case:
    """One op and one sample."""

    entry: Any
    sample: Sample
    number: int

    @property
    def name(self) -> str:
        return self.entry.name

    def __str__(self) -> str:
        return f"{self.name}-{self.number}"


CASES = [Case(e, s, k) for e in (*ROWS.values(), *COMPOSITES.values()) for k, s in enumerate(e.samples)]
ROW_CASES = [case for case in CASES if case.name in ROWS]


def drawn(case: Case) -> list[Drawn]:
    """Return what a case draws, lists of tensors included."""
    arguments = [*case.sample.args, *case.sample.kwargs.values()]
    return [d for a in arguments for d in (a if isinstance(a, list) else [a]) if isinstance(d, Drawn)]


def each(cases: list[Case], when: Callable[[Case], bool] = lambda case: True) -> Any:
    """Run a test of a `case` with all of these, as one test for each op; the sample at which it fails is noted.

    `when` leaves cases out as the test runs: a filter that has to run the op, as at import it would run every op.
    """
    by_name: dict[str, list[Case]] = {}
    for case in cases:
        by_name.setdefault(case.name, []).append(case)

    def decorate(test: Callable[..., None]) -> Any:
        @functools.wraps(test)
        def every(*args: Any, cases: list[Case], **kwargs: Any) -> None:
            for case in cases:
                nanotorch.manual_seed(0)
                try:
                    if when(case):
                        test(*args, case=case, **kwargs)
                except Exception as error:
                    error.add_note(f"at sample {case.number} of {case.name}: {case.sample}")
                    raise

        parameters = inspect.signature(test).parameters.values()
        every.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
            [p.replace(name="cases") if p.name == "case" else p for p in parameters]
        )
        return pytest.mark.parametrize("cases", by_name.values(), ids=by_name)(every)

    return decorate


class Call:
    """Arguments drawn for a case: the same numbers at every construction."""

    def __init__(
        self,
        case: Case,
        make: Callable[[np.ndarray[Any, Any], bool], Any],
        dtype: Any = np.float64,
        change: Callable[[np.ndarray[Any, Any]], np.ndarray[Any, Any]] = lambda array: array,
    ) -> None:
        self.rng = np.random.default_rng(0)
        self.make, self.dtype, self.change = make, dtype, change
        self.leaves: list[Any] = []
        self.tensors: list[Any] = []
        self.args = [self._draw(a) for a in case.sample.args]
        self.kwargs = {name: self._draw(a) for name, a in case.sample.kwargs.items()}

    def _draw(self, argument: Any) -> Any:
        if isinstance(argument, list) and argument and isinstance(argument[0], Drawn):
            return [self._draw(a) for a in argument]
        if not isinstance(argument, Drawn):
            return argument
        array = argument.draw(self.rng)
        floating = argument.kind not in ("integer", "boolean")
        array = self.change(np.asarray(array, self.dtype if floating else array.dtype))
        tensor = self.make(array, floating and argument.kind != "constant")
        self.tensors.append(tensor)
        if floating and argument.kind != "constant":
            self.leaves.append(tensor)
        return tensor

    def replaced(self, values: list[Any]) -> tuple[list[Any], dict[str, Any]]:
        """Return args and kwargs with the differentiable leaves replaced by `values`, in order."""
        stock = {id(leaf): value for leaf, value in zip(self.leaves, values, strict=True)}

        def swap(argument: Any) -> Any:
            if isinstance(argument, list):
                return [swap(a) for a in argument]
            return stock.get(id(argument), argument)

        return [swap(a) for a in self.args], {name: swap(a) for name, a in self.kwargs.items()}


def ours(device: Any = "cpu", requires_grad: bool = True) -> Callable[[np.ndarray[Any, Any], bool], Any]:
    """Return a maker of nanotorch tensors."""

    def make(array: np.ndarray[Any, Any], differentiable: bool) -> Any:
        tensor = nanotorch.from_numpy(array.copy(order="K")).to(device)
        return tensor.requires_grad_() if differentiable and requires_grad else tensor

    return make


def named(library: Any, case: Case) -> Any:
    """Return a library's function for a case, where users look for it."""
    if case.entry.where in ("linalg", "special"):
        return getattr(getattr(library, case.entry.where), case.name.removeprefix(f"{case.entry.where}_"))
    spaces = (
        (library.nn.functional, library, library.Tensor)
        if case.entry.where == "functional"
        else (library, library.Tensor)
    )
    for space in spaces:
        if hasattr(space, case.name):
            return getattr(space, case.name)
    raise AssertionError(f"{library.__name__} has no {case.name}")


def outputs(result: Any) -> list[Any]:
    return list(result) if isinstance(result, tuple | list) else [result]


def floating_outputs(result: Any) -> list[Any]:
    """Return the outputs that can be differentiated; some ops record but have no derivative, as in PyTorch."""
    tracked = [o for o in outputs(result) if hasattr(o, "requires_grad") and o.requires_grad]
    return [o for o in tracked if type(o.grad_fn).__name__ != "NotImplemented"]


@functools.cache
def differentiable(case: Case) -> bool:
    """Whether some output has a derivative by some input."""
    call = Call(case, ours())
    nanotorch.manual_seed(0)
    return bool(call.leaves) and bool(floating_outputs(case.entry.function(*call.args, **call.kwargs)))


def weights(results: list[Any], dtype: Any) -> list[np.ndarray[Any, Any]]:
    rng = np.random.default_rng(1)
    return [np.asarray(rng.standard_normal(tuple(r.shape)), dtype) for r in results]


def second(
    library: Any, tracked: list[Any], call: Call, make: Callable[[np.ndarray[Any, Any], bool], Any]
) -> list[Any]:
    """Return the gradients of a random combination of the gradients, which depends on the output gradients too."""
    seeds = [make(w, True) for w in weights(tracked, call.dtype)]
    first = [
        g
        for g in library.autograd.grad(tracked, call.leaves, seeds, create_graph=True, allow_unused=True)
        if g is not None
    ]
    first = [g for g in first if g.requires_grad]
    if not first:
        return [None] * (len(call.leaves) + len(seeds))
    again = [
        make(np.asarray(np.random.default_rng(2).standard_normal(tuple(g.shape)), call.dtype), False) for g in first
    ]
    return list(library.autograd.grad(first, [*call.leaves, *seeds], again, allow_unused=True))


def run(case: Case, call: Call, device: Any = "cpu") -> tuple[list[Any], list[Any]]:
    """Return the outputs of an op and the gradients of its inputs for fixed random output gradients, as arrays."""
    results = case.entry.function(*call.args, **call.kwargs)
    assert {o.device for o in outputs(results) if isinstance(o, nanotorch.Tensor)} <= {nanotorch.device(device)}
    tracked = floating_outputs(results)
    grads: list[Any] = []
    if tracked and call.leaves:
        seeds = [nanotorch.from_numpy(w).to(device) for w in weights(tracked, call.dtype)]
        grads = list(nanotorch.autograd.grad(tracked, call.leaves, seeds, allow_unused=True))
    return [host(o) for o in outputs(results)], [host(g) for g in grads]


@functools.cache
def ordinary(case: Case, dtype: Any = np.float64) -> tuple[list[Any], list[Any]]:
    """Return what `run` gives on contiguous arrays of the CPU, which other ways of running it are compared with."""
    return run(case, Call(case, ours(), dtype))


def host(value: Any) -> Any:
    return value.detach().cpu().numpy() if isinstance(value, nanotorch.Tensor) else value
