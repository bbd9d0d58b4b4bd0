"""From a file to a config: `load` gives a checked and frozen `Config`, or every mistake at once.

No data is loaded, unless for a preset, and no model is built; what costs nothing to make (a loss, an optimizer of one
number, its schedule) is made, so that what it refuses is known with the line.
"""

from __future__ import annotations

import os
import re
import secrets
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from nanotorch.train.config.joint_checks import check_all
from nanotorch.train.config.sections import Config, NamedSection, run_name
from nanotorch.train.config.strict_yaml import (
    LARGEST_TEXT,
    ConfigError,
    KeyPath,
    Node,
    Problem,
    dump,
    override,
    parse,
    read,
    show,
)
from nanotorch.train.config.sweep_axes import flatten
from nanotorch.train.config.sweep_checks import check_sweep
from nanotorch.train.config.take_preset import take_preset
from nanotorch.train.config.value_checks import Check
from nanotorch.utils.files import open_own

DECIDED = ("epochs", "batch_size", "monitor")  # keys of `train` that a table may decide


def load(path: str | Path, overrides: Sequence[str] = ()) -> Config:
    """Return the config of a file (`-` is standard input), with overrides such as "optimizer.lr=3e-3".

    Whatever is wrong raises one ConfigError that lists it all.
    """
    return loads(read(path), "<stdin>" if str(path) == "-" else str(path), overrides)


def loads(text: str, source: str = "<config>", overrides: Sequence[str] = ()) -> Config:
    """Return the config of a text; `source` stands for the file's name in messages."""
    root, problems = parse(text, source)
    if root is None or not isinstance(root.value, dict):
        keys = f"expected the keys of a config ({', '.join(Config.model_fields)})"
        if root is not None:
            problems = [Problem(root.mark, "", f"{keys}, got {show(root.value)}")]
        elif not problems:
            raise ConfigError(f"{source}: this is empty; {keys}")
        raise ConfigError.of(problems)
    problems += _override(root, overrides)
    root.value.setdefault("name", Node(name_of_file(source), root.mark, root.mark))
    take_preset(root)
    check = Check(root)
    config = check_all(check)
    problems += check.problems
    if check.is_given(("sweep",)):
        problems += check_sweep(root, check)[1]
    if problems or config is None:
        raise ConfigError.of(problems)
    return config


def name_of_file(file: str) -> str:
    """Return what a run is called where nobody says: as the file of its config, or of its table, is.

    >>> name_of_file("tables/New prices (2).csv"), name_of_file("<stdin>"), name_of_file("con.yaml")
    ('New_prices_2', 'stdin', 'run_con')
    """
    name = re.sub(r"\W+", "_", Path(file).stem).strip("_")[:50] or "run"
    try:
        return run_name(name)
    except ValueError:
        return f"run_{name}"


def _override(root: Node, overrides: Sequence[str]) -> list[Problem]:
    """Put the overrides into a tree, one after the other; returns what is wrong with them."""
    problems = flatten(root)
    for assignment in overrides:
        problems += override(root, assignment) + flatten(root)
    return problems


def located(path: KeyPath, message: str, text: str, source: str, overrides: Sequence[str] = ()) -> ConfigError:
    """Return what the data say against one key of a config, which by itself is valid,
    as an error with the key's line.
    """
    root, _ = parse(text, source)
    assert root is not None
    _override(root, overrides)
    swept = root.value["sweep"].value if root.value.get("sweep") else None
    tried = [swept.get(".".join(map(str, path[:depth]))) for depth in range(len(path), 0, -1)] if swept else []
    node = next((node for node in tried if node is not None), root.nearest(path)[0])
    said = message.removeprefix(".".join(map(str, path[:2]))).removeprefix(":").lstrip()
    return ConfigError.of([Problem(node.mark, ".".join(map(str, path)), said)])


def read_resolved(path: Path, overrides: Sequence[str] = ()) -> Config:
    """Return the config that a run left, as `resolved` wrote it, in a plain file."""
    try:
        os.close(open_own(path, os.O_RDONLY))
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from None
    return loads(read(path, LARGEST_TEXT), str(path), overrides)


def with_seed(config: Config, seed: int | None = None) -> Config:
    """Return the config with a seed: where it has none,
    with the one given or else one drawn from the system's entropy.
    """
    if config.seed is not None:
        return config
    return config.model_copy(update={"seed": secrets.randbits(32) if seed is None else seed})


def settled_as(config: Config, before: Config) -> Config:
    """Return the config with what a table decided for a run, where it leaves that open."""
    decided = [key for key in DECIDED if getattr(config.train, key) == "auto"]
    return with_training(config, {key: getattr(before.train, key) for key in decided})


def with_training(config: Config, values: Mapping[str, Any]) -> Config:
    """Return the config with these values of its section `train`."""
    return config.model_copy(update={"train": config.train.model_copy(update=values)}) if values else config


def epochs_of(config: Config) -> int:
    """Return the epochs of a config; a ValueError where its table is still to decide."""
    return _decided(config.train.epochs, "epochs")


def batch_size_of(config: Config) -> int:
    """Return the rows of a batch; a ValueError where the table is still to decide."""
    return _decided(config.train.batch_size, "batch_size")


def _decided(value: int | str, key: str) -> int:
    if not isinstance(value, int):
        raise ValueError(f"train.{key} is still to be decided; nanotorch.train.fit.decided.settled does it")
    return value


def resolved(config: Config) -> str:
    """YAML that states every value of the config, defaults included: loading it gives an equal config."""
    values = config.model_dump(mode="json")
    for key, section in config:
        if isinstance(section, NamedSection):
            first = {name: values[key][name] for name in ("name", *section.argument_names)}
            values[key] = first | values[key]
            if section.name in section.name_of_key.values():
                del values[key]["name"]
            if config.sweep is not None and f"{key}.name" in config.sweep.axes:  # other names have other defaults
                values[key] = {name: values[key][name] for name in values[key] if name in section.model_fields_set}
    return dump(values)
