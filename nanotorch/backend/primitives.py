"""The table of array primitives: everything that op rows and optimizer rules may do with an array.

Note [Array primitives]
~~~~~~~~~~~~~~~~~~~~~~~
A formula is text over `xp`. What that text may say is listed here, once, and nowhere else:

- the **operators** of `OPERATORS`: arithmetic, comparisons, `-x`, `~x`, `x.T`, and `x[...]` for reading;
- `xp.<name>(...)` for the other names of the table, called as the table spells them;
- the `FACTS` of an array, `x.shape` and so on: what is known without looking at an element.

No array method, no store (`x[...] = y`; `put`, `add_at` and `framed` give new arrays) and, in rows, no augmented
assignment to an array: `iadd` says that the left array is given up, so that whoever runs the text may reuse its memory
or not. No `bool(x)`, `int(x)` or loop over an array either: what depends on values asks one of the `QUESTIONS`, and
goes on where the answer is None, "not known". A rule of an optimizer updates its parameter and its state by augmented
assignments and `copyto`: these are the only writes. Whoever is neither a row nor a rule, such as the engine where it
adds to a `.grad` and the functions that clip it, writes by `WRITES` and may ask for the `PLACEMENT` of an array.
Python numbers, tuples and lists are the text's own business.
`tests/project/test_primitives.py` reads every row and rule and names the line that does anything else;
`tests/ops/test_primitives_suffice.py` runs all rows on arrays that can do nothing else.

So the same text means something wherever somebody says what each primitive means. A `Column` is such an answer, a dict
from name to function, and an interpreter is a column:

======  ==========================================  ===============================================================
column  where it is filled                          a value is
======  ==========================================  ===============================================================
NUMPY   `backend/numpy_backend.py`                an array: eager forwards, first-order backwards, optimizers
CUPY    `backend/cupy_backend.py`                 an array on a GPU, the same
TENSOR  beside the op rows, by `TENSOR.define`    a Tensor: formulas that are themselves recorded (create_graph)
======  ==========================================  ===============================================================

A new primitive is a line below; a function in a backend's file where the library has none of its name and form; and an
entry beside its row where formulas of differentiable rows name it. The arguments are arrays, but for those which say
where and how: axes, shapes, dtypes, lengths, slices.

Two more columns are foreseen: one that writes code for a primitive, over values of a recorded program, and one that
says what a primitive becomes when some of its arguments have one more axis in front, of models that train together.
Both are one more `Column`, and the sections help them: what is in `OPERATORS` and `ELEMENTWISE` broadcasts, has no axis
to renumber and can be fused; the others say what a recorder makes of them (Note [Recorders]).
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

FACTS = ("shape", "ndim", "dtype", "size")
"""What anybody may ask of an array: it is known without looking at an element."""

PLACEMENT = ("base", "flags", "itemsize", "nbytes", "strides")
"""What only those may ask who are neither rows nor rules: how an array lies in memory, known as well."""

OPERATORS: dict[str, tuple[str, Callable[..., Any]]] = {
    "add(x, y)": ("x + y", operator.add),
    "subtract(x, y)": ("x - y", operator.sub),
    "multiply(x, y)": ("x * y", operator.mul),
    "divide(x, y)": ("x / y", operator.truediv),
    "power(x, y)": ("x ** y", operator.pow),
    "whole_divide(x, y)": ("x // y of whole numbers, where y is not 0", operator.floordiv),
    "negative(x)": ("-x", operator.neg),
    "equal(x, y)": ("x == y", operator.eq),
    "not_equal(x, y)": ("x != y", operator.ne),
    "less(x, y)": ("x < y", operator.lt),
    "less_equal(x, y)": ("x <= y", operator.le),
    "greater(x, y)": ("x > y", operator.gt),
    "greater_equal(x, y)": ("x >= y", operator.ge),
    "bit_and(x, y)": ("x & y", operator.and_),
    "bit_or(x, y)": ("x | y", operator.or_),
    "bit_xor(x, y)": ("x ^ y", operator.xor),
    "bit_not(x)": ("~x", operator.invert),
    "getitem(x, index)": ("x[index]: numbers, slices, None, `...`, and arrays of positions", operator.getitem),
    "reversed_axes(x)": ("x.T: the axes in reverse order", operator.attrgetter("T")),
}
"""By call form: the spelling, and its function, which is the same in all columns: the operands decide."""

ELEMENTWISE = {
    "absolute(x)": "magnitude",
    "arccos(x)": "inverse cosine",
    "arccosh(x)": "inverse hyperbolic cosine",
    "arcsin(x)": "inverse sine",
    "arcsinh(x)": "inverse hyperbolic sine",
    "arctan(x)": "inverse tangent",
    "arctan2(y, x)": "angle of the point (x, y)",
    "arctanh(x)": "inverse hyperbolic tangent",
    "astype(x, dtype)": "a copy in another dtype",
    "ceil(x)": "next whole number above",
    "copysign(x, y)": "magnitude of x, sign of y",
    "cos(x)": "cosine",
    "cosh(x)": "hyperbolic cosine",
    "erf(x)": "error function",
    "erfc(x)": "1 - erf(x)",
    "erfinv(x)": "inverse error function",
    "exp(x)": "e ** x",
    "exp2(x)": "2 ** x",
    "expm1(x)": "exp(x) - 1, exact near 0",
    "floor(x)": "next whole number below",
    "floor_divide(x, y)": "quotient rounded down; whole numbers over 0 raise",
    "fmax(x, y)": "the larger one; of NaN and a number the number",
    "fmin(x, y)": "the smaller one; of NaN and a number the number",
    "fmod(x, y)": "remainder with the sign of x; whole numbers over 0 raise",
    "frexp(x)": "mantissa in [0.5, 1) and exponent of 2",
    "gcd(x, y)": "greatest common divisor",
    "gelu_slope(x, result)": "the derivative of x * ndtr(x), which is the result (Note [GELU])",
    "hypot(x, y)": "sqrt(x * x + y * y) without overflow",
    "iadd(x, y)": "x + y, perhaps in the memory of x, which is given up",
    "isfinite(x)": "whether neither NaN nor infinite",
    "isinf(x)": "whether infinite",
    "isnan(x)": "whether NaN",
    "keep_mask(bits, p, dtype)": "of random bits 0 with probability p, else 1 / (1 - p) (Note [Counters of dropout])",
    "lcm(x, y)": "least common multiple",
    "left_shift(x, y)": "bits of x moved y places up",
    "lgamma(x)": "logarithm of the magnitude of the gamma function",
    "log(x)": "natural logarithm",
    "log10(x)": "logarithm to base 10",
    "log1p(x)": "log(1 + x), exact near 0",
    "log2(x)": "logarithm to base 2",
    "logaddexp(x, y)": "log(exp(x) + exp(y)) without overflow",
    "logaddexp2(x, y)": "log2(2 ** x + 2 ** y) without overflow",
    "logical_and(x, y)": "whether both are not 0",
    "logical_not(x)": "whether it is 0",
    "logical_or(x, y)": "whether one is not 0",
    "logical_xor(x, y)": "whether exactly one is not 0",
    "maximum(x, y)": "the larger one; NaN of a NaN",
    "minimum(x, y)": "the smaller one; NaN of a NaN",
    "ndtr(x)": "how much of the standard normal distribution lies below x",
    "nextafter(x, y)": "the next number from x towards y",
    "polygamma(n, x)": "n-th derivative of the digamma function",
    "remainder(x, y)": "remainder with the sign of y; whole numbers over 0 raise",
    "right_shift(x, y)": "bits of x moved y places down",
    "rint(x)": "nearest whole number, of two the even one",
    "sigmoid(x)": "1 / (1 + exp(-x)) without overflow",
    "sign(x)": "-1, 0 or 1; of NaN 0",
    "signbit(x)": "whether the sign bit is set",
    "sin(x)": "sine",
    "sinh(x)": "hyperbolic sine",
    "softplus(x)": "log(1 + exp(x)) without overflow",
    "sqrt(x)": "square root",
    "tan(x)": "tangent",
    "tanh(x)": "hyperbolic tangent",
    "trunc(x)": "next whole number towards 0",
    "trunc_divide(x, y)": "quotient rounded towards 0",
    "where(condition, x, y)": "x where the condition holds, y elsewhere",
    "zero_where(x, mask)": "0 where the mask holds, x elsewhere",
}

REDUCE = {
    "all(x, axis=None, keepdims=False)": "whether all are not 0",
    "amax(x, axis=None, keepdims=False)": "largest over axes",
    "amin(x, axis=None, keepdims=False)": "smallest over axes",
    "any(x, axis=None, keepdims=False)": "whether one is not 0",
    "argmax(x, axis, keepdims=False)": "position of the first largest along an axis",
    "argmin(x, axis, keepdims=False)": "position of the first smallest along an axis",
    "column_sums(x)": "sums over the rows of a matrix",
    "count_nonzero(x)": "how many are not 0",
    "prod(x, axis=None, keepdims=False)": "product over axes",
    "row_sums(x)": "sums over the columns of a matrix, as a column",
    "sum(x, axis=None, dtype=None, keepdims=False)": "sum over axes",
}

SCAN = {
    "argsort(x, axis, kind)": "positions in ascending order along an axis, stable",
    "cumprod(x, axis)": "running product",
    "cumsum(x, axis)": "running sum",
    "logcumsumexp(x, axis)": "logarithm of the running sum of exponentials",
    "running_max(x, axis)": "running maximum",
    "running_min(x, axis)": "running minimum",
    "scaled_cumsum(weights, inner, outer, axis)": "cumsum(weights * exp(inner)) * exp(outer)",
    "searchsorted(x, values, side)": "where the values would go into a sorted vector",
    "sort(x)": "in ascending order",
}

SHAPE = {
    "batch_first(x)": "the last axis moved to the front, row-major",
    "batch_last(x)": "the first axis moved to the end, row-major",
    "broadcast_to(x, shape)": "repeated along axes of length 1, to be read",
    "concatenate(parts, axis)": "joined along an axis",
    "diagonal(x, offset, axis1, axis2)": "a diagonal as the last axis",
    "expand(x, shape)": "repeated along axes of length 1, as a view",
    "expand_dims(x, axis)": "axes of length 1 inserted",
    "flip(x, axis)": "in reverse order along axes",
    "framed(x, shape, index, value)": "one number in a shape, with x at an index of slices",
    "from_windows(x, shape, first, kernel, stride, dilation)": "zeros of a shape with all windows added",
    "moveaxis(x, source, destination)": "one axis moved",
    "pad_to(x, shape)": "zeros of a shape with x in the corner of the first elements",
    "pieces(x, sizes, axis)": "consecutive pieces along an axis",
    "reshape(x, shape)": "the same elements, in row-major order, in another shape",
    "roll(x, shift, axis=None)": "shifted cyclically",
    "sliding(x, axis, size, step)": "windows along an axis as the last axis, as a view",
    "squeeze(x, axis)": "axes of length 1 removed",
    "stack(parts, axis=0)": "joined along a new axis",
    "swapaxes(x, axis1, axis2)": "two axes exchanged",
    "tile(x, repeats)": "repeated as a whole",
    "transpose(x, axes=None)": "axes in another order, by default reversed",
    "tril(x, offset=0)": "matrices with zeros above a diagonal",
    "triu(x, offset=0)": "matrices with zeros below a diagonal",
    "view_as(x, shape)": "reshape that is a view, or ValueError",
    "windows(x, first, kernel, stride, dilation)": "all windows as a view (Note [Windows])",
}

INDEX = {
    "add_at(x, index, values)": "x with values added at an index, repeated ones too",
    "diagonal_to_zeros(x, shape, offset, axis1, axis2)": "zeros of a shape with x on a diagonal",
    "one_hot(x, classes, dtype)": "a row of zeros with a one for each index",
    "pick(x, columns)": "one element of every row of a matrix",
    "put(x, index, values)": "x with values at an index",
    "put_along(x, indices, values, axis)": "x with values at indices along an axis",
    "put_diagonal(x, values, offset, axis1, axis2)": "x with values on a diagonal",
    "scatter_along_axis(x, shape, indices, axis, accumulate=False)": "zeros of a shape with x at indices along an axis",
    "scatter_reduce(x, axis, indices, values, reduce, include_self)": "x with what goes to one place combined",
    "scatter_to_zeros(x, shape, index)": "zeros of a shape with x added at an index",
    "take(x, indices, axis)": "slices along an axis",
    "take_along_axis(x, indices, axis)": "one chosen element along an axis for every place",
}

UNSIZED = {
    "nonzero(x)": "positions of what is not 0, an array for every axis",
    "unique(x, index, inverse, counts, axis, equal_nan)": "distinct elements, and what is asked for about them",
}
"""How large their results are depends on values, as of `x[mask]`."""

CREATE = {
    "arange(n)": "0, 1 ... n - 1",
    "array(x, order='K')": "a copy",
    "asarray(x, dtype=None)": "a number, a list or an array, also one of the host, as an array of this backend",
    "empty(shape, dtype)": "an array that is to be written",
    "empty_like(x)": "the same of the shape and dtype of another",
    "eye(n, dtype)": "identity matrix",
    "full(shape, value, dtype=None)": "one number throughout",
    "full_like(x, value)": "the same in the shape and dtype of another",
    "ones(shape, dtype)": "ones",
    "ones_like(x)": "ones in the shape and dtype of another",
    "zeros(shape, dtype)": "zeros",
    "zeros_like(x)": "zeros in the shape and dtype of another",
}

DRAWS = {
    "draw(generator, method, arguments, dtype)": "the next numbers of a generator, by a method of NumPy's",
    "random_bits(seed, step, layer, apart, first, count)": "16 bits for each address (Note [Counters of dropout])",
    "seed_of(generator)": "the number from which a generator started",
}

LINALG = {
    "cholesky(x)": "lower triangular factors; LinAlgError where there are none",
    "det(x)": "determinants",
    "eigh(x)": "eigenvalues and eigenvectors of symmetric matrices",
    "einsum(equation, *operands)": "sums of products named by subscripts",
    "inv(x)": "inverses; LinAlgError of singular matrices",
    "matmul(x, y)": "matrix product",
    "qr(x, mode)": "Q and R",
    "slogdet(x)": "signs of determinants and logarithms of their magnitudes",
    "solve(matrix, right)": "X with matrix @ X = right",
    "svd(x, full_matrices)": "U, S and Vh",
}

QUESTIONS = {
    "all_in_range(x, length)": "whether all indices are in [0, length); None where that is not known yet",
    "holds(mask)": "whether a condition holds throughout; None where that is not known yet",
    "indexable(shape, index)": "whether x[index] is there for an x of a shape; None where that is not known yet",
}

WRITES = {
    "add_into(x, values)": "x + values in the memory of x",
    "copyto(x, values, casting='same_kind')": "write values into x",
    "maximum_into(x, values)": "maximum(x, values) in the memory of x",
    "minimum_into(x, values)": "minimum(x, values) in the memory of x",
    "multiply_into(x, values)": "x * values in the memory of x",
    "write(x, values)": "values in the memory of x, rounded to its dtype",
}

LAYOUT = {
    "storage_offset(x)": "how many elements of its memory lie before x",
    "storage_size(x)": "how many elements its memory has room for",
}

MEMORY = {
    "empty_strided(shape, stride, dtype)": "an array of a stride, in elements, that is to be written",
    "gather_strided(x, shape, stride, offset)": "the elements of a vector where a geometry sees them",
    "receive(x, device)": "a copy of an array of any backend, here",
    "scatter_strided(x, size, stride, offset)": "a vector of zeros with x added where a geometry sees it",
    "synchronize()": "wait until all work is done",
    "to_numpy(x)": "the array on the host: whatever reads elements of a tensor asks for this first",
    "view_strided(x, shape, stride, offset)": "another view of the memory of x",
}


class Primitive(NamedTuple):
    """A row of the table."""

    name: str
    arguments: str
    section: str
    meaning: str


def _rows(section: str, meanings: Mapping[str, str]) -> dict[str, Primitive]:
    split = [(*form.removesuffix(")").split("(", 1), meaning) for form, meaning in meanings.items()]
    return {name: Primitive(name, arguments, section, meaning) for name, arguments, meaning in split}


PRIMITIVES: dict[str, Primitive] = {
    **_rows("operators", {form: spelling for form, (spelling, _) in OPERATORS.items()}),
    **_rows("elementwise", ELEMENTWISE),
    **_rows("reduce", REDUCE),
    **_rows("scan", SCAN),
    **_rows("shape", SHAPE),
    **_rows("index", INDEX),
    **_rows("unsized", UNSIZED),
    **_rows("create", CREATE),
    **_rows("draws", DRAWS),
    **_rows("linalg", LINALG),
    **_rows("questions", QUESTIONS),
    **_rows("writes", WRITES),
    **_rows("layout", LAYOUT),
    **_rows("memory", MEMORY),
}


class Column(dict[str, Callable[..., Any]]):
    """What every primitive means to one interpreter, by name; the operators are there from the start."""

    def __init__(self) -> None:
        super().__init__({form.partition("(")[0]: function for form, (_, function) in OPERATORS.items()})

    def define(self, name: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
        """Return a decorator that says: this function is what the primitive means here."""
        if name not in PRIMITIVES or name in self:
            raise ValueError(f"{name!r} is {'defined twice' if name in self else 'no primitive'}")

        def enter(function: Callable[..., Any]) -> Callable[..., Any]:
            self[name] = function
            return function

        return enter

    def fill(self, own: Mapping[str, Any], library: Any) -> None:
        """Enter a backend: for every primitive the function that its file defines, or the library's of that name."""
        for name in [name for name in PRIMITIVES if name not in self]:
            self[name] = own[name] if name in own else getattr(library, name)


class Namespace:
    """A column as an object: the `xp` of formulas. Its attributes are the column's functions themselves."""

    __slots__ = tuple(PRIMITIVES)

    def __init__(self, column: Column) -> None:
        for name, function in column.items():
            setattr(self, name, function)
