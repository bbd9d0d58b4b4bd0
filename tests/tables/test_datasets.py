"""Datasets against scikit-learn, the checks of a table, the split, and standardisation."""

from __future__ import annotations

import inspect
import json
import socket
import subprocess
import sys
import types
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sklearn.datasets
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from nanotorch.registry import DATASETS
from nanotorch.train.data import bundled_tables
from nanotorch.train.data.datasets import load
from nanotorch.train.data.sklearn_sets import offline_names, possible_tasks
from nanotorch.train.data.split import split
from nanotorch.train.data.standardizer import QuantileScaler, Standardizer, scaler_from_state
from nanotorch.train.data.table import DataError, Table

NOT_FOR_SUPERVISED_TABLES = {
    "load_files": "reads the user's files",
    "load_svmlight_file": "reads the user's files",
    "load_svmlight_files": "reads the user's files",
    "load_sample_image": "has no target",
    "load_sample_images": "has no target",
    "fetch_file": "not a dataset",
    "fetch_20newsgroups": "texts",
    "fetch_20newsgroups_vectorized": "sparse, 130,107 columns",
    "fetch_rcv1": "sparse, 47,236 columns, several labels a row",
    "fetch_species_distributions": "maps",
    "make_biclusters": "a matrix to cluster",
    "make_checkerboard": "a matrix to cluster",
    "make_low_rank_matrix": "has no target",
    "make_multilabel_classification": "several labels a row",
    "make_sparse_coded_signal": "a dictionary to learn",
    "make_sparse_spd_matrix": "has no target",
    "make_spd_matrix": "has no target",
}
OFFLINE = offline_names()
OF_SCIKIT_LEARN = sorted(set(DATASETS) - {"file"})


def sklearn_name(name: str) -> str:
    return next(prefix + name for prefix in ("load_", "fetch_", "") if hasattr(sklearn.datasets, prefix + name))


# ------------------------------------------------------------ scikit-learn's datasets

BUNDLED: list[tuple[str, dict[str, Any]]] = [
    ("load_iris", {}),
    ("load_wine", {}),
    ("load_breast_cancer", {}),
    ("load_digits", {"n_class": 10}),
    ("load_digits", {"n_class": 3}),
    ("load_diabetes", {"scaled": True}),
    ("load_diabetes", {"scaled": False}),
    ("load_linnerud", {}),
]


@pytest.mark.parametrize(("function", "arguments"), BUNDLED)
def test_bundled_tables_are_those_of_scikit_learns_loaders_to_the_bit(function: str, arguments: dict[str, Any]) -> None:
    found, theirs = bundled_tables.read(function, arguments), getattr(sklearn.datasets, function)(**arguments)
    assert found is not None, "scikit-learn's files have changed: compare them, and add their digests"
    for key in ("data", "target", "feature_names", "target_names"):
        if key in found:
            mine, other = np.asarray(found[key]), np.asarray(theirs[key])
            assert mine.dtype == other.dtype, key
            assert mine.tobytes() == np.ascontiguousarray(other).tobytes(), key
    assert ("target_names" in found) == ("target_names" in theirs)


def test_tables_of_files_that_are_not_known_come_from_scikit_learn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "sklearn" / "datasets" / "data"
    folder.mkdir(parents=True)
    (folder / "iris.csv").write_text("1,4,setosa,versicolor,virginica\n5.1,3.5,1.4,0.2,0\n")
    (folder / "wine_data.csv").write_bytes(bytes(bundled_tables.LARGEST + 1))
    spec = types.SimpleNamespace(submodule_search_locations=[str(tmp_path / "sklearn")])
    for found in (spec, types.SimpleNamespace(submodule_search_locations=None), None):
        monkeypatch.setattr(bundled_tables, "find_spec", lambda name, found=found: found)
        assert [bundled_tables.read(function, arguments) for function, arguments in BUNDLED] == [None] * len(BUNDLED)
    assert load("iris", {}, 0).features.shape == (150, 4)


