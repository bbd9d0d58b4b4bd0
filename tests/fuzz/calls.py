"""A call as a value: what it is made of, how either library runs it, and the program that one can paste."""

from __future__ import annotations

import functools
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from nanotorch.ops.rows.row import COMPOSITES, ROWS

from .further import FURTHER

LAYOUTS = ("contiguous", "transposed", "sliced", "expanded")


@dataclass(frozen=True)
class TensorArgument:
    """A tensor: its elements, how they lie in memory, and whether it requires grad."""

    array: np.ndarray[Any, Any]
    layout: str = "contiguous"
    requires_grad: bool = False

    def base(self) -> np.ndarray[Any, Any]:
        """The elements as they lie in memory, before the view of `view` is taken."""
        if self.layout == "transposed":
            return np.ascontiguousarray(self.array.transpose())
        if self.layout == "sliced":
            return np.repeat(self.array, 2, axis=-1) if self.array.ndim else self.array
        if self.layout == "expanded":
            return self.array[..., :1].copy() if self.array.ndim and self.array.shape[-1] else self.array
        return self.array

    def view(self, tensor: Any) -> Any:
        """The tensor with its elements in order, as a view of one that holds `base`."""
        if not self.array.ndim or self.layout == "contiguous":
            return tensor
        if self.layout == "transposed":
            return tensor.permute(*range(self.array.ndim)[::-1])
        return tensor[..., ::2] if self.layout == "sliced" else tensor.expand(self.array.shape)

    @property
    def text(self) -> str:
        """The expression that makes the leaf, for `lib` of either library."""
        base = self.base()
        grad = ", requires_grad=True" if self.requires_grad else ""
        values = repr(base.tolist()).replace("nan", "float('nan')").replace("inf", "float('inf')")
        made = f"lib.tensor({values}, dtype=lib.{base.dtype.name}"
        return f"{made}).reshape({base.shape}){'.requires_grad_()' * bool(grad)}" if not base.size else f"{made}{grad})"

    @property
    def view_text(self) -> str:
        """What `view` does, as text."""
        if not self.array.ndim or self.layout == "contiguous":
            return ""
        if self.layout == "transposed":
            return f".permute{tuple(range(self.array.ndim)[::-1])}"
        return "[..., ::2]" if self.layout == "sliced" else f".expand({self.array.shape})"


@dataclass(frozen=True)
class DtypeArgument:
    """A dtype, by its name in both libraries."""

    name: str


