"""What the primitives are in calls of NumPy that write into memory they are given: the column of code for NumPy.

Note [NumPy calls]
~~~~~~~~~~~~~~~~~~
A primitive of the table returns a new array; a program has memory for every result. `CALLS` says for a primitive which
calls of NumPy put its result into given memory: the very calls that `backend/numpy_backend.py` makes for operands of
that shape and dtype, or others that give the same bits. A call is a `Statement` again, one that NumPy can do in one
piece, named by an entry of `FORMS`; memory that is needed between two calls is a temporary buffer like any other. So
the plan of memory, blocks and results over operands see every call.

An element-wise function of NumPy is such a call by itself. A primitive without an entry, or whose entry returns False
for an operand, is called as the eager step calls it, and its result is copied: everything has code.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from nanotorch.backend.numpy_backend import NUMPY, add_windows
from nanotorch.backend.philox import threshold_and_factor
from nanotorch.backend.primitives import OPERATORS
from nanotorch.capture.program import Buffer, HostNumber, Several, Statement, View, leaves, of_each, steps

SPELLED_OTHERWISE = {"bit_and": "bitwise_and", "bit_or": "bitwise_or", "bit_xor": "bitwise_xor", "bit_not": "invert"}
ELEMENTWISE: dict[str, str] = {
    **{name: name for name, function in NUMPY.items() if isinstance(function, np.ufunc)},
    **{name: SPELLED_OTHERWISE.get(name, name) for name in [form.partition("(")[0] for form in OPERATORS]},
    **{name: name for name in ("square", "reciprocal")},
}
for _name in ("power", "whole_divide", "getitem", "reversed_axes"):
    del ELEMENTWISE[_name]
ELEMENTWISE |= {"to the power": "power", "plain sign": "sign"}
"""Primitives that are element-wise functions of NumPy, and its name for them: their result may lie over an operand."""

FORMS = {
    "assign": "{out}[...] = {0}",
    "bits times": "multiply({bits0}, {bits1}, {bits})",
    "bits and": "bitwise_and({bits0}, {bits1}, {bits})",
    "bits xor": "bitwise_xor({bits0}, {bits1}, {bits})",
    "dot": "{0}.dot({1}, {out})",
    "matmul into": "matmul({0}, {1}, {out})",
    "add up": "add.reduce({0}, {1}, None, {out}, {2})",
    "largest": "maximum.reduce({0}, {1}, None, {out}, {2})",
    "smallest": "minimum.reduce({0}, {1}, None, {out}, {2})",
    "multiply up": "multiply.reduce({0}, {1}, None, {out}, {2})",
    "take from": "{0}.take({1}, {2}, {out}, 'clip')",
    "first largest": "{0}.argmax({1}, {out}, keepdims={2})",
    "first smallest": "{0}.argmin({1}, {out}, keepdims={2})",
    "below": "{unsigned0}.item({unsigned0}.argmax()) < {1}",
    "add windows": "add_windows({out}, {0}, {1}, {2}, {3}, {4})",
}
"""Calls by name; `{bits}` stands for the integers of the same memory, `{unsigned0}` for those without a sign."""
OF_NUMPY: dict[str, Any] = {
    "bits times": np.multiply,
    "bits and": np.bitwise_and,
    "bits xor": np.bitwise_xor,
    "matmul into": np.matmul,
    "add up": np.add,
    "largest": np.maximum,
    "smallest": np.minimum,
    "multiply up": np.multiply,
    "add windows": add_windows,
}
"""What the forms name."""
BITS = {name for name in FORMS if "{bits}" in FORMS[name]}
"""Calls that take what they get for integers."""
OVER_OPERANDS = {*ELEMENTWISE, *BITS}
"""Calls whose result may lie over an operand of the same layout."""
BLOCKWISE = {*OVER_OPERANDS, "assign"}
"""Calls that do with each element the same, whatever the others are: they may run in blocks (Note [Blocks])."""
SMALL = 8192
"""Elements up to which the time of a call is that of calling it."""
_INTEGERS = {1: np.dtype(np.int8), 2: np.dtype(np.int16), 4: np.dtype(np.int32), 8: np.dtype(np.int64)}


class Calls:
    """The calls of a program.

    Attributes:
        done: the calls, in order.
        completed: for each the number of the statement whose result is there after it, if it is the last one of it.
        buffers: memory that is needed in between.
        copies: what was copied as it is, and of what.
    """

    def __init__(self, statements: Sequence[Statement]) -> None:
        self.done: list[Statement] = []
        self.completed: list[int | None] = []
        self.buffers: list[Buffer] = []
        self.copies: dict[View, View] = {}
        self._in_range: dict[Any, int] = {}
        spread = spread_updates(statements)
        for number, statement in enumerate(statements):
            self._of, begun = statement, len(self.done)
            if number in spread:
                for primitive, out, args, complete in spread[number]:
                    self.call(primitive, out, *args)
                    self.completed.append(complete)
                continue
            make = CALLS.get(statement.primitive)
            if make is None or not make(self, statement, *statement.args, **statement.options):
                del self.done[begun:]
                self.done.append(statement)
            self.completed += [None] * (len(self.done) - begun - 1)
            self.completed.append(number)

    def call(self, name: str, out: View | None, *args: Any) -> bool:
        """Add a call; return True."""
        of = self._of
        self.done.append(Statement(name, args, {}, () if out is None else (out,), of.line, of.row))
        self.done[-1].expected = of.expected
        return True

    def between(self, shape: tuple[int, ...], dtype: Any, name: str) -> View:
        """Return memory for a result between two calls."""
        buffer = Buffer("temporary", name, np.empty(shape, dtype))
        self.buffers.append(buffer)
        return View(buffer, 0, shape, steps(buffer.array))

    def constant(self, array: Any, name: str) -> View:
        """Return memory that holds an array."""
        buffer = Buffer("constant", name, array)
        self.buffers.append(buffer)
        return View(buffer, 0, array.shape, steps(array))

    def asked(self, index: View, length: int) -> None:
        """Note down that all of an argument, or of what was copied of it, is in [0, length)."""
        index = self.copies.get(index, index)
        if index.buffer.kind == "input":
            self._in_range[index] = length

    def in_range(self, index: Any, length: int) -> bool:
        """Whether all of an index is known to be in [0, length)."""
        return isinstance(index, View) and self._in_range.get(index, length + 1) <= length


def spread_updates(statements: Sequence[Statement]) -> dict[int, list[tuple[str, View, list[Any], int | None]]]:
    """Return what is done in the place of statements that gather parameters, update them and write them back.

    A rule updates the small parameters of a segment as one flat array (Note [Segments]). Where it does that in one or
    two element-wise statements, fewer calls update each parameter where it is. By the number of a statement what stands
    for it, each call with the number of the statement whose result is there then.
    """
    uses: dict[Buffer, list[tuple[int, View, bool]]] = {}
    for number, statement in enumerate(statements):
        for view in statement.reads:
            uses.setdefault(view.buffer, []).append((number, view, False))
        for view in statement.out:
            uses.setdefault(view.buffer, []).append((number, view, True))
    found: dict[int, list[tuple[str, View, list[Any], int | None]]] = {}
    for flat, used in uses.items():
        if flat.kind != "temporary" or len(flat.array.shape) != 1:
            continue
        numbers = sorted({number for number, _, _ in used})
        updates = [number for number in numbers if _updates(statements[number], flat)]
        gathers = {number: statements[number] for number in numbers if updates and number < updates[0]}
        scatters = {number: statements[number] for number in numbers if updates and number > updates[-1]}
        if not 1 <= len(updates) <= 2 or len(numbers) != len(updates) + len(gathers) + len(scatters):
            continue
        moves = [*gathers.values(), *scatters.values()]
        if not all(s.primitive == "write" and isinstance(s.args[0], View) for s in moves):
            continue
        pieces = {s.out[0]: (number, s.args[0]) for number, s in gathers.items()}
        back = {s.args[0]: (number, s.out[0]) for number, s in scatters.items()}
        if pieces.keys() != back.keys() or len(pieces) != len(gathers) or len(back) != len(scatters):
            continue
        if any(piece.buffer is not flat for piece in pieces) or sum(piece.size for piece in pieces) != flat.array.size:
            continue
        if any(
            param != back[piece][1]
            or param.dtype != piece.dtype
            or any(begin < number < back[piece][0] for number, _, _ in uses[param.buffer] if number not in gathers)
            for piece, (begin, param) in pieces.items()
        ):
            continue
        found |= {number: [] for number in numbers}
        for number in updates:
            update = statements[number]
            for piece, (_, param) in pieces.items():
                args = [_piece_of(arg, piece, param) for arg in update.args]
                found[number].append((update.primitive, param, args, back[piece][0] if number == updates[-1] else None))
    return found


def _updates(statement: Statement, flat: Buffer) -> bool:
    """Whether a statement changes all of a flat buffer in place, element by element."""
    if statement.primitive not in ELEMENTWISE or statement.options or len(statement.out) != 1:
        return False
    (out,) = statement.out
    views = statement.reads
    return (
        out.buffer is flat
        and out.whole
        and any(view.buffer is flat for view in views)
        and all(view == out or (view.buffer is not flat and view[2:] in (out[2:], ((), ()))) for view in views)
    )


def _piece_of(arg: Any, piece: View, param: View) -> Any:
    """Return what an operand of an update of a flat buffer is for one of the parameters."""
    if not isinstance(arg, View) or not arg.shape:
        return arg
    return param if arg.buffer is piece.buffer else View(arg.buffer, arg.offset + piece.offset, *piece[2:])


Maker = Callable[..., bool]
CALLS: dict[str, Maker] = {}
"""By primitive: `maker(calls, statement, ...)`, with the statement's arguments, adds its calls or returns False."""


