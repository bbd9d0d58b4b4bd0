"""What the arguments of the estimators may be: checked when `fit` is called, as scikit-learn asks."""

from __future__ import annotations

import math
import numbers
from collections.abc import Mapping
from typing import Any

import numpy as np

from nanotorch.registry import ACTIVATIONS, LOSSES, OPTIMIZERS, SCHEDULERS, Between, Registry, UnknownNameError, closest

POSITIVE, NOT_NEGATIVE = Between(0, low_open=True), Between(0)
NUMBERS = {
    "alpha": NOT_NEGATIVE,
    "learning_rate_init": POSITIVE,
    "power_t": NOT_NEGATIVE,
    "tol": NOT_NEGATIVE,
    "momentum": Between(0, 1),
    "validation_fraction": Between(0, 1, low_open=True, high_open=True),
    "beta_1": Between(0, 1, high_open=True),
    "beta_2": Between(0, 1, high_open=True),
    "epsilon": POSITIVE,
    "dropout": Between(0, 1, high_open=True),
    "label_smoothing": Between(0, 1),
}
OPTIONAL_NUMBERS = {"clip_norm": POSITIVE, "clip_value": POSITIVE, "ema": Between(0, 1, low_open=True, high_open=True)}
COUNTS = ("max_iter", "accumulate")
SWITCHES = ("shuffle", "warm_start", "nesterovs_momentum", "early_stopping", "batch_norm")
CHOICES = {
    "solver": ("adam", "sgd"),
    "learning_rate": ("constant", "invscaling", "adaptive"),
    "dtype": ("float32", "float64"),
}
NAMED = {"optimizer": OPTIMIZERS, "schedule": SCHEDULERS}
ACTIVATION_NAMES = {"identity": "Identity", "logistic": "Sigmoid", "tanh": "Tanh", "relu": "ReLU"}


def check(arguments: Mapping[str, Any]) -> None:
    """Raise a ValueError that names the first argument which cannot be used, what it may be, and what it is."""
    for name, value in arguments.items():
        if name in NUMBERS or (name in OPTIONAL_NUMBERS and value is not None):
            allowed = NUMBERS.get(name) or OPTIONAL_NUMBERS[name]
            if not _is_number(value) or value not in allowed:
                raise _unfit(name, f"a number {allowed.describe()}", value)
        elif name in COUNTS and not _is_count(value):
            raise _unfit(name, "an integer >= 1", value)
        elif name in SWITCHES and not isinstance(value, bool | np.bool_):
            raise _unfit(name, "True or False", value)
        elif name in CHOICES and value not in CHOICES[name]:
            hint = "; there is no second-order solver here" if value == "lbfgs" else ""
            raise _unfit(name, " or ".join(map(repr, CHOICES[name])), value, hint)
        elif name in NAMED and value is not None:
            named(name, value, NAMED[name])
        elif name == "batch_size" and value != "auto" and not _is_count(value):
            raise _unfit(name, "'auto' or an integer >= 1", value)
        elif name == "n_iter_no_change" and value != math.inf and not _is_count(value):
            raise _unfit(name, "an integer >= 1, or infinity", value)
        elif name == "random_state" and _is_number(value) and not (_is_integer(value) and 0 <= value < 2**32):
            raise _unfit(name, "None, an integer from 0 to 2**32 - 1, or a RandomState", value)
        elif name == "class_weight" and not (value is None or isinstance(value, Mapping) or value == "balanced"):
            raise _unfit(name, "None, 'balanced', or a dict from classes to numbers", value)
        elif name == "activation":
            activation_name(value)
        elif name == "hidden_layer_sizes":
            hidden_widths(value)
        elif name == "loss" and value != "squared_error":
            named(name, value, LOSSES)
            tasks = LOSSES.entry(named(name, value, LOSSES)[0]).facts.get("tasks", ("regression",))
            if "regression" not in tasks:
                raise _unfit(name, "'squared_error' or a loss for regression", value)
    if arguments["schedule"] is not None and arguments["learning_rate"] != "constant":
        raise ValueError(
            f"learning_rate={arguments['learning_rate']!r} is a schedule of its own: leave it 'constant' where "
            "`schedule` is given"
        )


def hidden_widths(sizes: Any) -> list[int]:
    """The widths of the hidden layers; a single number is a single layer."""
    widths = list(sizes) if np.iterable(sizes) and not isinstance(sizes, str) else [sizes]
    if not all(map(_is_count, widths)):
        raise _unfit("hidden_layer_sizes", "integers >= 1", sizes)
    return [int(width) for width in widths]


def activation_name(name: Any) -> str:
    """The registered name of an activation, from that name or scikit-learn's."""
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
    """A NumPy number, as grids of arguments hold them, as Python's."""
    return value.item() if isinstance(value, np.generic) else value


def _is_number(value: Any) -> bool:
    return isinstance(value, numbers.Real) and not isinstance(value, bool | np.bool_)


def _is_integer(value: Any) -> bool:
    return isinstance(value, numbers.Integral) and not isinstance(value, bool)


def _is_count(value: Any) -> bool:
    return _is_integer(value) and value >= 1


def _unfit(name: str, expected: str, value: Any, hint: str = "") -> ValueError:
    return ValueError(f"{name} must be {expected}, got {value!r}{hint}")
