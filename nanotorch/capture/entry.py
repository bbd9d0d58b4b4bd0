"""`nanotorch.compile`, without what stands behind it: that is imported where something is compiled."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Literal, Protocol, cast, overload

if TYPE_CHECKING:
    from nanotorch.capture.compiled import Compiled
    from nanotorch.capture.sweep.sweep import InDims, Sweep

Backend = Literal["auto", "numpy", "table"] | str
"""What runs a program: a name out of these, of which a variable may hold one as any `str`."""


def sweep(
    steps: Sequence[Callable[..., Any]],
    *,
    in_dims: InDims = None,
    backend: Backend = "auto",
    fallback: Literal["eager"] | None = None,
) -> Sweep:
    """Return a function that does what all steps do, one after the other, as one program (Note [Sweeps]).

    The steps are those of several models, each with its optimizer. Those that are alike (Note [Like steps]) run as one
    program; learning rates, decays, generators and other numbers may differ. Each has the bits of its own separate run
    with that backend, and what they return is returned together, each tensor with one more axis in front. As "numpy",
    their parameters and the states of their optimizers move into memory that lies together; what else shared memory
    with them does no longer. Numbers of a generator that several steps share go to one step after the other, group by
    group.

    Args:
        steps: functions of tensors that return tensors, as `compile` takes one.
        in_dims: None where all steps get the same argument; 0 where each gets its own, an entry of the first axis, or
            of a list; or a tuple that says so for each argument.
        backend: "numpy" takes a step of all models in one, with the bits that the steps have as ever. "table" lets one
            table take many steps of one model after the other, in threads (Note [Tables of models]); calls are then
            recorded ahead (Note [Recorded ahead]), so each has the bits of a table from the first step that finds a
            state of its optimizer; a step that no table takes whole, as `argmax` or a draw from a generator keeps one
            from it, is refused. "auto" is "table" where the interpreter is ready and a table takes the whole step.
        fallback: "eager" runs what cannot be recorded as ever, and says so once; None raises.

    >>> def make_step(rate):
    ...     weight = torch.zeros(2, requires_grad=True)
    ...     optimizer = torch.optim.SGD([weight], lr=rate)
    ...     def step(x, y):
    ...         optimizer.zero_grad()
    ...         loss = ((x @ weight - y) ** 2).mean()
    ...         loss.backward()
    ...         optimizer.step()
    ...         return loss
    ...     return step
    >>> x, y = torch.tensor([[1.0, 2.0], [3.0, 4.0]]), torch.tensor([1.0, 2.0])
    >>> sweep = torch.compile.sweep([make_step(rate) for rate in (0.001, 0.01, 0.1)])
    >>> losses = [sweep(x, y) for _ in range(10)]
    >>> losses[-1].shape, losses[-1].argmin().item()
    (torch.Size([3]), 1)
    """
    from nanotorch.capture.sweep.sweep import Sweep

    return Sweep(steps, in_dims, fallback, backend)


class Call(Protocol):
    """How `compile` is called."""

    @overload
    def __call__(
        self, fn: Callable[..., Any], *, backend: Backend = ..., fallback: Literal["eager"] | None = ...
    ) -> Compiled: ...
    @overload
    def __call__(
        self, fn: None = None, *, backend: Backend = ..., fallback: Literal["eager"] | None = ...
    ) -> Callable[[Callable[..., Any]], Compiled]: ...


class WithSweep(Call):
    """`compile`, and `compile.sweep` at it, as type checkers see them."""

    sweep = staticmethod(sweep)


def with_sweep(function: Any) -> WithSweep:
    """Return a function with `sweep` at it."""
    function.sweep = sweep
    return cast(WithSweep, function)


@with_sweep
def compile(
    fn: Callable[..., Any] | None = None, *, backend: Backend = "auto", fallback: Literal["eager"] | None = None
) -> Any:
    """Return a function that does what `fn` does, from the fourth call with arguments of a shape on as a program that
    was recorded (Note [Compiled steps]).

    Args:
        fn: a function of tensors that returns tensors, as a step of training: zero_grad, forward, backward and step.
            Without it, what is returned is a decorator.
        backend: what runs the program. "numpy" gives the bits that the function gives. "table" is many times faster
            where networks are small, and gives them to rounding (Note [Tolerance of tables]); it needs numba, which
            the extra `fast` installs, and seconds to get ready once per machine, in which the program runs as "numpy".
            "auto" is "table" where numba is installed.
        fallback: "eager" runs what cannot be recorded as ever, and says so once; None raises.

    >>> weight = torch.zeros(2, requires_grad=True)
    >>> optimizer = torch.optim.SGD([weight], lr=0.05)
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
    if not callable(fn):
        raise TypeError(f"compile takes a function or a Module, got {type(fn).__name__}")
    if fallback not in (None, "eager"):
        raise ValueError(f"fallback is None or 'eager', got {fallback!r}")
    from nanotorch.capture.compiled import Compiled

    return Compiled(fn, backend, fallback)
