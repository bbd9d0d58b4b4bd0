"""What a row says, read from its forward and its formulas: all that the writers of its code look at."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from types import FunctionType, MappingProxyType
from typing import Any

from nanotorch.autograd.graph.methods import TensorMethods
from nanotorch.autograd.graph.tensor import Tensor
from nanotorch.ops.rows.sample import Sample

TENSOR_KINDS = {"Array", "Index", "Mask", "Sequence[Array]"}
DIMENSIONS = {"dim", "dim0", "dim1", "dim2", "dimension"}


class Parameter:
    """One parameter of a row's forward, read from its annotation: kinds with `|` between them (Note [Op rows])."""

    def __init__(self, name: str, annotation: str, default: Any, keyword_only: bool) -> None:
        kinds = annotation.split(" | ")
        self.name, self.annotation, self.default, self.keyword_only = name, annotation, default, keyword_only
        self.public = "input" if name == "self" else name
        self.star = annotation == "Dims"
        self.dim = name in DIMENSIONS and not self.star
        self.new_dim = annotation == "NewDim"
        self.several = kinds[0].startswith("Dim") or any([kind.startswith("tuple[") for kind in kinds])
        self.many = kinds[0] == "Sequence[Array]"
        self.tensor = kinds[0] in TENSOR_KINDS
        self.value = self.many or kinds[0] == "Array"
        self.kinds = {"Index": "iu", "Mask": "b"}.get(kinds[0], "")
        self.fitting = "Fitting" in kinds
        self.cast = "Cast" in kinds
        self.scalar = self.fitting or (self.tensor and "Number" in kinds)
        self.optional = self.tensor and "None" in kinds


def parameters_of(forward: Callable[..., Any]) -> list[Parameter]:
    """Return the parameters of a row's forward but the first, which is `xp`.

    Like `names_of`, it reads the code object: `inspect.signature` takes fifty times as long, for all rows at import.
    """
    code, defaults, by_name = forward.__code__, forward.__defaults__ or (), forward.__kwdefaults__ or {}
    count, annotations = code.co_argcount, forward.__annotations__
    required = count - len(defaults)
    made = []
    for number, name in enumerate(code.co_varnames[1 : count + code.co_kwonlyargcount], 1):
        keyword_only = number >= count
        default = inspect.Parameter.empty
        if keyword_only:
            default = by_name.get(name, default)
        elif number >= required:
            default = defaults[number - required]
        made.append(Parameter(name, annotations.get(name, ""), default, keyword_only))
    return made


def names_of(formula: Callable[..., Any]) -> tuple[str, ...]:
    """Return the names of a formula's parameters."""
    return formula.__code__.co_varnames[: formula.__code__.co_argcount]