def calls_of(*names: str) -> Callable[[Maker], Maker]:
    """Return a decorator that says: this function adds the calls of these primitives."""

    def enter(maker: Maker) -> Maker:
        CALLS.update(dict.fromkeys(names, maker))
        return maker

    return enter


# --------------------------------------------------------------------------------------------------- element by element


@calls_of("write", "asarray", "array", "astype", "empty_like")
def _copy(calls: Calls, of: Statement, x: Any, *how: Any, **options: Any) -> bool:
    if of.primitive != "write" and not isinstance(x, View):
        return False
    if isinstance(x, View) and x.dtype == of.out[0].dtype:
        calls.copies[of.out[0]] = x
    return calls.call("assign", of.out[0], x)


@calls_of("add", "subtract", "multiply", "divide")
def _arithmetic(calls: Calls, of: Statement, x: Any, y: Any) -> bool:
    """Repeat an operand first where the result is small: half the time of arithmetic with two shapes."""
    (out,) = of.out
    repeated = [arg for arg in (x, y) if isinstance(arg, View) and arg.shape != out.shape and arg.size > 1]
    if len(repeated) != 1 or out.size > SMALL or repeated[0].dtype != out.dtype:
        return False
    rows = calls.between(out.shape, out.dtype, "repeated")
    calls.call("assign", rows, repeated[0])
    return calls.call(of.primitive, out, *[rows if arg is repeated[0] else arg for arg in (x, y)])