@dataclass(frozen=True)
class Call:
    """One call of one operator: as a function, a method or in place."""

    name: str
    form: str
    args: tuple[Any, ...]
    kwargs: dict[str, Any] = field(default_factory=dict)

    def arguments(self) -> list[Any]:
        return [*self.args, *self.kwargs.values()]

    def tensors(self) -> list[TensorArgument]:
        flat = [v for a in self.arguments() for v in (a if isinstance(a, list | tuple) else [a])]
        return [v for v in flat if isinstance(v, TensorArgument)]

    def mapped(self, change: Any) -> Call:
        """The call with every tensor replaced by what `change` gives for it."""

        def over(a: Any) -> Any:
            if isinstance(a, TensorArgument):
                return change(a)
            if isinstance(a, list | tuple) and any(isinstance(v, TensorArgument) for v in a):
                return type(a)(over(v) for v in a)
            return a

        return replace(
            self, args=tuple(over(a) for a in self.args), kwargs={k: over(v) for k, v in self.kwargs.items()}
        )

    def cast(self, dtype: Any) -> Call:
        """The call with its floating-point tensors in another dtype."""
        return self.mapped(lambda t: replace(t, array=t.array.astype(dtype)) if t.array.dtype.kind == "f" else t)

    def program(self) -> str:
        """The call as a program to paste, which prints values and gradients of both libraries."""
        names: dict[int, str] = {}
        lines = []

        def written(a: Any) -> str:
            if isinstance(a, TensorArgument):
                name = f"x{len(names)}"
                names[len(names)] = name
                lines.append(f"    {name} = {a.text}")
                if a.requires_grad:
                    leaves.append(name)
                return name + a.view_text
            if isinstance(a, list | tuple) and any(isinstance(v, TensorArgument) for v in a):
                return f"[{', '.join(written(v) for v in a)}]"
            if isinstance(a, DtypeArgument):
                return f"lib.{a.name}"
            return repr(a).replace("inf", "float('inf')").replace("nan", "float('nan')")

        leaves: list[str] = []
        given = [written(a) for a in self.args] + [f"{k}={written(v)}" for k, v in self.kwargs.items()]
        entry = entry_of(self.name)
        if self.name in FURTHER:
            given[:1] = [given[0] + ".clone()" * (self.form == "inplace")] if given else []
            call = f"lib.{self.name}({', '.join(given)})"
        elif self.form == "function":
            spaces = {"functional": "lib.nn.functional.", "linalg": "lib.linalg.", "special": "lib.special."}
            call = spaces.get(entry.where, "lib.") + self.name.removeprefix(f"{entry.where}_")
            call += f"({', '.join(given)})"
        else:
            clone = ".clone()" * (self.form == "inplace")
            call = f"({given[0]}){clone}.{self.name}{'_' * (self.form == 'inplace')}({', '.join(given[1:])})"
        lines.append(f"    y = {call}")
        if leaves:
            lines.append("    outputs = [o for o in (y if isinstance(y, (tuple, list)) else [y]) if o.requires_grad]")
            lines.append("    seeds = [(lib.arange(o.numel()) % 7 + 1).reshape(o.shape).to(o.dtype) for o in outputs]")
            lines.append(f"    return y, lib.autograd.grad(outputs, [{', '.join(leaves)}], seeds, allow_unused=True)")
        else:
            lines.append("    return y")
        body = "\n".join(lines)
        return f"import nanotorch, torch\n\ndef run(lib):\n{body}\n\nprint(run(nanotorch))\nprint(run(torch))"


def entry_of(name: str) -> Any:
    """The row or composite of a name."""
    return ROWS.get(name) or COMPOSITES.get(name) or FURTHER[name]


def find(library: Any, call: Call) -> Any:
    """The function, method or in-place method of a library, None where it has none."""
    entry = entry_of(call.name)
    if call.name in FURTHER:
        return functools.reduce(getattr, call.name.split("."), library)
    if call.form != "function":
        return getattr(library.Tensor, call.name + "_" * (call.form == "inplace"), None)
    if entry.where in ("linalg", "special"):
        return getattr(getattr(library, entry.where), call.name.removeprefix(f"{entry.where}_"), None)
    if entry.where == "functional":
        return getattr(library.nn.functional, call.name, None)
    return getattr(library, call.name, None) or getattr(library.nn.functional, call.name, None)


class Run:
    """The arguments of a call as tensors of a library, and the function of these tensors."""

    def __init__(self, library: Any, call: Call) -> None:
        self.library, self.call = library, call
        self.leaves: list[Any] = []
        self.function = find(library, call)
        self.args = [self._make(a) for a in call.args]
        self.kwargs = {name: self._make(a) for name, a in call.kwargs.items()}

    def _make(self, argument: Any) -> Any:
        if isinstance(argument, TensorArgument):
            tensor = self.library.from_numpy(np.array(argument.base(), order="C"))
            if argument.requires_grad:
                self.leaves.append(tensor.requires_grad_())
            return argument.view(tensor)
        if isinstance(argument, list | tuple) and any(isinstance(v, TensorArgument) for v in argument):
            return [self._make(v) for v in argument]
        return getattr(self.library, argument.name) if isinstance(argument, DtypeArgument) else argument

    def __call__(self) -> list[Any]:
        """Run the call; return its outputs as a list."""
        args = list(self.args)
        if self.call.form == "inplace":
            args[0] = args[0].clone()
        result = self.function(*args, **self.kwargs)
        return list(result) if isinstance(result, tuple | list) else [result]
