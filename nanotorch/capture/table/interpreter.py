"""The interpreter of tables, for numba to compile (Note [Tables]). Only who compiles it imports this file.

Functions here see memory as addresses. Loops over elements are plain, so that LLVM makes vector instructions of them.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic

from nanotorch.backend.formulas import NEAR
from nanotorch.backend.numpy_backend import ODDS
from nanotorch.capture.table.instructions import (
    ADAM,
    ADDED_DECAY,
    BLOCK,
    COPY,
    COPY_INDICES,
    COUNT,
    CROSS_ENTROPY,
    DECOUPLED_DECAY,
    F4,
    F8,
    FILL,
    GEMM,
    GROUP,
    GROUP_HEAD,
    HOLDS,
    IN_RANGE,
    LOAD,
    LONG_DOT,
    MAX,
    NO_DECAY,
    ONE_HOT,
    OPERATION,
    PICK,
    PRODUCT,
    RANDOM_BITS,
    REDUCE,
    REGISTERS,
    STEP,
    SUM,
    TAKE,
    U1,
)
from nanotorch.capture.table.product import BARE, plain, product

inlined = njit(**BARE, forceinline=True)  # a loop that calls what LLVM finds too long to inline has no vectors
summing = njit(**BARE, fastmath={"reassoc", "nsz"})


def accessors(kind: Any) -> tuple[Any, Any]:
    """Return what reads and what writes element `index` of a type in memory that begins at an address."""

    def pointer(context: Any, builder: Any, args: Any) -> Any:
        start = builder.inttoptr(args[0], context.get_value_type(kind).as_pointer())
        return builder.gep(start, [args[1]], inbounds=True)

    @intrinsic
    def get(context: Any, address: Any, index: Any) -> Any:
        def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            return builder.load(pointer(context, builder, args))

        return kind(types.int64, types.int64), code

    @intrinsic
    def put(context: Any, address: Any, index: Any, value: Any) -> Any:
        def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            builder.store(args[2], pointer(context, builder, args))
            return context.get_dummy_value()

        return types.void(types.int64, types.int64, kind), code

    return get, put


get_f4, put_f4 = accessors(types.float32)
get_f8, put_f8 = accessors(types.float64)
get_u1, put_u1 = accessors(types.uint8)
get_u2, put_u2 = accessors(types.uint16)
get_i8, put_i8 = accessors(types.int64)


@intrinsic
def bits_of(context: Any, value: Any) -> Any:
    """Return the bits of a float32 as an int32."""

    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.bitcast(args[0], ir.IntType(32))

    return types.int32(types.float32), code


@intrinsic
def of_bits(context: Any, value: Any) -> Any:
    """Return the float32 of some bits."""

    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.bitcast(args[0], ir.FloatType())

    return types.float32(types.int32), code


@intrinsic
def call_gemm(
    context: Any, f: Any, ta: Any, tb: Any, m: Any, n: Any, k: Any, alpha: Any, a: Any, lda: Any, b: Any, ldb: Any,
    beta: Any, c: Any, ldc: Any,
) -> Any:  # fmt: skip
    """Call a matrix product of BLAS; all arguments are addresses."""

    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        word = ir.IntType(64)
        function = builder.inttoptr(args[0], ir.FunctionType(ir.VoidType(), [word] * 13).as_pointer())
        builder.call(function, args[1:])
        return context.get_dummy_value()

    return types.void(*[types.int64] * 14), code


@intrinsic
def high_product(context: Any, x: Any, y: Any) -> Any:
    """Return the upper 64 bits of the product of two numbers of 64 bits without sign."""

    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        wide = ir.IntType(128)
        product = builder.mul(builder.zext(args[0], wide), builder.zext(args[1], wide))
        return builder.trunc(builder.lshr(product, wide(64)), ir.IntType(64))

    return types.int64(types.int64, types.int64), code


# ------------------------------------------------------------------------------------- functions of a number, float32

f = np.float32
_ROUND, _LOG2E = f(12582912.0), f(1.44269504088896341)
_LN2_HIGH, _LN2_LOW = f(0.693359375), f(-2.12194440e-4)
_ONE, _HALF, _TWO, _ZERO = f(1), f(0.5), f(2), f(0)
_E0, _E1, _E2, _E3, _E4, _E5 = map(
    f, (1.9875691500e-4, 1.3981999507e-3, 8.3334519073e-3, 4.1665795894e-2, 1.6666665459e-1, 5.0000001201e-1)
)
_L = tuple(
    map(
        f,
        (
            7.0376836292e-2, -1.1514610310e-1, 1.1676998740e-1, -1.2420140846e-1, 1.4249322787e-1,
            -1.6668057665e-1, 2.0000714765e-1, -2.4999993993e-1, 3.3333331174e-1,
        ),
    )
)  # fmt: skip
_T0, _T1, _T2, _T3, _T4 = map(
    f, (-5.70498872745e-3, 2.06390887954e-2, -5.37397155531e-2, 1.33314422036e-1, -3.33332819422e-1)
)
_S = tuple(
    map(
        f,
        (
            7.853861353153693e-5, -8.010193625184903e-4, 5.188327685732524e-3, -2.685381193529856e-2,
            1.128358514861418e-1, -3.761262582423300e-1, 1.128379165726710,
        ),
    )
)  # fmt: skip
_P = tuple(
    map(
        f,
        (
            2.326819970068386e-2, -1.387039388740657e-1, 3.687424674597105e-1, -5.824733027278666e-1,
            6.210004621745983e-1, -4.944515323274145e-1, 3.404879937665872e-1, -2.741127028184656e-1,
            5.638259427386472e-1,
        ),
    )
)  # fmt: skip
_R = tuple(
    map(
        f,
        (
            -1.047766399936249e1, 1.297719955372516e1, -7.495518717768503, 2.921019019210786, -1.015265279202700,
            4.218463358204948e-1, -2.820767439740514e-1, 5.641895067754075e-1,
        ),
    )
)  # fmt: skip
_ODDS = tuple([f(coefficient.item()) for coefficient in ODDS])
_LOW, _HIGH, _SMALLEST, _SCALE = f(-104), f(89), f(1.17549435e-38), f(8388608)
_ROOT_HALF, _INFINITY, _NAN, _SMALL = f(0.70710678118654752440), f(np.inf), f(np.nan), f(0.625)


@inlined
def exp_f4(x: Any) -> Any:
    """Return e ** x to one unit in the last place."""
    y = x if x > _LOW else _LOW
    y = y if y < _HIGH else _HIGH
    rounded = y * _LOG2E + _ROUND
    n = rounded - _ROUND
    r = y - n * _LN2_HIGH - n * _LN2_LOW
    p = ((((_E0 * r + _E1) * r + _E2) * r + _E3) * r + _E4) * r + _E5
    p = p * (r * r) + r + _ONE
    power = bits_of(rounded) - np.int32(1262485504)
    half = np.int32(power >> np.int32(1))
    rest = np.int32(power - half)
    first = of_bits(np.int32(np.int32(half + np.int32(127)) << np.int32(23)))
    second = of_bits(np.int32(np.int32(rest + np.int32(127)) << np.int32(23)))
    result = p * first * second
    return result if x == x else x


@inlined
def log_f4(x: Any) -> Any:
    """Return the natural logarithm to two units in the last place."""
    tiny = x < _SMALLEST
    y = x * _SCALE if tiny else x
    bits = bits_of(y)
    e = f(np.int32(bits >> np.int32(23)) - np.int32(126)) - (f(23) if tiny else _ZERO)
    m = of_bits(np.int32(np.int32(bits & np.int32(0x7FFFFF)) | np.int32(0x3F000000)))
    low = m < _ROOT_HALF
    e = e - _ONE if low else e
    m = m + m - _ONE if low else m - _ONE
    z = m * m
    p = _L[0] * m + _L[1]
    p = p * m + _L[2]
    p = p * m + _L[3]
    p = p * m + _L[4]
    p = p * m + _L[5]
    p = p * m + _L[6]
    p = p * m + _L[7]
    p = p * m + _L[8]
    p = p * m * z + e * _LN2_LOW - _HALF * z
    result = m + p + e * _LN2_HIGH
    result = result if x < _INFINITY else x
    result = result if x > _ZERO else (-_INFINITY if x == _ZERO else _NAN)
    return result if x == x else x


@inlined
def tanh_f4(x: Any) -> Any:
    """Return the hyperbolic tangent to two units in the last place."""
    z = x * x
    p = (((_T0 * z + _T1) * z + _T2) * z + _T3) * z + _T4
    near = (p * z + _ONE) * x
    size = -x if x < _ZERO else x
    far = _ONE - _TWO / (exp_f4(size + size) + _ONE)
    far = -far if x < _ZERO else far
    return near if size < _SMALL else far


@inlined
def log1p_f4(x: Any) -> Any:
    """Return log(1 + x)."""
    w = _ONE + x
    result = log_f4(w) * (x / (w - _ONE))
    result = x if w == _ONE else result
    return x if x == _INFINITY else result


@inlined
def expm1_f4(x: Any) -> Any:
    """Return exp(x) - 1."""
    w = exp_f4(x)
    less = w - _ONE
    result = less * (x / log_f4(w))
    result = x if w == _ONE else result
    result = less if less == -_ONE else result
    return w if w == _INFINITY else result


@inlined
def erf_f4(x: Any) -> Any:
    """Return the error function to three units in the last place."""
    size = -x if x < _ZERO else x
    z = x * x
    p = _S[0] * z + _S[1]
    p = p * z + _S[2]
    p = p * z + _S[3]
    p = p * z + _S[4]
    p = p * z + _S[5]
    near = x * (p * z + _S[6])
    q = _ONE / size
    y = q * q
    u = _P[0] * y + _P[1]
    u = u * y + _P[2]
    u = u * y + _P[3]
    u = u * y + _P[4]
    u = u * y + _P[5]
    u = u * y + _P[6]
    u = u * y + _P[7]
    u = u * y + _P[8]
    v = _R[0] * y + _R[1]
    v = v * y + _R[2]
    v = v * y + _R[3]
    v = v * y + _R[4]
    v = v * y + _R[5]
    v = v * y + _R[6]
    v = v * y + _R[7]
    far = _ONE - exp_f4(-z) * q * (u if size < _TWO else v)
    far = -far if x < _ZERO else far
    return near if size < _ONE else far


@inlined
def ndtr_f4(x: Any) -> Any:
    """Return how much of the standard normal distribution lies below, as the backend computes it for many elements."""
    z = x * x
    p = _ODDS[6] * z + _ODDS[5]
    p = p * z + _ODDS[4]
    p = p * z + _ODDS[3]
    p = p * z + _ODDS[2]
    p = p * z + _ODDS[1]
    p = p * z + _ODDS[0]
    return _ONE / (exp_f4(-(p * x)) + _ONE)


exp_f8 = plain(lambda x: math.exp(x))
log_f8 = plain(lambda x: np.log(x))
tanh_f8 = plain(lambda x: math.tanh(x))
log1p_f8 = plain(lambda x: np.log1p(x))
expm1_f8 = plain(lambda x: math.expm1(x))
erf_f8 = plain(lambda x: math.erf(x))
ndtr_f8 = plain(lambda x: 0.5 * math.erfc(x * -0.7071067811865476))


# ----------------------------------------------------------------------------------------------------------- groups


def of_type(
    real: Any, get: Any, put: Any, exp: Any, log: Any, tanh: Any, log1p: Any, expm1: Any, erf: Any, ndtr: Any
) -> tuple[Any, ...]:
    """Return what runs one operation on registers, what loads, and what stores, for registers of a type."""
    one, zero, width = real(1), real(0), real(0).itemsize
    half, nearly, root = real(0.5), real(NEAR[width]), real(1 / math.sqrt(2 * math.pi))
    (ASSIGN, ADD, SUBTRACT, MULTIPLY, DIVIDE, MAXIMUM, MINIMUM, NEGATIVE, ABSOLUTE, SQRT, EXP, LOG, TANH, SIGMOID,
     SOFTPLUS, LOG1P, EXPM1, EQUAL, NOT_EQUAL, LESS, LESS_EQUAL, GREATER, GREATER_EQUAL, ZERO_WHERE, WHERE, BIT_AND,
     BIT_OR, BIT_XOR, BIT_NOT, FLOOR, CEIL, SIN, COS, ERF, MULTIPLY_ADD, SUBTRACT_PRODUCT, SUBTRACT_MULTIPLY,
     MULTIPLY_MULTIPLY, MULTIPLY_DIVIDE, SQRT_ADD, ADD_MAXIMUM, ZERO_WHERE_NOT_ABOVE, NDTR,
     GELU_SLOPE, MOVE_TOWARDS, SUM_OF_PRODUCTS, MULTIPLY_DIVIDE_ROOT,
     SUBTRACT_DIVIDED_ROOT) = OPERATION.values()  # fmt: skip

    @plain
    def compute(op: Any, o: Any, a: Any, b: Any, c: Any, d: Any, e: Any, n: Any) -> None:
        if op == ASSIGN:
            for i in range(n):
                put(o, i, get(a, i))
        elif op == ADD:
            for i in range(n):
                put(o, i, get(a, i) + get(b, i))
        elif op == SUBTRACT:
            for i in range(n):
                put(o, i, get(a, i) - get(b, i))
        elif op == MULTIPLY:
            for i in range(n):
                put(o, i, get(a, i) * get(b, i))
        elif op == DIVIDE:
            for i in range(n):
                put(o, i, get(a, i) / get(b, i))
        elif op == MAXIMUM:
            for i in range(n):
                x, y = get(a, i), get(b, i)
                put(o, i, x if (x > y) | (x != x) else y)
        elif op == MINIMUM:
            for i in range(n):
                x, y = get(a, i), get(b, i)
                put(o, i, x if (x < y) | (x != x) else y)
        elif op == NEGATIVE:
            for i in range(n):
                put(o, i, -get(a, i))
        elif op == ABSOLUTE:
            for i in range(n):
                put(o, i, abs(get(a, i)))
        elif op == SQRT:
            for i in range(n):
                put(o, i, math.sqrt(get(a, i)))
        elif op == EXP:
            for i in range(n):
                put(o, i, exp(get(a, i)))
        elif op == LOG:
            for i in range(n):
                put(o, i, log(get(a, i)))
        elif op == TANH:
            for i in range(n):
                put(o, i, tanh(get(a, i)))
        elif op == SIGMOID:
            for i in range(n):
                put(o, i, one / (exp(-get(a, i)) + one))
        elif op == SOFTPLUS:
            for i in range(n):
                x = get(a, i)
                put(o, i, (x if (x > zero) | (x != x) else zero) + log1p(exp(-abs(x))))
        elif op == LOG1P:
            for i in range(n):
                put(o, i, log1p(get(a, i)))
        elif op == EXPM1:
            for i in range(n):
                put(o, i, expm1(get(a, i)))
        elif op == EQUAL:
            for i in range(n):
                put(o, i, one if get(a, i) == get(b, i) else zero)
        elif op == NOT_EQUAL:
            for i in range(n):
                put(o, i, one if get(a, i) != get(b, i) else zero)
        elif op == LESS:
            for i in range(n):
                put(o, i, one if get(a, i) < get(b, i) else zero)
        elif op == LESS_EQUAL:
            for i in range(n):
                put(o, i, one if get(a, i) <= get(b, i) else zero)
        elif op == GREATER:
            for i in range(n):
                put(o, i, one if get(a, i) > get(b, i) else zero)
        elif op == GREATER_EQUAL:
            for i in range(n):
                put(o, i, one if get(a, i) >= get(b, i) else zero)
        elif op == ZERO_WHERE:
            for i in range(n):
                put(o, i, get(a, i) if get(b, i) == zero else zero)
        elif op == WHERE:
            for i in range(n):
                put(o, i, get(c, i) if get(a, i) == zero else get(b, i))
        elif op == BIT_AND:
            for i in range(n):
                put(o, i, get(a, i) * get(b, i))
        elif op == BIT_OR:
            for i in range(n):
                put(o, i, max(get(a, i), get(b, i)))
        elif op == BIT_XOR:
            for i in range(n):
                put(o, i, one if get(a, i) != get(b, i) else zero)
        elif op == BIT_NOT:
            for i in range(n):
                put(o, i, one - get(a, i))
        elif op == FLOOR:
            for i in range(n):
                put(o, i, np.floor(get(a, i)))
        elif op == CEIL:
            for i in range(n):
                put(o, i, np.ceil(get(a, i)))
        elif op == SIN:
            for i in range(n):
                put(o, i, math.sin(get(a, i)))
        elif op == COS:
            for i in range(n):
                put(o, i, math.cos(get(a, i)))
        elif op == ERF:
            for i in range(n):
                put(o, i, erf(get(a, i)))
        elif op == MULTIPLY_ADD:
            for i in range(n):
                put(o, i, get(a, i) * get(b, i) + get(c, i))
        elif op == SUBTRACT_PRODUCT:
            for i in range(n):
                put(o, i, get(c, i) - get(a, i) * get(b, i))
        elif op == SUBTRACT_MULTIPLY:
            for i in range(n):
                put(o, i, (get(a, i) - get(b, i)) * get(c, i))
        elif op == MULTIPLY_MULTIPLY:
            for i in range(n):
                put(o, i, get(a, i) * get(b, i) * get(c, i))
        elif op == MULTIPLY_DIVIDE:
            for i in range(n):
                put(o, i, get(a, i) * get(b, i) / get(c, i))
        elif op == SQRT_ADD:
            for i in range(n):
                put(o, i, math.sqrt(get(a, i)) + get(b, i))
        elif op == ADD_MAXIMUM:
            for i in range(n):
                x, y = get(a, i) + get(b, i), get(c, i)
                put(o, i, x if (x > y) | (x != x) else y)
        elif op == ZERO_WHERE_NOT_ABOVE:
            for i in range(n):
                put(o, i, zero if get(b, i) <= get(c, i) else get(a, i))
        elif op == NDTR:
            for i in range(n):
                put(o, i, ndtr(get(a, i)))
        elif op == GELU_SLOPE:
            for i in range(n):
                x, y = get(a, i), get(b, i)
                below = half if abs(x) < nearly else y / x
                put(o, i, exp(x * x * -half) * x * root + below)
        elif op == MOVE_TOWARDS:
            for i in range(n):
                put(o, i, get(a, i) + (get(b, i) - get(c, i)) * get(d, i))
        elif op == SUM_OF_PRODUCTS:
            for i in range(n):
                put(o, i, get(a, i) * get(b, i) + get(c, i) * get(d, i) * get(e, i))
        elif op == MULTIPLY_DIVIDE_ROOT:
            for i in range(n):
                put(o, i, get(a, i) * get(b, i) / (math.sqrt(get(c, i)) + get(d, i)))
        elif op == SUBTRACT_DIVIDED_ROOT:
            for i in range(n):
                put(o, i, get(a, i) - get(b, i) * get(c, i) / (math.sqrt(get(d, i)) + get(e, i)))

    @plain
    def load(kind: Any, register: Any, start: Any, rows: Any, columns: Any, down: Any, right: Any) -> None:
        for r in range(rows):
            o, a = register + r * columns * width, start + r * down
            if right == 0:
                if kind == F4:
                    x = real(get_f4(a, 0))
                elif kind == F8:
                    x = real(get_f8(a, 0))
                elif kind == U1:
                    x = real(get_u1(a, 0))
                else:
                    x = real(get_u2(a, 0))
                for i in range(columns):
                    put(o, i, x)
            elif kind == F4:
                if right == 4:
                    for i in range(columns):
                        put(o, i, real(get_f4(a, i)))
                else:
                    for i in range(columns):
                        put(o, i, real(get_f4(a + i * right, 0)))
            elif kind == F8:
                if right == 8:
                    for i in range(columns):
                        put(o, i, real(get_f8(a, i)))
                else:
                    for i in range(columns):
                        put(o, i, real(get_f8(a + i * right, 0)))
            elif kind == U1:
                if right == 1:
                    for i in range(columns):
                        put(o, i, real(get_u1(a, i)))
                else:
                    for i in range(columns):
                        put(o, i, real(get_u1(a + i * right, 0)))
            else:
                for i in range(columns):
                    put(o, i, real(get_u2(a + i * right, 0)))

    @plain
    def store(kind: Any, register: Any, start: Any, rows: Any, columns: Any, down: Any, right: Any) -> None:
        for r in range(rows):
            o, a = start + r * down, register + r * columns * width
            if kind == F4:
                if right == 4:
                    for i in range(columns):
                        put_f4(o, i, np.float32(get(a, i)))
                else:
                    for i in range(columns):
                        put_f4(o + i * right, 0, np.float32(get(a, i)))
            elif kind == F8:
                if right == 8:
                    for i in range(columns):
                        put_f8(o, i, np.float64(get(a, i)))
                else:
                    for i in range(columns):
                        put_f8(o + i * right, 0, np.float64(get(a, i)))
            elif right == 1:
                for i in range(columns):
                    put_u1(o, i, np.uint8(1 if get(a, i) != zero else 0))
            else:
                for i in range(columns):
                    put_u1(o + i * right, 0, np.uint8(1 if get(a, i) != zero else 0))

    @plain
    def group(pc: Any, bases: Any, numbers: Any, scratch: Any) -> None:
        D0, D1, R, C = get_i8(pc, 3), get_i8(pc, 4), get_i8(pc, 5), get_i8(pc, 6)
        high, wide = get_i8(pc, 7), get_i8(pc, 8)
        loads, fills, steps, stores = get_i8(pc, 9), get_i8(pc, 10), get_i8(pc, 11), get_i8(pc, 12)
        first_load = pc + 8 * GROUP_HEAD
        first_fill = first_load + 8 * LOAD * loads
        first_step = first_fill + 8 * FILL * fills
        first_store = first_step + 8 * STEP * steps
        registers = scratch + 8 * REGISTERS
        largest = min(high, R) * min(wide, C)
        for k in range(REGISTERS):
            put_i8(scratch, k, registers + k * BLOCK * 8)
        for k in range(fills):
            row = first_fill + k * FILL * 8
            x = real(get_f8(numbers, get_i8(row, 0)))
            o = get_i8(scratch, get_i8(row, 1))
            for i in range(largest):
                put(o, i, x)
        for d0 in range(D0):
            for d1 in range(D1):
                r0 = 0
                while r0 < R:
                    rows = min(high, R - r0)
                    c0 = 0
                    while c0 < C:
                        columns = min(wide, C - c0)
                        for k in range(loads):
                            row = first_load + k * LOAD * 8
                            start = (
                                get_i8(bases, get_i8(row, 0)) + get_i8(row, 1) + d0 * get_i8(row, 3)
                                + d1 * get_i8(row, 4) + r0 * get_i8(row, 5) + c0 * get_i8(row, 6)
                            )  # fmt: skip
                            register = get_i8(row, 7)
                            if get_i8(row, 8):
                                put_i8(scratch, register, start)
                            else:
                                o = get_i8(scratch, register)
                                load(get_i8(row, 2), o, start, rows, columns, get_i8(row, 5), get_i8(row, 6))
                        for k in range(stores):
                            row = first_store + k * LOAD * 8
                            if get_i8(row, 8):
                                start = (
                                    get_i8(bases, get_i8(row, 0)) + get_i8(row, 1) + d0 * get_i8(row, 3)
                                    + d1 * get_i8(row, 4) + r0 * get_i8(row, 5) + c0 * get_i8(row, 6)
                                )  # fmt: skip
                                put_i8(scratch, get_i8(row, 7), start)
                        n = rows * columns
                        for k in range(steps):
                            row = first_step + k * STEP * 8
                            compute(
                                get_i8(row, 0), get_i8(scratch, get_i8(row, 1)), get_i8(scratch, get_i8(row, 2)),
                                get_i8(scratch, get_i8(row, 3)), get_i8(scratch, get_i8(row, 4)),
                                get_i8(scratch, get_i8(row, 5)), get_i8(scratch, get_i8(row, 6)), n,
                            )  # fmt: skip
                        for k in range(stores):
                            row = first_store + k * LOAD * 8
                            if not get_i8(row, 8):
                                start = (
                                    get_i8(bases, get_i8(row, 0)) + get_i8(row, 1) + d0 * get_i8(row, 3)
                                    + d1 * get_i8(row, 4) + r0 * get_i8(row, 5) + c0 * get_i8(row, 6)
                                )  # fmt: skip
                                a = get_i8(scratch, get_i8(row, 7))
                                store(get_i8(row, 2), a, start, rows, columns, get_i8(row, 5), get_i8(row, 6))
                        c0 += wide
                    r0 += high

    # ------------------------------------------------------------------------------------------------- reductions

    @summing
    def sum_of(a: Any, n: Any) -> Any:
        total = zero
        for i in range(n):
            total += get(a, i)
        return total

    @plain
    def over_row(kind: Any, a: Any, n: Any, step: Any) -> Any:
        """Reduce n elements; sums of 512 are added in float64, so that a long sum is as good as a short one."""
        if kind == SUM:
            total = 0.0
            start = 0
            while start < n:
                m = min(512, n - start)
                if step == width:
                    total += sum_of(a + start * width, m)
                else:
                    part = zero
                    for i in range(m):
                        part += get(a + (start + i) * step, 0)
                    total += part
                start += m
            return real(total)
        best = get(a, 0)
        if kind == MAX:
            for i in range(1, n):
                x = get(a + i * step, 0)
                best = x if (x > best) | (x != x) else best
        else:
            for i in range(1, n):
                x = get(a + i * step, 0)
                best = x if (x < best) | (x != x) else best
        return best

    @plain
    def over_columns(kind: Any, o: Any, right: Any, a: Any, n: Any, down: Any, columns: Any, scratch: Any) -> None:
        """Reduce columns of n rows that lie side by side, up to a block of them; sums by 32 rows, in float64."""
        part = scratch + 8 * REGISTERS
        total = part + 8 * BLOCK
        for i in range(columns):
            put(part, i, get(a, i))
        if kind == SUM:
            long = n > 32
            if long:
                for i in range(columns):
                    put_f8(total, i, 0.0)
            for r in range(1, n):
                row = a + r * down
                if r & 31:
                    for i in range(columns):
                        put(part, i, get(part, i) + get(row, i))
                else:
                    for i in range(columns):
                        put_f8(total, i, get_f8(total, i) + get(part, i))
                        put(part, i, get(row, i))
            if long:
                for i in range(columns):
                    put(part, i, real(get_f8(total, i) + get(part, i)))
        elif kind == MAX:
            for r in range(1, n):
                row = a + r * down
                for i in range(columns):
                    x, y = get(row, i), get(part, i)
                    put(part, i, x if (x > y) | (x != x) else y)
        else:
            for r in range(1, n):
                row = a + r * down
                for i in range(columns):
                    x, y = get(row, i), get(part, i)
                    put(part, i, x if (x < y) | (x != x) else y)
        for i in range(columns):
            put(o + i * right, 0, get(part, i))

    @plain
    def reduce(pc: Any, bases: Any, scratch: Any) -> None:
        kind, outer, count, inner = get_i8(pc, 3), get_i8(pc, 4), get_i8(pc, 5), get_i8(pc, 6)
        start = get_i8(bases, get_i8(pc, 7)) + get_i8(pc, 8)
        target = get_i8(bases, get_i8(pc, 9)) + get_i8(pc, 10)
        so, sn, si, to, ti = get_i8(pc, 11), get_i8(pc, 12), get_i8(pc, 13), get_i8(pc, 14), get_i8(pc, 15)
        for k in range(outer):
            a, o = start + k * so, target + k * to
            if count == 0:
                for i in range(inner):
                    put(o + i * ti, 0, zero)
            elif si == width and inner > 1:
                i = 0
                while i < inner:
                    over_columns(kind, o + i * ti, ti, a + i * si, count, sn, min(BLOCK, inner - i), scratch)
                    i += BLOCK
            else:
                for i in range(inner):
                    put(o + i * ti, 0, over_row(kind, a + i * si, count, sn))

    @plain
    def one_hot(pc: Any, bases: Any) -> None:
        rows, columns = get_i8(pc, 3), get_i8(pc, 4)
        o = get_i8(bases, get_i8(pc, 5)) + get_i8(pc, 6)
        index = get_i8(bases, get_i8(pc, 7)) + get_i8(pc, 8)
        step = get_i8(pc, 9)
        for i in range(rows * columns):
            put(o, i, zero)
        for r in range(rows):
            put(o, r * columns + get_i8(index + r * step, 0), one)

    @plain
    def pick(pc: Any, bases: Any) -> None:
        rows, to = get_i8(pc, 3), get_i8(pc, 4)
        o = get_i8(bases, get_i8(pc, 5)) + get_i8(pc, 6)
        index = get_i8(bases, get_i8(pc, 7)) + get_i8(pc, 8)
        step = get_i8(pc, 9)
        a = get_i8(bases, get_i8(pc, 10)) + get_i8(pc, 11)
        down, right = get_i8(pc, 12), get_i8(pc, 13)
        for r in range(rows):
            put(o + r * to, 0, get(a + r * down + get_i8(index + r * step, 0) * right, 0))

    @plain
    def take(pc: Any, bases: Any) -> None:
        """Copy rows; the index may be negative, and is known to be in range."""
        count, length, columns = get_i8(pc, 3), get_i8(pc, 4), get_i8(pc, 14)
        o = get_i8(bases, get_i8(pc, 5)) + get_i8(pc, 6)
        index = get_i8(bases, get_i8(pc, 7)) + get_i8(pc, 8)
        step = get_i8(pc, 9)
        a = get_i8(bases, get_i8(pc, 10)) + get_i8(pc, 11)
        down, right = get_i8(pc, 12), get_i8(pc, 13)
        for r in range(count):
            k = get_i8(index + r * step, 0)
            k = k + length if k < 0 else k
            row = a + k * down
            for i in range(columns):
                put(o, r * columns + i, get(row + i * right, 0))

    @plain
    def cross_entropy(pc: Any, bases: Any, scratch: Any) -> None:
        """Run what `losses.py` recognises: from scores of rows and their classes to the loss of each row, and to the
        gradient of the scores, in blocks of rows, by the operations of a group.
        """
        rows, columns = get_i8(pc, 3), get_i8(pc, 4)
        source, down = get_i8(bases, get_i8(pc, 5)) + get_i8(pc, 6), get_i8(pc, 7)
        index, step = get_i8(bases, get_i8(pc, 8)) + get_i8(pc, 9), get_i8(pc, 10)
        losses = get_i8(bases, get_i8(pc, 11)) + get_i8(pc, 12)
        gradients = get_i8(bases, get_i8(pc, 13)) + get_i8(pc, 14)
        factor = get(get_i8(bases, get_i8(pc, 15)) + get_i8(pc, 16), 0)
        high = BLOCK // columns
        shifted = scratch + 8 * REGISTERS
        powers, sums, logs = shifted + 8 * BLOCK, shifted + 16 * BLOCK, shifted + 24 * BLOCK
        start = 0
        while start < rows:
            count = min(high, rows - start)
            for r in range(count):
                a = source + (start + r) * down
                largest = get(a, 0)
                for i in range(1, columns):
                    x = get(a, i)
                    largest = x if (x > largest) | (x != x) else largest
                for i in range(columns):
                    put(shifted, r * columns + i, get(a, i) - largest)
            compute(EXP, powers, shifted, shifted, shifted, shifted, shifted, count * columns)
            for r in range(count):
                put(sums, r, over_row(SUM, powers + r * columns * width, columns, width))
            compute(LOG, logs, sums, sums, sums, sums, sums, count)
            for r in range(count):
                right = get_i8(index + (start + r) * step, 0)
                put(losses, start + r, get(logs, r) - get(shifted, r * columns + right))
                total = get(sums, r)
                o = gradients + (start + r) * columns * width
                for i in range(columns):
                    share = get(powers, r * columns + i) / total
                    put(o, i, (share - (one if i == right else zero)) * factor)
            start += count

    # ------------------------------------------------------------------------------------------------------- Adam

    def update_of(decay: int) -> Any:
        """Return the loop of updates with one kind of weight decay."""

        @plain
        def update(
            p: Any, g: Any, m: Any, v: Any, n: Any, towards: Any, kept: Any, new: Any, rate: Any, least: Any,
            factor: Any,
        ) -> None:  # fmt: skip
            for i in range(n):
                x = get(g, i)
                if decay == ADDED_DECAY:
                    x = factor * get(p, i) + x
                mean = get(m, i)
                mean = mean + (x - mean) * towards
                square = get(v, i) * kept + x * x * new
                put(m, i, mean)
                put(v, i, square)
                change = mean * rate / (math.sqrt(square) + least)
                if decay == DECOUPLED_DECAY:
                    put(p, i, get(p, i) * factor - change)
                else:
                    put(p, i, get(p, i) - change)

        return update

    without_decay, with_added, with_decoupled = map(update_of, (NO_DECAY, ADDED_DECAY, DECOUPLED_DECAY))

    @plain
    def adam(pc: Any, bases: Any, numbers: Any) -> None:
        """Run what `adam.py` recognises (Note [Adam in a table])."""
        decay, n = get_i8(pc, 3), get_i8(pc, 4)
        p = get_i8(bases, get_i8(pc, 5)) + get_i8(pc, 6)
        g = get_i8(bases, get_i8(pc, 7)) + get_i8(pc, 8)
        m = get_i8(bases, get_i8(pc, 9)) + get_i8(pc, 10)
        v = get_i8(bases, get_i8(pc, 11)) + get_i8(pc, 12)
        towards, kept = real(get_f8(numbers, get_i8(pc, 13))), real(get_f8(numbers, get_i8(pc, 14)))
        new, rate = real(get_f8(numbers, get_i8(pc, 15))), real(get_f8(numbers, get_i8(pc, 16)))
        least, factor = real(get_f8(numbers, get_i8(pc, 17))), real(get_f8(numbers, get_i8(pc, 18)))
        if decay == NO_DECAY:
            without_decay(p, g, m, v, n, towards, kept, new, rate, least, factor)
        elif decay == ADDED_DECAY:
            with_added(p, g, m, v, n, towards, kept, new, rate, least, factor)
        else:
            with_decoupled(p, g, m, v, n, towards, kept, new, rate, least, factor)

    return group, reduce, one_hot, pick, take, cross_entropy, adam


F4_FUNCTIONS = of_type(np.float32, get_f4, put_f4, exp_f4, log_f4, tanh_f4, log1p_f4, expm1_f4, erf_f4, ndtr_f4)
F8_FUNCTIONS = of_type(np.float64, get_f8, put_f8, exp_f8, log_f8, tanh_f8, log1p_f8, expm1_f8, erf_f8, ndtr_f8)
group_f4, reduce_f4, one_hot_f4, pick_f4, take_f4, cross_entropy_f4, adam_f4 = F4_FUNCTIONS
group_f8, reduce_f8, one_hot_f8, pick_f8, take_f8, cross_entropy_f8, adam_f8 = F8_FUNCTIONS


@plain
def gemm(pc: Any, bases: Any, context: Any) -> None:
    """Multiply matrices: BLAS reads the fields of the instruction where they stand."""
    real = get_i8(pc, 2)
    count = get_i8(pc, 3)
    a = get_i8(bases, get_i8(pc, 4)) + get_i8(pc, 5)
    b = get_i8(bases, get_i8(pc, 6)) + get_i8(pc, 7)
    o = get_i8(bases, get_i8(pc, 8)) + get_i8(pc, 9)
    f = get_i8(context, 5 + real)
    for _ in range(count):
        call_gemm(
            f, pc + 8 * 10, pc + 8 * 11, pc + 8 * 12, pc + 8 * 13, pc + 8 * 14, pc + 8 * 15, a, pc + 8 * 16, b,
            pc + 8 * 17, pc + 8 * 18, o, pc + 8 * 19,
        )  # fmt: skip
        a += get_i8(pc, 20)
        b += get_i8(pc, 21)
        o += get_i8(pc, 22)


@plain
def small_product(pc: Any, bases: Any, scratch: Any) -> None:
    """Multiply matrices as Note [Small products] says."""
    a = get_i8(bases, get_i8(pc, 6)) + get_i8(pc, 7)
    b = get_i8(bases, get_i8(pc, 9)) + get_i8(pc, 10)
    o = get_i8(bases, get_i8(pc, 13)) + get_i8(pc, 14)
    rows, columns, depth = get_i8(pc, 3), get_i8(pc, 4), get_i8(pc, 5)
    product(a, get_i8(pc, 8), b, get_i8(pc, 11), get_i8(pc, 12), o, get_i8(pc, 15), rows, columns, depth, scratch)


@summing
def dot(a: Any, b: Any, first: Any, end: Any) -> Any:
    """Return the sum of the products of some elements."""
    total = f(0)
    for i in range(first, end):
        total += get_f4(a, i) * get_f4(b, i)
    return total


@plain
def long_dot(pc: Any, bases: Any) -> None:
    """Multiply vectors; sums of 512 products are added in float64, so that a long one is as good as a short one."""
    n = get_i8(pc, 3)
    a = get_i8(bases, get_i8(pc, 4)) + get_i8(pc, 5)
    b = get_i8(bases, get_i8(pc, 6)) + get_i8(pc, 7)
    total = 0.0
    for first in range(0, n, 512):
        total += np.float64(dot(a, b, first, min(n, first + 512)))
    put_f4(get_i8(bases, get_i8(pc, 8)) + get_i8(pc, 9), 0, f(total))


@plain
def in_range(pc: Any, bases: Any) -> Any:
    """Return whether all indices are in [0, length)."""
    start = get_i8(bases, get_i8(pc, 3)) + get_i8(pc, 4)
    n, step, length = get_i8(pc, 5), get_i8(pc, 6), get_i8(pc, 7)
    inside = True
    for i in range(n):
        x = get_i8(start + i * step, 0)
        inside &= (x >= 0) & (x < length)
    return inside


@plain
def holds(pc: Any, bases: Any) -> Any:
    """Return whether a mask without gaps holds throughout."""
    start = get_i8(bases, get_i8(pc, 3)) + get_i8(pc, 4)
    all_hold = True
    for i in range(get_i8(pc, 5)):
        all_hold &= get_u1(start, i) != 0
    return all_hold


def signed(bits: int) -> int:
    """Return 64 bits as a number with a sign."""
    return bits - (1 << 64) if bits >> 63 else bits


_FACTOR0, _FACTOR1 = signed(0xD2E7470EE14C6C93), signed(0xCA5A826395121157)
_WEYL0, _WEYL1 = signed(0x9E3779B97F4A7C15), signed(0xBB67AE8584CAA73B)


@plain
def random_bits(pc: Any, bases: Any, numbers: Any) -> None:
    """Write 16 bits for each address: Philox 4x64 with ten rounds (J. Salmon et al., Parallel Random Numbers: As Easy
    as 1, 2, 3, SC 2011), whose counter moves on before a block, as NumPy's does.
    """
    n = get_i8(pc, 3)
    o = get_i8(bases, get_i8(pc, 4)) + get_i8(pc, 5)
    seed, step, layer = get_i8(numbers, get_i8(pc, 6)), get_i8(numbers, get_i8(pc, 7)), get_i8(numbers, get_i8(pc, 8))
    apart, first = get_i8(numbers, get_i8(pc, 9)), get_i8(numbers, get_i8(pc, 10))
    block, place = first >> 4, -(first & 15)
    while place < n:
        block += 1
        c0, c1, c2, c3 = block, 0, apart, layer
        k0, k1 = seed, step
        for _ in range(10):
            h0, h1 = high_product(_FACTOR0, c0), high_product(_FACTOR1, c2)
            l0, l1 = _FACTOR0 * c0, _FACTOR1 * c2
            c0, c1, c2, c3 = h1 ^ c1 ^ k0, l1, h0 ^ c3 ^ k1, l0
            k0 += _WEYL0
            k1 += _WEYL1
        for lane in range(16):
            word = c0 if lane < 4 else c1 if lane < 8 else c2 if lane < 12 else c3
            if 0 <= place + lane < n:
                put_u2(o, place + lane, np.uint16((word >> (16 * (lane & 3))) & 0xFFFF))
        place += 16


@plain
def copy_bytes(target: Any, source: Any, count: Any) -> None:
    """Copy bytes, by words where there are only whole ones."""
    if count & 7 == 0:
        for i in range(count >> 3):
            put_i8(target, i, get_i8(source, i))
    elif count & 3 == 0:
        for i in range(count >> 2):
            put_f4(target, i, get_f4(source, i))
    else:
        for i in range(count):
            put_u1(target, i, get_u1(source, i))


@plain
def copy_indices(pc: Any, bases: Any) -> None:
    """Copy a matrix of indices, of any strides, into rows without gaps."""
    rows, columns = get_i8(pc, 3), get_i8(pc, 4)
    o = get_i8(bases, get_i8(pc, 5)) + get_i8(pc, 6)
    source = get_i8(bases, get_i8(pc, 7)) + get_i8(pc, 8)
    down, right = get_i8(pc, 9), get_i8(pc, 10)
    for r in range(rows):
        for i in range(columns):
            put_i8(o, r * columns + i, get_i8(source + r * down + i * right, 0))


@plain
def walk(code: Any, end: Any, bases: Any, numbers: Any, scratch: Any, context: Any) -> Any:
    """Run a table; return 0, or the address of the question that got another answer than expected."""
    pc = code
    while pc < end:
        op, real = get_i8(pc, 0), get_i8(pc, 2)
        if op == GROUP:
            if real == F4:
                group_f4(pc, bases, numbers, scratch)
            else:
                group_f8(pc, bases, numbers, scratch)
        elif op == GEMM:
            gemm(pc, bases, context)
        elif op == PRODUCT:
            small_product(pc, bases, scratch)
        elif op == REDUCE:
            if real == F4:
                reduce_f4(pc, bases, scratch)
            else:
                reduce_f8(pc, bases, scratch)
        elif op == ONE_HOT:
            if real == F4:
                one_hot_f4(pc, bases)
            else:
                one_hot_f8(pc, bases)
        elif op == PICK:
            if real == F4:
                pick_f4(pc, bases)
            else:
                pick_f8(pc, bases)
        elif op == TAKE:
            if real == F4:
                take_f4(pc, bases)
            else:
                take_f8(pc, bases)
        elif op == CROSS_ENTROPY:
            if real == F4:
                cross_entropy_f4(pc, bases, scratch)
            else:
                cross_entropy_f8(pc, bases, scratch)
        elif op == ADAM:
            if real == F4:
                adam_f4(pc, bases, numbers)
            else:
                adam_f8(pc, bases, numbers)
        elif op == COPY:
            source = get_i8(bases, get_i8(pc, 6)) + get_i8(pc, 7)
            copy_bytes(get_i8(bases, get_i8(pc, 4)) + get_i8(pc, 5), source, get_i8(pc, 3))
        elif op == COPY_INDICES:
            copy_indices(pc, bases)
        elif op == COUNT:
            o = get_i8(bases, get_i8(pc, 3)) + get_i8(pc, 4)
            put_i8(o, 0, get_i8(get_i8(bases, get_i8(pc, 5)) + get_i8(pc, 6), 0) + get_i8(pc, 7))
        elif op == RANDOM_BITS:
            random_bits(pc, bases, numbers)
        elif op == LONG_DOT:
            long_dot(pc, bases)
        elif op == IN_RANGE:
            if not in_range(pc, bases):
                return pc
        elif op == HOLDS and not holds(pc, bases):
            return pc
        pc += 8 * get_i8(pc, 1)
    return 0


def run(context: Any) -> Any:
    """Run a table for some steps; return how many of them ran to the end (Note [Many steps])."""
    code, end, bases, numbers = get_i8(context, 0), get_i8(context, 1), get_i8(context, 2), get_i8(context, 3)
    scratch, steps, width = get_i8(context, 4), get_i8(context, 7), get_i8(context, 8)
    gathers, first_gather = get_i8(context, 9), get_i8(context, 10)
    results, first_result = get_i8(context, 11), get_i8(context, 12)
    for step in range(steps):
        for k in range(gathers):
            row = first_gather + k * 5 * 8
            target = get_i8(bases, get_i8(row, 0))
            source, length, rows = get_i8(row, 1), get_i8(row, 2), get_i8(row, 3)
            order = get_i8(row, 4) + step * rows * 8
            for r in range(rows):
                copy_bytes(target + r * length, source + get_i8(order, r) * length, length)
        if walk(code, end, bases, numbers + step * width, scratch, context) != 0:
            return step
        for k in range(results):
            row = first_result + k * 4 * 8
            source, length = get_i8(bases, get_i8(row, 0)) + get_i8(row, 1), get_i8(row, 2)
            copy_bytes(get_i8(row, 3) + step * length, source, length)
    return steps


def compiled() -> tuple[str, bytes]:
    """Compile `run` for this machine: the name of its symbol, and an object file."""
    function = njit("int64(int64)", **BARE)(run)
    (result,) = function.overloads.values()
    return result.fndesc.llvm_func_name, result.library._get_compiled_object()
