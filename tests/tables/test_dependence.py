"""Partial dependence on the page of a run, against scikit-learn's."""

from __future__ import annotations

import csv
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin
from sklearn.inspection import partial_dependence

from nanotorch.train.cli import train
from nanotorch.train.fit.build import device_of
from nanotorch.train.fit.loss_and_parts import loss_and_parts
from nanotorch.train.fit.prepare import Data, prepare
from nanotorch.train.report import dependence
from nanotorch.train.report.run_summary import gather
from nanotorch.train.report.verdict import column_worths
from nanotorch.train.score.classification import probabilities
from nanotorch.train.use.loaded_run import LoadedRun, load_run

COLUMNS = ("a", "kind", "few")


class Raw(BaseEstimator):  # type: ignore[misc]
    """A run as an estimator of scikit-learn's, of rows of raw cells."""

    def __init__(self, run: LoadedRun) -> None:
        self.run = run

    def fit(self, X: Any, y: Any = None) -> Raw:
        return self

    def __sklearn_is_fitted__(self) -> bool:
        return True

    def outputs(self, X: Any) -> Any:
        return self.run.outputs(self.run.preprocessing.encode(dict(zip(COLUMNS, np.asarray(X).T, strict=True)))[0])


class Classifier(ClassifierMixin, Raw):  # type: ignore[misc]
    @property
    def classes_(self) -> Any:
        return np.array(self.run.preprocessing.target_names)

    def predict_proba(self, X: Any) -> Any:
        return probabilities(self.outputs(X))


class Regressor(RegressorMixin, Raw):  # type: ignore[misc]
    def predict(self, X: Any) -> Any:
        return self.run.preprocessing.in_units(self.outputs(X))[:, 0]


@pytest.mark.parametrize("target", ["y", "two", "many"])
@pytest.mark.parametrize("option", ["data.standardize=quantile", "data.categories=embedding"])
def test_it_is_that_of_scikit_learn(target: str, option: str, tmp_path: Path) -> None:
    draw = np.random.default_rng(0)
    with open(tmp_path / "t.csv", "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow([*COLUMNS, target])
        for row in range(120):
            a, kind, few = draw.normal(), "uvw"[draw.integers(3)], draw.integers(4) / 2
            score = a + 0.4 * "uvw".index(kind) - few + 0.2 * draw.normal()
            said = {
                "y": f"{100 + score:.3f}",
                "two": "no" if score < 0 else "yes",
                "many": f"c{int(score > -0.5) + 2 * (a > 0)}",
            }
            writer.writerow(["" if row % 10 == 3 else f"{a:.3f}", kind, few, said[target]])
    options = ["train.epochs=4", "train.compile=false", "model.hidden=[8]", "data.test_size=0.4", option]
    arguments = [str(tmp_path / "t.csv"), "--target", target, *options, "--output", str(tmp_path / "run"), "--quiet"]
    assert train.main(arguments) == 0
    run = load_run(tmp_path / "run")
    data = prepare(run.config)
    data = Data(data.parts, run.preprocessing, data.notices)
    found = gather(run.config, data, run.model, loss_and_parts(run.config, data, device_of(run.config))[1])
    worths, _ = column_worths(found)
    told, shown = dependence.dependences(found, worths), dependence.shown(found)
    assert {one.name for one in told} == set(COLUMNS)
    test = data.parts["test"]
    cells = np.array(test.features, dtype=object)
    cells[:, 1] = [test.categories["kind"][int(code)] for code in test.features[:, 1]]  # type: ignore[index]
    for one in told:
        place = COLUMNS.index(one.name)
        theirs = partial_dependence(
            (Regressor if target == "y" else Classifier)(run),
            cells,
            [place],
            categorical_features=[1],
            method="brute",
            response_method="auto",
            custom_values={place: np.array(one.values, dtype=object)},
        )["average"]
        expected = theirs.T if len(theirs) == 1 else theirs.T[:, shown]
        assert np.allclose(one.answers, expected, rtol=1e-5, atol=1e-6)
    assert len(next(one for one in told if one.name == "a").values) == dependence.MOST_VALUES
    assert next(one for one in told if one.name == "few").values == [0, 0.5, 1, 1.5]
    page = (tmp_path / "run" / "report.html").read_text()
    assert page.count("Mean answer over ") == 2
    of_kind = next(one for one in told if one.name == "kind")
    assert re.search(r'aria-label="Mean [^"]* over kind"', page)
    assert all(f'<data value="{answer!r}">' in page for answer in of_kind.answers.ravel().tolist())
