"""Statements of a program as instructions of a table (Note [Tables])."""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from nanotorch.backend.philox import threshold_and_factor
from nanotorch.capture.passes import extent, sources
from nanotorch.capture.program import Buffer, HostNumber, Program, Several, SeveralNumbers, Statement, View, of_each
from nanotorch.capture.table.instructions import (
    COPY,
    COPY_INDICES,
    COUNT,
    F4,
    F8,
    GEMM,
    HOLDS,
    I8,
    IN_RANGE,
    LONG_DOT,
    MAX,
    MIN,
    ONE_HOT,
    OPERATION,
    PICK,
    PRODUCT,
    RANDOM_BITS,
    REDUCE,
    SUM,
    TAKE,
    U1,
    U2,
)

KINDS = {np.dtype(kind): number for kind, number in
         (("f4", F4), ("f8", F8), ("?", U1), ("u1", U1), ("u2", U2), ("i8", I8))}  # fmt: skip
REAL = {np.dtype("f4"): F4, np.dtype("f8"): F8}
SAME = {"iadd": "add", "write": "copy", "array": "copy", "astype": "copy"}
COMPARISONS = {"equal", "not_equal", "less", "less_equal", "greater", "greater_equal"}
LOGIC = {"bit_and", "bit_or", "bit_xor", "bit_not"}
DEEP, LARGE = 1024, 1 << 24
"""Length of a row, and products of numbers, up to which a product is small (Note [Small products])."""
SHORT = 8192  # rows from which a product of float32 is added in parts (Note [Long sums])


class Elementwise(NamedTuple):
    """A statement as one operation of a group.

    Attributes:
        operation: its name.
        operands: views and numbers.
        out: where the result goes.
        real: the type in which it is computed; None where that does not matter.
        then: a second operation, with its second operand.
    """

    operation: str
    operands: tuple[Any, ...]
    out: View
    real: int | None
    then: tuple[str, float | SeveralNumbers] | None = None


def elementwise(statement: Statement) -> Elementwise | None:
    """Return a statement as an operation of a group, if it is one."""
    name, args = SAME.get(statement.primitive, statement.primitive), statement.args
    if len(statement.out) != 1 or (statement.options and statement.primitive != "array"):
        return None
    out = statement.out[0]
    if name == "keep_mask":
        bits, p, dtype = args
        if isinstance(p, HostNumber) or not is_operand(bits, out.shape) or np.dtype(dtype) not in REAL:
            return None
        least = of_each(p, lambda p: int(threshold_and_factor(float(p), np.dtype(dtype))[0]))
        factor = of_each(p, lambda p: float(threshold_and_factor(float(p), np.dtype(dtype))[1]))
        return Elementwise("greater_equal", (bits, least), out, REAL[out.dtype], ("multiply", factor))
    if (
        name == "copy"
        and isinstance(args[0], View)
        and args[0][2:] == out[2:]
        and dense(out)
        and args[0].dtype == out.dtype
    ):
        return None  # an instruction of its own
    if statement.primitive == "astype":
        args = args[:1]
    if name == "power" and isinstance(args[0], View) and type(args[1]) in (int, float):
        if args[1] == 2:
            name, args = "multiply", (args[0], args[0])
        elif args[1] == 0.5:
            name, args = "sqrt", args[:1]
        elif args[1] == -1:
            name, args = "divide", (1, args[0])
    elif name == "power" and isinstance(args[1], Several):
        return None  # for some it is another function
    if name not in OPERATION or not all(is_operand(arg, out.shape) for arg in args):
        return None
    if out.dtype not in KINDS or KINDS[out.dtype] in (U2, I8) or out.dtype == np.uint8:
        return None
    mixed = promoted(args[1:] if name == "where" else args[:1] if name == "zero_where" else args)
    real: int | None
    if name in LOGIC:
        if mixed.kind != "b":
            return None
        real = None
    elif name == "copy":
        real = F8 if np.float64 in (mixed, out.dtype) else F4 if np.float32 in (mixed, out.dtype) else None
        if isinstance(args[0], HostNumber) or (mixed != out.dtype and real != REAL.get(out.dtype)):
            return None  # a register would hold what was not rounded
    elif name in COMPARISONS:
        small = mixed in (np.dtype("?"), np.dtype("u1"), np.dtype("u2"))
        if small and not all(isinstance(arg, View) or type(arg) in (int, bool) for arg in args):
            return None
        real = None if small else REAL.get(mixed, -1)
    else:
        real = REAL.get(mixed, -1) if mixed == out.dtype else -1
    if real == -1:
        return None
    masks = args[:1] if name == "where" else args[1:] if name == "zero_where" else ()
    if not all(isinstance(mask, View) and mask.dtype == bool for mask in masks):
        return None
    return Elementwise(name, args, out, real)


