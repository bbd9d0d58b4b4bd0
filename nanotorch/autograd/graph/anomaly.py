"""Anomaly detection: name the operation that made the first NaN or infinity, forward or backward.

Note [Anomaly]
~~~~~~~~~~~~~~
An operation *makes* a NaN if none of its inputs holds one, and an infinity if all of its inputs are finite: masks of
`-inf` and data that come with NaN are not reported where they only pass through. Forwards are checked by an
interpreter (Note [Interpreters]), backwards by the engine, which asks once per pass whether a detector is active. Every
node knows the line that recorded it anyway; inside the detector it also notes, in its `metadata`, in which layer that
was.

At any point of a thread one detector is active or none, as in PyTorch: a `with` block and a call set the state, and
the end of a block sets back what its beginning found. What is watched follows the state.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from contextvars import ContextVar
from itertools import pairwise
from types import FrameType
from typing import Any

from nanotorch.autograd.graph.errors import describe_line, user_line
from nanotorch.autograd.graph.grad_mode import Mode, Restore, observe_nodes
from nanotorch.autograd.graph.interpreter import Interpreter, InterpreterError, installed
from nanotorch.autograd.graph.node import Node
from nanotorch.autograd.graph.tensor import Tensor

_detector: ContextVar[detect_anomaly | None] = ContextVar("detect_anomaly", default=None)
active_detector = _detector.get


class AnomalyError(InterpreterError):
    """A NaN or an infinity that an operation made, found by `detect_anomaly`."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self._came_through = None  # the layer is named already: modules on the way up add nothing


class detect_anomaly(Mode):
    """Raise `AnomalyError` at the operation that makes the first NaN or infinity, forward or backward.

    The error names the operation, its line, its layer and the statistics of its inputs. Everything runs several times
    slower inside. See Note [Anomaly].

    Args:
        check_nan: False notes the layers only and raises nothing.

    >>> x = torch.tensor([4.0, 0.0], requires_grad=True)
    >>> with torch.autograd.detect_anomaly():  # doctest: +NORMALIZE_WHITESPACE
    ...     x.sqrt().sum().backward()
    Traceback (most recent call last):
        ...
    nanotorch.autograd.graph.anomaly.AnomalyError: Function 'SqrtBackward0' returned inf values in its 0th output: 1 of
    2, the first at index (1,)
      recorded at "<doctest nanotorch.autograd.graph.anomaly.detect_anomaly[1]>", line 2, in <module>
      gradient that arrived: float32, shape (2,), from 1 to 1, mean 1
      saved result: float32, shape (2,), from 0 to 2, mean 1
    """

    def __init__(self, check_nan: bool = True) -> None:
        super().__init__()
        self.check_nan = check_nan

    def _again(self) -> detect_anomaly:
        return detect_anomaly(self.check_nan)

    def _switch(self) -> Restore:
        before = active_detector()
        token = _detector.set(self)
        _watch_instead(before, self)

        def restore() -> None:
            now = active_detector()
            _detector.reset(token)  # a ValueError in another thread, where nothing is to be restored
            _watch_instead(now, active_detector())

        return restore

    def _watching(self) -> list[AbstractContextManager[None]]:
        nodes: list[AbstractContextManager[None]] = [observe_nodes(_remember)]
        return [*nodes, installed(_CHECKS_FORWARDS)] if self.check_nan else nodes

    def check_backward(self, node: Node, gradient: Any, results: Any) -> None:
        """Look at the gradients that a node returned; called by the engine."""
        if not self.check_nan:
            return
        arrived = _arrays([gradient])
        saved = [slot.of(node) for slot in node.saved_slots]
        for number, result in enumerate(results):
            for array in _arrays([result]):
                fault = _made(array, arrived)
                if not fault:
                    continue
                layer = node.metadata.get("layer")
                where = f"\n  recorded at {node.forward_line}" if node._code else ""
                lines = [f"\n  gradient that arrived: {text}" for text in _described(gradient)]
                for slot, value in zip(node.saved_slots, saved, strict=True):
                    name = slot.name.strip("_") if slot.name != "result" else ""
                    lines += [
                        f"\n  saved {slot.kind}{f' {name!r}' if name else ''}: {text}" for text in _described(value)
                    ]
                raise AnomalyError(
                    f"Function {node.name()!r} returned"
                    f" {_fault_in_output(fault, number)}{where}{f', in {layer}' if layer else ''}{''.join(lines)}"
                )


def _watch_instead(before: detect_anomaly | None, after: detect_anomaly | None) -> None:
    """Stop what one detector watches in this thread and start what another does."""
    if before is not after:
        for watch in before._watching() if before else ():
            watch.__exit__(None, None, None)
        for watch in after._watching() if after else ():
            watch.__enter__()


def _remember(node: Node) -> None:
    """Note in which layer a node was recorded."""
    layer = layer_of(sys._getframe(1))
    if layer:
        node.metadata["layer"] = layer


