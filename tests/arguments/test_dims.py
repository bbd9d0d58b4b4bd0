"""Every function, method, in-place form and module that takes a dimension, with dimensions that fit and that do not.

Which ops take one, their own signatures say, so that a new op is tested here without a word.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

import nanotorch
from op_cases import CASES, Call, Case, drawn, named, ours, outputs
from oracle import pytorch

DIM = re.compile("(dim|dims|dim0|dim1|dim2|axis0|axis1|start_dim|end_dim|source|destination|dimension)_?")

TENSORS = {"index_add", "index_copy", "index_reduce", "put", "masked_scatter"}
"""Ops whose `source` is a tensor."""


def dims_of(case: Case) -> list[str]:
    """Return the names of an op's parameters that are dimensions."""
    parameters = [] if case.entry.where == "internal" else list(inspect.signature(case.entry.function).parameters)
    return [
        n.rstrip("_")
        for n in dict.fromkeys(parameters)
        if DIM.fullmatch(n) and not (n == "source" and case.name in TENSORS)
    ]


def first_cases() -> dict[str, list[Case]]:
    """Return for every op that takes a dimension its samples, one of each number of dimensions."""
    found: dict[str, dict[int, Case]] = {}
    for case in CASES:
        if dims_of(case):
            tensors = drawn(case)
            found.setdefault(case.name, {}).setdefault(len(tensors[0].shape) if tensors else 0, case)
    return {name: list(cases.values()) for name, cases in found.items()}


CASES_OF = first_cases()


def with_dim(case: Case, call: Call, name: str, value: Any) -> tuple[list[Any], dict[str, Any]]:
    """Return the arguments of a call with one of its dimensions replaced, given by position where it was."""
    parameters = inspect.signature(case.entry.function).parameters
    positional = [n for n, p in parameters.items() if p.kind is not p.KEYWORD_ONLY]
    args, kwargs = list(call.args), dict(call.kwargs)
    place = next((k for k, n in enumerate(positional) if n.rstrip("_") == name), len(args))
    if place < len(args):
        args[place] = value
    else:
        kwargs[name] = value
    return args, kwargs


# ------------------------------------------------------------------------------------------------- the sentence

OUT_OF_RANGE = re.compile(
    r"[\w.]+: Dimension out of range \(expected to be in range of \[-\d+, \d+\], but got (-?\d+)\)(; input shape"
    r" [^\n]*)?"
)

COUNTS = {"tensordot", "tile"}
"""Ops whose numbers are counts."""


def test_a_dim_out_of_range_is_said_in_one_sentence() -> None:
    """It names the op, the dimension and the range."""
    for name in CASES_OF.keys() - COUNTS:
        case = CASES_OF[name][0]
        for dim in dims_of(case):
            bound = inspect.signature(case.entry.function).bind(*case.sample.args, **case.sample.kwargs)
            bound.apply_defaults()
            given = bound.arguments.get(dim)
            for bad in (10, -10):
                call = Call(case, ours(requires_grad=False))
                several = isinstance(given, tuple | list) or name == "linalg_tensorsolve"
                value = (bad, *(given or ())[1:]) if several else bad
                args, kwargs = (
                    with_dim(case, call, dim, value) if name != "permute" else ([call.args[0], (bad, 1, 0)], {})
                )
                with pytest.raises(IndexError) as error:
                    case.entry.function(*args, **kwargs)
                found = OUT_OF_RANGE.fullmatch(str(error.value))
                assert found and found[1] == str(bad), f"{case} {dim}={value}: {error.value}"


# ------------------------------------------------------------------------------------------------- PyTorch beside it

Outcome = tuple[str, Any]

# Functions take what their methods take, `x.flip(0)`; None says what leaving the argument out says; `()` means all
# dimensions.
LENIENT: dict[str, Callable[[Any], bool]] = {
    **dict.fromkeys(("flip", "permute"), lambda value: isinstance(value, int)),
    **dict.fromkeys(("prod", "squeeze", "max", "min", "median", "nanmedian"), lambda value: value is None),
    **dict.fromkeys(("var", "std", "var_mean", "std_mean"), lambda value: value is True),
    "logsumexp": lambda value: value == (),
    "softmin": lambda value: value is None,
}


def values_for(ndim: int) -> Iterator[Any]:
    yield from (ndim, ndim - 1, -ndim, -ndim - 1, 10, -10)
    yield from ((ndim,), (-ndim - 1,), (ndim - 1,), (ndim - 1, -1), (0, -ndim), (), (0, 1))
    yield from (None, True, 1.0, "0") if ndim else ()


def outcome(library: Any, function: Callable[[], Any]) -> Outcome:
    """Return the arrays that a call gives, or the classes of its error."""
    try:
        results = outputs(function())
    except Exception as error:
        return "raises", error
    return "gives", [r.detach().numpy() if isinstance(r, library.Tensor) else r for r in results]


