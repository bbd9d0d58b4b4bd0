"""The class that op rows attach tensor methods to; `methods.pyi` beside it lists them for editors and mypy."""

from __future__ import annotations


class TensorMethods:
    """Base of Tensor that holds the methods and operators made from op rows."""

    __slots__ = ()
