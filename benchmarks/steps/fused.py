"""A training step fused by hand: one numba function for the loops between the matrix products, all memory its own."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

import numpy as np
from numba import njit


@njit(fastmath={"contract", "arcp", "nsz", "reassoc"}, error_model="numpy")
def _bias_relu(h: Any, bias: Any, last: bool) -> None:
    for r in range(h.shape[0]):
        for c in range(h.shape[1]):
            value = h[r, c] + bias[c]
            h[r, c] = value if last or value > 0 else np.float32(0)


@njit(fastmath={"contract", "arcp", "nsz", "reassoc"}, error_model="numpy")
def _loss(scores: Any, y: Any) -> float:
    """Return the mean cross entropy, with its gradient in the place of the scores."""
    rows, columns = scores.shape
    loss = np.float32(0)
    for r in range(rows):
        largest = scores[r, 0]
        for c in range(1, columns):
            largest = max(largest, scores[r, c])
        total = np.float32(0)
        right = scores[r, y[r]] - largest
        for c in range(columns):
            scores[r, c] = math.exp(scores[r, c] - largest)
            total += scores[r, c]
        loss += math.log(total) - right
        factor = np.float32(1) / (total * rows)
        for c in range(columns):
            scores[r, c] *= factor
        scores[r, y[r]] -= np.float32(1) / rows
    return loss / rows


@njit(fastmath={"contract", "arcp", "nsz", "reassoc"}, error_model="numpy")
def _bias_gradient(g: Any, out: Any) -> None:
    out[:] = g[0]
    for r in range(1, g.shape[0]):
        for c in range(g.shape[1]):
            out[c] += g[r, c]


@njit(fastmath={"contract", "arcp", "nsz", "reassoc"}, error_model="numpy")
def _relu_backward(g: Any, h: Any) -> None:
    for r in range(g.shape[0]):
        for c in range(g.shape[1]):
            g[r, c] = g[r, c] if h[r, c] > 0 else np.float32(0)


@njit(fastmath={"contract", "arcp", "nsz", "reassoc"}, error_model="numpy")
def _adam(p: Any, g: Any, m: Any, v: Any, b1: Any, b2: Any, rate: Any, eps: Any) -> None:
    for i in range(p.size):
        m[i] += (g[i] - m[i]) * b1
        v[i] = v[i] * (1 - b2) + g[i] * g[i] * b2
        p[i] -= rate * m[i] / (math.sqrt(v[i]) + eps)


@njit(error_model="numpy")
def _three(x: Any, y: Any, w0: Any, b0: Any, w1: Any, b1: Any, h: Any, s: Any, d: Any, gw0: Any, gb0: Any, gw1: Any,
           gb1: Any, p: Any, g: Any, m: Any, v: Any, numbers: Any) -> float:  # fmt: skip
    np.dot(x, w0.T, h)
    _bias_relu(h, b0, False)
    np.dot(h, w1.T, s)
    _bias_relu(s, b1, True)
    loss = _loss(s, y)
    np.dot(s, w1, d)
    np.dot(s.T, h, gw1)
    _bias_gradient(s, gb1)
    _relu_backward(d, h)
    np.dot(d.T, x, gw0)
    _bias_gradient(d, gb0)
    _adam(p, g, m, v, numbers[0], numbers[1], numbers[2], numbers[3])
    return loss


@njit(error_model="numpy")
def _four(x: Any, y: Any, w0: Any, b0: Any, w1: Any, b1: Any, w2: Any, b2: Any, h: Any, k: Any, s: Any, d: Any, e: Any,
          gw0: Any, gb0: Any, gw1: Any, gb1: Any, gw2: Any, gb2: Any, p: Any, g: Any, m: Any, v: Any,
          numbers: Any) -> float:  # fmt: skip
    np.dot(x, w0.T, h)
    _bias_relu(h, b0, False)
    np.dot(h, w1.T, k)
    _bias_relu(k, b1, False)
    np.dot(k, w2.T, s)
    _bias_relu(s, b2, True)
    loss = _loss(s, y)
    np.dot(s, w2, e)
    np.dot(s.T, k, gw2)
    _bias_gradient(s, gb2)
    _relu_backward(e, k)
    np.dot(e, w1, d)
    np.dot(e.T, h, gw1)
    _bias_gradient(e, gb1)
    _relu_backward(d, h)
    np.dot(d.T, x, gw0)
    _bias_gradient(d, gb0)
    _adam(p, g, m, v, numbers[0], numbers[1], numbers[2], numbers[3])
    return loss


class FusedStep:
    """Forward, cross entropy, backward and Adam of an MLP of two or three layers, on float32.

    Args:
        parameters: weight and bias of each layer.
        x: the batch.
        y: its classes.
        lr: the rate of learning.
    """

    def __init__(self, parameters: list[np.ndarray], x: np.ndarray, y: np.ndarray, lr: float) -> None:
        sizes = [x.shape[1], *[bias.size for bias in parameters[1::2]]]
        total = sum(parameter.size for parameter in parameters)
        self._flat, self._grad, self._m, self._v = np.zeros((4, total), np.float32)
        self.parameters, grads, start = [], [], 0
        for parameter in parameters:
            part = slice(start, start + parameter.size)
            self.parameters.append(self._flat[part].reshape(parameter.shape))
            self.parameters[-1][...] = parameter
            grads.append(self._grad[part].reshape(parameter.shape))
            start += parameter.size
        outputs = [np.zeros((len(x), size), np.float32) for size in sizes[1:]]
        back = [np.zeros((len(x), size), np.float32) for size, _ in pairwise(sizes[1:])]
        self._numbers, self._steps, self._lr = np.zeros(4, np.float32), 0, lr
        self._run = _three if len(parameters) == 4 else _four
        self._given = (x, y, *self.parameters, *outputs, *back, *grads, self._flat, self._grad, self._m, self._v)

    def __call__(self) -> float:
        """Take a step; return the loss."""
        self._steps += 1
        root = (1 - 0.999**self._steps) ** 0.5
        self._numbers[:] = 1 - 0.9, 1 - 0.999, self._lr * root / (1 - 0.9**self._steps), 1e-8 * root
        return self._run(*self._given, self._numbers)
