"""Makes a call that differs from PyTorch as small as it gets while it still differs in the same way."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from .calls import Call, TensorArgument
from .compare import compare


def kind_of(finding: str) -> str:
    """What a finding says without its numbers: shrinking must not turn one fault into another."""
    return finding.split(":")[0].split("[")[0][:40]


def smaller(call: Call) -> Iterator[Call]:
    """Calls that are a little simpler, the greatest steps first."""
    for name in call.kwargs:
        yield replace(call, kwargs={k: v for k, v in call.kwargs.items() if k != name})
    if call.form != "function":
        yield replace(call, form="function")
    if any(t.array.dtype.kind == "f" and t.array.dtype != np.float64 for t in call.tensors()):
        yield call.cast(np.float64)
    lengths = {n for t in call.tensors() for n in t.array.shape if n > 1}
    for length in sorted(lengths, reverse=True):  # the same length everywhere, so that shapes go on fitting together
        yield call.mapped(lambda t, n=length: shortened(t, n))
    changes = (
        lambda t: replace(t, layout="contiguous"),
        lambda t: replace(t, requires_grad=False),
        lambda t: replace(t, array=np.round(t.array).astype(t.array.dtype)),
        lambda t: replace(t, array=np.ones_like(t.array)),
    )
    for change in changes:
        yield call.mapped(change)
        for target in call.tensors():
            yield call.mapped(lambda t, target=target, change=change: change(t) if t is target else t)


def shortened(tensor: TensorArgument, length: int) -> TensorArgument:
    """The tensor with one element fewer along every dimension of a length."""
    places = tuple(slice(0, n - 1) if n == length else slice(None) for n in tensor.array.shape)
    return replace(tensor, array=np.array(tensor.array[places]))


def shrink(call: Call, finding: str, steps: int = 300) -> tuple[Call, str]:
    """The smallest call found in so many comparisons, and what it does."""
    seen = {call.program()}
    while steps > 0:
        for candidate in smaller(call):
            program = candidate.program()
            if program in seen:
                continue
            seen.add(program)
            steps -= 1
            found = compare(candidate)
            if found and kind_of(found) == kind_of(finding):
                call, finding = candidate, found
                break
            if steps <= 0:
                return call, finding
        else:
            return call, finding
    return call, finding
