"""The version of memory: how often it was written, and by which line."""

from __future__ import annotations

from types import CodeType

from nanotorch.autograd.graph.grad_mode import is_inference_mode_enabled


class Version:
    """The version of a storage, shared by all tensors that see its memory.

    A tensor gets a cell only when something needs one (a view, a write, a saved result): no cell means version 0.
    """

    __slots__ = ("number", "writer")
    writer: tuple[str, CodeType, int] | None
    """The last write: its name, and the code object and instruction that called it."""

    def __init__(self) -> None:
        self.number = 0
        self.writer = None


class InferenceError(RuntimeError):
    """Somebody asked for the version of an inference tensor."""


class InferenceVersion(Version):
    """The version of all inference tensors (Note [Inference tensors]):
    outside the inference mode it cannot be asked for.
    """

    __slots__ = ()

    @property
    def number(self) -> int:
        """Return 0 inside the inference mode, where nobody saves."""
        if is_inference_mode_enabled():
            return 0
        raise InferenceError(
            "Inference tensors cannot be saved for backward. Please do not use Tensors created in inference mode in"
            " computation tracked by autograd. To work around this, you can make a clone to get a normal tensor and use"
            " it in autograd, or use `torch.no_grad()` instead of `torch.inference_mode()`."
        )

    @number.setter
    def number(self, number: int) -> None:
        pass


INFERENCE = InferenceVersion()
