"""Seconds of a search over settings of an MLP: MLPSearchCV against GridSearchCV over scikit-learn's, in two processes.

    python -m benchmarks.search [--quick] [--rounds N] [--json FILE]

Both try 64 settings (8 learning rates, 8 L2 penalties) on 5 folds of the same standardised rows, with the same network,
batch size, Adam and number of epochs, all of which are trained, with `n_jobs=2`. A small search of each has started
the processes before, those of nanotorch with the interpreter of tables; each search of nanotorch records its programs
anew, which counts. They take turns. The least time is printed, and by how much scikit-learn's is longer: by the least
times, and the median of the rounds in brackets. Beside it stands the accuracy of the best setting, and the mean over
all of them, which for alike searches are alike to chance.
"""

from __future__ import annotations

import statistics
import time
import warnings
from typing import Any

import numpy as np
from sklearn.datasets import load_breast_cancer, load_digits
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import GridSearchCV, StratifiedKFold
from sklearn.neural_network import MLPClassifier as TheirClassifier
from sklearn.preprocessing import StandardScaler

from benchmarks import common
from nanotorch.capture.table.machine import MACHINE
from nanotorch.estimators import MLPClassifier, MLPSearchCV

LOADERS = {"breast_cancer": load_breast_cancer, "digits": load_digits}
CASES: dict[str, tuple[str, dict[str, Any], int]] = {
    "breast_cancer (32,) batch 32": ("breast_cancer", {"hidden_layer_sizes": (32,), "batch_size": 32}, 50),
    "digits (64,) batch 200": ("digits", {"hidden_layer_sizes": (64,), "batch_size": 200}, 10),
}
PROCESSES = 2


def search(contestant: str, rows: Any, arguments: dict[str, Any], settings: int, folds: int) -> tuple[float, ...]:
    """Seconds of one search, its best score, and the mean of all."""
    space = {"learning_rate_init": np.geomspace(1e-4, 1e-1, settings), "alpha": np.geomspace(1e-6, 1e-1, settings)}
    cv = StratifiedKFold(folds, shuffle=True, random_state=0)
    how = {"cv": cv, "refit": False, "scoring": "accuracy", "n_jobs": PROCESSES}
    arguments = {**arguments, "n_iter_no_change": np.inf, "random_state": 0}
    start = time.perf_counter()
    if contestant == "nanotorch":
        found = MLPSearchCV(MLPClassifier(**arguments), space, **how).fit(*rows)
    else:
        found = GridSearchCV(TheirClassifier(**arguments), space, **how).fit(*rows)
    scores = found.cv_results_["mean_test_score"]
    return time.perf_counter() - start, float(scores.max()), float(scores.mean())


def main() -> None:
    """Search with both and print the table."""
    options = common.arguments("Time of a search over settings, against scikit-learn's in two processes.")
    settings, folds, rounds = (2, 2, 1) if options.quick else (8, 5, options.rounds or 3)
    warnings.simplefilter("ignore", ConvergenceWarning)
    MACHINE.wait()
    lines, results = [], []
    for case, (data, arguments, epochs) in CASES.items():
        X, y = LOADERS[data](return_X_y=True)
        rows = StandardScaler().fit_transform(X), y
        given = {**arguments, "max_iter": 2 if options.quick else epochs}
        for contestant in ("nanotorch", "scikit-learn"):
            search(contestant, rows, {**given, "max_iter": 1}, 2, 2)
        taken: dict[str, list[tuple[float, ...]]] = {"nanotorch": [], "scikit-learn": []}
        for number in range(rounds):
            for contestant in list(taken)[:: 1 if number % 2 == 0 else -1]:
                taken[contestant].append(search(contestant, rows, given, settings, folds))
        figures = {
            name: dict(zip(("seconds", "best", "mean"), map(list, zip(*found, strict=True)), strict=True))
            for name, found in taken.items()
        }
        theirs, ours = (figures[name]["seconds"] for name in ("scikit-learn", "nanotorch"))
        ratios = {
            "minima": min(theirs) / min(ours),
            "median": statistics.median(their / our for their, our in zip(theirs, ours, strict=True)),
        }
        cells = [
            f"{min(found['seconds']):.2f} s  {found['best'][0]:.4f}  {found['mean'][0]:.4f}"
            for found in figures.values()
        ]
        lines.append([case, str(given["max_iter"]), *cells, "{minima:.2f} ({median:.2f})".format(**ratios)])
        results.append({"case": case, "epochs": given["max_iter"], "figures": figures, "ratios": ratios})
    header = ["data, hidden layer", "epochs", *(f"{name}: time, best, mean" for name in taken), "longer (median)"]
    title = f"a search over {settings**2} settings on {folds} folds: least seconds, best and mean accuracy"
    common.report(title, common.machine(), common.table(header, lines), results, options.json)


if __name__ == "__main__":
    main()
