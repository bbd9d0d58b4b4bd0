"""float16 is computed in float32 and rounded once (Note [Half precision] in ``nanotorch/ops/compiler.py``).

So the oracle is float32 on the same numbers, which other tests compare with PyTorch.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from op_cases import CASES, Call, floating_outputs, host, ours, outputs, weights

import nanotorch
from nanotorch.ops.row import ROWS

LOOKS_AT_THE_TYPE = {"nan_to_num", "quantile", "nanquantile", "bincount"}
"""Ops whose result depends on the dtype itself: its largest number, whether it is taken at all, the dtype of the sums."""


def widened(tensor: Any) -> Any:
    return tensor.detach().float().requires_grad_(tensor.requires_grad) if tensor.is_floating_point() else tensor


def rounded(array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    with np.errstate(over="ignore"):
        return array.astype(np.float16) if array.dtype == np.float32 else array


def differences(name: str, function: Callable[..., Any], args: list[Any], kwargs: dict[str, Any], leaves: list[Any], units: float) -> list[str]:
    """What differs between a call in float16 and the same call in float32, rounded: gradients by more than so many units in the last place."""
    stock = {id(leaf): widened(leaf) for leaf in leaves}

    def wide(value: Any) -> Any:
        if isinstance(value, list):
            return [wide(v) for v in value]
        return stock.get(id(value), widened(value)) if isinstance(value, nanotorch.Tensor) else value

    found = []
    for create_graph in (False, True):
        got = outputs(function(*args, **kwargs))
        wanted = outputs(function(*wide(args), **{key: wide(value) for key, value in kwargs.items()}))
        for a, b in zip(map(host, got), map(host, wanted), strict=True):
            if isinstance(a, np.ndarray) and not (a.dtype == rounded(b).dtype and np.array_equal(a, rounded(b), equal_nan=a.dtype.kind == "f")):
                found.append(f"{name}: {a} of {a.dtype}, but {b}")
        tracked = [number for number, o in enumerate(wanted) if floating_outputs(o)]
        if not tracked or not leaves:
            break
        grads = []
        seeds = [w.astype(np.float16) for w in weights([wanted[number] for number in tracked], np.float64)]
        for results, inputs in ((got, leaves), (wanted, list(stock.values()))):
            results = [results[number] for number in tracked]
            given = [nanotorch.from_numpy(seed).to(r.dtype).requires_grad_() for seed, r in zip(seeds, results, strict=True)]
            grads.append(map(host, nanotorch.autograd.grad(results, inputs, given, allow_unused=True, create_graph=create_graph)))
        for a, b in zip(*grads, strict=True):
            if a is None and b is None:
                continue
            wanted_grad = rounded(b).astype(np.float64)
            finite = np.abs(wanted_grad[np.isfinite(wanted_grad)])
            limit = units * float(np.spacing(np.float16(finite.max() if finite.size else 0)))
            if a.dtype != np.float16 or not np.allclose(a.astype(np.float64), wanted_grad, rtol=0, atol=limit, equal_nan=True):
                found.append(f"gradient of {name}: {a} of {a.dtype}, but {b}")
    return found


@pytest.mark.parametrize("kind", ["rows", "composites"])
def test_every_op_rounds_once(kind: str) -> None:
    """Values are equal; a gradient may be off by a unit where its formula reads the result, which is float16."""
    found = []
    for case in CASES:
        if (case.name in ROWS) is not (kind == "rows") or case.name in LOOKS_AT_THE_TYPE:
            continue
        with np.errstate(over="ignore"):
            call = Call(case, ours(), np.float16)
        if any(t.is_floating_point() for t in call.tensors):
            found += differences(str(case), case.entry.function, call.args, call.kwargs, call.leaves, 1)
    assert not found, "\n".join(found)
