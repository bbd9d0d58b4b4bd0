"""Custom operations: subclasses of Function with a forward and a backward of their own."""

from __future__ import annotations

import functools
import inspect
import sys
import warnings
import weakref
from collections.abc import Callable, Sequence
from types import FrameType
from typing import Any

import numpy as np

from nanotorch.autograd.graph.errors import ShapeError, user_line
from nanotorch.autograd.graph.grad_mode import announce, is_grad_enabled, no_grad
from nanotorch.autograd.graph.node import Node, modified_error, next_sequence, released_error
from nanotorch.autograd.graph.saved_tensors import Pack, Packed
from nanotorch.autograd.graph.tensor import Tensor, from_array, gradient_edge
from nanotorch.autograd.graph.view import FUNCTION_VIEW, MULTI_VIEW, CopySlices, View, refused
from nanotorch.backend.device import Device

__all__ = ["Function", "FunctionCtx", "FunctionNode", "once_differentiable"]

OBJECT = np.dtype(object)
"""Stands for the dtype of an output that is no tensor."""


class FunctionCtx:
    """What forward and backward of a Function share: saved tensors, marks, and whatever the user stores on it.

    Attributes:
        needs_input_grad: for every argument of forward whether its gradient is wanted.
    """

    needs_input_grad: tuple[bool, ...]

    def __init__(self) -> None:
        self._node: Callable[[], FunctionNode | None] = lambda: None  # weak: the node holds its ctx
        self._saved: list[
            tuple[Tensor | Packed | None, int, int | None]
        ] = []  # tensor, version, number if it is an output
        self._to_save: tuple[Tensor | None, ...] = ()
        self._dirty: tuple[Tensor, ...] = ()
        self._non_differentiable: tuple[Tensor, ...] = ()
        self._materialize = True

    def save_for_backward(self, *tensors: Tensor | None) -> None:
        """Keep tensors for backward, where `saved_tensors` gives them back with their version checked."""
        for tensor in tensors:
            if tensor is not None and not isinstance(tensor, Tensor):
                raise TypeError(
                    f"save_for_backward can only save tensors or None, got {type(tensor).__name__}; store other values"
                    " on ctx"
                )
        self._to_save = tensors

    @property
    def saved_tensors(self) -> tuple[Tensor | None, ...]:
        """The tensors given to `save_for_backward`."""
        node = self._node()
        if node is None:
            return ()
        if node._released:
            raise released_error(node)
        values = []
        for tensor, version, output_nr in self._saved:
            if isinstance(tensor, Packed):
                tensor = tensor.unpack()
            elif tensor is not None and tensor._version != version:
                assert tensor._cell is not None
                raise modified_error(node, "a saved tensor", tensor.shape, version, tensor._cell)
            if tensor is not None and output_nr is not None:
                cell = tensor._cell
                tensor = from_array(tensor._array, tensor.device, True)
                tensor._edge, tensor._cell = (node, output_nr), cell
            values.append(tensor)
        return tuple(values)

    def save_for_forward(self, *tensors: Tensor | None) -> None:
        """Do nothing: PyTorch keeps these tensors for `jvp`, which forward mode does not use here."""

    def mark_dirty(self, *tensors: Tensor) -> None:
        """Say which inputs forward wrote in place; they must be returned."""
        self._dirty = tensors

    def mark_non_differentiable(self, *tensors: Tensor) -> None:
        """Say which outputs carry no gradient."""
        self._non_differentiable = tensors

    def set_materialize_grads(self, value: bool) -> None:
        """Say whether backward gets zeros (the default) or None for outputs without a gradient."""
        self._materialize = value

    def _keep(self, inputs: Sequence[Tensor | None], values: Sequence[Any], outputs: Sequence[Any]) -> None:
        """Save the tensors given to `save_for_backward`.

        Inputs are kept as they are. Outputs, and what forward made, are kept without their history and without the
        base that they view, so that no cycle arises.
        """
        for tensor in self._to_save:
            if tensor is None:
                self._saved.append((None, 0, None))
                continue
            number = next((k for k, output in enumerate(outputs) if output is tensor), None)
            if number is None and not any(t is tensor for t in inputs):
                number = next((k for k, value in enumerate(values) if value is tensor), None)
            if number is not None:
                tensor = outputs[number]
            if number is None and (tensor._requires_grad or any(t is tensor for t in inputs)):
                self._saved.append((tensor, 0 if tensor._cell is None else tensor._cell.number, None))
                continue
            bare = from_array(tensor._array, tensor.device)
            bare._cell = tensor._version_cell()
            self._saved.append((bare, bare._version, number if tensor._requires_grad else None))
        self._to_save = self._dirty = self._non_differentiable = ()


