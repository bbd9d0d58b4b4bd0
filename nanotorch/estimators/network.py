"""What both estimators share: arrays become a `Training`, the trainer's loop trains it, its weights become arrays.

Note [Fitted state]
~~~~~~~~~~~~~~~~~~~
A fitted estimator holds NumPy arrays and plain numbers, nothing else: no Tensor, no model, no handle of a device. So
it can be pickled on a machine with a GPU and used on one without (`set_params(device="cpu")`), and copied, sent to
other processes and written by joblib as fast as its arrays. The model is built anew from `weights_`, in float64, by
each prediction; `partial_fit` builds the `Training` anew and continues it from what a checkpoint of the trainer
would hold, bit for bit as if it had never stopped.
"""

from __future__ import annotations

import copy
import functools
import inspect
import math
import numbers
import secrets
import warnings
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from sklearn.model_selection import train_test_split
from sklearn.utils import check_random_state
from sklearn.utils.validation import _check_sample_weight, check_is_fitted, validate_data

import nanotorch as torch
from nanotorch import Tensor, nn
from nanotorch.backend.device import best_device
from nanotorch.estimators.arguments import activation_name, check, hidden_widths, named
from nanotorch.estimators.prepared import Array, Prepared, Rows, Shared
from nanotorch.nn.modules.ensemble import Kind
from nanotorch.ops.create.random import drawing_from
from nanotorch.optim import Optimizer
from nanotorch.optim.lr_scheduler import LambdaLR, OneCycleLR, ReduceLROnPlateau
from nanotorch.registry import OPTIMIZERS, SCHEDULERS
from nanotorch.train.fit.chunks import Compile, why_not
from nanotorch.train.fit.loop import DivergedError, FitOptions
from nanotorch.train.fit.moving_average import MovingAverage
from nanotorch.train.fit.part_on_device import Part
from nanotorch.train.fit.random_numbers import seeds
from nanotorch.train.fit.together import together
from nanotorch.train.fit.training import Training
from nanotorch.train.model.models import mlp
from nanotorch.train.model.preset import preset
from nanotorch.train.model.tabular import tabm
from nanotorch.train.record.checkpoint import Checkpoint
from nanotorch.train.score.meter import weighted_variance
from nanotorch.train.terminal.blas_threads import blas_threads, worth_threads
from nanotorch.utils.data import DataLoader, TensorDataset

ROWS_AT_ONCE = 4096  # rows of a prediction that are computed together
SMALLEST_LEARNING_RATE = 1e-6  # learning_rate="adaptive" ends here, as in scikit-learn
ADVICE = "Scale the features (and targets), lower learning_rate_init, or set clip_norm"
WHAT_THEN = "raise max_iter, or set n_iter_no_change=float('inf') where a fixed number of epochs is meant"


SEEN = "n_features_in_", "feature_names_in_"  # what scikit-learn keeps of the rows of a fit


