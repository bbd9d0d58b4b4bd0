"""What the files of a run have to hold: one schema for each that is read, and one sentence,
with file and key, where it does not fit.

A file may have been damaged, edited, or made to do harm; whoever writes it can write a checksum that fits. So what is
read is what was written once, in keys and kinds, or it is refused.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, model_validator

from nanotorch.train.config.strict_yaml import show
from nanotorch.train.data.columns.dates import Part, date_format
from nanotorch.train.data.columns.hashed_texts import hashed_columns
from nanotorch.train.data.table import Task
from nanotorch.train.terminal.command import UsageError
from nanotorch.train.terminal.standard_streams import printable
from nanotorch.utils import files

LARGEST_JSON = 2**26
LARGEST_HISTORY = 2**30
Count = Annotated[int, Field(ge=0, lt=2**63)]
Finite = Annotated[float, Field(allow_inf_nan=False)]
Scale = Annotated[float, Field(allow_inf_nan=False, gt=0)]
Checked = TypeVar("Checked")


class RecordError(UsageError):
    """A file of a run that does not hold what it has to; the message names the file and the key."""


class Schema(BaseModel):
    """Keys and the kinds of their values; no other keys, and no value of another kind that could be turned into it."""

    model_config = ConfigDict(strict=True, extra="forbid", protected_namespaces=())


def _differing(given: Any) -> Any:
    """Texts that differ from one another."""
    if len(set(given)) < len(given):
        raise ValueError("names one thing twice")
    return given


def _alike(scores: dict[str, dict[str, float]]) -> dict[str, dict[str, float]]:
    """Return the scores of parts, each of which has the same."""
    names = [list(values) for values in scores.values()]
    if not names or "loss" not in names[0] or any(one != names[0] for one in names):
        raise ValueError("should have the same scores for each part, the loss among them")
    return scores


Names = Annotated[tuple[str, ...], AfterValidator(_differing)]
Scores = Annotated[dict[str, dict[str, float]], AfterValidator(_alike)]


class Record(Schema):
    """A line of metrics.jsonl: an epoch."""

    model_config = ConfigDict(strict=True, extra="allow", protected_namespaces=())
    __pydantic_extra__: dict[str, float]
    epoch: Count
    step: Count
    learning_rate: float
    gradient_norm: float | None
    seconds: float


# ------------------------------------------------------------ state.json


class Scaler(Schema):
    """Standardizer.state."""

    mean: list[Finite]
    scale: list[Scale]
    clip: Scale | None = None

    @property
    def columns(self) -> set[int]:
        """For how many columns it is, by each of its parts."""
        return {len(self.mean), len(self.scale)}


class Quantiles(Schema):
    """QuantileScaler.state."""

    edges: list[list[Finite]]
    places: list[list[Finite]]

    @property
    def columns(self) -> set[int]:
        """For how many columns it is, by each of its parts."""
        return {len(self.edges), len(self.places)}

    @model_validator(mode="after")
    def _fits(self) -> Quantiles:
        for column, (edges, places) in enumerate(zip(self.edges, self.places, strict=False)):
            if len(edges) != len(places) or not edges or edges != sorted(set(edges)):
                raise ValueError(f"edges: those of column {column} do not rise, or have not a place each")
        return self


class Category(Schema):
    """preprocessing.Category.state."""

    values: Names
    missing: bool
    fallback: Count
    other: bool = False

    @model_validator(mode="after")
    def _fits(self) -> Category:
        count = len(self.values) + self.missing + self.other
        if self.fallback >= count:
            raise ValueError(f"fallback is category {self.fallback} of {count}")
        return self


class DatesState(Schema):
    """Dates.state."""

    form: str
    utc: bool
    parts: tuple[Part, ...]

    @model_validator(mode="after")
    def _fits(self) -> DatesState:
        date_format(self.form)
        if not self.parts or self.form == "auto":
            raise ValueError("dates: they have no form, or no part")
        return self


class Prepared(Schema):
    """Preprocessing.state."""

    task: Task
    feature_names: Names
    target_names: Names
    scaler: Scaler | Quantiles | None
    target_scaler: Scaler | None
    fills: tuple[Finite, ...]
    indicators: Names
    categories: list[list[Any]]
    encoding: Literal["one_hot", "embedding"]
    missing_values: tuple[str, ...]
    units: dict[str, str] = {}
    rare: tuple[Names, str] | None = None
    dates: dict[str, DatesState] = {}
    texts: Names = ()
    truths: Names = ()
    classes: tuple[Names, ...] = ()

    @model_validator(mode="after")
    def _fits(self) -> Prepared:
        made = {name: {f"{name}: {part}" for part in dates.parts} for name, dates in self.dates.items()}
        for name, parts in (made | {name: set(hashed_columns(name)) for name in self.texts}).items():
            if not parts <= set(self.feature_names):
                raise ValueError(f"dates or texts: the parts of {show(name)} are not among the features")
        categories = {}
        for pair in self.categories:
            name, category = pair if len(pair) == 2 else ("", None)
            if not isinstance(name, str) or name not in self.feature_names or name in categories:
                raise ValueError(f"categories: {show(name)} is no column, or comes twice")
            categories[name] = checked(category, Category, f"categories, {show(name)}")
        numeric = [name for name in self.feature_names if name not in categories]
        if not self.feature_names:
            raise ValueError("feature_names: there are none")
        for key, scaler, width in (
            ("scaler", self.scaler, len(numeric)),
            ("target_scaler", self.target_scaler, len(self.target_names)),
        ):
            if scaler is not None and scaler.columns != {width}:
                raise ValueError(
                    f"{key} is of {' and '.join(map(str, sorted(scaler.columns)))} columns, not of {width}"
                )
        if len(self.fills) != len(numeric):
            raise ValueError(f"fills has {len(self.fills)} values for {len(numeric)} columns of numbers")
        if not set(self.indicators) <= set(numeric):
            raise ValueError("indicators names what is no column of numbers")
        if {"binary": len(self.target_names) != 2, "multiclass": len(self.target_names) < 2}.get(
            self.task, not self.target_names
        ):
            raise ValueError(f"target_names has {len(self.target_names)} for the task {self.task}")
        several = self.task in ("multilabel", "multioutput")
        if len(self.classes) != several * len(self.target_names) or any(len(names) < 2 for names in self.classes):
            raise ValueError(f"classes has {len(self.classes)} for {len(self.target_names)} targets ({self.task})")
        if several and (self.task == "multilabel") != all(len(names) == 2 for names in self.classes):
            raise ValueError(f"classes: these are not of the task {self.task}")
        return self


class Best(Schema):
    """Which epoch is the best, and for how many none was."""

    epoch: Count
    score: tuple[float, float]
    reference: float | None = None
    waited: Count


class Generators(Schema):
    """The states of the random generators, as `ops.random` reads them."""

    shuffle: dict[str, Any]
    dropout: dict[str, Any]


class RunState(Schema):
    """state.json of a checkpoint: where a run stands."""

    epoch: Count
    step: Count
    step_in_epoch: Count
    skipped: Count
    generators: Generators
    optimizer: str
    moments: Count | None = None
    scheduler: dict[str, Any] | None
    best: Best
    stopped: str | None
    table_from: Count | None = None
    average: Count | None
    training_sums: dict[str, Any] | None
    learning_rate: Finite
    gradient_norms: list[float]
    preprocessing: Prepared
    data: Annotated[str, Field(pattern=r"^[0-9a-f]{64}(-[0-9a-f]{64})?$")]
    history: list[Record] | None = None

    @model_validator(mode="after")
    def _fits(self) -> RunState:
        if self.step_in_epoch > self.step or self.skipped > self.step or self.best.epoch > self.epoch:
            raise ValueError("step_in_epoch, skipped and best.epoch do not fit step and epoch")
        if (self.training_sums is None) != (self.step_in_epoch == 0):
            raise ValueError("training_sums and step_in_epoch do not fit one another")
        return self


# ------------------------------------------------------------ env.json, summary.json


class Environment(Schema):
    """env.json: what the bits of the results depend on."""

    nanotorch: str
    python: str
    libraries: dict[str, str]
    blas: list[str]
    threads: list[str]
    thread_variables: dict[str, str]
    device: str
    compile: str = ""
    machine: str
    processor: str
    system: str
    host: str
    command: list[str]
    directory: str
    date: str = ""
    git_commit: str = ""
    before: dict[str, Any] | None = None


class ClassFacts(Schema):
    """The scores of a class."""

    name: str
    precision: float
    recall: float
    f1: float
    support: Count


class TargetFacts(Schema):
    """One of several targets of classes, in the summary."""

    name: str
    classes: Count
    accuracy: float
    most_frequent: float
    balanced_accuracy: float
    f1: float


class Summary(Schema):
    """summary.json of a run."""

    name: str
    task: Task
    best_epoch: Count
    epochs: Count
    steps: Count
    skipped_steps: Count
    stopped: str | None
    parameters: Count
    rows: dict[str, Count]
    scores: Scores
    classes: list[ClassFacts] | None = None
    calibration_error: float | None = None
    targets: list[TargetFacts] | None = None
    temperature: Scale | None = None
    verdict: list[str] | None = None
    seconds: float


class HeldOut(Schema):
    """held_out.json of a run: scores of rows of the validation part, for each target, and how it judged the others."""

    held_out: list[list[Finite]]
    variance: list[Finite] | None = None
    called: list[Annotated[list[Count], Field(min_length=3, max_length=3)]] | None = None
    true: list[list[Finite]] | None = None
    predicted: list[list[Finite]] | None = None


class SeveralSummary(Schema):
    """summary.json of several runs of one config."""

    name: str
    folds: Count | None
    repeats: Count
    scores: Scores
    spread: Scores
    runs: dict[str, Scores]


class TrialFacts(Schema):
    """A trial of a sweep."""

    name: Annotated[str, Field(pattern=r"^trial-\d+$")]
    values: dict[str, Any]
    score: float | None
    loss: float | None
    best_epoch: Count | None
    epochs: Count
    stopped: str | None
    error: str | None
    scores: dict[str, dict[str, float]]


class SweepSummary(Schema):
    """summary.json of a sweep: its trials, the best first, and the scores of that one."""

    name: str
    monitor: str
    best: Annotated[str, Field(pattern=r"^trial-\d+$")]
    scores: Scores
    trials: list[TrialFacts]


# ------------------------------------------------------------ checking


@cache
def _adapter(schema: Any) -> TypeAdapter[Any]:
    return TypeAdapter(schema)


def checked(value: Any, schema: type[Schema], source: str | Path, key: str = "") -> Any:
    """Return the value itself, if it fits the schema;
    else a RecordError that names the source and the first key that does not.
    """
    try:
        _adapter(schema).validate_python(value)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = printable(".".join(map(str, [*([key] if key else []), *first["loc"]])), kept="")
        what = {
            "missing": "is missing",
            "extra_forbidden": "is no key of this file",
            "value_error": str(first.get("ctx", {}).get("error", "")),
        }.get(
            first["type"],
            f"{first['msg'][:1].lower()}{first['msg'][1:]}".removeprefix("input ") + f", got {show(first['input'])}",
        )
        raise RecordError(
            f"{source}: {place}{' ' if what.startswith('is ') else ': '}{what}" if place else f"{source}: {what}"
        ) from None
    except RecursionError:
        raise RecordError(f"{source} is nested too deeply") from None
    return value


def parsed(data: bytes) -> Any:
    """Return the value of a JSON text; a ValueError says in a few words what is wrong with it,
    such as a key that is there twice.
    """

    def keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) < len(pairs):
            twice = next(key for number, (key, _) in enumerate(pairs) if key in dict(pairs[:number]))
            raise ValueError(f"the key {show(twice)} is there twice")
        return found

    try:
        return json.loads(data, object_pairs_hook=keys)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    except UnicodeDecodeError as error:
        raise ValueError(f"byte {error.start} is not UTF-8") from None


def read_json(path: Path, *schemas: type[Schema]) -> Any:
    """Return what a file of JSON holds, which has to fit the first schema, or one of the others with the same keys.

    A FileNotFoundError where there is no such file; any other trouble is a RecordError.
    """
    try:
        value = parsed(files.read_own(path, LARGEST_JSON))
    except FileNotFoundError:
        raise
    except OSError as error:
        raise RecordError(f"{path} cannot be read: {error.strerror}") from None
    except ValueError as error:
        raise RecordError(f"{path} cannot be read: {error}") from None
    if not isinstance(value, dict):
        raise RecordError(f"{path}: expected an object with keys, got {show(value)}")
    fitting = max(schemas, key=lambda schema: len(set(schema.model_fields) & set(value)))
    return checked(value, fitting, path)


def read_lines(path: Path) -> tuple[list[dict[str, Any]], str | None]:
    """Return the records of metrics.jsonl until the first that is damaged, and what is wrong with that one."""
    try:
        return lines_of(files.read_own(path, LARGEST_HISTORY), path)
    except FileNotFoundError:
        return [], None
    except OSError as error:
        return [], f"{path} cannot be read: {error.strerror}"


def as_lines(records: Iterable[Mapping[str, Any]]) -> str:
    """Records as lines of JSON, each with its end."""
    return "".join(json.dumps(dict(record)) + "\n" for record in records)


def lines_of(data: bytes, path: Path) -> tuple[list[dict[str, Any]], str | None]:
    """Return the records in the lines of a file until the first that is damaged, and what is wrong with that one.

    A last line without its end is of a process that was killed while it wrote, and nothing to tell.
    """
    found: list[dict[str, Any]] = []
    lines = data.split(b"\n")
    for number, line in enumerate(lines, 1):
        try:
            value = parsed(line)
        except ValueError as error:
            return found, None if number == len(lines) else f"{path}, line {number} cannot be read: {error}"
        try:
            found.append(checked(value, Record, f"{path}, line {number}"))
        except RecordError as error:
            return found, str(error)
    return found, None


def by_key(values: Any, key: str = "") -> Iterator[tuple[str, Any]]:
    """Return the values of nested mappings, each with the path of keys that leads to it.

    >>> dict(by_key({"train": {"epochs": 3}, "seed": 0}))
    {'train.epochs': 3, 'seed': 0}
    """
    if isinstance(values, dict):
        for name, value in values.items():
            yield from by_key(value, f"{key}.{name}" if key else name)
    else:
        yield key, values


def unlike(found: Any, expected: Any, key: str) -> str | None:
    """Return what of a saved value is of another kind than in what would be saved now, as a sentence;
    None where it is alike.

    Where nothing is expected (None, or an empty list), anything may be.
    """
    if expected is None:
        return None
    if isinstance(expected, bool | str) or not isinstance(expected, Mapping | list | tuple | int | float):
        alike = type(found) is type(expected)
    elif isinstance(expected, int | float):
        alike = isinstance(found, int | float) and not isinstance(found, bool) and found == found
        alike = alike and (isinstance(found, float) or abs(found) < 2**128)  # as a generator's state has them
    else:
        alike = isinstance(found, Mapping if isinstance(expected, Mapping) else type(expected))
    if not alike:
        return f"{key} should be like {show(expected)}, got {show(found)}"
    if isinstance(expected, Mapping):
        for name in {**expected, **found}:
            if name not in found:
                return f"{key}.{name} is missing"
            if name not in expected:
                return f"{key}.{name} is not known here"
            if told := unlike(found[name], expected[name], f"{key}.{name}"):
                return told
    elif isinstance(expected, list | tuple) and expected:
        if len(found) != len(expected):
            return f"{key} should have {len(expected)} values, and has {len(found)}"
        for number, pair in enumerate(zip(found, expected, strict=True)):
            if told := unlike(*pair, f"{key}.{number}"):
                return told
    return None


def completed(found: Any, expected: Any) -> Any:
    """Return a saved value of an older version with the keys that it would have now,
    the new ones with the values of now.
    """
    if isinstance(found, Mapping) and isinstance(expected, Mapping):
        return {key: completed(found[key], value) if key in found else value for key, value in expected.items()}
    if isinstance(found, list) and isinstance(expected, list) and len(found) == len(expected):
        return [completed(*pair) for pair in zip(found, expected, strict=True)]
    return found
