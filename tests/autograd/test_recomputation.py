"""utils.checkpoint: the same gradients from recomputed values, less memory, and errors where the function changed."""

from __future__ import annotations

import gc
import tracemalloc
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings

import nanotorch as torch
from inplace_programs import OPERATIONS, VIEWS, WRITES, Step, programs
from nanotorch.utils.checkpoint import CheckpointError, checkpoint, checkpoint_sequential
from oracle import pytorch, require, to_numpy

nn, F = torch.nn, torch.nn.functional


def write_inside(x: Any) -> Any:
    y = x * 2
    y[0] = y[1].clone() * 3
    return y.sin().mul_(2).add_(x)


class Cube(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Any) -> Any:
        result = x * x * x
        ctx.save_for_backward(x, result)
        return result

    @staticmethod
    def backward(ctx: Any, grad: Any) -> Any:
        x, result = ctx.saved_tensors
        return grad * 3 * x * x + 0 * result


def nested(x: Any) -> Any:
    inner = checkpoint(lambda t: (t.exp() * t).tanh(), x.sin())
    return checkpoint(lambda t: checkpoint(torch.exp, t.cos()) * t, inner * 2) + inner


def nested_after_a_write(x: Any) -> Any:
    y = x.sin()
    y.mul_(2)
    return checkpoint(lambda t: (t * t).sin(), y)


def differentiates_inside(x: Any) -> Any:
    y = (x**3).sum()
    (g,) = torch.autograd.grad(y, x, create_graph=True)
    return g.sin()


FUNCTIONS: dict[str, Callable[[Any], Any]] = {
    "elementwise": lambda x: (x.exp() * x).tanh(),
    "matrices": lambda x: (x @ x.T).softmax(1) @ x,
    "dropout": lambda x: F.dropout(x.exp(), 0.5) * F.dropout(x, 0.3),
    "random numbers": lambda x: x * torch.rand(4, 4, dtype=torch.float64) + torch.randn_like(x) * x.sin(),
    "in-place": write_inside,
    "views": lambda x: x[1:].exp().reshape(-1) * x.T[:, :3].reshape(-1),
    "several saved results": lambda x: x.max(dim=0).values + x.sort(dim=1).values.sum(0),
    "layer norm": lambda x: F.layer_norm(x, (4,)),
    "a Function": lambda x: Cube.apply(x) + Cube.apply(x.sin()),
    "nothing saved": lambda x: x + 1,
    "the input": lambda x: x,
    "nested": nested,
    "nested after a write": nested_after_a_write,
    "a gradient inside": differentiates_inside,
    "no_grad inside": lambda x: x.exp() * frozen(x),
}


def frozen(x: Any) -> Any:
    with torch.no_grad():
        return x.sin()


