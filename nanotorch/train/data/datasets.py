"""Tables to train on: scikit-learn's supervised datasets, the split into three parts, and standardisation.

Each dataset is one function below, registered under the name that a config gives, with scikit-learn's own
argument names. The annotations are what a config is checked against, before scikit-learn is imported; the
facts beside the name (`task`, `classes`) are what a loss is checked against. To add a dataset, write such a
function: anything that returns a `Table` will do.
"""

from __future__ import annotations

import re
import socket
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal, Self
from urllib.error import URLError

import numpy as np
from numpy.typing import NDArray

from nanotorch.registry import (
    DATASETS,
    Between,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    Probability,
)
from nanotorch.train.data.disk_rows import DiskRows

Task = Literal["binary", "multiclass", "regression"]
Seed = Annotated[int, Between(0, 2**32 - 1)]
FloatArray = NDArray[np.float64]

DOWNLOAD_TIMEOUT = 20.0  # seconds without an answer, per connection


class DataError(ValueError):
    """Data that cannot be trained on, or cannot be had; the message says what is wrong and what to do.

    Where a key of the config asks for what these data do not have, `path` leads to it: ("data", "target"), ("train",
    "metrics", 0).
    """

    def __init__(self, message: str, *path: str | int) -> None:
        super().__init__(message)
        self.path = path


# ------------------------------------------------------------ tables


@dataclass(frozen=True, slots=True)
class Table:
    """Features and targets of a supervised problem, checked when it is made.

    `features` is (n, d) float64. `targets` is (n,) int64 class numbers, indices into `target_names`, for the
    tasks "binary" and "multiclass"; it is (n, k) float64, one column per target name, for "regression".
    Anything else, and any value that is not finite, is a DataError that names the place.

    Features may be as they were found: `categories`, if it is not None, maps the columns of categories to their texts;
    such a column holds the numbers of texts, and any column NaN where a value is missing. `notices` is what the user
    should know of how the table came to be. `numbers` says which rows these are of the table that was loaded (None:
    they are all of it), so that a message can name them. Features may also stay on the disk, in a `DiskRows` of any
    numbers; whoever made it has seen to it that all are finite.
    """

    features: FloatArray | DiskRows
    targets: NDArray[Any]
    task: Task
    feature_names: tuple[str, ...]
    target_names: tuple[str, ...]
    categories: Mapping[str, tuple[str, ...]] | None = None
    notices: tuple[str, ...] = ()
    numbers: NDArray[np.int64] | None = None

    def __post_init__(self) -> None:
        """Refuse what could not be trained on."""
        features, targets = self.features, self.targets
        if features.ndim != 2 or not features.size:
            raise DataError(f"features must be (rows, columns) with some of both, got shape {features.shape}")
        if isinstance(features, np.ndarray) and features.dtype != np.float64:
            raise DataError(f"features must be float64, got {features.dtype}")
        if len(targets) != len(features):
            raise DataError(f"{len(features)} rows of features but {len(targets)} targets")
        if len(self.feature_names) != features.shape[1]:
            raise DataError(f"{features.shape[1]} feature columns but {len(self.feature_names)} names of them")
        if self.categories is None and isinstance(features, np.ndarray):
            _refuse_non_finite(features, "feature", self.feature_names)
        if self.task == "regression":
            if targets.ndim != 2 or targets.dtype != np.float64:
                found = f"{targets.shape} {targets.dtype}"
                raise DataError(f"regression targets must be (n, k) float64, got {found}")
            if len(self.target_names) != targets.shape[1]:
                raise DataError(f"{targets.shape[1]} target columns but {len(self.target_names)} names of them")
            _refuse_non_finite(targets, "target", self.target_names)
        else:
            _check_labels(targets, self.target_names)

    def __len__(self) -> int:
        """The number of rows."""
        return len(self.features)

    def rows(self, index: NDArray[np.int64]) -> Table:
        """The table of these rows only."""
        features = self.features.rows(index) if isinstance(self.features, DiskRows) else self.features[index]
        numbers = index if self.numbers is None else self.numbers[index]
        return replace(self, features=features, targets=self.targets[index], numbers=numbers)