class ChecksForwards(Interpreter):
    """Raises at the row that makes a NaN or an infinity."""

    def run(self, row: Any, forward: Callable[..., Any], xp: Any, *args: Any, **kwargs: Any) -> Any:
        """Run a row's forward and look at what it returned."""
        out = forward(xp, *args, **kwargs)
        arguments = row.arguments(args, kwargs)
        values = _arrays(list(arguments.values()))
        for array in _arrays([out]):
            fault = _made(array, values)
            if fault:
                frame = sys._getframe(1)
                code, instruction = user_line(frame)
                layer = layer_of(frame)
                named = [f"\n  {name}: {text}" for name, value in arguments.items() for text in _described(value)]
                raise AnomalyError(
                    f"{row.public_name}() returned {fault}\n  called at {describe_line(code, instruction)}"
                    f"{f', in {layer}' if layer else ''}{''.join(named)}"
                )
        return out


_CHECKS_FORWARDS = ChecksForwards()


class set_detect_anomaly:
    """Switch `detect_anomaly` on or off, at once when called and until the end of a `with` block if there is one.

    Like every mode, it holds for the thread (in asyncio, the task) that calls it.

    Args:
        mode: on or off.
        check_nan: False notes the layers only and raises nothing.

    >>> torch.autograd.set_detect_anomaly(True).mode, torch.is_anomaly_enabled()
    (True, True)
    >>> with torch.autograd.set_detect_anomaly(False):
    ...     torch.is_anomaly_enabled()
    False
    >>> torch.autograd.set_detect_anomaly(False).mode, torch.is_anomaly_enabled()
    (False, False)
    """

    def __init__(self, mode: bool, check_nan: bool = True) -> None:
        self.mode, self._before = mode, active_detector()
        _set(detect_anomaly(check_nan) if mode else None)

    def __enter__(self) -> None:
        """Nothing is left to do: the constructor switched."""

    def __exit__(self, *exception: object) -> None:
        _set(self._before)


def _set(detector: detect_anomaly | None) -> None:
    before = active_detector()
    _detector.set(detector)
    _watch_instead(before, detector)


def is_anomaly_enabled() -> bool:
    """Return whether `detect_anomaly` is active."""
    return active_detector() is not None


def is_anomaly_check_nan_enabled() -> bool:
    """Return whether `detect_anomaly` raises: it does unless an active one was told not to."""
    detector = active_detector()
    return detector is None or detector.check_nan


def layer_of(frame: FrameType | None) -> str:
    """Return the innermost module whose call a frame lies in,
    such as `layer 'encoder.0' (Linear)`; '' outside of any.
    """
    modules: list[Any] = []
    while frame is not None:
        if frame.f_code.co_name == "__call__":
            caller = frame.f_locals.get("self")
            if hasattr(caller, "named_modules"):
                modules.append(caller)
        frame = frame.f_back
    if not modules:
        return ""
    names = [
        next((name for name, child in outer.named_modules() if child is inner), "?")
        for inner, outer in pairwise(modules)
    ]
    path = ".".join(name for name in reversed(names) if name)
    return f"layer {path!r} ({type(modules[0]).__name__})" if path else f"layer {type(modules[0]).__name__}"


def _arrays(values: Any) -> list[Any]:
    """Return the floating point arrays and numbers among values, lists and tensors."""
    found = []
    for value in values:
        if isinstance(value, Tensor):
            value = value._array
        if isinstance(value, list | tuple):
            found += _arrays(value)
        elif isinstance(value, float) or (
            hasattr(value, "dtype") and hasattr(value, "shape") and value.dtype.kind == "f"
        ):
            found.append(value)
    return found


def _has_nan(value: Any) -> bool:
    return value != value if isinstance(value, float) else bool((value != value).any())


def _has_infinity(value: Any) -> bool:
    return abs(value) == float("inf") if isinstance(value, float) else bool((abs(value) == float("inf")).any())


def _made(array: Any, inputs: list[Any]) -> str:
    """Return what is wrong with an output that is not wrong with the inputs (Note [Anomaly]); '' if nothing."""
    if _has_nan(array) and not any(_has_nan(value) for value in inputs):
        return _counted("nan", array != array)
    if _has_infinity(array) and not any(_has_nan(value) or _has_infinity(value) for value in inputs):
        return _counted("inf", abs(array) == float("inf"))
    return ""


def _counted(what: str, mask: Any) -> str:
    flat = mask.reshape(-1)
    first, index = int(flat.argmax()), []
    for length in reversed(mask.shape):
        index.append(first % length)
        first //= length
    place = f", the first at index {tuple(reversed(index))}" if mask.ndim else ""
    return f"{what} values: {int(flat.sum())} of {flat.size}{place}"


def _fault_in_output(fault: str, number: int) -> str:
    kind, _, rest = fault.partition(" values: ")
    return f"{kind} values in its {number}th output: {rest}"


def _described(value: Any) -> list[str]:
    """Return the statistics of a value: of each array in it."""
    texts = []
    for array in _arrays([value]):
        if isinstance(array, float):
            texts.append(f"{array:g}")
            continue
        finite = array[(array == array) & (abs(array) != float("inf"))]
        text = f"{array.dtype}, shape {tuple(array.shape)}"
        if finite.size:
            text += (
                f", from {float(finite.min()):.4g} to {float(finite.max()):.4g}, mean"
                f" {float((finite / finite.size).sum()):.4g}"
            )
        nans, infinities = int((array != array).sum()), int((abs(array) == float("inf")).sum())
        texts.append(text + (f", {nans} nan" if nans else "") + (f", {infinities} inf" if infinities else ""))
    return texts
