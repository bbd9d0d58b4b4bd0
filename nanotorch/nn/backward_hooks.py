"""How a module's backward hooks see its gradients.

Around a call of `forward` that has backward hooks, the tensor arguments go through an identity operation, and so do the
tensor outputs. In the backward pass the second is reached first: its gradients are the module's `grad_output`. The
first is reached when the module is done: its gradients are the module's `grad_input`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from nanotorch.autograd.function import Function
from nanotorch.autograd.graph.grad_mode import is_grad_enabled
from nanotorch.autograd.graph.tensor import Tensor

Gradients = tuple[Any, ...]


class Crossing(Function):
    """The identity on several tensors, which shows their gradients to a function and passes on what it returns."""

    @staticmethod
    def forward(ctx: Any, seen: Callable[[Gradients], Gradients], zeros: bool, *tensors: Tensor) -> tuple[Tensor, ...]:
        """Return the tensors themselves; `zeros` says whether a missing gradient is shown as zeros or as None."""
        ctx.seen = seen
        ctx.set_materialize_grads(zeros)
        ctx.mark_non_differentiable(*(tensor for tensor in tensors if not tensor.requires_grad))
        return tensors

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Gradients:
        """Return the gradients, or those that the function returned."""
        return (None, None, *ctx.seen(grads))


class Boundary:
    """One call of a module with backward hooks: what came in and what went out."""

    def __init__(
        self, module: object, pre_hooks: Sequence[Callable[..., Any]], hooks: Sequence[Callable[..., Any]]
    ) -> None:
        self.module = module
        self.pre_hooks = pre_hooks
        self.hooks = hooks
        self.grad_output: Gradients | None = None
        self.arguments: Sequence[Any] = ()
        self.outputs: Sequence[Any] = ()
        self.awaits_input = False

    def enter(self, arguments: tuple[Any, ...]) -> tuple[Any, ...]:
        """Return the arguments for `forward`."""
        self.arguments = arguments
        crossed = self._cross(arguments, self._at_input, zeros=True)
        self.awaits_input = crossed is not arguments
        return tuple(crossed)

    def leave(self, output: Any) -> Any:
        """Return the output for the caller; of tuples and lists the tensors directly in them count."""
        if isinstance(output, Tensor):
            self.outputs = (output,)
            return self._cross(self.outputs, self._at_output, zeros=False)[0]
        if isinstance(output, tuple | list):
            self.outputs = output
            crossed = self._cross(output, self._at_output, zeros=False)
            return type(output)(*crossed) if hasattr(output, "_fields") else type(output)(crossed)
        return output

    def _cross(self, values: Sequence[Any], seen: Callable[[Gradients], Gradients], zeros: bool) -> Sequence[Any]:
        tensors = [value for value in values if isinstance(value, Tensor)]
        if not is_grad_enabled() or not any(tensor.requires_grad for tensor in tensors):
            return values
        crossed = iter(Crossing.apply(seen, zeros, *tensors))
        return [next(crossed) if isinstance(value, Tensor) else value for value in values]

    def _at_output(self, grads: Gradients) -> Gradients:
        grad_output = _spread(grads, self.outputs)
        for hook in self.pre_hooks:
            grad_output = _replaced(hook(self.module, grad_output), grad_output, "grad_output")
        self.grad_output = grad_output
        if not self.awaits_input:
            for hook in self.hooks:
                hook(self.module, (None,) * len(self.arguments), grad_output)
        return _gathered(grad_output, self.outputs)

    def _at_input(self, grads: Gradients) -> Gradients:
        if self.grad_output is None:
            return grads
        grad_input = _spread(grads, self.arguments)
        for hook in self.hooks:
            grad_input = _replaced(hook(self.module, grad_input, self.grad_output), grad_input, "grad_input")
        return _gathered(grad_input, self.arguments)


def _spread(grads: Gradients, values: Sequence[Any]) -> Gradients:
    """Return the gradients of the tensors among some values, in their places; None for the others."""
    remaining = iter(grads)
    return tuple(next(remaining) if isinstance(value, Tensor) else None for value in values)


def _gathered(grads: Gradients, values: Sequence[Any]) -> Gradients:
    return tuple(grad for grad, value in zip(grads, values, strict=True) if isinstance(value, Tensor))


def _replaced(returned: Any, grads: Gradients, what: str) -> Gradients:
    if returned is None:
        return grads
    changed = returned if isinstance(returned, tuple) else (returned,)
    if len(changed) != len(grads):
        raise RuntimeError(f"a backward hook returned {len(changed)} gradients for a {what} of {len(grads)}")
    return changed
