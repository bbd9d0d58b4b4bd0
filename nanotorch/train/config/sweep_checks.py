"""The checks of a sweep: what may be swept, and every trial as the config that it is (Note [Trials of a sweep])."""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from nanotorch.registry import describe_value
from nanotorch.train.config.joint_checks import MOST_RUNS, check_all
from nanotorch.train.config.sections import Config
from nanotorch.train.config.strict_yaml import Mark, Node, Problem
from nanotorch.train.config.sweep_axes import Axis, axes, combinations, covering
from nanotorch.train.config.value_checks import Check
from nanotorch.train.terminal.text_report import MOST_PROBLEMS

OTHER_DATA = "the trials would be of other data, and their scores could not be compared"
NO_RESULT = "it does not change what a trial computes"
NO_RATE = ", as scheduler.max_lr states the rates: sweep that instead, or leave it out of OneCycleLR's keys"
FIXED = {
    "name": "a sweep has one name, and every trial a directory of its own in it",
    "output": "all trials are in the directory of the sweep",
    "device": "all trials are trained on one device",
    "sweep": "a sweep does not hold another",
    "train": "sweep one of its keys, such as train.batch_size",
    "train.folds": "every trial is cross-validated, and the mean over its folds counts",
    "train.repeats": "every trial is repeated, and the mean counts; sweep.seed makes trials of seeds",
    "train.monitor": "one score ranks the trials",
    "train.metrics": NO_RESULT,
    "train.compile": NO_RESULT,
    "checkpoint": NO_RESULT,
    "log": NO_RESULT,
    "data.fold": "train.folds cross-validates every trial",
}
SWEPT_OF_DATA = ("standardize", "standardize_target", "categories", "numeric", "categorical", "drop")


class Values(NamedTuple):
    """A trial: its values by key, and the config that they make."""

    values: dict[str, Any]
    config: Config


def check_sweep(root: Node, check: Check) -> tuple[list[Values], list[Problem]]:
    """Return the trials of a config whose own check is given, and what is wrong with the sweep."""
    section, (given, at) = root.value["sweep"], root.nearest(("seed",))
    if not isinstance(section.value, dict):
        return [], []
    seed = given.value if at and type(given.value) is int else 0
    repeats = check.value("train", "repeats")
    found, problems = axes(section, seed, repeats if type(repeats) is int and repeats > 0 else 1)
    _explain_missing(check, found)
    misplaced = dict(_misplaced(found, check))
    problems += misplaced.values()
    found = [axis for axis in found if axis.key not in misplaced]
    trials, halving = check.value("sweep", "trials"), check.value("sweep", "halving")
    if not problems:
        problems += _counts(section, found, trials, check)
    if not found:
        return [], problems
    base = Node({key: node for key, node in root.value.items() if key != "sweep"}, root.mark, root.key)
    drawn = covering(found) if problems else combinations(found, trials, seed)
    made, wrong = _Trials(base, found, section, check.problems).all(drawn)
    if not problems and not wrong:
        if trials is not None and len(made) < trials:
            message = f"only {len(made)} different trials were drawn; sweep more values, or ask for fewer trials"
            problems.append(_at(section, "trials", message))
        if halving is not None and len(made) < halving:
            problems.append(
                _at(
                    section, "halving", f"one of {halving} trials goes on, and there are only {len(made)}: leave it out"
                )
            )
    return made, problems + wrong


def _at(section: Node, key: str, message: str) -> Problem:
    """Return a problem of an option of the section; where it is not given, of the section."""
    node = section.value.get(key)
    return Problem(section.key if node is None else node.mark, f"sweep.{key}" if node else "sweep", message)


def _explain_missing(check: Check, found: Iterable[Axis]) -> None:
    """Say of what the config lacks that to give it in the sweep is not enough."""
    swept = {axis.key for axis in found}
    for index, problem in enumerate(check.problems):
        if problem.key in swept and problem.message.startswith("required key is missing"):
            message = f"{problem.message}; a sweep varies a config that is valid without it: give a value here as well"
            check.problems[index] = Problem(problem.mark, problem.key, message)


