"""The op row: one decorated function declares an operator, its derivatives, its variants and its tests.

Note [Op rows]
~~~~~~~~~~~~~~
A row is written like this::

    @op(
        self=lambda grad, other: grad * other,
        other=lambda grad, self: grad * self,
        cast="promote", inplace=True, operators="__mul__ __rmul__",
        samples=[sample(real(3, 2), real(2))],
    )
    def mul(xp, self: Array, other: Array | Number) -> Array:
        '''Elementwise product.'''
        return self * other

**forward** gets the array module `xp` of the device and raw arrays. Annotations say what a parameter is: `Array` (a
tensor that may carry gradients), `Index` (a tensor of integers), `Mask` (a tensor of booleans), `Sequence[Array]`;
`| Number` admits Python scalars, which wrap around as the operands of an integer dtype do, `| Fitting` those that the
dtype holds, `| Cast` a tensor of any dtype, which is cast to the first one's, `| None` makes it optional; `Dims` is a
tuple of ints that callers may also spread, as in `x.permute(1, 0)`; everything else is a plain argument. A parameter
named `dim`, `dim0` ... is a dimension of the first tensor, or several where its annotation says so, and is checked
(`dims.py`) before forward sees it; `NewDim` is a dimension of a result that has one more.

A keyword-only `dtype` says to which type the first input is cast, recorded, before `forward` sees it.

**Formulas** give the gradient of one input each. The names of a formula's parameters say what it needs, and exactly
that is saved: an input, `<input>_shape` (metadata, no memory held), `result` (or an output's name), a plain
argument, `grad`, `xp`. An output whose name starts with an underscore is seen by formulas only.

Forward and formulas use nothing but operators and `xp` (Note [Array primitives] in `backend/primitives.py`). So the
same text runs on raw arrays (eager forward and first-order backward) and on Tensors, with `xp` the column that
`tensors.py` begins: that is how `create_graph` differentiates derivatives without any further code.

A public function, though not a view, an operator or an in-place variant, takes `out=` too: the tensor, or the
tensors, that its result is written to (`write_out` in `inplace.py`).

**What follows from a row**: the function, the Tensor method, the operators, the in-place variant, the grad node with
PyTorch's name, type promotion (Note [Type promotion]), the device check, view tracking, documentation, and the tests,
which walk `ROWS`. Un-broadcasting of gradients happens in the generated backward, not in formulas.

**How**: interpreting rows on every call costs ten times what NumPy needs for a small product, so a row is compiled
once, at its first call, into straight-line Python: `declaration.py` reads what the row says, `function_code.py` and
`node_code.py` write the source of the function and of its node class from templates, `compiler.py` executes it, and
`row.source` keeps it for reading; `runtime.py` holds what that source calls, `inplace.py` the in-place variants.
"""

from __future__ import annotations

import operator
from collections import namedtuple
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any

from nanotorch.autograd.graph.locks import COMPILING
from nanotorch.autograd.graph.methods import TensorMethods
from nanotorch.autograd.graph.node import Node
from nanotorch.autograd.graph.tensor import Tensor
from nanotorch.ops.rows.compiler import Compiler
from nanotorch.ops.rows.declaration import Declaration
from nanotorch.ops.rows.function_code import public_parameters
from nanotorch.ops.rows.inplace import apply_inplace
from nanotorch.ops.rows.runtime import widening
from nanotorch.ops.rows.sample import Sample

Array = Any
Dims = Any
Index = Any
Mask = Any
NewDim = Any
Number = Any
Fitting = Any
Cast = Any

ROWS: dict[str, Row] = {}
COMPOSITES: dict[str, Composite] = {}


class Row(Declaration):
    """A declared operator with what follows from it: its compiled code, its node, the type of its outputs."""

    @cached_property
    def compiler(self) -> Compiler:
        """What writes the row's code, made at its first call (Note [Compiled at the first call])."""
        return Compiler(self)

    @cached_property
    def return_type(self) -> Any:
        """The type of several outputs."""
        return return_type(self, self.public_name.replace(".", "_"), self.visible) if len(self.visible) > 1 else tuple

    @property
    def node(self) -> type[Node] | None:
        """The class of its grad nodes, None where there is no derivative."""
        self.compile()
        return self.compiler.node

    @property
    def source(self) -> str:
        """The Python code that the row was compiled to so far."""
        self.compile()
        return self.compiler.source

    def compile(self) -> None:
        """Compile the row, unless that is done."""
        with COMPILING:  # which also lets one thread alone make the compiler
            self.compiler.compile()

    def signature(self) -> str:
        """Return the public signature, such as `sum(input, dim=None, keepdim=False)`."""
        return f"{self.name}({', '.join(public_parameters(self.parameters))})"


def return_type(row: Row, name: str, fields: Sequence[str]) -> Any:
    """Return the type of several outputs of a row: a named tuple that prints as PyTorch's do, and can be pickled."""
    fields_type = namedtuple(name, fields)  # type: ignore[misc]  # the names are data here

    def text(self: Any) -> str:
        values = ",\n".join(f"{field}={getattr(self, field)!r}" for field in fields)
        return f"torch.return_types.{name}(\n{values})"

    def reduce(self: Any) -> tuple[Any, ...]:
        return outputs_of, (row.name, tuple(self))

    fields_type.__repr__ = text  # type: ignore[method-assign]
    fields_type.__reduce__ = reduce  # type: ignore[method-assign]
    return fields_type


