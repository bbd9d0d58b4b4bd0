"""The step in JAX: op by op, as one compiled function, and as a loop of many steps within one."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.steps.problem import Contestant, Problem

BETA1, BETA2, EPS = 0.9, 0.999, 1e-8


def op_by_op(problem: Problem) -> Contestant:
    """The step as JAX runs it without being told to compile."""
    return _contestant(problem, _functions(problem)[0])


def jit(problem: Problem) -> Contestant:
    """The step as one compiled function."""
    return _contestant(problem, _functions(problem)[1])


def scan(problem: Problem) -> Contestant:
    """The step within `jax.lax.scan`, `problem.many` times in a call, always on the same batch."""
    return _contestant(problem, *_functions(problem)[1:])


def vmap(problem: Problem, models: Sequence[Problem]) -> Callable[[], Any]:
    """Return a call that takes `problem.many` steps of all models, which differ in their parameters alone."""
    function = jax.jit(jax.vmap(_functions(problem)[2], in_axes=(0, None, None)), donate_argnums=0)
    states = [_state(model) for model in models]
    state = jax.tree.map(lambda *leaves: jnp.stack(leaves), *states)
    _, x, y = problem.draw()
    batch, held = (jnp.array(x), jnp.array(y)), [state]

    def call() -> Any:
        held[0], losses = function(held[0], *batch)
        return np.asarray(jax.block_until_ready(losses))

    return call


def _state(problem: Problem) -> Any:
    parameters = [jnp.array(parameter) for parameter in problem.draw()[0]]
    zeros = [[jnp.zeros_like(parameter) for parameter in parameters] for _ in range(2)]
    return parameters, *zeros, jnp.zeros((), jnp.float32)


@functools.lru_cache(maxsize=1)
def _functions(problem: Problem) -> tuple[Any, Any, Any]:
    def loss_of(parameters: list[Any], x: Any, y: Any) -> Any:
        value = x
        for layer in range(0, len(parameters), 2):
            if layer:
                value = jnp.tanh(value) if problem.activation == "Tanh" else jnp.maximum(value, 0)
            value = value @ parameters[layer].T + parameters[layer + 1]
        if problem.squared:
            return 0.5 * jnp.sum((value - y) ** 2)
        return -jnp.mean(jnp.take_along_axis(jax.nn.log_softmax(value), y[:, None], 1))

    def step(state: Any, x: Any, y: Any) -> tuple[Any, Any]:
        parameters, first, second, count = state
        loss, gradients = jax.value_and_grad(loss_of)(parameters, x, y)
        count = count + 1
        root = jnp.sqrt(1 - BETA2**count)
        rate = problem.lr * root / (1 - BETA1**count)
        first = [m + (g - m) * (1 - BETA1) for m, g in zip(first, gradients, strict=True)]
        second = [v * BETA2 + g * g * (1 - BETA2) for v, g in zip(second, gradients, strict=True)]
        parameters = [
            p - rate * m / (jnp.sqrt(v) + EPS * root) for p, m, v in zip(parameters, first, second, strict=True)
        ]
        return (parameters, first, second, count), loss

    def many(state: Any, x: Any, y: Any) -> tuple[Any, Any]:
        state, losses = jax.lax.scan(lambda state, _: step(state, x, y), state, None, length=problem.many)
        return state, losses[-1]

    return step, jax.jit(step, donate_argnums=0), jax.jit(many, donate_argnums=0)


def _contestant(problem: Problem, step: Any, scanned: Any = None) -> Contestant:
    _, x, y = problem.draw()
    state, batch = [_state(problem)], (jnp.array(x), jnp.array(y))

    def call(function: Any) -> float:
        state[0], loss = function(state[0], *batch)
        jax.block_until_ready(state[0])
        return float(loss)

    return Contestant(
        lambda: call(step),
        lambda: [np.asarray(parameter) for parameter in state[0][0]],
        None if scanned is None else lambda: call(scanned),
        1 if scanned is None else problem.many,
    )