@calls_of("power")
def _power(calls: Calls, of: Statement, x: Any, y: Any) -> bool:
    """`x ** y` is for these numbers another function, which gives other bits than the power."""
    if not (isinstance(x, View) and x.shape and x.dtype.kind == "f" and x.dtype == of.out[0].dtype):
        return False
    if type(y) not in (int, float):
        return False
    quick = {2: "square", 0.5: "sqrt", -1: "reciprocal"}.get(y)
    if quick:
        return calls.call(quick, of.out[0], x)
    return False if y in (0, 1) else calls.call("to the power", of.out[0], x, y)


@calls_of("keep_mask")
def _keep_mask(calls: Calls, of: Statement, bits: Any, p: Any, dtype: Any) -> bool:
    (out,) = of.out
    if not isinstance(bits, View) or bits.shape != out.shape or isinstance(p, HostNumber) or out.dtype != dtype:
        return False
    kept = calls.between(out.shape, bool, "kept")
    calls.call("greater_equal", kept, bits, of_each(p, lambda p: int(threshold_and_factor(float(p), out.dtype)[0])))
    calls.call("assign", out, kept)
    return calls.call("multiply", out, out, of_each(p, lambda p: float(threshold_and_factor(float(p), out.dtype)[1])))


@calls_of("zero_where")
def _zero_where(calls: Calls, of: Statement, x: Any, mask: Any) -> bool:
    """Bits as an integer, times 0 or 1: quicker than a choice, which mispredicts every other element of random ones."""
    (out,) = of.out
    if not (isinstance(x, View) and isinstance(mask, View) and x.shape == mask.shape == out.shape and x.shape):
        return False
    if x.dtype != out.dtype or x.dtype.itemsize not in _INTEGERS or mask.dtype != bool:
        return False
    if not (contiguous(x) and contiguous(mask) and contiguous(out)):
        return False
    shown = calls.between(mask.shape, bool, "shown")
    factor = calls.between(mask.shape, _INTEGERS[x.dtype.itemsize], "factor")
    calls.call("bit_not", shown, mask)
    calls.call("assign", factor, shown)
    return calls.call("bits times", out, x, factor)