def refused(key: str) -> str | None:
    """Return why a key is not to be swept in any config, or None."""
    section, _, rest = key.partition(".")
    reason = FIXED.get(key, None if section in ("train", "data") else FIXED.get(section))
    if section == "data" and reason is None and rest.partition(".")[0] not in SWEPT_OF_DATA:
        return OTHER_DATA if rest else "sweep one of its keys, such as data.standardize"
    return reason


def changes_loss(key: str) -> bool:
    """Return whether the losses of trials that differ in a key measure different things."""
    return key.partition(".")[0] == "loss" or key == "data.standardize_target"


def on_seeds(keys: Collection[str]) -> str:
    """Return what is to be known of the scores of a sweep of these keys; empty where all are of the same rows."""
    if "seed" not in keys:
        return ""
    return (
        "Trials of another seed are judged on other rows, as the seed decides the split:\n"
        "the best may have easier ones. train.repeats ranks by the mean over seeds."
    )


def _misplaced(found: Iterable[Axis], check: Check) -> Iterator[tuple[str, Problem]]:
    """Yield the keys that no sweep varies, and those that do not go together with the rest of the config."""
    by_loss, halves = check.value("train", "monitor") == "loss", check.value("sweep", "halving") is not None
    drops_rows = check.value("data", "missing") == "drop_rows"
    for axis in found:
        reason = refused(axis.key)
        if axis.key == "train.epochs" and halves:
            reason = "halving decides how many epochs a trial is trained; leave out one of the two"
        if by_loss and changes_loss(axis.key):
            reason = (
                "the validation loss ranks the trials, and this changes what it measures; rank them by another score,"
                " as train.monitor"
            )
        if axis.key == "data.drop" and drops_rows:
            reason = (
                "rows that lack a value are left out (data.missing: drop_rows), and without a column others do: the"
                " trials would be of other rows; data.missing: impute keeps all of them"
            )
        if reason is not None:
            yield axis.key, Problem(axis.node.key, f"sweep.{axis.key}", f"this cannot be swept: {reason}")


def _counts(section: Node, found: list[Axis], trials: int | None, check: Check) -> Iterator[Problem]:
    """Report too many trials, none, and options that are of no use."""
    if not found:
        example = "optimizer.lr: [1e-3, 1e-2]"
        yield _at(section, "", f"nothing is swept: add a key with the values to try, such as {example}")
    for axis in found:
        if trials is None and axis.distribution is not None:
            message = (
                "values are drawn from a distribution only where it is said how often: add trials, such as trials: 20"
            )
            yield Problem(axis.node.mark, f"sweep.{axis.key}", message)
    count = math.prod(axis.count for axis in found)
    if trials is not None and trials > count:
        message = f"there are only {count:,.0f} combinations, and none is drawn twice; leave out trials to try them all"
        yield _at(section, "trials", message)
    each = (check.value("train", "folds") or 1) * (check.value("train", "repeats") or 1)
    runs = (count if trials is None else trials) * each
    if math.isfinite(runs) and runs > MOST_RUNS:
        what = f"{runs:,.0f} runs" if each == 1 else f"{runs / each:,.0f} trials of {each} runs"
        advice = "; trials: 100 draws some of them" if trials is None else ""
        yield _at(section, "trials", f"these are {what}, and a config makes at most {MOST_RUNS:,}{advice}")
    smallest, epochs = check.value("sweep", "min_epochs"), check.value("train", "epochs")
    if smallest is not None and check.value("sweep", "halving") is None:
        yield _at(section, "min_epochs", "this is for halving, which is not given")
    elif smallest is not None and epochs is not None and smallest >= epochs:
        yield _at(section, "min_epochs", f"expected fewer than the {epochs} epochs of a whole trial, got {smallest}")


