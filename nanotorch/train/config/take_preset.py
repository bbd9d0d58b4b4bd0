"""`preset: default` of a config: what it does not state is filled in by its table (Note [Preset])."""

from __future__ import annotations

from typing import Any

from nanotorch.train.config.joint_checks import check_all
from nanotorch.train.config.sections import Config
from nanotorch.train.config.strict_yaml import Node
from nanotorch.train.config.value_checks import Check
from nanotorch.train.data import datasets
from nanotorch.train.data.split import about_training_rows
from nanotorch.train.model.preset import preset


def take_preset(root: Node) -> None:
    """Fill in a config that says `preset: default` (Note [Preset]); a DataError says why its table cannot be read.

    Where the config is wrong, it is filled in for any table, so that its own checks find all that is.
    """
    stated = root.value.get("preset")
    if stated is None or stated.value != "default":
        return
    rough = root.copy()
    _fill(rough, {key: values for key, values in preset(1000, 10, "multiclass").items() if key != "loss"})
    config = check_all(Check(rough))
    if config is None:
        root.value = rough.value
        return
    _fill(root, preset(*size(config)))
    stated.value = "taken"


def size(config: Config) -> tuple[int, int, str]:
    """Return how many rows the training part of a config has, about, how many columns, and the task."""
    section = config.data
    table = datasets.load(section.name, section.arguments, config.seed or 0)
    rows = about_training_rows(table, section.test_size, section.validation_size)
    return rows, table.features.shape[1], table.task


def _fill(root: Node, sections: dict[str, Any]) -> None:
    """Put values where the config states none."""
    mark = root.value["preset"]
    for key, values in sections.items():
        section = root.value.setdefault(key, Node({}, mark.mark, mark.key))
        if isinstance(section.value, dict):
            named = section.value.get("name")
            if named is None or values.get("name") in (None, named.value):
                for name, value in values.items():
                    section.value.setdefault(name, _node(value, mark))


def _node(value: Any, place: Node) -> Node:
    return Node([_node(item, place) for item in value] if isinstance(value, list) else value, place.mark, place.key)
