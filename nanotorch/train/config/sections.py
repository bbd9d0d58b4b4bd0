"""The config of a run: `load` gives a checked and frozen `Config`, or every mistake at once.

A name (of a dataset, an optimizer ...) is looked up in `nanotorch.registry`, never imported, and the
arguments beside it are checked against the signature that the name stands for. No data is loaded and no model
is built; what costs nothing to make (a loss, an optimizer of one number, its schedule) is made, so that what it
refuses is known with the line.
"""

from __future__ import annotations

import json
import os
import re
import secrets
import types
import warnings
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Union, get_args, get_origin, get_type_hints

from pydantic import AfterValidator, BaseModel, ConfigDict, ValidationError, create_model

import nanotorch.nn
import nanotorch.optim
import nanotorch.train.data.table_file
import nanotorch.train.score.sklearn_scores  # these, and the imports below, fill the registries
from nanotorch.registry import (
    ACTIVATIONS,
    DATASETS,
    INITIALIZATIONS,
    LOSSES,
    METRICS,
    MODELS,
    MOST,
    OPTIMIZERS,
    SCHEDULERS,
    Between,
    Fraction,
    NameIn,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    Registry,
    UnknownNameError,
    closest,
    describe_type,
)
from nanotorch.train.config.strict_yaml import (
    LARGEST_TEXT,
    MOST_PROBLEMS,
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
from nanotorch.train.data.sklearn_sets import possible_tasks
from nanotorch.train.model.models import too_large
from nanotorch.utils.files import expanded, open_own

MOST_RUNS = 10_000  # of one config: folds times repeats
MOST_NUMBERS = 10**8  # of a generated table: 800 MB

REGISTRIES = {
    "datasets": DATASETS,
    "models": MODELS,
    "activations": ACTIVATIONS,
    "initializations": INITIALIZATIONS,
    "losses": LOSSES,
    "optimizers": OPTIMIZERS,
    "schedulers": SCHEDULERS,
    "metrics": METRICS,
}


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
    for assignment in overrides:
        problems += override(root, assignment)
    check = _Check(root)
    config = check.run()
    problems += check.problems
    if problems or config is None:
        raise ConfigError.of(problems)
    return config


def located(path: KeyPath, message: str, text: str, source: str, overrides: Sequence[str] = ()) -> ConfigError:
    """Return what the data say against one key of a config, which by itself is valid, as an error with the key's
    line.
    """
    root, _ = parse(text, source)
    assert root is not None
    for assignment in overrides:
        override(root, assignment)
    said = message.removeprefix(".".join(map(str, path[:2]))).removeprefix(":").lstrip()
    return ConfigError.of([Problem(root.nearest(path)[0].mark, ".".join(map(str, path)), said)])


def read_resolved(path: Path, overrides: Sequence[str] = ()) -> Config:
    """Return the config that a run left, as `resolved` wrote it, in a plain file."""
    try:
        os.close(open_own(path, os.O_RDONLY))
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from None
    return loads(read(path, LARGEST_TEXT), str(path), overrides)


def with_seed(config: Config, seed: int | None = None) -> Config:
    """Return the config with a seed: where it has none, with the one given or else one drawn from the system's
    entropy.
    """
    if config.seed is not None:
        return config
    return config.model_copy(update={"seed": secrets.randbits(32) if seed is None else seed})


def resolved(config: Config) -> str:
    """YAML that states every value of the config, defaults included: loading it gives an equal config."""
    values = config.model_dump(mode="json")
    for key, section in config:
        if isinstance(section, NamedSection):
            first = {name: values[key][name] for name in ("name", *section.argument_names)}
            values[key] = first | values[key]
            if section.name in section.name_of_key.values():
                del values[key]["name"]
    return dump(values)


# ------------------------------------------------------------ the schema


MOST_BYTES_OF_NAME = 200  # of the 255 that a directory's name can have; a time and a number follow


def _run_name(name: str) -> str:
    """Refuse a name that could not be, or should not be, the start of a directory's name."""
    reserved = re.fullmatch(r"(con|prn|aux|nul|com[0-9]|lpt[0-9])(\..*)?", name, re.IGNORECASE)
    unfit = sorted({one for one in name if one in '/\\<>:"|?*' or not one.isprintable()})
    if not 0 < len(name) <= 100:
        raise ValueError(f"a run's name has 1 to 100 characters, not {len(name)}")
    if (size := len(name.encode("utf-8", "replace"))) > MOST_BYTES_OF_NAME:
        raise ValueError(
            f"a run's name has at most {MOST_BYTES_OF_NAME} bytes, and in UTF-8 this one has {size}: shorten it"
        )
    if unfit:
        raise ValueError(f"a run's name becomes a directory's and cannot contain {' '.join(map(ascii, unfit))}")
    if reserved or name[0] in ".-~ " or name[-1] in ". ":
        raise ValueError(f"a run's name becomes a directory's and cannot be {name!r}")
    return name


def _output(path: str) -> str:
    if not path.strip() or not path.isprintable():
        raise ValueError(f"expected the path of a directory, got {show(path)}")
    return expanded(path)


def _device(device: str) -> str:
    if not re.fullmatch(r"auto|cpu|cuda(:[0-9]{1,3})?", device):
        raise ValueError(f"expected auto, cpu, cuda or cuda:N, got {show(device)}")
    return device


class Section(BaseModel):
    """A part of a config."""

    model_config = ConfigDict(
        extra="forbid", strict=True, frozen=True, validate_default=True, allow_inf_nan=False, protected_namespaces=()
    )


class NamedSection(Section):
    """A part that names something registered and gives its arguments beside the name."""

    registry: ClassVar[Registry]
    argument_names: ClassVar[tuple[str, ...]] = ()
    name_of_key: ClassVar[Mapping[str, str]] = {}
    """Keys that stand for a name, so that it need not be given."""
    name: str

    @property
    def arguments(self) -> dict[str, Any]:
        """The arguments for what `name` stands for, defaults included."""
        return {key: getattr(self, key) for key in self.argument_names}


class DataSection(NamedSection):
    """Which dataset (or whose `file`), how it is divided (in fractions of all rows), and whether columns are
    standardised.

    `fold: [2, 5]` makes the second of five equal parts the test part, in place of `test_size`.
    """

    registry = DATASETS
    name_of_key = {"file": "file"}
    test_size: Fraction = 0.2
    validation_size: Fraction = 0.2
    standardize: bool = True
    standardize_target: bool | Literal["auto"] = "auto"
    fold: tuple[PositiveInt, PositiveInt] | None = None


class ModelSection(NamedSection):
    """Which model; the widths of its input and output follow from the data and the loss."""

    registry = MODELS
    name: str = "mlp"


class LossSection(NamedSection):
    """Which loss, and how much each class counts in it.

    With class weights the mean divides by the weights of the rows, for two classes and for more. "balanced" gives every
    class of the training part the same total; a class that a mapping leaves out has the weight 1.
    """

    registry = LOSSES
    class_weight: Literal["balanced"] | dict[str, PositiveFloat] | None = None


class OptimizerSection(NamedSection):
    """Which optimizer."""

    registry = OPTIMIZERS


class SchedulerSection(NamedSection):
    """Which schedule of the learning rate, and whether it advances after every epoch or every step.

    Before it begins, the rate rises linearly to its first value in `warmup` epochs or steps.
    """

    registry = SCHEDULERS
    interval: Literal["epoch", "step"] = "epoch"
    warmup: NonNegativeInt = 0


class TrainSection(Section):
    """How long, in which portions and how often; `accumulate` batches make one optimizer step.

    `metrics` are scores by scikit-learn's names besides the usual ones; `monitor` is the score that says which epoch is
    best. `folds` cross-validates, and `repeats` trains with that many seeds: each makes a run of its own.
    """

    epochs: PositiveInt
    batch_size: PositiveInt
    accumulate: PositiveInt = 1
    clip_norm: PositiveFloat | None = None
    clip_value: PositiveFloat | None = None
    shuffle: bool = True
    drop_last: bool = False
    ema: Annotated[float, Between(0, 1, low_open=True, high_open=True)] | None = None
    on_nonfinite: Literal["raise", "skip"] = "raise"
    metrics: tuple[Annotated[str, NameIn(METRICS)], ...] = ()
    monitor: str = "auto"
    folds: Annotated[int, Between(2)] | None = None
    repeats: PositiveInt = 1


class EarlyStoppingSection(Section):
    """Stop when the monitored score has not become better by `min_delta` for `patience` epochs."""

    patience: PositiveInt = 10
    min_delta: NonNegativeFloat = 0.0


class CheckpointSection(Section):
    """How often to write checkpoints, and how many of the newest to keep beside the best."""

    every_seconds: NonNegativeFloat = 1.0
    every_steps: PositiveInt | None = None
    keep: PositiveInt = 2


class LogSection(Section):
    """What to write beside what every run writes; `tensorboard` keeps the curves for TensorBoard."""

    tensorboard: bool = False


class Config(Section):
    """Everything that decides what a run computes. Frozen; made by `load`.

    A `seed` of null stands for one that is still to be drawn: `with_seed` does it.
    """

    name: Annotated[str, AfterValidator(_run_name)]
    seed: Annotated[int, Between(0, 2**32 - 1)] | None = 0
    device: Annotated[str, AfterValidator(_device)] = "auto"
    dtype: Literal["float32", "float64"] = "float32"
    output: Annotated[str, AfterValidator(_output)] = "runs"
    data: DataSection
    model: ModelSection
    loss: LossSection
    optimizer: OptimizerSection
    scheduler: SchedulerSection | None = None
    train: TrainSection
    early_stopping: EarlyStoppingSection | None = None
    checkpoint: CheckpointSection = CheckpointSection()
    log: LogSection = LogSection()


SECTIONS: dict[str, type[Section]] = {
    "data": DataSection,
    "model": ModelSection,
    "loss": LossSection,
    "optimizer": OptimizerSection,
    "scheduler": SchedulerSection,
    "train": TrainSection,
    "early_stopping": EarlyStoppingSection,
    "checkpoint": CheckpointSection,
    "log": LogSection,
}
EXAMPLES = {  # of the sections that a config has to have
    "data": "{file: table.csv, target: price}",
    "model": "{hidden: [64]}",
    "loss": "{name: MSELoss}",
    "optimizer": "{name: Adam}",
    "train": "{epochs: 20, batch_size: 32}",
}
PLAIN_SECTIONS = {key: section for key, section in SECTIONS.items() if not issubclass(section, NamedSection)}


@cache
def section_class(base: type[NamedSection], name: str) -> type[NamedSection]:
    """Return the section for one registered name: its base, and a field for each argument of the signature."""
    arguments = base.registry.arguments(name)
    clash = sorted(set(arguments) & set(base.model_fields))
    if clash:
        raise TypeError(f"{base.registry.kind} {name!r}: a config has its own meaning for {clash[0]!r}")
    fields: dict[str, Any] = {
        key: (_yaml_type(argument.annotation), ... if argument.required else argument.default)
        for key, argument in arguments.items()
    }
    section = create_model(name, __base__=base, **fields)
    section.argument_names = tuple(arguments)
    return section


@cache
def _nameless_class(base: type[NamedSection]) -> type[NamedSection]:
    """Return the section where no known name says which arguments there are: what all names share is still checked."""
    return create_model("Nameless", __base__=base, __cls_kwargs__={"extra": "ignore"}, name=(Any, None))


def _yaml_type(annotation: Any) -> Any:
    """Return the annotation in the types that YAML has: a tensor or a sequence is written as a list."""
    origin, inner = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return Annotated[(_yaml_type(inner[0]), *inner[1:])]
    if origin in (Union, types.UnionType):
        return Union[tuple(map(_yaml_type, inner))]  # noqa: UP007
    if origin in (Sequence, Iterable):
        return types.GenericAlias(tuple, (_yaml_type(inner[0]), ...))
    if annotation is int:
        return Annotated[int, Between()]
    return list[float] if getattr(annotation, "__name__", "") == "Tensor" else annotation


def _item_type(annotation: Any, index: Any) -> Any:
    """Return the annotation of an item of a list; None where it cannot be told."""
    origin, inner = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        item = _item_type(inner[0], index)
        return None if item is None else Annotated[(item, *inner[1:])]
    if origin in (Union, types.UnionType):
        return next((found for part in inner if (found := _item_type(part, index)) is not None), None)
    if origin is dict:
        return inner[1]
    if origin is tuple and Ellipsis not in inner:
        return inner[index] if isinstance(index, int) and index < len(inner) else None
    if origin in (list, tuple, Sequence, Iterable):
        return inner[0]
    return float if getattr(annotation, "__name__", "") == "Tensor" else None


OPTIONAL_SECTIONS = {key for key in SECTIONS if not Config.model_fields[key].is_required()}


@cache
def _config_class(sections: tuple[tuple[str, type[Section]], ...]) -> type[Config]:
    """Return the schema of a config with these sections."""
    fields: dict[str, Any] = {}
    for key, section in sections:
        default = Config.model_fields[key].default
        fields[key] = (section | None if default is None else section, default if key in OPTIONAL_SECTIONS else ...)
    return create_model("Config", __base__=Config, **fields)


# ------------------------------------------------------------ checking


class _Check:
    """One pass over a tree of nodes: finds the schema that its names ask for, and all that breaks it."""

    def __init__(self, root: Node) -> None:
        self.root = root
        self.problems: list[Problem] = []
        self.broken: set[KeyPath] = set()
        self.holding: set[KeyPath] = set()  # what stands around what is broken
        self.known: dict[str | None, dict[str, Any]] = {}
        self.unknown = 0
        self.sections: dict[str, type[Section]] = dict(PLAIN_SECTIONS)
        for key, base in SECTIONS.items():
            if issubclass(base, NamedSection):
                self._find_section(key, base)

    def run(self) -> Config | None:
        """Return the config, or None if there are problems."""
        config = None
        try:
            schema = _config_class(tuple(self.sections.items()))
            config = schema.model_validate_json(json.dumps(self.root.plain()))
        except ValidationError as error:
            unexplained = [
                path
                for detail in error.errors(include_url=False)
                if (path := self._explain(detail["type"], detail["loc"], detail.get("ctx", {}))) is not None
            ]
            for path in unexplained:  # not one of its types told why
                if path not in self.holding:
                    self._report(path, self._unlike(path))
        self._check_together()
        if config is not None and not self.problems:
            self._check_made(config)
        return None if self.problems else config

    def _report(self, path: KeyPath, message: str, at_key: bool = False) -> None:
        """Add a problem at a path; where nothing stands there, at what stands around it."""
        if path not in self.broken:
            self.broken.add(path)
            self.holding |= {path[:depth] for depth in range(len(path) + 1)}
            node, _ = self.root.nearest(path)
            mark = node.key if at_key else node.mark
            self.problems.append(Problem(mark, ".".join(map(str, path)), message))

    def _is_given(self, path: KeyPath) -> bool:
        return self.root.nearest(path)[1] == path

    # -- names

    def _find_section(self, key: str, base: type[NamedSection]) -> None:
        """Take the schema of the section `key` from the name in it, or report that there is none to take."""
        if not self._is_given((key,)):
            return
        kind, given = base.registry.kind, self.root.value[key].value
        if given is None and key == "scheduler":
            return
        if not isinstance(given, dict):
            example = f"{{name: {next(iter(base.registry), '...')}}}"
            self._report((key,), f"expected a mapping such as {example}, got {show(given)}")
            return
        default = base.model_fields["name"].default
        for implies in base.name_of_key.keys() & given.keys():
            implied = base.name_of_key[implies]
            if given.setdefault("name", Node(implied, given[implies].mark, given[implies].key)).value != implied:
                message = f"give either name, for a registered {kind}, or {implies}, not both"
                self._report((key, "name"), message, at_key=True)
                self.sections[key] = _nameless_class(base)
                return
        name = given["name"].value if "name" in given else default
        if "name" not in given and not isinstance(default, str):
            known = ", ".join(base.registry)
            message = "".join(f"; or give {other}: PATH" for other in base.name_of_key)
            message = f"required key is missing{message}; the known names are: {known}"
            self._report((key, "name"), message, at_key=True)
        elif not isinstance(name, str):
            self._report((key, "name"), f"expected the name of a {kind}, got {show(name)}")
        else:
            try:
                self.sections[key] = section_class(base, base.registry.entry(name).name)
            except UnknownNameError as error:
                self._report((key, "name"), str(error))
        self.sections.setdefault(key, _nameless_class(base))

    # -- single values

    def _explain(self, kind: str, location: KeyPath, context: Mapping[str, Any]) -> KeyPath | None:
        """Report one of pydantic's errors in the words of the config; return a path whose mapping this error does not
        mean.
        """
        if location[0] in SECTIONS and location[0] not in self.sections and self._is_given(location[:1]):
            return None  # without its name there is no schema to hold it against, and that is reported
        node, path = self.root.nearest(location)
        # one of several types it may have
        if isinstance(node.value, dict) and len(path) > 1 and len(path) < len(location):
            if not str(location[len(path)]).startswith("dict"):
                return path
            location = (*path, *location[len(path) + 1 :])
            node, path = self.root.nearest(location)
        annotation = self._annotation(path)
        if kind == "extra_forbidden":
            self._report(location, self._unknown_key(location), at_key=True)
        elif kind == "missing" and isinstance(node.value, dict):
            annotation = self._annotation(location)
            example = EXAMPLES.get(str(location[0])) if len(location) == 1 else None
            expected = (
                f", such as {location[0]}: {example}"
                if example
                else ""
                if annotation is None
                else f" ({describe_type(annotation)})"
            )
            self._report(location, f"required key is missing{expected}", at_key=True)
        elif kind == "value_error":
            self._report(path, str(context["error"]))
        elif MOST in (context.get("le"), -context.get("ge", 0)):
            self._report(path, f"expected an int of at most {MOST:,}, got {show(node.value)}")
        else:
            self._report(path, self._unlike(path))
        return None

    def _unlike(self, path: KeyPath) -> str:
        """Return what may stand at a path, and what does."""
        node, _ = self.root.nearest(path)
        annotation = self._annotation(path)
        return f"expected {'a mapping' if annotation is None else describe_type(annotation)}, got {show(node.value)}"

    def _keys(self, section: str | None) -> dict[str, Any]:
        """Return the keys of a section, or of the whole config, and what each may hold; None for a section."""
        if section not in self.known:
            self.known[section] = self._find_keys(section)
        return self.known[section]

    def _find_keys(self, section: str | None) -> dict[str, Any]:
        schema = Config if section is None else self.sections.get(section)
        if schema is None:
            return {}
        hints = get_type_hints(schema, include_extras=True)
        keys = {key: None if section is None and key in SECTIONS else hints[key] for key in schema.model_fields}
        if issubclass(schema, NamedSection) and schema.argument_names:
            arguments = schema.registry.arguments(schema.__name__)
            keys |= {key: argument.annotation for key, argument in arguments.items()}
        return keys

    def _annotation(self, path: KeyPath) -> Any:
        """Return what may stand at a path; None for a section or the whole."""
        section = str(path[0]) if path and path[0] in SECTIONS else None
        key, *items = (path[1:] if section else path) or (None,)
        annotation = self._keys(section).get(str(key))
        for index in items:
            annotation = _item_type(annotation, index)
        return annotation

    def _unknown_key(self, path: KeyPath) -> str:
        section, key = (str(path[0]), str(path[1])) if len(path) > 1 else (None, str(path[0]))
        known = self._keys(section)
        schema = None if section is None else self.sections[section]
        owner = ""
        if schema is not None and issubclass(schema, NamedSection):
            owner = f" of {schema.__name__}"
            if key in schema.registry.supplied:
                return "the trainer gives this argument; it cannot be configured"
        self.unknown += 1
        if self.unknown > MOST_PROBLEMS:  # a guess takes its time, and nobody sees this one
            return "unknown key"
        near = closest(key, known)
        for elsewhere in (None, *self.sections):
            if key in self._keys(elsewhere):
                near = key if elsewhere is None else f"{elsewhere}.{key}"
        if near is not None:
            return f"unknown key (did you mean {near!r}?)"
        return f"unknown key; the keys{owner} are: {', '.join(known)}"

    # -- values that do not go together

    def _value(self, section: str, key: str) -> Any:
        """Return a value or its default; None where it is broken, or where the section does not have that key."""
        schema = self.sections.get(section)
        if (
            schema is None
            or key not in schema.model_fields
            or (section,) in self.broken
            or (section, key) in self.holding
        ):
            return None
        node, path = self.root.nearest((section, key))
        if len(path) == 2:
            return node.plain()
        field = schema.model_fields[key]
        return None if field.is_required() else field.default

    def _check_together(self) -> None:
        self._check_loss()
        test, validation = self._value("data", "test_size"), self._value("data", "validation_size")
        if test is not None and validation is not None:
            if test + validation < 1:
                self._check_sizes(1 - test - validation)
            else:
                place = "validation_size" if self._is_given(("data", "validation_size")) else "test_size"
                left = f"test_size {test} and validation_size {validation} leave nothing to train on"
                self._report(("data", place), left)
        self._check_class_weight()
        self._check_metrics()
        self._check_exclusive()
        self._check_folds()
        self._check_schedule()
        self._check_amounts()

    def _check_loss(self) -> None:
        """The loss has to suit the task of the dataset, as far as that is known without loading it."""
        dataset, loss = self._value("data", "name"), self._value("loss", "name")
        tasks = self._tasks()
        if tasks is None:
            return
        if "regression" not in tasks and self._value("data", "standardize_target") is True:
            message = f"only the target of a regression can be standardised; {dataset} has classes"
            self._report(("data", "standardize_target"), message)
        suits = {name: set(LOSSES.entry(name).facts.get("tasks", tasks)) for name in LOSSES}
        if loss is not None and not tasks & suits[loss]:
            better = [name for name in LOSSES if tasks & suits[name]]
            message = f"{loss} is for {_either(suits[loss])}, but {dataset} is {_either(tasks)}"
            self._report(("loss", "name"), f"{message}; take {_either(better)}")

    def _check_schedule(self) -> None:
        """The schedule has to suit the interval at which it advances, and to last as long as the run."""
        name, interval = self._value("scheduler", "name"), self._value("scheduler", "interval")
        if name == "ReduceLROnPlateau" and interval == "step":
            message = "ReduceLROnPlateau goes by the validation loss, which is there once an epoch"
            self._report(("scheduler", "interval"), message)
        warmup, epochs = self._value("scheduler", "warmup"), self._value("train", "epochs")
        if warmup and name == "ReduceLROnPlateau":
            message = (
                "ReduceLROnPlateau has no first value to rise to: it goes by the loss; leave out warmup, or take"
                " another schedule"
            )
            self._report(("scheduler", "warmup"), message)
        if warmup and interval == "epoch" and epochs is not None and warmup >= epochs:
            self._report(("scheduler", "warmup"), f"the run is over after {epochs} epochs, before {warmup} of warmup")
        if name == "OneCycleLR":
            total = self._value("scheduler", "total_steps")
            product = [self._value("scheduler", "epochs"), self._value("scheduler", "steps_per_epoch")]
            if total is None and (product[0] is None) != (product[1] is None):
                place = "epochs" if product[1] is None else "steps_per_epoch"
                message = (
                    "epochs and steps_per_epoch go together; leave out both, and the schedule lasts as long as the run"
                )
                self._report(("scheduler", place), message)
            elif interval == "epoch" and epochs is not None and (total is not None or None not in product):
                length = product[0] * product[1] if total is None else total
                if length + (warmup or 0) < epochs:
                    message = f"the schedule is over after {length + (warmup or 0)} of {epochs} epochs"
                    self._report(("scheduler", "total_steps"), message)

    def _tasks(self) -> set[str] | None:
        """Return the tasks that the dataset may be, as far as the config tells; None where it does not."""
        dataset = self._value("data", "name")
        if dataset is None:
            return None
        names = DATASETS.arguments(dataset)
        return set(possible_tasks(dataset, {key: self._value("data", key) for key in names}))

    def _check_class_weight(self) -> None:
        """Weights of classes need classes, and are given once."""
        if not self._value("loss", "class_weight"):
            return
        tasks = self._tasks()
        if tasks == {"regression"}:
            message = f"a regression has no classes to weigh, and {self._value('data', 'name')} is one"
            self._report(("loss", "class_weight"), message)
        for other in ("weight", "pos_weight"):
            if self._value("loss", other) is not None:
                self._report(("loss", "class_weight"), f"loss.{other} weighs the classes already; give one of the two")

    def _check_metrics(self) -> None:
        """Scores have to suit the task, and the monitored one has to exist."""
        tasks, dataset = self._tasks(), self._value("data", "name")
        suits = {name: set(METRICS.entry(name).facts["tasks"]) for name in METRICS}
        for index, name in enumerate(self._value("train", "metrics") or ()):
            if name in suits and tasks is not None and not tasks & suits[name]:
                self._report(("train", "metrics", index), self._unsuited(name, suits, dataset, tasks))
        monitor = self._value("train", "monitor")
        if not isinstance(monitor, str) or monitor in ("auto", "loss"):
            return
        if monitor in suits:
            if tasks is not None and not tasks & suits[monitor]:
                self._report(("train", "monitor"), self._unsuited(monitor, suits, dataset, tasks))
            return
        if monitor.startswith("rmse"):
            if tasks is not None and "regression" not in tasks:
                self._report(("train", "monitor"), f"rmse is for regression, but {dataset} is {_either(tasks)}")
            return
        known = ["auto", "loss", "rmse", *(name for name in suits if tasks is None or tasks & suits[name])]
        near = closest(re.sub("^(validation|valid|val|test|train)_", "", monitor), known)
        hint = f"did you mean {near!r}?" if near else f"known: {', '.join(known)}"
        self._report(("train", "monitor"), f"unknown score {monitor!r} ({hint})")

    def _unsuited(self, name: str, suits: Mapping[str, set[str]], dataset: Any, tasks: set[str]) -> str:
        start = name.partition("_")[0]
        better = [other for other in suits if tasks & suits[other] and other.startswith(start)]
        advice = f"; take {_either(better)}" if better else ""
        return f"{name} is for {_either(suits[name])}, but {dataset} is {_either(tasks)}{advice}"

    def _check_exclusive(self) -> None:
        """Of some options only one at a time makes sense."""
        if self._value("train", "clip_norm") is not None and self._value("train", "clip_value") is not None:
            self._report(("train", "clip_value"), "gradients are clipped by clip_norm already; give one of the two")
        if self._value("model", "batch_norm") is True and self._value("model", "layer_norm") is True:
            self._report(("model", "layer_norm"), "a layer takes batch_norm or layer_norm, not both")

    def _check_folds(self) -> None:
        """A fold is one of several, and a run that is one fold is not divided again."""
        fold, folds = self._value("data", "fold"), self._value("train", "folds")
        if isinstance(fold, list) and len(fold) == 2 and all(type(number) is int and number > 0 for number in fold):
            if fold[1] < 2:
                self._report(("data", "fold", 1), "the rows are divided into 2 folds or more")
            elif fold[0] > fold[1]:
                self._report(("data", "fold", 0), f"there is no fold {fold[0]} of {fold[1]}")
        if fold is not None and folds is not None:
            self._report(("train", "folds"), "data.fold makes this run one fold; leave out one of the two")
        runs = (folds or 1) * (self._value("train", "repeats") or 1)
        if runs > MOST_RUNS:
            place = "repeats" if self._is_given(("train", "repeats")) else "folds"
            self._report(("train", place), f"these are {runs:,} runs, and a config makes at most {MOST_RUNS:,}")

    def _check_sizes(self, share: float) -> None:
        """The portions have to fit the training part, where the config itself says how large that is."""
        batch_size, accumulate = self._value("train", "batch_size"), self._value("train", "accumulate")
        if batch_size is None or accumulate is None:
            return
        if batch_size == 1 and self._value("model", "batch_norm") is True:
            self._report(("train", "batch_size"), "batch normalisation needs 2 rows or more in a batch")
        rows = self._value("data", "n_samples")
        if isinstance(rows, int) and (accumulate > 1 or self._value("train", "drop_last")):
            training = max(1, round(rows * share))
            if batch_size * accumulate > training:
                place = "accumulate" if accumulate > 1 else "batch_size"
                taken = f"{batch_size} x {accumulate} = {batch_size * accumulate}"
                message = f"a step takes {taken} rows, but only about {training} of {rows} are for training"
                self._report(("train", place), message)

    def _check_amounts(self) -> None:
        """What is generated and built has to fit into a memory, and to be done before long."""
        dataset, model = self._value("data", "name"), self._value("model", "name")
        counts: dict[str, int] = {}
        for key in () if dataset is None else DATASETS.arguments(dataset):
            if key.startswith("n_") or key in ("centers", "effective_rank"):
                value = self._value("data", key)
                counts[key] = (
                    sum(value)
                    if key == "n_samples" and isinstance(value, list)
                    else value
                    if isinstance(value, int)
                    else 0
                )
        smaller, larger = ["", "", *sorted(counts, key=lambda key: counts[key])][-2:]
        if smaller and counts[smaller] * counts[larger] > MOST_NUMBERS:
            makes = (
                f"{larger} {counts[larger]:,} x {smaller} {counts[smaller]:,} makes more than {MOST_NUMBERS:,} numbers"
            )
            self._report(("data", larger), makes)
        elif larger and counts[larger] > MOST_NUMBERS:
            self._report(
                ("data", larger), f"{counts[larger]:,} are more than {MOST_NUMBERS:,}, the most that are generated"
            )
        arguments = {} if model is None else {key: self._value("model", key) for key in MODELS.arguments(model)}
        if not any(path[0] == "model" for path in self.broken):
            message = None if model is None else too_large(model, 1, 1, arguments)
            if message is not None:
                self._report(("model", max(arguments, key=lambda key: self._is_given(("model", key)))), message)

    def _check_made(self, config: Config) -> None:
        """What loss, optimizer and schedule refuse when they are made is a mistake of the config."""
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
                        as_long_as_the_run(section.name, arguments, config.train.epochs)
                        SCHEDULERS.get(section.name)(optimizer, **arguments)
            except (ArithmeticError, RuntimeError, TypeError, ValueError) as error:
                message = str(error)
                named = [name for name in arguments if re.search(rf"\b{re.escape(name)}\b", message)]
                named.sort(key=lambda name: not self._is_given((key, name)))
                self._report((key, *named[:1]), message)
                return


def as_tensors(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments of a loss as it takes them: a list becomes a tensor."""
    return {key: nanotorch.tensor(value) if isinstance(value, list) else value for key, value in arguments.items()}


def as_long_as_the_run(name: str, arguments: dict[str, Any], steps: int) -> None:
    """Tell a schedule that is made for a certain length how long the run is, where the config does not."""
    if name == "OneCycleLR" and arguments["total_steps"] is None and arguments["epochs"] is None:
        arguments["total_steps"] = steps


def _either(names: Iterable[str]) -> str:
    return " or ".join(sorted(names))