@calls_of("where")
def _where(calls: Calls, of: Statement, condition: Any, x: Any, y: Any) -> bool:
    """Bits of x; those in which y differs are turned over where the condition does not hold: nothing to mispredict."""
    (out,) = of.out
    if out.size < 256 or out.dtype.itemsize not in _INTEGERS or not contiguous(out):
        return False
    if not (isinstance(condition, View) and condition.dtype == bool and condition.shape == out.shape):
        return False
    if not all(arg.dtype == out.dtype if isinstance(arg, View) else type(arg) in (int, float) for arg in (x, y)):
        return False
    mask = calls.between(out.shape, _INTEGERS[out.dtype.itemsize], "mask")
    calls.call("assign", mask, condition)
    calls.call(
        "subtract", mask, mask, calls.constant(np.ones((), mask.dtype), "one")
    )  # all bits where it does not hold
    given = []
    for arg in (x, y):
        if not isinstance(arg, View) or arg.shape != out.shape or not contiguous(arg):
            arg, plain = calls.between(out.shape, out.dtype, "repeated"), arg
            calls.call("assign", arg, plain)
        given.append(arg)
    turned = calls.between(out.shape, out.dtype, "turned")
    calls.call("bits xor", turned, *given)
    calls.call("bits and", turned, turned, mask)
    return calls.call("bits xor", out, given[0], turned)


@calls_of("sign")
def _sign(calls: Calls, of: Statement, x: Any) -> bool:
    (out,) = of.out
    if not isinstance(x, View) or not x.shape or x.dtype != out.dtype or x.dtype.kind != "f":
        return False
    if not (contiguous(x) and contiguous(out)):
        return False
    signs, unknown = calls.between(x.shape, x.dtype, "signs"), calls.between(x.shape, bool, "unknown")
    calls.call("plain sign", signs, x)
    calls.call("isnan", unknown, signs)
    return _zero_where(calls, of, signs, unknown)


@calls_of("sigmoid")
def _sigmoid(calls: Calls, of: Statement, x: Any) -> bool:
    (out,) = of.out
    if not isinstance(x, View) or not x.shape or x.dtype != out.dtype or x.dtype.kind != "f":
        return False
    inverse = calls.between(x.shape, x.dtype, "inverse")
    for name, *args in (("negative", x), ("exp", inverse), ("add", inverse, 1)):
        calls.call(name, inverse, *args)
    return calls.call("divide", out, 1, inverse)


@calls_of("softplus")
def _softplus(calls: Calls, of: Statement, x: Any) -> bool:
    (out,) = of.out
    if not isinstance(x, View) or not x.shape or x.dtype != out.dtype or x.dtype.kind != "f":
        return False
    tail, positive = calls.between(x.shape, x.dtype, "tail"), calls.between(x.shape, x.dtype, "positive")
    calls.call("maximum", positive, x, 0)
    for name, arg in (("absolute", x), ("negative", tail), ("exp", tail), ("log1p", tail)):
        calls.call(name, tail, arg)
    return calls.call("add", out, positive, tail)


# ------------------------------------------------------------------------------------------------------------- products


