"""FloatTensor, LongTensor and the like: names of tensors of one dtype from before PyTorch 0.4,
which older programs use.
"""

from __future__ import annotations

from typing import Any

from nanotorch import dtypes
from nanotorch.autograd.graph.tensor import Tensor
from nanotorch.ops.create.creation import empty, tensor


class _OfOneDtype(type):
    """The type of classes whose instances are the tensors of a dtype."""

    dtype: dtypes.DType

    def __instancecheck__(cls, instance: object) -> bool:
        return isinstance(instance, Tensor) and instance.device.type == "cpu" and instance.dtype is cls.dtype

    def __call__(cls, *arguments: Any) -> Tensor:
        """Make a tensor of the data, or of a size, which is not filled."""
        if len(arguments) == 1 and not isinstance(arguments[0], int):
            return tensor(arguments[0], dtype=cls.dtype)
        return empty(*arguments, dtype=cls.dtype) if arguments else empty(0, dtype=cls.dtype)


def _named(name: str, dtype: dtypes.DType) -> _OfOneDtype:
    documentation = f"Tensors of {dtype} on the CPU: ``{name}([1, 2])`` holds the data, ``{name}(2, 3)`` has the size."
    return _OfOneDtype(name, (), {"dtype": dtype, "__doc__": documentation, "__module__": __name__})


FloatTensor: _OfOneDtype = _named("FloatTensor", dtypes.float32)
DoubleTensor: _OfOneDtype = _named("DoubleTensor", dtypes.float64)
HalfTensor: _OfOneDtype = _named("HalfTensor", dtypes.float16)
LongTensor: _OfOneDtype = _named("LongTensor", dtypes.int64)
IntTensor: _OfOneDtype = _named("IntTensor", dtypes.int32)
ShortTensor: _OfOneDtype = _named("ShortTensor", dtypes.int16)
CharTensor: _OfOneDtype = _named("CharTensor", dtypes.int8)
ByteTensor: _OfOneDtype = _named("ByteTensor", dtypes.uint8)
BoolTensor: _OfOneDtype = _named("BoolTensor", dtypes.bool_)
