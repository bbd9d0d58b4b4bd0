"""scikit-learn estimators: MLPs for Pipeline, GridSearchCV and whatever else takes an estimator.

They run the loop of the trainer (`nanotorch.train.fit.loop.fit`), on arrays in place of a config:

>>> from sklearn.datasets import load_iris
>>> from nanotorch.estimators import MLPClassifier
>>> X, y = load_iris(return_X_y=True)
>>> model = MLPClassifier(learning_rate_init=0.01, tol=0.01, random_state=0)
>>> model.fit(X, y).score(X, y) > 0.9
True
"""

from nanotorch.estimators.classifier import MLPClassifier
from nanotorch.estimators.regressor import MLPRegressor
from nanotorch.estimators.search import MLPSearchCV

__all__ = ["MLPClassifier", "MLPRegressor", "MLPSearchCV"]