@calls_of("matmul")
def _matmul(calls: Calls, of: Statement, a: Any, b: Any) -> bool:
    (out,) = of.out
    if not (isinstance(a, View) and isinstance(b, View)) or not a.dtype == b.dtype == out.dtype:
        return False
    if b.shape[0] >= 8192 and a.dtype.char == "f" and len(a.shape) <= 2 and len(b.shape) <= 2:
        return False
    if not contiguous(out) or not a.shape or not b.shape:
        return False
    if len(a.shape) == len(b.shape) == 2:
        return calls.call("dot", out, a, b)
    if len(a.shape) > 2 and len(b.shape) > 2 and a.shape[-1] == b.shape[-2] == 1:
        return calls.call("multiply", out, a, b)
    return calls.call("matmul into", out, a, b)


@calls_of("column_sums")
def _column_sums(calls: Calls, of: Statement, x: Any) -> bool:
    return _ones_times(calls, x, of.out[0])


@calls_of("row_sums")
def _row_sums(calls: Calls, of: Statement, x: Any) -> bool:
    out = of.out[0]
    return _ones_times(calls, View(x.buffer, x.offset, x.shape[::-1], x.strides[::-1]), _one_axis_less(out, 1))


def _ones_times(calls: Calls, x: View, out: View) -> bool:
    if x.shape[0] > 512 or x.dtype != out.dtype or not contiguous(out):
        return False
    return calls.call("dot", out, calls.constant(np.ones(x.shape[0], x.dtype), "ones"), x)


# ----------------------------------------------------------------------------------------------------------- reductions


@calls_of("sum")
def _sum(calls: Calls, of: Statement, x: Any, axis: Any = None, dtype: Any = None, keepdims: Any = False) -> bool:
    """The branches of the backend's sum (Note [Long sums])."""
    if not isinstance(x, View) or dtype is not None:
        return False
    rank = len(x.shape)
    if x.size < 1024 or x.dtype.kind != "f":
        return _reduced(calls, "add up", of, x, axis, keepdims)
    if type(axis) is int and -rank <= axis < rank:
        if x.shape[axis] <= 64 or (contiguous(x) and axis % rank == rank - 1):
            return _reduced(calls, "add up", of, x, axis, keepdims)
        axes = {axis % rank}
    elif axis is None:
        return contiguous(x) and _reduced(calls, "add up", of, x, axis, keepdims)
    else:
        axes = {each % rank for each in axis}
    return _long_sum(calls, of, x, axes, keepdims)


def _long_sum(calls: Calls, of: Statement, x: View, axes: set[int], keepdims: Any) -> bool:
    """Add up over axes one after the other, those of the smallest steps first, as the backend does."""
    (out,) = of.out
    if x.dtype != out.dtype or 0 in x.shape:
        return False
    order = sorted(range(len(x.shape)), key=lambda d: -abs(x.strides[d]))
    shape: list[int] = []
    strides: list[int] = []
    summed: list[bool] = []
    for d in order:
        if x.shape[d] == 1:
            continue
        if summed and summed[-1] is (d in axes) and strides[-1] == x.shape[d] * x.strides[d]:
            shape[-1] *= x.shape[d]
            strides[-1] = x.strides[d]
        else:
            shape.append(x.shape[d])
            strides.append(x.strides[d])
            summed.append(d in axes)
    kept = [d for d in order if d not in axes]
    left = tuple([x.shape[d] for d in kept if x.shape[d] > 1])
    steps_out = dict(zip([d for d in range(len(x.shape)) if keepdims or d not in axes], out.strides, strict=True))
    total, sums = View(x.buffer, x.offset, tuple(shape), tuple(strides)), summed.count(True)
    if not sums:
        return False
    for place in reversed(range(len(shape))):
        if not summed[place]:
            continue
        if place != len(total.shape) - 1:
            while total.shape[place] > 32:
                total = _fold(calls, total, place)
        sums -= 1
        rest = (*total.shape[:place], *total.shape[place + 1 :])
        whole = not sums and rest == left
        memory = (
            View(out.buffer, out.offset, rest, tuple([steps_out[d] for d in kept if x.shape[d] > 1]))
            if whole
            else calls.between(rest, x.dtype, "total")
        )
        calls.call("add up", memory, total, place, False)
        total = memory
    if total.buffer is not out.buffer:
        apart = View(out.buffer, out.offset, left, tuple([steps_out[d] for d in kept if x.shape[d] > 1]))
        calls.call("assign", apart, View(total.buffer, 0, left, _row_major(left)))
    return True