class FunctionNode(Node):
    """The node of a custom Function; every Function has a subclass, named like it with `Backward`.

    What is stored on `ctx` can be read from the node too.
    """

    __slots__ = ("ctx", "inputs", "materialize", "outputs")
    function: type[Function]
    ctx: FunctionCtx
    inputs: tuple[tuple[int, tuple[int, ...], Any, Device], ...]
    """For every tensor argument: its position, shape, dtype and device."""

    def __init__(self, ctx: FunctionCtx, arguments: Sequence[Tensor | None], frame: FrameType) -> None:
        tensors = [(k, t) for k, t in enumerate(arguments) if t is not None]
        device = next(t.device for _, t in tensors if t._requires_grad)
        super().__init__(device, tuple([gradient_edge(t) for _, t in tensors]), *user_line(frame))
        self.ctx, self.outputs = ctx, None
        self.inputs = tuple([(k, t._array.shape, t.dtype, t.device) for k, t in tensors])

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or name in FunctionNode.__slots__:
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        return getattr(self.ctx, name)

    def apply(self, grad: Any, wanted: Any = None) -> tuple[Any, ...]:
        """Run the user's backward on arrays, without recording."""
        grads = [grad] if self.outputs is None else grad
        device = self.device
        wrapped = [None if g is None else from_array(device.xp.asarray(g), device) for g in grads]
        # A view tells the engine that somebody else may hold the array.
        return tuple([None if g is None else g._array[...] for g in self._call(wrapped)])

    def apply_recorded(self, grad: Any, wanted: Any = None) -> tuple[Any, ...]:
        """Run the user's backward on tensors, recording."""
        return tuple(self._call([grad] if self.outputs is None else list(grad)))

    def _call(self, grads: list[Any]) -> list[Any]:
        """Run the user's backward and check what it returns; leave out the arguments that are no tensors."""
        if self._released:
            raise released_error(self)
        if self.outputs is not None and self.materialize:
            for number, (shape, dtype) in enumerate(self.outputs):
                # where nobody can have a gradient there are zeros too
                if grads[number] is None and dtype.kind in "biu":
                    grads[number] = from_array(self.device.xp.zeros(shape, dtype), self.device)
        function = self.function
        rule = function.vjp if function.backward is Function.backward else function.backward
        results = rule(self.ctx, *grads)
        if not isinstance(results, tuple | list):
            results = (results,)
        expected = len(self.ctx.needs_input_grad)
        if len(results) > expected and all(g is None for g in results[expected:]):
            results = results[:expected]
        if len(results) != expected:
            raise RuntimeError(
                f"{self._where()} returned an incorrect number of gradients: expected {expected}, one for every"
                f" argument of forward (None where there is none), got {len(results)}"
            )
        tensors = {position for position, *_ in self.inputs}
        for position, value in enumerate(results):
            if value is not None and position not in tensors:
                raise RuntimeError(
                    f"{self._where()} returned a gradient different than None at index {position}, but that argument of"
                    " forward was not a Tensor"
                )
        return [self._checked(results[position], position, *like) for position, *like in self.inputs]

    def _checked(self, value: Any, position: int, shape: tuple[int, ...], dtype: Any, device: Device) -> Tensor | None:
        """Bring a gradient to the shape and dtype of its input."""
        if value is None:
            return None
        if not isinstance(value, Tensor):
            raise TypeError(
                f"{self._where()} must return Tensors or None, got {type(value).__name__} at index {position}"
            )
        if value.device is not device:
            raise RuntimeError(
                f"{self._where()} returned an invalid gradient at index {position}: expected device {device} but got"
                f" {value.device}"
            )
        if value._array.shape != shape:
            try:
                value = value.sum_to_size(shape)
            except (ShapeError, RuntimeError):
                raise ShapeError(
                    f"{self._where()} returned an invalid gradient at index {position}: got shape {tuple(value.shape)},"
                    f" expected {shape}, the shape of that argument of forward"
                ) from None
        return value if value.dtype is dtype else value.to(dtype)

    def _where(self) -> str:
        """Name the backward, and where forward was called."""
        return f"{self.function.__name__}.backward (forward called at {self.forward_line})"

    def pack(self, pack: Pack) -> None:
        """Replace the saved tensors by packed ones (Note [Packed nodes])."""
        packed: list[tuple[Tensor | Packed | None, int, int | None]] = []
        for tensor, version, output_nr in self.ctx._saved:
            if isinstance(tensor, Tensor):
                edge = gradient_edge(tensor) if output_nr is None else None
                tensor = pack(tensor, edge, edge is None or tensor._edge is None)
            packed.append((tensor, version, output_nr))
        self.ctx._saved = packed

    def release(self) -> None:
        """Drop the saved tensors, if any."""
        if self.ctx._saved:
            self.ctx._saved, self._released = [], True


