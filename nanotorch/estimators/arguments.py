"""What the arguments of the estimators may be: their annotations, checked when `fit` is called."""

from __future__ import annotations

import functools
import math
import numbers
import types
import typing
from collections.abc import Callable, Mapping
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import numpy as np

from nanotorch.registry import (
    ACTIVATIONS,
    LOSSES,
    OPTIMIZERS,
    SCHEDULERS,
    Between,
    Checked,
    Registry,
    UnknownNameError,
    closest,
)

ACTIVATION_NAMES = {"identity": "Identity", "logistic": "Sigmoid", "tanh": "Tanh", "relu": "ReLU"}


def check(arguments: Mapping[str, Any], constructor: Callable[..., None]) -> None:
    """Raise a ValueError that names the first argument which cannot be used, what it may be, and what it is.

    What each may be is its annotation in the constructor: `bool`, `Literal`, a number `Between` bounds, `Checked` by a
    function that raises itself, or several of these joined by `|`; whatever else is not looked at here.
    """
    every = _kinds(constructor)
    for name, value in arguments.items():
        kinds = every[name]
        if not any(_admits(kind, value) for kind in kinds):
            raise _unfit(name, " or ".join(_in_words(kind) for kind in kinds if kind is not type(None)), value)
    if arguments["schedule"] is not None and arguments["learning_rate"] != "constant":
        raise ValueError(
            f"learning_rate={arguments['learning_rate']!r} is a schedule of its own: leave it 'constant' where "
            "`schedule` is given"
        )


@functools.cache
def _kinds(constructor: Callable[..., None]) -> dict[str, tuple[Any, ...]]:
    """Return for each argument of a constructor the kinds of values that its annotation joins."""
    hints = typing.get_type_hints(constructor, include_extras=True)
    return {
        name: get_args(hint) if get_origin(hint) in (Union, types.UnionType) else (hint,)
        for name, hint in hints.items()
    }


def _admits(kind: Any, value: Any) -> bool:
    """Return whether a value is of one kind of an annotation."""
    inner, *markers = get_args(kind) if get_origin(kind) is Annotated else (kind,)
    for marker in markers:
        if isinstance(marker, Checked):
            marker.check(value)
        elif not (_is_integer if inner is int else _is_number)(value) or value not in marker:
            return False
    if inner is bool:
        return isinstance(value, bool | np.bool_)
    return value in get_args(inner) if get_origin(inner) is Literal else value is None or inner is not type(None)


def _in_words(kind: Any) -> str:
    if kind is bool:
        return "True or False"
    if get_origin(kind) is Literal:
        return " or ".join(map(repr, get_args(kind)))
    number, allowed = get_args(kind)
    return f"{'an integer' if number is int else 'a number'} {allowed.describe()}"


# ------------------------------------------------------------ arguments that no range describes


def hidden_widths(sizes: Any) -> list[int]:
    """Return the widths of the hidden layers; a single number is a single layer."""
    widths = list(sizes) if np.iterable(sizes) and not isinstance(sizes, str) else [sizes]
    if not all(map(_is_count, widths)):
        raise _unfit("hidden_layer_sizes", "integers >= 1", sizes)
    return [int(width) for width in widths]


def solver_name(name: Any) -> None:
    """Refuse what is no solver."""
    if name not in ("adam", "sgd"):
        hint = "; there is no second-order solver here" if name == "lbfgs" else ""
        raise _unfit("solver", "'adam' or 'sgd'", name, hint)


def patience(epochs: Any) -> None:
    """Refuse what is no number of epochs to wait for."""
    if epochs != math.inf and not _is_count(epochs):
        raise _unfit("n_iter_no_change", "an integer >= 1, or infinity", epochs)


def random_state(state: Any) -> None:
    """Refuse numbers that are no seed; scikit-learn looks at the rest."""
    if _is_number(state) and not (_is_integer(state) and 0 <= state < 2**32):
        raise _unfit("random_state", "None, an integer from 0 to 2**32 - 1, or a RandomState", state)


def class_weight(weight: Any) -> None:
    """Refuse what weighs no classes."""
    if not (weight is None or isinstance(weight, Mapping) or weight == "balanced"):
        raise _unfit("class_weight", "None, 'balanced', or a dict from classes to numbers", weight)


def regression_loss(loss: Any) -> None:
    """Refuse what is no loss of a regression."""
    if loss == "squared_error":
        return
    tasks = LOSSES.entry(named("loss", loss, LOSSES)[0]).facts.get("tasks", ("regression",))
    if "regression" not in tasks:
        raise _unfit("loss", "'squared_error' or a loss for regression", loss)


def activation_name(name: Any) -> str:
    """Return the registered name of an activation, from that name or scikit-learn's."""
    if not isinstance(name, str):
        raise _unfit("activation", "a name such as 'relu' or 'GELU'", name)
    return ACTIVATION_NAMES.get(name) or _resolved("activation", name, ACTIVATIONS)


def named(argument: str, value: Any, registry: Registry) -> tuple[str, dict[str, Any]]:
    """Name and arguments of what is given as "AdamW", or as {"name": "AdamW", "weight_decay": 0.01}."""
    if isinstance(value, str):
        return _resolved(argument, value, registry), {}
    if not isinstance(value, Mapping) or not isinstance(value.get("name"), str):
        raise _unfit(argument, f"a name, or a dict with a name, such as {{'name': {next(iter(registry))!r}}}", value)
    name = _resolved(argument, value["name"], registry)
    rest = {key: _plain(item) for key, item in value.items() if key != "name"}
    known = {*registry.arguments(name), *(("interval",) if argument == "schedule" else ())}
    for key in rest:
        if key not in known:
            near = closest(str(key), known)
            hint = f"did you mean {near!r}?" if near else f"its arguments are: {', '.join(sorted(known))}"
            raise ValueError(f"{argument}: {name} has no argument {key!r} ({hint})")
    return name, rest


def _resolved(argument: str, name: str, registry: Registry) -> str:
    folded = {known.casefold(): known for known in registry}
    try:
        return folded.get(name.casefold()) or registry.entry(name).name
    except UnknownNameError as error:
        raise ValueError(f"{argument}: {error}") from None


def _plain(value: Any) -> Any:
    """Return a NumPy number, as grids of arguments hold them, as Python's."""
    return value.item() if isinstance(value, np.generic) else value


def _is_number(value: Any) -> bool:
    return isinstance(value, numbers.Real) and not isinstance(value, bool | np.bool_)


def _is_integer(value: Any) -> bool:
    return isinstance(value, numbers.Integral) and not isinstance(value, bool)


def _is_count(value: Any) -> bool:
    return _is_integer(value) and value >= 1


def _unfit(name: str, expected: str, value: Any, hint: str = "") -> ValueError:
    return ValueError(f"{name} must be {expected}, got {value!r}{hint}")


Widths = Annotated[Any, Checked(hidden_widths)]
Activation = Annotated[str, Checked(activation_name)]
Solver = Annotated[str, Checked(solver_name)]
Patience = Annotated[float, Checked(patience)]
RandomState = Annotated[Any, Checked(random_state)]
ClassWeight = Annotated[Any, Checked(class_weight)]
RegressionLoss = Annotated[Any, Checked(regression_loss)]
OptimizerName = Annotated[Any, Checked(lambda value: value is None or named("optimizer", value, OPTIMIZERS))]
ScheduleName = Annotated[Any, Checked(lambda value: value is None or named("schedule", value, SCHEDULERS))]
Beta = Annotated[float, Between(0, 1, high_open=True)]
DropoutRate = Annotated[float, Between(0, 1, high_open=True)]
