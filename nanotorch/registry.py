"""Names in a config resolve here, and only here: one registry per kind, filled where the thing is defined.

A registered class or function is its own schema: the trainer validates a YAML section against the callable's
signature, so annotate every argument, with a range where the type alone says too little:

>>> from typing import Annotated
>>> from nanotorch.registry import Between, Registry
>>> SHAPES = Registry("shape", supplied=("canvas",))
>>> @SHAPES.register
... def circle(canvas: object, radius: Annotated[float, Between(0, low_open=True)] = 1.0) -> str:
...     "A round one."
...     return f"circle of radius {radius}"
>>> SHAPES.names()
['circle']
>>> SHAPES.describe("circle")
'circle(radius=1.0 (float > 0))  A round one.'
>>> SHAPES.get("Circle")
Traceback (most recent call last):
    ...
nanotorch.registry.UnknownNameError: unknown shape 'Circle' (did you mean 'circle'?)
"""

from __future__ import annotations

import inspect
import types
import typing
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Annotated, Any, Literal, NamedTuple, TypeVar, Union, get_args, get_origin, overload

Registered = TypeVar("Registered", bound=Callable[..., Any])


# ------------------------------------------------------------ markers for signatures

MOST = 10**9
"""The bound of a config's counts that state none: more rows, epochs or layers than that are a slip of the pen."""


@dataclass(frozen=True, slots=True)
class Between:
    """The values allowed for a number, or for each number of a list: `Annotated[float, Between(0, 1)]`.

    A bound of None is no bound (in a config, a whole number then ends at `MOST`); `low_open` and `high_open` exclude
    the bound itself. NaN and infinities are never inside a range.
    """

    low: float | None = None
    high: float | None = None
    low_open: bool = False
    high_open: bool = False

    def __contains__(self, value: float) -> bool:
        """Return whether `value` is inside the range.

        >>> 0.0 in Between(0, 1, low_open=True), 1 in Between(0, 1), float("inf") in Between(0)
        (False, True, False)
        """
        if not -float("inf") < value < float("inf"):
            return False
        above = self.low is None or (value > self.low if self.low_open else value >= self.low)
        below = self.high is None or (value < self.high if self.high_open else value <= self.high)
        return above and below

    def describe(self) -> str:
        """Return the range in words for an error message or a listing.

        >>> Between(0).describe(), Between(0, 1, high_open=True).describe(), Between(0, 1).describe()
        ('>= 0', '>= 0 and < 1', '>= 0 and <= 1')
        """
        low = [] if self.low is None else [f"{'>' if self.low_open else '>='} {self.low}"]
        high = [] if self.high is None else [f"{'<' if self.high_open else '<='} {self.high}"]
        return " and ".join(low + high)

    def __get_pydantic_core_schema__(self, source: Any, handler: Callable[[Any], Any]) -> Any:
        """Pydantic asks a marker for this: its schema of the type, with the bounds at every number in it."""
        bounds = {} if self.low is None else {"gt" if self.low_open else "ge": self.low}
        bounds |= {} if self.high is None else {"lt" if self.high_open else "le": self.high}

        def bounded(schema: Any) -> Any:
            match schema:
                case list():
                    return [bounded(part) for part in schema]
                case {"type": "int"}:
                    return {"ge": -MOST, "le": MOST, **schema, **bounds}
                case {"type": "float"}:
                    return schema | bounds
                case {"type": "list" | "tuple" | "union" | "nullable"}:
                    inner = {"items_schema", "choices", "schema"} & set(schema)
                    return schema | {key: bounded(schema[key]) for key in inner}
            return schema

        return bounded(handler(source))


PositiveInt = Annotated[int, Between(1)]
NonNegativeInt = Annotated[int, Between(0)]
PositiveFloat = Annotated[float, Between(0, low_open=True)]
NonNegativeFloat = Annotated[float, Between(0)]
Probability = Annotated[float, Between(0, 1)]  # 0 and 1 included: dropout, label smoothing, a share of noise
Fraction = Annotated[float, Between(0, 1, low_open=True, high_open=True)]  # a proper part: a split, a decay


