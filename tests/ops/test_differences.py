"""docs/differences.md is honest: each program here gives something else in PyTorch.
One that no longer does can go, with its line.
"""

from __future__ import annotations

import asyncio
import copy
import warnings
from collections.abc import Callable
from inspect import signature
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import nanotorch
from oracle import pytorch

INF = float("inf")
PAGE = (Path(__file__).resolve().parents[2] / "docs" / "differences.md").read_text()


def leaf(lib: Any, *values: float) -> Any:
    return lib.tensor(values, dtype=lib.float64, requires_grad=True)


def once(lib: Any) -> Any:
    class Square(lib.autograd.Function):  # type: ignore[name-defined, misc]
        @staticmethod
        def forward(ctx: Any, x: Any) -> Any:
            ctx.save_for_backward(x)
            return x * x

        @staticmethod
        @lib.autograd.function.once_differentiable
        def backward(ctx: Any, grad: Any) -> Any:
            return grad * 2 * ctx.saved_tensors[0]

    return lib.autograd.functional.jvp(Square.apply, lib.ones(2), lib.ones(2))[1].tolist()


def checkpointed(lib: Any, **options: Any) -> Any:
    import importlib

    run = importlib.import_module(f"{lib.__name__}.utils.checkpoint").checkpoint
    w, x = leaf(lib, 1.0), leaf(lib, 1.0)
    y = run(lambda t: (t * w).exp(), x, **options)
    if not options.get("use_reentrant"):
        with lib.no_grad():
            w.mul_(2)
    y.sum().backward()
    return x.grad.tolist()


def second(lib: Any, function: Callable[..., Any], *arguments: Any) -> Any:
    first = lib.autograd.grad(function(*arguments).sum(), arguments[0], create_graph=True)[0]
    return lib.autograd.grad(first.sum(), arguments[0])[0].tolist()


def weight_norm(lib: Any) -> Any:
    layer = lib.nn.utils.parametrizations.weight_norm(lib.nn.Linear(2, 1, bias=False, dtype=lib.float64))
    direction = layer.parametrizations.weight.original1
    with lib.no_grad():
        direction.copy_(lib.tensor([[3.0, 4.0]], dtype=lib.float64))
    (first,) = lib.autograd.grad((layer(leaf(lib, 1.0, 2.0)) ** 2).sum(), direction, create_graph=True)
    return [[round(v, 9) for v in row] for row in lib.autograd.grad((first * first).sum(), direction)[0].tolist()]


def copied_views(lib: Any) -> Any:
    a, b = copy.deepcopy([x := lib.arange(3.0).double(), x[1:]])
    loss = (a * leaf(lib, 1.0, 1.0, 1.0)).sum()
    b.add_(1)
    return loss.backward()


def stepped(lib: Any, name: str) -> Any:
    parameter = lib.nn.Parameter(lib.ones(2))
    optimizer = getattr(lib.optim, name)([parameter])

    def closure() -> Any:
        optimizer.zero_grad()
        loss = ((parameter - 3) ** 4).sum()
        loss.backward()
        return loss

    optimizer.step(closure)
    return optimizer.state[parameter]


def written(lib: Any, write: Callable[[Any], Any]) -> Any:
    x = lib.arange(6.0).reshape(2, 3).clone()
    write(x)
    return x.tolist()


def slope_of_logit(lib: Any) -> Any:
    grad, x = leaf(lib, 1.0), leaf(lib, 2.0)
    return lib.autograd.grad(lib.autograd.grad(lib.logit(x), x, grad, create_graph=True)[0], grad)[0].tolist()


def anomaly(lib: Any) -> Any:
    with lib.autograd.detect_anomaly():
        return leaf(lib, 0.0).log().tolist()


def node_names(lib: Any) -> Any:
    x = leaf(lib, 1.0)
    return x.clamp(min=0).grad_fn.name(), (2**x).grad_fn.name(), (x * 2).grad_fn.next_functions[0][0].name()


