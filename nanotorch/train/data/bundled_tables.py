"""The tables that scikit-learn comes with, read from its folder: its import would take longer than most of their runs.

Note [Bundled tables]
~~~~~~~~~~~~~~~~~~~~~
A file is taken for what it was when this was written by its digest alone, so that what is read is what scikit-learn's
own loader returns, number for number; of any other file nothing is guessed, and the loader is asked.
"""

from __future__ import annotations

import gzip
import hashlib
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from nanotorch.train.data.table import FloatArray

LARGEST = 1 << 20  # bytes of a file that is looked at
DIGESTS = {  # sha256
    "breast_cancer.csv": "fed3eb72d0575ef6192293f5093c6e801b1476b577d0386bf4455504522172ed",
    "diabetes_data_raw.csv.gz": "7fc0ded571454b1982210d3bb43f0aca44eae01a0b8654a3b24022bdb6b38009",
    "diabetes_target.csv.gz": "8e53f65eb811df43c206f3534bb3af0e5fed213bc37ed6ba36310157d6023803",
    "digits.csv.gz": "09f66e6debdee2cd2b5ae59e0d6abbb73fc2b0e0185d2e1957e9ebb51e23aa22",
    "iris.csv": "f13ffa8fdd56fd8e6c8d16d4081a3fbd3114bcd0aae4256c43205169cd9d1449",
    "linnerud_exercise.csv": "cb8d8c24937643fa2459682efb86c5e667bcd6dd93109eef81964d9e9f11bf8c",
    "linnerud_physiological.csv": "2bf7e05c1cd7d0adf0eca1e456941f624bed0a4fc96694d60d0ff7853ec5fcf7",
    "wine_data.csv": "10e8a802908b34f86e5da8ce962f3c806694bc98450a18f61851af59f324bede",
}
CELL = (
    "radius", "texture", "perimeter", "area", "smoothness", "compactness", "concavity", "concave points", "symmetry",
    "fractal dimension",
)  # fmt: skip
FEATURES: Mapping[str, Sequence[str]] = {
    "iris": [f"{part} {size} (cm)" for part in ("sepal", "petal") for size in ("length", "width")],
    "wine": [
        "alcohol", "malic_acid", "ash", "alcalinity_of_ash", "magnesium", "total_phenols", "flavanoids",
        "nonflavanoid_phenols", "proanthocyanins", "color_intensity", "hue", "od280/od315_of_diluted_wines", "proline",
    ],
    "breast_cancer": [
        *(f"mean {name}" for name in CELL), *(f"{name} error" for name in CELL), *(f"worst {name}" for name in CELL)
    ],
    "diabetes": ["age", "sex", "bmi", "bp", *(f"s{number}" for number in range(1, 7))],
    "digits": [f"pixel_{row}_{column}" for row in range(8) for column in range(8)],
}  # fmt: skip


def read(function: str, arguments: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return what a loader of scikit-learn returns, by the same keys;
    None where it has to be asked: it loads no such table, or the files are not those that are known.
    """
    name = function.removeprefix("load_")
    if name == "linnerud":
        exercise, physiological = _text("linnerud_exercise.csv"), _text("linnerud_physiological.csv")
        if exercise is None or physiological is None:
            return None
        feature_names, features = _with_header(exercise)
        target_names, targets = _with_header(physiological)
        return {"data": features, "target": targets, "feature_names": feature_names, "target_names": target_names}
    if name == "diabetes":
        raw, target = _text("diabetes_data_raw.csv.gz"), _text("diabetes_target.csv.gz")
        if raw is None or target is None:
            return None
        features = _numbers(raw, None)
        if arguments["scaled"]:
            deviations = features.std(axis=0)
            features = (features - features.mean(axis=0)) / deviations / len(features) ** 0.5
        return {"data": features, "target": _numbers(target, None).reshape(-1), "feature_names": FEATURES[name]}
    if name == "digits":
        text = _text("digits.csv.gz")
        if text is None:
            return None
        rows = _numbers(text, ",")
        rows = rows[rows[:, -1] < arguments["n_class"]]
        return _classes(rows, FEATURES[name], range(10))
    if name in FEATURES:
        text = _text("wine_data.csv" if name == "wine" else f"{name}.csv")
        if text is None:
            return None
        header, _, body = text.partition("\n")
        return _classes(_numbers(body, ","), FEATURES[name], header.split(",")[2:])
    return None


def _classes(rows: FloatArray, features: Sequence[str], names: Sequence[Any]) -> dict[str, Any]:
    """Return a table whose last column is the number of the class."""
    target = rows[:, -1].astype(np.int64)
    return {"data": rows[:, :-1], "target": target, "feature_names": features, "target_names": np.array(names)}


def _text(name: str) -> str | None:
    """Return what a file of scikit-learn's folder holds, if it is the file that is known."""
    found = find_spec("sklearn")  # looks for the package and does not run it
    if found is None or not found.submodule_search_locations:
        return None
    try:
        with (Path(found.submodule_search_locations[0]) / "datasets" / "data" / name).open("rb") as file:
            content = file.read(LARGEST)
    except OSError:
        return None
    if hashlib.sha256(content).hexdigest() != DIGESTS[name]:
        return None
    return (gzip.decompress(content) if name.endswith(".gz") else content).decode("ascii")


def _with_header(text: str) -> tuple[list[str], FloatArray]:
    header, _, body = text.partition("\n")
    return header.split(), _numbers(body, None)


def _numbers(text: str, separator: str | None) -> FloatArray:
    """Return the numbers of a text, a row for every line."""
    lines = text.split("\n")
    return np.array([line.split(separator) for line in lines if line], dtype=np.float64)
