"""Public functions that are no rows or have no samples there:
creation, conversion, comparison of whole tensors, `special`.
"""

from __future__ import annotations

import functools
from typing import Any

import nanotorch
from nanotorch.ops.rows.row import Composite
from nanotorch.ops.rows.sample import above_zero, booleans, integers, positive_definite, real, sample, unary

length = [sample(5), sample(1), sample(0), sample(6, False)]
like = [sample(real(2, 3)), sample(integers(3)), sample(booleans(2))]
pairs = [sample(real(2, 3), real(2, 3)), sample(integers(2), integers(2)), sample(real(2), real(3))]
shapes = [sample(2, 3), sample((2, 0)), sample(()), sample(3)]
SAMPLES: dict[str, list[Any]] = {
    "arange": [sample(5), sample(1, 7, 2), sample(0.0, 1.0, 0.25), sample(5, 1, -1), sample(2.5)],
    "linspace": [sample(0, 1, 5), sample(-2.0, 2.0, 1), sample(3, -1, 4), sample(0.5, 1.5, 0)],
    "logspace": [sample(0, 2, 3), sample(-1.0, 1.0, 4, 2.0)],
    "eye": [sample(3), sample(2, 4), sample(0)],
    "full": [sample((2, 3), 1.5), sample((2,), 3), sample((), True), sample((0, 2), -1.0)],
    "zeros": shapes,
    "ones": shapes,
    "scalar_tensor": [sample(2), sample(1.5), sample(True)],
    "full_like": [sample(real(2, 3), 2), sample(integers(3), 1), sample(booleans(2), True)],
    "zeros_like": like,
    "ones_like": like,
    "rand_like": like[:1],
    "randn_like": like[:1],
    "empty_like": like,
    "tril_indices": [sample(3, 4), sample(2, 2, -1), sample(0, 3)],
    "triu_indices": [sample(3, 4, 1), sample(2, 3)],
    **{f"{name}_window": length for name in ("bartlett", "blackman", "hamming", "hann", "kaiser")},
    "allclose": pairs,
    "equal": pairs,
    "is_same_size": pairs,
    "result_type": [*pairs, sample(real(2), 2), sample(integers(2), 1.5)],
    "is_nonzero": [sample(real(1)), sample(booleans()), sample(real(2))],
    "numel": like,
    "is_floating_point": like,
    "is_signed": like,
    "cholesky": [sample(positive_definite(3, 3)), sample(positive_definite(2, 2, 2), True)],
    "randint": [sample(5, (2,)), sample(2, 7, (3, 1))],
    "randperm": [sample(4), sample(0)],
    "rand": shapes,
    "randn": shapes,
    "bernoulli": [sample(real(3, low=0.0, high=1.0)), sample(real(2), 0.5)],
    "multinomial": [sample(real(2, 3, low=0.1), 2), sample(real(3, low=0.1), 5, True)],
    "normal": [sample(0.0, 1.0, (2,)), sample(real(2), 1.0), sample(real(2), real(2, low=0.1))],
    "index_put": [
        sample(real(3, 2), [integers(2)], real(2, 2)),
        sample(real(3, 2), [integers(2), integers(2, high=2)], real(2), True),
    ],
    **{f"special.{name}": unary for name in ("entr", "expit", "ndtr")},
    "special.psi": above_zero,
    "special.gammaln": above_zero,
    "special.multigammaln": [sample(real(3, low=2.0, high=4.0), 2)],
    **{
        f"Tensor.{name}": like
        for name in (
            "float",
            "double",
            "half",
            "long",
            "int",
            "short",
            "char",
            "byte",
            "bool",
            "detach",
            "item",
            "tolist",
            "numel",
            "dim",
        )
    },
    "Tensor.type_as": pairs,
    "Tensor.new_full": [sample(real(2), (2, 1), 1.5), sample(integers(2), (3,), 2)],
    "Tensor.new_zeros": [sample(real(2), (2, 1)), sample(integers(2), 3)],
    "Tensor.new_ones": [sample(booleans(2), (2,)), sample(real(2), 2, 2)],
    "Tensor.copy_": [sample(real(2, 3), real(3)), sample(integers(2), real(2)), sample(real(2, 2), booleans(2, 1))],
    "Tensor.fill_diagonal_": [sample(real(3, 3), 1.5), sample(real(4, 2), 0.5, True)],
    "Tensor.index_put_": [sample(real(3, 2), [integers(2)], real(2, 2)), sample(real(3), [booleans(3)], real())],
    "Tensor.masked_scatter_": [sample(real(3, 4), booleans(4), real(3, 5))],
    "Tensor.scatter_": [sample(real(3, 4), 1, integers(3, 1), real(3, 1))],
    "Tensor.transpose_": [sample(real(2, 3), 0, 1), sample(real(2, 3, 1), 0, 2)],
    "Tensor.squeeze_": [sample(real(2, 1), 1), sample(real(1, 3, 1))],
    "Tensor.unsqueeze_": [sample(real(2, 3), 1), sample(real(), 0)],
    "Tensor.t_": [sample(real(2, 3))],
    "Tensor.zero_": like,
    "Tensor.float_power_": [sample(real(3, low=0.1), 1.5)],
    "Tensor.div_": [sample(real(3, 2), real(2, low=0.5)), sample(real(3), 2.0)],
}


def entry(name: str, samples: list[Any]) -> Composite:
    """What the fuzzer draws from, as for a composite of the package."""
    made = Composite(functools.reduce(getattr, name.split("."), nanotorch), samples, "function")
    made.name = name
    return made


FURTHER = {name: entry(name, samples) for name, samples in SAMPLES.items()}