def _refuse_non_finite(values: FloatArray, what: str, names: Sequence[str]) -> None:
    finite = np.isfinite(values)
    if not finite.all():
        bad = np.argwhere(~finite)
        row, column = bad[0]
        raise DataError(
            f"{what} {names[column]!r} (column {column}) is {values[row, column]} in row {row}, "
            f"one of {len(bad)} values that are not finite; remove or replace them before training"
        )


def _check_labels(labels: NDArray[Any], names: Sequence[str]) -> None:
    if labels.ndim != 1 or labels.dtype != np.int64:
        raise DataError(f"class labels must be (n,) int64, got {labels.shape} {labels.dtype}")
    if len(names) < 2:
        raise DataError(f"there is nothing to classify: the only class is {names[0] if names else None!r}")
    outside = np.flatnonzero((labels < 0) | (labels >= len(names)))
    if outside.size:
        row = outside[0]
        raise DataError(f"label {labels[row]} in row {row} is outside 0 to {len(names) - 1}, of {len(names)} classes")


def load(name: str, arguments: Mapping[str, Any], seed: int) -> Table:
    """The table of a registered dataset.

    A generator of random data whose `random_state` is not given takes the `seed` of the run. Arguments that
    the dataset refuses, and data that cannot be fetched or used, are a DataError.
    """
    given = dict(arguments)
    if "random_state" in DATASETS.arguments(name) and given.get("random_state") is None:
        given["random_state"] = seed
    try:
        table = DATASETS.get(name)(**given)
    except (ArithmeticError, LookupError, MemoryError, TypeError, ValueError) as error:
        facts = DATASETS.entry(name).facts
        if facts.get("own") and isinstance(error, DataError):  # its messages name the file already
            raise
        path = [] if {"own", "download"} & set(facts) else ["data", _argument(name, given, str(error))]
        raise DataError(f"dataset {name!r}: {_one_line(error)}", *path) from error
    assert isinstance(table, Table), f"dataset {name!r} returned {type(table).__name__}, not a Table"
    return table


def _argument(name: str, given: Mapping[str, Any], message: str) -> str:
    """The argument of a dataset that a message of scikit-learn is about: of several that it names the first that was
    changed.
    """
    arguments = DATASETS.arguments(name)
    changed = [
        key
        for key in arguments
        if key != "random_state" and given.get(key, arguments[key].default) != arguments[key].default
    ]
    places = {
        key: re.search(rf"\b({re.escape(key)}|{re.escape(key.removeprefix('n_'))})\b", message) for key in arguments
    }
    named = sorted((key not in changed, place.start(), key) for key, place in places.items() if place)
    return named[0][2] if named else changed[0] if len(changed) == 1 else "name"


def possible_tasks(name: str, arguments: Mapping[str, Any]) -> set[Task]:
    """The tasks that the dataset may turn out to be, as far as can be told without loading it.

    >>> sorted(possible_tasks("iris", {})), sorted(possible_tasks("digits", {"n_class": 2}))
    (['multiclass'], ['binary'])
    """
    facts = DATASETS.entry(name).facts
    classes = facts.get("classes")
    if isinstance(classes, str):
        classes = arguments.get(classes, DATASETS.arguments(name)[classes].default)
    task = facts.get("task")
    if task in DATASETS.arguments(name):
        task = arguments.get(task) or DATASETS.arguments(name)[task].default
    if task == "regression":
        return {"regression"}
    if task == "classification":
        if not isinstance(classes, int):
            return {"binary", "multiclass"}
        return {"binary"} if classes == 2 else {"multiclass"}
    return {"binary", "multiclass", "regression"}


# ------------------------------------------------------------ split and standardisation


@dataclass(frozen=True, slots=True)
class Splits:
    """Three parts of a table that share no row."""

    train: Table
    validation: Table
    test: Table


