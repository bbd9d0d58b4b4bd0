"""Recurrent layers as rows: one layer in one direction over a whole sequence,
with backpropagation through time written by hand.

Note [Steps of recurrent layers]
~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~
Every batch is treated as a packed one (Note [Packed sequences]); one of equal lengths has the same number of sequences
at every step. What the input adds to the gates does not depend on the state: one product makes it for all steps, before
the row is called. Forward in time the state loses the rows of sequences that have ended, which are final; backward in
time it gains those that begin, with their initial state. The gradient of a walk is a walk the other way, in which
gradients of final states join where those states left. So `_walk` serves both: what a step of backpropagation
multiplies by is computed for all steps at once beforehand, and the weight's gradient is one product afterwards.

The gradients of all inputs come from one walk, so the rows take their tensors as one sequence, which has one formula.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from nanotorch.ops.rows.row import Array, op


def _walk(
    xp: Any, step: Callable[..., Any], sizes: Sequence[int], reverse: bool, starts: Sequence[Any], inputs: Sequence[Any]
) -> tuple[list[Any], list[Any]]:
    """Go through the steps: return what `step(states, *inputs of the step)` gave,
    for all steps in order of time, and the final states.

    `step` returns the new states and a tuple of arrays to collect.
    """
    order = range(len(sizes) - 1, -1, -1) if reverse else range(len(sizes))
    parts = [xp.pieces(value, sizes, 0) for value in inputs]
    states, collected, ended = [_head(start, sizes[order[0]]) for start in starts], [], []
    for number in order:
        size, rows = sizes[number], states[0].shape[0]
        if size < rows:
            ended.append([state[size:] for state in states])
            states = [state[:size] for state in states]
        elif size > rows:
            states = [
                xp.concatenate([state, start[rows:size]], axis=0) for state, start in zip(states, starts, strict=True)
            ]
        states, results = step(states, *[part[number] for part in parts])
        collected.append(results)
    if reverse:
        collected.reverse()
    finals = [xp.concatenate([last, *rest], axis=0) for last, *rest in zip(states, *reversed(ended), strict=True)]
    return [xp.concatenate(kind, axis=0) for kind in zip(*collected, strict=True)], finals


def _head(value: Any, rows: int) -> Any:
    return value if value.shape[0] == rows else value[:rows]


def _before(xp: Any, states: Any, start: Any, sizes: Sequence[int], reverse: bool) -> Any:
    """Return the states before every step, from those after it."""
    parts = xp.pieces(states, sizes, 0)
    if not reverse:
        return xp.concatenate(
            [start, *[_head(part, size) for part, size in zip(parts, sizes[1:], strict=False)]], axis=0
        )
    found = []
    for size, part in zip(sizes, parts[1:], strict=False):
        found += [part, start[part.shape[0] : size]] if part.shape[0] < size else [part]
    return xp.concatenate([*found, start[: sizes[-1]]], axis=0)


def _rnn_tensors(xp: Any, grads: Any, tensors: Any, sizes: Any, reverse: bool, relu: bool, _hidden: Any) -> Any:
    _, weight, start = tensors
    slope = 1 - (xp.astype(_hidden <= 0, _hidden.dtype) if relu else _hidden * _hidden)

    def step(states: Any, grad: Any, slope: Any) -> Any:
        grad = (states[0] + grad) * slope
        return (xp.matmul(grad, weight),), (grad,)

    (grad,), (grad_start,) = _walk(xp, step, sizes, not reverse, grads[1:], (grads[0], slope))
    return [grad, xp.matmul(grad.T, _before(xp, _hidden, start, sizes, reverse)), grad_start]


@op(tensors=_rnn_tensors, outputs="output h _hidden", where="internal", node="RnnBackward0")
def _rnn(xp: Any, tensors: Sequence[Array], sizes: tuple[int, ...], reverse: bool, relu: bool) -> Array:
    """`h = tanh(inputs + h @ weight.T)` for inputs (N, H), weight (H, H) and h (B, H):
    all states (N, H), and the final ones.
    """
    inputs, weight, start = tensors
    turned = weight.T

    def step(states: Any, inputs: Any) -> Any:
        value = inputs + xp.matmul(states[0], turned)
        value = xp.maximum(value, 0) if relu else xp.tanh(value)
        return (value,), (value,)

    (hidden,), finals = _walk(xp, step, sizes, reverse, (start,), (inputs,))
    return hidden + 0, *finals, hidden


def _lstm_tensors(
    xp: Any, grads: Any, tensors: Any, sizes: Any, reverse: bool, _gates: Any, _candidates: Any, _cells: Any
) -> Any:
    _, weight, h, c, *projection = tensors
    size = c.shape[1]
    i, f, _, o = xp.pieces(_gates, (size,) * 4, 1)
    squashed = xp.tanh(_cells)
    slope = o * (1 - squashed * squashed)
    by_cell = xp.stack(
        [
            _candidates * i * (1 - i),
            _before(xp, _cells, c, sizes, reverse) * f * (1 - f),
            i * (1 - _candidates * _candidates),
        ],
        axis=1,
    )
    by_output = squashed * o * (1 - o)

    def step(states: Any, grad: Any, slope: Any, f: Any, by_cell: Any, by_output: Any) -> Any:
        whole, cell = states
        whole = whole + grad
        raw = xp.matmul(whole, projection[0]) if projection else whole
        cell = cell + raw * slope
        gates = xp.concatenate([xp.reshape(by_cell * cell[:, None], (-1, 3 * size)), by_output * raw], axis=1)
        return (xp.matmul(gates, weight), cell * f), (gates, whole)

    (gates, whole), (grad_h, grad_c) = _walk(
        xp, step, sizes, not reverse, grads[1:], (grads[0], slope, f, by_cell, by_output)
    )
    raw = o * squashed
    hidden = xp.matmul(raw, projection[0].T) if projection else raw
    found = [gates, xp.matmul(gates.T, _before(xp, hidden, h, sizes, reverse)), grad_h, grad_c]
    return [*found, xp.matmul(whole.T, raw)] if projection else found


@op(tensors=_lstm_tensors, outputs="output h c _gates _candidates _cells", where="internal", node="LstmBackward0")
def _lstm(xp: Any, tensors: Sequence[Array], sizes: tuple[int, ...], reverse: bool) -> Array:
    """An LSTM for inputs (N, 4 H) to its gates i, f, g, o, weight (4 H, P), h (B, P),
    c (B, H) and, with P < H, a projection (P, H).
    """
    inputs, weight, h, c, *projection = tensors
    size, turned = c.shape[1], weight.T

    def step(states: Any, inputs: Any) -> Any:
        h, c = states
        inputs = inputs + xp.matmul(h, turned)
        gates = xp.sigmoid(inputs)
        i, f, _, o = xp.pieces(gates, (size,) * 4, 1)
        candidates = xp.tanh(inputs[:, 2 * size : 3 * size])
        c = f * c + i * candidates
        h = o * xp.tanh(c)
        if projection:
            h = xp.matmul(h, projection[0].T)
        return (h, c), (h, gates, candidates, c)

    (hidden, *saved), finals = _walk(xp, step, sizes, reverse, (h, c), (inputs,))
    return hidden, *finals, *saved


def _gru_tensors(
    xp: Any, grads: Any, tensors: Any, sizes: Any, reverse: bool, _gates: Any, _new: Any, _inner: Any, _hidden: Any
) -> Any:
    _, weight, start, *bias = tensors
    size = start.shape[1]
    r, z = xp.pieces(_gates, (size, size), 1)
    before = _before(xp, _hidden, start, sizes, reverse)
    by_new = (1 - z) * (1 - _new * _new)
    factors = xp.stack([by_new * _inner * r * (1 - r), (before - _new) * z * (1 - z), by_new * r], axis=1)

    def step(states: Any, grad: Any, z: Any, factors: Any) -> Any:
        grad = states[0] + grad
        recurrent = xp.reshape(factors * grad[:, None], (-1, 3 * size))
        return (grad * z + xp.matmul(recurrent, weight),), (recurrent, grad)

    (recurrent, grad), (grad_start,) = _walk(xp, step, sizes, not reverse, grads[1:], (grads[0], z, factors))
    inputs = xp.concatenate([recurrent[:, : 2 * size], by_new * grad], axis=1)
    found = [inputs, xp.matmul(recurrent.T, before), grad_start]
    return [*found, xp.column_sums(recurrent)] if bias else found


@op(tensors=_gru_tensors, outputs="output h _gates _new _inner _hidden", where="internal", node="GruBackward0")
def _gru(xp: Any, tensors: Sequence[Array], sizes: tuple[int, ...], reverse: bool) -> Array:
    """A GRU for inputs (N, 3 H) to its gates r, z, n, weight (3 H, H),
    h (B, H) and perhaps the bias (3 H) of `h @ weight.T`.
    """
    inputs, weight, start, *bias = tensors
    size, turned = start.shape[1], weight.T

    def step(states: Any, inputs: Any) -> Any:
        recurrent = xp.matmul(states[0], turned)
        if bias:
            recurrent = recurrent + bias[0]
        gates = xp.sigmoid(inputs[:, : 2 * size] + recurrent[:, : 2 * size])
        r, z = xp.pieces(gates, (size, size), 1)
        inner = recurrent[:, 2 * size :]
        new = xp.tanh(inputs[:, 2 * size :] + r * inner)
        h = new + z * (states[0] - new)
        return (h,), (h, gates, new, inner)

    (hidden, *saved), finals = _walk(xp, step, sizes, reverse, (start,), (inputs,))
    return hidden + 0, *finals, *saved, hidden