# ------------------------------------------------------------ registries


class UnknownNameError(KeyError):
    """A name that no registry entry has; the message says which name was probably meant."""

    def __str__(self) -> str:
        """Return the message without the quotes that KeyError would add."""
        return str(self.args[0])


def closest(name: str, candidates: Iterable[str]) -> str | None:
    """Return the candidate that `name` was probably meant to be, ignoring case, or None if none is near.

    >>> closest("adamw", ["SGD", "Adam", "AdamW"]), closest("lrr", ["lr", "betas"]), closest("x", ["lr"])
    ('AdamW', 'lr', None)
    """
    by_folded: dict[str, str] = {}
    for candidate in candidates:
        by_folded.setdefault(_fold(candidate), candidate)
    folded = _fold(name)
    if folded in by_folded:
        return by_folded[folded]
    import difflib  # needed for a wrong name alone, and read from the disk in a hundredth of NumPy's time

    near = difflib.get_close_matches(folded, by_folded, n=1, cutoff=0.7)
    if near:
        return by_folded[near[0]]
    longer = [known for known in by_folded if len(folded) >= 3 and folded in known]
    return by_folded[min(longer, key=len)] if longer else None


def _fold(name: str) -> str:
    return name.casefold().replace("-", "_").replace("_", "")


class Argument(NamedTuple):
    """An argument that a config may give to a registered callable."""

    name: str
    annotation: Any
    default: Any

    @property
    def required(self) -> bool:
        """Whether the config has to give it."""
        return self.default is inspect.Parameter.empty

    def __str__(self) -> str:
        """`name=default (type)`, as it stands in a listing."""
        default = "" if self.required else f"={describe_value(self.default)}"
        return f"{self.name}{default} ({describe_type(self.annotation)})"


class Entry(NamedTuple):
    """A registered callable, and the facts that its registration stated (such as a loss's `tasks`)."""

    name: str
    target: Callable[..., Any]
    facts: Mapping[str, Any]


@cache
def _arguments(target: Callable[..., Any], supplied: tuple[str, ...]) -> tuple[Mapping[str, Argument], list[str]]:
    """Return the arguments of a callable but for those that are supplied, and which of them have no annotation."""
    function: Any = target.__init__ if inspect.isclass(target) else inspect.unwrap(target)
    kinds = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    kept = {
        parameter.name: parameter
        for parameter in inspect.signature(target).parameters.values()
        if parameter.name not in supplied and parameter.kind in kinds
    }
    bare = [parameter for parameter in kept if kept[parameter].annotation is inspect.Parameter.empty]
    unresolved = types.SimpleNamespace(__annotations__={key: kept[key].annotation for key in kept if key not in bare})
    hints = typing.get_type_hints(unresolved, getattr(function, "__globals__", {}), include_extras=True)
    return {key: Argument(key, hints[key], kept[key].default) for key in hints}, bare


