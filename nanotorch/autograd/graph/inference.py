"""inference_mode: no recording, and tensors that can never take part in it by accident.

Note [Inference tensors]
~~~~~~~~~~~~~~~~~~~~~~~~
A tensor that is made inside `inference_mode` is an *inference tensor*: nobody counts its writes, so it must never be
saved for backward, and outside the mode nobody may write to it. What shares memory with an ordinary tensor (a view, the
result of `detach()`) is ordinary too, since the writes to that memory are counted.

Operations outside the mode pay nothing for this: an interpreter makes the tensors inside it (Note [Interpreters]). An
inference tensor is a `Tensor` whose version cell is always the one cell `INFERENCE`, and this cell refuses to tell a
version, which is what saving and writing ask for first.

In PyTorch the mode also saves time, because versions and views are not tracked. Here they cost next to nothing, and the
interpreter makes a small operator about a quarter slower than under `no_grad`: what the mode gives is the guarantee.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from nanotorch.autograd.graph.grad_mode import (
    Mode,
    Restore,
    is_inference_mode_enabled,
    restore_recording,
    set_inference,
    set_recording,
)
from nanotorch.autograd.graph.interpreter import Interpreter, installed
from nanotorch.autograd.graph.tensor import Tensor
from nanotorch.autograd.graph.version import INFERENCE, Version


class InferenceTensor(Tensor):
    """A tensor that was made inside `inference_mode` (Note [Inference tensors])."""

    __slots__ = ()

    @property
    def _cell(self) -> Version | None:
        return INFERENCE

    @_cell.setter
    def _cell(self, cell: Version | None) -> None:
        if cell is not None and cell is not INFERENCE:  # it shares the memory of an ordinary tensor, and is one
            self.__class__ = Tensor  # type: ignore[assignment]
            self._cell = cell


class MakesInferenceTensors(Interpreter):
    """Makes the tensors inside `inference_mode`, and inside `inference_mode(False)` in it ordinary ones."""

    def make(self, new: Callable[[type], Any]) -> Callable[[type], Any]:
        """Return what makes an inference tensor in place of an ordinary one."""
        return lambda cls: new(InferenceTensor if cls is Tensor and is_inference_mode_enabled() else cls)


_INSIDE = installed(MakesInferenceTensors())


class inference_mode(Mode):
    """Record nothing, and make tensors that cannot be used where recording needs them:
    a context manager and a decorator.

    Stricter than `no_grad`: what is computed inside cannot be saved for a backward pass later, nor be written to
    outside, so a result of inference cannot slip into training unnoticed; take a `clone()`. See Note [Inference
    tensors].

    Args:
        mode: False leaves the inference mode (and switches recording on) inside it.

    >>> with torch.inference_mode():
    ...     y = torch.ones(2) * 2
    >>> y.is_inference(), y.clone().is_inference()
    (True, False)
    """

    def __init__(self, mode: bool = True) -> None:
        super().__init__()
        self.mode = mode

    def __new__(cls, mode: Any = True) -> Any:
        """Allow the bare `@torch.inference_mode` beside `@torch.inference_mode()`."""
        return super().__new__(cls) if isinstance(mode, bool) else cls()(mode)

    def _switch(self) -> Restore:
        inside, recording = set_inference(self.mode), set_recording(not self.mode)
        if self.mode:
            _INSIDE.__enter__()

        def restore() -> None:
            restore_recording(recording)
            inside.var.reset(inside)
            if self.mode:
                _INSIDE.__exit__()

        return restore

    def _again(self) -> Mode:
        return inference_mode(self.mode)