class Network(BaseEstimator):
    """An MLP between arrays; subclasses say what the targets are. See `MLPClassifier` for the arguments."""

    _monitor: ClassVar[str]

    # ------------------------------------------------------------ what subclasses say

    def _criterion(self, reduction: str) -> nn.Module:
        """Return the loss."""
        raise NotImplementedError

    def _row_weight(self, targets: Array) -> float:
        """Return what a row counts for in the number that a sum of losses is divided by."""
        raise NotImplementedError

    def _wanted(self, targets: Array) -> Array:
        """Return the targets that the loss compares with."""
        return targets

    def _scored_as(self, targets: Array) -> dict[str, Any]:
        """Return what a Meter has to know of a part with these targets."""
        raise NotImplementedError

    # ------------------------------------------------------------ fitting

    @classmethod
    @functools.cache
    def _get_param_names(cls) -> list[str]:
        names: list[str] = super()._get_param_names()
        return names

    def _store(self, given: Mapping[str, Any]) -> None:
        """Take over the arguments of the constructor, as they are: scikit-learn asks for nothing else there."""
        for name in self._get_param_names():
            setattr(self, name, given[name])

    def _check_arguments(self) -> None:
        check(self.get_params(deep=False), type(self).__init__)

    def _begins_anew(self, incremental: bool) -> bool:
        """Return whether this call forgets what earlier calls learnt."""
        return not hasattr(self, "weights_") or not (self.warm_start or incremental)

    def _weights_of_rows(self, X: Array, sample_weight: Any) -> Array | None:
        """Sample weights as an array, or None where no row has one."""
        if sample_weight is None:
            return None
        weights: Array = _check_sample_weight(sample_weight, X, dtype=np.float64, ensure_non_negative=True)
        if not weights.any():
            raise ValueError("all sample weights are zero: there is nothing to learn from")
        return weights

    def _rows(
        self, X: Any, y: Any, sample_weight: Any, classes: Any, incremental: bool, anew: bool, shared: Shared
    ) -> Rows:
        """Check what was given, and return it as it is learnt; `anew`, with what it says of the classes."""
        raise NotImplementedError

    def _valid(self, X: Any, y: Any, anew: bool) -> Any:
        """Check rows and targets, whatever the arguments, and return what is to be known of them."""
        raise NotImplementedError

    def _checked(self, X: Any, y: Any, anew: bool, shared: Shared) -> Any:
        """Return what `_valid` says of rows; of several fits to them only the first looks at them."""

        def look() -> tuple[Any, dict[str, Any]]:
            found = self._valid(X, y, anew)
            return found, {name: getattr(self, name) for name in SEEN if hasattr(self, name)}

        found, seen = shared.once("checked", look)
        for name, value in seen.items():
            setattr(self, name, value)
        return found

    def _fit(self, X: Any, y: Any, sample_weight: Any, incremental: bool, classes: Any = None) -> Self:
        before = dict(vars(self))
        try:
            prepared = self._prepare(X, y, sample_weight, incremental, Shared(), classes)
            (error,) = train_together([(self, prepared)])
            if error is not None:
                raise error
        except BaseException:  # the weights that are there are not of these rows
            self.__dict__ = before
            raise
        if prepared.unfinished and not incremental:
            warnings.warn(
                f"training ended at max_iter={self._of('max_iter')} epochs while the {prepared.training.monitor} was"
                f" still becoming better; {WHAT_THEN}",
                ConvergenceWarning,
                stacklevel=3,
            )
        return self

    def _prepare(
        self, X: Any, y: Any, sample_weight: Any, incremental: bool, shared: Shared, classes: Any = None
    ) -> Prepared:
        """Check arguments and rows, and return a fit that can begin; `shared` is that of all fits to these rows."""
        self._check_arguments()
        anew = self._begins_anew(incremental)
        rows = self._rows(X, y, sample_weight, classes, incremental, anew, shared)
        if anew:
            if incremental and self.preset is not None:
                raise ValueError("a preset needs to see all rows at once: partial_fit does not support it")
            self.preset_ = {} if self.preset is None else self._chosen_by_preset(rows)
        if self._of("members") > 1 and self.batch_norm:
            raise ValueError("batch_norm=True is of one network, and there are more members")
        if rows.weights is not None:
            # A row of weight 0 is no row: it takes no place in a batch.
            rows, shared = rows.taken(np.flatnonzero(rows.weights)), Shared()
        seed = self._draw_seed()
        apart: Rows | None = None
        if self.early_stopping:
            if incremental:
                raise ValueError("partial_fit does not support early_stopping=True")
            split = seeds(seed, 4)[3] % 2**32, self.validation_fraction
            rows, apart = shared.once(split, lambda: _apart(rows, *split))
            shared = shared.once(("parts", *split), Shared)
        if self.batch_norm and len(rows.features) < 2:
            raise ValueError("batch_norm=True needs 2 rows or more to train on, got 1")
        device = best_device() if self.device == "auto" else torch.device(self.device)
        train = self._part("train", rows, device, shared)
        validation = None if apart is None else self._part("validation", apart, device, shared)
        return self._built(rows, train, validation, seed, incremental, anew, shared)

    def _built(
        self, rows: Rows, train: Part, validation: Part | None, seed: int, incremental: bool, anew: bool, shared: Shared
    ) -> Prepared:
        """Build what is trained, as it stands at the beginning."""
        init_seed, dropout_seed, shuffle_seed, _ = seeds(seed, 4)
        shape = rows.features.shape[1], rows.outputs, str(train.device), self.dtype
        widths, members = hidden_widths(self._of("hidden_layer_sizes")), int(self._of("members"))
        form = *widths, members, activation_name(self.activation)
        kind = "begun", init_seed, shape, form, float(self._of("dropout")), bool(self.batch_norm)

        def begun() -> nn.Sequential:
            with drawing_from(torch.Generator().manual_seed(init_seed)):
                model = self._model(shape[0], rows.outputs, rows.out_activation).to(getattr(torch, self.dtype))
                _initialise(model, 2.0 if self.activation == "logistic" else 6.0)
            return model.to(train.device)

        model = copy.deepcopy(shared.once(kind, begun))
        if not anew:
            model.load_state_dict({name: torch.tensor(array) for name, array in self.weights_.items()})
        generators = [torch.Generator().manual_seed(one) for one in (shuffle_seed, dropout_seed)]
        loader = self._loader(train, generators[0])
        mean_weight = 1.0 if rows.weights is None else float(rows.weights.mean())
        training = self._training(model, train, loader, mean_weight, rows.weights is not None, generators, incremental)
        if anew:
            self.loss_curve_: list[float] = []
            self.history_: list[dict[str, Any]] = []
            self.t_ = 0
        epochs = int(self._of("max_iter"))
        if incremental and not anew and self._continuation is not None:
            training.load(self._saved())
            epochs = training.epoch + 1
        elif incremental:
            epochs = 1
        compile: Compile = "auto" if isinstance(self.compile, str) else bool(self.compile)
        options = self._options(epochs)
        refused = why_not(training, loader, options) if compile is True else None
        if refused is not None:
            raise ValueError(f"compile=True: {refused}; 'auto' takes plain steps then")
        return Prepared(training, loader, validation, options, rows, seed, compile=compile)

    def _look_at(self, prepared: Prepared, event: Any) -> None:
        """Take in what the loop yields: after an epoch this keeps the best weights, prints, and may end the fit."""
        if not isinstance(event, dict):
            return
        training = prepared.training
        if prepared.validation is not None and training.best_epoch == training.epoch:
            prepared.best = {name: value.clone() for name, value in training.weights().items()}
        if self.verbose:
            print(_line(event, self._monitor))
        if self.learning_rate == "adaptive" and _learning_rate(training.optimizer) <= SMALLEST_LEARNING_RATE:
            training.stopped = "stopped: the learning rate has become as small as it may"

    def _keep(self, prepared: Prepared) -> None:
        """Keep what a fit has learnt, with the weights of the best epoch, and what `partial_fit` continues from."""
        training, rows = prepared.training, prepared.rows
        if self.verbose and training.stopped:
            print(training.stopped)
        self.weights_ = _arrays(training.weights() if prepared.best is None else prepared.best)
        self.history_ = [*self.history_, *training.history]
        self.loss_curve_ = [*self.loss_curve_, *(record["train_loss"] for record in training.history)]
        self.loss_ = self.loss_curve_[-1]
        self.n_iter_ = training.epoch
        self.t_ += len(training.history) * len(rows.features)
        if prepared.validation is None:
            self.best_loss_: float | None = min(self.loss_curve_)
            self.validation_scores_: list[float] | None = None
            self.best_validation_score_: float | None = None
        else:
            self.best_loss_ = None
            self.validation_scores_ = [record[f"validation_{self._monitor}"] for record in training.history]
            self.best_validation_score_ = max(self.validation_scores_)
        state = training.state()
        state["history"], state["stopped"] = [], None
        self._continuation: dict[str, Any] = {
            "optimizer": _arrays(training.optimizer.state_dict()),
            "state": state,
            "training": None if training.average is None else _arrays(training.model.state_dict()),
        }
        self.n_layers_ = len(hidden_widths(self._of("hidden_layer_sizes"))) + 2
        self.n_outputs_ = rows.outputs
        self.out_activation_ = rows.out_activation
        self.seed_ = prepared.seed

    def _saved(self) -> Checkpoint:
        kept = {name: _tensors(value) for name, value in self._continuation.items() if name != "state"}
        return Checkpoint(model=_tensors(self.weights_), state=self._continuation["state"], **kept)

    # ------------------------------------------------------------ building

    def _draw_seed(self) -> int:
        """Return the seed of this fit: `random_state` itself where it is a number, else a drawn one."""
        if self.random_state is None:
            return secrets.randbits(32)
        if isinstance(self.random_state, numbers.Integral):
            return int(self.random_state)
        return int(check_random_state(self.random_state).randint(2**32, dtype=np.uint64))

    def _of(self, name: str) -> Any:
        """Return what an argument is: as it was given, or as the preset chose it when the weights began."""
        return getattr(self, "preset_", {}).get(name, getattr(self, name))

    def _chosen_by_preset(self, rows: Rows) -> dict[str, Any]:
        """Return what the preset has for arguments that are as they are by default (Note [Preset])."""
        task = {"softmax": "multiclass", "logistic": "binary", "identity": "regression"}[rows.out_activation]
        sections = preset(len(rows.features), rows.features.shape[1], task)
        model, optimizer, train = sections["model"], sections["optimizer"], sections["train"]
        chosen = {
            "hidden_layer_sizes": tuple(model["hidden"]),
            "members": 1 if self.batch_norm else model["members"],
            "dropout": model["dropout"],
            "learning_rate_init": optimizer["lr"],
            "optimizer": {key: optimizer[key] for key in ("name", "weight_decay")},
            "schedule": sections["scheduler"],
            "max_iter": train["epochs"],
            "batch_size": train["batch_size"],
            "n_iter_no_change": math.inf,
        }
        usual = {name: each.default for name, each in inspect.signature(type(self)).parameters.items()}
        stated = {name for name in usual if not np.array_equal(getattr(self, name), usual[name])}
        if stated & {"solver", "alpha"}:
            del chosen["optimizer"]
        if "learning_rate" in stated:
            del chosen["schedule"]
        return {name: value for name, value in chosen.items() if name not in stated}

    def _model(self, inputs: int, outputs: int, out_activation: str) -> nn.Sequential:
        widths, activation = hidden_widths(self._of("hidden_layer_sizes")), activation_name(self.activation)
        dropout, members = float(self._of("dropout")), int(self._of("members"))
        if members == 1:
            return mlp(
                inputs, outputs, hidden=widths, activation=activation, dropout=dropout, batch_norm=bool(self.batch_norm)
            )
        kind: Kind = {"softmax": "multiclass", "logistic": "binary"}.get(out_activation, "values")  # type: ignore[assignment]
        return tabm(
            inputs,
            outputs,
            kind=kind,
            members=members,
            hidden=widths,
            activation=activation,
            dropout=dropout,
            embedding="none",
            shared=False,
        )

    def _options(self, epochs: int) -> FitOptions:
        norm, value = (None if bound is None else float(bound) for bound in (self.clip_norm, self.clip_value))
        return FitOptions(epochs=epochs, accumulate=int(self.accumulate), clip_norm=norm, clip_value=value)

    def _rows_of_a_batch(self, train: Part) -> int:
        return min(200 if self._of("batch_size") == "auto" else int(self._of("batch_size")), len(train))

    def _loader(self, train: Part, generator: torch.Generator) -> DataLoader[Any]:
        size = self._rows_of_a_batch(train)
        # A batch of one row has no spread that batch norm could divide by.
        drop_last = bool(self.batch_norm) and size > 1 and len(train) % size == 1
        return train.loader(size, bool(self.shuffle), drop_last, generator)

    def _training(
        self,
        model: nn.Module,
        train: Part,
        loader: DataLoader[Any],
        mean_weight: float,
        weighted: bool,
        generators: Sequence[torch.Generator],
        incremental: bool,
    ) -> Training:
        accumulate, rows = int(self.accumulate), len(train)
        optimizer = self._optimizer(model, mean_weight * min(self._rows_of_a_batch(train) * accumulate, rows))
        scheduler, interval = self._scheduler(optimizer, rows, math.ceil(len(loader) / accumulate))
        criterion = self._criterion("none" if weighted else "sum").to(next(model.parameters()).device)
        patient = incremental or self._of("n_iter_no_change") == math.inf
        return Training(
            model,
            nn.LossOfMembers(criterion) if self._of("members") > 1 else criterion,
            optimizer,
            generators[0],
            train.meter(),
            scheduler,
            interval,
            monitor=self._monitor if self.early_stopping else "loss",
            patience=None if patient or self.learning_rate == "adaptive" else int(self._of("n_iter_no_change")) + 1,
            tol=float(self.tol),
            average=None if self.ema is None else MovingAverage(model, float(self.ema)),
            generator=generators[1],
        )

    def _optimizer(self, model: nn.Module, weight_of_step: float) -> Optimizer:
        """Return the optimizer; `alpha` penalises weights, not biases, as scikit-learn does:
        in the mean of a batch's loss.
        """
        rate, decay = float(self._of("learning_rate_init")), float(self.alpha) / weight_of_step
        arguments: dict[str, Any]
        if self._of("optimizer") is not None:
            name, given = named("optimizer", self._of("optimizer"), OPTIMIZERS)
            arguments = {"lr": rate, **given}
        elif self.solver == "adam":
            name = "Adam"
            arguments = {"lr": rate, "betas": (float(self.beta_1), float(self.beta_2)), "eps": float(self.epsilon)}
        else:
            nesterov = bool(self.nesterovs_momentum) and self.momentum > 0
            name, arguments = "SGD", {"lr": rate, "momentum": float(self.momentum), "nesterov": nesterov}
        decay = arguments.pop("weight_decay", decay)
        if "weight_decay" not in OPTIMIZERS.arguments(name):
            if decay:
                raise ValueError(f"optimizer {name} has no penalty on weights: give alpha=0 as well")
            return OPTIMIZERS.get(name)(model.parameters(), **arguments)
        if not decay:
            return OPTIMIZERS.get(name)(model.parameters(), weight_decay=0.0, **arguments)
        weights = [parameter for parameter in model.parameters() if parameter.ndim > 1]
        others = [parameter for parameter in model.parameters() if parameter.ndim <= 1]
        groups = [{"params": weights, "weight_decay": decay}, {"params": others, "weight_decay": 0.0}]
        return OPTIMIZERS.get(name)(groups, **arguments)

    def _scheduler(self, optimizer: Optimizer, rows: int, steps_per_epoch: int) -> tuple[Any, str]:
        """Return what changes the learning rate, and whether it does after every "epoch" or "step"."""
        if self.learning_rate == "invscaling":
            power = float(self.power_t)
            return LambdaLR(optimizer, lambda epoch: 1.0 / (epoch * rows + 1) ** power), "epoch"
        if self.learning_rate == "adaptive":
            patience = 10**9 if self._of("n_iter_no_change") == math.inf else int(self._of("n_iter_no_change"))
            tolerance = float(self.tol)
            return (
                ReduceLROnPlateau(optimizer, factor=0.2, patience=patience, threshold=tolerance, threshold_mode="abs"),
                "epoch",
            )
        if self._of("schedule") is None:
            return None, "never"
        name, arguments = named("schedule", self._of("schedule"), SCHEDULERS)
        interval = arguments.pop("interval", "epoch")
        if interval not in ("epoch", "step"):
            raise ValueError(f"schedule: interval is 'epoch' or 'step', got {interval!r}")
        make = SCHEDULERS.get(name)
        length = int(self._of("max_iter")) * (steps_per_epoch if interval == "step" else 1)
        if make is OneCycleLR:
            arguments.setdefault("max_lr", float(self._of("learning_rate_init")))
        return make(optimizer, **SCHEDULERS.lasting(name, arguments, length)), interval

    def _part(self, which: str, rows: Rows, device: torch.device, shared: Shared) -> Part:
        """Return rows as tensors; fits that learn the same of the same rows have the same ones."""
        wanted, each = self._wanted(rows.targets), np.ones(len(rows.features)) if rows.weights is None else rows.weights
        counts = each * self._row_weight(rows.targets)
        return shared.once(
            (which, self.dtype, str(device), wanted.tobytes(), counts.tobytes()),
            lambda: self._tensors(rows, [wanted, counts], device),
        )

    def _tensors(self, rows: Rows, columns: list[Array], device: torch.device) -> Part:
        dtype = getattr(torch, self.dtype)
        if rows.weights is not None:
            columns = [*columns, rows.weights]
        tensors = [
            torch.tensor(column, dtype=None if column.dtype.kind == "i" else dtype, device=device)
            for column in (rows.features, *columns)
        ]
        scored_as = {**self._scored_as(rows.targets), "weighted": rows.weights is not None}
        if rows.weights is not None and "target_variance" in scored_as:
            scored_as["target_variance"] = weighted_variance(rows.targets, rows.weights)
        return Part(TensorDataset(*tensors), scored_as)

    # ------------------------------------------------------------ predicting

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "weights_")

    def _outputs(self, X: Any) -> NDArray[np.float64]:
        """Return what the network gives for rows, (n, outputs), computed in float64.

        In float64, since the float32 products of BLAS depend, in their last bits, on which other rows are there.
        """
        check_is_fitted(self)
        return self._computed(self._unseen(X), Shared())

    def _unseen(self, X: Any) -> Array:
        """Check rows against those of the fit."""
        rows: Array = validate_data(self, X, dtype=(np.float64, np.float32), reset=False)
        return rows

    def _computed(self, X: Array, shared: Shared) -> NDArray[np.float64]:
        """Return the outputs for rows that were checked; a model made for fits that share it takes their weights."""
        device = best_device() if self.device == "auto" else torch.device(self.device)
        shapes = [(name, array.shape) for name, array in self.weights_.items()]
        form = tuple(shapes), activation_name(self.activation), bool(self.batch_norm), str(device)

        def made() -> nn.Module:
            with drawing_from(torch.Generator()):
                return self._model(X.shape[1], self.n_outputs_, self.out_activation_).double().to(device).eval()

        model = shared.once(form, made)
        model.load_state_dict({name: torch.tensor(array) for name, array in self.weights_.items()})
        pieces = []
        with torch.no_grad():
            for start in range(0, len(X), ROWS_AT_ONCE):
                rows = torch.tensor(X[start : start + ROWS_AT_ONCE], dtype=torch.float64, device=device)
                pieces.append(model(rows).cpu().numpy())
        return np.concatenate(pieces)

    @property
    def coefs_(self) -> list[Array]:
        """The weight matrix of each layer, (inputs, outputs), as in scikit-learn: views of `weights_`, transposed."""
        return [array.T for _, array in self._linear_weights()]

    @property
    def intercepts_(self) -> list[Array]:
        """The bias vector of each layer: the arrays of `weights_`."""
        return [self.weights_[name.removesuffix("weight") + "bias"] for name, _ in self._linear_weights()]

    def _linear_weights(self) -> list[tuple[str, Array]]:
        if not hasattr(self, "weights_"):
            raise NotFittedError(f"this {type(self).__name__} has no weights yet: call fit first")
        if self._of("members") > 1:
            raise AttributeError("coefs_ and intercepts_ are of one network, and this is of several: see weights_")
        return [(name, array) for name, array in self.weights_.items() if array.ndim == 2]


