"""Custom operations: subclasses of Function with a forward and a backward of their own."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from typing import Any

from nanotorch.autograd.errors import ShapeError
from nanotorch.autograd.grad_mode import is_grad_enabled, no_grad
from nanotorch.autograd.graph import Edge, Node, modified_error, next_sequence, released_error
from nanotorch.autograd.tensor import Tensor, from_array, gradient_edge

__all__ = ["Function", "FunctionNode", "once_differentiable"]


class FunctionNode(Node):
    """The node of a custom Function; it is also the ``ctx`` that forward and backward get.

    Attributes:
        needs_input_grad: for every argument of forward whether its gradient is wanted.
    """

    __slots__ = ("__dict__", "outputs")
    function: type[Function]
    needs_input_grad: tuple[bool, ...]

    def name(self) -> str:
        """Return the Function's name with ``Backward``."""
        return f"{self.function.__name__}Backward"

    def save_for_backward(self, *tensors: Tensor | None) -> None:
        """Keep tensors for backward, where `saved_tensors` gives them back with their version checked."""
        for tensor in tensors:
            if tensor is not None and not isinstance(tensor, Tensor):
                raise TypeError(f"save_for_backward can only save tensors or None, got {type(tensor).__name__}; store other values on ctx")
        self.to_save = tensors

    @property
    def saved_tensors(self) -> tuple[Tensor | None, ...]:
        """The tensors given to `save_for_backward`."""
        if self._released:
            raise released_error(self)
        values = []
        for tensor, version, output_nr in self.saved:
            if tensor is not None and tensor._version != version:
                raise modified_error(self, "a saved tensor", tensor.shape, version, tensor._cell)
            if output_nr is not None:  # an output: it was saved without its history, so that no cycle arises
                wrapped = from_array(tensor._array, tensor.device, True)
                wrapped._edge, wrapped._cell = (self, output_nr), tensor._cell
                tensor = wrapped
            values.append(tensor)
        return tuple(values)

    def mark_dirty(self, *tensors: Tensor) -> None:
        """Say which inputs forward wrote in place; they must be returned."""
        self.dirty = tensors

    def mark_non_differentiable(self, *tensors: Tensor) -> None:
        """Say which outputs carry no gradient."""
        self.non_differentiable = tensors

    def set_materialize_grads(self, value: bool) -> None:
        """Say whether backward gets zeros (the default) or None for outputs without a gradient."""
        self.materialize = value

    def apply(self, grad: Any) -> tuple[Any, ...]:
        """Run the user's backward on arrays, without recording."""
        grads = [grad] if self.outputs is None else grad
        device = self.device
        wrapped = [None if g is None else from_array(device.xp.asarray(g), device) for g in grads]
        # A view tells the engine that somebody else may hold the array.
        return tuple(None if g is None else g._array.view() for g in self._call(wrapped))

    def apply_recorded(self, grad: Any) -> tuple[Any, ...]:
        """Run the user's backward on tensors, recording."""
        return tuple(self._call([grad] if self.outputs is None else list(grad)))

    def _call(self, grads: list[Any]) -> list[Any]:
        if self._released:
            raise released_error(self)
        results = self.function.backward(self, *grads)
        name = f"{self.function.__name__}.backward"
        if not isinstance(results, tuple | list):
            results = (results,)
        expected = len(self.needs_input_grad)
        if len(results) > expected and all(g is None for g in results[expected:]):
            results = results[:expected]
        if len(results) != expected:
            raise RuntimeError(f"function {name} returned an incorrect number of gradients (expected {expected}, got {len(results)})")
        checked = []
        for number, (value, shape) in enumerate(zip(results, self.input_shapes, strict=True)):
            if value is None:
                checked.append(None)
                continue
            if not isinstance(value, Tensor):
                raise TypeError(f"{name} must return Tensors or None, got {type(value).__name__} at index {number}")
            if shape is None:
                raise RuntimeError(f"{name}: argument {number} of forward is not a Tensor, so its gradient must be None")
            if value._array.shape != shape:
                try:
                    value = value.sum_to_size(shape)
                except (ShapeError, RuntimeError):
                    raise ShapeError(
                        f"{name} returned an invalid gradient at index {number}: got {tuple(value.shape)}, expected {shape}"
                    ) from None
            checked.append(value)
        return checked

    def release(self) -> None:
        """Drop the saved tensors, if any."""
        if self.saved:
            self.saved, self._released = [], True