def is_operand(value: Any, shape: tuple[int, ...]) -> bool:
    """Whether a value can be loaded into a register of elements of a shape."""
    if isinstance(value, View):
        return value.dtype in KINDS and KINDS[value.dtype] != I8 and len(value.shape) <= len(shape)
    if isinstance(value, HostNumber | SeveralNumbers):
        return True
    if isinstance(value, bool | int | float | np.floating | np.bool_):
        return not isinstance(value, int) or abs(value) <= 2**53
    return False


def promoted(operands: Sequence[Any]) -> np.dtype[Any]:
    """Return the dtype in which NumPy computes with some operands."""

    def of(value: Any) -> Any:
        if isinstance(value, View):
            return value.dtype
        if isinstance(value, SeveralNumbers):
            return value.values[0]
        return value.value if isinstance(value, HostNumber) else value

    return np.result_type(*map(of, operands))


def key_of(number: Any) -> Any:
    """Return what two numbers have to have in common to be one."""
    if isinstance(number, HostNumber):
        return number.code
    return number if isinstance(number, SeveralNumbers) else float(number).hex()


class Table:
    """Instructions as they are written, with what they refer to.

    Attributes:
        code: whole numbers, one instruction behind the other.
        bases: the buffers whose addresses the table needs, in their order.
        numbers: the numbers that it needs: host numbers by their code, those of several models by themselves, others by
            their value.
    """

    def __init__(self) -> None:
        self.code: list[int] = []
        self.bases: dict[Buffer, int] = {}
        self.numbers: dict[Any, int] = {}

    def base(self, buffer: Buffer) -> int:
        """Return the number of a buffer."""
        return self.bases.setdefault(buffer, len(self.bases))

    def place(self, view: View) -> tuple[int, int]:
        """Return base and offset of a view, in bytes."""
        return self.base(view.buffer), view.offset * view.dtype.itemsize

    def number(self, value: Any) -> int:
        """Return the place of a number."""
        return self.numbers.setdefault(key_of(value), len(self.numbers))

    def bits(self, value: Any) -> int:
        """Return the place of a whole number of 64 bits, or of what a function draws for every run."""
        place = len(self.numbers)
        if callable(value):  # each draw is one of its own
            self.numbers["draw", value, place] = place
            return place
        return self.numbers.setdefault(("bits", value.code if isinstance(value, HostNumber) else value), place)

    def add(self, instruction: int, *fields: int) -> None:
        """Write an instruction; its length is known."""
        self.code += [instruction, len(fields) + 2, *map(int, fields)]


def instruction(statement: Statement, table: Table, known: Callable[[View, int], bool]) -> bool:
    """Write a statement that is no operation of a group; whether there is an instruction for it.

    `known` tells whether a question of the program has made sure that indices are in [0, length).
    """
    write = WRITERS.get(statement.primitive)
    host = any(isinstance(leaf, HostNumber | SeveralNumbers) for leaf in (*statement.args, *statement.options.values()))
    if write is None or (host and write is not random_bits):
        return False
    length = len(table.code)
    done = write(statement, table, known)
    assert done or len(table.code) == length
    return done


