"""Configs drawn at random from the schema of configs: valid ones, and ones with something wrong in them."""

from __future__ import annotations

import copy
import json
import math
import random
from collections.abc import Iterator
from functools import cache
from typing import Any

from nanotorch.registry import DATASETS, METRICS
from nanotorch.train.config.loading import loads
from nanotorch.train.config.schema import schema
from nanotorch.train.config.sections import SweepSection
from nanotorch.train.config.strict_yaml import ConfigError

SMALL = {
    "epochs": 1,
    "folds": 2,
    "repeats": 2,
    "n_samples": 60,
    "n_features": 6,
    "width": 8,
    "blocks": 2,
    "n_informative": 3,
    "n_classes": 3,
    "n_clusters_per_class": 2,
    "n_redundant": 2,
    "n_repeated": 1,
    "n_targets": 2,
    "effective_rank": 4,
    "centers": 4,
}
"""Numbers up to which a value is drawn, so that a run takes no time."""
HOSTILE: list[Any] = [
    None,
    True,
    0,
    -1,
    1,
    10**9,
    10**9 + 1,
    2**63,
    10**400,
    0.5,
    -0.0,
    1e-320,
    1e308,
    -1e308,
    "",
    " ",
    "f1",
    "~",
    "\x1b[31m",
    "\u202e",
    "a\nb",
    "../..",
    "x" * 5000,
    "null",
    "1e3",
    [],
    [[]],
    [1],
    [0.5, 0.5],
    [None],
    ["f1"],
    [["f1"]],
    [1e308, -1e308],
    {},
    {"name": 1},
    {"a": {}},
    [{}],
    "hex",
    "inf",
]


def _size(shape: dict[str, Any]) -> tuple[float, float]:
    low = shape.get("minimum", shape.get("exclusiveMinimum", -10))
    high = shape.get("maximum", shape.get("exclusiveMaximum", math.inf))
    return low, high