def split(
    table: Table, test_size: float, validation_size: float, seed: int, fold: tuple[int, int] | None = None
) -> Splits:
    """Divide the rows at random, with the same share of every class in each part.

    Sizes are fractions of all rows. With `fold`, say (2, 5), the test part is the second of five parts that share no
    row and are the same for each of the five numbers. The division depends on the seed, the sizes and the targets, and
    on nothing else. A class (for regression: a table) that cannot give each part a row is a DataError.
    """
    generator = np.random.default_rng(np.random.SeedSequence([seed, 0x5EED]))
    groups = _groups([table])
    by_class = [np.arange(len(table))]
    if table.task != "regression":
        by_class = np.split(np.argsort(table.targets, kind="stable"), np.cumsum([count for _, count in groups])[:-1])
    parts: tuple[list[NDArray[np.int64]], ...] = ([], [], [])
    for turn, ((what, count), rows) in enumerate(zip(groups, by_class, strict=True)):
        train, validation, end = _division(what, count, test_size, validation_size, fold, turn)
        shuffled = np.roll(generator.permutation(rows), count - end)  # the fold stands at the end
        pieces = np.split(shuffled, [train, train + validation])
        for part, piece in zip(parts, pieces, strict=True):
            part.append(piece)
    return Splits(*(table.rows(np.sort(np.concatenate(part))) for part in parts))


def training_rows(parts: Sequence[Table], test_size: float, validation_size: float, fold: tuple[int, int]) -> int:
    """How many rows another fold of the table that was divided into these parts trains on; a DataError where `split`
    raises one.
    """
    groups = enumerate(_groups(parts))
    return sum(_division(what, count, test_size, validation_size, fold, turn)[0] for turn, (what, count) in groups)


def _groups(parts: Sequence[Table]) -> list[tuple[str, int]]:
    """What is divided into parts of the same shares, in words, and how many rows it has."""
    names = parts[0].target_names
    if parts[0].task == "regression":
        rows = sum(map(len, parts))
        return [(f"the table has {rows} rows", rows)]
    counts = np.bincount(np.concatenate([part.targets for part in parts]), minlength=len(names)).tolist()
    return [(f"class {name!r} has {count} rows", count) for name, count in zip(names, counts, strict=True)]


def _division(
    what: str, count: int, test_size: float, validation_size: float, fold: tuple[int, int] | None, turn: int
) -> tuple[int, int, int]:
    """How many of so many rows are for training and validation, and where those for the test end.

    Where a class's share of a fold is no whole number of rows, its extra rows go to other folds than the last class's:
    it is their `turn`.
    """
    test, end = max(1, int(count * test_size + 0.5)), count
    if fold is not None:
        if count < fold[1]:
            raise DataError(f"{what}: too few for one in each of {fold[1]} folds; lower train.folds", "data", "fold")
        mine = (fold[0] - 1 + turn) % fold[1]
        end = (mine + 1) * count // fold[1]
        test = end - mine * count // fold[1]
    validation = max(1, int(count * validation_size + 0.5))
    if test + validation >= count:
        raise DataError(
            f"{what}: too few for one in each of the training, validation and test parts with "
            f"data.test_size={test_size:g} and data.validation_size={validation_size:g}",
            "data",
            "test_size",
        )
    return count - test - validation, validation, end


