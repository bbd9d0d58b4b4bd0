"""A network as a scikit-learn estimator: scaled in a Pipeline, chosen by a search that trains all settings at once.

    python recipes/grid_search.py

Prints:

    dropout  optimizer  accuracy over 5 folds
        0.0       Adam       0.9868 +- 0.0082
        0.0      AdamW       0.9846 +- 0.0088
        0.3       Adam       0.9846 +- 0.0054
        0.3      AdamW       0.9824 +- 0.0054
    chosen: dropout 0.0, Adam
    of 114 rows never seen before, right: 0.9561
    a class has its name: benign, with probability 1.0000
    the pickled search predicts the same: True
"""

import io
import math
from typing import Any

import joblib
import numpy as np
from sklearn.datasets import load_breast_cancer
from sklearn.model_selection import StratifiedKFold, train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from nanotorch.estimators import MLPClassifier, MLPSearchCV

# Labels may be anything that can be sorted, here names.
data = load_breast_cancer()
labels = data.target_names[data.target]
X, unseen, y, wanted = train_test_split(data.data, labels, test_size=0.2, random_state=0, stratify=labels)

# The scaler learns from the rows of each fold's training part alone, since it is part of what is fitted.
# n_iter_no_change=inf: always 40 epochs. Compare settings at equal effort, or set early_stopping=True.
network = MLPClassifier(
    (32,), max_iter=40, n_iter_no_change=math.inf, learning_rate_init=0.01, batch_size=32, random_state=0
)
model = make_pipeline(StandardScaler(), network)

# An optimizer with arguments of its own is a dict, as in a config; so is a schedule.
grid: dict[str, list[Any]] = {
    "mlpclassifier__dropout": [0.0, 0.3],
    "mlpclassifier__optimizer": ["Adam", {"name": "AdamW", "weight_decay": 0.1}],
}
folds = StratifiedKFold(5, shuffle=True, random_state=0)
# GridSearchCV gives the same scores: there the 20 networks are trained one after the other.
search = MLPSearchCV(model, grid, cv=folds).fit(X, y)


def names(arguments: dict[str, Any]) -> tuple[float, str]:
    optimizer = arguments["mlpclassifier__optimizer"]
    return arguments["mlpclassifier__dropout"], optimizer["name"] if isinstance(optimizer, dict) else optimizer


print("dropout  optimizer  accuracy over 5 folds")
found = search.cv_results_
for arguments, mean, spread in zip(found["params"], found["mean_test_score"], found["std_test_score"], strict=True):
    dropout, optimizer = names(arguments)
    print(f"{dropout:7.1f}  {optimizer:>9}  {mean:11.4f} +- {spread:.4f}")
print("chosen: dropout {}, {}".format(*names(search.best_params_)))

# The search has trained the best pipeline once more, on all rows, and predicts with it.
print(f"of {len(unseen)} rows never seen before, right: {search.score(unseen, wanted):.4f}")
probabilities = search.predict_proba(unseen[:1])[0]
print(f"a class has its name: {search.predict(unseen[:1])[0]}, with probability {probabilities.max():.4f}")

# What was fitted is arrays and numbers: it can be written by joblib, and read on a machine without this one's GPU.
file = io.BytesIO()
joblib.dump(search, file)
file.seek(0)
again = joblib.load(file)
print(
    "the pickled search predicts the same:", np.array_equal(again.predict_proba(unseen), search.predict_proba(unseen))
)
