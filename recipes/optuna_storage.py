"""Several processes, or machines, search with one Optuna study: each trains batches of networks together.

    python recipes/optuna_storage.py

Prints:

    48 settings by 2 processes, of which each has tried some: True
    the best has a mean accuracy of 0.9807

The study lives in a file that all of them append to; on a cluster give the same path on a shared file system to as many
processes as there are, and leave out the loop at the end. A server of MySQL or PostgreSQL does as well:
`storage="postgresql://..."`. Whoever is killed leaves its batch as running, which Optuna's `constant_liar` takes into
account and nobody waits for. `pip install optuna`.
"""

import math
import multiprocessing
import tempfile
import warnings
from pathlib import Path

import optuna
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from sklearn.datasets import load_breast_cancer
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from nanotorch.estimators import MLPClassifier, MLPSearchCV

BATCHES, AT_ONCE, PROCESSES = 3, 8, 2


def study_in(path: Path) -> optuna.Study:
    """Join the study in a file, or begin it."""
    warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    storage = JournalStorage(JournalFileBackend(str(path)))
    sampler = optuna.samplers.TPESampler(constant_liar=True)
    return optuna.create_study(
        study_name="search", direction="maximize", sampler=sampler, storage=storage, load_if_exists=True
    )


def search(path: Path, name: str) -> None:
    """Take batches of settings, train them, and tell the scores."""
    X, y = load_breast_cancer(return_X_y=True)
    network = MLPClassifier((16,), max_iter=20, n_iter_no_change=math.inf, batch_size=32, random_state=0)
    model, study = make_pipeline(StandardScaler(), network), study_in(path)
    for _ in range(BATCHES):
        trials = [study.ask() for _ in range(AT_ONCE)]
        grid = [
            {
                "mlpclassifier__learning_rate_init": [trial.suggest_float("rate", 1e-4, 1e-1, log=True)],
                "mlpclassifier__alpha": [trial.suggest_float("alpha", 1e-6, 1.0, log=True)],
            }
            for trial in trials
        ]
        found = MLPSearchCV(model, grid, cv=5, refit=False).fit(X, y).cv_results_
        for trial, score in zip(trials, found["mean_test_score"], strict=True):
            trial.set_user_attr("process", name)
            study.tell(trial, score)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as place:
        journal = Path(place) / "study.log"
        begin = multiprocessing.get_context("spawn").Process
        processes = [begin(target=search, args=(journal, f"process {number}")) for number in range(PROCESSES)]
        for process in processes:
            process.start()
        for process in processes:
            process.join()
        study = study_in(journal)
        by = {trial.user_attrs["process"] for trial in study.trials}
        print(
            f"{len(study.trials)} settings by {PROCESSES} processes, of which each has tried some:",
            len(by) == PROCESSES,
        )
        print(f"the best has a mean accuracy of {study.best_value:.4f}")