def plain(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    return function(*args, **kwargs)


def start(requires_grad: bool = True) -> Any:
    return torch.linspace(0.1, 1.3, 16, dtype=torch.float64).reshape(4, 4).requires_grad_(requires_grad)


@pytest.mark.parametrize("name", FUNCTIONS)
class TestEqual:
    """Bit for bit what the same program gives without checkpoint, values and random state included."""

    def test_first_order(self, name: str) -> None:
        found = []
        for run in (plain, checkpoint):
            torch.manual_seed(1)
            x = start()
            y = run(FUNCTIONS[name], x * 1.0)
            (y * y).sum().backward()
            found.append((y.tolist(), x.grad.tolist(), torch.rand(3).tolist()))
        assert found[0] == found[1]

    def test_second_order(self, name: str) -> None:
        found = []
        for run in (plain, checkpoint):
            torch.manual_seed(1)
            x = start()
            y = run(FUNCTIONS[name], x * 1.0)
            (first,) = torch.autograd.grad((y * y).sum(), x, create_graph=True)
            (second,) = torch.autograd.grad((first * first).sum(), x, create_graph=True)
            (third,) = torch.autograd.grad(second.sum(), x, allow_unused=True, materialize_grads=True)
            found.append([first.tolist(), second.tolist(), third.tolist()])
        assert found[0] == found[1]

    def test_twice_through_a_retained_graph(self, name: str) -> None:
        x = start()
        loss = checkpoint(FUNCTIONS[name], x * 1.0).sum()
        loss.backward(retain_graph=True)
        once = x.grad.clone()
        loss.backward()
        assert torch.equal(x.grad, once * 2)

    def test_the_graph_dies_without_the_collector(self, name: str) -> None:
        gc.disable()
        try:
            for runs_backward in (False, True):
                x = start()
                middle = x * 1.0
                y = checkpoint(FUNCTIONS[name], middle)
                watched = weakref.ref(middle)
                del middle
                if runs_backward:
                    y.sum().backward()
                del y
                assert watched() is None
        finally:
            gc.enable()


class Counted:
    """A function of either library that counts how often it is called."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self.function, self.calls = function, 0

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        self.calls += 1
        return self.function(*args, **kwargs)


def partial_gradients(lib: Any, call: Callable[..., Any], x: Any, w: Any) -> Any:
    y = call(lambda t: (t * w).exp() * t, x)
    return [lib.autograd.grad(y.sum(), leaf, retain_graph=True)[0] for leaf in (x, w)]


def only_parameters(lib: Any, call: Callable[..., Any], x: Any, w: Any) -> Any:
    y = call(lambda t: (t @ w).tanh() @ w, x.detach())
    return lib.autograd.grad(y.sum(), w)


def structures(lib: Any, call: Callable[..., Any], x: Any, w: Any) -> Any:
    y, named = call(
        lambda pair, *, scale, more: (pair[0] * pair[1] * scale, {"sum": more["w"] + pair[0]}),
        (x, w),
        scale=3.0,
        more={"w": w},
    )
    return lib.autograd.grad((y.exp() + named["sum"]).sum(), (x, w))


def unused_output(lib: Any, call: Callable[..., Any], x: Any, w: Any) -> Any:
    y, _ = call(lambda t: (t.sin() * w, t.exp() * t), x)
    return lib.autograd.grad(y.sum(), (x, w))


def twice(lib: Any, call: Callable[..., Any], x: Any, w: Any) -> Any:
    f = lambda t: (t * w).tanh()  # noqa: E731
    y = call(f, call(f, x))
    (first,) = lib.autograd.grad(y.sum(), x, create_graph=True)
    return lib.autograd.grad((first * first).sum(), (x, w))


def nested_three_deep(lib: Any, call: Callable[..., Any], x: Any, w: Any) -> Any:
    def level(depth: int, t: Any) -> Any:
        t = (t * w).tanh()
        return t if not depth else call(level, depth - 1, t) * t

    return lib.autograd.grad(call(level, 3, x).sum(), (x, w))


PROGRAMS = [partial_gradients, only_parameters, structures, unused_output, twice, nested_three_deep]


@pytest.mark.parity
@pytest.mark.parametrize("program", PROGRAMS)
def test_parity_with_pytorch(program: Callable[..., Any]) -> None:
    theirs = require("torch.utils.checkpoint")

    found = []
    for lib, recomputing in ((torch, checkpoint), (pytorch, theirs.checkpoint)):

        def call(function: Any, *args: Any, recomputing: Any = recomputing, **kwargs: Any) -> Any:
            return recomputing(function, *args, use_reentrant=False, **kwargs)

        for way in (call, plain):
            values = np.linspace(0.1, 0.9, 9).reshape(3, 3)
            x, w = lib.tensor(values, requires_grad=True), lib.tensor(values.T.copy(), requires_grad=True)
            found.append([to_numpy(g) for g in program(lib, way, x, w)])
    for results in zip(*found, strict=True):
        for value in results[1:]:
            np.testing.assert_allclose(value, results[0], rtol=1e-12)


class TestRecomputation:
    def test_once_for_every_backward(self) -> None:
        function = Counted(lambda t: (t.exp() * t).tanh() * t)
        x = start()
        y = checkpoint(function, x).sum()
        assert function.calls == 1
        y.backward(retain_graph=True)
        assert function.calls == 2
        y.backward()
        assert function.calls == 3

    def test_none_without_grad_mode_or_history(self) -> None:
        function = Counted(torch.exp)
        with torch.no_grad():
            assert not checkpoint(function, start()).requires_grad
        assert not checkpoint(function, start(False)).requires_grad
        assert function.calls == 2

    def test_it_stops_at_the_last_saved_value(self) -> None:
        reached = []

        def function(t: Any) -> Any:
            y = t.exp()
            reached.append("after exp")
            return y + 1

        checkpoint(function, start()).sum().backward()
        assert reached == ["after exp"]

    def test_broad_excepts_do_not_swallow_the_end(self) -> None:
        def function(t: Any) -> Any:
            try:
                return t.exp()
            except Exception:
                return t

        x = start()
        checkpoint(function, x).sum().backward()
        assert torch.equal(x.grad, x.exp())

    def test_the_random_state_of_the_program_goes_on(self) -> None:
        torch.manual_seed(3)
        y = checkpoint(lambda t: F.dropout(t, 0.5) * t, start()).sum()
        torch.rand(5)
        y.backward()
        following = torch.rand(2).tolist()
        torch.manual_seed(3)
        F.dropout(torch.ones(4, 4)), torch.rand(5)
        assert torch.rand(2).tolist() == following

    def test_without_the_random_state_the_masks_differ(self) -> None:
        torch.manual_seed(0)
        x = torch.ones(1000, requires_grad=True)
        y = checkpoint(lambda t: F.dropout(t, 0.5).exp(), x, preserve_rng_state=False)
        y.sum().backward()
        assert not torch.equal(x.grad != 0, y.detach() > 2)

    def test_modules_and_batch_norm(self) -> None:
        """Gradients are the same; running statistics are updated twice, as in PyTorch."""
        found = []
        for run in (plain, checkpoint):
            torch.manual_seed(0)
            model = nn.Sequential(
                nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.5), nn.Linear(8, 1)
            ).double()
            run(model, start(False)).sum().backward()
            found.append([p.grad.tolist() for p in model.parameters()])
            assert model[1].num_batches_tracked.item() == (1 if run is plain else 2)
        assert found[0] == found[1]

    def test_batch_norm_in_evaluation(self) -> None:
        model = nn.BatchNorm1d(4).double().eval()
        x = start()
        checkpoint(model, x).sum().backward()
        assert x.grad is not None and model.num_batches_tracked.item() == 0

    def test_under_hooks_the_argument_goes_through_them(self) -> None:
        log: list[str] = []

        def pack(tensor: Any) -> Any:
            log.append("pack")
            return tensor.tolist()

        x = start()
        with torch.autograd.graph.saved_tensors_hooks(pack, lambda data: torch.tensor(data, dtype=torch.float64)):
            y = checkpoint(lambda t: t.exp().sin(), x * 1.0)
        y.sum().backward()
        reference = start()
        reference.exp().sin().sum().backward()
        assert log == ["pack"] and torch.equal(x.grad, reference.grad)

    def test_on_a_device(self, device: Any) -> None:
        x = torch.ones(3, device=device).requires_grad_()
        checkpoint(lambda t: F.dropout(t.exp(), 0.0).sin(), x).sum().backward()
        assert x.grad.device is device

    def test_anomaly_detection_inside(self) -> None:
        with torch.autograd.detect_anomaly():
            x = start()
            checkpoint(lambda t: t.exp().sin(), x).sum().backward()
        assert x.grad is not None


class TestErrors:
    def test_another_shape(self) -> None:
        sizes = iter((4, 3))
        y = checkpoint(lambda t: t[: next(sizes)].exp(), start()).sum()
        with pytest.raises(CheckpointError, match=r"saved value 0 had shape \(4, 4\).*and has shape \(3, 4\)"):
            y.backward()

    def test_another_dtype_and_the_way_out(self) -> None:
        for check in ("default", "none"):
            kinds = iter((torch.float64, torch.float32))
            x = start()
            y = checkpoint(lambda t, kinds=kinds: (t.to(next(kinds)).exp()).double(), x, determinism_check=check).sum()
            if check == "default":
                with pytest.raises(CheckpointError, match=r"float64 on cpu in the forward pass and has .*float32"):
                    y.backward()
            else:
                y.backward()
                assert torch.allclose(x.grad, x.exp(), rtol=1e-6)

    def test_fewer_saved_values(self) -> None:
        deep = iter((True, False))
        y = checkpoint(lambda t: t.exp().sin() if next(deep) else t.exp(), start()).sum()
        with pytest.raises(CheckpointError, match="saved 2 values for backward in the forward pass, but 1"):
            y.backward()

    def test_a_parameter_that_was_written(self) -> None:
        model = nn.Linear(4, 4).double()
        y = checkpoint(model, start()).sum()
        with torch.no_grad():
            model.weight.mul_(2)
        with pytest.raises(
            RuntimeError,
            match=r"Linear uses \(saved value 1\).*modified by an inplace operation(.|\n)*mul_ at .*test_recomputation",
        ):
            y.backward()

    def test_an_argument_that_was_written(self) -> None:
        x = start() * 1.0
        y = checkpoint(torch.exp, x).sum()
        x.mul_(2)
        with pytest.raises(RuntimeError, match=r"an argument .*modified by an inplace operation(.|\n)*mul_ at"):
            y.backward()

    def test_a_saved_value_that_the_function_itself_writes(self) -> None:
        def function(t: Any) -> Any:
            y = t.exp()
            z = y.sin()
            y.mul_(2)
            return z.exp() + y

        for run in (plain, checkpoint):
            y = run(function, start()).sum()
            with pytest.raises(RuntimeError, match="modified by an inplace operation"):
                y.backward()

    def test_after_release(self) -> None:
        y = checkpoint(lambda t: t.exp().sin(), start()).sum()
        y.backward()
        with pytest.raises(RuntimeError, match="second time"):
            y.backward()

    def test_errors_of_the_function_pass_and_the_random_state_stays(self) -> None:
        fails = iter((False, True))

        def function(t: Any) -> Any:
            y = t.exp()
            torch.rand(3)
            if next(fails):
                raise KeyError("mine")
            return y.sin()

        y = checkpoint(function, start()).sum()
        torch.manual_seed(5)
        with pytest.raises(KeyError, match="mine"):
            y.backward()
        after = torch.rand(2).tolist()
        torch.manual_seed(5)
        assert torch.rand(2).tolist() == after

    def test_arguments(self) -> None:
        with pytest.raises(ValueError, match="use_reentrant=True is not supported"):
            checkpoint(torch.exp, start(), use_reentrant=True)
        with pytest.raises(ValueError, match="determinism_check"):
            checkpoint(torch.exp, start(), determinism_check="debug")
        for segments in (0, 3):
            with pytest.raises(ValueError, match="segments is a number from 1 to"):
                checkpoint_sequential([torch.exp, torch.sin], segments, start())

    def test_inference_tensors(self) -> None:
        with torch.inference_mode():
            data = torch.ones(4, 4, dtype=torch.float64)
            assert not checkpoint(torch.exp, data).requires_grad
        with pytest.raises(RuntimeError, match="Inference tensors cannot be saved for backward"):
            checkpoint(lambda t: t + start(), data)


class TestSequential:
    @pytest.mark.parametrize("segments", range(1, 8))
    def test_equal_to_the_plain_model(self, segments: int) -> None:
        found = []
        for recomputing in (False, True):
            torch.manual_seed(0)
            layers = [layer for _ in range(3) for layer in (nn.Linear(4, 4), nn.Dropout(0.5))]
            model = nn.Sequential(*layers, nn.Tanh()).double()
            x = start()
            y = checkpoint_sequential(model, segments, x) if recomputing else model(x)
            y.sum().backward()
            found.append([x.grad.tolist(), *(p.grad.tolist() for p in model.parameters())])
        assert found[0] == found[1]

    @pytest.mark.parity
    def test_calls_as_in_pytorch(self) -> None:
        theirs = require("torch.utils.checkpoint")

        for segments in (1, 2, 3, 7):
            counts = []
            for lib, run in ((torch, checkpoint_sequential), (pytorch, theirs.checkpoint_sequential)):
                chain = [Counted(lambda t: t.exp().sin()) for _ in range(7)]
                x = lib.ones(3, requires_grad=True)
                run(chain, segments, x, use_reentrant=False).sum().backward()
                counts.append([function.calls for function in chain])
            assert counts[0] == counts[1]


def computed(program: list[Step], run: Callable[..., Any]) -> Any:
    """First and second derivatives of a random program of views, writes and operations; None where backward raises."""
    rng = np.random.default_rng(0)
    leaves = [torch.from_numpy(rng.uniform(-1.5, 1.5, (3, 3))).requires_grad_() for _ in range(2)]

    def function(a: Any, b: Any) -> Any:
        tensors = [a * 1.0, b.t() * 1.0, a.sin(), b * a]  # the arguments themselves must not be written
        for kind, first, second, choice in program:
            x, other = tensors[-1 - first % len(tensors)], tensors[-1 - second % len(tensors)]
            result = None
            try:
                if kind < 4:
                    result = VIEWS[choice % len(VIEWS)](x, second)
                elif kind < 8:
                    result = OPERATIONS[choice % len(OPERATIONS)](x, other, second)
                else:
                    result = WRITES[choice % len(WRITES)](x, (other * 0.5).mean(), first)
            except Exception:
                continue
            if result is not None and result.ndim <= 4 and not any(result is tensor for tensor in tensors):
                tensors.append(result)
        return sum(((t * (k + 1)) ** 2).sum() for k, t in enumerate(tensors) if t.requires_grad)

    try:
        loss = run(function, *leaves)
        first = torch.autograd.grad(loss, leaves, create_graph=True)
        second = torch.autograd.grad(sum((g**2).sum() for g in first), leaves, allow_unused=True)
    except RuntimeError:
        return None
    return [None if g is None else g.tolist() for g in (loss, *first, *second)]


@settings(max_examples=300, deadline=None, derandomize=True)
@given(programs)
@pytest.mark.slow
def test_random_programs_give_the_same_bit_for_bit(program: list[Step]) -> None:
    expected = computed(program, plain)
    if expected is not None:
        assert computed(program, checkpoint) == expected


@pytest.fixture
def traced() -> Iterator[None]:
    gc.collect()
    gc.disable()
    tracemalloc.start()
    yield
    tracemalloc.stop()
    gc.enable()


def peak(depth: int, segments: int | None) -> float:
    """The peak of a forward and backward pass through layers of 256 kB of activations each, in such activations."""
    layers = [nn.Tanh() for _ in range(depth)]
    x = torch.zeros(256, 256, requires_grad=True)
    gc.collect()
    tracemalloc.reset_peak()
    before = tracemalloc.get_traced_memory()[0]
    y = nn.Sequential(*layers)(x) if segments is None else checkpoint_sequential(layers, segments, x)
    y.backward(torch.ones(256, 256))
    return (tracemalloc.get_traced_memory()[1] - before) / x.nbytes


@pytest.mark.usefixtures("traced")
class TestMemory:
    @pytest.mark.slow
    def test_peak_grows_with_the_root_of_the_depth(self) -> None:
        for depth, segments in ((16, 4), (64, 8)):
            assert depth <= peak(depth, None) <= depth + 5
            assert peak(depth, segments) <= segments + depth / segments + 5

    def test_nested_calls_hold_no_more_than_the_outer_argument(self) -> None:
        def block(t: Any) -> Any:
            for _ in range(8):
                t = checkpoint(lambda u: u.tanh().tanh().tanh().tanh(), t)
            return t

        x = torch.zeros(256, 256, requires_grad=True)
        before = tracemalloc.get_traced_memory()[0]
        y = checkpoint(block, x)
        assert tracemalloc.get_traced_memory()[0] - before < 1.5 * x.nbytes  # y itself
        tracemalloc.reset_peak()
        y.backward(torch.ones(256, 256))
        assert tracemalloc.get_traced_memory()[1] - before < 20 * x.nbytes  # 8 arguments and 4 values, not 32

    def test_values_go_as_backward_goes(self) -> None:
        sizes = []

        def watch(t: Any) -> Any:
            t.register_hook(lambda grad: sizes.append(tracemalloc.get_traced_memory()[0]))
            return t

        def block(t: Any) -> Any:
            for _ in range(8):
                t = t.tanh()
            return t

        x = torch.zeros(256, 256, requires_grad=True)
        first = watch(x * 1.0)
        y = checkpoint(block, first).sum()
        y.backward()
        assert sizes[0] - tracemalloc.get_traced_memory()[0] < 3 * x.nbytes
