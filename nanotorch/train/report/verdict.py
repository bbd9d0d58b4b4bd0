"""What the report judges: how good the model is, against what, how sure that is, what it goes by and where it fails."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nanotorch.train.data.disk_rows import DiskRows
from nanotorch.train.data.preprocessing import Preprocessing
from nanotorch.train.data.table import Table, spread_rows
from nanotorch.train.report.run_summary import Findings
from nanotorch.train.score import classification, judgement, linear
from nanotorch.train.score.judgement import Estimate, Worth
from nanotorch.train.terminal.text_report import number, short

FEWEST = 10  # rows by which a model is judged
MOST_VALUES = 10_000_000  # rows times columns times outputs that a linear model learns from
MOST_INPUTS = 1000  # of it
MOST_WORK = 2e9  # multiplications for the worth of columns
AT_ONCE = 4096  # rows that are prepared together
MOST_ROWS, MOST_SHUFFLES = 1000, 5
RISE = 1.05  # of the validation loss above its smallest: less is noise


def verdict(found: Findings) -> list[str]:
    """Return how good the model is on the rows that it is judged by, in sentences: what, how well, against what
    learns nothing, against a linear model of the same columns, and how far chance reaches.
    """
    if len(found.true) < FEWEST:
        return [f"{len(found.true)} rows of the {found.judged} part are too few to say how good the model is."]
    other = _linear_answers(found)
    return (_of_several if found.several else _of_numbers if found.is_regression else _of_classes)(found, other)


def _of_classes(found: Findings, other: NDArray[Any] | None) -> list[str]:
    right, rows = found.right.astype(np.float64), len(found.true)
    weights, train = found.weights, found.parts["train"]
    score = judgement.share(int(right.sum()), rows) if weights is None else judgement.means(right[:, None], weights)[0]
    most = int(np.bincount(train.targets, train.weights, minlength=len(found.names)).argmax())
    simplest = float(np.average(found.true == most, weights=weights))
    words = [
        f"Of {rows:,} rows {_seen(found)} the model calls {_percent(score.value, score)} right"
        f" ({_interval(score, 100, '%')})."
    ]
    usual = f"to call all of them {short(found.names[most], 40)!r}, the most frequent class, is right for"
    words.append(f"For comparison: {usual} {_percent(simplest, score)}")
    if score.low <= simplest:
        words.append("Within chance the model is no better than that class.")
    if other is None:
        words[1] += "."
        return words
    theirs = (other == found.true).astype(np.float64)
    (gain,) = judgement.means((right - theirs)[:, None], weights)
    words[1] += f", a linear model for {_percent(float(np.average(theirs, weights=weights)), score)}."
    return [*words, _against_linear(gain, 100, " points")]


def _of_several(found: Findings, other: NDArray[Any] | None) -> list[str]:
    """Of several targets of classes: the share of right answers, each of a row and a target."""
    weights, train, targets = found.weights, found.parts["train"], len(found.names)
    right = (found.guessed == found.true).mean(axis=1)
    [score] = judgement.means(right[:, None], weights)
    most = [
        np.bincount(numbers, train.weights, minlength=len(names)).argmax() for names, numbers in train.class_numbers
    ]
    usual = (found.true == np.array(most)).mean(axis=1)
    [ahead] = judgement.means((right - usual)[:, None], weights)
    together, every = float(np.average(found.right, weights=weights)), "both" if targets == 2 else f"all {targets}"
    words = [
        f"Of the {targets} answers for each of {len(found.true):,} rows {_seen(found)} the model gives"
        f" {_percent(score.value, score)} right ({_interval(score, 100, '%')}), and {every} of a row for"
        f" {_percent(together, score)} of the rows.",
        "For comparison: the most frequent class of each target is right for"
        f" {_percent(float(np.average(usual, weights=weights)), score)}",
    ]
    if ahead.low <= 0:
        words.append("Within chance the model is no better than those classes.")
    if other is None:
        words[1] += "."
        return words
    theirs = (other == found.true).mean(axis=1)
    (gain,) = judgement.means((right - theirs)[:, None], weights)
    words[1] += f", a linear model for {_percent(float(np.average(theirs, weights=weights)), score)}."
    return [*words, _against_linear(gain, 100, " points")]


def _of_numbers(found: Findings, other: NDArray[Any] | None) -> list[str]:
    true, guessed = found.true, found.values
    of = f"among the {len(true):,} rows of the {found.judged} part"
    if not np.ptp(true, axis=0).all():
        return [f"The target does not vary {of}: there is no R2."]
    weights, train = found.weights, found.parts["train"]
    score = judgement.r2(true, guessed, weights)
    if score.low <= -judgement.MOST:
        why = "target varies too little" if math.isfinite(score.value) else "predictions are too far off"
        return [f"The {why} {of} to say how good the model is."]
    usual = np.broadcast_to(np.average(train.targets, axis=0, weights=train.weights), true.shape)
    what = short(found.names[0], 40) if len(found.names) == 1 else f"{len(found.names)} targets, on average"
    words = [
        f"On {len(true):,} rows {_seen(found)} the model predicts {what} with an R2 of"
        f" {_digits(score.value, score, 1)} ({_interval(score, 1, '')})."
    ]
    if score.low <= 0:
        words.append("Within chance that is no better than the mean of the training rows.")
    errors = [judgement.rmse(true, guessed, weights), judgement.rmse(true, usual, weights)]
    if other is None:
        if len(found.names) == 1:
            words.append(f"Its typical error (RMSE) is {_size(errors[0])}; that of the mean is {_size(errors[1])}.")
        return words
    theirs = float(judgement.r2(true, other, weights).value)
    gain = judgement.r2_gain(true, guessed, other, weights)
    if len(found.names) == 1:
        words.append(
            f"Its typical error (RMSE) is {_size(errors[0])}; that of the mean is {_size(errors[1])}, of a linear model"
            f" {_size(judgement.rmse(true, other, weights))}."
        )
    else:
        words.append(f"A linear model has {_digits(theirs, score, 1)}.")
    return [*words, _against_linear(gain, 1, "")]


def _seen(found: Findings) -> str:
    """Say which rows judge the model, and how fair that is."""
    by_weight = "" if found.weights is None else "counted by their weights and "
    return by_weight + {
        "test": "not seen before",
        "train": "that it was trained on (there are no others: how it does on new ones cannot be said)",
    }.get(found.judged, f"of the {found.judged} part, which chose the epoch,")


def _size(value: float) -> str:
    """Return an error with three digits.

    >>> _size(0.5), _size(123.4), _size(999.7), _size(123456.0)
    ('0.500', '123', '1,000', '123,456')
    """
    return f"{value:,.0f}" if 99.95 <= value < 1e9 else f"{value:#.3g}"


def _against_linear(gain: Estimate, times: float, unit: str) -> str:
    word = "better" if gain.value > 0 else "worse"
    ahead = gain if gain.value > 0 else Estimate(-gain.value, -gain.high, -gain.low)
    size, around = _digits(ahead.value * times, ahead, times), _interval(ahead, times, "")
    if ahead.low > 0:
        what = "more than chance" if word == "better" else "take that one"
        return f"It is {word} than the linear model by {size}{unit} ({around}): {what}."
    size, around = _digits(gain.value * times, gain, times), _interval(gain, times, "")
    return (
        f"The difference to the linear model, {size}{unit} ({around}), is within chance: by these rows the network is"
        " worth no more."
    )


def _digits(value: float, around: Estimate, times: float) -> str:
    """Return a number with as many decimals as the width of its interval leaves a meaning."""
    width = (around.high - around.low) * times
    decimals = 1 - math.floor(math.log10(width)) if width > 0 else 2
    return f"{value:z.{min(max(decimals, 0), 4)}f}"


def _percent(value: float, around: Estimate) -> str:
    return f"{_digits(100 * value, around, 100)}%"


def _interval(of: Estimate, times: float, unit: str) -> str:
    low, high = (_digits(times * value, of, times) for value in (of.low, of.high))
    return f"95% interval {low} to {high}{unit}"


# ------------------------------------------------------------ a linear model


def _linear_answers(found: Findings) -> NDArray[Any] | None:
    """Return what a linear model of the same columns says of the judged rows, class numbers or values, of several
    targets side by side; None where it would take long to learn.
    """
    train, preprocessing = found.parts["train"], replace(found.preprocessing, encoding="one_hot")
    inputs, outputs = preprocessing.in_features, sum(map(len, found.several)) or len(found.names)
    rows = min(len(train), MOST_VALUES // (inputs * outputs))
    if inputs > MOST_INPUTS or rows < min(len(train), 4 * inputs):
        return None
    chosen = train.rows(spread_rows(len(train), rows))
    learnt = preprocessing.features(chosen)
    models = [linear.fit(learnt, numbers, len(names), chosen.weights) for names, numbers in chosen.class_numbers]
    models = models or [linear.fit(learnt, chosen.targets, None, chosen.weights)]
    part, said = found.parts[found.judged], []
    for start in range(0, len(part), AT_ONCE):
        some = part.rows(np.arange(start, min(start + AT_ONCE, len(part))))
        seen = preprocessing.features(some)
        values = [model.outputs(seen) for model in models]
        if not all(np.isfinite(one).all() for one in values):
            return None
        said.append(values[0] if found.is_regression else np.stack([one.argmax(axis=1) for one in values], axis=1))
    answers = np.concatenate(said)
    return answers if found.is_regression or found.several else answers[:, 0]


# ------------------------------------------------------------ the learning curve


def reading(history: Sequence[Mapping[str, Any]]) -> str:
    """Return what the losses over the epochs say, in a sentence; an empty text where they say nothing.

    >>> history = [{"epoch": k, "train_loss": 1 / k, "validation_loss": 0.5 + (k - 3) ** 2 / 9} for k in range(1, 8)]
    >>> reading(history).partition(":")[0]
    'It overfits from epoch 4'
    """
    losses = [float(record["validation_loss"]) for record in history if record.get("validation_loss") is not None]
    if len(history) < 4 or len(losses) < len(history) or not all(map(math.isfinite, losses)):
        return ""
    least, last = int(np.argmin(losses)), len(history) - 1
    epochs, train = [record["epoch"] for record in history], [record["train_loss"] for record in history]
    if losses[last] > RISE * losses[least] > 0 and train[last] < train[least]:
        return (
            f"It overfits from epoch {epochs[least] + 1}: until epoch {epochs[last]} the validation loss rises from"
            f" {number(losses[least])} to {number(losses[last])} while that of the training part falls."
        )
    before = losses[max(0, last - max(1, len(history) // 5))]
    if least >= last - 1 and losses[last] < 0.98 * before:
        return "The validation loss still fell when training ended: more epochs may do better."
    still = next(k for k in range(len(losses)) if losses[k] <= RISE * losses[least])
    if still < 0.6 * last:
        return f"From epoch {epochs[still]} on the validation loss changes little."
    return ""


# ------------------------------------------------------------ columns and rows


def column_worths(found: Findings) -> tuple[list[Worth], int]:
    """Return what each column is worth on the judged part, and how many rows were looked at;
    none where that would take long.
    """
    part, preprocessing = found.parts[found.judged], found.preprocessing
    stand = places(preprocessing)
    affordable = int(MOST_WORK / (found.layers.total_parameters * len(stand)))
    rows = min(len(part), MOST_ROWS, affordable)
    if rows < min(len(part), 50) or isinstance(part.features, DiskRows):
        return [], 0
    chosen = spread_rows(len(part), rows)
    some = part.rows(chosen)
    times = max(1, min(MOST_SHUFFLES, affordable // rows))

    def losses(features: NDArray[np.float64]) -> NDArray[np.float64]:
        targets = np.concatenate([some.targets] * (len(features) // rows))
        return _losses(found, found.outputs_of(features), targets)

    return judgement.worths(preprocessing.features(some), stand, losses, times), rows


def row_losses(found: Findings) -> NDArray[np.float64]:
    """Return the loss of each judged row: minus the logarithm of its class's probability, or its squared error."""
    if found.is_regression:
        return _squared(found, found.values, found.true)
    return _surprise(found.chances.reshape(len(found.true), -1)).sum(axis=1)


