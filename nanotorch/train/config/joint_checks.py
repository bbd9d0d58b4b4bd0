"""The checks of values of a config against each other, and of what is cheap to make: whether its parts can be made."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterable, Mapping
from typing import Any

import nanotorch.nn
from nanotorch.registry import DATASETS, LOSSES, METRICS, MODELS, OPTIMIZERS, SCHEDULERS, closest
from nanotorch.train.config.sections import Config, DataSection, NamedSection, as_tensors
from nanotorch.train.config.value_checks import Check
from nanotorch.train.data.division.from_file import wrong_in_split
from nanotorch.train.data.sklearn_sets import possible_tasks
from nanotorch.train.model.models import too_large

MOST_RUNS = 10_000  # of one config: folds times repeats
MOST_NUMBERS = 10**8  # of a generated table: 800 MB


def check_all(check: Check) -> Config | None:
    """Return the config of a tree, or None; all that is wrong is reported."""
    config = check.run()
    check_together(check)
    if config is not None and not check.problems:
        check_made(check, config)
    return None if check.problems else config


def check_together(check: Check) -> None:
    """Report values that do not go together."""
    _check_loss(check)
    test, validation = check.value("data", "test_size"), check.value("data", "validation_size")
    if test is not None and validation is not None:
        if test + validation < 1:
            _check_sizes(check, 1 - test - validation)
        else:
            place = "validation_size" if check.is_given(("data", "validation_size")) else "test_size"
            left = f"test_size {test} and validation_size {validation} leave nothing to train on"
            check.report(("data", place), left)
    _check_class_weight(check)
    _check_calibration(check)
    _check_metrics(check)
    _check_exclusive(check)
    _check_folds(check)
    _check_split(check)
    _check_schedule(check)
    _check_amounts(check)


def _check_loss(check: Check) -> None:
    """The loss has to suit the task of the dataset, as far as that is known without loading it."""
    dataset, loss = check.value("data", "name"), check.value("loss", "name")
    tasks = _tasks(check)
    if tasks is None:
        return
    if "regression" not in tasks and check.value("data", "standardize_target") is True:
        message = f"only the target of a regression can be standardised; {dataset} has classes"
        check.report(("data", "standardize_target"), message)
    suits = {name: set(LOSSES.entry(name).facts.get("tasks", tasks)) for name in LOSSES}
    if loss is not None and not tasks & suits[loss]:
        better = [name for name in LOSSES if tasks & suits[name]]
        message = f"{loss} is for {_either(suits[loss])}, but {dataset} is {_either(tasks)}"
        check.report(("loss", "name"), f"{message}; take {_either(better)}")


def _check_schedule(check: Check) -> None:
    """The schedule has to suit the interval at which it advances, and to last as long as the run."""
    name, interval = check.value("scheduler", "name"), check.value("scheduler", "interval")
    if name == "ReduceLROnPlateau" and interval == "step":
        message = "ReduceLROnPlateau goes by the validation loss, which is there once an epoch"
        check.report(("scheduler", "interval"), message)
    warmup, epochs = check.value("scheduler", "warmup"), _stated(check, "epochs")
    if warmup and name == "ReduceLROnPlateau":
        message = (
            "ReduceLROnPlateau has no first value to rise to: it goes by the loss; leave out warmup, or take"
            " another schedule"
        )
        check.report(("scheduler", "warmup"), message)
    if warmup and interval == "epoch" and epochs is not None and warmup >= epochs:
        check.report(("scheduler", "warmup"), f"the run is over after {epochs} epochs, before {warmup} of warmup")
    if name == "OneCycleLR":
        total = check.value("scheduler", "total_steps")
        product = [check.value("scheduler", "epochs"), check.value("scheduler", "steps_per_epoch")]
        if total is None and (product[0] is None) != (product[1] is None):
            place = "epochs" if product[1] is None else "steps_per_epoch"
            message = (
                "epochs and steps_per_epoch go together; leave out both, and the schedule lasts as long as the run"
            )
            check.report(("scheduler", place), message)
        elif interval == "epoch" and epochs is not None and (total is not None or None not in product):
            length = product[0] * product[1] if total is None else total
            if length + (warmup or 0) < epochs:
                message = f"the schedule is over after {length + (warmup or 0)} of {epochs} epochs"
                check.report(("scheduler", "total_steps"), message)


def _stated(check: Check, key: str) -> Any:
    """Return a value of `train`; None where it is broken, or the table is to decide."""
    value = check.value("train", key)
    return None if value == "auto" else value


def _tasks(check: Check) -> set[str] | None:
    """Return the tasks that the dataset may be, as far as the config tells; None where it does not."""
    dataset = check.value("data", "name")
    if dataset is None:
        return None
    names = DATASETS.arguments(dataset)
    return set(possible_tasks(dataset, {key: check.value("data", key) for key in names}))


def _check_calibration(check: Check) -> None:
    """A temperature is for probabilities."""
    if check.value("train", "calibration") and _tasks(check) == {"regression"}:
        message = f"a regression states no probabilities, and {check.value('data', 'name')} is one"
        check.report(("train", "calibration"), message)


def _check_class_weight(check: Check) -> None:
    """Weights of classes need classes, and are given once."""
    if not check.value("loss", "class_weight"):
        return
    tasks = _tasks(check)
    if tasks == {"regression"}:
        message = f"a regression has no classes to weigh, and {check.value('data', 'name')} is one"
        check.report(("loss", "class_weight"), message)
    for other in ("weight", "pos_weight"):
        if check.value("loss", other) is not None:
            check.report(("loss", "class_weight"), f"loss.{other} weighs the classes already; give one of the two")


def _check_metrics(check: Check) -> None:
    """Scores have to suit the task, and the monitored one has to exist."""
    tasks, dataset = _tasks(check), check.value("data", "name")
    suits = {name: set(METRICS.entry(name).facts["tasks"]) for name in METRICS}
    for index, name in enumerate(check.value("train", "metrics") or ()):
        if name in suits and tasks is not None and not tasks & suits[name]:
            check.report(("train", "metrics", index), _unsuited(name, suits, dataset, tasks))
    monitor = check.value("train", "monitor")
    if not isinstance(monitor, str) or monitor in ("auto", "loss"):
        return
    if monitor in suits:
        if tasks is not None and not tasks & suits[monitor]:
            check.report(("train", "monitor"), _unsuited(monitor, suits, dataset, tasks))
        return
    if monitor.startswith("rmse"):
        if tasks is not None and "regression" not in tasks:
            check.report(("train", "monitor"), f"rmse is for regression, but {dataset} is {_either(tasks)}")
        return
    if monitor.startswith("accuracy_"):  # of one of several targets
        if tasks is not None and not tasks & {"multilabel", "multioutput"}:
            message = f"{monitor} is for several targets of classes, but {dataset} is {_either(tasks)}; take accuracy"
            check.report(("train", "monitor"), message)
        return
    known = ["auto", "loss", "rmse", *(name for name in suits if tasks is None or tasks & suits[name])]
    near = closest(re.sub("^(validation|valid|val|test|train)_", "", monitor), known)
    hint = f"did you mean {near!r}?" if near else f"known: {', '.join(known)}"
    check.report(("train", "monitor"), f"unknown score {monitor!r} ({hint})")


def _unsuited(name: str, suits: Mapping[str, set[str]], dataset: Any, tasks: set[str]) -> str:
    start = name.partition("_")[0]
    better = [other for other in suits if tasks & suits[other] and other.startswith(start)]
    advice = f"; take {_either(better)}" if better else ""
    return f"{name} is for {_either(suits[name])}, but {dataset} is {_either(tasks)}{advice}"


def _check_exclusive(check: Check) -> None:
    """Of some options only one at a time makes sense."""
    if check.value("train", "clip_norm") is not None and check.value("train", "clip_value") is not None:
        check.report(("train", "clip_value"), "gradients are clipped by clip_norm already; give one of the two")
    if check.value("model", "batch_norm") is True and check.value("model", "layer_norm") is True:
        check.report(("model", "layer_norm"), "a layer takes batch_norm or layer_norm, not both")
    if check.value("train", "compile") is True and check.value("train", "on_nonfinite") == "skip":
        message = (
            "on_nonfinite: skip looks at the gradients of each step, which a program does not; leave out one of the two"
        )
        check.report(("train", "compile"), message)


def _check_folds(check: Check) -> None:
    """A fold is one of several, and a run that is one fold is not divided again."""
    fold, folds = check.value("data", "fold"), check.value("train", "folds")
    if isinstance(fold, list) and len(fold) == 2 and all(type(number) is int and number > 0 for number in fold):
        if fold[1] < 2:
            check.report(("data", "fold", 1), "the rows are divided into 2 folds or more")
        elif fold[0] > fold[1]:
            check.report(("data", "fold", 0), f"there is no fold {fold[0]} of {fold[1]}")
    if fold is not None and folds is not None:
        check.report(("train", "folds"), "data.fold makes this run one fold; leave out one of the two")
    runs = (folds or 1) * (check.value("train", "repeats") or 1)
    if runs > MOST_RUNS:
        place = "repeats" if check.is_given(("train", "repeats")) else "folds"
        check.report(("train", place), f"these are {runs:,} runs, and a config makes at most {MOST_RUNS:,}")


def _check_split(check: Check) -> None:
    """What says which rows are of a part says it once."""
    split = check.value("data", "split")
    for key, message in wrong_in_split(split) if isinstance(split, dict) else ():
        check.report(("data", "split", key), message, at_key=True)
    by_cells = isinstance(split, dict) and split.get("by") == "column"
    folded = [place for place in (("train", "folds"), ("data", "fold")) if check.value(*place) is not None]
    for part in ("validation", "test"):
        size, file = check.value("data", f"{part}_size"), check.value("data", f"{part}_file")
        said = f"data.{part}_file" if file is not None else "data.split: {by: column}" if by_cells else None
        if said is None:
            continue
        if file is not None and by_cells:
            message = "the cells of data.split's column say which rows are of which part; leave out one of the two"
            check.report(("data", f"{part}_file"), message)
        if size not in (None, DataSection.model_fields[f"{part}_size"].default):
            message = f"{said} says which rows are the {part} part; leave out one of the two"
            check.report(("data", f"{part}_size"), message)
        if folded and (part == "test" or by_cells):
            message = f"{said} says which rows are for the test, and each fold has others; leave out one of the two"
            check.report(folded[0], message)


def _check_sizes(check: Check, share: float) -> None:
    """The portions have to fit the training part, where the config itself says how large that is."""
    batch_size, accumulate = _stated(check, "batch_size"), check.value("train", "accumulate")
    if batch_size is None or accumulate is None:
        return
    if batch_size == 1 and check.value("model", "batch_norm") is True:
        check.report(("train", "batch_size"), "batch normalisation needs 2 rows or more in a batch")
    rows = check.value("data", "n_samples")
    if isinstance(rows, int) and (accumulate > 1 or check.value("train", "drop_last")):
        training = max(1, round(rows * share))
        if batch_size * accumulate > training:
            place = "accumulate" if accumulate > 1 else "batch_size"
            taken = f"{batch_size} x {accumulate} = {batch_size * accumulate}"
            message = f"a step takes {taken} rows, but only about {training} of {rows} are for training"
            check.report(("train", place), message)


def _check_amounts(check: Check) -> None:
    """What is generated and built has to fit into a memory, and to be done before long."""
    dataset, model = check.value("data", "name"), check.value("model", "name")
    counts: dict[str, int] = {}
    for key in () if dataset is None else DATASETS.arguments(dataset):
        if key.startswith("n_") or key in ("centers", "effective_rank"):
            value = check.value("data", key)
            counts[key] = (
                sum(value) if key == "n_samples" and isinstance(value, list) else value if isinstance(value, int) else 0
            )
    smaller, larger = ["", "", *sorted(counts, key=lambda key: counts[key])][-2:]
    if smaller and counts[smaller] * counts[larger] > MOST_NUMBERS:
        makes = f"{larger} {counts[larger]:,} x {smaller} {counts[smaller]:,} makes more than {MOST_NUMBERS:,} numbers"
        check.report(("data", larger), makes)
    elif larger and counts[larger] > MOST_NUMBERS:
        check.report(
            ("data", larger), f"{counts[larger]:,} are more than {MOST_NUMBERS:,}, the most that are generated"
        )
    arguments = {} if model is None else {key: check.value("model", key) for key in MODELS.arguments(model)}
    if not any(path[0] == "model" for path in check.broken):
        message = None if model is None else too_large(model, 1, 1, arguments)
        if message is not None:
            check.report(("model", max(arguments, key=lambda key: check.is_given(("model", key)))), message)


def check_made(check: Check, config: Config) -> None:
    """Report what loss, optimizer and schedule refuse when they are made: it is a mistake of the config."""
    number = nanotorch.nn.Parameter(nanotorch.zeros(1))
    for key in ("loss", "optimizer", "scheduler"):
        section: NamedSection | None = getattr(config, key)
        if section is None:
            continue
        arguments = section.arguments
        try:
            with warnings.catch_warnings(action="ignore"):
                if key == "loss":
                    LOSSES.get(section.name)(**as_tensors(arguments), reduction="sum")
                elif key == "optimizer":
                    optimizer = OPTIMIZERS.get(section.name)([number], **arguments)
                else:
                    epochs = config.train.epochs
                    lasting = SCHEDULERS.lasting(section.name, arguments, 20 if epochs == "auto" else epochs)
                    SCHEDULERS.get(section.name)(optimizer, **lasting)
        except (ArithmeticError, RuntimeError, TypeError, ValueError) as error:
            message = str(error)
            named = [name for name in arguments if re.search(rf"\b{re.escape(name)}\b", message)]
            named.sort(key=lambda name: not check.is_given((key, name)))
            check.report((key, *named[:1]), message)
            return


def _either(names: Iterable[str]) -> str:
    return " or ".join(sorted(names))