def matmul(statement: Statement, table: Table, known: Any) -> bool:
    """Write a product of matrices, or of a batch of them."""
    a, b = statement.args
    (out,) = statement.out
    if not (isinstance(a, View) and isinstance(b, View)) or a.dtype != b.dtype or a.dtype not in REAL:
        return False
    if not a.size or not b.size or not a.shape or not b.shape:
        return False
    a_shape, a_steps, b_shape, b_steps = a.shape, a.strides, b.shape, b.strides
    o_shape, o_steps = out.shape, out.strides
    if len(a_shape) == 1:
        a_shape, a_steps = (1, *a_shape), (a_shape[0], *a_steps)
        o_shape, o_steps = (*o_shape[: len(b_shape) - 2], 1, *o_shape[len(b_shape) - 2 :]), (
            *o_steps[: len(b_shape) - 2], 1, *o_steps[len(b_shape) - 2 :]
        )  # fmt: skip
    if len(b_shape) == 1:
        b_shape, b_steps = (*b_shape, 1), (*b_steps, 1)
        o_shape, o_steps = (*o_shape, 1), (*o_steps, 1)
    batch = o_shape[:-2]
    steps = [
        merged(batch, padded(shape[:-2], each[:-2], batch))
        for shape, each in ((a_shape, a_steps), (b_shape, b_steps), (o_shape, o_steps))
    ]
    (m, k), n = a_shape[-2:], b_shape[-1]
    if k >= SHORT and a.dtype.char == "f":
        if not (a.shape == b.shape == (k,) and dense(a) and dense(b)):
            return False
        table.add(LONG_DOT, F4, k, *table.place(a), *table.place(b), *table.place(out))
        return True
    if None in steps:
        return False
    left, right = layout((m, k), a_steps[-2:]), layout((k, n), b_steps[-2:])
    result = layout((m, n), o_steps[-2:])
    if left is None or right is None or result is None:
        return False
    (ta, lda), (tb, ldb), (to, ldo) = left, right, result
    count, width = int(np.prod(batch)), a.dtype.itemsize
    first, second = table.place(a), table.place(b)
    jumps = [step * width for step in steps]  # type: ignore[operator]
    if to:  # the transposed product, row by row
        first, second, m, n = second, first, n, m
        ta, lda, tb, ldb = not tb, ldb, not ta, lda
        jumps[0], jumps[1] = jumps[1], jumps[0]
    if count == 1 and a.dtype.char == "f" and not ta and is_small(m, n, k, tb):
        table.add(PRODUCT, F4, m, n, k, *first, 4 * lda, *second, tb, 4 * ldb, *table.place(out), 4 * ldo)
        return True
    # BLAS counts by columns: what lies here by rows is there the transposed matrix, so it multiplies b by a.
    one = struct.unpack("<q", struct.pack("<f4x" if width == 4 else "<d", 1.0))[0]
    table.add(
        GEMM, REAL[a.dtype], count, *second, *first, *table.place(out),
        ord("T" if tb else "N"), ord("T" if ta else "N"), n, m, k, one, ldb, lda, 0, ldo, jumps[1], jumps[0], jumps[2],
    )  # fmt: skip
    return True


def is_small(m: int, n: int, k: int, by_columns: bool) -> bool:
    """Whether Note [Small products] is about a product of rows of length k by n columns; measured, beside BLAS: one
    that lies by rows gains where many rows meet whole vectors.
    """
    shape = m >= 8 and n >= 12 if by_columns else m >= 128 and n % 16 == 0
    return shape and k <= DEEP and m * n * k <= LARGE


def layout(shape: tuple[int, int], steps: tuple[int, ...]) -> tuple[bool, int] | None:
    """Return whether a matrix lies by columns, and how far its rows or columns are apart; None where neither is so."""
    (m, n), (down, right) = shape, steps
    if (right == 1 or n == 1) and (down >= n or m == 1):
        return False, max(down, n) if m > 1 else n
    if (down == 1 or m == 1) and (right >= m or n == 1):
        return True, max(right, m) if n > 1 else m
    return None


def padded(shape: tuple[int, ...], steps: tuple[int, ...], to: tuple[int, ...]) -> tuple[int, ...]:
    """Return the strides of an operand that is repeated to a shape."""
    missing = len(to) - len(shape)
    repeated = [0 if n == 1 else step for n, step in zip(shape, steps, strict=True)]
    return (*(0,) * missing, *repeated)


def merged(shape: tuple[int, ...], steps: tuple[int, ...]) -> int | None:
    """Return the one step from each element of a shape to the next; None where there is no such step."""
    step, expected = 0, None
    for n, each in zip(reversed(shape), reversed(steps), strict=True):
        if n != 1:
            if expected is None:
                step = each
            elif each != expected:
                return None
            expected = each * n
    return step


REDUCTIONS = {"sum": SUM, "column_sums": SUM, "row_sums": SUM, "amax": MAX, "amin": MIN}