def determinant(lib: Any) -> Any:
    matrix = lib.tensor([[1.0, 2.0], [2.0, 4.0]], dtype=lib.float64, requires_grad=True)
    return lib.autograd.grad(lib.linalg.det(matrix), matrix)[0].tolist()


def gradient(lib: Any, function: Callable[..., Any], *arguments: Any) -> Any:
    return lib.autograd.grad(function(*arguments).sum(), arguments[0])[0].tolist()


def empty_scan(lib: Any) -> Any:
    x = lib.zeros(0, requires_grad=True)
    return lib.autograd.grad(x.cummax(0)[0].sum(), x)[0].requires_grad


def without_freedom(lib: Any) -> Any:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        lib.ones(1).var()
    return [warning.category.__name__ for warning in caught if warning.category is UserWarning]


def dead_leaf(lib: Any) -> Any:
    y = leaf(lib, 1.0) * 2
    return y.grad_fn.next_functions[0][0].variable is None


def seeded(lib: Any) -> Any:
    lib.manual_seed(0)
    return lib.rand(2).tolist()


def shape_error(lib: Any) -> Any:
    try:
        lib.ones(2, 3) @ lib.ones(2, 3)
    except ValueError:
        return "ValueError"
    except RuntimeError:
        return "RuntimeError"


def sequence(lib: Any) -> Any:
    schedules, optimizer = (
        lib.optim.lr_scheduler,
        lib.optim.SGD([{"params": [leaf(lib, 1.0)], "initial_lr": 1.0}], lr=1.0),
    )
    parts = [schedules.ExponentialLR(optimizer, 0.5), schedules.ExponentialLR(optimizer, 0.1)]
    return schedules.SequentialLR(optimizer, parts, [9], last_epoch=2).get_last_lr()


def duplicate(lib: Any) -> Any:
    x = leaf(lib, 1.0)
    lib.optim.SGD([x, x], lr=0.1)


def modes(lib: Any) -> Any:
    with lib.inference_mode(), lib.enable_grad():
        return lib.is_grad_enabled()


def coroutine(lib: Any) -> Any:
    @lib.no_grad()
    async def inside() -> Any:
        return lib.is_grad_enabled()

    return asyncio.run(inside())


def hooked(lib: Any) -> Any:
    x = leaf(lib, 1.0)
    y = x * 2
    y.register_hook(lambda grad: grad * 5)
    return [g.tolist() for g in lib.autograd.grad(y.sum(), (y, x))]


def custom(lib: Any, forward: Callable[..., Any], backward: Callable[..., Any]) -> Any:
    scope = {"forward": staticmethod(forward), "backward": staticmethod(backward)}
    return type("Custom", (lib.autograd.Function,), scope).apply


def below_none(lib: Any) -> Any:
    visited: list[Any] = []
    lower = custom(lib, lambda ctx, x: x * 1, lambda ctx, grad: visited.append(grad.tolist()))
    upper = custom(lib, lambda ctx, x: x * 1, lambda ctx, grad: None)
    upper(lower(leaf(lib, 1.0))).sum().backward()
    return visited


def returned_twice(lib: Any) -> Any:
    def forward(ctx: Any, x: Any) -> Any:
        y = x * 2
        return y, y

    a, b = custom(lib, forward, lambda ctx, g, h: g + h)(leaf(lib, 1.0))
    return a.output_nr, b.output_nr


def returned_leaf(lib: Any) -> Any:
    w = leaf(lib, 1.0)
    custom(lib, lambda ctx, x: w, lambda ctx, grad: grad)(leaf(lib, 1.0))
    return w.is_leaf


def view_of_inner(lib: Any) -> Any:
    y = custom(lib, lambda ctx, x: (x * 2).view(-1), lambda ctx, grad: grad * 2)(leaf(lib, 1.0))
    return y.mul_(2).tolist()