@dataclass(frozen=True, slots=True)
class Standardizer:
    """Shifts and scales columns to mean 0 and standard deviation 1, as they had them when it was fitted.

    Fit it on the training part alone: a test score is honest only if nothing about the test rows was
    known. A constant column is shifted and not scaled.
    """

    mean: FloatArray
    scale: FloatArray

    @classmethod
    def fit(cls, values: FloatArray | DiskRows, key: str = "standardize") -> Self:
        """Take the statistics of the columns of `values`, (n, d); `key` of a config's data asks for it."""
        if isinstance(values, DiskRows):
            return cls._fit_in_blocks(values, key)
        with np.errstate(over="ignore", invalid="ignore"):
            mean, deviation = values.mean(axis=0), values.std(axis=0)
        if not np.isfinite(deviation).all():
            column = int(np.argmin(np.isfinite(deviation)))
            largest = np.abs(values[:, column]).max()
            raise DataError(f"column {column} is too large to be standardised: it reaches {largest:g}", "data", key)
        constant = values.max(axis=0) == values.min(axis=0)
        unscaled = constant | (deviation == 0)
        return cls(np.where(constant, values[0], mean), np.where(unscaled, 1.0, deviation))

    @classmethod
    def _fit_in_blocks(cls, values: DiskRows, key: str) -> Self:
        first = values[0].astype(np.float64)
        total, squares, low, high = np.zeros_like(first), np.zeros_like(first), first, first
        for _, block in values.blocks():
            total += block.sum(axis=0, dtype=np.float64)
            low, high = np.minimum(low, block.min(axis=0)), np.maximum(high, block.max(axis=0))
        mean = total / len(values)
        for _, block in values.blocks():
            squares += ((block - mean) ** 2).sum(axis=0)
        deviation = np.sqrt(squares / len(values))
        if not np.isfinite(deviation).all():
            raise DataError(
                f"column {int(np.argmin(np.isfinite(deviation)))} is too large to be standardised", "data", key
            )
        constant = low == high
        return cls(np.where(constant, first, mean), np.where(constant | (deviation == 0), 1.0, deviation))

    def transform(self, values: FloatArray) -> FloatArray:
        """Standardised values."""
        return (values - self.mean) / self.scale

    def inverse_transform(self, values: FloatArray) -> FloatArray:
        """Values in the original units."""
        return values * self.scale + self.mean

    def state(self) -> dict[str, list[float]]:
        """The statistics as lists, exact in JSON: `Standardizer.from_state` gives the same object back."""
        return {"mean": self.mean.tolist(), "scale": self.scale.tolist()}

    @classmethod
    def from_state(cls, state: Mapping[str, Sequence[float]]) -> Self:
        """Rebuild from what `state` returned."""
        return cls(np.asarray(state["mean"], np.float64), np.asarray(state["scale"], np.float64))


# ------------------------------------------------------------ from scikit-learn to a table


def _sklearn(function: str, arguments: Mapping[str, Any] | None = None) -> Table:
    """Call scikit-learn's function of that name and turn what it returns into a Table."""
    import sklearn.datasets

    name = function.removeprefix("load_").removeprefix("fetch_")
    options = dict(arguments or {})
    if function.startswith("fetch_"):
        with _one_sentence_if_it_fails():
            data = getattr(sklearn.datasets, function)(**options, n_retries=1, delay=0.1)
    else:
        data = getattr(sklearn.datasets, function)(**options)
    if isinstance(data, tuple):
        features, targets = data
        feature_names, target_names = None, None
    else:
        features, targets = data.data, data.target
        feature_names, target_names = data.get("feature_names"), data.get("target_names")
    features, names = _as_numbers(features, feature_names)
    tasks, targets = possible_tasks(name, options), np.asarray(targets)
    if tasks == {"regression"} or ("regression" in tasks and targets.dtype.kind == "f"):
        columns = targets.astype(np.float64).reshape(len(targets), -1)
        if target_names is None or len(target_names) != columns.shape[1]:
            target_names = [f"y{index}" for index in range(columns.shape[1])] if columns.shape[1] > 1 else ["y"]
        return Table(features, columns, "regression", names, tuple(map(str, target_names)))
    classes, labels = np.unique(targets, return_inverse=True)
    if target_names is None or len(target_names) != len(classes):
        target_names = classes.tolist()
    task: Task = "binary" if len(classes) == 2 else "multiclass"
    return Table(features, labels.reshape(-1).astype(np.int64), task, names, tuple(map(_text, target_names)))


