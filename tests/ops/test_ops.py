"""Every op row and composite, with all its samples: devices, variants, memory, shapes, types."""

from __future__ import annotations

import gc
import weakref
from typing import Any

import numpy as np
import pytest

import nanotorch as torch
from nanotorch.ops.rows.row import COMPOSITES, ROWS
from nanotorch.ops.rows.sample import Drawn
from op_cases import CASES, ROW_CASES, Call, Case, each, floating_outputs, host, ordinary, ours, outputs, run


def close(actual: Any, expected: Any, dtype: Any = np.float64) -> None:
    if not isinstance(expected, np.ndarray):
        assert actual == expected
        return
    assert actual.dtype == expected.dtype and actual.shape == expected.shape
    tolerance = {"rtol": 1e-10, "atol": 1e-12} if dtype == np.float64 else {"rtol": 2e-5, "atol": 2e-6}
    np.testing.assert_allclose(actual, expected, **tolerance)


def test_there_are_at_least_a_hundred_ops() -> None:
    assert len({name for name in (*ROWS, *COMPOSITES) if not name.startswith("_")}) >= 100


def test_every_public_row_has_samples_and_a_docstring() -> None:
    for row in (row for row in ROWS.values() if row.where != "internal"):
        assert row.function.__doc__ and row.function.__doc__.strip().endswith((".", ")", "]")), row.name
        assert row.samples or row.name in ("zero",), row.name


@pytest.mark.parametrize("dtype", [np.float32, pytest.param(np.float64, marks=pytest.mark.slow)])
@each(CASES)
def test_devices_agree(case: Case, gpu: Any, dtype: Any) -> None:
    """Values and gradients on a GPU equal those on the CPU; results stay there (`run` asks)."""
    actual = run(case, Call(case, ours(gpu), dtype), gpu)
    for got, want in zip(actual, ordinary(case, dtype), strict=True):
        for a, e in zip(got, want, strict=True):
            if e is None:
                assert a is None
            else:
                close(a, e, dtype)


@each(CASES)
def test_inputs_are_not_mutated(case: Case) -> None:
    call = Call(case, ours())
    before = [host(t).copy() for t in call.tensors]
    results = case.entry.function(*call.args, **call.kwargs)
    for result in floating_outputs(results):
        result.sum().backward(retain_graph=True)
    for tensor, array in zip(call.tensors, before, strict=True):
        np.testing.assert_array_equal(host(tensor), array)
        assert tensor._version == 0


@each([case for case in CASES if case.entry.where == "both" and isinstance(case.sample.args[0], Drawn)])
def test_method_equals_function(case: Case) -> None:
    first, second = Call(case, ours()), Call(case, ours())
    expected = outputs(getattr(torch, case.name)(*first.args, **first.kwargs))
    actual = outputs(getattr(second.args[0], case.name)(*second.args[1:], **second.kwargs))
    for a, e in zip(actual, expected, strict=True):
        close(host(a), host(e))


def writable(case: Case) -> bool:
    """Whether the in-place variant applies: the result has shape and dtype of the first input."""
    if not isinstance(case.sample.args[0], Drawn):
        return False
    call = Call(case, ours())
    result = case.entry.function(*call.args, **call.kwargs)
    return result.shape == call.args[0].shape and result.dtype is call.args[0].dtype


WITH_VARIANT = [case for case in ROW_CASES if case.entry.variant is not None]


def test_most_samples_are_writable() -> None:
    """So that the next test, which leaves the others out, is about something."""
    assert sum(map(writable, WITH_VARIANT)) > 330


@each(WITH_VARIANT, when=writable)
def test_inplace_variant_equals_the_op(case: Case) -> None:
    """The variant writes into the same memory, bumps the version, and has the op's value and gradient."""
    expected = ordinary(case)
    call = Call(case, ours())
    target = call.args[0] * 1 if call.args[0].dtype is not torch.bool else call.args[0].clone()
    memory, version = target._array, target._version
    result = case.entry.variant(target, *call.args[1:], **call.kwargs)
    assert result is target and target._array is memory and target._version == version + 1
    close(host(target), expected[0][0])
    if floating_outputs(target):
        from op_cases import weights

        seed = torch.from_numpy(weights([target], np.float64)[0])
        grads = torch.autograd.grad(target, call.leaves, seed, allow_unused=True)
        for actual, wanted in zip(grads, expected[1], strict=True):
            if wanted is not None:
                close(host(actual), wanted)


