"""`nanotorch.compile`, without what stands behind it: that is imported where something is compiled."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal, overload

if TYPE_CHECKING:
    from nanotorch.capture.compiled import Compiled

Backend = Literal["auto", "numpy", "table"]


@overload
def compile(fn: Callable[..., Any], *, backend: Backend = ..., fallback: Literal["eager"] | None = ...) -> Compiled: ...
@overload
def compile(
    fn: None = None, *, backend: Backend = ..., fallback: Literal["eager"] | None = ...
) -> Callable[[Callable[..., Any]], Compiled]: ...
def compile(
    fn: Callable[..., Any] | None = None, *, backend: Backend = "auto", fallback: Literal["eager"] | None = None
) -> Any:
    """Return a function that does what `fn` does, from the fourth call with arguments of a shape on as a program that
    was recorded (Note [Compiled steps]).

    Args:
        fn: a function of tensors that returns tensors, as a step of training: zero_grad, forward, backward and step.
            Without it, what is returned is a decorator.
        backend: what runs the program. "numpy" gives the bits that the function gives.
        fallback: "eager" runs what cannot be recorded as ever, and says so once; None raises.

    >>> weight = torch.zeros(2, requires_grad=True)
    >>> optimizer = torch.optim.SGD([weight], lr=0.1)
    >>> @torch.compile
    ... def step(x, y):
    ...     optimizer.zero_grad()
    ...     loss = ((x @ weight - y) ** 2).mean()
    ...     loss.backward()
    ...     optimizer.step()
    ...     return loss
    >>> x, y = torch.tensor([[1.0, 2.0], [3.0, 4.0]]), torch.tensor([1.0, 2.0])
    >>> losses = [step(x, y).item() for _ in range(100)]
    >>> losses[-1] < 0.01 * losses[0]
    True
    """
    if fn is None:
        return lambda function: compile(function, backend=backend, fallback=fallback)
    from nanotorch.capture.compiled import Compiled

    return Compiled(fn, backend, fallback)
