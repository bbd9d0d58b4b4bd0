"""Recomputation: forget what a part of the forward saved for backward, and run that part again when it is needed.

Note [Recomputation]
~~~~~~~~~~~~~~~~~~~~
`checkpoint` runs a function under saved tensor hooks (Note [Packed nodes]) that keep nothing but a number: "the k-th
value saved in this call". The graph is the ordinary one, and its edges are in place; only the saved values are gone.
When backward reaches the first node that needs one, the function runs once more, under other hooks that collect the
values by number, and stops as soon as the last one is there. Each value is handed out once, so memory is freed as
backward goes; should it be wanted again (a second backward, a derivative of the gradient), the function runs again::

    forward     x --[ linear | tanh | linear | tanh ]--> y     saved: 0, 1, 2, 3 (numbers), and x itself
    backward    unpack(3): run again from x, collect 0 .. 3, hand out 3; then 2, 1, 0

The argument x is kept as a node would keep it: with its version checked, and through the hooks that were active before.
In a nested checkpoint those are the outer call's, so the inner call keeps a number in place of x, and its recomputation
asks the outer one for it.

Gradients are the same, bit for bit, as long as the function does the same again. The counters of dropout are set back
(Note [Counters of dropout]), and so is the default random generator where the function has drawn from it: the same
masks are drawn. What else the function reads must not have changed: every saved value is compared in shape, dtype,
device and version with that of the forward pass. What it writes is written twice: a batch norm in training updates its
running statistics once more.

Chen et al., Training Deep Nets with Sublinear Memory Cost (2016), https://arxiv.org/abs/1604.06174.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from nanotorch.autograd.graph.errors import describe_line
from nanotorch.autograd.graph.grad_mode import enable_grad, is_grad_enabled
from nanotorch.autograd.graph.saved_tensors import Packed, packed, saved_tensors_hooks
from nanotorch.autograd.graph.tensor import Tensor
from nanotorch.autograd.tree import mapped
from nanotorch.ops.create import counters
from nanotorch.ops.create.random import drawing_from, fork_rng, source

__all__ = ["CheckpointError", "checkpoint", "checkpoint_sequential"]


class CheckpointError(RuntimeError):
    """A function that did not do the same again when it was recomputed."""


def checkpoint(
    function: Callable[..., Any],
    *args: Any,
    use_reentrant: bool = False,
    preserve_rng_state: bool = True,
    determinism_check: str = "default",
    **kwargs: Any,
) -> Any:
    """Return `function(*args, **kwargs)`, keeping its arguments for backward in place of all that it saves.

    See Note [Recomputation]. Backward runs the function again, which costs about one more forward pass of it.

    Args:
        function: any function or module; it must do the same when it is called again, and leave its arguments as they
            are.
        args: its arguments; tensors may also be in tuples, lists and dicts.
        use_reentrant: only False. PyTorch's older variant calls backward inside backward and works neither with
            `autograd.grad` nor with keyword arguments.
        preserve_rng_state: set the default random generator back for the recomputation, so that dropout is the same.
        determinism_check: `"default"` compares shape, dtype, device and version of every saved value with those
            of the forward pass, `"none"` does not.
        kwargs: its keyword arguments.

    >>> from nanotorch.utils.checkpoint import checkpoint
    >>> x = torch.ones(3, requires_grad=True)
    >>> y = checkpoint(lambda t: t.exp().sin(), x)
    >>> y.sum().backward()
    >>> torch.allclose(x.grad, x.exp().cos() * x.exp())
    True
    """
    if use_reentrant:
        raise ValueError(
            "checkpoint: use_reentrant=True is not supported: leave it out, and autograd.grad, kwargs and double"
            " backward work too"
        )
    if determinism_check not in ("default", "none"):
        raise ValueError(f'checkpoint: determinism_check must be "default" or "none", got {determinism_check!r}')
    if not is_grad_enabled():
        return function(*args, **kwargs)
    region = Region(function, args, kwargs, preserve_rng_state, determinism_check == "default")
    with saved_tensors_hooks(region.pack, region.unpack):
        result = function(*args, **kwargs)
    region.see_draws()
    return result


def checkpoint_sequential(
    functions: Iterable[Callable[..., Any]],
    segments: int,
    input: Any,
    use_reentrant: bool = False,
    *,
    preserve_rng_state: bool = True,
) -> Any:
    """Run functions one after the other, each of `segments` groups but the last as one `checkpoint`.

    The last group is needed first in backward, so forgetting it would gain nothing. Groups have equal numbers of
    functions, and the last one the rest. Peak memory is least with about `sqrt(len(functions))` groups.

    >>> from nanotorch.utils.checkpoint import checkpoint_sequential
    >>> model = torch.nn.Sequential(torch.nn.Linear(2, 4), torch.nn.Tanh(), torch.nn.Linear(4, 1))
    >>> checkpoint_sequential(model, 2, torch.ones(5, 2)).shape
    torch.Size([5, 1])
    """
    chain = list(functions)
    if not 1 <= segments <= max(len(chain), 1):
        raise ValueError(
            f"checkpoint_sequential: segments is a number from 1 to that of the functions, {len(chain)}; got {segments}"
        )
    size = len(chain) // segments
    for start in range(0, size * (segments - 1), size):
        group = chain[start : start + size]
        input = checkpoint(_run, group, input, use_reentrant=use_reentrant, preserve_rng_state=preserve_rng_state)
    return _run(chain[size * (segments - 1) :], input)


def _run(functions: Sequence[Callable[..., Any]], value: Any) -> Any:
    for function in functions:
        value = function(value)
    return value


class Kept:
    """A tensor among the arguments, kept as a node keeps what it saves."""

    __slots__ = ("held", "version")

    def __init__(self, tensor: Tensor) -> None:
        self.held: Packed | Tensor = packed(tensor) or tensor
        self.version = 0 if tensor._cell is None else tensor._cell.number  # which refuses for inference tensors

    def tensor(self) -> Tensor:
        """Return the tensor, unless it was written since."""
        if isinstance(self.held, Packed):
            tensor = self.held.unpack()
            tensor._version_cell().number = self.version  # what the function notes of versions is as before
            return tensor
        if self.held._version != self.version:
            raise _written("an argument of the checkpointed function", self.held)
        return self.held


class Region:
    """One call of `checkpoint`: what it takes to run the function again,
    and the values of the last time (Note [Recomputation]).
    """

    def __init__(
        self, function: Callable[..., Any], args: Any, kwargs: Any, preserve_rng_state: bool, compare: bool
    ) -> None:
        self.function, self.compare = function, compare
        self.arguments = mapped(Kept, (args, kwargs), Tensor)
        self.preserves, self.position = preserve_rng_state, counters.position()
        self.generator = source()
        self.drawn_from = self.generator.get_state() if preserve_rng_state else None
        self.saved: list[tuple[Any, ...]] = []
        self.values: dict[int, Tensor] = {}

    def see_draws(self) -> None:
        """Forget where the generator stood, if the function has drawn nothing from it: it need not be set back."""
        if self.drawn_from == self.generator.get_state():
            self.drawn_from = None

    def pack(self, tensor: Tensor) -> int:
        """Forget a value that the forward pass saves; note what it was like."""
        self.saved.append(_likeness(tensor))
        return len(self.saved) - 1

    def unpack(self, number: int) -> Tensor:
        """Return a value, from the last recomputation or a new one."""
        value = self.values.pop(number, None)
        if value is None:
            values = self.recompute()
            value = values.pop(number)
            self.values = values
        if value._version != self.saved[number][-1] and self.compare:
            raise _written("a value that the checkpointed function saved", value)
        return value

    def recompute(self) -> dict[int, Tensor]:
        """Run the function again, up to its last saved value."""
        args, kwargs = mapped(Kept.tensor, self.arguments, Kept)
        values: dict[int, Tensor] = {}
        expected = len(self.saved)

        def collect(tensor: Tensor) -> Tensor:
            number = len(values)
            if self.compare:
                self.check(number, tensor)
            values[number] = tensor
            if number + 1 == expected:
                raise _Complete
            return tensor

        try:
            with self.same_numbers(), enable_grad(), saved_tensors_hooks(collect, _same):
                self.function(*args, **kwargs)
        except _Complete:
            return values
        raise CheckpointError(
            f"checkpoint: {_name(self.function)} saved {expected} values for backward in the forward pass, but"
            f" {len(values)} when it was run again. It has to do the same both times: look for what it reads that has"
            " changed since (a flag, a counter, training mode, grad mode)."
        )

    @contextmanager
    def same_numbers(self) -> Iterator[None]:
        """Draw random numbers as the forward pass did, and afterwards as if none had been drawn."""
        if not self.preserves:
            yield
            return
        again = self.drawn_from is not None
        with drawing_from(self.generator), fork_rng(enabled=again), counters.set_back(self.position):
            if self.drawn_from is not None:
                self.generator.set_state(self.drawn_from)
            yield

    def check(self, number: int, tensor: Tensor) -> None:
        """Compare a recomputed value with what the forward pass noted of it."""
        before, after = self.saved[number], _likeness(tensor)
        if before[:-1] != after[:-1]:
            raise CheckpointError(
                f"checkpoint: {_name(self.function)} did not do the same again: saved value {number} had shape"
                f" {before[0]}, {before[1]} on {before[2]} in the forward pass and has shape {after[0]}, {after[1]} on"
                f" {after[2]} in the recomputation"
            )
        if before[-1] != after[-1]:
            raise _written(f"what {_name(self.function)} uses (saved value {number})", tensor)


class _Complete(BaseException):
    """Ends a recomputation once it has all values; no `except Exception` of the function may swallow it."""


def _likeness(tensor: Tensor) -> tuple[Any, ...]:
    return tuple(tensor.shape), tensor.dtype, tensor.device, tensor._version


def _same(tensor: Tensor) -> Tensor:
    return tensor


def _name(function: Any) -> str:
    return getattr(function, "__qualname__", None) or type(function).__name__


def _written(what: str, tensor: Tensor) -> RuntimeError:
    writer = tensor._version_cell().writer
    by = f"\n  overwritten by {writer[0]} at {describe_line(*writer[1:])}" if writer else ""
    return RuntimeError(
        f"checkpoint: {what}, shape {tuple(tensor.shape)}, has been modified by an inplace operation since, and the"
        f" recomputation would give other values.{by}\n  Hint: use the out-of-place form, or write to a clone()."
    )