def reduction(statement: Statement, table: Table, known: Any) -> bool:
    """Write a reduction over axes that are next to each other in memory."""
    name, x, (out,) = statement.primitive, statement.args[0], statement.out
    if not isinstance(x, View) or x.dtype not in REAL or out.dtype != x.dtype or (not x.size and name != "sum"):
        return False
    given = (
        dict(zip(("axis", "keepdims"), statement.args[1:], strict=False))
        if name in ("amax", "amin")
        else dict(zip(("axis", "dtype", "keepdims"), statement.args[1:], strict=False))
    )
    given |= statement.options
    if name in ("column_sums", "row_sums"):
        given = {"axis": 0} if name == "column_sums" else {"axis": 1, "keepdims": True}
        if len(x.shape) > 2 or (name == "row_sums" and len(x.shape) != 2):
            return False
    if given.get("dtype") not in (None, x.dtype):
        return False
    rank = len(x.shape)
    axis = given.get("axis")
    axes = (
        set(range(rank)) if axis is None else {each % rank for each in (axis if isinstance(axis, tuple) else (axis,))}
    )
    o_steps = list(out.strides)
    if given.get("keepdims"):
        o_steps = [step for at, step in enumerate(o_steps) if at not in axes]
    kept: list[tuple[int, int, int]] = []
    gone: list[tuple[int, int]] = []
    for at, (n, step) in enumerate(zip(x.shape, x.strides, strict=True)):
        if at in axes:
            if n != 1 or not x.size:
                gone.append((n, step))
        else:
            to = o_steps.pop(0)
            if n != 1:
                kept.append((n, step, to))
    if not x.size:
        if any(n == 0 for n, *_ in kept):
            return False
        gone = [(0, 0)]
    gone = joined_up(sorted(gone, key=lambda each: -abs(each[1])))
    kept = joined_up(sorted(kept, key=lambda each: -abs(each[1])))
    if len(gone) > 1 or len(kept) > 2:
        return False
    count, down = gone[0] if gone else (1, 0)
    inner = kept.pop() if kept and (len(kept) == 2 or abs(kept[-1][1]) == 1) else (1, 0, 0)
    outer = kept.pop() if kept else (1, 0, 0)
    width = x.dtype.itemsize
    table.add(
        REDUCE, REAL[x.dtype], REDUCTIONS[name], outer[0], count, inner[0], *table.place(x), *table.place(out),
        outer[1] * width, down * width, inner[1] * width, outer[2] * width, inner[2] * width,
    )  # fmt: skip
    return True


def joined_up(axes: list[Any]) -> list[Any]:
    """Join axes that are one axis of more elements, in all memory that is concerned."""
    result: list[Any] = []
    for n, *steps in axes:
        if result and list(result[-1][1:]) == [n * step for step in steps]:
            result[-1] = (result[-1][0] * n, *steps)
        else:
            result.append((n, *steps))
    return result


def index_fields(view: Any, table: Table) -> tuple[int, int, int] | None:
    """Return base, offset and step of a vector of indices."""
    if not isinstance(view, View) or view.dtype != np.int64 or len(view.shape) != 1:
        return None
    return (*table.place(view), view.strides[0] * 8)


def dense(view: View) -> bool:
    """Whether a view is in row-major order without gaps."""
    expected = 1
    for n, step in zip(reversed(view.shape), reversed(view.strides), strict=True):
        if n != 1 and step != expected:
            return False
        expected *= n
    return True


def without_gaps(view: View) -> tuple[int, ...] | None:
    """Return the axes of a view from the outermost in memory to the innermost if they leave no gaps, else None.

    >>> without_gaps(View(Buffer("temporary", "t1", np.zeros(12)), 0, (4, 3), (1, 4)))
    (1, 0)
    """
    axes = tuple(sorted(range(len(view.shape)), key=lambda axis: -view.strides[axis]))
    shape, strides = [view.shape[axis] for axis in axes], [view.strides[axis] for axis in axes]
    expected = 1
    for n, step in zip(reversed(shape), reversed(strides), strict=True):
        if n != 1 and step != expected:
            return None
        expected *= n
    return axes


def copy(statement: Statement, table: Table, known: Any) -> bool:
    """Write a copy of elements without gaps, or of a matrix of indices."""
    source, (out,) = statement.args[0], statement.out
    if not isinstance(source, View) or source.dtype != out.dtype or source.shape != out.shape or not dense(out):
        return False
    if not dense(source):
        if source.dtype != np.int64 or len(source.shape) != 2:
            return False
        steps = [step * 8 for step in source.strides]
        table.add(COPY_INDICES, 0, *source.shape, *table.place(out), *table.place(source), *steps)
        return True
    table.add(COPY, 0, out.size * out.dtype.itemsize, *table.place(out), *table.place(source))
    return True