def raised(lib: Any) -> Any:
    x = leaf(lib, 1.0, 2.0)
    written = leaf(lib, 1.0, 2.0).exp()
    loss = (written.sin() + x).sum()
    written.mul_(2)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()
    return x.grad is None


def hooked_late(lib: Any) -> Any:
    x, seen = leaf(lib, 1.0), []

    class Late(lib.autograd.Function):  # type: ignore[misc, name-defined]
        @staticmethod
        def forward(ctx: Any, y: Any) -> Any:
            return y.clone()

        @staticmethod
        def backward(ctx: Any, grad: Any) -> Any:
            x.register_hook(lambda _: seen.append("hook"))
            return grad

    (Late.apply(leaf(lib, 1.0)) * x).sum().backward()
    return seen


def multi_grad(lib: Any) -> Any:
    x, seen = leaf(lib, 1.0), []
    lib.autograd.graph.register_multi_grad_hook((x,), lambda grads: seen.append(grads[0].tolist()))
    lib.autograd.grad((x * 2).sum(), x)
    return seen


def warned(lib: Any) -> Any:
    if lib is not nanotorch:  # PyTorch warns once a process, so nobody can count on seeing it
        return "warns"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        leaf(lib, 1.0).sum().backward(create_graph=True)


def stops(lib: Any) -> Any:
    class Ends(lib.utils.data.Dataset):  # type: ignore[name-defined, misc]
        def __len__(self) -> int:
            return 3

        def __getitem__(self, index: int) -> Any:
            raise StopIteration

    return list(lib.utils.data.DataLoader(Ends()))


def overridden(lib: Any) -> Any:
    class Negative(lib.utils.data.Subset):  # type: ignore[name-defined, misc]
        def __getitem__(self, index: Any) -> Any:
            return -super().__getitem__(index)

    return [batch.tolist() for batch in lib.utils.data.DataLoader(Negative(range(9), [5, 3]), 2)]


def two_iterators(lib: Any) -> Any:
    loader = lib.utils.data.DataLoader(range(9), num_workers=1, persistent_workers=True)
    first, _second = iter(loader), iter(loader)
    return next(first).tolist()