def _as_numbers(features: Any, names: Sequence[str] | None) -> tuple[FloatArray, tuple[str, ...]]:
    """Features as float64 columns; a column of texts becomes one 0/1 column for each text in it."""
    if not isinstance(features, np.ndarray):
        raise DataError(f"its features are a {type(features).__name__}, and only dense tables can be trained on")
    features = features.reshape(len(features), -1)
    if names is None or len(names) != features.shape[1]:
        names = [f"x{index}" for index in range(features.shape[1])]
    if features.dtype != object:
        return np.ascontiguousarray(features, dtype=np.float64), tuple(map(str, names))
    columns: list[FloatArray] = []
    expanded: list[str] = []
    for name, column in zip(names, features.T, strict=True):
        try:
            columns.append(column.astype(np.float64))
            expanded.append(str(name))
        except ValueError:
            texts = np.array([_text(value) for value in column])
            for text in np.unique(texts):
                columns.append((texts == text).astype(np.float64))
                expanded.append(f"{name}={text}")
    return np.stack(columns, axis=1), tuple(expanded)


def _text(value: Any) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


def _one_line(error: object) -> str:
    return " ".join(str(error).split()) or type(error).__name__


@contextmanager
def _one_sentence_if_it_fails() -> Iterator[None]:
    """Turn whatever a failed download raises into a DataError that says what to do."""
    timeout = socket.getdefaulttimeout()
    socket.setdefaulttimeout(DOWNLOAD_TIMEOUT)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Retry downloading|A network error occurred")
            yield
    except ImportError as error:
        raise DataError(f"it cannot be read: {_one_line(error)}") from error
    except OSError as error:  # URLError, timeouts, a bad checksum, a cache folder that cannot be written
        reason = _one_line(error.reason if type(error) is URLError else error)
        raise DataError(
            f"it has to be downloaded once, and that failed ({reason}); connect to the network, or "
            f"point SCIKIT_LEARN_DATA at a folder that already holds it, or take a dataset that needs no "
            f"download: {', '.join(offline_names())}"
        ) from error
    finally:
        socket.setdefaulttimeout(timeout)


def offline_names() -> list[str]:
    """The registered datasets that come with scikit-learn or are generated."""
    return [name for name in DATASETS if not {"download", "own"} & set(DATASETS.entry(name).facts)]


# ------------------------------------------------------------ datasets that come with scikit-learn


@DATASETS.register("iris", task="classification", classes=3)
def load_iris() -> Table:
    """150 flowers, 4 lengths and widths, 3 species."""
    return _sklearn("load_iris")


@DATASETS.register("wine", task="classification", classes=3)
def load_wine() -> Table:
    """178 wines, 13 chemical measurements, 3 growers."""
    return _sklearn("load_wine")


@DATASETS.register("breast_cancer", task="classification", classes=2)
def load_breast_cancer() -> Table:
    """569 tumours, 30 measurements of cell nuclei, malignant or benign."""
    return _sklearn("load_breast_cancer")


@DATASETS.register("digits", task="classification", classes="n_class")
def load_digits(n_class: Annotated[int, Between(2, 10)] = 10) -> Table:
    """1,797 handwritten digits as 8x8 grey values, 10 classes (or the first `n_class`)."""
    return _sklearn("load_digits", locals())


@DATASETS.register("diabetes", task="regression")
def load_diabetes(scaled: bool = True) -> Table:
    """442 patients, 10 measurements, progression of the disease after a year."""
    return _sklearn("load_diabetes", locals())


@DATASETS.register("linnerud", task="regression")
def load_linnerud() -> Table:
    """20 men, 3 exercises; 3 targets: weight, waist and pulse."""
    return _sklearn("load_linnerud")


# ------------------------------------------------------------ generated: classes


