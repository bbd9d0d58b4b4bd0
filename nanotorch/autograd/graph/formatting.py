"""How tensors print: PyTorch's rules for digits, scientific notation, summaries and line breaks."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from nanotorch import dtypes

if TYPE_CHECKING:
    from nanotorch.autograd.graph.tensor import Tensor


@dataclass
class PrintOptions:
    """Digits after the point, and when and how long tensors are summarised."""

    precision: int = 4
    threshold: int = 1000
    edgeitems: int = 3
    linewidth: int = 80
    sci_mode: bool | None = None


options = PrintOptions()


def set_printoptions(
    precision: int | None = None,
    threshold: int | None = None,
    edgeitems: int | None = None,
    linewidth: int | None = None,
    sci_mode: bool | None = None,
) -> None:
    """Set how tensors print.

    Args:
        precision: digits after the decimal point.
        threshold: tensors with more elements are summarised.
        edgeitems: how many elements a summary shows at each end of a dimension.
        linewidth: characters in a line.
        sci_mode: force scientific notation on or off; None decides by the values.
    """
    for name, value in (
        ("precision", precision),
        ("threshold", threshold),
        ("edgeitems", edgeitems),
        ("linewidth", linewidth),
    ):
        if value is not None:
            setattr(options, name, value)
    options.sci_mode = sci_mode


class Formatter:
    """Formats the elements of one tensor, all to the same width."""

    def __init__(self, values: np.ndarray[Any, Any]) -> None:
        self.floating = values.dtype.kind == "f"
        self.integral = True
        self.scientific = False
        flat = values.reshape(-1)
        if not self.floating:
            self.width = max((len(self._text(v)) for v in flat.tolist()), default=1)
            return
        flat = flat.astype(np.float64)
        numbers = flat[np.isfinite(flat) & (flat != 0)]
        if numbers.size:
            magnitudes = np.abs(numbers)
            largest, smallest = float(magnitudes.max()), float(magnitudes.min())
            self.integral = bool((numbers == np.ceil(numbers)).all())
            if self.integral:
                self.scientific = largest / smallest > 1000.0 or largest > 1.0e8
            else:
                self.scientific = largest / smallest > 1000.0 or largest > 1.0e8 or smallest < 1.0e-4
        if options.sci_mode is not None:
            self.scientific = options.sci_mode
        self.width = max([1] + [len(self._text(v)) for v in numbers.tolist()])

    def _text(self, value: Any) -> str:
        if not self.floating:
            return str(value)
        if self.scientific:
            return f"{value:.{options.precision}e}"
        if self.integral:
            text = f"{value:.0f}"
            return text + "." if math.isfinite(value) else text
        return f"{value:.{options.precision}f}"

    def __call__(self, value: Any) -> str:
        """Return one number as text, as wide as all others."""
        return self._text(value).rjust(self.width)


def _scalars(row: list[str], indent: int, width: int) -> str:
    per_line = max(1, (options.linewidth - indent) // (width + 2))
    lines = [", ".join(row[i : i + per_line]) for i in range(0, len(row), per_line)]
    return "[" + (",\n" + " " * (indent + 1)).join(lines) + "]"


def _nested(values: np.ndarray[Any, Any], indent: int, summarize: bool, formatter: Formatter) -> str:
    if values.ndim == 0:
        return formatter._text(values.item()).rjust(formatter.width)
    edge = options.edgeitems
    shortened = summarize and len(values) > 2 * edge
    if values.ndim == 1:
        if shortened:
            row = (
                [formatter(v) for v in values[:edge].tolist()]
                + [" ..."]
                + [formatter(v) for v in values[-edge:].tolist()]
            )
        else:
            row = [formatter(v) for v in values.tolist()]
        return _scalars(row, indent, formatter.width)
    if shortened:
        blocks = [_nested(v, indent + 1, summarize, formatter) for v in values[:edge]]
        blocks += ["..."] + [_nested(v, indent + 1, summarize, formatter) for v in values[-edge:]]
    else:
        blocks = [_nested(v, indent + 1, summarize, formatter) for v in values]
    return "[" + ("," + "\n" * (values.ndim - 1) + " " * (indent + 1)).join(blocks) + "]"


def _edges(values: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Return the elements that a summary shows: they alone decide the number format."""
    edge = options.edgeitems
    for axis in range(values.ndim):
        length = values.shape[axis]
        if length > 2 * edge:
            values = values.take([*range(edge), *range(length - edge, length)], axis=axis)
    return values


def tensor_repr(tensor: Tensor) -> str:
    """Return the text of a tensor, such as `tensor([1., 2.], requires_grad=True)`."""
    values = tensor.device.xp.to_numpy(tensor._array)
    kind = type(tensor).__name__
    prefix = "Parameter containing:\ntensor(" if kind == "Parameter" else "tensor("
    suffixes = []
    if tensor.device.type != "cpu":
        suffixes.append(f"device='{tensor.device}'")
    if values.size == 0:
        text = "[]"
        if values.ndim != 1:
            suffixes.append(f"size={tuple(values.shape)}")
    else:
        summarize = values.size > options.threshold
        formatter = Formatter(_edges(values) if summarize else values)
        text = _nested(values, len("tensor("), summarize, formatter)
    implied = (dtypes.get_default_dtype(), dtypes.int64, dtypes.bool_)
    if tensor.dtype not in implied or (values.size == 0 and tensor.dtype is not dtypes.get_default_dtype()):
        suffixes.append(f"dtype={tensor.dtype}")
    try:
        name = None if tensor.grad_fn is None else tensor.grad_fn.name()
    except RuntimeError:  # printing a view that lost its history is no error
        name = "Invalid"
    if name is not None:
        suffixes.append(f"grad_fn=<{name}>")
    elif tensor.requires_grad:
        suffixes.append("requires_grad=True")
    out = prefix + text
    last = len(text) - text.rfind("\n") - 1 if "\n" in text else len("tensor(") + len(text)
    for suffix in suffixes:
        if last + len(suffix) + 2 > options.linewidth:
            out += ",\n" + " " * len("tensor(") + suffix
            last = len("tensor(") + len(suffix)
        else:
            out += ", " + suffix
            last += len(suffix) + 2
    return out + ")"