DIFFERENCES: dict[str, Callable[[Any], Any]] = {
    '`jacobian(strategy="forward-mode")`': lambda lib: lib.autograd.functional.jacobian(
        lib.exp, leaf(lib, 0.0), strategy="forward-mode"
    ).tolist(),
    "`func.vmap`": lambda lib: hasattr(lib.func, "vmap"),
    "`once_differentiable`": once,
    "`use_reentrant` is False": lambda lib: checkpointed(lib, use_reentrant=True),
    "parameters overwritten between": lambda lib: checkpointed(lib, use_reentrant=False),
    "`detect_anomaly`": anomaly,
    "`gradcheck` at a kink": lambda lib: lib.autograd.gradcheck(
        lib.relu, (leaf(lib, 0.0, 1.0),), raise_exception=False
    ),
    "`gradcheck` of float32": lambda lib: lib.autograd.gradcheck(
        lib.exp, (lib.ones(2, requires_grad=True),), raise_exception=False
    ),
    "calling a node": lambda lib: type(leaf(lib, 1.0).exp().grad_fn(lib.ones(1))).__name__,
    "`grad_fn._saved_result`": lambda lib: leaf(lib, 1.0).exp().grad_fn._saved_result.requires_grad,
    "a leaf that nobody refers to": dead_leaf,
    "names of nodes": node_names,
    "`enable_grad` inside": modes,
    "a coroutine decorated": coroutine,
    "what `grad` gives for a tensor with hooks": hooked,
    "returned as None": below_none,
    "one tensor returned twice": returned_twice,
    "returns and did not make": returned_leaf,
    "writing to a custom Function's output": view_of_inner,
    "multi-grad hooks under": multi_grad,
    "a hook that a custom Function's backward puts on a leaf": hooked_late,
    "a backward pass that raises in its middle": raised,
    "`backward(create_graph=True)`": warned,
    "gradient of `as_strided_scatter`": lambda lib: gradient(
        lib, lambda x: lib.as_strided_scatter(x, lib.zeros(1).double(), (1,), (1,)), leaf(lib, 1.0, 2.0)
    ),
    "gradient of `interpolate`": lambda lib: gradient(
        lib,
        lambda x: lib.nn.functional.interpolate(x.reshape(1, 1, 2), scale_factor=1.2)[0, 0, 1:],
        leaf(lib, 1.0, 2.0),
    ),
    "gradient of `vander`, of `linalg.cond`": lambda lib: gradient(lib, lib.vander, leaf(lib, 1.0, 2.0)),
    "gradient of `linalg.det`": determinant,
    "second derivatives of `norm`": lambda lib: second(lib, lambda x: x.norm(), leaf(lib, 0.0, 0.0)),
    "gradient of `prod`": lambda lib: gradient(lib, lambda x: x.prod(), leaf(lib, INF, 2.0, INF)),
    "gradient of `var(dim=())`": lambda lib: gradient(lib, lambda x: x.var(dim=()), leaf(lib, 1.0, 2.0)),
    "gradient of `cholesky_solve`": lambda lib: gradient(
        lib, lambda x: lib.cholesky_inverse(x.reshape(2, 2)), leaf(lib, 2.0, 0.0, 1.0, 2.0)
    ),
    "gradient of `dist(p=0)`": lambda lib: gradient(lib, lambda x: lib.dist(x, lib.zeros(1), 0), leaf(lib, 1.0)),
    "`cdist`, `pdist` of infinities": lambda lib: lib.cdist(
        leaf(lib, float("nan")).reshape(1, 1), leaf(lib, 1.0).reshape(1, 1), 0
    ).tolist(),
    "gradient of `cdist(p=inf)`, `pdist(p=inf)`": lambda lib: gradient(
        lib, lambda x: lib.cdist(x, lib.zeros(1, 2).double(), INF), leaf(lib, 1.0, 1.0).reshape(1, 2)
    ),
    "gradient of `cummax`": empty_scan,
    "writing to windows that overlap": lambda lib: lib.zeros(4).unfold(0, 2, 1).add_(1).tolist(),
    "`tensor([tensor([1.0]), tensor([2.0])])`": lambda lib: lib.tensor([lib.tensor([1.0]), lib.tensor([2.0])]).tolist(),
    "second derivatives of `atan2`": lambda lib: second(lib, lib.sinc, leaf(lib, 0.0)),
    "second derivatives of `cdist`, `pdist`": lambda lib: second(
        lib, lib.cdist, leaf(lib, 1.0).reshape(1, 1), leaf(lib, 3.0).reshape(1, 1)
    ),
    "gradient of `logcumsumexp` for a NaN": lambda lib: lib.autograd.grad(
        lib.logcumsumexp(x := leaf(lib, 1.0, 2.0), 0), x, leaf(lib, 1.0, float("nan")).detach()
    )[0].tolist(),
    "`soft_margin_loss` far": lambda lib: lib.nn.functional.soft_margin_loss(
        leaf(lib, -1e4), lib.ones(1, dtype=lib.float64)
    ).item(),
    "gradient of `special.entr`": lambda lib: gradient(lib, lib.special.entr, leaf(lib, -1.0)),
    "gradient of `kl_div`": lambda lib: lib.autograd.grad(
        lib.nn.functional.kl_div(leaf(lib, -1.0), t := leaf(lib, 0.0)), t
    )[0].tolist(),
    "derivative by the incoming gradient": slope_of_logit,
    "forward mode where backward has a choice": lambda lib: lib.func.jvp(
        lambda x: lib.clamp(x, max=leaf(lib, 1.0).detach()), (leaf(lib, 1.0).detach(),), (lib.ones(1).double(),)
    )[1].tolist(),
    "gradient of `logit(x, eps)`": lambda lib: gradient(
        lib, lambda x: lib.logit(x, 0.1), leaf(lib, *[float("nan")] * 64)
    ),
    "derivatives of `celu`": lambda lib: lib.autograd.grad(
        lib.nn.functional.celu(x := leaf(lib, -0.3), 0.7), x, lib.ones(1)
    )[0].item(),
    "`torch.Generator`": seeded,
    "`Generator.get_state()`, `get_rng_state()`": lambda lib: type(lib.Generator().manual_seed(0).get_state()).__name__,
    "`nn.Softmax()`": lambda lib: lib.nn.Softmax()(lib.zeros(2)).tolist(),
    "losses whose input and target": lambda lib: lib.nn.functional.mse_loss(lib.ones(2, 1), lib.ones(2)).item(),
    "`binary_cross_entropy_with_logits` and `kl_div`": lambda lib: str(
        lib.nn.functional.binary_cross_entropy_with_logits(lib.zeros(2), lib.ones(2).half()).dtype
    ),
    "`huber_loss` between two dtypes": lambda lib: gradient(
        lib, lambda x: lib.nn.functional.huber_loss(x, lib.zeros(2)), leaf(lib, 1.0, 2.0)
    ),
    "deep copies of tensors that share": copied_views,
    "the `step` in an optimizer's state": lambda lib: str(stepped(lib, "Adam")["step"].dtype),
    "the state of `LBFGS`": lambda lib: "al" in stepped(lib, "LBFGS"),
    "`AveragedModel` with": lambda lib: lib.optim.swa_utils.AveragedModel(
        lib.nn.Linear(1, 1), avg_fn=print, multi_avg_fn=print
    ),
    "one element of a tensor written": lambda lib: written(lib, lambda x: x.index_put_((lib.tensor([0, 1]),), x[0, 0])),
    "which read what they overwrite": lambda lib: written(lib, lambda x: x.masked_scatter_(x > 1, x.flatten())),
    "`pixel_unshuffle` of no elements": lambda lib: list(lib.nn.functional.pixel_unshuffle(lib.ones(1, 0, 4), 2).shape),
    "`interpolate` of uint8": lambda lib: lib.nn.functional.interpolate(
        lib.ones(1, 1, 4, 4).byte(), (2, 3), mode="bilinear"
    ).tolist(),
    "arguments `size_average`": lambda lib: lib.nn.functional.mse_loss(
        lib.ones(2), lib.zeros(2), size_average=False
    ).item(),
    "`max_pool1d`": lambda lib: lib.nn.functional.max_pool1d(lib.ones(1, 1, 1), 2, padding=1, dilation=2).tolist(),
    "`conv_transpose1d`": lambda lib: tuple(
        lib.nn.functional.conv_transpose1d(lib.ones(0, 1, 5), lib.ones(1, 1, 2), output_padding=1).shape
    ),
    "`multilabel_soft_margin_loss` with a weight": lambda lib: lib.nn.functional.multilabel_soft_margin_loss(
        lib.ones(1, 2), lib.ones(1, 2), lib.ones(3, 1, 2)
    ).item(),
    "a parameter given twice": duplicate,
    "`SequentialLR(last_epoch=n)`": sequence,
    "second derivatives through `weight_norm`": weight_norm,
    "optimizers with `capturable=True`": lambda lib: bool(lib.optim.SGD([leaf(lib, 1.0)], differentiable=True)),
    "optimizers of float16 parameters": lambda lib: lib.nn.utils.get_total_norm(
        [lib.full((100,), 6e4, dtype=lib.float16)]
    ).item(),
    "wrong arguments of `TensorDataset`": lambda lib: lib.utils.data.TensorDataset(lib.ones(2), lib.ones(3)),
    "raises StopIteration": stops,
    "a subclass of `Subset`": overridden,
    "`DataLoader(timeout=...)`": lambda lib: len(lib.utils.data.DataLoader(range(3), timeout=1)),
    "an iterator over persistent": two_iterators,
    "`pack_padded_sequence` with a length": lambda t: t.nn.utils.rnn.pack_padded_sequence(
        t.ones(2, 1), [3]
    ).batch_sizes.tolist(),
    "| overloads |": lambda lib: lib.sort(lib.ones(2), 0, stable=True)[1].tolist(),
    "operands of two dtypes in losses": lambda lib: lib.nn.functional.rms_norm(
        lib.ones(1, 2), (2,), lib.ones(2, dtype=lib.int64)
    ).tolist(),
    "operands of several dtypes": lambda lib: [
        t.tolist() for t in lib.meshgrid(lib.ones(1), lib.tensor([1]), indexing="ij")
    ],
    "dtypes that PyTorch has no kernel for": lambda lib: lib.linalg.pinv(lib.ones(1, 1).half()).tolist(),
    "subtraction of booleans": lambda lib: (lib.tensor([True]) - lib.tensor([1])).tolist(),
    "linear algebra of matrices that hold": lambda lib: lib.linalg.eigvalsh(lib.full((1, 1), INF)).tolist(),
    "`linalg.solve_triangular` of": lambda lib: lib.linalg.solve_triangular(
        lib.zeros(1, 1), lib.ones(1, 1), upper=True
    ).tolist(),
    "`linalg.solve(left=False)`": lambda lib: lib.linalg.solve(lib.eye(2), lib.ones(2), left=False).tolist(),
    "what `linalg.cholesky_ex`": lambda lib: lib.linalg.cholesky_ex(-lib.ones(1, 1))[0].item(),
    "`einsum` of booleans": lambda lib: str(lib.einsum("ij->", lib.ones(2, 2).bool()).dtype),
    "gradient of determinants": lambda lib: gradient(lib, lib.logdet, lib.ones(3, 3).double().requires_grad_()),
    "comparisons and logic in place": lambda lib: lib.autograd.grad(
        (x := leaf(lib, 1.0)).clone().logical_and_(lib.ones(1)).sum(), x
    )[0].tolist(),
    "the mean that `var_mean`": lambda lib: lib.var_mean(lib.tensor([INF, INF]))[1].item(),
    "values with leading dimensions": lambda lib: lib.zeros(2).index_put((lib.tensor([0]),), lib.ones(1, 1)).tolist(),
    "`linalg.pinv(hermitian=True)`": lambda lib: lib.linalg.pinv(lib.ones(1, 2), hermitian=True).tolist(),
    "`bilinear` with a bias": lambda lib: lib.nn.functional.bilinear(
        lib.ones(1), lib.ones(1), lib.ones(1, 1, 1), lib.ones(1, 1)
    ).tolist(),
    "which of equal elements": lambda lib: lib.ones(1, 4).topk(2)[1].tolist(),
    "`searchsorted`, `bucketize`": lambda lib: lib.searchsorted(
        lib.tensor([1.0, float("nan")]), lib.tensor([1.0])
    ).tolist(),
    "dimensions, indices and dtypes of empty": lambda lib: lib.linalg.vecdot(lib.ones(1), lib.ones(1), dim=1).item(),
    "gradients that PyTorch's": lambda lib: lib.autograd.grad(
        lib.nn.functional.pixel_shuffle(x := lib.ones(9, 0, 1, requires_grad=True), 3).sum(), x
    )[0].tolist(),
    "images, windows and weights": lambda lib: lib.nn.functional.unfold(lib.ones(1, 0, 3, 3), 2).tolist(),
    "the mean of nothing": lambda lib: lib.nn.functional.adaptive_avg_pool2d(lib.ones(1, 1, 0, 1), 1).isnan().item(),
    "`as_strided_scatter` of a tensor": lambda lib: lib.as_strided_scatter(
        lib.arange(10)[::2], lib.tensor([-1]), (1,), (1,), 2
    ).tolist(),
    "factors, bounds and elements that are infinite": lambda lib: lib.addbmm(
        lib.ones(1, 1), lib.ones(0, 1, 1), lib.ones(0, 1, 1), alpha=INF
    ).tolist(),
    "parts of floating numbers": lambda lib: (
        lib.diagonal_scatter(lib.ones(2, 2, dtype=lib.int64), lib.ones(2, requires_grad=True)).requires_grad
    ),
    "average pools of whole": lambda lib: lib.nn.functional.avg_pool1d(lib.tensor([[[1, 2]]]), 2).item(),
    "gradient of `ldexp`": lambda lib: gradient(
        lib, lambda x: lib.ldexp(x, lib.tensor([100], dtype=lib.int32)), leaf(lib, 1.0)
    ),
    "norms whose powers": lambda lib: gradient(
        lib, lambda x: x.norm(-2.0), lib.tensor([5e5, 1e-30], requires_grad=True)
    ),
    "in-place operators never": lambda lib: lib.ones(1).addbmm_(lib.ones(1, 2, 2), lib.ones(1, 2, 2)).tolist(),
    "losses at infinite": lambda lib: lib.nn.functional.binary_cross_entropy_with_logits(
        lib.tensor([-INF]), lib.ones(1)
    ).item(),
    "attention where a key": lambda lib: lib.nn.functional.scaled_dot_product_attention(
        lib.ones(1, 2, 1), lib.tensor([[[1.0], [float("nan")]]]), lib.ones(1, 2, 1), is_causal=True
    ).tolist(),
    "`linalg.norm(dtype=...)`": lambda lib: lib.linalg.norm(lib.ones(1, 1), INF, dtype=lib.float16).item(),
    "`interpolate` of whole": lambda lib: lib.nn.functional.interpolate(
        lib.ones(1, 1, 2, 2).to(lib.uint8), scale_factor=2, mode="bilinear"
    ).tolist(),
    "integrals of nothing": lambda lib: lib.trapezoid(lib.tensor([INF])).item(),
    "what PyTorch reads": lambda lib: gradient(
        lib,
        lambda x: (
            lib.nn.functional.batch_norm(x, None, None, lib.ones(1).double().expand(2), None, True)
            * lib.tensor([1.0, -1.0]).double().reshape(2, 1)
        ),
        lib.tensor([[1.0, 1.0], [1.0, 1.0]]).double().requires_grad_(),
    ),
    "fractional factors": lambda lib: lib.addmm(
        lib.tensor([[1]]), lib.tensor([[1]]), lib.tensor([[1]]), beta=0.5
    ).tolist(),
    "digits of `polygamma`": lambda lib: lib.polygamma(1, lib.ones(1).double()).item(),
    "`kthvalue` among equal": lambda lib: lib.tensor([-1.0, 2.0, 2.0, 1.0]).kthvalue(3)[1].item(),
    "`var`, `std` without": without_freedom,
    "`dim=None` for `max`": lambda lib: lib.ones(2).max(dim=None).item(),
    "`logsumexp(dim=())`": lambda lib: lib.zeros(1).logsumexp(()).item(),
    "a call with two mistakes": lambda lib: lib.tensor(1.0).diff(dim="0"),
    "indices and class numbers out of range": lambda lib: lib.ones(2).gather(0, lib.tensor([2])),
    "index tensors and class numbers of int8": lambda lib: lib.ones(2)[lib.tensor([1], dtype=lib.int8)].item(),
    "floating-point numbers in an index": lambda lib: lib.ones(2)[[0, 1.5]].tolist(),
    "`take_along_dim` with an index beyond": lambda lib: lib.ones(2).take_along_dim(lib.tensor([2]), 0).item(),
    "`multinomial` without replacement": lambda lib: lib.multinomial(lib.tensor([0.0, 1.0]), 2).shape,
    "`label_smoothing` below 0": lambda lib: lib.nn.CrossEntropyLoss(label_smoothing=-1.0)(
        lib.zeros(1, 2), lib.tensor([0])
    ).item(),
    "a list for a tensor": lambda lib: lib.cat(lib.ones(2, 1)).tolist(),
    "`linalg.inv_ex`, `linalg.cholesky_ex`": lambda lib: lib.linalg.inv_ex(lib.ones(2, 2)).inverse.tolist(),
    "errors of shapes": shape_error,
    "`interpolate(antialias=True)`": lambda lib: lib.nn.functional.interpolate(
        lib.ones(1, 1, 2, 1).cumsum(2), (3, 1), mode="bilinear", antialias=True
    ).tolist(),
    "float16 in operators of several steps": lambda lib: (1e6 / lib.tensor([1e3], dtype=lib.float16)).tolist(),
    "`np.isnan(tensor)`": lambda lib: str(np.isnan(lib.ones(1)).dtype),
    "`out=`": lambda lib: list(lib.exp(lib.ones(3), out=lib.ones(2)).shape),
    "comparisons of integers with numbers": lambda lib: (lib.tensor([0], dtype=lib.uint8) == 256).tolist(),
    "numbers beyond 64 bits": lambda lib: (lib.ones(1) * 2**64).tolist(),
    "a mask or True in a subtraction": lambda lib: (lib.tensor([3]) - True).tolist(),
    "`torch.bfloat16`": lambda lib: str(lib.bfloat16),
    "`mode`, `dynamic`, `fullgraph`": lambda lib: callable(lib.compile(lambda x: x, fullgraph=True)),
    "`compiled.run`": lambda lib: hasattr(lib.compile(lambda x: x), "explain"),
    "| backends |": lambda lib: lib.distributed.is_gloo_available(),
    "`async_op`, further groups": lambda lib: hasattr(lib.distributed, "send"),
    "`all_reduce(..., ordered=True)`": lambda lib: "ordered" in signature(lib.distributed.all_reduce).parameters,
    "buckets, `find_unused_parameters`": lambda lib: (
        "find_unused_parameters" in signature(lib.nn.parallel.DistributedDataParallel.__init__).parameters
    ),
    "`OneCycleLR` without `max_lr`": lambda lib: lib.optim.lr_scheduler.OneCycleLR(
        lib.optim.SGD([lib.zeros(1, requires_grad=True)], lr=0.1), total_steps=10
    ).get_last_lr(),
    "`ndarray + tensor`": lambda lib: (np.ones(2) + lib.ones(2)).tolist(),
}
# What a program cannot show: how something is computed, how fast it is, what a file holds, or what rounding does.
NOT_SHOWN = {
    "`torch.random.dropout_counters`",
    "`p` of dropout",
    "`autograd.functional.jvp`",
    "`jacobian(vectorize=True)`",
    "`inference_mode`",
    "`RMSprop(centered=True)`",
    "`torch.save`",
    "`torch.load`",
    "`linalg.lstsq`",
    "`Scale`, `NTKLinear`",
    "a rank that raises",
    "how a program comes about",
    "| when |",
    "what is compiled",
    "what cannot be compiled",
    "| shapes |",
    "| results |",
    "| random numbers |",
}


@pytest.mark.parity
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("line", DIFFERENCES)
def test_pytorch_does_something_else(line: str) -> None:
    def outcome(lib: Any) -> str:
        try:
            return repr(DIFFERENCES[line](lib))
        except Exception as error:
            return f"raises {type(error).__name__}"

    mine, theirs = outcome(nanotorch), outcome(pytorch)
    assert mine != theirs, f"both give {mine}: take the line out of docs/differences.md"


def test_every_line_is_shown_here() -> None:
    lines = [line for line in PAGE.splitlines() if line.startswith("| ") and not line.startswith("| what")]
    for line in lines:
        assert sum(line.startswith(f"| {part}") or part in line for part in (*DIFFERENCES, *NOT_SHOWN)) >= 1, line
    for part in (*DIFFERENCES, *NOT_SHOWN):
        assert part in PAGE, part