@dataclass(slots=True, eq=False)
class Registry:
    """The names of one kind of thing, each with the class or function it stands for.

    `kind` is the word used in messages; `supplied` are the arguments that the trainer gives itself (the
    parameters of an optimizer, the width of a model's input) and that a config therefore does not have.
    """

    kind: str
    supplied: tuple[str, ...] = ()
    entries: dict[str, Entry] = field(default_factory=dict)
    withheld: dict[str, str] = field(default_factory=dict)

    @overload
    def register(self, name: Registered, /) -> Registered: ...

    @overload
    def register(self, name: str | None = None, /, **facts: Any) -> Callable[[Registered], Registered]: ...

    def register(self, name: Any = None, /, **facts: Any) -> Any:
        """Decorate a class or function so that configs can name it; returns it unchanged.

        `@R.register` takes the name from the object, `@R.register("name")` gives another one, and keywords
        state facts that checks need before anything is built: `@LOSSES.register(tasks=("multiclass",))`. A
        name that is already taken is a ValueError.
        """
        if callable(name):
            return self._add(name.__name__, name, facts)

        def decorate(target: Registered) -> Registered:
            return self._add(name or target.__name__, target, facts)

        return decorate

    def withhold(self, reason: str) -> Callable[[Registered], Registered]:
        """Decorate what people will look for and configs cannot name; the reason completes a sentence on its name."""

        def decorate(target: Registered) -> Registered:
            self.withheld[target.__name__] = reason
            return target

        return decorate

    def _add(self, name: str, target: Registered, facts: Mapping[str, Any]) -> Registered:
        taken = self.entries.get(name)
        if taken is not None and taken.target is not target:
            raise ValueError(f"{self.kind} {name!r} is already registered: {taken.target!r}")
        self.entries[name] = Entry(name, target, facts)
        return target

    def entry(self, name: str) -> Entry:
        """Return the entry of that name; an UnknownNameError suggests the nearest one."""
        if name in self.withheld:
            raise UnknownNameError(f"{self.kind} {name!r} {self.withheld[name]}")
        if name not in self.entries:
            near = closest(name, self.entries)
            known = ", ".join(self.names()) or "none is registered"
            hint = f"did you mean {near!r}?" if near else f"known: {known}"
            raise UnknownNameError(f"unknown {self.kind} {name!r} ({hint})")
        return self.entries[name]

    def get(self, name: str) -> Callable[..., Any]:
        """Return the class or function of that name; an UnknownNameError suggests the nearest one."""
        return self.entry(name).target

    def names(self) -> list[str]:
        """Return all registered names, sorted without regard to case."""
        return sorted(self.entries, key=lambda name: (name.casefold(), name))

    def arguments(self, name: str) -> dict[str, Argument]:
        """Return the arguments a config may give for that name, with annotations resolved and markers kept.

        An argument without an annotation is a TypeError: the signature is the schema and has to say it all. The one
        that a fact `length` names is how long something lasts: left out, it is as long as the run.
        """
        target = self.get(name)
        found, bare = _arguments(target, self.supplied)
        if bare:
            raise TypeError(f"{self.kind} {name!r}: its argument {bare[0]!r} has no annotation")
        length = self.entry(name).facts.get("length")
        if length is None:
            return dict(found)
        return {**found, length: Argument(length, Union[found[length].annotation, None], None)}  # noqa: UP007

    def lasting(self, name: str, arguments: Mapping[str, Any], steps: int) -> dict[str, Any]:
        """Return the arguments for that name with the length of a run of so many steps, where they state none."""
        length = self.entry(name).facts.get("length")
        if length is None or any(arguments.get(key) is not None for key in (length, "epochs", "steps_per_epoch")):
            return dict(arguments)
        return {**arguments, length: steps}

    def describe(self, name: str) -> str:
        """Return one line for a listing: the name, its arguments, and the first line of its docstring."""
        listed = ", ".join(map(str, self.arguments(name).values()))
        return f"{name}({listed})  {self.summary(name)}".rstrip()

    def summary(self, name: str) -> str:
        """Return the first line of its docstring."""
        return (inspect.getdoc(self.get(name)) or "").partition("\n")[0]

    def __contains__(self, name: object) -> bool:
        """Return whether the name is registered."""
        return name in self.entries

    def __iter__(self) -> Iterator[str]:
        """Return the registered names, sorted."""
        return iter(self.names())

    def __len__(self) -> int:
        """Return how many names are registered."""
        return len(self.entries)


class Checked(NamedTuple):
    """Marks an argument that a function looks at: it returns what was given,
    or raises a ValueError that says what is wrong.
    """

    check: Callable[[Any], Any]

    def __get_pydantic_core_schema__(self, source: Any, handler: Callable[[Any], Any]) -> Any:
        """Pydantic asks a marker for this: the schema of the type, then `check`."""
        return {
            "type": "function-after",
            "function": {"type": "no-info", "function": self.check},
            "schema": handler(source),
        }


