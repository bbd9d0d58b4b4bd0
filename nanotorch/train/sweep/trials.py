"""The trials of a sweep, each an ordinary config of one run (Note [Trials of a sweep]), and when the worse ones end."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, NamedTuple

from nanotorch.registry import describe_value
from nanotorch.train.config.joint_checks import check_all
from nanotorch.train.config.loading import epochs_of
from nanotorch.train.config.sections import Config
from nanotorch.train.config.strict_yaml import ConfigError, dump, parse
from nanotorch.train.config.sweep_checks import check_sweep, on_seeds
from nanotorch.train.config.value_checks import Check
from nanotorch.train.terminal.text_report import aligned, in_short, short

LONGEST_VALUE = 40


@dataclass(frozen=True, slots=True)
class Trial:
    """One of the runs of a sweep: its number from 1, the name of its directory,
    the swept values by key, and its config, which has no sweep.
    """

    number: int
    name: str
    values: dict[str, Any]
    config: Config


def trials(config: Config) -> list[Trial]:
    """Return the trials of a config, which must have a seed, in their order; none where it has no sweep.

    A ConfigError where one is not valid: of a config that `load` gave, only a seed drawn since can bring that about.
    """
    if config.sweep is None:
        return []
    assert config.seed is not None
    given = config.model_dump(mode="json", exclude_unset=True)
    root, _ = parse(dump(given), config.name)
    assert root is not None
    check = Check(root)
    check_all(check)
    made, problems = check_sweep(root, check)
    if problems:
        raise ConfigError.of(problems)
    return [Trial(number, f"trial-{number}", *values) for number, values in enumerate(made, start=1)]


MOST_SHOWN = 20


def listing(config: Config) -> str:
    """Return the trials of a config as text, of many the first ones."""
    found = trials(config)
    keys = in_short(found[0].values)
    lines = [["", *keys.values()]]
    for trial in found[:MOST_SHOWN]:
        lines.append([trial.name, *(short(describe_value(value), LONGEST_VALUE) for value in trial.values.values())])
    each = (config.train.folds or 1) * config.train.repeats
    text = f"{len(found):,} trials{f' of {each} runs' if each > 1 else ''}\n{aligned(lines)}"
    if len(found) > MOST_SHOWN:
        text += f"\n({len(found) - MOST_SHOWN:,} more)"
    for rung in rungs(config, len(found)):
        text += f"\nafter epoch {rung.epochs:,} the best {rung.kept:,} go on"
    return "\n".join(filter(None, [text, on_seeds(found[0].values)]))


class Rung(NamedTuple):
    """So many epochs after which so many of the best trials go on."""

    epochs: int
    kept: int


def rungs(config: Config, count: int) -> list[Rung]:
    """Return where successive halving of `count` trials drops the worse ones; none without it.

    `halving: 3` keeps the best third, rounded up, and gives it three times the epochs, until one trial is left or the
    epochs are those of `train.epochs`. It begins with `min_epochs`, or so that the last few reach `train.epochs`.

    >>> from nanotorch.train.config.loading import epochs_of, load
    >>> config = load("configs/digits_mlp.yaml", ["train.epochs=27", "sweep={halving: 3, trials: 10}",
    ...                                           "sweep.optimizer.lr.loguniform=[1e-4, 1e-1]"])
    >>> rungs(config, 10)
    [Rung(epochs=3, kept=4), Rung(epochs=9, kept=2)]
    """
    if config.sweep is None or config.sweep.halving is None:
        return []
    factor, whole, epochs = config.sweep.halving, epochs_of(config), config.sweep.min_epochs
    if epochs is None:
        times = 0
        while factor ** (times + 1) <= count:
            times += 1
        epochs = math.ceil(whole / factor**times)
    found = []
    while epochs < whole and count > 1:
        count = math.ceil(count / factor)
        found.append(Rung(epochs, count))
        epochs *= factor
    return found