def joins(case: Case) -> bool:
    """Whether the first argument is a list of tensors."""
    return any(isinstance(argument, list) for argument in case.sample.args)


def records(case: Case) -> bool:
    call = Call(case, ours())
    return any(o.requires_grad for o in outputs(case.entry.function(*call.args, **call.kwargs)))


WITH_FORMULAS = [case for case in ROW_CASES if case.entry.formulas and not joins(case)]


def test_most_samples_record() -> None:
    """So that the next test, which leaves the others out, is about something."""
    assert sum(map(records, WITH_FORMULAS)) > 700


@each(WITH_FORMULAS, when=records)
def test_only_what_formulas_name_is_kept_alive(case: Case) -> None:
    """An input that no formula names dies with its last user reference; one that is named lives in the node."""
    row = case.entry
    call = Call(case, ours())
    middle = {id(leaf): leaf.clone() for leaf in call.leaves}
    args = [middle.get(id(a), a) for a in call.args]
    kwargs = {name: middle.get(id(a), a) for name, a in call.kwargs.items()}
    names = [p for p in row.parameters if not p.keyword_only]
    by_name = dict(zip([p.name for p in names], args, strict=False))
    by_name.update({("self" if n == "input" else n): v for n, v in kwargs.items()})
    inputs = {n: weakref.ref(v) for n, v in by_name.items() if any(v is m for m in middle.values())}
    result = row.function(*args, **kwargs)
    hidden = any(name.startswith("_") for name in row.outputs)
    views = row.view
    middle.clear()
    del args, kwargs, by_name
    gc.disable()
    try:
        for name, reference in inputs.items():
            needed = name in row.saved or hidden or (views and name == "self")
            if not needed:
                assert reference() is None, f"{name} is kept alive though no formula names it"
    finally:
        gc.enable()
    assert result is not None


def not_empty(case: Case) -> bool:
    first = case.sample.args[0]
    return isinstance(first, Drawn) and 0 not in first.shape


@each([case for case in ROW_CASES if not case.entry.many_outputs and not_empty(case)])
def test_view_flag_tells_the_truth(case: Case) -> None:
    call = Call(case, ours())
    result = case.entry.function(*call.args, **call.kwargs)
    shares = any(np.may_share_memory(host(result), host(t)) for t in call.tensors)
    assert shares == case.entry.view
    assert (result._base is not None) == case.entry.view


READS_MEMORY = ("view", "_view", "view_as", "as_strided")  # what they give depends on where the elements lie


@each([case for case in CASES if case.name not in READS_MEMORY])
def test_non_contiguous_inputs_give_the_same(case: Case) -> None:
    expected = ordinary(case)

    def strided(array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        return np.repeat(array, 2, axis=-1)[..., ::2] if array.ndim else array

    def make(array: np.ndarray[Any, Any], differentiable: bool) -> Any:
        wide = torch.from_numpy(np.repeat(array, 2, axis=-1)) if array.ndim else torch.from_numpy(array.copy())
        tensor = torch.from_numpy(wide.numpy()[..., ::2]) if array.ndim else wide
        return tensor.requires_grad_() if differentiable else tensor

    actual = run(case, Call(case, make))
    for got, want in zip(actual, expected, strict=True):
        for a, e in zip(got, want, strict=True):
            if e is not None:
                close(a, e)


@each([case for case in ROW_CASES if case.entry.view and not case.entry.many_outputs])  # several views refuse that
def test_views_replay_from_their_base(case: Case) -> None:
    """A write to the base reaches the view, and the view's history is derived anew."""
    call = Call(case, ours())
    base = call.args[0] * 1
    view = outputs(case.entry.function(base, *call.args[1:], **call.kwargs))[0]
    base.mul_(3.0)
    expected = Call(case, ours())
    again = outputs(case.entry.function(expected.args[0] * 3.0, *expected.args[1:], **expected.kwargs))[0]
    close(host(view), host(again))
    (got,) = torch.autograd.grad(view.sum(), call.leaves[:1])
    (want,) = torch.autograd.grad(again.sum(), expected.leaves[:1])
    close(host(got), host(want))
