"""The instructions of a table, by number: what `interpreter.py` runs and `lowering.py` writes.

Note [Tables]
~~~~~~~~~~~~~
A table is a captured program as data: whole numbers of 64 bits, one instruction behind the other, each with its number,
its length and its fields. One function, compiled once for all programs, walks it; so a program of a new shape is
ready in a millisecond, where compiled code for it takes seconds.

Memory is named by a base and an offset: `bases` holds the address of every buffer of the program. The same table runs
on other memory, of another model or another batch, by another row of bases. Numbers of the host stand in `numbers`, and
are filled in at every call.

Element-wise statements of one shape are one instruction, a *group*: it goes through the elements in blocks that fit the
fastest cache, and for each block runs one small loop per statement, from registers to registers, which are rows of that
cache. So a chain such as Adam's reads and writes main memory once, whatever statements it consists of, and in the order
and the roundings of these statements: a group of additions, products, quotients and roots gives the bits that NumPy
gives. Nothing is reassociated in them, and nothing assumes that there is neither NaN nor infinity.
"""

from __future__ import annotations

(GROUP, GEMM, REDUCE, ONE_HOT, PICK, TAKE, IN_RANGE, HOLDS, COPY, COUNT, CROSS_ENTROPY, RANDOM_BITS, LONG_DOT,
 ADAM, PRODUCT, COPY_INDICES) = range(16)  # fmt: skip
"""Instructions."""

NO_DECAY, ADDED_DECAY, DECOUPLED_DECAY = range(3)
"""Weight decay of Adam: none, added to the gradient, or taken from the parameter itself."""

F4, F8, U1, U2, I8 = range(5)
"""Types of elements in memory."""

SUM, MAX, MIN = range(3)
"""Reductions."""

BLOCK = 512  # elements of a register
REGISTERS = 64
SCRATCH = REGISTERS + BLOCK * (REGISTERS + 4)  # in units of 8 bytes: addresses of registers, registers, sums of columns

GROUP_HEAD = 15  # instruction, length, type, 4 lengths, rows and columns of a block, 4 counts, 2 spare
LOAD = 9  # base, offset, type, 4 strides in bytes, register, whether the register is that memory
FILL = 2  # number, register
OPERANDS = 5  # of an operation at most
STEP = 2 + OPERANDS  # operation, registers of the result and of the operands

OPERATIONS = (
    "copy", "add", "subtract", "multiply", "divide", "maximum", "minimum", "negative", "absolute", "sqrt", "exp", "log",
    "tanh", "sigmoid", "softplus", "log1p", "expm1", "equal", "not_equal", "less", "less_equal", "greater",
    "greater_equal", "zero_where", "where", "bit_and", "bit_or", "bit_xor", "bit_not", "floor", "ceil", "sin", "cos",
    "erf", "multiply_add", "subtract_product", "subtract_multiply", "multiply_multiply", "multiply_divide", "sqrt_add",
    "add_maximum", "zero_where_not_above", "ndtr", "gelu_slope", "move_towards", "sum_of_products",
    "multiply_divide_root", "subtract_divided_root",
)  # fmt: skip
"""Operations of a group, by number."""
OPERATION = {name: number for number, name in enumerate(OPERATIONS)}

PAIRS: dict[tuple[str, str, int], tuple[str, tuple[int, ...]]] = {
    ("multiply", "add", 0): ("multiply_add", (0, 1, 6)),
    ("multiply", "add", 1): ("multiply_add", (0, 1, 5)),
    ("multiply", "subtract", 1): ("subtract_product", (0, 1, 5)),
    ("subtract", "multiply", 0): ("subtract_multiply", (0, 1, 6)),
    ("multiply", "multiply", 0): ("multiply_multiply", (0, 1, 6)),
    ("multiply", "divide", 0): ("multiply_divide", (0, 1, 6)),
    ("sqrt", "add", 0): ("sqrt_add", (0, 6)),
    ("add", "maximum", 0): ("add_maximum", (0, 1, 6)),
    ("less_equal", "zero_where", 1): ("zero_where_not_above", (5, 0, 1)),
    ("subtract_multiply", "add", 1): ("move_towards", (5, 0, 1, 2)),
    ("multiply_multiply", "multiply_add", 2): ("sum_of_products", (5, 6, 0, 1, 2)),
    ("sqrt_add", "multiply_divide", 2): ("multiply_divide_root", (5, 6, 0, 1)),
    ("multiply_divide_root", "subtract", 1): ("subtract_divided_root", (5, 0, 1, 2, 3)),
}
"""Two operations as one, with the roundings of both: the first, the second, which operand of the second the first is;
then the name of both together, and its operands, of which those of the second count from OPERANDS. The last four make
three loops of Adam's seven.
"""