def _losses(found: Findings, outputs: NDArray[Any], targets: NDArray[Any]) -> NDArray[np.float64]:
    if found.is_regression:
        return _squared(found, found.preprocessing.in_units(outputs), targets)
    pieces = zip(found.preprocessing.each(outputs), targets.reshape(len(targets), -1).T, strict=True)
    return np.sum([_surprise(classification.probabilities(one)[np.arange(len(of)), of]) for one, of in pieces], axis=0)


def _surprise(chances: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return minus the logarithm of probabilities, finite for 0 too."""
    losses: NDArray[np.float64] = -np.log(np.maximum(chances, 1e-300))
    return losses


def _squared(found: Findings, values: NDArray[Any], targets: NDArray[Any]) -> NDArray[np.float64]:
    """Return squared errors in units of the variance of each target, so that they add up to 1 - R2."""
    errors: NDArray[np.float64] = (scaled(found.true, values - targets) ** 2).mean(axis=1)
    return errors


def scaled(targets: NDArray[Any], values: NDArray[Any]) -> NDArray[np.float64]:
    """Return values (n, targets) in units of the standard deviation of each target."""
    deviation = targets.std(axis=0)
    found: NDArray[np.float64] = values / np.where(deviation > 0, deviation, 1.0)
    return found


def places(preprocessing: Preprocessing) -> dict[str, list[int]]:
    """Return where each column of the table stands in what the model sees (Note [Columns of the model])."""
    numeric = preprocessing.numeric_names
    places = {name: [k] for k, name in enumerate(numeric)}
    for k, name in enumerate(preprocessing.indicators):
        places[name].append(len(numeric) + k)
    start = len(numeric) + len(preprocessing.indicators)
    for name, category in preprocessing.categories.items():
        width = len(category.names) if preprocessing.encoding == "one_hot" else 1
        places[name] = list(range(start, start + width))
        start += width
    return places


def cell(table: Table, row: int, name: str) -> str:
    """Return what stands in a column of a row, as the table had it."""
    column = table.feature_names.index(name)
    value = float(table.features[row, column])
    if math.isnan(value):
        return "missing"
    texts = (table.categories or {}).get(name)
    return f"{value:.6g}" if texts is None else texts[int(value)]