def agree(mine: Outcome, other: Outcome, faults: int) -> bool:
    if mine[0] != other[0]:
        return False
    if mine[0] == "raises":
        return faults > 1 or type(other[1]).__name__ in [kind.__name__ for kind in type(mine[1]).__mro__]
    for a, e in zip(mine[1], other[1], strict=True):
        if not isinstance(e, np.ndarray):
            if a != e:
                return False
        elif (
            a.shape != e.shape
            or a.dtype != e.dtype
            or not np.allclose(a.astype(float), e.astype(float), 1e-9, 1e-11, equal_nan=True)
        ):
            return False
    return True


def compare(case: Case, dim: str, value: Any, number: bool, pytorch: Any) -> Iterator[str]:
    """Yield what differs between both libraries in the function, the method and the in-place form."""

    def result(library: Any, method: str) -> Outcome:
        def make(array: np.ndarray[Any, Any], _: bool) -> Any:
            plain = (
                np.asarray(array.reshape(-1)[0] if array.size else 1.0, array.dtype) if number and array.ndim else array
            )
            return library.from_numpy(plain.copy(order="K"))

        args, kwargs = with_dim(case, Call(case, make), dim, value)
        function = getattr(library.Tensor, method) if method else named(library, case)
        return outcome(library, lambda: function(*args, **kwargs))

    methods = [m for m in (case.name, case.name + "_") if hasattr(nanotorch.Tensor, m) and case.entry.where == "both"]
    for method in ("", *methods):
        mine, other = result(nanotorch, method), result(pytorch, method)
        # Of two faults either may be told: no dimensions, or a wrong number of them, and one that is out of range as
        # well.
        if not agree(mine, other, faults=1 + (number or isinstance(value, tuple) or case.name == "narrow_copy")):
            yield f"{case} {method or 'function'} {dim}={value!r}{' of a number' * number}: {mine}, PyTorch {other}"


@pytest.mark.parity
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", sorted(CASES_OF))
def test_dims_as_in_pytorch(name: str) -> None:
    found = [
        text
        for case in CASES_OF[name]
        for dim in dims_of(case)
        for number in (False, True)
        for value in values_for(0 if number else Call(case, ours(requires_grad=False)).tensors[0].ndim)
        if name not in COUNTS and not (name in LENIENT and LENIENT[name](value))
        for text in compare(case, dim, value, number, pytorch)
    ]
    assert not found, "\n".join(found[:10])


PROGRAMS = """
x.size({d})
x.stride({d})
x.squeeze_({d})
x.unsqueeze_({d})
x.transpose_({d}, 0)
x.swapaxes_(0, {d})
x.swapdims_({d}, 1)
x.scatter_({d}, torch.tensor([[0, 0]]), 1.0)
x.cumsum_({d})
x.index_fill_({d}, torch.tensor([0]), 1.0)
torch.tensordot(x, x, ([{d}], [{d}]))
torch.tensordot(x, x, ([0, {d}], [0, {d}]))
torch.tensordot(x, x, {d})
nn.Softmax({d})(x)
nn.LogSoftmax({d})(x)
nn.Softmin({d})(x)
nn.GLU({d})(x)
nn.CosineSimilarity({d})(x, x)
nn.CosineSimilarity({d})(x, x.unsqueeze(0))
nn.Flatten({d})(x)
nn.Flatten(0, {d})(x)
nn.Unflatten({d}, (2, -1))(x)
nn.functional.cosine_similarity(x.reshape(1, 2, 6), x.reshape(2, 1, 6), {d})
nn.functional.cosine_similarity(x[0], x, {d})
nn.functional.gumbel_softmax(x, dim={d}).shape
torch.trapezoid(x, x[0], dim={d})
torch.cumulative_trapezoid(x, x[0], dim={d})
torch.linalg.vecdot(x.reshape(1, 2, 6), x.reshape(2, 1, 6), dim={d})
torch.linalg.cross(x[:, :3].reshape(1, 2, 3), x[:, :3].reshape(2, 1, 3), dim={d})
torch.cat([x, torch.ones(0)], {d})
torch.cat([torch.ones(0), x], {d})
torch.stack([x, x], {d})
""".strip().splitlines()


def run(library: Any, program: str) -> Outcome:
    names = {"torch": library, "nn": library.nn, "x": library.arange(12.0, dtype=library.float64).reshape(2, 6)}
    return outcome(library, lambda: eval(program, names))


@pytest.mark.parity
def test_programs_with_a_dim() -> None:
    """Forms without a sample of their own, and dims that count before or after broadcasting."""
    found = []
    for program in [p.format(d=d) for p in PROGRAMS for d in range(-5, 5)]:
        mine, other = run(nanotorch, program), run(pytorch, program)
        if not agree(mine, other, faults=1):
            found.append(f"{program}: {mine}, PyTorch {other}")
    assert not found, "\n".join(found)