def _apart(rows: Rows, seed: int, fraction: float) -> tuple[Rows, Rows]:
    """Return the rows to learn from, and those that are set apart: stratified where every class can have a row in each.

    scikit-learn's MLPClassifier stratifies two classes alone, so few rows of many classes are no mistake to it.
    """
    chosen = None
    if rows.stratify:
        counts, size = np.unique(rows.targets, return_counts=True)[1], math.ceil(len(rows.features) * fraction)
        if counts.min() >= 2 and len(counts) <= min(size, len(rows.features) - size):
            chosen = rows.targets
    kept, apart = train_test_split(
        np.arange(len(rows.features)), test_size=fraction, random_state=seed, stratify=chosen
    )
    if len(apart) < 2:
        raise ValueError(
            f"the validation part has {len(apart)} rows: increase validation_fraction or the number of rows"
        )
    return rows.taken(kept), rows.taken(apart)


def train_together(fits: Sequence[tuple[Network, Prepared]]) -> list[Exception | None]:
    """Train prepared fits to their ends, side by side; return for each what went wrong with it alone, or None."""
    errors: list[Exception | None] = [None] * len(fits)
    by_threads: dict[bool, list[int]] = {}  # how many threads multiply may decide bits
    for key, (_, prepared) in enumerate(fits):
        by_threads.setdefault(worth_threads(prepared.training.model, prepared.rows_of_a_batch), []).append(key)
    for keys in by_threads.values():
        _, first = fits[keys[0]]
        with blas_threads(first.training.model, first.rows_of_a_batch):
            for key, event in together({key: fits[key][1].events() for key in keys}):
                network, prepared = fits[key]
                if isinstance(event, DivergedError):
                    errors[key] = DivergedError(event.fact, ADVICE)
                else:
                    network._look_at(prepared, event)
            for network, prepared in [fits[key] for key in keys if errors[key] is None]:
                network._keep(prepared)
    return errors