@DATASETS.register(task="classification", classes="n_classes")
def make_classification(
    n_samples: PositiveInt = 100,
    n_features: PositiveInt = 20,
    n_informative: PositiveInt = 2,
    n_redundant: NonNegativeInt = 2,
    n_repeated: NonNegativeInt = 0,
    n_classes: Annotated[int, Between(2)] = 2,
    n_clusters_per_class: PositiveInt = 2,
    weights: list[Probability] | None = None,
    flip_y: Probability = 0.01,
    class_sep: float = 1.0,
    hypercube: bool = True,
    shift: float | None = 0.0,
    scale: PositiveFloat | None = 1.0,
    shuffle: bool = True,
    random_state: Seed | None = None,
) -> Table:
    """Gaussian clusters at the corners of a hypercube, with redundant, repeated and useless features."""
    return _sklearn("make_classification", locals())


@DATASETS.register(task="classification", classes=2)
def make_moons(
    n_samples: PositiveInt | tuple[PositiveInt, PositiveInt] = 100,
    shuffle: bool = True,
    noise: NonNegativeFloat | None = None,
    random_state: Seed | None = None,
) -> Table:
    """Two half circles in the plane, each reaching into the other."""
    return _sklearn("make_moons", locals())


@DATASETS.register(task="classification", classes=2)
def make_circles(
    n_samples: PositiveInt | tuple[PositiveInt, PositiveInt] = 100,
    shuffle: bool = True,
    noise: NonNegativeFloat | None = None,
    random_state: Seed | None = None,
    factor: Annotated[float, Between(0, 1, high_open=True)] = 0.8,
) -> Table:
    """A circle inside a circle."""
    return _sklearn("make_circles", locals())


@DATASETS.register(task="classification")
def make_blobs(
    n_samples: PositiveInt | list[PositiveInt] = 100,
    n_features: PositiveInt = 2,
    centers: Annotated[int, Between(2)] | list[list[float]] | None = None,
    cluster_std: PositiveFloat | list[PositiveFloat] = 1.0,
    center_box: tuple[float, float] = (-10.0, 10.0),
    shuffle: bool = True,
    random_state: Seed | None = None,
) -> Table:
    """Round Gaussian clusters, a class each."""
    return _sklearn("make_blobs", locals())


@DATASETS.register(task="classification", classes="n_classes")
def make_gaussian_quantiles(
    mean: list[float] | None = None,
    cov: PositiveFloat = 1.0,
    n_samples: PositiveInt = 100,
    n_features: PositiveInt = 2,
    n_classes: Annotated[int, Between(2)] = 3,
    shuffle: bool = True,
    random_state: Seed | None = None,
) -> Table:
    """One Gaussian, cut into concentric shells of equal probability, a class each."""
    return _sklearn("make_gaussian_quantiles", locals())


@DATASETS.register(task="classification", classes=2)
def make_hastie_10_2(n_samples: PositiveInt = 12000, random_state: Seed | None = None) -> Table:
    """10 Gaussian features, the class says whether their sum of squares exceeds 9.34."""
    return _sklearn("make_hastie_10_2", locals())


# ------------------------------------------------------------ generated: regression


@DATASETS.register(task="regression")
def make_regression(
    n_samples: PositiveInt = 100,
    n_features: PositiveInt = 100,
    n_informative: NonNegativeInt = 10,
    n_targets: PositiveInt = 1,
    bias: float = 0.0,
    effective_rank: PositiveInt | None = None,
    tail_strength: Probability = 0.5,
    noise: NonNegativeFloat = 0.0,
    shuffle: bool = True,
    random_state: Seed | None = None,
) -> Table:
    """A random linear function of some of the features, with noise."""
    return _sklearn("make_regression", locals())


@DATASETS.register(task="regression")
def make_friedman1(
    n_samples: PositiveInt = 100,
    n_features: Annotated[int, Between(5)] = 10,
    noise: NonNegativeFloat = 0.0,
    random_state: Seed | None = None,
) -> Table:
    """10 sin(pi x0 x1) + 20 (x2 - 0.5)^2 + 10 x3 + 5 x4, and features without meaning."""
    return _sklearn("make_friedman1", locals())


