"""linalg.inv_ex, cholesky_ex and solve_ex: which matrices fail, and where, as in PyTorch;
the others of the batch are unharmed.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import nanotorch
from oracle import pytorch

pytestmark = pytest.mark.parity

MATRICES = [
    [[1.0, 1.0], [1.0, 1.0]],
    np.zeros((2, 2)),
    np.ones((3, 3)),
    [np.eye(2), np.zeros((2, 2)), [[1.0, 2.0], [2.0, 1.0]]],
    [[0.0, 1.0], [1.0, 0.0]],
    -np.eye(3),
    [[2.0, 0.0, 0.0], [0.0, 1.0, 1.0], [0.0, 1.0, 1.0]],
    np.zeros((2, 0, 0)),
    np.eye(2),
]
CALLS: dict[str, Any] = {
    "inv_ex": lambda library, A: library.linalg.inv_ex(A),
    "cholesky_ex": lambda library, A: library.linalg.cholesky_ex(A),
    "upper": lambda library, A: library.linalg.cholesky_ex(A, upper=True),
    "solve_ex": lambda library, A: library.linalg.solve_ex(
        A, library.ones(tuple(A.shape[:-1]), dtype=A.dtype).unsqueeze(-1)
    ),
    "left": lambda library, A: library.linalg.solve_ex(A, library.ones(tuple(A.shape), dtype=A.dtype), left=False),
}


@pytest.mark.parametrize("name", CALLS)
def test_info_and_results_beside_failures(name: str) -> None:
    for matrix in MATRICES:
        array = np.array(matrix, dtype=np.float64)
        mine, other = CALLS[name](nanotorch, nanotorch.tensor(array)), CALLS[name](pytorch, pytorch.tensor(array))
        assert str(mine.info.dtype) == str(other.info.dtype)
        assert mine.info.tolist() == other.info.tolist(), array
        assert mine[0].shape == tuple(other[0].shape)
        good = np.asarray(other.info.numpy() == 0)
        np.testing.assert_allclose(mine[0].numpy()[good], other[0].numpy()[good], 1e-12)
        assert np.isnan(mine[0].numpy()[~good]).all()


def test_errors_when_asked_for() -> None:
    singular = nanotorch.zeros(2, 2)
    for call in (
        nanotorch.linalg.inv_ex,
        nanotorch.linalg.cholesky_ex,
        lambda A, **options: nanotorch.linalg.solve_ex(A, A, **options),
    ):
        with pytest.raises(nanotorch.linalg.LinAlgError):
            call(singular, check_errors=True)


def test_gradients_of_the_matrices_that_have_a_result() -> None:
    A = nanotorch.stack([nanotorch.eye(2) * 2, nanotorch.zeros(2, 2)]).requires_grad_()
    nanotorch.linalg.inv_ex(A).inverse.nansum().backward()
    assert A.grad.tolist() == [[[-0.25, -0.25], [-0.25, -0.25]], [[0.0, 0.0], [0.0, 0.0]]]


@pytest.mark.parametrize("upper", [False, True])
def test_gradient_of_a_cholesky_factor(upper: bool) -> None:
    """In its own triangle PyTorch's; in the other, which is not read, 0."""
    rng = np.random.default_rng(0)
    factor = np.tril(rng.standard_normal((3, 3))) + 2 * np.eye(3)
    factor, right = (factor.T.copy() if upper else factor), rng.standard_normal((3, 2))
    seeds = rng.standard_normal((3, 2)), rng.standard_normal((3, 3))
    found = []
    for library in (nanotorch, pytorch):
        L = library.tensor(factor, requires_grad=True)
        results = [library.cholesky_solve(library.tensor(right), L, upper), library.cholesky_inverse(L, upper)]
        found.append(
            [
                library.autograd.grad(y, L, library.tensor(seed))[0].numpy()
                for y, seed in zip(results, seeds, strict=True)
            ]
        )
    for mine, other in zip(*found, strict=True):
        np.testing.assert_allclose(mine, np.triu(other) if upper else np.tril(other), 1e-11, 1e-13)
