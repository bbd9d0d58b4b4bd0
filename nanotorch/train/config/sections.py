"""The sections of a config: which keys there are, and what each may hold.

A name (of a dataset, an optimizer ...) is looked up in `nanotorch.registry`, never imported; the fields beside it are
the arguments of the signature that it stands for.
"""

from __future__ import annotations

import re
import types
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from typing import Annotated, Any, ClassVar, Literal, Union, get_args, get_origin

from pydantic import AfterValidator, BaseModel, ConfigDict, create_model

import nanotorch.nn
import nanotorch.optim
import nanotorch.train.data.sklearn_sets
import nanotorch.train.data.table_file
import nanotorch.train.model.models
import nanotorch.train.model.tabular
import nanotorch.train.model.usual_loss
import nanotorch.train.model.usual_optimizer
import nanotorch.train.score.sklearn_scores
from nanotorch.registry import (
    ACTIVATIONS,
    DATASETS,
    INITIALIZATIONS,
    LOSSES,
    METRICS,
    MODELS,
    OPTIMIZERS,
    SCHEDULERS,
    Between,
    NameIn,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    Registry,
)
from nanotorch.train.config.strict_yaml import show
from nanotorch.utils.files import expanded

PartSize = Annotated[float, Between(0, 1, high_open=True)]

REGISTRIES = {  # what is imported as `nanotorch. ...` above fills them
    "datasets": DATASETS,
    "models": MODELS,
    "activations": ACTIVATIONS,
    "initializations": INITIALIZATIONS,
    "losses": LOSSES,
    "optimizers": OPTIMIZERS,
    "schedulers": SCHEDULERS,
    "metrics": METRICS,
}

MOST_BYTES_OF_NAME = 200  # of the 255 that a directory's name can have; a time and a number follow


def run_name(name: str) -> str:
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
    """Which dataset (or whose `file`), how it is divided (in fractions of all rows, 0 for no such part),
    and whether columns are standardised.

    `fold: [2, 5]` makes the second of five equal parts the test part, in place of `test_size`. `rare` says what to do
    with classes of too few rows for each part to have one.
    """

    registry = DATASETS
    name_of_key = {"file": "file"}
    test_size: PartSize = 0.2
    validation_size: PartSize = 0.2
    standardize: bool | Literal["robust", "quantile"] = True
    standardize_target: bool | Literal["auto"] = "auto"
    fold: tuple[PositiveInt, PositiveInt] | None = None
    rare: Literal["refuse", "group", "drop"] = "refuse"


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
    name: str = "auto"
    class_weight: Literal["balanced"] | dict[str, PositiveFloat] | None = None


class OptimizerSection(NamedSection):
    """Which optimizer, and by what its numbers are multiplied for parameters of some names.

    `factors: {bias: {lr: 0.1, weight_decay: 0}}` is for parameters whose name is, or ends in, `bias`; a name may have
    `*`. Of several that fit, the last says. Without it the model's own factors hold, if it has some.
    """

    registry = OPTIMIZERS
    name: str = "auto"
    factors: dict[str, dict[str, NonNegativeFloat]] | None = None


class SchedulerSection(NamedSection):
    """Which schedule of the learning rate, and whether it advances after every epoch or every step.

    Before it begins, the rate rises linearly to its first value in `warmup` epochs or steps.
    """

    registry = SCHEDULERS
    interval: Literal["epoch", "step"] = "epoch"
    warmup: NonNegativeInt = 0


class TrainSection(Section):
    """How long, in which portions and how often; `accumulate` batches make one optimizer step.

    What is "auto" follows from the table, see Note [What a table decides].

    `metrics` are scores by scikit-learn's names besides the usual ones; `monitor` is the score that says which epoch is
    best. `calibration: temperature` makes the probabilities of classes as sure as they are right, by the validation
    part. `folds` cross-validates, and `repeats` trains with that many seeds: each makes a run of its own.
    """

    epochs: PositiveInt | Literal["auto"] = "auto"
    batch_size: PositiveInt | Literal["auto"] = "auto"
    accumulate: PositiveInt = 1
    clip_norm: PositiveFloat | None = None
    clip_value: PositiveFloat | None = None
    shuffle: bool = True
    drop_last: bool = False
    ema: Annotated[float, Between(0, 1, low_open=True, high_open=True)] | None = None
    on_nonfinite: Literal["raise", "skip"] = "raise"
    compile: bool | Literal["auto"] = "auto"
    reduce: Literal["sum", "ordered"] = "sum"
    metrics: tuple[Annotated[str, NameIn(METRICS)], ...] = ()
    monitor: str = "auto"
    calibration: Literal["temperature"] | None = None
    folds: Annotated[int, Between(2)] | None = None
    repeats: PositiveInt = 1


class EarlyStoppingSection(Section):
    """Stop when the monitored score has not become better by `min_delta` for `patience` epochs.

    Better than the last score that was better by as much, as in Keras.
    """

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


class SweepSection(Section):
    """Many trials in place of one run: every other key of this section is a key of the config, with values to try.

    `trials` draws that many; `halving: 3` keeps the best third at a time, first after `min_epochs` epochs.
    """

    model_config = ConfigDict(extra="allow")
    trials: PositiveInt | None = None
    halving: Annotated[int, Between(2)] | None = None
    min_epochs: PositiveInt | None = None

    @property
    def axes(self) -> dict[str, Any]:
        """The values to try by key, as they are written."""
        return dict(self.model_extra or {})


class Config(Section):
    """Everything that decides what a run computes. Frozen; made by `load`.

    Without a `name` a run is called as the file is. A `seed` of null stands for one that is still to be drawn:
    `with_seed` does it. A `preset` of "taken" says that values were chosen by the table (Note [Preset]).
    """

    name: Annotated[str, AfterValidator(run_name)]
    seed: Annotated[int, Between(0, 2**32 - 1)] | None = 0
    device: Annotated[str, AfterValidator(_device)] = "auto"
    dtype: Literal["float32", "float64"] = "float32"
    output: Annotated[str, AfterValidator(_output)] = "runs"
    preset: Literal["default", "taken"] | None = None
    data: DataSection
    model: ModelSection
    loss: LossSection = LossSection()
    optimizer: OptimizerSection = OptimizerSection()
    scheduler: SchedulerSection | None = None
    train: TrainSection = TrainSection()
    early_stopping: EarlyStoppingSection | None = None
    checkpoint: CheckpointSection = CheckpointSection()
    log: LogSection = LogSection()
    sweep: SweepSection | None = None


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
    "sweep": SweepSection,
}
EXAMPLES = {  # of the sections that a config has to have
    "data": "{file: table.csv, target: price}",
    "model": "{hidden: [64]}",
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
def nameless_class(base: type[NamedSection]) -> type[NamedSection]:
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


OPTIONAL_SECTIONS = {key for key in SECTIONS if not Config.model_fields[key].is_required()}


@cache
def config_class(sections: tuple[tuple[str, type[Section]], ...]) -> type[Config]:
    """Return the schema of a config with these sections."""
    fields: dict[str, Any] = {}
    for key, section in sections:
        default = Config.model_fields[key].default
        if isinstance(default, NamedSection) and all(
            not field.is_required() for field in section.model_fields.values()
        ):
            default = section()
        fields[key] = (section | None if default is None else section, default if key in OPTIONAL_SECTIONS else ...)
    return create_model("Config", __base__=Config, **fields)


def as_tensors(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments of a loss as it takes them: a list becomes a tensor."""
    return {key: nanotorch.tensor(value) if isinstance(value, list) else value for key, value in arguments.items()}