def test_bundled_tables_need_no_import_of_scikit_learn() -> None:
    code = (
        "import sys; from nanotorch.train.data.datasets import load;"
        "[load(name, {}, 0) for name in ('iris', 'wine', 'breast_cancer', 'digits', 'diabetes', 'linnerud')];"
        "assert not {'sklearn', 'scipy', 'pandas'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_every_supervised_dataset_of_scikit_learn_is_registered() -> None:
    theirs = {name for name in sklearn.datasets.__all__ if name.startswith(("load_", "make_", "fetch_"))}
    ours = {sklearn_name(name) for name in OF_SCIKIT_LEARN}
    assert ours == theirs - set(NOT_FOR_SUPERVISED_TABLES)


@pytest.mark.parametrize("name", OF_SCIKIT_LEARN)
def test_arguments_and_defaults_are_those_of_scikit_learn(name: str) -> None:
    theirs = inspect.signature(getattr(sklearn.datasets, sklearn_name(name))).parameters
    for argument in DATASETS.arguments(name).values():
        assert argument.name in theirs
        if argument.name not in ("random_state", "data_id"):
            assert argument.default == theirs[argument.name].default


@pytest.mark.parametrize("name", OFFLINE)
def test_load_gives_a_table_of_the_promised_task(name: str) -> None:
    table = load(name, {}, seed=0)
    assert table.features.dtype == np.float64
    assert table.features.flags.c_contiguous
    assert {table.task} == possible_tasks(name, {}) or table.task in possible_tasks(name, {})
    assert len(table) == len(table.targets) >= 20


@pytest.mark.parametrize(
    ("name", "shape", "classes"),
    [("iris", (150, 4), 3), ("wine", (178, 13), 3), ("breast_cancer", (569, 30), 2), ("digits", (1797, 64), 10)],
)
def test_classes_are_numbered_as_in_scikit_learn(name: str, shape: tuple[int, int], classes: int) -> None:
    table, theirs = load(name, {}, seed=0), getattr(sklearn.datasets, f"load_{name}")()
    assert table.features.shape == shape
    assert len(table.target_names) == classes
    np.testing.assert_array_equal(table.features, theirs.data)
    np.testing.assert_array_equal(table.targets, theirs.target)
    assert table.target_names == tuple(map(str, theirs.target_names))
    assert table.feature_names == tuple(theirs.feature_names)


def test_regression_targets_are_columns() -> None:
    assert load("diabetes", {}, 0).targets.shape == (442, 1)
    linnerud = load("linnerud", {}, 0)
    assert linnerud.targets.shape == (20, 3)
    assert linnerud.target_names == ("Weight", "Waist", "Pulse")
    assert load("make_regression", {"n_targets": 2}, 0).target_names == ("y0", "y1")


def test_labels_that_are_not_0_to_n_are_renumbered() -> None:
    table = load("make_hastie_10_2", {"n_samples": 50}, 0)
    assert set(table.targets) == {0, 1}
    assert table.target_names == ("-1", "1")


def test_random_data_follows_the_seed_unless_random_state_is_given() -> None:
    first, again, other = (load("make_moons", {"noise": 0.1}, seed).features for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)
    fixed = [load("make_moons", {"noise": 0.1, "random_state": 1}, seed).features for seed in (5, 6)]
    np.testing.assert_array_equal(fixed[0], fixed[1])
    np.testing.assert_array_equal(fixed[0], first)


@pytest.mark.parametrize(
    ("name", "arguments", "tasks"),
    [
        ("make_classification", {"n_classes": 3}, {"multiclass"}),
        ("make_classification", {}, {"binary"}),
        ("make_blobs", {"centers": 2}, {"binary", "multiclass"}),
        ("diabetes", {}, {"regression"}),
        ("openml", {"data_id": 61}, {"binary", "multiclass", "regression"}),
        ("digits", {"n_class": "many"}, {"binary", "multiclass"}),
    ],
)
def test_possible_tasks(name: str, arguments: dict[str, Any], tasks: set[str]) -> None:
    assert possible_tasks(name, arguments) == tasks


def test_what_scikit_learn_refuses_is_a_data_error_in_one_line() -> None:
    with pytest.raises(DataError, match=r"^dataset .make_classification.: Number of informative") as caught:
        load("make_classification", {"n_features": 3}, 0)
    assert "\n" not in str(caught.value)


def test_one_class_is_refused() -> None:
    with pytest.raises(DataError, match="nothing to classify: the only class is '0'"):
        load("make_moons", {"n_samples": (5, 0)}, 0)


def test_more_data_than_memory_is_a_data_error() -> None:
    with pytest.raises(DataError, match="dataset 'make_moons'"):
        load("make_moons", {"n_samples": 2**50}, 0)


def test_sklearn_is_imported_only_to_load() -> None:
    code = "import nanotorch.train.data.datasets, sys; assert not {'sklearn', 'scipy'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


# ------------------------------------------------------------ downloads


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    def refuse(*args: object, **kwargs: object) -> None:
        raise socket.gaierror("Name or service not known")

    monkeypatch.setenv("SCIKIT_LEARN_DATA", str(tmp_path))
    monkeypatch.setattr("socket.socket.connect", refuse)
    monkeypatch.setattr("socket.getaddrinfo", refuse)
    monkeypatch.setattr("time.sleep", lambda seconds: None)  # between scikit-learn's retries


@pytest.mark.parametrize("name", sorted(set(OF_SCIKIT_LEARN) - set(OFFLINE)))
def test_no_network_is_one_sentence_that_says_what_to_do(name: str, no_network: None) -> None:
    with pytest.raises(DataError) as caught:
        load(name, {"data_id": 61} if name == "openml" else {}, 0)
    message = str(caught.value)
    assert message.startswith(f"dataset {name!r}: it ")
    if "Pillow" not in message:
        assert "has to be downloaded once, and that failed (Name or service not known)" in message
        assert "SCIKIT_LEARN_DATA" in message
        assert "breast_cancer, diabetes, digits, iris" in message
        assert "california_housing" not in message.removeprefix(f"dataset {name!r}")
        assert socket.getdefaulttimeout() is None


def test_texts_among_features_become_columns_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = np.array([[1, b"tcp", "2.5"], [2, b"udp", "3"], [3, b"tcp", "4"]], dtype=object)
    bunch = sklearn.utils.Bunch(data=rows, target=np.array([b"good", b"bad", b"good"]), feature_names=["a", "b", "c"])
    monkeypatch.setattr(sklearn.datasets, "fetch_kddcup99", lambda **arguments: bunch)
    table = load("kddcup99", {}, 0)
    assert table.feature_names == ("a", "b=tcp", "b=udp", "c")
    np.testing.assert_array_equal(table.features, [[1, 1, 0, 2.5], [2, 0, 1, 3], [3, 1, 0, 4]])
    assert table.target_names == ("bad", "good")
    assert table.targets.tolist() == [1, 0, 1]


def test_openml_is_a_regression_when_its_target_is_a_number(monkeypatch: pytest.MonkeyPatch) -> None:
    def fetch(**arguments: Any) -> Any:
        assert arguments["data_id"] == 7
        return sklearn.utils.Bunch(
            data=np.eye(4), target=np.arange(4.0), feature_names=list("abcd"), target_names=["t"]
        )

    monkeypatch.setattr(sklearn.datasets, "fetch_openml", fetch)
    assert load("openml", {"data_id": 7}, 0).task == "regression"


def test_sparse_features_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    import scipy.sparse

    bunch = sklearn.utils.Bunch(data=scipy.sparse.eye(3), target=np.arange(3.0))
    monkeypatch.setattr(sklearn.datasets, "fetch_openml", lambda **arguments: bunch)
    with pytest.raises(DataError, match="only dense tables can be trained on"):
        load("openml", {"data_id": 7}, 0)


# ------------------------------------------------------------ tables


def table_of(features: Any, targets: Any, task: Any = "multiclass", classes: int = 3) -> Table:
    features, targets = np.asarray(features), np.asarray(targets)
    names = tuple(f"f{index}" for index in range(features.shape[1] if features.ndim == 2 else 0))
    columns = targets.shape[1] if targets.ndim == 2 else classes
    return Table(features, targets, task, names, tuple(f"t{index}" for index in range(columns)))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_values_that_are_not_finite_are_refused_with_their_place(bad: float) -> None:
    features = np.ones((5, 3))
    features[3, 1] = features[4, 0] = bad
    with pytest.raises(DataError) as caught:
        table_of(features, [0, 1, 2, 0, 1])
    assert str(caught.value) == (
        f"feature 'f1' (column 1) is {bad} in row 3, one of 2 values that are not finite; "
        "remove or replace them before training"
    )
    with pytest.raises(DataError, match=r"target 't0' \(column 0\) is -?(nan|inf) in row 1"):
        table_of(np.ones((2, 3)), [[0.0], [bad]], "regression")


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ([0, 3], "label 3 in row 1 is outside 0 to 2, of 3 classes"),
        ([-1, 0], "label -1 in row 0 is outside 0 to 2, of 3 classes"),
        ([0.0, 1.0], r"class labels must be \(n,\) int64, got \(2,\) float64"),
        (["a", "b"], r"class labels must be \(n,\) int64, got \(2,\) <U1"),
        ([[0], [1]], r"class labels must be \(n,\) int64, got \(2, 1\) int64"),
        ([0], "2 rows of features but 1 targets"),
    ],
)
def test_labels_are_checked(labels: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        Table(np.ones((2, 1)), np.asarray(labels), "multiclass", ("f",), ("a", "b", "c"))


def test_shapes_and_types_are_checked() -> None:
    with pytest.raises(DataError, match=r"got shape \(0, 3\)"):
        table_of(np.ones((0, 3)), np.zeros(0, int))
    with pytest.raises(DataError, match=r"got shape \(3,\)"):
        table_of(np.ones(3), [0, 1, 2])
    with pytest.raises(DataError, match="must be float64, got float32"):
        table_of(np.ones((3, 1), np.float32), [0, 1, 2])
    with pytest.raises(DataError, match="1 feature columns but 2 names"):
        Table(np.ones((2, 1)), np.array([0, 1]), "binary", ("a", "b"), ("x", "y"))
    with pytest.raises(DataError, match=r"regression targets must be \(n, k\) float64"):
        table_of(np.ones((3, 1)), [0.0, 1.0, 2.0], "regression")
    with pytest.raises(DataError, match="2 target columns but 1 names"):
        Table(np.ones((2, 1)), np.ones((2, 2)), "regression", ("a",), ("x",))


# ------------------------------------------------------------ split


@settings(max_examples=40, deadline=None)
@given(
    counts=st.lists(st.integers(8, 60), min_size=2, max_size=5),
    test_size=st.floats(0.05, 0.45),
    validation_size=st.floats(0.05, 0.4),
    seed=st.integers(0, 2**32 - 1),
)
def test_split_shares_no_row_and_keeps_the_classes_in_proportion(
    counts: list[int], test_size: float, validation_size: float, seed: int
) -> None:
    labels = np.random.default_rng(0).permutation(np.repeat(np.arange(len(counts)), counts))
    table = table_of(np.arange(len(labels), dtype=float)[:, None], labels, classes=len(counts))
    parts = split(table, test_size, validation_size, seed)
    rows = np.concatenate([part.features[:, 0] for part in (parts.train, parts.validation, parts.test)])
    assert sorted(rows) == list(range(len(labels)))
    for part, share in ((parts.validation, validation_size), (parts.test, test_size)):
        for label, count in enumerate(counts):
            assert abs((part.targets == label).sum() - count * share) <= max(0.5, 1 - count * share) + 1e-9
    for part in (parts.train, parts.validation, parts.test):
        np.testing.assert_array_equal(part.targets, labels[part.features[:, 0].astype(int)])


def test_split_depends_on_the_seed_alone() -> None:
    table = load("iris", {}, 0)
    first, again, other = (split(table, 0.2, 0.2, seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first.test.features, again.test.features)
    assert not np.array_equal(first.test.features, other.test.features)
    np.random.seed(0)
    np.testing.assert_array_equal(first.train.features, split(table, 0.2, 0.2, 1).train.features)


def test_split_of_iris_is_exact() -> None:
    parts = split(load("iris", {}, 0), test_size=0.2, validation_size=0.2, seed=0)
    assert [len(part) for part in (parts.train, parts.validation, parts.test)] == [90, 30, 30]
    assert np.bincount(parts.test.targets).tolist() == [10, 10, 10]


def test_a_class_with_too_few_rows_is_named() -> None:
    with pytest.raises(DataError) as caught:
        split(table_of(np.ones((12, 1)), [0] * 10 + [1, 1], classes=2), 0.2, 0.25, 0)
    assert str(caught.value) == (
        "class 't1' has 2 rows: too few for one in each of the training, validation and test parts with "
        "data.test_size=0.2 and data.validation_size=0.25; data.rare: group puts such classes together, drop leaves"
        " them out"
    )
    with pytest.raises(DataError, match="class 't2' has 0 rows"):
        split(table_of(np.ones((20, 1)), [0, 1] * 10, classes=3), 0.2, 0.2, 0)
    with pytest.raises(DataError, match="the table has 2 rows"):
        split(table_of(np.ones((2, 1)), np.ones((2, 1)), "regression"), 0.2, 0.2, 0)


def test_three_rows_are_enough_for_a_regression() -> None:
    parts = split(table_of(np.arange(3.0)[:, None], np.ones((3, 1)), "regression"), 0.2, 0.2, 0)
    assert [len(part) for part in (parts.train, parts.validation, parts.test)] == [1, 1, 1]


# ------------------------------------------------------------ standardisation


MODERATE = st.floats(-1e6, 1e6, allow_subnormal=False)


@given(arrays(np.float64, st.tuples(st.integers(1, 30), st.integers(1, 4)), elements=MODERATE))
def test_standardised_columns_have_mean_0_and_deviation_1_and_come_back(values: np.ndarray) -> None:
    scaler = Standardizer.fit(values)
    standardised = scaler.transform(values)
    assert np.isfinite(standardised).all()
    np.testing.assert_allclose(scaler.inverse_transform(standardised), values, rtol=1e-9, atol=1e-9)
    for column in range(values.shape[1]):
        if np.ptp(values[:, column]) > 1e-3 * (1 + np.abs(values[:, column]).max()):
            assert abs(standardised[:, column].mean()) < 1e-6
            assert abs(standardised[:, column].std() - 1) < 1e-6


def test_a_constant_column_becomes_zero_exactly() -> None:
    values = np.full((7, 2), 0.1)
    values[:, 1] = 1e300
    scaler = Standardizer.fit(values[:, :1])
    assert (scaler.transform(values[:, :1]) == 0).all()
    assert scaler.scale.tolist() == [1.0]
    assert scaler.transform(np.array([[1.1]])).item() == pytest.approx(1.0)


def test_one_row_and_denormal_spread_are_safe() -> None:
    assert (Standardizer.fit(np.array([[3.0, -1.0]])).transform(np.array([[3.0, -1.0]])) == 0).all()
    assert np.isfinite(Standardizer.fit(np.array([[0.0], [5e-324]])).transform(np.array([[1.0]]))).all()


def test_values_too_large_for_a_variance_are_refused() -> None:
    with pytest.raises(DataError, match=r"column 1 is too large to be standardised: it reaches 1e\+300"):
        Standardizer.fit(np.array([[1.0, 1e300], [2.0, -1e300]]))


def test_state_is_exact_in_json() -> None:
    values = np.random.default_rng(0).normal(size=(50, 3)) * 1e-7
    scaler = Standardizer.fit(values)
    again = Standardizer.from_state(json.loads(json.dumps(scaler.state())))
    np.testing.assert_array_equal(again.transform(values), scaler.transform(values))


def test_statistics_are_of_the_training_part_alone() -> None:
    parts = split(load("wine", {}, 0), 0.2, 0.2, 0)
    scaler = Standardizer.fit(parts.train.features)
    assert abs(scaler.transform(parts.train.features).mean()) < 1e-12
    assert abs(scaler.transform(parts.test.features).mean()) > 1e-4


# ------------------------------------------------------------ robust scales and quantiles


def test_a_robust_scale_is_that_of_scikit_learn_clipped_smoothly() -> None:
    from sklearn.preprocessing import RobustScaler

    values = np.random.default_rng(0).standard_t(1.5, (90, 3)) * [1, 50, 1e-3]
    scaler = Standardizer.fit_robustly(values)
    plain = RobustScaler().fit(values).transform(values)
    np.testing.assert_allclose(scaler.transform(values), plain / np.sqrt(1 + (plain / 3) ** 2))
    moved = np.concatenate([values, [[1e9, -1e9, 1e9]]])
    assert np.abs(scaler.transform(moved)).max() <= 3


def test_a_robust_scale_of_columns_whose_quartiles_are_one() -> None:
    values = np.array([[0.0, 7, -4], [0, 7, 0], [0, 7, 0], [0, 7, 0], [0, 7, 0], [10, 7, 0]])
    scaler = Standardizer.fit_robustly(values)
    np.testing.assert_allclose(scaler.transform(values)[:, 0], [0, 0, 0, 0, 0, 2 / np.sqrt(1 + 4 / 9)])
    assert (scaler.transform(values)[:, 1] == 0).all()
    np.testing.assert_allclose(scaler.transform(values)[:, 2], [-2 / np.sqrt(1 + 4 / 9), 0, 0, 0, 0, 0])
    with pytest.raises(DataError, match="column 0 is too large to be standardised: it reaches 1e"):
        Standardizer.fit_robustly(np.array([[-1e308], [-1e308], [1e308], [1e308]]))


def test_quantiles_make_columns_normal() -> None:
    from scipy.stats import norm

    generator = np.random.default_rng(1)
    values = np.stack([generator.exponential(size=6000), generator.integers(0, 3, 6000), np.full(6000, 4.0)], 1)
    scaler = QuantileScaler.fit(values)
    scaled = scaler.transform(values)
    ranks = (np.argsort(np.argsort(values[:, 0])) + 0.5) / 6000
    np.testing.assert_allclose(norm.cdf(scaled[:, 0]), ranks, atol=0.01)  # a quantile of 100
    assert abs(scaled[:, 0].mean()) < 0.01 and abs(scaled[:, 0].std() - 1) < 0.05
    steps = [scaled[values[:, 1] == level, 1] for level in range(3)]
    assert all((each == each[0]).all() for each in steps) and steps[0][0] < steps[1][0] < steps[2][0]
    assert np.abs(scaled[:, 2]).max() < 1e-15
    assert scaler.transform(np.array([[-5.0, -5, -5], [1e9, 9, 9]])).tolist() == [
        [places[0] for places in scaler.places],
        [places[-1] for places in scaler.places],
    ]


@pytest.mark.parametrize("rows", [2, 51, 61, 331, 3331])
def test_a_value_of_many_rows_is_one_quantile(rows: int) -> None:
    """Where a quantile is a value of the rows, it is that value and not another beside it."""
    values = np.random.default_rng(rows).integers(0, 7, (rows, 3)) / 7
    count = min(100, max(10, rows // 30)) + 1
    found = QuantileScaler.fit(values)
    for edges, column in zip(found.edges, np.quantile(values, np.linspace(0, 1, count), axis=0).T, strict=True):
        assert len(edges) == 1 or np.diff(edges).min() > 1e-3
        np.testing.assert_allclose(np.interp(column, edges, edges), column, atol=1e-12)


@pytest.mark.parametrize("fit", [Standardizer.fit, Standardizer.fit_robustly, QuantileScaler.fit])
def test_every_scaler_comes_back_from_json(fit: Any) -> None:
    values = np.random.default_rng(2).standard_normal((40, 3))
    scaler = fit(values)
    again = scaler_from_state(json.loads(json.dumps(scaler.state())))
    assert type(again) is type(scaler) and again.state() == scaler.state()
    np.testing.assert_array_equal(again.transform(values), scaler.transform(values))
    assert scaler.scale.shape == (3,) and (scaler.scale > 0).all()