def _initialise(model: nn.Module, factor: float) -> None:
    """Draw weights and biases uniform within the root of `factor / (inputs + outputs)`, as scikit-learn does.

    Glorot and Bengio, Understanding the difficulty of training deep feedforward neural networks (2010).
    """
    for layer in model.modules():
        if isinstance(layer, nn.Linear):
            bound = math.sqrt(factor / (layer.in_features + layer.out_features))
            nn.init.uniform_(layer.weight, -bound, bound)
            if layer.bias is not None:
                nn.init.uniform_(layer.bias, -bound, bound)


def _arrays(values: Any) -> Any:
    """Tensors as arrays of their own, wherever they stand in dicts and lists."""
    if isinstance(values, Tensor):
        return np.array(values.detach().cpu().numpy())
    if isinstance(values, Mapping):
        return {key: _arrays(value) for key, value in values.items()}
    return [_arrays(value) for value in values] if isinstance(values, list) else values


def _tensors(values: Any) -> Any:
    """Return the way back from `_arrays`."""
    if isinstance(values, np.ndarray):
        return torch.tensor(values)
    if isinstance(values, Mapping):
        return {key: _tensors(value) for key, value in values.items()}
    return [_tensors(value) for value in values] if isinstance(values, list) else values


def _learning_rate(optimizer: Optimizer) -> float:
    return float(optimizer.param_groups[0]["lr"])


def _line(record: Mapping[str, Any], monitor: str) -> str:
    line = f"epoch {record['epoch']}  loss {record['train_loss']:.6f}"
    score = record.get(f"validation_{monitor}")
    return line if score is None else f"{line}  validation {monitor} {score:.4f}"
