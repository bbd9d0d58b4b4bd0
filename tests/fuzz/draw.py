"""Draws calls: a sample of a row, changed at random in shapes, dtypes, memory, values and arguments.

What may be changed comes from the rows' own samples and signatures, so a new row is fuzzed without a further line.
"""

from __future__ import annotations

import inspect
import itertools
from collections import defaultdict
from dataclasses import replace
from typing import Any

import numpy as np

from nanotorch.autograd.graph.methods import TensorMethods
from nanotorch.ops.rows.row import COMPOSITES, ROWS
from nanotorch.ops.rows.sample import Drawn

from .calls import LAYOUTS, Call, DtypeArgument, TensorArgument
from .further import FURTHER

FLOATS = ("float16", "float32", "float64")
DTYPES = (*FLOATS, "int8", "int16", "int32", "int64", "uint8", "bool")
LENGTHS = (0, 1, 1, 2, 3, 4, 5, 8)
INTEGERS = (-4, -3, -2, -1, 0, 1, 2, 3, 4)
NUMBERS = (-2.0, -1.0, -0.5, 0.0, 0.25, 0.5, 1.0, 1.5, 2.0, 3.0, 10.0, float("inf"), float("-inf"), float("nan"))
SPECIAL = (0.0, -0.0, 1.0, -1.0, 0.5, 2.0, float("nan"), float("inf"), float("-inf"), 1e-30, 1e30, 300.0, -7.0)

ENTRIES = sorted(
    (e for e in (*ROWS.values(), *COMPOSITES.values(), *FURTHER.values()) if e.where != "internal" and e.samples),
    key=lambda entry: entry.name,
)
"""By name, so that a seed draws the same calls wherever the ops stand."""
TEXTS: dict[str, set[str]] = defaultdict(set)
"""Every text that some sample gives to a parameter of this name."""


def signature_of(entry: Any) -> dict[str, inspect.Parameter]:
    """The public parameters of an entry by name, the input first."""
    forward = getattr(entry, "forward", None)
    parameters = list(inspect.signature(forward or entry.function).parameters.values())
    return {p.name: p for p in parameters[1 if forward else 0 :]}


for _entry in ENTRIES:
    for _sample in _entry.samples:
        for _name, _value in [*zip(signature_of(_entry), _sample.args, strict=False), *_sample.kwargs.items()]:
            if isinstance(_value, str):
                TEXTS[_name].add(_value)