@DATASETS.register(task="regression")
def make_friedman2(
    n_samples: PositiveInt = 100, noise: NonNegativeFloat = 0.0, random_state: Seed | None = None
) -> Table:
    """The impedance of a circuit: sqrt(x0^2 + (x1 x2 - 1 / (x1 x3))^2)."""
    return _sklearn("make_friedman2", locals())


@DATASETS.register(task="regression")
def make_friedman3(
    n_samples: PositiveInt = 100, noise: NonNegativeFloat = 0.0, random_state: Seed | None = None
) -> Table:
    """The phase of a circuit: arctan((x1 x2 - 1 / (x1 x3)) / x0)."""
    return _sklearn("make_friedman3", locals())


@DATASETS.register(task="regression")
def make_sparse_uncorrelated(
    n_samples: PositiveInt = 100, n_features: Annotated[int, Between(4)] = 10, random_state: Seed | None = None
) -> Table:
    """x0 + 2 x1 - 2 x2 - 1.5 x3 and noise, among independent Gaussian features."""
    return _sklearn("make_sparse_uncorrelated", locals())


@DATASETS.register(task="regression")
def make_s_curve(
    n_samples: PositiveInt = 100, noise: NonNegativeFloat = 0.0, random_state: Seed | None = None
) -> Table:
    """Points of an S-shaped sheet in space; the target is the position along the S."""
    return _sklearn("make_s_curve", locals())


@DATASETS.register(task="regression")
def make_swiss_roll(
    n_samples: PositiveInt = 100, noise: NonNegativeFloat = 0.0, random_state: Seed | None = None, hole: bool = False
) -> Table:
    """Points of a rolled-up sheet in space; the target is the position along the roll."""
    return _sklearn("make_swiss_roll", locals())


# ------------------------------------------------------------ downloaded once by scikit-learn


@DATASETS.register("california_housing", task="regression", download=True)
def fetch_california_housing() -> Table:
    """20,640 districts, 8 features, median house value in 100,000 dollars."""
    return _sklearn("fetch_california_housing")


@DATASETS.register("covtype", task="classification", classes=7, download=True)
def fetch_covtype() -> Table:
    """581,012 patches of forest, 54 features, 7 kinds of cover."""
    return _sklearn("fetch_covtype")


@DATASETS.register("kddcup99", task="classification", download=True)
def fetch_kddcup99(subset: Literal["SA", "SF", "http", "smtp"] | None = None, percent10: bool = True) -> Table:
    """494,021 network connections (a tenth of the whole), 41 features, the kind of attack."""
    return _sklearn("fetch_kddcup99", locals())


@DATASETS.register("olivetti_faces", task="classification", classes=40, download=True)
def fetch_olivetti_faces() -> Table:
    """400 photographs of 64x64 grey values, 40 people."""
    return _sklearn("fetch_olivetti_faces")


@DATASETS.register("lfw_people", task="classification", download=True)
def fetch_lfw_people(
    funneled: bool = True,
    resize: PositiveFloat | None = 0.5,
    min_faces_per_person: NonNegativeInt = 0,
    color: bool = False,
) -> Table:
    """13,233 photographs of faces, 5,749 people; set `min_faces_per_person` to have enough of each."""
    return _sklearn("fetch_lfw_people", locals())


@DATASETS.register("lfw_pairs", task="classification", classes=2, download=True)
def fetch_lfw_pairs(
    subset: Literal["train", "test", "10_folds"] = "train",
    funneled: bool = True,
    resize: PositiveFloat | None = 0.5,
    color: bool = False,
) -> Table:
    """Pairs of photographs of faces: the same person or not."""
    return _sklearn("fetch_lfw_pairs", locals())


@DATASETS.register("openml", download=True)
def fetch_openml(data_id: PositiveInt, target_column: str = "default-target") -> Table:
    """Any dense dataset of openml.org, by number; a nominal target is classes, a number regression."""
    return _sklearn("fetch_openml", {**locals(), "as_frame": False, "parser": "liac-arff"})
