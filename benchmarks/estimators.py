"""Seconds to fit, and scores, of MLPClassifier and MLPRegressor: nanotorch's against scikit-learn's own.

    python -m benchmarks.estimators [--quick] [--rounds N] [--json FILE]

Both get the same rows, network, batch size, learning rate, Adam, L2 penalty and number of epochs, and train all of
these. They take turns, each round with another seed (and for both the same one), and are scored on the same rows, which
they have not seen. The fastest of the rounds is printed and compared, with the median ratio in brackets, above 1 where
nanotorch is faster: machines are noisy, and on a shared one the processor's time says more than the clock, so both are
given (with one BLAS thread, as OPENBLAS_NUM_THREADS=1 makes it, for both sides). Where numba is installed the
interpreter of tables is ready before anything is timed, as it is from the second program of a machine on. scikit-learn
computes in the precision of the features, which come as float64 from its datasets; it is timed with float32 features as
well, in which nanotorch computes unless told otherwise.
"""

from __future__ import annotations

import statistics
import time
import warnings
from typing import Any

import numpy as np
from sklearn.datasets import load_breast_cancer, load_diabetes, load_digits
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import train_test_split
from sklearn.neural_network import MLPClassifier as TheirClassifier
from sklearn.neural_network import MLPRegressor as TheirRegressor
from sklearn.preprocessing import StandardScaler

from benchmarks import common
from nanotorch.capture.table.machine import MACHINE
from nanotorch.estimators import MLPClassifier, MLPRegressor

LOADERS = {"breast_cancer": load_breast_cancer, "digits": load_digits, "diabetes": load_diabetes}
CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "breast_cancer (32,) batch 32": ("breast_cancer", {"hidden_layer_sizes": (32,), "batch_size": 32}),
    "breast_cancer (32,) batch 200": ("breast_cancer", {"hidden_layer_sizes": (32,), "batch_size": 200}),
    "digits (100,) batch 200": ("digits", {"hidden_layer_sizes": (100,), "batch_size": 200}),
    "digits (64, 64) batch 32": ("digits", {"hidden_layer_sizes": (64, 64), "batch_size": 32}),
    "digits (256, 256) batch 200": ("digits", {"hidden_layer_sizes": (256, 256), "batch_size": 200}),
    "diabetes (32,) batch 32": (
        "diabetes",
        {"hidden_layer_sizes": (32,), "batch_size": 32, "learning_rate_init": 0.003},
    ),
}
CONTESTANTS = ("nanotorch", "scikit-learn", "scikit-learn float32")
SEEDS = 5  # at least, for the scores


def problem(name: str) -> tuple[Any, Any, Any, Any]:
    """Standardised rows to learn from and to be scored on, and their targets."""
    X, y = LOADERS[name](return_X_y=True)
    X, unseen, y, wanted = train_test_split(X, y, test_size=0.25, random_state=0)
    scaler = StandardScaler().fit(X)
    if name == "diabetes":
        y, wanted = (y - y.mean()) / y.std(), (wanted - y.mean()) / y.std()
    return scaler.transform(X), scaler.transform(unseen), y, wanted


def fit(
    contestant: str, data: str, arguments: dict[str, Any], seed: int, epochs: int, rows: Any
) -> tuple[float, float, float]:
    """Seconds of one fit by the clock and of the processor, and its score."""
    ours, theirs = (MLPRegressor, TheirRegressor) if data == "diabetes" else (MLPClassifier, TheirClassifier)
    model = (ours if contestant == "nanotorch" else theirs)(
        **arguments, max_iter=epochs, n_iter_no_change=np.inf, random_state=seed
    )
    X, unseen, y, wanted = rows
    if contestant.endswith("float32"):
        X, unseen = X.astype(np.float32), unseen.astype(np.float32)
    start, busy = time.perf_counter(), time.process_time()
    model.fit(X, y)
    seconds, busy = time.perf_counter() - start, time.process_time() - busy
    assert model.n_iter_ == epochs
    return seconds, busy, float(model.score(unseen, wanted))


def main() -> None:
    """Fit everything and print the table."""
    options = common.arguments("Fit time and score of the estimators, against scikit-learn's own.")
    MACHINE.wait()
    rounds, epochs = (options.rounds or 1, 2) if options.quick else (max(options.rounds or 15, SEEDS), 50)
    warnings.simplefilter("ignore", ConvergenceWarning)
    lines, results = [], []
    for case, (data, arguments) in CASES.items():
        rows = problem(data)
        for contestant in CONTESTANTS:
            fit(contestant, data, arguments, 0, 2, rows)
        taken: dict[str, list[tuple[float, float, float]]] = {name: [] for name in CONTESTANTS}
        for seed in range(rounds):
            for place in range(len(CONTESTANTS)):
                contestant = CONTESTANTS[(seed + place) % len(CONTESTANTS)]
                taken[contestant].append(fit(contestant, data, arguments, seed, epochs, rows))
        figures = {
            name: dict(zip(("clock", "processor", "score"), map(list, zip(*taken[name], strict=True)), strict=True))
            for name in CONTESTANTS
        }
        cells = [case]
        for name in CONTESTANTS:
            found = figures[name]
            cells.append(f"{min(found['clock']):.3f} s  {np.mean(found['score']):.4f} ± {np.std(found['score']):.4f}")
        ratios: dict[str, dict[str, float]] = {}
        for name in CONTESTANTS[1:]:
            theirs, ours = figures[name], figures["nanotorch"]
            ratios[name] = {f"{by} minima": min(theirs[by]) / min(ours[by]) for by in ("clock", "processor")}
            paired = zip(theirs["clock"], ours["clock"], strict=True)
            ratios[name]["clock median"] = statistics.median(their / our for their, our in paired)
            cells.append("{clock minima:.2f} ({clock median:.2f}) {processor minima:.2f}".format(**ratios[name]))
        lines.append(cells)
        results.append({"case": case, "epochs": epochs, "arguments": arguments, "figures": figures, "ratios": ratios})
    header = [
        "data, hidden layers",
        *(f"{name}: least time, score" for name in CONTESTANTS),
        "scikit-learn/nanotorch: clock (median) processor",
        "float32: the same",
    ]
    title = f"fitting {epochs} epochs: least seconds, mean score on unseen rows over {rounds} seeds (accuracy or R2)"
    common.report(title, common.machine(), common.table(header, lines), results, options.json)


if __name__ == "__main__":
    main()
