"""The axes of a sweep: which keys of the config take which values, and how they are drawn.

Note [Trials of a sweep]

A sweep varies a config that is valid by itself. Every entry of its section, but for the few options, is an axis: a key
as an override writes it, and the values to try. Without `trials` all combinations are tried, the last axis fastest;
with `trials` that many are drawn. Then every axis has a stream of numbers of its own, seeded by the seed of the config
and the name of the key, and the n-th draw takes the n-th number of each: more trials keep the first ones. A draw that
gives the values of an earlier one is passed over.

The values keep their marks. A trial is the tree of the file in which the nodes of its values stand at their keys, so
that a config's own checks say what is wrong with a value, with its line and column in the section.
"""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from nanotorch.registry import closest
from nanotorch.train.config.joint_checks import MOST_RUNS
from nanotorch.train.config.sections import SECTIONS, Config, SweepSection
from nanotorch.train.config.strict_yaml import Mark, Node, Problem, show

DIGITS = 6
"""Significant digits of a drawn number: no search needs more, and they are the same on every machine."""
LARGEST = 1e300  # bound of a distribution: the distance of two is a number still
MOST_DRAWS = 100  # of one trial on average, until one is another than those before


class Distribution(NamedTuple):
    """Numbers between two bounds, of which the upper one is not drawn."""

    whole: bool
    log: bool

    def value(self, share: float, low: float, high: float) -> float:
        """Return the number below which that share of all draws lies."""
        if self.log:
            found = math.exp(math.log(low) + share * (math.log(high) - math.log(low)))
        else:
            found = low + share * (high - low)
        if self.whole:
            return max(int(low), min(math.floor(found), int(high) - 1))
        return max(low, min(float(f"{found:.{DIGITS}g}"), math.nextafter(high, low)))


DISTRIBUTIONS = {
    "uniform": Distribution(whole=False, log=False),
    "loguniform": Distribution(whole=False, log=True),
    "randint": Distribution(whole=True, log=False),
    "lograndint": Distribution(whole=True, log=True),
}
WORDS = (*DISTRIBUTIONS, "choice")
OPTIONS = tuple(SweepSection.model_fields)
EXAMPLE = "{loguniform: [1e-4, 1e-1]}"


@dataclass(frozen=True, slots=True)
class Axis:
    """A key, and the values to try: a list of them, or a distribution between two bounds."""

    key: str
    node: Node
    choices: list[Node]
    distribution: Distribution | None = None

    def value(self, share: float) -> Node:
        """Return the value for a number from 0 to 1, 1 excluded."""
        if self.distribution is None:
            return self.choices[int(share * len(self.choices))]
        low, high = (node.value for node in self.choices)
        return Node(self.distribution.value(share, low, high), self.node.mark, self.node.key)

    def bounds(self) -> list[tuple[Node, Node]]:
        """Return the least and the largest value of a distribution, each with what the section says there."""
        if self.distribution is None:
            return []
        low, high = self.choices
        if self.distribution.whole:
            return [(low, low), (Node(high.value - 1, high.mark, high.key), high)]
        least, most = (Node(float(node.value), node.mark, node.key) for node in (low, high))
        return [(least, least), (Node(math.nextafter(most.value, least.value), high.mark, high.key), most)]

    @property
    def count(self) -> float:
        """How many values there are."""
        if self.distribution is None:
            return len(self.choices)
        return self.choices[1].value - self.choices[0].value if self.distribution.whole else math.inf


# ------------------------------------------------------------ the section as axes


def flatten(root: Node) -> list[Problem]:
    """Write `optimizer: {lr: ...}` of the sweep as `optimizer.lr: ...`, in place, as an override of it needs."""
    section = root.value.get("sweep")
    if section is None or not isinstance(section.value, dict):
        return []
    flat: dict[str, Node] = {}
    problems = []
    for key, node in section.value.items():
        nested = key in SECTIONS and isinstance(node.value, dict) and node.value and not _distribution(node)
        for inner, value in (
            {f"{key}.{part}": below for part, below in node.value.items()} if nested else {key: node}
        ).items():
            if inner in flat and not value.key.is_override:
                first = flat[inner].key.line
                problems.append(_problem(value.key, inner, f"this key is given twice, first in line {first}"))
            flat[inner] = value
    section.value = flat
    return problems


def axes(section: Node, seed: int, repeats: int) -> tuple[list[Axis], list[Problem]]:
    """Return the axes of a section, and what is wrong with those that are none; a trial takes `repeats` seeds."""
    found, problems = [], []
    for key, node in section.value.items():
        if key in OPTIONS:
            continue
        made = _axis(key, node, seed, repeats)
        if isinstance(made, Axis):
            found.append(made)
        else:
            problems += made
    return found, problems


