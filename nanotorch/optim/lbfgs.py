"""L-BFGS, with a line search."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import numpy as np

from nanotorch.autograd.graph.grad_mode import enable_grad, no_grad
from nanotorch.autograd.graph.tensor import Tensor, from_array
from nanotorch.optim.optimizer import Optimizer, number_of
from nanotorch.optim.segment import state_dtype
from nanotorch.registry import OPTIMIZERS, NonNegativeFloat

ENOUGH_DESCENT, FLAT_ENOUGH = 1e-4, 0.9  # the two constants of the Wolfe conditions


class Point(NamedTuple):
    """Where a line search was: how far along the direction, the loss, the gradient, and its slope in that direction."""

    distance: float
    loss: float
    gradient: Any
    slope: float


@OPTIMIZERS.withhold(
    "takes a closure that computes the loss several times in a step: it works in a program, not in a config"
)
class LBFGS(Optimizer):
    """Quasi-Newton steps, from the last `history_size` changes of the gradient; for full batches and few parameters.

    `step(closure)` makes up to `max_iter` iterations of at most `max_eval` evaluations together; each evaluation calls
    the closure, which clears the gradients, computes the loss, calls `backward()` on it and returns it. Without a
    `line_search_fn` every iteration steps by `lr`; "strong_wolfe" searches along the direction.

    Liu and Nocedal, On the Limited Memory BFGS Method for Large Scale Optimization (1989); Nocedal and Wright,
    Numerical Optimization (2006), algorithms 3.5, 3.6 and 7.4.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: NonNegativeFloat = 1.0,
        max_iter: int = 20,
        max_eval: int | None = None,
        tolerance_grad: float = 1e-7,
        tolerance_change: float = 1e-9,
        history_size: int = 100,
        line_search_fn: str | None = None,
    ) -> None:
        if line_search_fn not in (None, "strong_wolfe"):
            raise ValueError(f"LBFGS: line_search_fn is None or 'strong_wolfe', got {line_search_fn!r}")
        defaults = {
            "lr": lr,
            "max_iter": max_iter,
            "max_eval": max_iter * 5 // 4 if max_eval is None else max_eval,
            "tolerance_grad": tolerance_grad,
            "tolerance_change": tolerance_change,
            "history_size": history_size,
            "line_search_fn": line_search_fn,
        }
        super().__init__(params, defaults)

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """As every optimizer does, but once: the parameters are one vector here, with one set of options."""
        if self.param_groups:
            raise ValueError("LBFGS has no options per parameter: give all parameters in one group")
        super().add_param_group(param_group)

    @no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Make up to `max_iter` iterations; returns what the closure returned first."""
        if closure is None:
            raise TypeError("LBFGS computes the loss several times in a step: give step() a closure that does it")
        evaluate = enable_grad()(closure)
        group = self.param_groups[0]
        params: list[Tensor] = group["params"]
        xp = params[0].device.xp
        state = self.state[params[0]]
        state.setdefault("func_evals", 0)
        state.setdefault("n_iter", 0)
        result = evaluate()
        loss, gradient = float(result), self._gradient()
        evaluations, iterations = 1, 0
        state["func_evals"] += 1
        if float(xp.absolute(gradient).max()) <= group["tolerance_grad"]:
            return result
        lr, tolerance = number_of(group["lr"]), group["tolerance_change"]
        direction, before = _array(state.get("d")), _array(state.get("prev_flat_grad"))
        distance, loss_before = float(state.get("t") or 0.0), state.get("prev_loss")
        # One entry for each change that is remembered: of the gradient, of the parameters, 1 / their product.
        changes = [_array(value) for value in state.get("old_dirs") or ()]
        moves = [_array(value) for value in state.get("old_stps") or ()]
        shares = [float(value) for value in state.get("ro") or ()]
        scale = float(state.get("H_diag") or 1.0)
        while iterations < group["max_iter"]:
            iterations += 1
            state["n_iter"] += 1
            if state["n_iter"] == 1:
                changes, moves, shares, scale = [], [], [], 1.0
                direction = -gradient
            else:
                change, move = gradient - before, direction * distance
                product = float(xp.matmul(change, move))
                if product > 1e-10:
                    if len(changes) == group["history_size"]:
                        del changes[0], moves[0], shares[0]
                    changes.append(change)
                    moves.append(move)
                    shares.append(1.0 / product)
                    scale = product / float(xp.matmul(change, change))
                direction = _newton_direction(xp, gradient, changes, moves, shares, scale)
            before, loss_before = gradient.copy(), loss
            first = min(1.0, 1.0 / float(xp.absolute(gradient).sum())) if state["n_iter"] == 1 else 1.0
            distance = first * lr
            slope = float(xp.matmul(gradient, direction))
            if slope > -tolerance:
                break
            used = 0
            if group["line_search_fn"] is not None:
                start = [param.detach().clone() for param in params]

                def along(step: float, start: list[Tensor] = start, direction: Any = direction) -> Point:
                    self._move(step, direction)
                    value, there = float(evaluate()), self._gradient()
                    for param, old in zip(params, start, strict=True):
                        param.copy_(old)
                    return Point(step, value, there, float(xp.matmul(there, direction)))

                longest = float(xp.absolute(direction).max())
                here = Point(0.0, loss, gradient, slope)
                found, used = _search(along, here, distance, longest, tolerance, group["max_eval"] - evaluations)
                distance, loss, gradient = found.distance, found.loss, found.gradient
                self._move(distance, direction)
            else:
                self._move(distance, direction)
                if iterations != group["max_iter"]:
                    loss, gradient = float(evaluate()), self._gradient()
                    used = 1
            evaluations += used
            state["func_evals"] += used
            if (
                iterations == group["max_iter"]
                or evaluations >= group["max_eval"]
                or float(xp.absolute(gradient).max()) <= group["tolerance_grad"]
                or float(xp.absolute(direction * distance).max()) <= tolerance
                or abs(loss - loss_before) < tolerance
            ):
                break
        device = params[0].device
        state["d"] = from_array(direction, device)
        state["t"] = distance
        state["old_dirs"] = [from_array(value, device) for value in changes]
        state["old_stps"] = [from_array(value, device) for value in moves]
        state["ro"] = [from_array(np.asarray(value)) for value in shares]
        state["H_diag"] = from_array(np.asarray(scale))
        state["prev_flat_grad"] = from_array(before, device)
        state["prev_loss"] = loss_before
        return result

    def _gradient(self) -> Any:
        """Return the gradients of all parameters in one flat array of its own; zeros where there is none."""
        params = self.param_groups[0]["params"]
        xp = params[0].device.xp
        kind = state_dtype(params[0])
        return xp.concatenate(
            [
                xp.zeros(p.numel(), kind) if p._grad is None else p._grad._array.reshape(-1).astype(kind, copy=False)
                for p in params
            ]
        )

    def _move(self, distance: float, direction: Any) -> None:
        """Move the parameters by so much along a flat direction."""
        start = 0
        for param in self.param_groups[0]["params"]:
            piece = direction[start : start + param.numel()].reshape(param.shape)
            param.add_(from_array(piece, param.device), alpha=distance)
            start += param.numel()


def _array(value: Any) -> Any:
    return None if value is None else value._array


def _newton_direction(
    xp: Any, gradient: Any, changes: list[Any], moves: list[Any], shares: list[float], scale: float
) -> Any:
    """Minus the gradient times the inverse Hessian that the remembered changes imply: the two-loop recursion."""
    direction = -gradient
    factors = []
    for change, move, share in zip(reversed(changes), reversed(moves), reversed(shares), strict=True):
        factors.append(float(xp.matmul(move, direction)) * share)
        direction -= factors[-1] * change
    direction *= scale
    for change, move, share, factor in zip(changes, moves, shares, reversed(factors), strict=True):
        direction += (factor - float(xp.matmul(change, direction)) * share) * move
    return direction


def _search(
    along: Callable[[float], Point], start: Point, distance: float, longest: float, tolerance: float, limit: int
) -> tuple[Point, int]:
    """Return a point that fulfils the strong Wolfe conditions, or the best of at most `limit` steps;
    and the evaluations used.

    `longest` is the largest entry of the direction: where the bracket times it is below `tolerance`, the search ends.
    """

    def too_high(point: Point) -> bool:
        return point.loss > start.loss + ENOUGH_DESCENT * point.distance * start.slope

    def flat(point: Point) -> bool:
        return abs(point.slope) <= -FLAT_ENOUGH * start.slope

    # First go further until the minimum is passed: it lies between the last two points.
    last, new = start, along(distance)
    evaluations, steps = 1, 0
    bracket = [start, new]
    done = False
    while steps < limit:
        if too_high(new) or (steps > 1 and new.loss >= last.loss):
            bracket = [last, new]
            break
        if flat(new):
            bracket, done = [new], True
            break
        if new.slope >= 0:
            bracket = [last, new]
            break
        low, high = new.distance + 0.01 * (new.distance - last.distance), new.distance * 10
        last, new = new, along(_minimum(last, new, low, high))
        evaluations += 1
        steps += 1
        bracket = [start, new]
    # Then close in on it, by cubic interpolation, but never at a crawl along one end of the bracket.
    best = 0 if bracket[0].loss <= bracket[-1].loss else 1
    crawled = False
    while not done and steps < limit:
        low, high = sorted(point.distance for point in bracket)
        if (high - low) * longest < tolerance:
            break
        distance = _minimum(bracket[0], bracket[1], low, high)
        margin = 0.1 * (high - low)
        near_end = min(high - distance, distance - low) < margin
        if near_end and (crawled or distance >= high or distance <= low):
            distance = high - margin if abs(distance - high) < abs(distance - low) else low + margin
            near_end = False
        crawled = near_end
        new = along(distance)
        evaluations += 1
        steps += 1
        if too_high(new) or new.loss >= bracket[best].loss:
            bracket[1 - best] = new
            best = 0 if bracket[0].loss <= bracket[1].loss else 1
            continue
        if flat(new):
            done = True
        elif new.slope * (bracket[1 - best].distance - bracket[best].distance) >= 0:
            bracket[1 - best] = bracket[best]
        bracket[best] = new
    return bracket[best], evaluations


def _minimum(first: Point, second: Point, low: float, high: float) -> float:
    """Return where the cubic through two points with their slopes is smallest, within the bounds;
    their middle if nowhere.
    """
    a, b = (first, second) if first.distance <= second.distance else (second, first)
    width = np.float64(b.distance - a.distance)
    bend = a.slope + b.slope - 3 * (a.loss - b.loss) / -width
    square = bend * bend - a.slope * b.slope
    if not square >= 0:
        return (low + high) / 2
    root = np.sqrt(square)
    place = b.distance - width * ((b.slope + root - bend) / (b.slope - a.slope + 2 * root))
    return float(min(max(place, low), high))
