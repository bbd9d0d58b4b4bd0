"""scikit-learn's supervised datasets: those it comes with, generates, and downloads once.

Each dataset is one function below, registered under the name that a config gives, with scikit-learn's own
argument names. The annotations are what a config is checked against, before scikit-learn is imported; the
facts beside the name (`task`, `classes`) are what a loss is checked against. To add a dataset, write such a
function: anything that returns a `Table` will do.
"""

from __future__ import annotations

import socket
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Annotated, Any, Literal
from urllib.error import URLError

import numpy as np

from nanotorch.registry import (
    DATASETS,
    Between,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    Probability,
)
from nanotorch.train.data import bundled_tables
from nanotorch.train.data.columns.notation import text_of
from nanotorch.train.data.table import DataError, FloatArray, Table, Task, one_line

Seed = Annotated[int, Between(0, 2**32 - 1)]
DOWNLOAD_TIMEOUT = 20.0  # seconds without an answer, per connection


SEVERAL: tuple[Task, ...] = ("multilabel", "multioutput")


def possible_tasks(name: str, arguments: Mapping[str, Any]) -> set[Task]:
    """Return the tasks that the dataset may turn out to be, as far as can be told without loading it.

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
    numbers: set[Task] = {"regression"}
    if task == "regression":
        return numbers
    if task == "classification" and isinstance(classes, int):
        return {"binary"} if classes == 2 else {"multiclass"}
    known: set[Task] = {"binary", "multiclass"}
    if "target" in DATASETS.arguments(name):
        target, file = arguments.get("target"), str(arguments.get("file"))
        if isinstance(target, list | tuple) and len(target) > 1:
            known = set(SEVERAL)
        elif not isinstance(target, str) or target.endswith(".npy") or file.endswith(".npz"):  # arrays of any width
            known |= set(SEVERAL)
    return known if task == "classification" else known | numbers


def offline_names() -> list[str]:
    """Return the registered datasets that come with scikit-learn or are generated."""
    return [name for name in DATASETS if not {"download", "own"} & set(DATASETS.entry(name).facts)]


def _sklearn(function: str, arguments: Mapping[str, Any] | None = None) -> Table:
    """Return what scikit-learn's function of that name returns, as a Table."""
    name = function.removeprefix("load_").removeprefix("fetch_")
    options = dict(arguments or {})
    data = bundled_tables.read(function, options)
    if data is None:
        data = _called(function, options)
    if isinstance(data, tuple):
        features, targets = data
        feature_names, target_names = None, None
    else:
        features, targets = data["data"], data["target"]
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
    return Table(features, labels.reshape(-1).astype(np.int64), task, names, tuple(map(text_of, target_names)))


def _called(function: str, options: Mapping[str, Any]) -> Any:
    """Return what scikit-learn's function of that name returns."""
    import sklearn.datasets

    if function.startswith("fetch_"):
        with _one_sentence_if_it_fails():
            return getattr(sklearn.datasets, function)(**options, n_retries=1, delay=0.1)
    return getattr(sklearn.datasets, function)(**options)


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
            texts = np.array([text_of(value) for value in column])
            for text in np.unique(texts):
                columns.append((texts == text).astype(np.float64))
                expanded.append(f"{name}={text}")
    return np.stack(columns, axis=1), tuple(expanded)


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
        raise DataError(f"it cannot be read: {one_line(error)}") from error
    except OSError as error:  # URLError, timeouts, a bad checksum, a cache folder that cannot be written
        reason = one_line(error.reason if type(error) is URLError else error)
        raise DataError(
            f"it has to be downloaded once, and that failed ({reason}); connect to the network, or "
            f"point SCIKIT_LEARN_DATA at a folder that already holds it, or take a dataset that needs no "
            f"download: {', '.join(offline_names())}"
        ) from error
    finally:
        socket.setdefaulttimeout(timeout)


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