def _axis(key: str, node: Node, seed: int, repeats: int) -> Axis | list[Problem]:
    value = node.value
    if key not in Config.model_fields and "." not in key and (near := closest(key, OPTIONS)) is not None:
        return [_problem(node.key, key, f"unknown key (did you mean {near!r}?)")]
    if key == "seed" and type(value) is int:
        if not 1 <= value <= MOST_RUNS:
            message = f"expected how many seeds, from 1 to {MOST_RUNS:,}, or a list of them, got {show(value)}"
            return [_problem(node.mark, key, message)]
        seeds = [(seed + index * repeats) % 2**32 for index in range(value)]
        return Axis(key, node, [Node(each, node.mark, node.key) for each in seeds])
    if isinstance(value, dict):
        word = _distribution(node)
        if word is None:
            return [_unknown(key, node)]
        if word != "choice":
            return _between(key, node, word, value[word])
        node = Node(value["choice"].value, value["choice"].mark, node.key)
        value = node.value
    if not isinstance(value, list):
        fixed = "" if value is None else f"; a value for all trials is given as {key} outside of the sweep"
        example = f"a list of the values to try, or a distribution such as {EXAMPLE}"
        return [_problem(node.mark, key, f"expected {example}, got {show(value)}{fixed}")]
    if not value:
        return [_problem(node.mark, key, "this list is empty: there is nothing to try")]
    seen: dict[str, int] = {}
    wrong = []
    for index, item in enumerate(value):
        if key == "seed" and item.value is None:
            wrong.append(
                _problem(item.mark, f"{key}.{index}", "a trial that can be trained again has a seed, not null")
            )
        first = seen.setdefault(_identity(item), index)
        if first != index:
            wrong.append(
                _problem(item.mark, f"{key}.{index}", f"this value is given twice, first as number {first + 1}")
            )
    if key == "seed" and not wrong:
        wrong = list(_overlapping(value, repeats))
    return wrong or Axis(
        key,
        node,
        [Node(item.value, item.mark, item.mark if isinstance(item.value, dict) else node.key) for item in value],
    )


def _overlapping(seeds: Sequence[Node], repeats: int) -> Iterator[Problem]:
    """Yield the seeds whose trials would repeat runs of another one."""
    for index, item in enumerate(seeds):
        for before in seeds[:index]:
            if type(item.value) is type(before.value) is int and abs(item.value - before.value) < repeats:
                yield _problem(
                    item.mark,
                    f"seed.{index}",
                    f"with train.repeats {repeats} a trial takes its seed and those after it, and so does that of seed "
                    f"{before.value}: give seeds that are {repeats} apart, or how many",
                )
                break


def _between(key: str, node: Node, word: str, given: Node) -> Axis | list[Problem]:
    """Return the axis of a distribution, or what is wrong with its bounds."""
    distribution = DISTRIBUTIONS[word]
    kind, example = ("int", "[8, 65]") if distribution.whole else ("float", "[1e-4, 1e-1]")
    bounds = given.value
    if not isinstance(bounds, list) or len(bounds) != 2:
        message = f"expected the bounds, as in {{{word}: {example}}}, got {show(given.plain())}"
        return [_problem(given.mark, f"{key}.{word}", message)]
    wrong = []
    for index, bound in enumerate(bounds):
        fits = type(bound.value) is int or (type(bound.value) is float and not distribution.whole)
        if not fits or not abs(bound.value) <= LARGEST:
            expected = f"{kind} of at most {LARGEST:g}" if fits else kind
            wrong.append(
                _problem(bound.mark, f"{key}.{word}.{index}", f"expected {expected}, got {show(bound.plain())}")
            )
    if wrong:
        return wrong
    low, high = (bound.value for bound in bounds)
    if distribution.log and low <= 0:
        message = f"expected {kind} > 0, since its logarithm is drawn, got {show(low)}"
        return [_problem(bounds[0].mark, f"{key}.{word}.0", message)]
    if low >= high:
        message = f"expected more than the lower bound {show(low)}, got {show(high)}"
        return [_problem(bounds[1].mark, f"{key}.{word}.1", message)]
    return Axis(key, node, bounds, distribution)


def _distribution(node: Node) -> str | None:
    """Return the one key of a mapping that is a distribution."""
    word = next(iter(node.value), None) if isinstance(node.value, dict) and len(node.value) == 1 else None
    return word if word in WORDS else None


def _unknown(key: str, node: Node) -> Problem:
    """Return what to say of a mapping that is no distribution."""
    known = f"the distributions are {', '.join(WORDS)}, as in {EXAMPLE}"
    if len(node.value) != 1:
        return _problem(node.mark, key, f"expected a list of the values to try, or one distribution; {known}")
    ((word, given),) = node.value.items()
    near = closest(word, WORDS) or {"values": "choice", "int": "randint"}.get(word)
    hint = f"did you mean {near!r}?" if near else known
    return _problem(given.key, f"{key}.{word}", f"unknown distribution {word!r} ({hint})")


def _problem(mark: Mark, key: str, message: str) -> Problem:
    return Problem(mark, f"sweep.{key}", message)


def _identity(node: Node) -> str:
    """Return a text that equal values share, be it 1 or 1.0."""

    def alike(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: alike(inner) for key, inner in sorted(value.items())}
        if isinstance(value, list):
            return [alike(inner) for inner in value]
        return float(value) if type(value) is int and abs(value) < 2**53 else value

    return json.dumps(alike(node.plain()))


# ------------------------------------------------------------ combinations and draws


def combinations(axes: Sequence[Axis], trials: int | None, seed: int) -> Iterator[tuple[Node, ...]]:
    """Yield the values of every trial, one for each axis: all combinations, or as many draws."""
    if trials is None:
        yield from itertools.product(*(axis.choices for axis in axes))
        return
    streams = [np.random.default_rng([seed, *axis.key.encode()]) for axis in axes]
    seen: set[tuple[str, ...]] = set()
    for _ in range(MOST_DRAWS * trials + 1000):
        if len(seen) == trials:
            return
        drawn = tuple(axis.value(stream.random()) for axis, stream in zip(axes, streams, strict=True))
        identity = tuple(map(_identity, drawn))
        if identity not in seen:
            seen.add(identity)
            yield drawn


def covering(axes: Sequence[Axis]) -> Iterator[tuple[Node, ...]]:
    """Yield few combinations in which every value of every list stands."""
    most = max(1 if axis.distribution else len(axis.choices) for axis in axes)
    for index in range(min(100, most)):
        yield tuple(
            axis.choices[index % len(axis.choices)] if axis.distribution is None else axis.value(0.5) for axis in axes
        )
