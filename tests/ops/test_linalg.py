"""Linear algebra at its edges: singular matrices, errors, batches,
functions of factorisations, and forms of arguments.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import nanotorch
from oracle import pytorch, to_numpy

pytestmark = pytest.mark.parity
NAN = float("nan")


def random(*shape: int, seed: int = 0) -> np.ndarray[Any, Any]:
    return np.random.default_rng(seed).normal(size=shape)


def cofactors(matrix: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    n = len(matrix)
    result = np.empty_like(matrix)
    for i in range(n):
        for j in range(n):
            minor = np.delete(np.delete(matrix, i, 0), j, 1)
            result[i, j] = (-1) ** (i + j) * np.linalg.det(minor)
    return result


def of_rank(rank: int, n: int = 4) -> np.ndarray[Any, Any]:
    return random(n, rank, seed=rank) @ random(rank, n, seed=rank + 10) if rank else np.zeros((n, n))


@pytest.mark.parametrize("rank", range(5))
def test_gradient_of_det_is_the_cofactors_at_every_rank(rank: int) -> None:
    """PyTorch gives 0 for a singular matrix unless create_graph is set, where it gives the cofactors too."""
    matrix = of_rank(rank)
    x = nanotorch.tensor(matrix, requires_grad=True)
    (grad,) = nanotorch.autograd.grad(nanotorch.linalg.det(x), x)
    np.testing.assert_allclose(grad.numpy(), cofactors(matrix), atol=1e-10)


@pytest.mark.parametrize("rank", range(5))
def test_second_derivative_of_det_at_every_rank(rank: int) -> None:
    matrix, direction = of_rank(rank), random(4, 4, seed=5)
    x = nanotorch.tensor(matrix, requires_grad=True)
    (grad,) = nanotorch.autograd.grad(nanotorch.linalg.det(x), x, create_graph=True)
    (second,) = nanotorch.autograd.grad((grad * nanotorch.tensor(direction)).sum(), x)
    step = 1e-5
    # the Hessian is symmetric
    expected = (cofactors(matrix + step * direction) - cofactors(matrix - step * direction)) / (2 * step)
    np.testing.assert_allclose(second.numpy(), expected, rtol=1e-6, atol=1e-6)


def test_third_derivative_of_det() -> None:
    x = nanotorch.tensor(random(3, 3), requires_grad=True)
    weights = nanotorch.tensor(random(3, 3, seed=1))

    def second(x: Any) -> Any:
        (grad,) = nanotorch.autograd.grad(nanotorch.linalg.det(x), x, create_graph=True)
        return nanotorch.autograd.grad((grad * weights).sum(), x, create_graph=True)[0]

    assert nanotorch.autograd.gradcheck(second, [x])


@pytest.mark.parametrize("name", ["slogdet", "logdet"])
def test_logarithm_of_a_singular_determinant(name: str) -> None:
    x = nanotorch.tensor([[1.0, 2.0], [2.0, 4.0]], requires_grad=True)
    result = nanotorch.linalg.slogdet(x)[1] if name == "slogdet" else nanotorch.logdet(x)
    assert result.item() == -np.inf
    result.backward()
    assert np.isinf(x.grad.numpy()).all()


def test_logdet_of_a_negative_determinant_is_nan() -> None:
    assert np.isnan(nanotorch.logdet(nanotorch.tensor([[0.0, 1.0], [1.0, 0.0]])).item())


SINGULAR = [[1.0, 2.0], [2.0, 4.0]]
MATRIX_ERRORS: list[tuple[Callable[..., Any], str]] = [
    (lambda torch, s: torch.linalg.inv(s), "linalg.inv: .*input matrix is singular"),
    (lambda torch, s: torch.linalg.inv(torch.stack([torch.eye(2), s])), r"linalg.inv: \(Batch element 1\): .*singular"),
    (lambda torch, s: torch.inverse(s), "input matrix is singular"),
    (
        lambda torch, s: torch.linalg.solve(s, torch.ones(2)),
        "linalg.solve: The solver failed because the input matrix is singular",
    ),
    (
        lambda torch, s: torch.linalg.solve(torch.stack([torch.eye(2), s]), torch.ones(2, 2)),
        r"\(Batch element 1\): The solver failed",
    ),
    (lambda torch, s: torch.linalg.cholesky(-s), "linalg.cholesky: .*not positive-definite"),
    (lambda torch, s: torch.linalg.cholesky(torch.stack([torch.eye(2), -s])), r"linalg.cholesky: \(Batch element 1\)"),
    (lambda torch, s: torch.linalg.matrix_power(s, -1), "input matrix is singular"),
]


@pytest.mark.parametrize("number", range(len(MATRIX_ERRORS)))
def test_what_does_not_exist_raises_linalgerror(number: int) -> None:
    function, message = MATRIX_ERRORS[number]
    for torch in (pytorch, nanotorch):
        with pytest.raises(torch.linalg.LinAlgError, match=message):
            function(torch, torch.tensor(SINGULAR))


BAD = "It contains NaN or infinities"
NOT_FINITE: list[tuple[Callable[..., Any], str]] = [
    (lambda torch, x: torch.linalg.svd(x), f"linalg.svd: .*{BAD}"),
    (
        lambda torch, x: torch.linalg.eigh(torch.stack([torch.eye(2, device=x.device), x])),
        rf"linalg.eigh: \(Batch element 1\): .*{BAD}",
    ),
    (lambda torch, x: torch.linalg.cholesky(x), f"linalg.cholesky: .*{BAD}"),
    (
        lambda torch, x: torch.linalg.solve(x.triu(), x.new_ones(2)).sum().backward(),
        f"gradient of linalg.solve: .*{BAD}",
    ),
    (lambda torch, x: torch.linalg.qr(0 * x.nan_to_num(0, 0))[1].sum().backward(), "gradient of linalg.qr: .*singular"),
]


@pytest.mark.parametrize("number", range(len(NOT_FINITE)))
def test_errors_name_the_op_and_say_that_a_matrix_is_not_finite(number: int, device: Any) -> None:
    function, message = NOT_FINITE[number]
    matrix = nanotorch.tensor([[1.0, np.inf], [np.inf, 1.0]], device=device, requires_grad=True)
    with pytest.raises(nanotorch.linalg.LinAlgError, match=message):
        function(nanotorch, matrix)


@pytest.mark.parametrize("name", ["inv", "cholesky"])
def test_what_does_not_exist_raises_linalgerror_on_the_device_too(name: str, device: Any) -> None:
    matrices = nanotorch.stack([nanotorch.eye(2), -nanotorch.tensor(SINGULAR)]).to(device)
    for value in (matrices, matrices[1]):
        with pytest.raises(nanotorch.linalg.LinAlgError, match=f"linalg.{name}"):
            getattr(nanotorch.linalg, name)(value)
        with pytest.raises(nanotorch.linalg.LinAlgError, match=r"linalg\.solve"):
            nanotorch.linalg.solve(value, nanotorch.ones(2, 1, device=device))


ERRORS: list[tuple[Callable[[Any], Any], str]] = [
    (
        lambda torch: torch.linalg.inv(torch.ones(2, 3)),
        "linalg.inv: A must be batches of square matrices, but they are 2 by 3 matrices",
    ),
    (
        lambda torch: torch.linalg.det(torch.ones(2, 3)),
        "linalg.det: A must be batches of square matrices, but they are 2 by 3 matrices",
    ),
    (lambda torch: torch.linalg.det(torch.ones(2)), "linalg.det: The input tensor A must have at least 2 dimensions"),
    (lambda torch: torch.linalg.inv(torch.ones(2, 2).long()), "linalg.inv: Expected a floating point"),
    (
        lambda torch: torch.linalg.matrix_power(torch.ones(2, 3), 2),
        "linalg.matrix_power: A must be batches of square matrices",
    ),
    (
        lambda torch: torch.linalg.solve(torch.eye(2), torch.ones(3)),
        "linalg.solve: Incompatible shapes of A and B for the equation AX = B",
    ),
    (lambda torch: torch.linalg.solve(torch.eye(2), torch.ones(3, 2)), "linalg.solve: Incompatible shapes of A and B"),
    *(
        (
            lambda torch, batch=batch, shape=shape, left=left: torch.linalg.solve_triangular(
                torch.eye(2).expand(*batch, 2, 2), torch.ones(shape), upper=False, left=left
            ),
            rf"linalg.solve_triangular: .*{'AX' if left else 'XA'} = B|at least 2 dimensions",
        )
        for batch, shape, left in [
            ((), (2,), True),
            ((3,), (3, 2), True),
            ((1,), (2,), True),
            ((), (2,), False),
            ((1,), (2, 1), False),
            ((3,), (2, 3), False),
        ]
    ),
    (
        lambda torch: torch.linalg.norm(torch.ones(2, 2, 2), 1),
        "If dim is not specified but ord is, the input must be 1D or 2D. Got 3D",
    ),
    (lambda torch: torch.linalg.matrix_norm(torch.ones(2, 2), 3), "linalg.matrix_norm: Order 3 not supported"),
    (
        lambda torch: torch.matmul(torch.tensor(1.0), torch.ones(2)),
        "both arguments to matmul need to be at least 1D, but they are 0D and 1D",
    ),
    (lambda torch: torch.ones(2, 3) @ torch.ones(2, 3), "mat1 and mat2 shapes cannot be multiplied"),
    (
        lambda torch: torch.inner(torch.ones(2, 3), torch.ones(4, 2)),
        r"last dimension must match on both input tensors but got shapes \[2, 3\] and \[4, 2\]",
    ),
    (
        lambda torch: torch.tensordot(torch.ones(2, 3), torch.ones(2, 3), 1),
        "contracted dimensions need to match, but first has size 3 in dim",
    ),
    (
        lambda torch: torch.linalg.cross(torch.ones(2, 3), torch.ones(3)),
        "linalg.cross: inputs must have the same number of dimensions",
    ),
    (
        lambda torch: torch.addmm(torch.ones(3, 3), torch.ones(2, 3), torch.ones(3, 2)),
        "The expanded size of the tensor",
    ),
    (lambda torch: torch.addr(torch.ones(2, 2), torch.ones(2), torch.ones(3)), "The expanded size of the tensor"),
    (
        lambda torch: torch.addmm(torch.ones(3, 3), torch.ones(2, 3), torch.ones(3, 2), beta=0),
        "The expanded size of the tensor",
    ),
    (
        lambda torch: torch.einsum("ijk", torch.ones(2, 3)),
        r"number of subscripts in the equation \(3\) does not match the number of dimensions \(2\)",
    ),
    (
        lambda torch: torch.einsum("ij,ij", torch.ones(2, 3)),
        r"einsum\(\): fewer operands were provided than specified in the equation",
    ),
]


@pytest.mark.parametrize("number", range(len(ERRORS)))
def test_errors_have_pytorchs_words(number: int) -> None:
    function, message = ERRORS[number]
    for torch in (pytorch, nanotorch):
        with pytest.raises(RuntimeError, match=message):
            function(torch)


def value_and_gradient(torch: Any, function: Callable[..., Any], *arrays: Any) -> list[np.ndarray[Any, Any]]:
    inputs = [torch.tensor(a, requires_grad=True) for a in arrays]
    result = function(torch, *inputs)
    seed = torch.tensor(np.random.default_rng(7).normal(size=tuple(result.shape)))
    first = torch.autograd.grad(result, inputs, seed, create_graph=True)
    second = torch.autograd.grad(sum((g * g).sum() for g in first), inputs)
    return [to_numpy(v) for v in (result, *first, *second)]


def symmetric(x: Any) -> Any:
    return x @ x.transpose(-1, -2) + 0.5 * (x + x.transpose(-1, -2)) * 0.1


# The signs of singular and eigenvectors are arbitrary: compared is what does not depend on them.
INVARIANT: dict[str, tuple[Callable[..., Any], tuple[int, ...]]] = {
    "eigh": (
        lambda torch, x: (lambda e: e[1] @ (torch.exp(-e[0]).unsqueeze(-1) * e[1].transpose(-1, -2)))(
            torch.linalg.eigh(symmetric(x))
        ),
        (3, 3),
    ),
    "eigh upper": (lambda torch, x: torch.linalg.eigh(symmetric(x), "U")[1] ** 2, (2, 3, 3)),
    "eigenvalues": (lambda torch, x: torch.linalg.eigvalsh(symmetric(x)), (2, 3, 3)),
    "svd of tall": (
        lambda torch, x: (lambda d: d[0] @ (torch.sin(d[1]).unsqueeze(-1) * d[2]))(
            torch.linalg.svd(x, full_matrices=False)
        ),
        (4, 3),
    ),
    "svd of wide": (
        lambda torch, x: (lambda d: d[0] @ (torch.sin(d[1]).unsqueeze(-1) * d[2]))(
            torch.linalg.svd(x, full_matrices=False)
        ),
        (2, 2, 4),
    ),
    "svd of square": (
        lambda torch, x: (lambda d: (d[0] ** 2).sum(-1, keepdim=True) + d[0] ** 2 @ d[2] ** 2)(torch.linalg.svd(x)),
        (3, 3),
    ),
    "svdvals": (lambda torch, x: torch.linalg.svdvals(x), (2, 3, 4)),
    "qr of tall": (lambda torch, x: torch.cat([f.flatten() for f in torch.linalg.qr(x)]), (4, 3)),
    "qr of wide": (lambda torch, x: torch.cat([f.flatten() for f in torch.linalg.qr(x)]), (2, 2, 4)),
    "cholesky": (
        lambda torch, x: torch.linalg.cholesky(symmetric(x) + 2 * torch.eye(3, dtype=torch.float64)),
        (2, 3, 3),
    ),
    "cholesky upper": (
        lambda torch, x: torch.linalg.cholesky(symmetric(x) + 2 * torch.eye(3, dtype=torch.float64), upper=True),
        (3, 3),
    ),
    "solve with both sides": (
        lambda torch, x: torch.linalg.solve(symmetric(x) + 2 * torch.eye(3, dtype=torch.float64), x),
        (2, 3, 3),
    ),
}


@pytest.mark.parametrize("name", INVARIANT)
def test_functions_of_factorisations(name: str) -> None:
    function, shape = INVARIANT[name]
    for ours, theirs in zip(
        value_and_gradient(nanotorch, function, random(*shape)),
        value_and_gradient(pytorch, function, random(*shape)),
        strict=True,
    ):
        np.testing.assert_allclose(ours, theirs, rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("name", INVARIANT)
def test_functions_of_factorisations_against_differences(name: str) -> None:
    function, shape = INVARIANT[name]
    x = nanotorch.tensor(random(*shape), requires_grad=True)
    assert nanotorch.autograd.gradcheck(lambda x: function(nanotorch, x), [x])
    assert nanotorch.autograd.gradgradcheck(lambda x: function(nanotorch, x), [x], atol=1e-4)


def test_full_svd_completes_the_bases() -> None:
    x = nanotorch.tensor(random(4, 2), requires_grad=True)
    u, s, vh = nanotorch.linalg.svd(x)
    assert s.requires_grad and not u.requires_grad
    s, x = s.detach(), x.detach()
    assert u.shape == (4, 4) and s.shape == (2,) and vh.shape == (2, 2)
    np.testing.assert_allclose((u.T @ u).numpy(), np.eye(4), atol=1e-12)
    np.testing.assert_allclose((u[:, :2] @ s.diag() @ vh).numpy(), x.numpy(), atol=1e-12)


def test_modes_of_qr() -> None:
    for torch in (pytorch, nanotorch):
        x = torch.tensor(random(4, 2))
        q, r = torch.linalg.qr(x, "complete")
        assert q.shape == (4, 4) and r.shape == (4, 2)
        np.testing.assert_allclose((q @ r).numpy(), x.numpy(), atol=1e-12)
        q, r = torch.linalg.qr(x, mode="r")
        assert q.shape == (0,) and r.shape == (2, 2)
        with pytest.raises(RuntimeError, match="mode"):
            torch.linalg.qr(x, "full")


def test_cholesky_under_its_older_name() -> None:
    matrix = nanotorch.tensor([[4.0, 2.0], [2.0, 3.0]])
    assert nanotorch.cholesky(matrix).tolist() == nanotorch.linalg.cholesky(matrix).tolist()
    assert nanotorch.cholesky(matrix, True).tolist() == nanotorch.linalg.cholesky(matrix, upper=True).tolist()


def test_accumulating_products_in_place() -> None:
    def outcome(torch: Any) -> list[Any]:
        a, b = torch.tensor(random(2, 3)).requires_grad_(), torch.tensor(random(3, 2, seed=1)).requires_grad_()
        u, v = torch.tensor(random(2, seed=2)).requires_grad_(), torch.tensor(random(3, seed=3)).requires_grad_()
        square = torch.ones(2, 2, dtype=torch.float64).addmm_(a, b, alpha=2).addr_(u, u, beta=0.5)
        vector = (u * 1).addmv_(a, v)
        batch = torch.zeros(1, 2, 2, dtype=torch.float64).baddbmm_(a.unsqueeze(0), b.unsqueeze(0))
        total = torch.zeros(2, 2, dtype=torch.float64).addbmm_(a.unsqueeze(0), b.unsqueeze(0))
        loss = (square * square).sum() + (vector * batch[0, 0]).sum() + total.sum()
        return [loss.item(), *[g.tolist() for g in torch.autograd.grad(loss, [a, b, u, v])]]

    for ours, theirs in zip(outcome(nanotorch), outcome(pytorch), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-12)


def test_einsum_with_numbered_dimensions() -> None:
    def outcome(torch: Any) -> list[Any]:
        a, b = torch.tensor(random(2, 3)), torch.tensor(random(3, 4))
        found = [
            torch.einsum(a, [0, 1], b, [1, 2], [0, 2]),
            torch.einsum(a, [0, 1], b, [1, 2]),
            torch.einsum(a, [..., 1], [1, ...]),
        ]
        found.append(torch.einsum("ij,jk", [a, b]))
        return [f.tolist() for f in found]

    for ours, theirs in zip(outcome(nanotorch), outcome(pytorch), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-12)


def test_products_of_integers() -> None:
    def outcome(torch: Any) -> list[Any]:
        a, b = torch.arange(6).reshape(2, 3), torch.arange(6).reshape(3, 2)
        found = [
            a @ b,
            a.mm(b),
            a[0].dot(b[:, 0]),
            a.mv(b[:, 1]),
            torch.outer(a[0], b[0]),
            torch.einsum("ij,jk->ik", a, b),
            torch.kron(a, b),
        ]
        return [(str(f.dtype), f.tolist()) for f in found]

    assert outcome(nanotorch) == outcome(pytorch)
