"""python -m benchmarks.jobs.scikit_learn DATA EPOCHS BATCH RATE FOLDER: train with scikit-learn's MLP, and test it.

It has no GELU and no dropout; ReLU is what it has.
"""

from __future__ import annotations

import sys
import warnings

from sklearn.exceptions import ConvergenceWarning
from sklearn.neural_network import MLPClassifier

from benchmarks.jobs.data import parts


def main() -> None:
    """Train, and print the accuracy on the test part."""
    name, epochs, batch, rate, _ = sys.argv[1:]
    x, y, x_validation, y_validation, x_test, y_test = parts(name)
    model = MLPClassifier(
        (128, 64), batch_size=int(batch), learning_rate_init=float(rate), max_iter=int(epochs),
        n_iter_no_change=int(epochs), tol=0.0, random_state=0,
    )  # fmt: skip
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit(x, y)
    print(f"validation accuracy {model.score(x_validation, y_validation):.4f}")
    print(f"test accuracy {model.score(x_test, y_test):.4f}")


if __name__ == "__main__":
    main()
