"""Products of matrices of float32 that are too small for BLAS to be at its best, for numba to compile.

Note [Small products]
~~~~~~~~~~~~~~~~~~~~~
A layer multiplies rows of inputs by weights that lie by outputs, the second matrix by columns. BLAS reaches half of its
speed there where a layer has some dozens of units, for it packs both matrices. Here only the second is: some columns at
a time are turned to lie side by side, as a panel that stays in the fastest cache, and blocks of rows go over it, whose
sums stay in registers (K. Goto and R. van de Geijn, Anatomy of High-Performance Matrix Multiplication, TOMS 2008).

Each sum is one chain over the elements of its row and column, in their order, with a fused multiply-add where the
processor has one. So its bits do not depend on the size of the matrices, nor on the block that it is in: a batch, a
part of it, and a model among others get the same.
"""

from __future__ import annotations

from typing import Any

import llvmlite.binding as llvm
from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic

from nanotorch.capture.table.instructions import REGISTERS

BARE = {"error_model": "numpy", "no_cpython_wrapper": True, "no_cfunc_wrapper": True}  # nobody calls them from Python
plain = njit(**BARE)

WIDE_REGISTERS = bool(llvm.get_host_cpu_features().get("avx512f"))  # and twice as many
LANES = 16 if WIDE_REGISTERS else 8
ROWS = 8 if WIDE_REGISTERS else 4
"""Rows of a block, which has two vectors of each: so many sums are in registers at once."""

_word, _index, _single = ir.IntType(64), ir.IntType(32), ir.FloatType()
_vector, _mask = ir.VectorType(_single, LANES), ir.VectorType(ir.IntType(1), LANES)
_zeros, _any = ir.Constant(_vector, [0.0] * LANES), ir.Constant(_vector, ir.Undefined)


def _function(builder: Any, name: str, result: Any, *arguments: Any) -> Any:
    """Return a function of LLVM's for vectors."""
    return cgutils.get_or_insert_function(builder.module, ir.FunctionType(result, arguments), f"llvm.{name}")


def _at(builder: Any, address: Any, kind: Any) -> Any:
    return builder.inttoptr(address, kind.as_pointer())


def _order(lanes: list[int]) -> Any:
    return ir.Constant(ir.VectorType(_index, LANES), lanes)


def _first_lanes(builder: Any, count: Any) -> Any:
    """Return the mask of the first lanes."""
    words = ir.VectorType(_word, LANES)
    any_words = ir.Constant(words, ir.Undefined)
    counts = builder.shuffle_vector(builder.insert_element(any_words, count, _index(0)), any_words, _order([0] * LANES))
    return builder.icmp_signed("<", ir.Constant(words, list(range(LANES))), counts)


def _block_of(rows: int, vectors: int) -> Any:
    """Return what multiplies some rows by a panel of so many vectors."""

    @intrinsic
    def block(
        context: Any, a: Any, down: Any, panel: Any, width: Any, o: Any, apart: Any, depth: Any, last: Any
    ) -> Any:
        def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            a, down, panel, width, o, apart, depth, last = args
            multiply_add = _function(builder, f"fmuladd.v{LANES}f32", _vector, _vector, _vector, _vector)
            store = _function(
                builder, f"masked.store.v{LANES}f32.p0", ir.VoidType(), _vector, _vector.as_pointer(), _index, _mask
            )
            sums = [[cgutils.alloca_once_value(builder, _zeros) for _ in range(vectors)] for _ in range(rows)]
            with cgutils.for_range(builder, depth) as loop:
                line = builder.add(panel, builder.mul(loop.index, width))
                given = []
                for v in range(vectors):
                    given.append(builder.load(_at(builder, builder.add(line, _word(4 * LANES * v)), _vector)))
                    given[-1].align = 4
                right = builder.mul(loop.index, _word(4))
                for r in range(rows):
                    place = builder.add(builder.add(a, builder.mul(down, _word(r))), right)
                    number = builder.load(_at(builder, place, _single))
                    every = builder.insert_element(_any, number, _index(0))
                    every = builder.shuffle_vector(every, _any, _order([0] * LANES))
                    for total, x in zip(sums[r], given, strict=True):
                        builder.store(builder.call(multiply_add, [every, x, builder.load(total)]), total)
            whole, part = ir.Constant(_mask, [1] * LANES), _first_lanes(builder, last)
            for r in range(rows):
                for v in range(vectors):
                    place = builder.add(builder.add(o, builder.mul(apart, _word(r))), _word(4 * LANES * v))
                    mask = part if v == vectors - 1 else whole
                    builder.call(store, [builder.load(sums[r][v]), _at(builder, place, _vector), _index(4), mask])
            return context.get_dummy_value()

        return types.void(*[types.int64] * 8), code

    @plain
    def call(a: Any, down: Any, panel: Any, width: Any, o: Any, apart: Any, depth: Any, last: Any) -> None:
        block(a, down, panel, width, o, apart, depth, last)

    return call