class Function:
    """Base of custom operations.

    A subclass defines two static methods: `forward(ctx, *args)` computes with tensors (nothing is recorded inside)
    and may store what backward needs with `ctx.save_for_backward`; `backward(ctx, *grad_outputs)` returns one
    gradient for every argument of forward, None for those that need none. Call the operation with `apply`. Instead of
    giving ctx to forward, a subclass may define `forward(*args)` and `setup_context(ctx, inputs, output)`. The name
    `vjp` stands for `backward` too; `jvp` and `vmap` may be defined, but nothing here calls them.

    Where a gradient does not reach an output, backward gets zeros (see `ctx.set_materialize_grads`); where it reaches
    none of them, backward is not called.

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

    _node: type[FunctionNode]
    _signature: inspect.Signature

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        name = type(self).__name__
        raise TypeError(f"{name} should not be instantiated: its methods are static. Call {name}.apply(...)")

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if cls.backward is not Function.backward and cls.vjp is not Function.vjp:
            raise RuntimeError(
                "Implementing both 'backward' and 'vjp' for a custom Function is not allowed. You should only implement"
                " one of them."
            )
        cls._node = type(f"{cls.__name__}Backward", (FunctionNode,), {"__slots__": (), "function": cls})

    # The signature (*args: Any, **kwargs: Any) is to type checkers what any other one may override.

    @staticmethod
    def forward(*args: Any, **kwargs: Any) -> Any:
        """Compute the outputs; to be defined by the subclass."""
        raise NotImplementedError("You must implement the forward function for custom autograd.Function.")

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        """Save what backward needs, where forward does not get ctx; may be defined by the subclass."""

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Any, **kwargs: Any) -> Any:
        """Compute the gradients of the inputs; to be defined by the subclass, under this name or as `vjp`."""
        raise NotImplementedError(
            "You must implement either the backward or vjp method for your custom autograd.Function to use it with"
            " backward mode AD."
        )

    vjp = backward

    @classmethod
    def apply(cls, *args: Any, **kwargs: Any) -> Any:
        """Run the operation and record it.

        Arguments by name are put in the order of forward's parameters: backward returns a gradient for each of those.
        """
        if kwargs or cls.setup_context is not Function.setup_context:
            args = cls._positional(args, kwargs)
        ctx = FunctionCtx()
        tensors = [a if isinstance(a, Tensor) else None for a in args]
        ctx.needs_input_grad = tuple([t is not None and t.requires_grad for t in tensors])
        node = None
        if any(ctx.needs_input_grad) and is_grad_enabled():
            node = cls._node(ctx, tensors, sys._getframe(1))
            ctx._node = weakref.ref(node)
        with no_grad():
            if cls.setup_context is Function.setup_context:
                results = cls.forward(ctx, *args)
            else:
                results = cls.forward(*args)
                cls.setup_context(ctx, args, results)
        many = isinstance(results, tuple | list)
        values = list(results) if many else [results]
        for tensor in ctx._dirty:
            if not any(tensor is t for t in tensors):
                warnings.warn(
                    "ctx.mark_dirty() received a tensor that was not an input; only inputs can be marked",
                    UserWarning,
                    stacklevel=2,
                )
            if not any(value is tensor for value in values):
                raise RuntimeError(
                    f"{cls.__name__}.forward marked an input as dirty but did not return it; inputs written in place"
                    " must be outputs"
                )
            tensor._bump_version(f"{cls.__name__}.forward")
        if node is None:
            outputs = _unrecorded(values, tensors, ctx)
            return outputs[0] if not many else outputs if isinstance(results, list) else tuple(outputs)
        node._sequence = next_sequence()  # newer than all that forward may have recorded
        node.materialize = ctx._materialize
        node.device = next((v.device for v in values if isinstance(v, Tensor)), node.device)
        if len(values) > 1:
            absent = ((), OBJECT)
            node.outputs = tuple(
                [(v._array.shape, v._array.dtype) if isinstance(v, Tensor) else absent for v in values]
            )
        outputs = [_output(node, number, value, tensors) for number, value in enumerate(values)]
        ctx._keep(tensors, values, outputs)
        announce(node)
        return outputs[0] if not many else outputs if isinstance(results, list) else tuple(outputs)

    @classmethod
    def _positional(cls, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, ...]:
        """Return the arguments of forward in order, with those that are left out."""
        if "_signature" not in vars(cls):
            parameters = list(inspect.signature(cls.forward).parameters.values())
            if cls.setup_context is Function.setup_context:  # the first one is ctx
                parameters = parameters[parameters[0].kind is not inspect.Parameter.VAR_POSITIONAL :]
            cls._signature = inspect.Signature(parameters)
        bound = cls._signature.bind(*args, **kwargs)
        bound.apply_defaults()
        if bound.kwargs:
            raise TypeError(
                f"{cls.__name__}.apply() got {', '.join(sorted(bound.kwargs))} by name, which forward takes by name"
                " only: backward returns gradients by position, so give forward positional parameters"
            )
        return bound.args


def _unrecorded(values: list[Any], inputs: list[Tensor | None], ctx: FunctionCtx) -> list[Any]:
    """Return the outputs of a forward without history; an input that is returned as it is becomes another tensor."""

    def ordinary(value: Any) -> Any:
        if not isinstance(value, Tensor) or any(value is t for t in ctx._dirty):
            return value
        recorded = value._edge is not None or (value._requires_grad and value._view is None)  # by an enable_grad inside
        return value.detach() if recorded or any(value is t for t in inputs) else value

    return [ordinary(value) for value in values]


def _output(node: FunctionNode, number: int, value: Any, inputs: list[Tensor | None]) -> Any:
    """Give one output of forward its place in the graph."""
    if not isinstance(value, Tensor):
        return value
    ctx = node.ctx
    constant = value._array.dtype.kind != "f" or any(value is t for t in ctx._non_differentiable)
    if any(value is tensor for tensor in ctx._dirty):
        if constant:
            return value.detach() if value.requires_grad else value
        _rewrite(node, number, value, [t for t in inputs if t is not None])
        return value
    result, view = value, value._view
    base = value if view is None else view.base
    if any(value is tensor for tensor in inputs) or value._edge is not None or value._requires_grad:
        result = value.detach()
    if constant:
        return result
    result._edge, result._requires_grad, result._view = (node, number), True, None
    if any(t is not None and base is (t if t._view is None else t._view.base) for t in inputs):
        result._view = View(base, FUNCTION_VIEW if node.outputs is None else MULTI_VIEW, result._version)
    return result


def _rewrite(node: FunctionNode, number: int, value: Tensor, inputs: list[Tensor]) -> None:
    """Make the node the history of an input that forward wrote in place (Note [Views and in-place])."""
    view, name = value._view, node.function.__name__
    base = value if view is None else view.base
    if base._requires_grad and base._edge is None:
        what = "a leaf Variable" if view is None else "a view of a leaf Variable"
        raise RuntimeError(
            f"{name}.forward: {what} that requires grad is being used in an in-place operation (mark_dirty)"
        )
    if view is None:
        value._set_history((node, number))
        return
    if view.refusal is not None:
        raise refused(value, False)
    if node.outputs is not None:
        raise RuntimeError(
            f"{name}.forward writes to a view in place (mark_dirty): then it cannot return more than one output"
        )
    slot = next(k for k, tensor in enumerate(inputs) if tensor is value)
    base._set_history((CopySlices(base, gradient_edge(base), value, node, slot), 0))


def once_differentiable(backward: Callable[..., Any]) -> Callable[..., Any]:
    """Mark a Function's backward as not differentiable: differentiating its gradients raises."""

    @functools.wraps(backward)
    def wrapper(ctx: FunctionCtx, *grads: Any) -> Any:
        recording = is_grad_enabled()
        sources = [*grads, *(tensor if number is None else None for tensor, _, number in ctx._saved)]
        depends = any(t is not None and t.requires_grad for t in sources) or any(
            n is not None for _, _, n in ctx._saved
        )
        with no_grad():
            results = backward(ctx, *grads)
        if not recording or not depends:
            return results
        many = isinstance(results, tuple | list)
        values = list(results) if many else [results]
        on_the_way = [t for t in sources if t is not None]  # then every path to them passes the refusal
        marked = [None if v is None else _Refuse.apply(v.detach().requires_grad_(), *on_the_way) for v in values]
        return tuple(marked) if many else marked[0]

    return wrapper


class _Refuse(Function):
    """The identity with a backward that raises."""

    @staticmethod
    def forward(ctx: Any, value: Tensor, *sources: Tensor) -> Tensor:
        return value.clone()

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        raise RuntimeError(
            "trying to differentiate twice a function that was marked with @once_differentiable: write its backward"
            " with differentiable operations and remove the mark."
        )