class NameIn(NamedTuple):
    """Marks a string argument as a name of a registry: `activation: Annotated[str, NameIn(ACTIVATIONS)]`."""

    registry: Registry

    def check(self, name: str) -> str:
        """Return the name itself if it is registered, else a ValueError with a suggestion."""
        try:
            return self.registry.entry(name).name
        except UnknownNameError as error:
            raise ValueError(str(error)) from None

    def __get_pydantic_core_schema__(self, source: Any, handler: Callable[[Any], Any]) -> Any:
        """Pydantic asks a marker for this: the schema of a string, then `check`."""
        check = {"type": "no-info", "function": self.check}
        return {"type": "function-after", "function": check, "schema": handler(source)}

    def __get_pydantic_json_schema__(self, core_schema: Any, handler: Callable[[Any], Any]) -> Any:
        """Pydantic asks a marker for this too: in JSON Schema, the names are an enumeration."""
        return {"type": "string", "enum": self.registry.names()}


def describe_type(annotation: Any) -> str:
    """Return an annotation as a reader of a config would say it.

    >>> describe_type(PositiveInt), describe_type(list[float] | None), describe_type(Literal["mean", "sum"])
    ('int >= 1', 'list of float or null', "'mean' or 'sum'")
    """
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        inner, *markers = arguments
        words = [describe_type(inner)]
        for marker in markers:
            if isinstance(marker, Between):
                words.append(marker.describe())
            elif isinstance(marker, NameIn):
                words = [f"name of a registered {marker.registry.kind}"]
        return " ".join(words)
    if origin in (Union, types.UnionType):
        return " or ".join(dict.fromkeys(map(describe_type, arguments)))
    if origin is Literal:
        return " or ".join(repr(argument) for argument in arguments)
    if origin is dict:
        return f"a mapping of {describe_type(arguments[0])} to {describe_type(arguments[1])}"
    if origin in (list, tuple) or (inspect.isclass(origin) and issubclass(origin, Iterable)):
        kept = [argument for argument in arguments if argument is not Ellipsis]
        inner = " or ".join(dict.fromkeys(describe_type(argument) for argument in kept))
        size = f"{len(kept)} " if origin is tuple and Ellipsis not in arguments else ""
        return f"list of {size}{inner}"
    if annotation is type(None):
        return "null"
    plain_words = {"bool": "true or false", "str": "string", "Tensor": "list of float"}
    name = getattr(annotation, "__name__", str(annotation))
    return plain_words.get(name, name)


def describe_value(value: Any) -> str:
    """Return a value as it would stand in a config.

    >>> describe_value((0.9, None, True, "cosine")), describe_value({"name": "Adam", "lr": 0.1})
    ('[0.9, null, true, cosine]', '{name: Adam, lr: 0.1}')
    """
    if isinstance(value, Mapping):
        return f"{{{', '.join(f'{key}: {describe_value(inner)}' for key, inner in value.items())}}}"
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(map(describe_value, value))}]"
    if value is None or isinstance(value, bool):
        return "null" if value is None else str(value).lower()
    return str(value)


DATASETS = Registry("dataset")
MODELS = Registry("model", supplied=("in_features", "out_features", "numeric", "kind", "device", "dtype", "generator"))
LOSSES = Registry("loss", supplied=("task", "sizes", "reduction", "size_average", "reduce"))
OPTIMIZERS = Registry("optimizer", supplied=("params",))
SCHEDULERS = Registry("scheduler", supplied=("optimizer", "last_epoch", "scale_fn", "scale_mode"))
ACTIVATIONS = Registry("activation", supplied=("inplace", "device", "dtype"))
INITIALIZATIONS = Registry("initialization", supplied=("weight", "gain"))
METRICS = Registry("metric", supplied=("truth", "predicted"))