def _fold(calls: Calls, x: View, axis: int) -> View:
    """Add up to 16 equal parts of an axis to each other, and what does not fit to the first elements."""
    length, step = x.shape[axis], x.strides[axis]
    count = min(16, length // 16)
    part = length // count
    before, after, over = slice(axis), slice(axis + 1, None), length % count
    out = calls.between((*x.shape[before], part, *x.shape[after]), x.dtype, "parts")
    parts = (*x.shape[before], count, part, *x.shape[after]), (*x.strides[before], part * step, step, *x.strides[after])
    calls.call("add up", out, View(x.buffer, x.offset, *parts), axis, False)
    if over:
        shape = (*x.shape[before], over, *x.shape[after])
        first = View(out.buffer, 0, shape, out.strides)
        calls.call("add", first, first, View(x.buffer, x.offset + count * part * step, shape, x.strides))
    return out


@calls_of("amax")
def _amax(calls: Calls, of: Statement, x: Any, axis: Any = None, keepdims: Any = False) -> bool:
    if isinstance(x, View) and len(x.shape) == 2 and type(axis) is int and axis == 1 and x.shape[1] <= 32:
        columns = calls.between(x.shape[::-1], x.dtype, "columns")
        calls.call("assign", columns, View(x.buffer, x.offset, x.shape[::-1], x.strides[::-1]))
        out = _one_axis_less(of.out[0], 1) if keepdims else of.out[0]
        return calls.call("largest", out, columns, 0, False)
    return _reduced(calls, "largest", of, x, axis, keepdims)


@calls_of("amin")
def _amin(calls: Calls, of: Statement, x: Any, axis: Any = None, keepdims: Any = False) -> bool:
    return _reduced(calls, "smallest", of, x, axis, keepdims)


@calls_of("prod")
def _prod(calls: Calls, of: Statement, x: Any, axis: Any = None, keepdims: Any = False) -> bool:
    if isinstance(x, View) and x.dtype.char == "f" and x.size >= 1024:
        return False
    return _reduced(calls, "multiply up", of, x, axis, keepdims)


def _reduced(calls: Calls, name: str, of: Statement, x: Any, axis: Any, keepdims: Any) -> bool:
    if not isinstance(x, View) or not isinstance(keepdims, bool) or not x.shape:
        return False
    if x.dtype != of.out[0].dtype:  # whole numbers are added up in wider ones
        return False
    return calls.call(name, of.out[0], x, axis, keepdims)


@calls_of("argmax", "argmin")
def _first(calls: Calls, of: Statement, x: Any, axis: Any, keepdims: Any = False) -> bool:
    if not isinstance(x, View) or not isinstance(keepdims, bool):
        return False
    name = "first largest" if of.primitive == "argmax" else "first smallest"
    return calls.call(name, of.out[0], x, axis, keepdims)


# -------------------------------------------------------------------------------------------------------- places in it


@calls_of("reshape")
def _reshape(calls: Calls, of: Statement, x: Any, shape: Any) -> bool:
    (out,) = of.out
    if not isinstance(x, View) or not contiguous(out):
        return False
    return calls.call("assign", View(out.buffer, out.offset, x.shape, _row_major(x.shape)), x)


@calls_of("concatenate", "stack")
def _joined(calls: Calls, of: Statement, parts: Any, axis: int = 0) -> bool:
    (out,) = of.out
    if not all(isinstance(part, View) and part.dtype == out.dtype for part in parts):
        return False
    axis %= len(out.shape)
    start, stacked = 0, of.primitive == "stack"
    for part in parts:
        place = out.offset + start * out.strides[axis]
        if stacked:
            shape, strides = part.shape, out.strides[:axis] + out.strides[axis + 1 :]
        else:
            shape, strides = part.shape, out.strides
        calls.call("assign", View(out.buffer, place, shape, strides), part)
        start += 1 if stacked else part.shape[axis]
    return True


@calls_of("framed")
def _framed(calls: Calls, of: Statement, x: Any, shape: Any, index: Any, value: Any) -> bool:
    if not isinstance(x, View) or any(isinstance(leaf, View | HostNumber | Several) for leaf in (value, shape)):
        return False
    calls.call("assign", of.out[0], value or 0)
    return calls.call("assign", _part(of.out[0], index), x)


@calls_of("pad_to")
def _pad_to(calls: Calls, of: Statement, x: Any, shape: Any) -> bool:
    return _framed(calls, of, x, shape, tuple([slice(n) for n in x.shape]), 0)


@calls_of("scatter_to_zeros")
def _scatter_to_zeros(calls: Calls, of: Statement, x: Any, shape: Any, index: Any) -> bool:
    if not isinstance(x, View) or any(isinstance(leaf, View) for leaf in leaves(index)):
        return False
    calls.call("assign", of.out[0], 0)
    return calls.call("assign", _part(of.out[0], index), x)


@calls_of("batch_last", "batch_first")
def _batch(calls: Calls, of: Statement, x: Any) -> bool:
    """The transpose of a matrix, but where its rows begin so that the backend takes eight of them at a time."""
    (out,) = of.out
    if not contiguous(x) or not contiguous(out):
        return False
    rows = x.shape[0] if of.primitive == "batch_last" else x.size // max(x.shape[-1], 1)
    columns = x.size // max(rows, 1)
    if columns * x.dtype.itemsize % 2048 == 0 and rows > 8:
        return False
    turned = View(out.buffer, out.offset, (rows, columns), (1, rows))
    return calls.call("assign", turned, View(x.buffer, x.offset, (rows, columns), (columns, 1)))


@calls_of("from_windows")
def _from_windows(calls: Calls, of: Statement, x: Any, shape: Any, *how: Any) -> bool:
    calls.call("assign", of.out[0], 0)
    return calls.call("add windows", of.out[0], x, *how)


@calls_of("take")
def _take(calls: Calls, of: Statement, x: Any, indices: Any, axis: Any) -> bool:
    if not isinstance(x, View) or not calls.in_range(indices, x.shape[axis]) or not contiguous(of.out[0]):
        return False
    return calls.call("take from", of.out[0], x, indices, axis)


@calls_of("one_hot")
def _one_hot(calls: Calls, of: Statement, index: Any, classes: int, dtype: Any) -> bool:
    if classes > 256 or not calls.in_range(index, classes) or not contiguous(of.out[0]):
        return False
    return calls.call("take from", of.out[0], calls.constant(np.eye(classes, dtype=dtype), "one_hot_rows"), index, 0)


@calls_of("pick")
def _pick(calls: Calls, of: Statement, matrix: Any, columns: Any) -> bool:
    rows, length = matrix.shape
    if not calls.in_range(columns, length) or columns.dtype != np.int64 or not contiguous(of.out[0]):
        return False
    starts = calls.constant(np.arange(rows) * length, "row_starts")
    places = calls.between((rows,), np.int64, "places")
    calls.call("add", places, starts, columns)
    return calls.call("take from", of.out[0], matrix, places, None)


@calls_of("all_in_range")
def _all_in_range(calls: Calls, of: Statement, index: Any, length: int) -> bool:
    if not isinstance(index, View) or index.dtype.itemsize != 8 or not index.size or type(length) is not int:
        return False
    if of.expected is not True:
        return False
    calls.asked(index, length)
    return calls.call("below", None, index, length)


# ----------------------------------------------------------------------------------------------------------- geometries


def _row_major(shape: tuple[int, ...]) -> tuple[int, ...]:
    strides = [1]
    for length in shape[:0:-1]:
        strides.append(strides[-1] * length)
    return tuple(strides[::-1][: len(shape)]) if shape else ()


def contiguous(view: View) -> bool:
    """Whether the elements of a view lie in row-major order, without gaps."""
    return not view.size or all(
        length == 1 or one == other
        for length, one, other in zip(view.shape, view.strides, _row_major(view.shape), strict=True)
    )


def _one_axis_less(view: View, axis: int) -> View:
    """Return a view without an axis of length 1."""
    shape, strides = view.shape, view.strides
    return View(view.buffer, view.offset, shape[:axis] + shape[axis + 1 :], strides[:axis] + strides[axis + 1 :])


def _part(view: View, index: Any) -> View:
    """Return what an index of slices sees of a view."""
    array = view.of(view.buffer.array)
    part = array[index]
    start, address = array.__array_interface__["data"][0], part.__array_interface__["data"][0]
    return View(view.buffer, view.offset + (address - start) // array.itemsize, part.shape, steps(part))