class Function:
    """Base of custom operations.

    A subclass defines two static methods: ``forward(ctx, *args)`` computes with tensors (nothing is recorded inside) and
    may store what backward needs with ``ctx.save_for_backward``; ``backward(ctx, *grad_outputs)`` returns one gradient
    for every argument of forward, None for those that need none. Call the operation with ``apply``.

    >>> class Cube(torch.autograd.Function):
    ...     @staticmethod
    ...     def forward(ctx, x):
    ...         ctx.save_for_backward(x)
    ...         return x ** 3
    ...     @staticmethod
    ...     def backward(ctx, grad_output):
    ...         (x,) = ctx.saved_tensors
    ...         return grad_output * 3 * x ** 2
    >>> x = torch.tensor(2.0, requires_grad=True)
    >>> Cube.apply(x).backward()
    >>> x.grad
    tensor(12.)
    """

    @staticmethod
    def forward(ctx: Any, *args: Any, **kwargs: Any) -> Any:
        """Compute the outputs; to be defined by the subclass."""
        raise NotImplementedError("You must implement the forward function for custom autograd.Function.")

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Any) -> Any:
        """Compute the gradients of the inputs; to be defined by the subclass."""
        raise NotImplementedError("You must implement the backward for your custom autograd.Function to use it with backward().")

    @classmethod
    def apply(cls, *args: Any, **kwargs: Any) -> Any:
        """Run the operation and record it."""
        ctx = FunctionNode()
        ctx.function, ctx._released, ctx._hooks, ctx.saved = cls, False, None, []
        ctx.to_save, ctx.dirty, ctx.non_differentiable, ctx.materialize = (), (), (), True
        tensors = [a if isinstance(a, Tensor) else None for a in args]
        recording = is_grad_enabled()
        ctx.needs_input_grad = tuple(t is not None and t.requires_grad and recording for t in tensors)
        ctx.input_shapes = [None if t is None else t._array.shape for t in tensors]
        edges: list[Edge | None] = [None if t is None else gradient_edge(t) for t in tensors]
        ctx.outputs = None
        with no_grad():
            results = cls.forward(ctx, *args, **kwargs)
        many = isinstance(results, tuple | list)
        values = list(results) if many else [results]
        device = next((t.device for t in (*values, *tensors) if isinstance(t, Tensor)), None)
        tracked = any(ctx.needs_input_grad)
        if tracked and device is not None:
            frame = sys._getframe(1)
            ctx._code, ctx._last_instruction = frame.f_code, frame.f_lasti
            ctx._sequence, ctx.device = next_sequence(), device
            ctx.edges = tuple(edge if needed else None for edge, needed in zip(edges, ctx.needs_input_grad, strict=True))
            if len(values) > 1:
                ctx.outputs = tuple((v._array.shape, v._array.dtype) if isinstance(v, Tensor) else ((), device.xp.zeros(()).dtype) for v in values)
        outputs = [_output(ctx, number, value, tensors, tracked) for number, value in enumerate(values)]
        if tracked:
            for tensor in ctx.to_save:
                number = next((k for k, v in enumerate(outputs) if v is tensor and tensor is not None and k not in ()), None)
                if tensor is not None and number is None:
                    number = next((k for k, v in enumerate(values) if v is tensor and all(t is not tensor for t in tensors)), None)
                if number is not None:
                    output = outputs[number]
                    bare = from_array(output._array, output.device)
                    bare._cell = output._version_cell()
                    ctx.saved.append((bare, bare._version, number if output._requires_grad else None))
                else:
                    ctx.saved.append((tensor, 0 if tensor is None else tensor._version, None))
        ctx.to_save = ctx.dirty = ctx.non_differentiable = ()
        return tuple(outputs) if many else outputs[0]


def _output(ctx: FunctionNode, number: int, value: Any, inputs: list[Tensor | None], tracked: bool) -> Any:
    """Give one output of forward its place in the graph."""
    if not isinstance(value, Tensor):
        return value
    if any(value is tensor for tensor in ctx.dirty):
        if tracked and value._view is None and value._requires_grad and value._edge is None:
            raise RuntimeError("a leaf Variable that requires grad is being used in an in-place operation (mark_dirty).")
        value._bump_version(f"{ctx.function.__name__}.forward", 3)
        result = value
        if tracked and value._view is not None:
            raise RuntimeError("mark_dirty on a view is not supported: write to a clone() and return it")
    elif any(value is tensor for tensor in inputs):
        result = from_array(value._array, value.device)  # an input returned as it is becomes a new output
        result._cell = value._version_cell()
    elif value._edge is not None or value._requires_grad or not tracked:
        result = value.detach() if tracked else value
    else:
        result = value
    differentiable = tracked and value._array.dtype.kind == "f" and not any(value is t for t in ctx.non_differentiable)
    if differentiable:
        result._edge, result._requires_grad = (ctx, number), True
        result._view = None
    return result


def once_differentiable(backward: Callable[..., Any]) -> Callable[..., Any]:
    """Mark a Function's backward as not differentiable: differentiating its gradients raises."""

    @functools.wraps(backward)
    def wrapper(ctx: FunctionNode, *grads: Any) -> Any:
        recording = is_grad_enabled()
        with no_grad():
            results = backward(ctx, *grads)
        if not recording or not any(g is not None and g.requires_grad for g in (*grads, *ctx.saved_tensors)):
            return results
        many = isinstance(results, tuple | list)
        values = list(results) if many else [results]
        marked = [None if v is None else _Refuse.apply(v.detach().requires_grad_()) for v in values]
        return tuple(marked) if many else marked[0]

    return wrapper


class _Refuse(Function):
    """The identity with a backward that raises."""

    @staticmethod
    def forward(ctx: Any, value: Tensor) -> Tensor:
        return value.clone()

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        raise RuntimeError(
            "trying to differentiate twice a function that was marked with @once_differentiable: write its backward with "
            "differentiable operations and remove the mark."
        )


