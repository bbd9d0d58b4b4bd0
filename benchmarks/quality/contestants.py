"""What predicts a table: pipelines of scikit-learn, and configs of nanotorch's trainer; each gets the same rows."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
from sklearn.compose import ColumnTransformer, TransformedTargetRegressor
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegressionCV, RidgeCV
from sklearn.metrics import accuracy_score, log_loss, r2_score
from sklearn.model_selection import train_test_split
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, OrdinalEncoder, StandardScaler

import nanotorch as torch
from nanotorch.train.config.loading import loads
from nanotorch.train.config.strict_yaml import dump
from nanotorch.train.data.preprocessing import Preprocessing
from nanotorch.train.data.table import Table
from nanotorch.train.fit.build import build
from nanotorch.train.fit.chunks import Chunks
from nanotorch.train.fit.loop import evaluate, fit
from nanotorch.train.fit.prepare import Data
from nanotorch.train.model.preset import preset
from nanotorch.train.model.usual_loss import USUAL

Scores = dict[str, float]


def scores(contestant: str, features: Any, targets: Any, seed: int) -> Scores:
    """Return the test score (accuracy or R2) of a split, the log-loss of classes, and the processor's seconds of the
    fit.
    """
    chosen = targets if targets.dtype.kind in "UO" else None
    parts = train_test_split(features, targets, test_size=0.2, random_state=seed, stratify=chosen)
    with warnings.catch_warnings(action="ignore"):
        if contestant in RECIPES:
            return of_nanotorch(contestant, *parts, seed)
        return of_scikit_learn(contestant, *parts, seed)


# ------------------------------------------------------------ scikit-learn


def encoded(features: Any, estimator: Any) -> Any:
    """Return a pipeline that makes numbers of all columns for an estimator."""
    texts = features.select_dtypes(object).columns
    numbers = [column for column in features if column not in texts]
    whole = make_pipeline(SimpleImputer(strategy="median", add_indicator=True), StandardScaler())
    one_hot = make_pipeline(
        SimpleImputer(strategy="constant", fill_value="missing"), OneHotEncoder(handle_unknown="ignore")
    )
    return make_pipeline(
        ColumnTransformer([("n", whole, numbers), ("t", one_hot, texts)], sparse_threshold=0), estimator
    )


def _boosting(features: Any, estimator: Any) -> Any:
    texts = features.select_dtypes(object).columns
    codes = OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1, encoded_missing_value=-1)
    return make_pipeline(ColumnTransformer([("t", codes, texts)], remainder="passthrough"), estimator)


THEIRS: dict[str, Callable[[Any, bool, int], Any]] = {
    "linear": lambda x, classes, seed: encoded(
        x, LogisticRegressionCV(max_iter=500, cv=3) if classes else RidgeCV(np.logspace(-3, 3, 13))
    ),
    "scikit-learn MLP": lambda x, classes, seed: encoded(
        x,
        MLPClassifier(random_state=seed)
        if classes
        else TransformedTargetRegressor(MLPRegressor(random_state=seed), transformer=StandardScaler()),
    ),
    "HistGradientBoosting": lambda x, classes, seed: _boosting(
        x, (HistGradientBoostingClassifier if classes else HistGradientBoostingRegressor)(random_state=seed)
    ),
}


def _pytabkit(features: Any, name: str, **options: Any) -> Any:
    """Return a network of pytabkit (`pip install pytabkit`), which wants no value missing and its texts named."""
    import pytabkit

    numbers = features.select_dtypes("number").columns
    filled = ColumnTransformer(
        [("n", SimpleImputer(strategy="median"), numbers)],
        remainder=SimpleImputer(strategy="constant", fill_value="missing"),
        verbose_feature_names_out=False,
    ).set_output(transform="pandas")
    return make_pipeline(filled, getattr(pytabkit, name)(device="cpu", n_threads=1, **options))


REFERENCES: dict[str, Callable[[Any, bool, int], Any]] = {
    "RealMLP-TD of pytabkit": lambda x, classes, seed: _pytabkit(
        x, f"RealMLP_TD_{'Classifier' if classes else 'Regressor'}", random_state=seed
    ),
    "TabM of pytabkit": lambda x, classes, seed: _pytabkit(
        x, f"TabM_D_{'Classifier' if classes else 'Regressor'}", random_state=seed
    ),
}


def of_scikit_learn(name: str, train: Any, test: Any, known: Any, wanted: Any, seed: int) -> Scores:
    """Fit a pipeline on the rows for training, and score the others."""
    classes = known.dtype.kind in "UO"
    started = time.process_time()
    model = {**THEIRS, **REFERENCES}[name](train, classes, seed)
    if name in REFERENCES:
        texts = [column for column in train if train[column].dtype == object]
        model.fit(train, known, **{f"{model.steps[-1][0]}__cat_col_names": texts})
    else:
        model.fit(train, known)
    seconds = time.process_time() - started
    if not classes:
        return {"score": float(r2_score(wanted, model.predict(test))), "seconds": seconds}
    odds = model.predict_proba(test)
    loss = float(log_loss(wanted, odds, labels=model.classes_))
    return {"score": float(accuracy_score(wanted, model.predict(test))), "log_loss": loss, "seconds": seconds}


# ------------------------------------------------------------ nanotorch


def _all_rows(rows: int, columns: int, task: str) -> dict[str, Any]:
    """The preset without a validation part, as the estimators have it."""
    return {**preset(rows, columns, task), "data": {"validation_size": 0.0}}


def _mlp(rows: int, columns: int, task: str) -> dict[str, Any]:
    """One network, and the best of its epochs, in the batches that small tables had when it was measured."""
    batch = 64 if rows <= 5000 else 128
    epochs = min(100, max(20, 1500 * batch // rows))
    return {
        **preset(rows, columns, task),
        "train": {"epochs": epochs, "batch_size": batch, "monitor": "loss"},
        "model": {"hidden": [128, 128], "dropout": 0.15},
        "loss": {"name": USUAL[task], **({"label_smoothing": 0.1} if task == "multiclass" else {})},
        "optimizer": {"name": "AdamW", "lr": 3e-3, "weight_decay": 0.02},
    }


def _realmlp(rows: int, columns: int, task: str) -> dict[str, Any]:
    rate = 0.2 if task == "regression" else 0.04
    return {
        **_mlp(rows, columns, task),
        "data": {"standardize": "robust"},
        "model": {"name": "realmlp", "hidden": [128, 128]},
        "optimizer": {"name": "AdamW", "lr": rate, "betas": [0.9, 0.95], "weight_decay": 0.02},
        "scheduler": {"name": "CosLogLR", "interval": "step"},
    }


def _tabm(rows: int, columns: int, task: str) -> dict[str, Any]:
    return {
        **_mlp(rows, columns, task),
        "model": {"name": "tabm", "embedding": "none"},
        "optimizer": {"name": "AdamW", "lr": 2e-3, "weight_decay": 3e-4},
        "scheduler": None,
    }


RECIPES: dict[str, Callable[[int, int, str], dict[str, Any]]] = {
    "nanotorch": preset,
    "nanotorch, all rows": _all_rows,
    "nanotorch MLP": _mlp,
    "nanotorch RealMLP": _realmlp,
    "nanotorch TabM": _tabm,
}


def of_nanotorch(name: str, train: Any, test: Any, known: Any, wanted: Any, seed: int) -> Scores:
    """Train by a recipe and score the test rows; the epoch is the last one, or where the recipe wants a validation part
    that which is best on a fifth of the rows for training.
    """
    classes = known.dtype.kind in "UO"
    started = time.process_time()
    names = tuple(sorted(set(known.tolist()))) if classes else ("y",)
    task = _task(known)
    sections = RECIPES[name](len(train), train.shape[1], task)
    pieces = {"train": (train, known), "test": (test, wanted)}
    if "data" not in sections or sections["data"].get("validation_size") != 0:
        fitted, judged, of_fitted, of_judged = for_validation(train, known, seed)
        pieces |= {"train": (fitted, of_fitted), "validation": (judged, of_judged)}
        sections = RECIPES[name](len(fitted), train.shape[1], task)
    parts = {part: _table(rows, values, train, task, names) for part, (rows, values) in pieces.items()}
    config = _config(sections, seed, task)
    data = Data(parts, Preprocessing.fit(parts["train"], config.data.standardize, True))
    training, loader, places, options = build(config, data)
    chunks = Chunks(training, loader, options, options.accumulate, options.epochs)
    best = None
    for event in fit(training, loader, places.get("validation"), options, chunks=chunks):
        if isinstance(event, dict) and "validation" in places and training.best_epoch == training.epoch:
            best = {key: value.clone() for key, value in training.weights().items()}
    training.use(best or training.weights())
    seconds = time.process_time() - started
    score = evaluate(training.model, training.criterion, places["test"])["accuracy" if classes else "r2"]
    return {
        "score": score,
        **({"log_loss": _log_loss(training.model, places["test"])} if classes else {}),
        "seconds": seconds,
    }


def preset_for(rows: Any, targets: Any) -> dict[str, Any]:
    """Return what the preset is for rows to fit."""
    return preset(len(rows), rows.shape[1], _task(targets))


def _task(targets: Any) -> str:
    if targets.dtype.kind not in "UO":
        return "regression"
    return "binary" if len(set(targets.tolist())) == 2 else "multiclass"


def for_validation(train: Any, known: Any, seed: int) -> list[Any]:
    """Return rows to fit and rows that choose the epoch, and the targets of both."""
    classes = known.dtype.kind in "UO"
    parts: list[Any] = train_test_split(
        train, known, test_size=0.2, random_state=seed, stratify=known if classes else None
    )
    return parts


def _log_loss(model: Any, part: Any) -> float:
    """Return the log-loss of a model over a part; its outputs are logits, of two classes one."""
    features, targets = part.dataset.tensors[:2]
    model.eval()
    with torch.no_grad():
        logits = model(features).double()
    odds = logits.softmax(1) if logits.shape[1] > 1 else logits.sigmoid()
    return float(log_loss(targets.numpy().reshape(-1).astype(int), odds.numpy(), labels=range(max(2, logits.shape[1]))))


def _config(sections: dict[str, Any], seed: int, task: str) -> Any:
    """Return a config of these sections; its dataset only has a name of the same task, for the parts are given."""
    of_task = {"regression": "diabetes", "binary": "breast_cancer", "multiclass": "iris"}[task]
    data = {key: value for key, value in sections.get("data", {}).items() if key != "validation_size"}
    return loads(dump({"name": "benchmark", "seed": seed, **sections, "data": {"name": of_task, **data}}))


def _table(rows: Any, values: Any, whole: Any, task: Any, names: tuple[str, ...]) -> Table:
    """Return rows as the trainer has them: columns of texts as numbers of texts, NaN where a value is missing."""
    categories = {
        column: tuple(sorted(map(str, whole[column].dropna().unique()))) for column in whole.select_dtypes(object)
    }
    columns = [
        pd.Categorical(rows[column].map(str, na_action="ignore"), categories[column]).codes.astype(float)
        if column in categories
        else rows[column].to_numpy(np.float64)
        for column in rows
    ]
    features = np.stack(columns, 1)
    for number, column in enumerate(rows):
        if column in categories:
            features[features[:, number] < 0, number] = np.nan
    targets = np.searchsorted(names, values) if task != "regression" else values.reshape(-1, 1)
    return Table(features, targets, task, tuple(map(str, rows)), names, categories)
