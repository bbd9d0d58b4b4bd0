"""Graphs of any depth run and are freed without recursion, in linear work, and without the garbage collector."""

from __future__ import annotations

import gc
import platform
import subprocess
import sys
import tracemalloc
import weakref
from collections.abc import Iterator
from typing import Any

import pytest

import nanotorch as torch
from nanotorch.autograd.graph.node import Node
from op_cases import ROW_CASES, Call, Case, each, floating_outputs, ours

LENGTH = 1_000_000


@pytest.fixture(autouse=True)
def without_collector() -> Iterator[None]:
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


class Marker(torch.autograd.Function):
    """The identity; its nodes can be told from others."""

    @staticmethod
    def forward(ctx: Any, x: Any) -> Any:
        return x.clone()

    @staticmethod
    def backward(ctx: Any, grad: Any) -> Any:
        return grad


class Saver(torch.autograd.Function):
    """The sine; saves its input."""

    @staticmethod
    def forward(ctx: Any, x: Any) -> Any:
        ctx.save_for_backward(x)
        return x.sin()

    @staticmethod
    def backward(ctx: Any, grad: Any) -> Any:
        return grad * ctx.saved_tensors[0].cos()


@pytest.mark.slow
class TestDeepGraphs:
    def test_a_chain_of_a_million_operations(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Every node runs once and is freed with the last reference to the result, the oldest too."""
        (torch.ones((), requires_grad=True) + 1.0).backward()  # compiles the node's apply, which is replaced below
        x = torch.ones((), requires_grad=True)
        y = x * 1.0
        oldest = weakref.ref(y.grad_fn)
        for _ in range(LENGTH - 1):
            y = y + 1.0
        node = type(y.grad_fn)
        calls = 0
        apply = node.apply

        def counted(self: Node, grad: Any, wanted: Any = None) -> Any:
            nonlocal calls
            calls += 1
            return apply(self, grad, wanted)

        monkeypatch.setattr(node, "apply", counted)
        y.backward()
        assert x.grad.item() == 1.0 and calls == LENGTH - 1
        assert oldest() is not None
        del y
        assert oldest() is None

    @pytest.mark.parametrize(
        "step",
        [
            lambda y: y.sin(),
            lambda y: y.mul_(1.0),
            lambda y: y.view(2),
            lambda y: Marker.apply(y),
            lambda y: y.clone()[:],
            lambda y: torch.cat([y[:1], y[1:]]),
            lambda y: y.unbind(0)[0].expand(2),
            lambda y: torch.stack(y.chunk(2)).view(2),
        ],
        ids=["saved input", "in place", "view", "Function", "slice", "cat", "several outputs", "stack"],
    )
    def test_other_long_chains_are_freed(self, step: Any) -> None:
        x = torch.ones(2, requires_grad=True)
        y = x * 1
        oldest = weakref.ref(y.grad_fn)
        for _ in range(20_000):
            y = step(y)
        y.sum().backward()
        assert x.grad is not None
        del y
        assert oldest() is None

    def test_writes_to_slices_of_one_base(self) -> None:
        x = torch.ones(2, requires_grad=True)
        y = x * 1
        oldest = weakref.ref(y.grad_fn)
        for _ in range(20_000):
            y[0] = 3.0
        y.sum().backward()
        assert x.grad.tolist() == [0.0, 1.0]
        del y
        assert oldest() is None

    def test_deep_diamonds_run_every_node_once(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Two paths at every level, 2 ** 10000 in all."""
        x = torch.ones((), dtype=torch.float64, requires_grad=True)
        y = x * 1.0
        for _ in range(10_000):
            y = y * 0.5 + y * 0.5
        calls = 0
        node = type((x + 1).grad_fn)
        apply = node.apply

        def counted(self: Node, grad: Any, wanted: Any = None) -> Any:
            nonlocal calls
            calls += 1
            return apply(self, grad, wanted)

        monkeypatch.setattr(node, "apply", counted)
        y.backward()
        assert x.grad.item() == 1.0 and calls == 10_000

    def test_wide_graphs(self) -> None:
        x = torch.ones((), requires_grad=True)
        parts = [x * float(k) for k in range(5_000)]
        torch.stack(parts).sum().backward(retain_graph=True)
        assert x.grad.item() == sum(range(5_000))
        torch.autograd.backward(parts)
        assert x.grad.item() == 2 * sum(range(5_000))

    def test_deep_graphs_of_recorded_backwards(self) -> None:
        x = torch.ones((), requires_grad=True)
        y = x * 1.0
        for _ in range(5_000):
            y = y * 1.0
        (first,) = torch.autograd.grad(y, x, create_graph=True)
        assert first.item() == 1.0
        del y, first


WIDE = 100_000


def leaves_of(count: int) -> list[Any]:
    return [torch.ones(1, requires_grad=True) for _ in range(count)]


@pytest.mark.slow
class TestWideGraphs:
    @pytest.mark.parametrize("join", [torch.cat, torch.stack, sum], ids=["cat", "stack", "sum"])
    def test_of_a_hundred_thousand_leaves(self, join: Any) -> None:
        leaves = leaves_of(WIDE)
        y = join(leaves).sum()
        y.backward(retain_graph=True)
        assert all(leaf.grad.item() == 1.0 for leaf in leaves)
        node = weakref.ref(y.grad_fn)
        assert len(torch.autograd.grad(y, leaves)) == WIDE
        del y
        assert node() is None

    def test_of_one_leaf_used_a_hundred_thousand_times(self) -> None:
        x = torch.zeros((), dtype=torch.float64, requires_grad=True)
        torch.autograd.backward([x * 2.0 for _ in range(WIDE)])
        assert x.grad.item() == 2.0 * WIDE


def joined(join: Any) -> Any:
    return lambda count: join(leaves_of(count)).sum().backward()


def of_all(count: int) -> None:
    leaves = leaves_of(count)
    torch.autograd.grad(torch.cat(leaves).sum(), leaves)


def of_all_by_name(count: int) -> None:
    leaves = leaves_of(count)
    torch.cat(leaves).sum().backward(inputs=leaves)


def of_all_hooked(count: int) -> None:
    leaves = leaves_of(count)
    for leaf in leaves:
        leaf.register_post_accumulate_grad_hook(lambda leaf: None)
    torch.autograd.graph.register_multi_grad_hook(leaves, lambda grads: None)
    sum(leaves).sum().backward()


def fan_out(count: int) -> None:
    x = torch.ones((), requires_grad=True)
    torch.autograd.backward([x * 2.0 for _ in range(count)])


def split_and_joined(count: int) -> None:
    torch.stack(torch.ones(count, requires_grad=True).unbind(0)).sum().backward()


def chain(step: Any, **options: Any) -> Any:
    def run(count: int) -> None:
        x = torch.ones(2, requires_grad=True)
        y = x * 1.0
        for _ in range(count):
            y = step(y)
        y.sum().backward(**options)

    return run


LINEAR = {
    "cat": joined(torch.cat),
    "stack": joined(torch.stack),
    "sum": joined(sum),
    "grad of all": of_all,
    "backward to all": of_all_by_name,
    "hooks on all": of_all_hooked,
    "fan-out": fan_out,
    "unbind": split_and_joined,
    "chain": chain(lambda y: y * 1.0),
    "recorded chain": chain(lambda y: y * y, create_graph=True),
    "diamonds": chain(lambda y: y * 0.5 + y * 0.5),
    "recorded diamonds": chain(lambda y: y * 0.5 + y * 0.5, create_graph=True),
    "writes": chain(lambda y: y.mul_(1.0)),
    "writes to slices": chain(lambda y: (y[:1].mul_(1.0), y)[1]),
    "Functions": chain(lambda y: Marker.apply(y)),
}


@pytest.mark.parametrize("name", LINEAR)
@pytest.mark.slow
def test_twice_the_graph_is_twice_the_work(name: str) -> None:
    """Counted in calls of functions, Python's and C's."""
    run, counts = LINEAR[name], []
    run(10)  # compiles what it needs
    for size in (300, 600, 1200):
        calls = 0

        def count(frame: Any, event: str, argument: Any) -> None:
            nonlocal calls
            calls += event in ("call", "c_call")

        sys.setprofile(count)
        try:
            run(size)
        finally:
            sys.setprofile(None)
        counts.append(calls)
    small, middle, large = counts
    assert large - middle <= 2.02 * (middle - small), counts


class TestPeak:
    def peak(self, run: Any) -> tuple[float, float]:
        """The most memory that a call holds at a time beyond what there was, and what is left after it; in arrays."""
        before = tracemalloc.get_traced_memory()[0]
        tracemalloc.reset_peak()
        run()
        after, most = tracemalloc.get_traced_memory()
        return (most - before) / self.NBYTES, (after - before) / self.NBYTES

    NBYTES = 4 * 50_000
    LENGTH = 60

    @pytest.mark.parametrize(
        "step",
        [
            lambda y: y.tanh(),
            lambda y: y.sin() * 2.0,
            lambda y: torch.nn.functional.softmax(y, 0),
            lambda y: Saver.apply(y),
        ],
        ids=["result", "input", "softmax", "Function"],
    )
    def test_backward_frees_as_it_goes(self, step: Any) -> None:
        """The forward pass of a chain keeps an array an operation; backward adds a few, and leaves the gradient."""
        x = torch.ones(50_000, requires_grad=True)
        step(x * 1.0).sum().backward()
        x.grad = None
        losses: list[Any] = []

        def forward() -> None:
            y = x
            for _ in range(self.LENGTH):
                y = step(y)
            losses.append(y.sum())

        tracemalloc.start()
        try:
            _, kept = self.peak(forward)
            most, left = self.peak(lambda: losses[0].backward())
        finally:
            tracemalloc.stop()
        assert kept >= self.LENGTH - 1 and most <= 5 and left <= 2 - kept + 1

    def test_post_accumulate_hooks_free_gradients_as_they_come(self) -> None:
        """With an optimizer in the backward pass, the gradients of a model are never in memory together."""
        leaves = [torch.ones(50_000, requires_grad=True) for _ in range(30)]

        def run() -> None:
            y = torch.ones(50_000)
            for leaf in leaves:
                y = y + leaf
            y.sum().backward()

        run()  # so that the leaves are older than the graphs to come
        tracemalloc.start()
        try:
            for leaf in leaves:
                leaf.grad = None
            plain, _ = self.peak(run)
            for leaf in leaves:
                leaf.grad = None
                leaf.register_post_accumulate_grad_hook(lambda leaf: delattr(leaf, "grad"))
            eager, left = self.peak(run)
        finally:
            tracemalloc.stop()
        assert plain >= 30 and eager <= 8 and left < 1


class TestNoCycles:
    @each([case for case in ROW_CASES if case.entry.formulas])
    def test_every_op(self, case: Case) -> None:
        """Results and nodes die with the last reference, before and after a backward."""
        for then in ("nothing", "backward", "double backward"):
            left = [r for r in self.references_after(case, then) if r() is not None]
            assert not left, f"after {then}: {left}"

    @staticmethod
    def references_after(case: Case, then: str) -> list[weakref.ref[Any]]:
        call = Call(case, ours())
        results = floating_outputs(case.entry.function(*call.args, **call.kwargs))
        references = [weakref.ref(o) for t in results for o in (t, t.grad_fn)]
        if then != "nothing" and results:
            seeds = [torch.ones_like(r) for r in results]
            second = then == "double backward"
            grads = torch.autograd.grad(results, call.leaves, seeds, create_graph=second, allow_unused=True)
            references += [weakref.ref(o) for g in grads if g is not None for o in (g, g.grad_fn) if o is not None]
        return references

    def test_in_place_writes_and_views(self) -> None:
        x = torch.ones(3, requires_grad=True)
        y = x * 1
        view = y[:2]
        other = torch.ones((), requires_grad=True)
        view.mul_(other)
        y.tanh_()
        y[2] = other
        y.add_(y)
        y[1:].mul_(y[0])
        view.requires_grad  # noqa: B018  (derives the history of the view anew)
        y.retain_grad()
        y.register_hook(lambda grad: grad * 2)
        references = [weakref.ref(o) for o in (y, view, y.grad_fn, view.grad_fn)]
        del y, view
        assert [r() for r in references] == [None] * 4

    def test_windows_changes_of_shape_and_index_writes(self) -> None:
        x = torch.ones(4, requires_grad=True)
        y = (x * 1).view(2, 2).clone()
        row, windows = y[0], y.as_strided((3, 2), (1, 1))
        row.unsqueeze_(0)
        y.t_()
        row.fill_diagonal_(2.0)
        row.mul_(x[:2])
        y.index_add_(0, torch.tensor([0, 0]), y.detach().clone() * x[0])
        y.masked_scatter_(y.detach() > 1, x)
        y.index_put_((torch.tensor([1]),), x[:2], accumulate=True)
        y.scatter_reduce_(0, torch.tensor([[0, 0]]), x[:2].view(1, 2), "amax")
        (windows.sum() + row.sum() + y.sum()).backward()
        references = [weakref.ref(o) for o in (y, row, windows, y.grad_fn, row.grad_fn, windows.grad_fn)]
        del y, row, windows
        assert [r() for r in references] == [None] * 6

    def test_a_write_with_the_target_as_operand(self) -> None:
        y = torch.ones(3, requires_grad=True) * 1
        y.mul_(y)
        y[:1].mul_(y[:1])
        reference = weakref.ref(y)
        del y
        assert reference() is None

    def test_a_training_step(self) -> None:
        torch.manual_seed(0)
        model = torch.nn.Sequential(
            torch.nn.Linear(4, 8),
            torch.nn.BatchNorm1d(8),
            torch.nn.ReLU(),
            torch.nn.Dropout(0.5),
            torch.nn.Linear(8, 3),
        )
        optimizer = torch.optim.Adam(model.parameters())
        inputs, targets = torch.randn(16, 4), torch.randint(0, 3, (16,))
        gc.collect()
        for _ in range(3):
            optimizer.zero_grad()
            output = model(inputs)
            loss = torch.nn.functional.cross_entropy(output, targets)
            references = [weakref.ref(o) for o in (output, loss, output.grad_fn, loss.grad_fn)]
            loss.backward()
            optimizer.step()
            del output, loss
            assert [r() for r in references] == [None] * 4
        del _, references, inputs, targets
        assert gc.collect() == 0

    def test_errors_leave_no_graph_behind(self) -> None:
        x = torch.ones(3, requires_grad=True)
        y = x.exp()
        y.register_hook(lambda grad: 1 / 0)
        reference = weakref.ref(y.grad_fn)
        with pytest.raises(ZeroDivisionError):
            y.sum().backward()
        del y
        gc.collect()  # the traceback that pytest holds refers to frames
        assert reference() is None


class TestRelease:
    def test_saved_values_are_freed_as_backward_goes(self) -> None:
        """When an older node runs, the values of the newer ones are gone already."""
        x = torch.ones(3, requires_grad=True)
        first = x * 1
        second = first.exp()
        third = second * second
        saved = weakref.ref(second)
        alive = []
        first.register_hook(lambda grad: alive.append(saved() is not None))
        loss = third.sum()
        del second, third
        assert saved() is not None
        loss.backward()
        assert alive == [False]

    def test_retain_graph_keeps_them(self) -> None:
        x = torch.ones(3, requires_grad=True)
        middle = x.exp()
        saved = weakref.ref(middle)
        loss = (middle * middle).sum()
        del middle
        loss.backward(retain_graph=True)
        assert saved() is not None
        loss.backward()
        assert saved() is None

    def test_grads_of_leaves_keep_no_graph(self) -> None:
        x = torch.ones(3, requires_grad=True)
        y = x.exp()
        node = weakref.ref(y.grad_fn)
        y.sum().backward()
        del y
        assert node() is None and x.grad is not None and x.grad.grad_fn is None

    def test_a_graph_does_not_keep_its_leaves(self) -> None:
        x, other = torch.ones(3, requires_grad=True), torch.ones(3, requires_grad=True)
        y = x + other  # saves nothing
        accumulator = y.grad_fn.next_functions[0][0]
        assert (x + 1).grad_fn.next_functions[0][0] is accumulator and accumulator.variable is x
        hooked = []
        x.register_hook(lambda grad: hooked.append(1))
        leaf = weakref.ref(x)
        y.sum().backward(retain_graph=True)
        del x
        assert leaf() is None and accumulator.variable is None
        y.sum().backward()
        assert hooked == [1, 1] and other.grad.tolist() == [2.0, 2.0, 2.0]

    def test_detach_keeps_no_graph(self) -> None:
        y = torch.ones(3, requires_grad=True).exp()
        node = weakref.ref(y.grad_fn)
        kept = y.detach()
        del y
        assert node() is None and kept.tolist()


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="how free memory is kept is a matter of the C library")
def test_a_step_of_middle_sized_arrays_finds_its_memory_again() -> None:
    program = """if True:
        import resource
        import nanotorch as torch

        x, weight = torch.ones(64, 1, 28, 28, requires_grad=True), torch.ones(16, 1, 5, 5, requires_grad=True)
        for step in range(8):
            if step == 3:
                before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
            x.grad = weight.grad = None
            torch.conv2d(x, weight).sum().backward()
        print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
    """
    faults = int(subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True).stdout)
    assert faults < 500, "new pages in five steps; without the size in numpy_backend some 10,000"
