"""The table of a job, for programs that load it by themselves: standardised, in three parts."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray


def parts(name: str) -> list[NDArray[Any]]:
    """Return features and classes of the training, validation and test part of a dataset, or of a Parquet file."""
    from sklearn.model_selection import train_test_split
    from sklearn.preprocessing import StandardScaler

    if name in ("digits", "breast_cancer"):
        from sklearn import datasets

        x, y = getattr(datasets, f"load_{name}")(return_X_y=True)
    else:
        import pandas as pd

        table = pd.read_parquet(name)
        x, y = table.drop(columns="y").to_numpy(), table["y"].to_numpy()
    x, x_test, y, y_test = train_test_split(x, y, test_size=0.2, stratify=y, random_state=0)
    x, x_validation, y, y_validation = train_test_split(x, y, test_size=0.125, stratify=y, random_state=0)
    scaler = StandardScaler().fit(x)
    x, x_validation, x_test = (scaler.transform(part).astype(np.float32) for part in (x, x_validation, x_test))
    return [x, y, x_validation, y_validation, x_test, y_test]


def table(folder: Path) -> None:
    """Write a table of seven classes, of the width of covtype: a network's answers, and noise."""
    import pyarrow
    import pyarrow.parquet

    rng = np.random.default_rng(0)
    x = rng.normal(size=(100_000, 54))
    hidden = np.tanh(x @ rng.normal(size=(54, 24)) / 4)
    y = (hidden @ rng.normal(size=(24, 7)) + rng.gumbel(size=(len(x), 7)) / 2).argmax(axis=1)
    columns = {f"x{k}": column for k, column in enumerate(x.T)}
    pyarrow.parquet.write_table(pyarrow.table({**columns, "y": y}), folder / "table.parquet")


if __name__ == "__main__":
    table(Path(sys.argv[1]))