def return_types() -> dict[str, Any]:
    """Return the named tuples of all operators that users call, by the operators' names."""
    made = {row.return_type.__name__: row.return_type for row in ROWS.values() if len(row.visible) > 1}
    called = ("both", "method", "function", "linalg")
    public = {name for entries in (ROWS, COMPOSITES) for name, entry in entries.items() if entry.where in called}
    return {name: made[name] for name in sorted(public & set(made))}


def outputs_of(name: str, values: tuple[Any, ...]) -> Any:
    """Return the outputs of a row as its named tuple; the row goes into a pickle by its name."""
    return ROWS[name].return_type(*values)


def op(
    *,
    samples: Sequence[Sample] = (),
    cast: str | None = None,
    view: bool = False,
    inplace: bool = False,
    operators: str = "",
    outputs: str = "",
    node: str | None = None,
    overload: str = "",
    where: str = "both",
    flops: Callable[..., int] | None = None,
    widens: bool = True,
    **formulas: Callable[..., Any],
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Declare an op (Note [Op rows]).

    Args:
        samples: arguments that the tests call the op with.
        cast: None (operands must share the dtype), "promote" (bring them to a common one) or "float" (and a floating
            one).
        view: the result shares the memory of the first input.
        inplace: also make the variant with a trailing underscore.
        operators: names of the special methods to make, such as `"__mul__ __rmul__"`.
        outputs: names of several outputs; "list" for a varying number; a leading underscore hides one from the caller.
        node: the name of the grad node, where it is not the op's name in camel case with `Backward0`.
        overload: the argument with which PyTorch takes another overload: its node's name then ends in 1 instead of 0.
        where: "both", "method", "function" (of nanotorch), "functional" (of nn.functional), "linalg", "special" (of
            nanotorch.linalg, nanotorch.special, without the name's prefix) or "internal".
        flops: how many floating-point operations a call takes, where it is not one for every element
            (`ops/rows/flops.py`).
        widens: compute float16 in float32 (Note [Half precision]); False where the type itself matters.
        formulas: for every differentiable input the formula of its gradient.
    """

    def declare(forward: Callable[..., Any]) -> Callable[..., Any]:
        row = Row(
            forward,
            formulas,
            samples=samples,
            cast=cast,
            view=view,
            inplace=inplace,
            operators=operators,
            outputs=outputs,
            node=node,
            overload=overload,
            where=where,
            flops=flops,
            widens=widens,
        )
        if row.name in ROWS:
            raise ValueError(f"op {row.name!r} is declared twice")
        ROWS[row.name] = row
        function = row.function
        function.__module__ = forward.__module__
        attach(row.name, function, where, ())
        attach("", row.operation, "internal", row.operators)
        if inplace:

            def variant(input: Tensor, *args: Any, **kwargs: Any) -> Tensor:
                return apply_inplace(row, input, args, kwargs)

            name = row.name.lstrip("_") + "_"
            variant.__name__ = row.name + "_"
            # Where pickle finds it: there is no in-place function beside the op's, but a method or one of
            # nn.functional.
            functional = where in ("function", "functional")
            variant.__qualname__ = name if functional else f"{TensorMethods.__name__}.{name}"
            variant.__module__ = "nanotorch.nn.functional" if functional else TensorMethods.__module__
            variant.__doc__ = f"In-place version of `{row.name}`: {(forward.__doc__ or '').partition(chr(10))[0]}"
            row.variant = variant
            augmented = [f"__i{name[2:]}" for name in row.operators[:1]]  # `-x` has none, say
            special = [name for name in augmented if hasattr(operator, name)]
            attach(name, variant, "both" if where == "internal" else where, special)
        return function

    return declare


class Composite:
    """A function made of other ops, attached and tested like a row."""

    def __init__(self, function: Callable[..., Any], samples: Sequence[Sample], where: str) -> None:
        self.name, self.function, self.samples, self.where = function.__name__, function, list(samples), where
        self.alias_of = ""


def composite(
    *, samples: Sequence[Sample] = (), where: str = "both", operators: str = "", aliases: str = "", widens: bool = False
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Declare a function over tensors that is made of other ops: its derivative follows from theirs.

    One that computes in several steps says `widens`, so that float16 is rounded at its end only (Note [Half
    precision]).
    """

    def declare(function: Callable[..., Any]) -> Callable[..., Any]:
        if widens:
            function = widening(function)
        entry = Composite(function, samples, where)
        COMPOSITES[entry.name] = entry
        attach(entry.name, function, where, operators.split())
        return function

    return declare


def alias(name: str, of: str) -> Callable[..., Any]:
    """Give an op a second name: the same function, method and in-place variant, tested with its first sample."""
    entry = ROWS.get(of) or COMPOSITES[of]
    second = Composite(entry.function, entry.samples[:1], entry.where)
    second.name, second.alias_of = name, of
    COMPOSITES[name] = second
    attach(name, entry.function, entry.where, ())
    variant = getattr(TensorMethods, of + "_", None)
    if variant is not None:
        attach(name + "_", variant, "method", ())
    return entry.function


def attach(name: str, function: Callable[..., Any], where: str, operators: Sequence[str]) -> None:
    """Make a function a method of Tensor, and its operators."""
    if where in ("both", "method") and not name.startswith("_"):
        setattr(TensorMethods, name, function)
    for special in operators:
        setattr(TensorMethods, special, function)