def count(statement: Statement, table: Table, known: Any) -> bool:
    """Write a count that goes up."""
    (x, by), (out,) = statement.args, statement.out
    if not isinstance(x, View) or type(by) is not int or x.size != 1 or out.size != 1:
        return False
    if x.dtype != np.int64 or out.dtype != np.int64:
        return False
    table.add(COUNT, 0, *table.place(out), *table.place(x), by)
    return True


def one_hot(statement: Statement, table: Table, known: Callable[[View, int], bool]) -> bool:
    """Write rows of zeros with a one."""
    index, classes, dtype = statement.args
    (out,) = statement.out
    fields = index_fields(index, table)
    if fields is None or np.dtype(dtype) not in REAL or not dense(out) or not known(index, classes):
        return False
    table.add(ONE_HOT, REAL[np.dtype(dtype)], index.shape[0], classes, *table.place(out), *fields)
    return True


def pick(statement: Statement, table: Table, known: Callable[[View, int], bool]) -> bool:
    """Write one element of every row."""
    x, index = statement.args
    (out,) = statement.out
    fields = index_fields(index, table)
    if fields is None or x.dtype not in REAL or not known(index, x.shape[1]):
        return False
    width = x.dtype.itemsize
    table.add(
        PICK, REAL[x.dtype], x.shape[0], out.strides[0] * width, *table.place(out), *fields, *table.place(x),
        x.strides[0] * width, x.strides[1] * width,
    )  # fmt: skip
    return True


def take(statement: Statement, table: Table, known: Callable[[View, int], bool]) -> bool:
    """Write rows in the order of indices."""
    x, index = statement.args[:2]
    (out,) = statement.out
    axis = statement.args[2] if len(statement.args) > 2 else statement.options.get("axis", 0)
    if not isinstance(x, View) or len(x.shape) != 2 or axis != 0 or x.dtype not in REAL or not dense(out):
        return False
    fields = index_fields(index, table)
    if fields is None or not known(index, x.shape[0]):
        return False
    width = x.dtype.itemsize
    table.add(
        TAKE, REAL[x.dtype], index.shape[0], x.shape[0], *table.place(out), *fields, *table.place(x),
        x.strides[0] * width, x.strides[1] * width, x.shape[1],
    )  # fmt: skip
    return True


def random_bits(statement: Statement, table: Table, known: Any) -> bool:
    """Write bits that are a function of their address."""
    *address, count = statement.args
    (out,) = statement.out
    if not isinstance(count, int) or not dense(out) or out.dtype != np.uint16:
        return False
    table.add(RANDOM_BITS, 0, count, *table.place(out), *map(table.bits, address))
    return True


def all_in_range(statement: Statement, table: Table, known: Any) -> bool:
    """Write the question whether indices are in range."""
    index, length = statement.args
    if not isinstance(index, View) or index.dtype != np.int64 or statement.expected is not True:
        return False
    step = merged(index.shape, index.strides)
    if step is None:
        return False
    table.add(IN_RANGE, 0, *table.place(index), index.size, step * 8, length)
    return True


def holds(statement: Statement, table: Table, known: Any) -> bool:
    """Write the question whether a mask holds."""
    (mask,) = statement.args
    if not isinstance(mask, View) or mask.dtype != bool or not dense(mask) or statement.expected is not True:
        return False
    table.add(HOLDS, 0, *table.place(mask), mask.size)
    return True


WRITERS: dict[str, Callable[..., bool]] = {
    "matmul": matmul, **dict.fromkeys(REDUCTIONS, reduction), "one_hot": one_hot, "pick": pick, "take": take,
    "all_in_range": all_in_range, "holds": holds, "write": copy, "array": copy, "add": count,
    "random_bits": random_bits,
}  # fmt: skip


def in_range(program: Program) -> Callable[[View, int], bool]:
    """Return what tells whether a question has made sure that indices are in [0, length)."""
    asked: dict[View, int] = {}
    copied = sources(program)
    written = {view.buffer for statement in program.statements for view in statement.out}
    for statement in program.statements:
        if statement.primitive == "all_in_range" and statement.expected is True and isinstance(statement.args[0], View):
            view, length = statement.args
            if view.buffer not in written:
                asked[view] = min(length, asked.get(view, length))

    def known(view: View, length: int) -> bool:
        source = copied.get(view.buffer, view)
        return source in asked and asked[source] <= length

    return known


def overlap(one: View, other: View) -> bool:
    """Whether two views may see the same element."""
    if one.buffer is not other.buffer:
        return False
    (start, stop), (begin, end) = extent(one), extent(other)
    return start < end and begin < stop