class Drawer:
    """Draws one call from a random generator."""

    def __init__(self, rng: np.random.Generator) -> None:
        self.rng = rng

    def choose(self, values: Any) -> Any:
        return values[int(self.rng.integers(len(values)))]

    def often(self, probability: float) -> bool:
        return bool(self.rng.random() < probability)

    def call(self) -> Call:
        """Draw an entry, one of its samples, and up to four changes."""
        entry = self.choose(ENTRIES)
        sample = self.choose(entry.samples)
        self.lengths = self.renamed_lengths(sample)
        self.dtype = self.choose(FLOATS) if self.often(0.5) else "float64"
        self.integral = self.often(0.06)
        self.special, self.scale = self.often(0.12), self.choose((1.0, 1.0, 1.0, 1.0, 1e-4, 1e3, 1e6))
        args = [self.argument(a) for a in sample.args]
        kwargs = {name: self.argument(a) for name, a in sample.kwargs.items()}
        form = self.form(entry) if args and self.holds_tensors(args[0]) else "function"
        call = Call(entry.name, form, tuple(args), kwargs)
        if self.often(0.3):
            call = self.counted_from_the_end(call, entry)
        for _ in range(self.choose((0, 0, 1, 1, 2))):
            call = self.changed(call, entry)
        return call

    def counted_from_the_end(self, call: Call, entry: Any) -> Call:
        """The call with its dimensions as negative numbers that mean the same."""
        ndim = max((t.array.ndim for t in call.tensors()), default=0)

        def turned(name: str, value: Any) -> Any:
            if "dim" not in name or isinstance(value, bool):
                return value
            if isinstance(value, list | tuple) and all(isinstance(v, int) for v in value):
                return type(value)(turned(name, v) for v in value)
            return value - ndim if isinstance(value, int) and 0 <= value < ndim else value

        args = tuple(
            turned(n, a)
            for n, a in itertools.zip_longest(list(signature_of(entry))[: len(call.args)], call.args, fillvalue="")
        )
        return replace(call, args=args, kwargs={n: turned(n, a) for n, a in call.kwargs.items()})

    def form(self, entry: Any) -> str:
        """Function, method or in place, as the entry offers."""
        if entry.name in FURTHER:
            return "inplace" if entry.name.endswith("_") else "function"
        forms = [] if entry.where == "method" else ["function"]
        if entry.where in ("both", "method"):
            forms.append("method")
        if hasattr(TensorMethods, entry.name + "_"):
            forms.append("inplace")
        return str(self.choose(forms or ["function"]))

    def renamed_lengths(self, sample: Any) -> dict[int, int]:
        """Other lengths for those of a sample, the same for the same, so that shapes still fit together."""
        drawn = [d for a in (*sample.args, *sample.kwargs.values()) for d in (a if isinstance(a, list) else [a])]
        lengths = {n for d in drawn if isinstance(d, Drawn) for n in d.shape}
        return {n: self.choose(LENGTHS) if self.often(0.25) else n for n in sorted(lengths)}

    def argument(self, argument: Any) -> Any:
        if isinstance(argument, list) and argument and isinstance(argument[0], Drawn):
            return [self.argument(a) for a in argument]
        return self.tensor(argument) if isinstance(argument, Drawn) else argument

    def tensor(self, drawn: Drawn) -> TensorArgument:
        """Draw a tensor like that of a sample, with other lengths, values, dtype and layout."""
        shape = tuple(self.lengths.get(n, n) for n in drawn.shape)
        shape = self.reshaped(shape)
        if drawn.kind == "edge":
            array = np.resize(np.asarray(drawn.values, np.float64), shape)
        elif drawn.kind in ("invertible", "positive definite") and (len(shape) < 2 or shape[-1] != shape[-2]):
            array = self.rng.uniform(-1, 1, shape)
        elif drawn.kind == "distinct" and not shape:
            array = self.rng.uniform(drawn.low, drawn.high, shape)
        else:
            array = np.asarray(replace(drawn, shape=shape).draw(self.rng))
        if array.dtype.kind == "f":
            array = array * self.scale
            if self.special and array.size and drawn.kind != "constant":
                array = np.where(self.rng.random(shape) < 0.4, self.rng.choice(SPECIAL, shape), array)
            dtype = self.dtype if self.often(0.97) else self.choose(DTYPES)
            if self.integral:
                dtype = self.choose(DTYPES[3:])
        else:
            dtype = array.dtype.name if self.often(0.93) else self.choose(DTYPES)
            if array.dtype.kind == "i" and self.often(0.06):
                array = array - self.rng.integers(0, 3, shape)
        if np.dtype(dtype).kind in "iub":
            limit = 1 if dtype == "bool" else 100
            array = np.clip(np.nan_to_num(array), -limit if dtype[0] == "i" else 0, limit)
        layout = self.choose(LAYOUTS) if self.often(0.3) else "contiguous"
        if layout == "expanded" and array.ndim and array.shape[-1]:
            array = np.broadcast_to(array[..., :1], array.shape).copy()
        floating = np.dtype(dtype).kind == "f"
        with np.errstate(over="ignore"):  # of 1e30 in half precision, which is infinity
            array = np.asarray(array.astype(dtype))
        return TensorArgument(array, layout, floating and drawn.kind != "constant" and self.often(0.85))

    def reshaped(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """Sometimes a shape that broadcasts, or has one dimension more or fewer."""
        if self.often(0.9):
            return shape
        way = self.choose(("one", "more", "fewer", "scalar"))
        if way == "one" and shape:
            at = int(self.rng.integers(len(shape)))
            return (*shape[:at], 1, *shape[at + 1 :])
        if way == "more":
            return (self.choose((1, 2)), *shape)
        return shape[1:] if way == "fewer" else ()

    def changed(self, call: Call, entry: Any) -> Call:
        """Change, add or leave out one plain argument."""
        signature = signature_of(entry)
        names = list(signature)
        plain = [k for k, a in enumerate(call.args) if k and not self.holds_tensors(a)]
        way = self.choose(("change", "change", "add", "leave out"))
        if way == "leave out" and call.kwargs:
            gone = self.choose(sorted(call.kwargs))
            return replace(call, kwargs={k: v for k, v in call.kwargs.items() if k != gone})
        if way == "add":
            taken = set(names[: len(call.args)]) | set(call.kwargs) | {"out", "generator", "device", "_stacklevel"}
            free = [p for n, p in signature.items() if n not in taken and p.default is not inspect.Parameter.empty]
            if free:
                parameter = self.choose(free)
                return replace(call, kwargs={**call.kwargs, parameter.name: self.plain(parameter)})
        if way == "change" and plain and (not call.kwargs or self.often(0.7)):
            at = self.choose(plain)
            name = names[at] if at < len(names) else ""
            args = [*call.args[:at], self.perturbed(call.args[at], name), *call.args[at + 1 :]]
            return replace(call, args=tuple(args))
        changeable = [k for k, v in call.kwargs.items() if not self.holds_tensors(v)]
        if way == "change" and changeable:
            name = self.choose(sorted(changeable))
            return replace(call, kwargs={**call.kwargs, name: self.perturbed(call.kwargs[name], name)})
        return call

    @staticmethod
    def holds_tensors(value: Any) -> bool:
        return isinstance(value, TensorArgument) or (
            isinstance(value, list | tuple) and any(isinstance(v, TensorArgument) for v in value)
        )

    def plain(self, parameter: inspect.Parameter) -> Any:
        """A value for a parameter that a sample leaves out, from its annotation, its default and its name."""
        annotation, default, name = str(parameter.annotation), parameter.default, parameter.name
        if name == "dtype" or "DType" in annotation:
            return DtypeArgument(self.choose(DTYPES))
        if isinstance(default, bool) or "bool" in annotation:
            return bool(self.often(0.5))
        if TEXTS[name]:
            return self.choose(sorted(TEXTS[name]))
        if "dim" in name.lower() or "int" in annotation or "Dim" in annotation:
            return self.choose(INTEGERS)
        if isinstance(default, float) or "float" in annotation or "Number" in annotation:
            return self.choose(NUMBERS)
        return self.perturbed(default, name)

    def perturbed(self, value: Any, name: str) -> Any:
        """Another value of the same kind, or now and then of another."""
        if isinstance(value, bool):
            return not value
        if isinstance(value, int):
            return self.choose(INTEGERS) if self.often(0.9) else None
        if isinstance(value, float):
            return self.choose(NUMBERS)
        if isinstance(value, str):
            return self.choose(sorted(TEXTS[name] | {"nothing"}))
        if isinstance(value, list | tuple) and all(isinstance(v, int) for v in value):
            changed = [self.choose(INTEGERS) if self.often(0.4) else v for v in value]
            return type(value)(changed[: self.choose((len(changed), len(changed), 1))])
        return value


def draw(seed: int, number: int) -> Call:
    """The call of a number: the same whatever was drawn before it."""
    return Drawer(np.random.default_rng((seed, number))).call()