def _strip_of(vectors: int) -> Any:
    """Return what multiplies all rows by a panel of so many vectors."""
    many, four, two, one = [_block_of(rows, vectors) for rows in (ROWS, 4, 2, 1)]

    @plain
    def strip(a: Any, down: Any, panel: Any, width: Any, o: Any, apart: Any, rows: Any, depth: Any, last: Any) -> None:
        r = 0
        while r < rows:
            left, x, y = rows - r, a + r * down, o + r * apart
            if left >= ROWS:
                many(x, down, panel, width, y, apart, depth, last)
                r += ROWS
            elif left >= 4:
                four(x, down, panel, width, y, apart, depth, last)
                r += 4
            elif left >= 2:
                two(x, down, panel, width, y, apart, depth, last)
                r += 2
            else:
                one(x, down, panel, width, y, apart, depth, last)
                r += 1

    return strip


_narrow, _wide = _strip_of(1), _strip_of(2)


@intrinsic
def _turned(context: Any, source: Any, down: Any, lines: Any, count: Any, target: Any, width: Any) -> Any:
    """Write the first elements of up to LANES lines side by side: those that are first, then those that are second."""

    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        source, down, lines, count, target, width = args
        load = _function(builder, f"masked.load.v{LANES}f32.p0", _vector, _vector.as_pointer(), _index, _mask, _vector)
        mask = _first_lanes(builder, count)
        vectors = []
        for line in range(LANES):  # what is beyond the last one is the first again, and nobody reads it
            there = builder.select(builder.icmp_signed("<", _word(line), lines), _word(line), _word(0))
            place = builder.add(source, builder.mul(there, down))
            vectors.append(builder.call(load, [_at(builder, place, _vector), _index(4), mask, _zeros]))
        half = LANES // 2
        low = _order([lane for k in range(half) for lane in (k, k + LANES)])
        high = _order([lane for k in range(half, LANES) for lane in (k, k + LANES)])
        for _ in range(half.bit_length()):
            pairs = list(zip(vectors[:half], vectors[half:], strict=True))
            vectors = [builder.shuffle_vector(*pair, order) for pair in pairs for order in (low, high)]
        for number, vector in enumerate(vectors):
            with builder.if_then(builder.icmp_signed("<", _word(number), count)):
                place = builder.add(target, builder.mul(width, _word(number)))
                builder.store(vector, _at(builder, place, _vector)).align = 4
        return context.get_dummy_value()

    return types.void(*[types.int64] * 6), code


@plain
def _turn(source: Any, down: Any, lines: Any, depth: Any, target: Any, width: Any) -> None:
    """Write up to LANES columns, which lie one after the other, side by side."""
    for k in range(0, depth, LANES):
        _turned(source + 4 * k, down, lines, min(LANES, depth - k), target + k * width, width)


@plain
def product(
    a: Any, down: Any, b: Any, by_columns: Any, across: Any, o: Any, apart: Any, rows: Any, columns: Any, depth: Any,
    scratch: Any,
) -> None:  # fmt: skip
    """Multiply matrices; `across` is how far the columns of the second are apart, or its rows, of which each is then
    whole vectors.
    """
    panel = scratch + 8 * REGISTERS
    for first in range(0, columns, 2 * LANES):
        count = min(columns - first, 2 * LANES)
        wide = count > LANES
        start, width = b + 4 * first, across
        if by_columns:
            start, width = panel, 8 * LANES if wide else 4 * LANES
            _turn(b + first * across, across, min(count, LANES), depth, panel, width)
            if wide:
                _turn(b + (first + LANES) * across, across, count - LANES, depth, panel + 4 * LANES, width)
        if wide:
            _wide(a, down, start, width, o + 4 * first, apart, rows, depth, count - LANES)
        else:
            _narrow(a, down, start, width, o + 4 * first, apart, rows, depth, count)
