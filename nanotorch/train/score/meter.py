"""Loss and scores over many batches: sums that stay on the device until somebody reads them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray

import nanotorch as torch
from nanotorch import Tensor, nn
from nanotorch.train.data.class_targets import Classes, by_target, widths
from nanotorch.train.data.table import Table
from nanotorch.train.score.sklearn_scores import score, takes_labels

Array = NDArray[Any]
Values = Tensor | Array
MOST_UNREAD = 2**25  # outputs that wait to be scored
FEW = 2**16  # so few wait at a reading, too: what counts the right rows costs the same for few and many


def main_metric(task: str) -> str:
    """Return the name of the score that says which epoch was best; larger is better."""
    return "r2" if task == "regression" else "accuracy"


def is_loss(name: str) -> bool:
    """Return whether the smaller score is the better one: of losses and RMSE;
    scikit-learn's names are of scores, larger is better.
    """
    return name == "loss" or name.startswith("rmse")


def mean_weights(
    criterion: nn.Module, targets: Tensor, dtype: torch.dtype, by_class: NDArray[np.float64] | None = None
) -> Tensor:
    """Return what each row adds to the number that `reduction="mean"` divides by, as a tensor of shape (rows,).

    For losses of class numbers that is the weight of the row's class (1 without weights) and 0 for
    `ignore_index`; for elementwise losses it is the number of elements in a row, whatever their weights, and for
    several targets of classes that of the targets.
    So, for any batch and as PyTorch defines the mean, `sum-reduced loss / mean_weights.sum()` is the
    mean-reduced loss. With weights `by_class` it is the weight of the row's class, whatever the loss: as PyTorch
    defines the mean of the cross entropy, so a loss of two classes is the same with one logit as with two.
    """
    if by_class is not None and not hasattr(criterion, "ignore_index"):
        numbers = targets.reshape(len(targets)).to(torch.int64)
        return torch.tensor(by_class, dtype=dtype, device=targets.device)[numbers]
    if not hasattr(criterion, "ignore_index"):
        of_a_row = len(getattr(criterion, "sizes", ())) or targets[0].numel()
        return torch.full((len(targets),), float(of_a_row), dtype=dtype, device=targets.device)
    if targets.is_floating_point():
        return torch.ones(len(targets), dtype=dtype, device=targets.device)
    ignored = targets == criterion.ignore_index
    class_weights: Tensor | None = getattr(criterion, "weight", None)
    if class_weights is None:
        return (~ignored).to(dtype)
    return class_weights[targets.masked_fill(ignored, 0)].masked_fill(ignored, 0.0)


def scored_as(
    part: Table,
    target_scale: NDArray[np.float64] | None = None,
    target_mean: NDArray[np.float64] | None = None,
    metrics: Sequence[str] = (),
) -> dict[str, Any]:
    """Return what a `Meter` has to know of a part of the data, whose targets the model sees less their mean,
    divided by their scale.
    """
    variance = None
    if part.task == "regression":
        varying = np.ptp(part.targets, axis=0) > 0
        variance = np.where(varying, weighted_variance(part.targets, part.weights), 0.0)
    return {
        "task": part.task,
        "target_names": part.target_names,
        "target_scale": target_scale,
        "target_variance": variance,
        "target_mean": target_mean,
        "metrics": tuple(metrics),
        "weighted": part.weights is not None,
        "classes": part.classes,
    }


def weighted_variance(values: NDArray[np.float64], weights: NDArray[np.float64] | None) -> NDArray[np.float64]:
    """Return the variance of columns (n, k), whose rows count as much as their weights say."""
    mean = np.average(values, axis=0, weights=weights)
    found: NDArray[np.float64] = np.average((values - mean) ** 2, axis=0, weights=weights)
    return found


class Meter:
    """Mean loss and scores over the batches of one pass over a part of the data.

    Scores are the accuracy for classes (of several targets or labels, all have to be right; with `classes`, those of
    several targets, the accuracy for each of them too), and for regression R2 (the mean
    over the targets) and RMSE per target in their original units: outputs and targets are those of the model times
    `target_scale`. For each name in `metrics` there is scikit-learn's score too, for which the outputs of the whole
    pass are kept (of many classes only the chosen one, where no score asks for more). Where an output is not finite, no
    score but the loss means anything: all are NaN. Where rows are `weighted`, each counts in the scores as much as its
    factor in the loss.
    """

    def __init__(
        self,
        task: str,
        target_names: Sequence[str] = ("y",),
        target_scale: NDArray[np.float64] | None = None,
        target_variance: NDArray[np.float64] | None = None,
        target_mean: NDArray[np.float64] | None = None,
        metrics: Sequence[str] = (),
        weighted: bool = False,
        classes: Classes = (),
    ) -> None:
        self.task = task
        self.classes = classes
        self.weighted = weighted
        self.target_names = target_names
        self.target_scale = np.ones(1) if target_scale is None else target_scale
        self.target_variance = target_variance
        self.target_mean = np.zeros(1) if target_mean is None else target_mean
        self.metrics = metrics
        self.reset()

    def reset(self) -> None:
        """Begin a new pass."""
        self._kept: list[tuple[Any, ...]] = []
        self.rows = 0
        self.row_weight = 0.0  # the sum of the factors of rows
        self.loss_sum = 0.0
        self.weight_sum = 0.0
        self._score_sums: NDArray[np.float64] = np.zeros(1)
        # outputs, targets, the rows of each batch, their factors if rows have some
        self._waiting: list[tuple[Values, Values, list[int], Values | None]] = []
        self._outputs = 0
        self._finite = True
        self._unread: list[tuple[Iterable[int], Values, Values]] = []

    def update(
        self,
        outputs: Values,
        targets: Values,
        loss: Values,
        weight: Values,
        step: int = 0,
        factors: Values | None = None,
    ) -> None:
        """Add a batch: the sum of its losses and its weight in the mean; nothing is computed before it is read.

        The tensors must not require grad, or the graphs of all unread batches stay alive; what is on the CPU may come
        as NumPy's arrays.
        """
        self._take(outputs, targets, [len(targets)], loss, weight, (step,), factors)

    def update_many(
        self,
        outputs: Array,
        targets: Array,
        losses: Array,
        weights: Array,
        size: int,
        steps: Iterable[int],
        factors: Array | None = None,
    ) -> None:
        """Add batches of one size, whose rows come one after the other, each of a step of its own."""
        self._take(outputs, targets, [size] * len(losses), losses, weights, steps, factors)

    def _take(
        self,
        outputs: Values,
        targets: Values,
        sizes: list[int],
        loss: Values,
        weight: Values,
        steps: Iterable[int],
        factors: Values | None,
    ) -> None:
        assert (factors is not None) == self.weighted, "rows have factors where the meter is weighted"
        self.rows += len(targets)
        self._unread.append((steps, loss, weight))
        self._waiting.append((outputs, targets, sizes, factors))
        self._outputs += math.prod(outputs.shape)
        if self._outputs > MOST_UNREAD:
            self._add_scores()

    def read_losses(self) -> list[tuple[int, float]]:
        """Step and mean loss of every batch since the last reading; moves them to the host in one go."""
        if not self._unread:
            return []
        steps, losses, weights = zip(*self._unread, strict=True)
        self._unread.clear()
        if self._outputs > FEW:
            self._add_scores()
        waiting = [*losses, *weights]  # of a batch each, or of as many as came at once
        numbers: Any
        if isinstance(waiting[0], Tensor) and waiting[0].device.type != "cpu":
            numbers = torch.stack(waiting).double().cpu().numpy()
        elif any([part.ndim for part in waiting]):
            numbers = np.concatenate([_array(part).reshape(-1) for part in waiting]).astype(np.float64)
        else:  # nobody has to wait for a number
            numbers = np.array([number.item() for number in waiting], np.float64)
        sums, totals = numbers.reshape(2, -1)
        for loss, weight in zip(sums.tolist(), totals.tolist(), strict=True):
            self.loss_sum += loss
            self.weight_sum += weight
        return list(zip(chain.from_iterable(steps), (sums / totals).tolist(), strict=True))

    def _read_all(self) -> None:
        self.read_losses()
        self._add_scores()

    def _add_scores(self) -> None:
        """Count the right rows of some batches, or sum their squared errors:
        batch by batch, so that it is no matter when.
        """
        if not self._waiting:
            return
        outputs, targets, sizes, given = zip(*self._waiting, strict=True)
        self._waiting.clear()
        self._outputs = 0
        every: Any
        wanted: Any
        if all([not isinstance(part[0], Tensor) or part[0].device.type == "cpu" for part in (outputs, targets)]):
            every, wanted = (_joined(list(map(_array, parts))) for parts in (outputs, targets))
            self._finite = self._finite and bool(np.isfinite(every).all())
        else:
            every, wanted = torch.cat(outputs), torch.cat(targets)
            self._finite = self._finite and bool(torch.isfinite(every).all())
            if self.task == "regression" or self.metrics or self.classes:
                every, wanted = every.cpu().numpy(), wanted.cpu().numpy()
        factors: Array | None = None
        if self.weighted:
            factors = np.concatenate([np.asarray(_on_host(each), np.float64) for each in given])
            every, wanted = _on_host(every), _on_host(wanted)
        if self.metrics:
            labels = self.task == "multiclass" and all(map(takes_labels, self.metrics))
            kept = every.argmax(1) if labels else every, wanted
            self._kept.append(kept if factors is None else (*kept, factors))
        members = every.ndim == 3  # of an ensemble in training: each is scored, and a row has the mean of its members
        if members:
            every, wanted = _on_host(every), _on_host(wanted)[:, None]
        if self.task == "regression":
            scores = np.square(np.subtract(every, wanted, dtype=np.float64))
        else:
            scores = _right(self.task, every, wanted, self.classes)
            if not members and factors is None:
                self._score_sums = self._score_sums + (scores.sum(0) if self.classes else int(scores.sum()))
                return
        if factors is not None:
            scores = scores.reshape(len(scores), *((every.shape[1],) * members), -1)
            scores = scores * factors.reshape(-1, *(1,) * (scores.ndim - 1))
        start = 0
        for size in chain.from_iterable(sizes):
            of_batch = scores[start : start + size]
            self._score_sums = self._score_sums + (of_batch.mean(1) if members else of_batch).sum(0)
            if factors is not None:
                self.row_weight += float(factors[start : start + size].sum())
            start += size

    def states(self, outputs: Array, targets: Array, losses: Array, weights: Array) -> list[dict[str, Any] | None]:
        """Return for several passes of as many steps what `state` would return after each, None where a loss is not
        finite; all None where sums do not say all that this meter says.

        Args:
            outputs, targets: of all rows, with the passes as first dimension.
            losses, weights: of all batches, (passes, batches).
        """
        if self.task == "regression" or self.metrics or self.weighted or outputs.ndim > 3:  # of an ensemble
            return [None] * len(losses)
        sums, totals = losses.astype(np.float64), weights.astype(np.float64)
        finite: Any = np.all(np.isfinite(sums / totals), 1).tolist()
        outputs_finite: Any = np.all(np.isfinite(outputs).reshape(len(outputs), -1), 1).tolist()
        right = _right(self.task, outputs, targets, self.classes)
        right = right.reshape(len(outputs), outputs.shape[1], -1).sum(1).tolist()
        sums, totals = (np.cumsum(each, 1)[:, -1] + 0.0 for each in (sums, totals))  # one after the other, as they come
        found: list[dict[str, Any] | None] = []
        for each in zip(finite, sums.tolist(), totals.tolist(), right, outputs_finite, strict=True):
            known, loss, weight, score, every = each
            state = {"loss_sum": loss, "weight_sum": weight, "score_sums": list(map(float, score)), "finite": every}
            found.append({"rows": outputs.shape[1], **state} if known else None)
        return found

    def merge(self, other: Meter) -> None:
        """Add the sums of a meter of further rows of the same part, such as another rank's."""
        for meter in (self, other):
            meter._read_all()
        self.rows += other.rows
        self.row_weight += other.row_weight
        self.loss_sum += other.loss_sum
        self.weight_sum += other.weight_sum
        self._score_sums = self._score_sums + other._score_sums
        self._finite = self._finite and other._finite
        self._kept += other._kept

    def compute(self) -> dict[str, float]:
        """Return the scores of all batches so far, by name, the loss first."""
        self._read_all()
        scores = {"loss": self.loss_sum / self.weight_sum if self.weight_sum else math.nan}
        sums, count = self._score_sums, self.row_weight if self.weighted else self.rows
        if self.target_variance is None:
            names = ["accuracy", *(f"accuracy_{name}" for name in self.target_names if self.classes)]
            for name, right in zip(names, sums.tolist(), strict=False):  # without a row there are no sums
                scores[name] = float(right) / count if self._finite else math.nan
            return scores | self._named_scores(scores)
        squared_error = sums / count * self.target_scale**2
        scores["r2"] = float(np.mean(_r2(squared_error, self.target_variance)))
        for name, error in zip(self.target_names, np.sqrt(squared_error), strict=True):
            scores[f"rmse_{name}" if len(self.target_names) > 1 else "rmse"] = float(error)
        return scores | self._named_scores(scores)

    def _named_scores(self, known: Mapping[str, float]) -> dict[str, float]:
        """scikit-learn's scores of all rows of the pass, but for those that are known already."""
        if not self._finite:
            return dict.fromkeys((name for name in self.metrics if name not in known), math.nan)
        if not self.metrics:
            return {}
        outputs, targets, *weights = (np.concatenate(pieces) for pieces in zip(*self._kept, strict=True))
        if outputs.ndim > 1:
            outputs = outputs.astype(np.float64)
        if self.task == "regression":
            outputs, targets = (
                values * self.target_scale + self.target_mean for values in (outputs, targets.astype(np.float64))
            )
        elif self.classes:
            pieces = by_target(targets, widths(self.classes))
            targets = np.stack([_class_of(piece, 0.5) for piece in pieces], axis=1)
        else:
            targets = targets.reshape(-1).astype(np.int64)
        of, wanted = weights[0] if weights else None, [name for name in self.metrics if name not in known]
        return {name: score(name, self.task, outputs, targets, of, self.classes) for name in wanted}

    def state(self) -> dict[str, Any]:
        """Return the sums so far as plain numbers, for a checkpoint in the middle of a pass."""
        self._read_all()
        weighted = {"row_weight": self.row_weight} if self.weighted else {}
        return weighted | {
            "rows": self.rows,
            "loss_sum": self.loss_sum,
            "weight_sum": self.weight_sum,
            "score_sums": self._score_sums.tolist(),
            "finite": self._finite,
        }

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Continue from the sums that `state` returned."""
        self.rows, self.loss_sum, self.weight_sum = state["rows"], state["loss_sum"], state["weight_sum"]
        self._score_sums = np.array(state["score_sums"])
        self.row_weight = state.get("row_weight", 0.0)
        self._finite = state.get("finite", True)  # checkpoints of before do not say


def _right(task: str, outputs: Any, targets: Any, classes: Classes) -> Any:
    """Return of which rows all classes are right; of several targets then also which of them are,
    (..., 1 + targets).
    """
    if classes:
        pieces = zip(*(by_target(values, widths(classes)) for values in (outputs, targets)), strict=True)
        each = np.stack([_class_of(said, 0.0) == _class_of(truth, 0.5) for said, truth in pieces], axis=-1)
        return np.concatenate([each.all(axis=-1, keepdims=True), each], axis=-1)
    if task == "multiclass":
        return outputs.argmax(-1) == targets
    right = (outputs > 0) == (targets > 0.5)
    return right.all(-1) if task == "multilabel" else right


def _class_of(piece: Any, middle: float) -> Any:
    """Return the class numbers of one target, (...,), from what is said of it, (..., outputs)."""
    return (piece[..., 0] > middle).astype(np.int64) if piece.shape[-1] == 1 else piece.argmax(-1)


def _array(values: Values) -> Array:
    return values.numpy() if isinstance(values, Tensor) else values


def _on_host(values: Values) -> Array:
    return values.cpu().numpy() if isinstance(values, Tensor) else values


def _joined(arrays: list[Array]) -> Array:
    return arrays[0] if len(arrays) == 1 else np.concatenate(arrays)


def _r2(squared_error: NDArray[np.float64], variance: NDArray[np.float64]) -> NDArray[np.float64]:
    """1 - error / variance per target; as in scikit-learn, 1 or 0 where the targets do not vary at all."""
    constant = variance == 0
    scores = 1.0 - squared_error / np.where(constant, 1.0, variance)
    return np.where(constant, (squared_error == 0).astype(float), scores)
