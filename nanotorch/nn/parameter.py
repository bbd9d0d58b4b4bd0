"""Parameter: a tensor that a Module registers when it is assigned as an attribute."""

from __future__ import annotations

from typing import Any

from nanotorch.autograd.graph.copying import deep_copy
from nanotorch.autograd.graph.tensor import Tensor

__all__ = ["Parameter"]


class Parameter(Tensor):
    """A leaf tensor that `Module` counts among its parameters; it shares memory with `data`.

    >>> layer = torch.nn.Module()
    >>> layer.scale = torch.nn.Parameter(torch.ones(2))
    >>> [name for name, _ in layer.named_parameters()]
    ['scale']
    """

    __slots__ = ()

    def __init__(self, data: Any = (), requires_grad: bool = True) -> None:
        source = data if isinstance(data, Tensor) else Tensor(data)
        self._set(source._array, source.device, False)
        self._cell = source._version_cell()
        if requires_grad:
            self.requires_grad_(True)

    def __deepcopy__(self, memo: dict[Any, Any]) -> Parameter:  # type: ignore[override]
        """Copy the parameter alone: what else lies in its memory is not shared by the copies, as in PyTorch."""
        return deep_copy(self, memo, alone=True)  # type: ignore[return-value]