class Draw:
    """One draw: the schema's shapes become values."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.whole = _schema()

    def value(self, shape: dict[str, Any], key: str = "") -> Any:
        """A value of a shape."""
        pick = self.random
        if "$ref" in shape:
            return self.value(self.whole["$defs"][shape["$ref"].rpartition("/")[2]], key)
        if "const" in shape:
            return shape["const"]
        if "enum" in shape:
            return pick.choice(shape["enum"])
        if "anyOf" in shape:
            return self.value(pick.choice(shape["anyOf"]), key)
        match shape.get("type"):
            case "null":
                return None
            case "boolean":
                return pick.random() < 0.5
            case "integer":
                low, high = _size(shape)
                return pick.randint(int(low), int(min(high, max(SMALL.get(key, 5), low))))
            case "number":
                return self._number(shape)
            case "string":
                return pick.choice(["auto", "cpu", "x", "loss"])
            case "array":
                return self._array(shape, key)
            case "object" if "properties" in shape:
                return self._object(shape)
        return {}

    def _number(self, shape: dict[str, Any]) -> float:
        low, high = _size(shape)
        if self.random.random() < 0.15 and "minimum" in shape:
            return low
        if self.random.random() < 0.1 and "maximum" in shape:
            return high
        if high == math.inf:
            return float(f"{max(low, 0) + 10 ** self.random.uniform(-4, 0.5):.3g}")
        return float(f"{low + (high - low) * self.random.uniform(0.05, 0.95):.3g}")

    def _array(self, shape: dict[str, Any], key: str) -> list[Any]:
        if "prefixItems" in shape:
            return [self.value(item, key) for item in shape["prefixItems"]]
        return [self.value(shape.get("items", {"type": "number"}), key) for _ in range(self.random.randint(0, 3))]

    def _object(self, shape: dict[str, Any]) -> dict[str, Any]:
        found = {}
        for key, inner in shape["properties"].items():
            if key in shape.get("required", ()) or key == "hidden" or self.random.random() < 0.3:
                found[key] = self.value(inner, key)
        return found

    def config(self) -> dict[str, Any]:
        """A config of data that are there, made so that it may well be valid."""
        here = [name for name in DATASETS if not {"download", "own"} & set(DATASETS.entry(name).facts)]
        found = self._object(
            {**self.whole, "properties": {k: v for k, v in self.whole["properties"].items() if k != "sweep"}}
        )
        for key in ("model", "optimizer", "train"):
            found[key] = self.value(self.whole["properties"][key]) if found.get(key) is None else found[key]
        while found["data"].get("name") not in here:
            found["data"] = self.value(self.whole["properties"]["data"])
        data = found["data"]
        for key in ("fold", "test_size", "validation_size") if self.random.random() < 0.8 else ():
            data.pop(key, None)
        if "n_samples" in data and self.random.random() < 0.8:
            data["n_samples"] = self.random.randint(40, 60)
        if data["name"] == "make_hastie_10_2":
            data["n_samples"] = 60
        train = found["train"]
        if train.get("metrics"):
            train["metrics"] = self.random.sample(list(METRICS), len(train["metrics"]))
        train["monitor"] = self.random.choice(["auto", "loss", *METRICS])
        train.setdefault("epochs", self.random.randint(1, 2))
        train["batch_size"] = self.random.choice([1, 7, 32, 10**6])
        found["name"], found["device"] = "drawn", "cpu"
        found.pop("output", None)
        return found

    def sweep(self) -> dict[str, Any]:
        """Two keys with some values to try, which the rest of a config may not allow."""
        axes = self.whole["$defs"]["sweep"]["properties"]
        keys = self.random.sample([key for key in axes if key not in SweepSection.model_fields], 2)
        lists = {key: self.value(axes[key]["anyOf"][0], key)[:2] for key in keys}
        return lists | ({"halving": 2} if self.random.random() < 0.4 else {})


@cache
def _schema() -> dict[str, Any]:
    return schema()


def valid_configs(count: int, seed: int = 0) -> Iterator[dict[str, Any]]:
    """Configs that the trainer takes for valid; what it refuses is drawn anew, each time with its reasons."""
    numbers = iter(range(seed, seed + 1000 * count))
    found = 0
    while found < count:
        config = Draw(next(numbers)).config()
        for _ in range(12):
            try:
                loads(json.dumps(config))
            except ConfigError as error:
                assert error.problems and all(problem.message for problem in error.problems)
                for problem in error.problems:  # leave out what it names, and it may do
                    section, _, key = problem.key.partition(".")
                    if key and section in config and isinstance(config[section], dict):
                        config[section].pop(key.partition(".")[0], None)
                    elif section not in ("data", "model", "loss", "name"):
                        config.pop(section, None)
                    if problem.key == "loss.name" or "loss" not in config or "name" not in config["loss"]:
                        config["loss"] = Draw(next(numbers)).value(_schema()["properties"]["loss"])
                    for part, fallback in (("optimizer", {"name": "SGD"}), ("train", {"epochs": 1, "batch_size": 8})):
                        config[part] = fallback | config.get(part, {})
            else:
                found += 1
                yield config
                break


def valid_sweeps(count: int, seed: int = 0) -> Iterator[dict[str, Any]]:
    """Configs with a sweep that the trainer takes for valid."""
    for config in valid_configs(count, seed):
        for number in range(seed, seed + 1000):
            swept = {**config, "sweep": Draw(number).sweep()}
            try:
                loads(json.dumps(swept))
            except ConfigError as error:
                assert error.problems and all(problem.message for problem in error.problems)
            else:
                yield swept
                break


def mutated_configs(count: int, seed: int = 0) -> Iterator[str]:
    """Texts of configs in which something was replaced, added, left out or garbled."""
    pick = random.Random(seed)
    sources = list(valid_configs(40, seed + 10**6))
    for _ in range(count):
        config = json.loads(json.dumps(pick.choice(sources)))
        for _ in range(pick.randint(1, 3)):
            places = list(_places(config))
            holder, key = pick.choice(places)
            match pick.randint(0, 5):
                case 0:
                    del holder[key]
                case 1 if isinstance(holder, dict):
                    holder[pick.choice(["name", "lr", "naem", "\x1b]0;x\x07", "", "a.b", "weight", "n_samples"])] = (
                        copy.deepcopy(pick.choice(HOSTILE))
                    )
                case 2:
                    holder[key] = [holder[key]]
                case _:
                    holder[key] = copy.deepcopy(pick.choice(HOSTILE))
            if not config:
                break
        text = json.dumps(config)
        if pick.random() < 0.25:
            at = pick.randrange(len(text) + 1)
            text = (
                text[:at]
                + pick.choice(["\t", ":", "{", "]", "&a ", "!!x ", "\\", '"', "\x07", "\u2028", "---\n", "#"])
                + text[at + pick.randint(0, 2) :]
            )
        yield text


def _places(value: Any) -> Iterator[tuple[Any, Any]]:
    keys = value if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ()
    for key in keys:
        yield value, key
        yield from _places(value[key])
