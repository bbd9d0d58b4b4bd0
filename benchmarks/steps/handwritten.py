"""A training step of an MLP written by hand over NumPy, without any framework: the limit of eager array code.

Every buffer is allocated once, every result goes into one by `out=`, gradients are written straight into
one flat vector, and Adam runs over that vector in pieces that fit into the cache. Only passes over memory
that NumPy cannot fuse are left.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

PIECE = 1 << 15
"""Elements that Adam treats at a time: five such pieces of float32 fit into a core's cache."""


class HandwrittenStep:
    """Forward, cross-entropy, backward and Adam for a ReLU MLP; a call trains one step and returns the loss.

    Args:
        xp: numpy, or cupy for arrays on a GPU.
        parameters: weight (out, in) and bias (out,) of every layer in turn, as PyTorch orders them.
        x: one batch of inputs (batch, features); y: its class numbers (batch,).
    """

    def __init__(self, xp: Any, parameters: Sequence[Any], x: Any, y: Any, lr: float = 1e-3) -> None:
        self.xp, self.x, self.y, self.lr, self.steps = xp, xp.asarray(x), xp.asarray(y)[:, None], lr, 0
        batch = len(x)
        flat = xp.concatenate([xp.asarray(p).ravel() for p in parameters])
        self.flat, self.grads = flat, xp.zeros_like(flat)
        self.m, self.v, self.spare = xp.zeros_like(flat), xp.zeros_like(flat), xp.empty_like(flat[:PIECE])
        self.parameters = self._views(flat, parameters)
        gradients = self._views(self.grads, parameters)
        self.weights, self.biases = self.parameters[::2], self.parameters[1::2]
        self.weight_grads, self.bias_grads = gradients[::2], gradients[1::2]
        self.outputs = [xp.empty((batch, len(w)), flat.dtype) for w in self.weights]
        self.deltas = [xp.empty_like(output) for output in self.outputs]
        self.active = [xp.empty(output.shape, bool) for output in self.outputs]
        self.row = xp.empty((batch, 1), flat.dtype)
        self.ones = xp.ones(batch, flat.dtype)
        self.classes = xp.arange(len(self.weights[-1]), dtype=self.y.dtype)
        self.one_hot = xp.empty_like(self.outputs[-1])

    @staticmethod
    def _views(flat: Any, like: Sequence[Any]) -> list[Any]:
        views, start = [], 0
        for p in like:
            views.append(flat[start : start + p.size].reshape(p.shape))
            start += p.size
        return views

    def __call__(self) -> float:
        """Train one step on the batch; return the loss before it."""
        loss = self.forward()
        self.backward()
        self.adam()
        return loss

    def forward(self) -> float:
        """Compute every layer's output and the loss; leave the softmax in the last delta."""
        xp, value, last = self.xp, self.x, len(self.weights) - 1
        for layer, output in enumerate(self.outputs):
            value.dot(self.weights[layer].T, output)  # quicker to call than matmul
            xp.add(output, self.biases[layer], out=output)
            if layer < last:
                xp.maximum(output, 0.0, out=output)
            value = output
        probabilities, row = self.deltas[-1], self.row
        xp.amax(value, axis=1, keepdims=True, out=row)
        xp.subtract(value, row, out=value)
        xp.exp(value, out=probabilities)
        xp.sum(probabilities, axis=1, keepdims=True, out=row)
        xp.divide(probabilities, row, out=probabilities)
        xp.log(row, out=row)
        xp.equal(self.y, self.classes, out=self.one_hot)
        return (float(xp.sum(row)) - float(xp.vdot(self.one_hot, value))) / len(self.x)

    def backward(self) -> None:
        """Write the gradient of every parameter into the flat gradient."""
        xp, delta = self.xp, self.deltas[-1]
        xp.subtract(delta, self.one_hot, out=delta)
        xp.multiply(delta, 1.0 / len(self.x), out=delta)
        for layer in reversed(range(len(self.weights))):
            delta.T.dot(self.outputs[layer - 1] if layer else self.x, self.weight_grads[layer])
            self.ones.dot(delta, self.bias_grads[layer])
            if layer:
                below = self.deltas[layer - 1]
                delta.dot(self.weights[layer], below)
                xp.greater(self.outputs[layer - 1], 0.0, out=self.active[layer - 1])
                delta = xp.multiply(below, self.active[layer - 1], out=below)

    def adam(self, beta1: float = 0.9, beta2: float = 0.999, eps: float = 1e-8) -> None:
        """Update all parameters, piece by piece."""
        xp = self.xp
        self.steps += 1
        root = math.sqrt(1 - beta2**self.steps)
        rate = self.lr * root / (1 - beta1**self.steps)
        for start in range(0, self.flat.size, PIECE):
            piece = slice(start, start + PIECE)
            p, g, m, v = self.flat[piece], self.grads[piece], self.m[piece], self.v[piece]
            t = self.spare[: p.size]
            xp.subtract(g, m, out=t)
            xp.multiply(t, 1 - beta1, out=t)
            xp.add(m, t, out=m)
            xp.multiply(g, g, out=t)
            xp.multiply(t, 1 - beta2, out=t)
            xp.multiply(v, beta2, out=v)
            xp.add(v, t, out=v)
            xp.sqrt(v, out=t)
            xp.add(t, eps * root, out=t)
            xp.divide(m, t, out=t)
            xp.multiply(t, rate, out=t)
            xp.subtract(p, t, out=p)
