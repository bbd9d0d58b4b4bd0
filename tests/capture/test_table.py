"""Captured steps as tables: near eager to stated tolerances, whatever the cache of the interpreter holds."""

from __future__ import annotations

import os
import select
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import nanotorch as torch
from nanotorch import nn
from nanotorch.backend.philox import random_bits
from nanotorch.capture import captured, compiled
from nanotorch.capture.numpy_code import CheckFailedError, NumpyCode, same_bits
from nanotorch.capture.program import Buffer, Program, Statement, View, steps
from nanotorch.capture.table import machine
from nanotorch.capture.table.instructions import ADAM, PRODUCT
from nanotorch.capture.table.machine import MACHINE, Interpreter
from nanotorch.capture.table.table_code import TableCode
from nanotorch.optim.lr_scheduler import OneCycleLR
from nanotorch.train.cli.commands import main

F = nn.functional


@pytest.fixture(scope="module")
def interpreter() -> Interpreter:
    """The interpreter, compiled where the cache has none."""
    found = MACHINE.wait()
    assert found is not None, MACHINE.reason
    return found


class Run:
    """A small network with its optimizer and its step."""

    def __init__(self, make_optimizer: Callable[[Any], Any], layers: Any, dtype: torch.dtype, loss: Any) -> None:
        torch.manual_seed(0)
        self.model = nn.Sequential(nn.Linear(5, 17), *[layer() for layer in layers], nn.Linear(17, 3)).to(dtype)
        self.optimizer, self.loss = make_optimizer(self.model.parameters()), loss

    def step(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        self.optimizer.zero_grad()
        loss = self.loss(self.model(x), y)
        loss.backward()
        self.optimizer.step()
        return loss


def classify(scores: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    return F.cross_entropy(scores, y)


def approach(scores: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    return F.mse_loss(scores, F.one_hot(y, 3).to(scores.dtype))


def batches(count: int, dtype: Any, rows: int = 19) -> list[tuple[torch.Tensor, torch.Tensor]]:
    draw = np.random.default_rng(0)
    made = [(draw.standard_normal((rows, 5)).astype(dtype), draw.integers(0, 3, rows)) for _ in range(count)]
    return [(torch.from_numpy(x), torch.from_numpy(y)) for x, y in made]


def code_of(step: Any) -> Any:
    """Return what runs a compiled step."""
    (captured,) = [c for programs in step._programs.values() for c in programs if c.confirmed]
    return captured.table or captured.code


OPTIMIZERS = {
    "Adam": lambda p: torch.optim.Adam(p, lr=0.01),
    "AdamW": lambda p: torch.optim.AdamW(p, lr=0.01, amsgrad=True),
    "SGD": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, weight_decay=0.01),
    "RMSprop": lambda p: torch.optim.RMSprop(p, lr=0.01),
}
LAYERS: dict[str, Any] = {
    name: (getattr(nn, name),)
    for name in ("ReLU", "Tanh", "Sigmoid", "GELU", "SiLU", "ELU", "Softplus", "LeakyReLU", "Mish", "Hardswish")
}
LAYERS["LayerNorm"] = (lambda: nn.LayerNorm(17), nn.ReLU)
LAYERS["Dropout"] = (nn.ReLU, lambda: nn.Dropout(0.3))
LAYERS["deep"] = (nn.Tanh, lambda: nn.Linear(17, 17), nn.ReLU, lambda: nn.Linear(17, 17), nn.ReLU)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("loss", [classify, approach])
@pytest.mark.parametrize(
    ("optimizer", "layers"),
    [*[("Adam", name) for name in LAYERS], *[(name, "ReLU") for name in OPTIMIZERS if name != "Adam"]],
)
def test_a_table_is_near_the_eager_step(
    interpreter: Interpreter, optimizer: str, layers: str, loss: Any, dtype: Any
) -> None:
    """Eight steps, the learning rate changed midway: float32 to 2e-5, float64 to 1e-12 of the largest weight."""
    kind = torch.float32 if dtype is np.float32 else torch.float64
    mine, eager = [Run(OPTIMIZERS[optimizer], LAYERS[layers], kind, loss) for _ in range(2)]
    tolerance = 2e-5 if dtype is np.float32 else 1e-12
    step = torch.compile(mine.step, backend="table")
    results = []
    for run, function in ((mine, step), (eager, eager.step)):
        torch.manual_seed(1)
        losses = []
        for number, batch in enumerate(batches(8, dtype)):
            run.optimizer.param_groups[0]["lr"] *= 0.5 if number == 5 else 1
            losses.append(function(*batch).item())
        results.append(losses)
    assert isinstance(code_of(step), TableCode)
    np.testing.assert_allclose(*results, rtol=tolerance)
    for one, other in zip(mine.model.parameters(), eager.model.parameters(), strict=True):
        np.testing.assert_allclose(one.detach().numpy(), other.detach().numpy(), atol=tolerance)
        np.testing.assert_allclose(one.grad.numpy(), other.grad.numpy(), atol=tolerance)  # type: ignore[union-attr]
        assert one._version == other._version


def instructions_of(code: TableCode) -> list[int]:
    words, at, found = code.table.code, 0, []
    while at < len(words):
        found.append(words[at])
        at += words[at + 1]
    return found


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(
    ("name", "options", "whole"),
    [
        ("Adam", {}, True),
        ("Adam", {"weight_decay": 0.1}, True),
        ("AdamW", {"weight_decay": 0.1}, True),
        ("Adam", {"amsgrad": True}, False),
        ("Adam", {"maximize": True, "weight_decay": 0.1}, False),
    ],
)
def test_adam_in_one_loop_has_the_bits_of_eager(
    interpreter: Interpreter, name: str, options: dict[str, Any], whole: bool, dtype: torch.dtype
) -> None:
    """Gradients are given, so nothing but the update could differ: values of all sizes, zeros, infinities and NaN."""
    draw = np.random.default_rng(0)
    start = [draw.standard_normal(shape) * 10.0 ** draw.integers(-6, 3, shape) for shape in ((7, 300), (7,))]
    given = [[draw.standard_normal(each.shape) * draw.integers(0, 2, each.shape) for each in start] for _ in range(8)]
    given[5][1][:3] = np.inf, -np.inf, np.nan
    given[6][0][0, 0] = 1e30
    after = []
    for compiled_step in (True, False):
        params = [torch.tensor(each, dtype=dtype, requires_grad=True) for each in start]
        optimizer = getattr(torch.optim, name)(params, lr=0.01, **options)

        def step(
            *grads: torch.Tensor, params: list[torch.Tensor] = params, optimizer: torch.optim.Optimizer = optimizer
        ) -> torch.Tensor:
            optimizer.zero_grad()
            sum([(param * grad).sum() for param, grad in zip(params, grads, strict=True)]).backward()
            optimizer.step()
            return grads[0].sum()

        run = torch.compile(step, backend="table") if compiled_step else step
        with np.errstate(all="ignore"):
            for grads in given:
                run(*[torch.tensor(grad, dtype=dtype) for grad in grads])
        if compiled_step:
            assert (ADAM in instructions_of(code_of(run))) is whole
        values = [*params, *[optimizer.state[p][n] for p in params for n in ("exp_avg", "exp_avg_sq")]]
        after.append([value.detach().numpy() for value in values])
    assert all(map(same_bits, *after))


def test_batch_norm_counts_in_the_table(interpreter: Interpreter) -> None:
    layers = (lambda: nn.BatchNorm1d(17), nn.ReLU)
    mine, eager = [Run(lambda p: torch.optim.SGD(p, lr=0.1), layers, torch.float32, classify) for _ in range(2)]
    step = torch.compile(mine.step, backend="table")
    for batch in batches(6, np.float32):
        assert step(*batch).item() == pytest.approx(eager.step(*batch).item(), rel=1e-5)
    assert code_of(step).calls == []
    for (name, one), other in zip(mine.model.state_dict().items(), eager.model.state_dict().values(), strict=True):
        np.testing.assert_allclose(one.numpy(), other.numpy(), atol=1e-5, err_msg=name)


@pytest.mark.parametrize("layers", ["Dropout", "GELU", "SiLU", "Tanh", "LayerNorm"])
def test_common_networks_run_whole_in_the_table(interpreter: Interpreter, layers: str) -> None:
    run = Run(OPTIMIZERS["Adam"], LAYERS[layers], torch.float32, classify)
    step = torch.compile(run.step, backend="auto")
    for batch in batches(4, np.float32):
        step(*batch)
    assert isinstance(code_of(step), TableCode)
    assert code_of(step).calls == []


@pytest.mark.parametrize(("first", "count"), [(0, 1), (0, 16), (3, 50), (16, 16), (31, 1), (7, 1000)])
def test_bits_of_dropout_are_those_of_numpy(interpreter: Interpreter, first: int, count: int) -> None:
    address = ((1 << 64) - 3, 12, 5, (1 << 63) + 1, first, count)
    program = program_of("random_bits", out=np.empty(count, np.uint16), numbers=address)
    np.testing.assert_array_equal(table_gives(interpreter, program), random_bits(*address))


def test_dropout_draws_eagers_numbers_one_by_one_and_many_at_once(interpreter: Interpreter) -> None:
    mine, eager = [Run(OPTIMIZERS["Adam"], LAYERS["Dropout"], torch.float32, classify) for _ in range(2)]
    step = torch.compile(mine.step, backend="table")
    parts = batches(12, np.float32)
    tables = [torch.cat([part[k] for part in parts[6:]]) for k in (0, 1)]
    torch.manual_seed(3)
    losses = [step(*part).item() for part in parts[:6]] + step.run(tables, batch_size=19).tolist()
    state = torch.get_rng_state()
    torch.manual_seed(3)
    np.testing.assert_allclose(losses, [eager.step(*part).item() for part in parts], rtol=1e-5)
    assert torch.get_rng_state() == state
    assert_near(mine, eager)
    torch.manual_seed(4)
    with pytest.raises(IndexError):
        step(parts[0][0], parts[0][1] + 5)
    state = torch.get_rng_state()
    torch.manual_seed(4)
    with pytest.raises(IndexError):
        eager.step(parts[0][0], parts[0][1] + 5)
    assert torch.get_rng_state() == state


# ------------------------------------------------------------------------------------------------------ single ops


def program_of(primitive: str, *arrays: Any, out: Any, options: Any = None, numbers: tuple[Any, ...] = ()) -> Program:
    """Return a program of one statement on arrays, which are its inputs."""
    program = Program()
    views = []
    for number, array in enumerate(arrays):
        buffer = Buffer("input", f"input{number}", array)
        program.inputs.append(buffer)
        views.append(View(buffer, 0, array.shape, steps(array)))
    result = Buffer("temporary", "result", out)
    program.buffers = [*program.inputs, result]
    place = View(result, 0, out.shape, steps(out))
    program.statements = [Statement(primitive, (*views, *numbers), options or {}, (place,), "line", "row")]
    program.outputs = [place]
    return program


def table_gives(interpreter: Interpreter, program: Program) -> Any:
    code = TableCode(program, (), interpreter)
    assert code.calls == [], "it is no instruction"
    step, _ = code.build()
    (result,) = step(*[buffer.array for buffer in program.inputs], [])
    assert code.check([buffer.array for buffer in program.inputs], []) is None
    return result


EXTRA = {"sigmoid": lambda kind: kind.tiny, "ndtr": lambda kind: 4 * kind.eps}  # absolute
SPECIAL = [0.0, -0.0, 1.0, -1.0, np.inf, -np.inf, np.nan, 1e-40, -1e-40, 1e-45, 3e38, -3e38, 88.7, 88.8, -87.5, -103.5]
UNARY = (
    "ndtr",
    "exp",
    "log",
    "tanh",
    "sigmoid",
    "softplus",
    "log1p",
    "expm1",
    "erf",
    "sqrt",
    "absolute",
    "negative",
    "floor",
)
BINARY = ("add", "subtract", "multiply", "divide", "maximum", "minimum", "less", "less_equal", "equal", "not_equal")


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", UNARY)
def test_functions_of_a_number(interpreter: Interpreter, name: str, dtype: Any) -> None:
    """Against NumPy and SciPy in float64: to 8 units in the last place, NaN, infinities and zeros where they are."""
    import scipy.special

    draw = np.random.default_rng(0)
    x = np.concatenate([SPECIAL, draw.normal(0, 30, 2000), draw.normal(0, 1, 2000), draw.normal(0, 1e-3, 500)])
    x = x.astype(dtype)
    got = table_gives(interpreter, program_of(name, x, out=np.empty_like(x)))
    with np.errstate(all="ignore"):
        wide = x.astype(np.float64)
        want = {
            "sigmoid": lambda: 1 / (1 + np.exp(-wide)),
            "softplus": lambda: np.logaddexp(0, wide),
            "erf": lambda: scipy.special.erf(wide),
            "ndtr": lambda: scipy.special.ndtr(wide),
        }.get(name, lambda: getattr(np, name)(wide))()
        want = want.astype(dtype)
        np.testing.assert_array_equal(np.isnan(got), np.isnan(want))
        near = np.abs(got - want) <= 8 * np.spacing(np.abs(want)) + EXTRA.get(name, lambda kind: 0)(np.finfo(dtype))
    finite = np.isfinite(want)
    np.testing.assert_array_equal(got[~finite], want[~finite])
    assert np.all(near | ~finite), x[~(near | ~finite)]
    if name in ("sqrt", "negative", "tanh", "erf", "expm1", "log1p"):
        np.testing.assert_array_equal(np.signbit(got[:2]), np.signbit(want[:2]))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", BINARY)
def test_arithmetic_has_the_bits_of_numpy(interpreter: Interpreter, name: str, dtype: Any) -> None:
    x, y = [each.ravel().astype(dtype) for each in np.meshgrid(SPECIAL, SPECIAL)]
    with np.errstate(all="ignore"):
        want = getattr(np, name)(x, y)
    got = table_gives(interpreter, program_of(name, x, y, out=np.empty_like(want)))
    np.testing.assert_array_equal(got, want)
    if name in ("add", "subtract", "multiply", "divide"):
        np.testing.assert_array_equal(np.signbit(got)[~np.isnan(want)], np.signbit(want)[~np.isnan(want)])


SHAPES = [
    ((7, 5), (5,)),
    ((7, 5), (7, 1)),
    ((7, 5), ()),
    ((3, 1, 4), (1, 6, 1)),
    ((0, 5), (5,)),
    ((2, 700), (700,)),
    ((1,), (1,)),
]


@pytest.mark.parametrize("shapes", SHAPES)
@pytest.mark.parametrize("order", ["C", "F"])
def test_operands_are_repeated_as_numpy_repeats_them(interpreter: Interpreter, shapes: Any, order: str) -> None:
    draw = np.random.default_rng(0)
    x, y = [np.array(draw.standard_normal(shape).astype(np.float32), order=order) for shape in shapes]
    want = x - y
    out = np.empty(want.shape, np.float32)
    np.testing.assert_array_equal(table_gives(interpreter, program_of("subtract", x, y, out=out)), want)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(
    "shapes",
    [
        ((4, 3), (3, 5)),
        ((1, 3), (3, 1)),
        ((4, 1), (1, 5)),
        ((2, 4, 3), (2, 3, 5)),
        ((6, 4, 3), (3, 5)),
        ((3,), (3, 5)),
        ((4, 3), (3,)),
    ],
)
@pytest.mark.parametrize("turned", [(), (0,), (1,), (0, 1), (2,)])
def test_products_of_matrices_in_any_order_of_the_axes(
    interpreter: Interpreter, shapes: Any, turned: tuple[int, ...], dtype: Any
) -> None:
    draw = np.random.default_rng(0)
    arrays = [draw.standard_normal(shape).astype(dtype) for shape in shapes]
    for number, array in enumerate(arrays):
        if number in turned and array.ndim > 1:
            arrays[number] = np.ascontiguousarray(array.swapaxes(-1, -2)).swapaxes(-1, -2)
    want = np.matmul(*[array.astype(np.float64) for array in arrays])
    out = np.empty(want.shape, dtype, order="F" if 2 in turned and want.ndim == 2 else "C")
    got = table_gives(interpreter, program_of("matmul", *arrays, out=out))
    np.testing.assert_allclose(got, want, rtol=1e-5 if dtype is np.float32 else 1e-13, atol=1e-6)


def test_products_of_scipy_stand_in_for_those_of_numpy(
    interpreter: Interpreter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machine, "blas_of_numpy", lambda: None)
    scipys = machine.blas()
    assert (interpreter.sgemm, interpreter.dgemm) != scipys
    for dtype in (np.float32, np.float64):
        x, y = np.arange(12, dtype=dtype).reshape(4, 3), np.arange(15, dtype=dtype).reshape(3, 5)
        monkeypatch.setattr(interpreter, "sgemm", scipys[0])
        monkeypatch.setattr(interpreter, "dgemm", scipys[1])
        got = table_gives(interpreter, program_of("matmul", x, y, out=np.empty((4, 5), dtype)))
        np.testing.assert_array_equal(got, x @ y)


def spread_out(array: Any, by_columns: bool) -> Any:
    """Return an array in the middle of memory that is NaN, by rows or by columns with gaps."""
    rows, columns = array.shape[::-1] if by_columns else array.shape
    memory = np.full((rows + 2, columns + 5), np.nan, array.dtype)
    inside = memory[1:-1, 2:-3].T if by_columns else memory[1:-1, 2:-3]
    inside[...] = array
    return inside


@pytest.mark.parametrize("by_columns", [True, False])
@pytest.mark.parametrize(
    ("rows", "columns", "depth"),
    [(8, 12, 1), (9, 13, 7), (15, 16, 8), (16, 17, 16), (23, 31, 30), (30, 32, 17), (13, 33, 33), (64, 100, 64),
     (129, 48, 100), (131, 64, 1024), (200, 16, 3)],
)  # fmt: skip
def test_small_products(interpreter: Interpreter, rows: int, columns: int, depth: int, by_columns: bool) -> None:
    """Against float64; nothing beside the operands counts, nothing beside the result is written."""
    draw = np.random.default_rng(rows)
    a, b = draw.standard_normal((rows, depth), np.float32), draw.standard_normal((depth, columns), np.float32)
    out = spread_out(np.zeros((rows, columns), np.float32), False)
    program = program_of("matmul", spread_out(a, False), spread_out(b, by_columns), out=out)
    for buffer in program.buffers:  # all stays where it is
        buffer.kind = "memory"
    program.inputs, program.outputs = [], []
    code = TableCode(program, (), interpreter)
    small = by_columns or (rows >= 128 and columns % 16 == 0)
    assert (PRODUCT in instructions_of(code)) == small
    code.build()[0]([])
    bound = (4 + depth**0.5) * np.finfo(np.float32).eps * (np.abs(a).astype(np.float64) @ np.abs(b))
    assert np.all(np.abs(out - a.astype(np.float64) @ b) <= bound)
    beside = out.base.copy()
    beside[1:-1, 2:-3] = np.nan
    assert np.isnan(beside).all()
    assert code.check([], []) is None


def test_a_row_of_a_small_product_has_the_same_bits_in_any_batch(interpreter: Interpreter) -> None:
    draw = np.random.default_rng(0)
    a, b = draw.standard_normal((37, 50), np.float32), draw.standard_normal((50, 45), np.float32)
    b = np.asfortranarray(b)

    def product(a: Any, b: Any) -> Any:
        return table_gives(interpreter, program_of("matmul", a, b, out=np.empty((len(a), b.shape[1]), np.float32)))

    whole = product(a, b)
    for start, stop, first, last in ((0, 8, 0, 45), (5, 20, 0, 12), (9, 37, 30, 45), (20, 36, 7, 40)):
        np.testing.assert_array_equal(product(a[start:stop], b[:, first:last]), whole[start:stop, first:last])


def test_a_product_that_is_not_finite_is_so_where_it_is(interpreter: Interpreter) -> None:
    a, b = np.ones((16, 20), np.float32), np.ones((20, 16), np.float32, order="F")
    a[3, 5], b[7, 9], a[4, 1], b[1, 2] = np.nan, np.inf, -np.inf, 0
    with np.errstate(invalid="ignore"):
        got = table_gives(interpreter, program_of("matmul", a, b, out=np.empty((16, 16), np.float32)))
        np.testing.assert_array_equal(got, a.astype(np.float64) @ b)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("count", [8192, 8193, 300_001])
def test_a_long_product_of_vectors_is_as_good_as_a_short_one(interpreter: Interpreter, count: int, dtype: Any) -> None:
    x = np.random.default_rng(0).uniform(0, 1, count).astype(dtype)
    program = program_of("matmul", x, x, out=np.empty((), dtype))
    code = TableCode(program, [], interpreter)
    assert not code.calls
    got = table_gives(interpreter, program)
    assert got == pytest.approx(np.dot(x.astype(np.float64), x), rel=2e-7 if dtype is np.float32 else 1e-13)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", ["sum", "amax", "amin"])
@pytest.mark.parametrize(
    ("shape", "axis"), [((700, 9), 0), ((9, 700), 1), ((5, 6, 7), 1), ((5, 6, 7), (0, 1)), ((40, 30), None), ((3,), 0)]
)
@pytest.mark.parametrize("keepdims", [False, True])
def test_reductions(interpreter: Interpreter, shape: Any, axis: Any, name: str, dtype: Any, keepdims: bool) -> None:
    x = np.random.default_rng(0).standard_normal(shape).astype(dtype)
    want = getattr(np, name)(x.astype(np.float64), axis=axis, keepdims=keepdims)
    options = {"axis": axis, "keepdims": keepdims}
    got = table_gives(interpreter, program_of(name, x, out=np.empty(want.shape, dtype), options=options))
    np.testing.assert_allclose(
        got, want, rtol=0, atol=1e-4 if dtype is np.float32 and name == "sum" else 1e-12 if name == "sum" else 0
    )


def test_nan_is_the_largest_and_the_smallest(interpreter: Interpreter) -> None:
    x = np.array([[1, np.nan, 2], [3, 4, 5], [np.nan, 1, 1]], np.float32)
    for name in ("amax", "amin"):
        for axis in (0, 1):
            want = getattr(np, name)(x, axis)
            got = table_gives(interpreter, program_of(name, x, out=np.empty(3, np.float32), options={"axis": axis}))
            np.testing.assert_array_equal(got, want)


def test_a_long_sum_is_as_good_as_a_short_one(interpreter: Interpreter) -> None:
    for x, axis in ((np.full(10**6, 0.1, np.float32), 0), (np.full((10**5, 3), 0.1, np.float32), 0)):
        want = np.sum(x.astype(np.float64), axis)
        out = np.empty(want.shape, np.float32)
        got = table_gives(interpreter, program_of("sum", x, out=out, options={"axis": axis}))
        np.testing.assert_allclose(got, want, rtol=1e-6)


# ------------------------------------------------------------------------------------------------------- many steps


RUNS = [(name, None) for name in OPTIMIZERS]
RUNS += [(name, called) for name in ("SGD", "Adam") for called in ("between", "schedule")]


def runs(optimizer: str) -> tuple[Run, Run, Any]:
    """Return a compiled run whose step is a table, its eager twin, and its step."""
    mine, eager = [Run(OPTIMIZERS[optimizer], LAYERS["ReLU"], torch.float32, classify) for _ in range(2)]
    step = torch.compile(mine.step, backend="table")
    for batch in batches(5, np.float32):
        step(*batch)
        eager.step(*batch)
    assert isinstance(code_of(step), TableCode)
    return mine, eager, step


def assert_near(mine: Run, eager: Run) -> None:
    for one, other in zip(mine.model.parameters(), eager.model.parameters(), strict=True):
        np.testing.assert_allclose(one.detach().numpy(), other.detach().numpy(), atol=1e-5)
        np.testing.assert_allclose(one.grad.numpy(), other.grad.numpy(), atol=1e-5)  # type: ignore[union-attr]
        assert one._version == other._version
        for name, value in eager.optimizer.state[other].items():
            np.testing.assert_allclose(mine.optimizer.state[one][name].numpy(), value.numpy(), atol=1e-5, err_msg=name)


@pytest.mark.parametrize(("optimizer", "scheduled"), RUNS)
def test_many_steps_in_one_call_are_the_steps(interpreter: Interpreter, optimizer: str, scheduled: str | None) -> None:
    """Outputs, parameters, gradients, states, counts and versions; and eager steps go on from there."""
    mine, eager, step = runs(optimizer)
    draw = np.random.default_rng(2)
    x, y = draw.standard_normal((50, 5)).astype(np.float32), draw.integers(0, 3, 50)
    order = draw.permutation(197) % 50
    schedules = [OneCycleLR(run.optimizer, 0.01, 11, cycle_momentum=optimizer == "Adam") for run in (mine, eager)]
    called = {scheduled: schedules[0].step} if scheduled else {}
    calls = []
    spied = code_of(step)
    spied.many = lambda *args, real=spied.many: calls.append(1) or real(*args)
    losses = step.run([torch.from_numpy(x), torch.from_numpy(y)], order, batch_size=19, **called)
    want = []
    for start in range(0, 197, 19):
        rows = order[start : start + 19]
        want.append(eager.step(torch.from_numpy(x[rows]), torch.from_numpy(y[rows])).item())
        if scheduled:
            schedules[1].step()
    assert len(calls) == (0 if scheduled == "between" else 1)
    np.testing.assert_allclose(losses.numpy(), want, rtol=1e-5)
    assert_near(mine, eager)
    batch = batches(1, np.float32)[0]
    assert mine.step(*batch).item() == pytest.approx(eager.step(*batch).item(), rel=1e-5)
    assert_near(mine, eager)


def test_results_that_lie_in_another_order_come_from_one_call(interpreter: Interpreter) -> None:
    """The outputs of networks side by side lie with the networks first, as the products gave them."""
    draw = np.random.default_rng(3)
    weights = torch.from_numpy(draw.standard_normal((3, 5, 2)).astype(np.float32))
    x = torch.from_numpy(draw.standard_normal((50, 5)).astype(np.float32))
    total = torch.zeros(2)

    def of_each(rows: torch.Tensor) -> torch.Tensor:
        outputs = rows.matmul(weights).transpose(0, 1) + 1  # (rows, 3, 2)
        total.add_(outputs.sum((0, 1)))
        return outputs

    step = torch.compile(of_each, backend="table")
    for start in range(0, 50, 10):
        step(x[start : start + 10])
    code = code_of(step)
    assert code.program.outputs[0].strides != (6, 2, 1) and code.in_one
    got = step.run([x], batch_size=10)
    assert got.shape == (5, 10, 3, 2) and code._many is not None
    want = np.einsum("nk,mko->nmo", x.numpy().astype(np.float64), weights.numpy().astype(np.float64)) + 1
    np.testing.assert_allclose(got.numpy().reshape(50, 3, 2), want, rtol=1e-5, atol=1e-5)


def test_what_is_called_between_steps_sees_what_each_step_leaves(interpreter: Interpreter) -> None:
    """Weights, gradients and versions; a weight that it changes is changed for the next step."""
    mine, eager, step = runs("Adam")
    draw = np.random.default_rng(2)
    x, y = draw.standard_normal((38, 5)).astype(np.float32), draw.integers(0, 3, 38)
    seen: list[list[Any]] = [[], []]

    def look(run: Run, here: list[Any]) -> None:
        weight = next(run.model.parameters())
        here.append((weight.tolist(), weight.grad.tolist(), weight._version))  # type: ignore[union-attr]
        with torch.no_grad():
            weight.mul_(0.5)

    step.run([torch.from_numpy(x), torch.from_numpy(y)], batch_size=19, between=lambda: look(mine, seen[0]))
    for start in (0, 19):
        eager.step(torch.from_numpy(x[start : start + 19]), torch.from_numpy(y[start : start + 19]))
        look(eager, seen[1])
    for (weight, grad, number), (weight_, grad_, number_) in zip(*seen, strict=True):
        np.testing.assert_allclose(weight, weight_, atol=1e-5)
        np.testing.assert_allclose(grad, grad_, atol=1e-5)
        assert number == number_


@pytest.mark.parametrize("optimizer", ["Adam", "SGD"])
def test_many_steps_stop_before_the_one_with_an_index_out_of_range(interpreter: Interpreter, optimizer: str) -> None:
    mine, eager, step = runs(optimizer)
    draw = np.random.default_rng(2)
    x, y = draw.standard_normal((76, 5)).astype(np.float32), draw.integers(0, 3, 76)
    y[45] = 7
    with pytest.raises(IndexError, match=r"out of bounds|7"):
        step.run([torch.from_numpy(x), torch.from_numpy(y)], batch_size=19)
    for start in (0, 19):
        eager.step(torch.from_numpy(x[start : start + 19]), torch.from_numpy(y[start : start + 19]))
    for one, other in zip(mine.model.parameters(), eager.model.parameters(), strict=True):
        np.testing.assert_allclose(one.detach().numpy(), other.detach().numpy(), atol=1e-5)
        for name, value in eager.optimizer.state[other].items():
            np.testing.assert_allclose(mine.optimizer.state[one][name].numpy(), value.numpy(), atol=1e-5, err_msg=name)


@pytest.mark.parametrize("backend", ["numpy", "table"])
def test_class_numbers_that_are_repeated_for_members_are_asked_for_once(interpreter: Interpreter, backend: Any) -> None:
    def made() -> tuple[Any, Any]:
        torch.manual_seed(0)
        model = nn.Sequential(nn.Members(3), nn.BatchEnsembleLinear(3, 5, 3, signs=True))
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        loss_of = nn.LossOfMembers(nn.CrossEntropyLoss(reduction="sum"))

        def step(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
            optimizer.zero_grad()
            loss = loss_of(model(x), y)
            loss.backward()
            optimizer.step()
            return loss

        return model, step

    (mine, mine_step), (eager, step) = made(), made()
    compiled_step = torch.compile(mine_step, backend=backend)
    for x, y in batches(6, np.float32):
        np.testing.assert_allclose(compiled_step(x, y).item(), step(x, y).item(), rtol=1e-6)
    for one, other in zip(mine.parameters(), eager.parameters(), strict=True):
        np.testing.assert_allclose(one.detach().numpy(), other.detach().numpy(), atol=1e-6)
    (asked,) = [statement for statement in code_of(compiled_step).program.statements if not statement.out]
    assert asked.args[0].buffer.kind == "input"
    assert asked.args[0].shape == (19,)
    assert backend == "numpy" or code_of(compiled_step).in_one
    x, y = batches(1, np.float32)[0]
    before = [parameter.detach().numpy().copy() for parameter in mine.parameters()]
    for wrong in (3, -1):
        y[7] = wrong
        with pytest.raises(IndexError) as expected:
            step(x, y)
        with pytest.raises(IndexError) as raised:
            compiled_step(x, y)
        assert str(raised.value) == str(expected.value)
    assert all(
        np.array_equal(one, other.detach().numpy()) for one, other in zip(before, mine.parameters(), strict=True)
    )


def test_tables_and_an_order_that_do_not_fit_are_refused(interpreter: Interpreter) -> None:
    _, _, step = runs("SGD")
    code = code_of(step)
    x, y = np.zeros((30, 5), np.float32), np.zeros(30, np.int64)
    with pytest.raises(ValueError, match=r"rows that are not in \[0, 30\)"):
        code.many((x, y), np.arange(19) + 20, 19)
    with pytest.raises(ValueError, match="no batch of"):
        code.many((x.astype(np.float64), y), np.arange(19), 19)


def test_a_step_whose_question_fails_writes_nothing(interpreter: Interpreter) -> None:
    mine, _, step = runs("SGD")
    code = code_of(step)
    before = [buffer.array.copy() for buffer in code.program.buffers if buffer.kind == "memory"]
    scalars = [dict(each) for _, each in mine.optimizer.host_scalars()]
    with pytest.raises(CheckFailedError):
        code.build()[0](np.zeros((19, 5), np.float32), np.full(19, 3), scalars)
    after = [buffer.array for buffer in code.program.buffers if buffer.kind == "memory"]
    assert all(np.array_equal(one, other) for one, other in zip(before, after, strict=True))


# ------------------------------------------------------------------------------------------------------------ cache


def test_a_cache_that_is_broken_is_compiled_anew(
    interpreter: Interpreter, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    good = machine.cache_file().read_bytes()
    times = []
    monkeypatch.setattr(machine, "compile_apart", lambda: times.append(1) or good)
    monkeypatch.setenv("NANOTORCH_CACHE_DIR", str(tmp_path))
    path = machine.cache_file()
    for content in (b"", good[:1000], good[:-1] + bytes([good[-1] ^ 1]), b"x" * 5000):
        path.write_bytes(content)
        mine = machine.Machine()
        assert mine.wait() is not None
        assert path.read_bytes() == good
    assert len(times) == 4
    assert machine.Machine().wait() is not None
    assert len(times) == 4


def test_another_processor_or_version_has_another_file(monkeypatch: pytest.MonkeyPatch) -> None:
    import llvmlite.binding as llvm

    names = {machine.cache_file()}
    monkeypatch.setattr("importlib.metadata.version", lambda name: f"0.0 of {name}")
    names.add(machine.cache_file())
    monkeypatch.setattr(llvm, "get_host_cpu_name", lambda: "another")
    names.add(machine.cache_file())
    assert len(names) == 3


def test_a_cache_that_cannot_be_written_is_no_error(
    interpreter: Interpreter, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    good = machine.cache_file().read_bytes()
    monkeypatch.setattr(machine, "compile_apart", lambda: good)
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("NANOTORCH_CACHE_DIR", str(tmp_path / "file" / "below"))
    assert machine.Machine().wait() is not None


def test_without_numba_steps_run_as_numpy_code(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "installed", lambda: False)
    mine = machine.Machine()
    assert mine.wait() is mine.soon() is None
    assert "pip install numba" in mine.reason
    monkeypatch.setattr(compiled, "installed", lambda: False)
    monkeypatch.setattr(captured, "MACHINE", mine)
    monkeypatch.setattr(compiled, "MACHINE", mine)
    run = Run(OPTIMIZERS["Adam"], LAYERS["ReLU"], torch.float32, classify)
    step = torch.compile(run.step)
    for batch in batches(4, np.float32):
        step(*batch)
    assert isinstance(code_of(step), NumpyCode)
    with pytest.raises(RuntimeError, match="pip install numba"):
        torch.compile(run.step, backend="table")
    with pytest.raises(ValueError, match="'auto', 'numpy' or 'table'"):
        torch.compile(run.step, backend="fast")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="fallback is None or 'eager', got 'numpy'"):
        torch.compile(run.step, fallback="numpy")  # type: ignore[call-overload]
    with pytest.raises(TypeError, match="a function or a Module, got int"):
        torch.compile(3)  # type: ignore[call-overload]


def test_nobody_waits_for_the_interpreter(tmp_path: Path) -> None:
    """With an empty cache, steps run as NumPy code at once, and as a table when the interpreter is there."""
    code = """
import threading
from nanotorch.capture.table import machine
gate, real = threading.Event(), machine.compile_apart
machine.compile_apart = lambda: (gate.wait(), content)[1]
content = open({path!r}, "rb").read()
import numpy as np, nanotorch as torch
weight = torch.ones(4, requires_grad=True)
optimizer = torch.optim.SGD([weight], lr=0.1)
def step(x):
    optimizer.zero_grad()
    loss = ((x @ weight) ** 2).mean()
    loss.backward()
    optimizer.step()
    return loss
step = torch.compile(step, backend="table")
x = torch.ones(3, 4)
kinds = []
for number in range(9):
    if number == 6:
        gate.set()
        machine.MACHINE.wait()
    step(x)
    kinds += [type(c.table or c.code).__name__ for p in step._programs.values() for c in p if c.confirmed]
print(*kinds)
"""
    environment = {**os.environ, "NANOTORCH_CACHE_DIR": str(tmp_path)}
    path = str(machine.cache_file())
    assert MACHINE.wait() is not None
    out = subprocess.run(
        [sys.executable, "-c", code.format(path=path)], env=environment, capture_output=True, text=True, check=True
    ).stdout
    kinds = out.split()
    assert kinds[0] == "NumpyCode"
    assert kinds[-1] == "TableCode"


@pytest.mark.skipif(os.name == "nt", reason="takes a pipe along")
def test_files_of_other_versions_do_not_pile_up(tmp_path: Path) -> None:
    for number in range(machine.KEPT + 3):
        path = tmp_path / f"table-{number}.o"
        machine.keep(path, b"some")
        os.utime(path, (number, number))
    (tmp_path / "other.txt").write_text("not ours")
    machine.keep(tmp_path / "table-new.o", b"new")
    left = {path.name for path in tmp_path.iterdir()}
    assert left == {"other.txt", "table-new.o", *[f"table-{k}.o" for k in range(4, machine.KEPT + 3)]}


def test_the_compiler_sees_nothing_of_the_directory_where_it_begins(
    interpreter: Interpreter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("numba", "threading"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('the wrong file')\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", ["", *sys.path])
    given: list[Any] = []
    monkeypatch.setattr(subprocess, "run", lambda command, **how: given.append(command) or subprocess.CompletedProcess)
    monkeypatch.setattr(subprocess.CompletedProcess, "returncode", 0, raising=False)
    monkeypatch.setattr(subprocess.CompletedProcess, "stdout", b"", raising=False)
    machine.compile_apart()
    monkeypatch.undo()
    ((*command, code),) = given
    asked = code.partition("import os, threading; ")[0] + "import numba, threading; print(numba.__file__)"
    done = subprocess.run([*command, asked], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert str(tmp_path) not in done.stdout


def test_the_command_waits_until_the_interpreter_is_there(
    interpreter: Interpreter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["compile"]) == 0
    assert capsys.readouterr().out.startswith("ready after ")
    monkeypatch.setenv("NANOTORCH_CACHE_DIR", str(tmp_path / "new"))
    monkeypatch.setattr(machine, "MACHINE", machine.Machine())
    monkeypatch.setattr(machine, "compile_apart", lambda: b"nothing")
    assert main(["compile"]) == 1
    told = capsys.readouterr()
    assert told.out.startswith("compiling the interpreter")
    assert "not complete" in told.err


def test_the_compiler_ends_with_the_program_that_began_it(tmp_path: Path) -> None:
    (tmp_path / "numba.py").write_text("import time\ntime.sleep(300)\n")
    end, held = os.pipe()
    code = f"""
import subprocess, sys, threading
sys.path.insert(0, {str(tmp_path)!r})
begun = threading.Event()
class Popen(subprocess.Popen):
    def __init__(self, *args, **kwargs):
        super().__init__(*args, pass_fds=[{held}], **kwargs)
        begun.set()
subprocess.Popen = Popen
from nanotorch.capture.table.machine import MACHINE
MACHINE.start()
assert begun.wait(60)
"""
    environment = {**os.environ, "NANOTORCH_CACHE_DIR": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True, pass_fds=[held]
    )
    os.close(held)
    try:
        assert done.stdout == done.stderr == ""
        assert select.select([end], [], [], 60)[0], "the compiler runs on"
    finally:
        os.close(end)
