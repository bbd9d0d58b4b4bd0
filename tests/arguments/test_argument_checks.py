"""Numbers that do not fit, arguments out of range, orders of norms and nested indices: as PyTorch has them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import nanotorch
from oracle import pytorch

pytestmark = pytest.mark.parity

INF, NAN = float("inf"), float("nan")
NUMBERS = (300, -1, -300, 1e6, -1e6, NAN, INF, 1e40, 2**40, 2.5, 70000)
FILLS: dict[str, Callable[..., Any]] = {
    "full": lambda lib, v, d: lib.full((2,), v, dtype=d),
    "new_full": lambda lib, v, d: lib.zeros(2, dtype=d).new_full((2,), v),
    "full_like": lambda lib, v, d: lib.full_like(lib.zeros(2, dtype=d), v),
    "fill_": lambda lib, v, d: lib.zeros(2, dtype=d).fill_(v),
    "masked_fill": lambda lib, v, d: lib.zeros(2, dtype=d).masked_fill(lib.tensor([True, False]), v),
}


def filled(lib: Any, how: str, dtype: str) -> list[Any]:
    return [attempt(lambda v=v: FILLS[how](lib, v, getattr(lib, dtype)).tolist()) for v in NUMBERS]


def attempt(action: Callable[[], Any]) -> Any:
    try:
        return action()
    except (ArithmeticError, RuntimeError, ValueError, TypeError, IndexError):
        return "refuses"


def ramp(lib: Any, *shape: int) -> Any:
    return lib.arange(float(np.prod(shape))).reshape(shape)


def clipped(lib: Any, order: Any) -> list[Any]:
    parameters = [lib.nn.Parameter(lib.zeros(3)), lib.nn.Parameter(lib.zeros(1))]
    parameters[0].grad, parameters[1].grad = lib.tensor([3.0, -4.0, 0.0]), lib.tensor([2.0])
    total = lib.nn.utils.clip_grad_norm_(parameters, 1.0, norm_type=order)
    return [total.tolist(), *[p.grad.tolist() for p in parameters]]


def written(lib: Any, index: Any) -> list[Any]:
    x = ramp(lib, 3, 3)
    x[index] = 7.0
    return [ramp(lib, 3, 3)[index].tolist(), x.tolist()]


def drawn(tensor: Any) -> tuple[int, ...]:
    return tuple(tensor.shape)


PROGRAMS: dict[str, Callable[[Any], Any]] = {
    "2**63": lambda lib: lib.tensor([2**63]).tolist(),
    "300 uint8": lambda lib: lib.tensor([300], dtype=lib.uint8).tolist(),
    "-1 uint8": lambda lib: lib.tensor([-1], dtype=lib.uint8).tolist(),
    "200 int8": lambda lib: lib.tensor([[1, 200]], dtype=lib.int8).tolist(),
    "nan int64": lambda lib: lib.tensor([1.0, NAN], dtype=lib.int64).tolist(),
    "inf int32": lambda lib: lib.tensor(INF, dtype=lib.int32).tolist(),
    "2**40 int32": lambda lib: lib.tensor([2**40], dtype=lib.int32).tolist(),
    "2.7 int64": lambda lib: lib.tensor([2.7], dtype=lib.int64).tolist(),
    "1e6 half": lambda lib: lib.tensor([1e6], dtype=lib.float16).tolist(),
    "tril of a vector": lambda lib: ramp(lib, 3).tril().tolist(),
    "triu of a vector": lambda lib: ramp(lib, 3).triu().tolist(),
    "normal std": lambda lib: drawn(lib.normal(0.0, -1.0, (2,))),
    "normal std tensor": lambda lib: drawn(lib.normal(lib.zeros(2), lib.tensor([-1.0, 1.0]))),
    "normal_": lambda lib: drawn(lib.zeros(2).normal_(0, -1)),
    "uniform_": lambda lib: drawn(lib.zeros(2).uniform_(1, 0)),
    "bernoulli_ 2": lambda lib: drawn(lib.zeros(2).bernoulli_(2)),
    "bernoulli_ -0.5": lambda lib: drawn(lib.zeros(2).bernoulli_(-0.5)),
    "bernoulli nan": lambda lib: drawn(lib.bernoulli(lib.tensor([NAN]))),
    "multinomial 0": lambda lib: drawn(lib.multinomial(lib.ones(3), 0)),
    "multinomial -1": lambda lib: drawn(lib.multinomial(lib.ones(3), -1)),
    "multinomial 2": lambda lib: drawn(lib.multinomial(lib.ones(3), 2)),
    "randint uint8": lambda lib: drawn(lib.randint(0, 300, (2,), dtype=lib.uint8)),
    "randint below uint8": lambda lib: drawn(lib.randint(-5, 5, (2,), dtype=lib.uint8)),
    "randint fits": lambda lib: drawn(lib.randint(0, 256, (2,), dtype=lib.uint8)),
    "randperm uint8": lambda lib: drawn(lib.randperm(300, dtype=lib.uint8)),
    "randperm -1": lambda lib: drawn(lib.randperm(-1)),
    "output_size": lambda lib: ramp(lib, 3).repeat_interleave(lib.tensor([1, 2, 1]), output_size=3).tolist(),
    "output_size fits": lambda lib: ramp(lib, 3).repeat_interleave(lib.tensor([1, 2, 1]), output_size=4).tolist(),
    "arange nan": lambda lib: lib.arange(0, NAN).tolist(),
}
for _how in FILLS:
    for _dtype in ("float16", "float32", "uint8", "int8", "int32", "int64", "bool"):
        PROGRAMS[f"{_how} {_dtype}"] = lambda lib, a=(_how, _dtype): filled(lib, *a)
for _range in ((0, 1, 0.3), (0, 3, 0.5), (5, 0, -1.5), (0, 10, 2.5), (0, 10, 3)):
    for _dtype in ("int64", "int32", "uint8", "float32", "float64"):
        PROGRAMS[f"arange {_range} {_dtype}"] = lambda lib, r=_range, d=_dtype: (
            lib.arange(*r, dtype=getattr(lib, d)).double().mul(1e6).round().tolist()
        )
for _order in (INF, -INF, 1, 2, 0.5, -1, 0, "inf"):
    PROGRAMS[f"clip_grad_norm_ {_order}"] = lambda lib, p=_order: clipped(lib, p)
    PROGRAMS[f"lp_pool1d {_order}"] = lambda lib, p=_order: lib.nn.functional.lp_pool1d(
        lib.tensor([[[1.0, -2.0, 3.0, 0.5]]]).abs(), p, 2
    ).tolist()
    PROGRAMS[f"lp_pool2d {_order}"] = lambda lib, p=_order: lib.nn.functional.lp_pool2d(
        ramp(lib, 1, 1, 2, 4) + 1, p, 2
    ).tolist()
for _index in (
    [[0, 1], [1, 2]],
    [[[0, 1], [1, 2]]],
    [[0, 1], 1],
    [slice(0, 2)],
    [None],
    [[True, False, True]],
    [0, 2],
    [True, False, True],
    ([0, 1], [1, 2]),
    [[[0]], [1]],
    [[0, 1], [0, 5]],
    [],
):
    PROGRAMS[f"index {_index}"] = lambda lib, i=_index: written(lib, i)
for _name, _call in {  # a number, a whole number, a flag: arrays would broadcast, texts would be true
    "leaky_relu": lambda F, x, v: F.leaky_relu(x, v),
    "elu": lambda F, x, v: F.elu(x, v),
    "softplus": lambda F, x, v: F.softplus(x, v),
    "layer_norm": lambda F, x, v: F.layer_norm(x, (3,), eps=v),
    "threshold": lambda F, x, v: F.threshold(x, v, 0.0),
    "add": lambda F, x, v: x.add(x, alpha=v),
    "addcmul": lambda F, x, v: x.addcmul(x, x, value=v),
    "nan_to_num": lambda F, x, v: x.nan_to_num(v),
    "fill_": lambda F, x, v: x.clone().fill_(v),
    "masked_fill": lambda F, x, v: x.masked_fill(x > 0, v),
    "uniform_": lambda F, x, v: x.clone().uniform_(v, v) * 0,
    "normal_": lambda F, x, v: x.clone().normal_(v, 0.0),
    "pad": lambda F, x, v: F.pad(x, (1, 1), value=v),
    "margin": lambda F, x, v: F.margin_ranking_loss(x, x, x.sign(), margin=v),
    "hinge": lambda F, x, v: F.hinge_embedding_loss(x, x.sign(), margin=v),
    "scale": lambda F, x, v: F.scaled_dot_product_attention(x, x, x, scale=v),
}.items():
    for _value in ([0.1, 0.2, 0.3], (0.5,), [0.5], "0.5", np.full(3, 0.5), 0.5):
        PROGRAMS[f"{_name} by {_value}"] = lambda lib, f=_call, v=_value: f(
            lib.nn.functional, ramp(lib, 2, 3) - 2.0, v
        ).tolist()
for _value in (1.5, 1.0, "1", [1], None, np.int64(1), 1):
    PROGRAMS[f"tril {_value}"] = lambda lib, v=_value: ramp(lib, 3, 3).tril(v).tolist()
    PROGRAMS[f"round {_value}"] = lambda lib, v=_value: (ramp(lib, 3) / 7).round(decimals=v).tolist()
    PROGRAMS[f"bincount {_value}"] = lambda lib, v=_value: lib.tensor([0]).bincount(minlength=v).tolist()
    PROGRAMS[f"one_hot {_value}"] = lambda lib, v=_value: lib.nn.functional.one_hot(lib.tensor([0]), v).tolist()
    PROGRAMS[f"rot90 {_value}"] = lambda lib, v=_value: ramp(lib, 2, 3).rot90(v).tolist()
for _value in (1, 0, "no", [True], True, False):
    PROGRAMS[f"keepdim {_value}"] = lambda lib, v=_value: ramp(lib, 2, 3).sum(0, keepdim=v).tolist()
    PROGRAMS[f"descending {_value}"] = lambda lib, v=_value: ramp(lib, 2, 3).sort(0, descending=v)[0].tolist()
for _dim in (2, -3, 1, None):
    PROGRAMS[f"weight_norm {_dim}"] = lambda lib, d=_dim: list(
        lib.nn.utils.parametrizations.weight_norm(lib.nn.Linear(3, 2), dim=d).parametrizations.weight.original0.shape
    )
for _n in (2049, 2050):
    PROGRAMS[f"randperm {_n} half"] = lambda lib, n=_n: lib.randperm(n, dtype=lib.float16).double().sort()[0].tolist()
PROGRAMS["uniform_ to infinity"] = lambda lib: lib.zeros(2).uniform_(0, INF).tolist()
PROGRAMS["linspace from a vector"] = lambda lib: lib.linspace(lib.tensor([0.0]), 1, 3).tolist()
for _value in ([0.1], (0.1,), None, "0.1", 0.1):
    for _kind, _option in (
        ("SGD", "lr"),
        ("SGD", "momentum"),
        ("Adam", "weight_decay"),
        ("Adagrad", "eps"),
        ("RMSprop", "momentum"),
        ("RAdam", "eps"),
    ):
        PROGRAMS[f"{_kind} {_option}={_value}"] = lambda lib, k=_kind, o=_option, v=_value: getattr(lib.optim, k)(
            [lib.nn.Parameter(lib.zeros(1))], **{o: v}
        ).param_groups[0][o]


@pytest.mark.filterwarnings("ignore:Using a non-tuple sequence")
@pytest.mark.parametrize("name", PROGRAMS)
def test_arguments_are_taken_as_in_pytorch(name: str) -> None:
    ours, theirs = (attempt(lambda lib=lib: PROGRAMS[name](lib)) for lib in (nanotorch, pytorch))
    if "refuses" in (ours, theirs):
        assert ours == theirs
    else:
        assert len(a := flatten(ours)) == len(b := flatten(theirs))
        assert all(x == y or x == pytest.approx(y, rel=1e-5, nan_ok=True) for x, y in zip(a, b, strict=True))


def flatten(value: Any) -> list[Any]:
    if not isinstance(value, list | tuple):
        return [str(value) if isinstance(value, str) else float(value)]
    return [v for part in value for v in flatten(part)]


@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_rand_is_below_one(dtype: str) -> None:
    numbers = nanotorch.rand(200_000, dtype=getattr(nanotorch, dtype)).numpy()
    assert numbers.max() < 1 and numbers.min() >= 0


def test_whole_numbers_do_not_wrap_around() -> None:
    F, x = nanotorch.nn.functional, nanotorch.tensor([[100, 0, 101], [200, 7, 255]], dtype=nanotorch.uint8)
    y = x.float()
    assert F.rms_norm(x, (3,), eps=0.1).tolist() == pytest.approx(F.rms_norm(y, (3,), eps=0.1).numpy(), rel=1e-5)
    for call in (
        lambda t: F.cross_entropy(t, nanotorch.tensor([0, 1])),
        lambda t: F.lp_pool1d(t[None], 2, 2),
        nanotorch.trapezoid,
        nanotorch.cumulative_trapezoid,
        lambda t: nanotorch.gradient(t, dim=1)[0],
    ):
        assert call(x).tolist() == call(y).tolist()
    with pytest.raises(NotImplementedError, match="could not hold the counts"):
        nanotorch.histc(x)