class _Trials:
    """Makes the trials one by one, and keeps each mistake once, however many trials it is in."""

    def __init__(self, base: Node, found: list[Axis], section: Node, known: Iterable[Problem]) -> None:
        self.base, self.axes = base, found
        self.order = sorted(range(len(found)), key=lambda index: found[index].key.count("."))  # whole sections first
        self.seen = {(problem.mark, problem.key) for problem in known}
        self.problems: list[Problem] = []
        self.inside = set(_marks(section))
        self.bounds = {node.mark for axis in found if (d := axis.distribution) and not d.whole for node in axis.choices}

    def all(self, drawn: Iterable[tuple[Node, ...]]) -> tuple[list[Values], list[Problem]]:
        """Return every trial and every mistake; after as many as are shown, no more are looked for."""
        made: list[Values] = []
        alike: dict[str, tuple[Node, ...]] = {}
        for nodes in drawn:
            if not made and not self.problems:
                self._bounds(nodes)
            config = self.config(nodes)
            if config is not None:
                made.append(Values(self._given(nodes), config))
                first = alike.setdefault(config.model_dump_json(), nodes)
                if first is not nodes:
                    self._report_twice(nodes, first)
                elif _has_peak(config):
                    first = alike.setdefault(config.model_dump_json(exclude={"optimizer": {"lr"}}), nodes)
                    if first is not nodes:
                        self._report_twice(nodes, first, NO_RATE)
            if len(self.problems) > MOST_PROBLEMS:
                break
        return made, self.problems

    def _bounds(self, first: tuple[Node, ...]) -> None:
        """Look at the bounds of each distribution: whether a value is wrong must not depend on what is drawn."""
        for index, axis in enumerate(self.axes):
            for value, said in axis.bounds():
                before = len(self.problems)
                if self.config((*first[:index], value, *first[index + 1 :])) is None and len(self.problems) > before:
                    del self.problems[before:]
                    self.seen = {seen for seen in self.seen if seen[0] != value.mark}
                    self.config((*first[:index], said, *first[index + 1 :]))
                    self.seen.add((axis.node.mark, axis.key))

    def config(self, nodes: tuple[Node, ...]) -> Config | None:
        """Return the config of one trial, or None where it is not valid."""
        tree = self.base.copy()
        for index in self.order:
            key = self.axes[index].key
            message = tree.put(key, nodes[index].copy())
            if message is not None:
                self._report(Problem(nodes[index].key, f"sweep.{key}", message), nodes)
                return None
        check = Check(tree)
        config = check_all(check)
        for problem in check.problems:
            self._report(problem, nodes)
        return config

    def _given(self, nodes: tuple[Node, ...]) -> dict[str, Any]:
        return {axis.key: node.plain() for axis, node in zip(self.axes, nodes, strict=True)}

    def _report_twice(self, nodes: tuple[Node, ...], first: tuple[Node, ...], why: str = "") -> None:
        """Report a trial whose config is that of another one, where its values are others."""
        differing = [index for index, (one, other) in enumerate(zip(nodes, first, strict=True)) if one is not other]
        key, mark = self.axes[differing[0]].key, nodes[differing[0]].mark
        given, other = _listed(self._given(nodes)), _listed(self._given(first))
        message = f"the trial with {given} has the config of that with {other}{why}"
        if (mark, key) not in self.seen:
            self.seen.add((mark, key))
            self.problems.append(Problem(mark, f"sweep.{key}", message))

    def _report(self, problem: Problem, nodes: tuple[Node, ...]) -> None:
        if (problem.mark, problem.key) in self.seen:
            return
        self.seen.add((problem.mark, problem.key))
        message = problem.message
        if problem.mark not in self.inside:  # it is only there for what the sweep says
            given = self._given(nodes)
            section = problem.key.partition(".")[0]
            near = {key: value for key, value in given.items() if key.partition(".")[0] == section} or given
            message += f" (in the trial with {_listed(near)})"
            if message.startswith("unknown key") and f"{section}.name" in given:
                message += f"; a sweep of the whole section gives each its own keys: {section}: [{{name: ...}}, ...]"
        elif message.startswith("expected list") and not re.search("got an? ", message):
            message += "; the values to try are a list of such lists: [[32], [64, 64]]"
        elif message.startswith("expected int") and problem.mark in self.bounds:
            message += "; randint and lograndint draw whole numbers"
        self.problems.append(Problem(problem.mark, problem.key, message))


def _has_peak(config: Config) -> bool:
    """Return whether the schedule states its own peak, beside which the optimizer's rate counts for nothing."""
    return config.scheduler is not None and config.scheduler.arguments.get("max_lr") is not None


def _listed(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{key}: {describe_value(value)}" for key, value in values.items())


def _marks(node: Node) -> Iterator[Mark]:
    yield from (node.mark, node.key)
    below = node.value.values() if isinstance(node.value, dict) else node.value if isinstance(node.value, list) else ()
    for inner in below:
        yield from _marks(inner)