class Declaration:
    """An operator as its row declares it, and its functions, which have no code of their own before their first call.

    Attributes:
        name: its name in PyTorch.
        forward: the function on raw arrays.
        formulas: for every differentiable input its formula and the formula's parameter names.
        function: the compiled function on tensors.
        operation: what its operators call (Note [Operators] in `compiler.py`).
        variant: the in-place function, or None.
        flops: the function that counts its floating-point operations, or None.
        samples: the arguments that tests call it with.
    """

    def __init__(
        self,
        forward: Callable[..., Any],
        formulas: dict[str, Callable[..., Any]],
        *,
        samples: Sequence[Sample],
        cast: str | None,
        view: bool,
        inplace: bool,
        operators: str,
        outputs: str,
        node: str | None,
        overload: str,
        where: str,
        flops: Callable[..., int] | None,
        widens: bool,
    ) -> None:
        self.name = forward.__name__
        self.widens = widens
        self.forward = forward
        self.flops = flops
        self.samples = list(samples)
        self.cast, self.view, self.inplace, self.where, self.overload = cast, view, inplace, where, overload
        self.operators = operators.split()
        self.outputs = outputs.split()
        self.visible = [name for name in self.outputs if not name.startswith("_")]
        self.many_outputs = outputs == "list" or len(self.visible) > 1
        camel = "".join(part[:1].upper() + part[1:] for part in self.name.split("_"))
        self.node_name = node or f"{camel}Backward0"
        self._formulas = formulas
        self.namespace: dict[str, Any] = {"row": self}
        self.function = uncompiled(self, first_call, self.name, self.name)
        self.operation = self.function
        if self.operators and len(self.tensors) > 1:  # Note [Operators]
            name = self.operators[0]
            self.operation = uncompiled(self, first_operation, name, f"{TensorMethods.__name__}.{name}")
            self.operation.__module__ = TensorMethods.__module__
        self.variant: Callable[..., Tensor] | None = None

    # What follows is read when somebody needs it: a program uses few rows (Note [Compiled at the first call]).

    @cached_property
    def parameters(self) -> list[Parameter]:
        """The parameters of forward, without `xp`."""
        return parameters_of(self.forward)

    @cached_property
    def tensors(self) -> list[Parameter]:
        """The parameters that are tensors."""
        return [p for p in self.parameters if p.tensor]

    @cached_property
    def formulas(self) -> dict[str, tuple[Callable[..., Any], tuple[str, ...]]]:
        """For every differentiable input its formula and the formula's parameter names."""
        unknown = set(self._formulas) - {p.name for p in self.tensors}
        if unknown:
            raise TypeError(f"row {self.name}: formulas for {sorted(unknown)}, which are not tensor parameters")
        return {name: (formula, names_of(formula)) for name, formula in self._formulas.items()}

    @cached_property
    def saved(self) -> list[str]:
        """The names that formulas ask for."""
        return sorted({name for _, names in self.formulas.values() for name in names} - {"grad", "grads", "xp"})

    @property
    def public_name(self) -> str:
        """The name that users know: rows behind a composite, such as `_max_dim`, speak for it."""
        if self.where in ("linalg", "special"):
            return self.name.replace("_", ".", 1)
        return (
            self.name.strip("_").removesuffix("_dim").removesuffix("_all").removesuffix("_value")
            if self.name.startswith("_")
            else self.name
        )

    def arguments(self, args: Sequence[Any], kwargs: dict[str, Any]) -> dict[str, Any]:
        """Return the arguments that follow `xp` in a call of forward, by name."""
        return dict(zip([p.name for p in self.parameters], args, strict=False)) | kwargs


def uncompiled(row: Declaration, code: Callable[..., Any], name: str, qualname: str) -> FunctionType:
    """Return a function of a row that compiles it at its first call: its code is that of `code` until then."""
    function = FunctionType(code.__code__, row.namespace, name)
    function.__qualname__ = qualname  # pickle finds functions by it
    function.__doc__ = row.forward.__doc__
    function.__signature__ = PublicSignature(row)  # type: ignore[attr-defined]
    return function


class PublicSignature(inspect.Signature):
    """The signature of a public function, which is not written before its first call; read when somebody asks."""

    __slots__ = ("row",)

    def __init__(self, row: Declaration) -> None:
        super().__init__()
        self.row = row

    @property
    def parameters(self) -> Mapping[str, inspect.Parameter]:  # type: ignore[override]
        """The parameters by name."""
        made, only = [], False
        for p in self.row.parameters:
            if p.star:
                made.append(inspect.Parameter(f"{p.public}_", inspect.Parameter.VAR_POSITIONAL))
                made.append(inspect.Parameter(p.public, inspect.Parameter.KEYWORD_ONLY, default=None))
                only = True
                continue
            only = only or p.keyword_only
            kind = inspect.Parameter.KEYWORD_ONLY if only else inspect.Parameter.POSITIONAL_OR_KEYWORD
            made.append(inspect.Parameter(p.public, kind, default=p.default))
        return MappingProxyType({parameter.name: parameter for parameter in made})

    def replace(self, **changes: Any) -> inspect.Signature:  # type: ignore[override]
        """Return an ordinary signature that differs."""
        return inspect.Signature(list(self.parameters.values())).replace(**changes)


def first_call(*args: Any, **kwargs: Any) -> Any:
    """Compile the row and call its function: the code of every row's function at first."""
    row.compile()  # type: ignore[name-defined]  # noqa: F821  (a name of the namespace that the function gets)
    return row.function(*args, **kwargs)  # type: ignore[name-defined]  # noqa: F821


def first_operation(*args: Any) -> Any:
    """Compile what the row's operators call, and call it: the code of that function at first."""
    row.compiler.compile_operation()  # type: ignore[name-defined]  # noqa: F821
    return row.operation(*args)  # type: ignore[name-defined]  # noqa: F821
