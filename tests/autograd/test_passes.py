"""The plain and the general backward pass: on graphs without hooks they visit the same nodes and add the same bits."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest

import nanotorch as torch
from nanotorch.autograd.graph import engine
from nanotorch.autograd.graph.general_pass import GeneralPass
from nanotorch.autograd.graph.node import HOOKED
from nanotorch.autograd.graph.plain_pass import plain_pass

OPS = ("scale", "add", "mul", "sub", "halves", "view", "write", "largest")


class Noted(torch.autograd.Function):
    """The identity: its backward notes that it is visited."""

    @staticmethod
    def forward(ctx: Any, x: Any, number: int, visits: list[int]) -> Any:
        ctx.number, ctx.visits = number, visits
        return x.clone()

    @staticmethod
    def backward(ctx: Any, grad: Any) -> Any:
        ctx.visits.append(ctx.number)
        return grad, None, None


def computed(name: str, a: Any, b: Any) -> Any:
    """Return one more tensor of four elements."""
    if name == "halves":
        first, second = a.split(2)
        return torch.cat([second, first * b[:2]])
    if name == "view":
        return a.view(2, 2).t().reshape(4) + b
    if name == "write":
        copy = a.clone()
        copy[1:3] *= b[:2]
        return copy
    if name == "largest":
        values, _ = torch.stack([a, b]).max(0)
        return values
    return {"scale": lambda: a * 1.1, "add": lambda: a + b, "mul": lambda: a * b, "sub": lambda: a - b}[name]()


def gradients(steps: Any, roots: list[int], passes: int, general: bool) -> tuple[list[int], list[bytes | None]]:
    """Build a graph on three leaves and run backward; return the order of its nodes and the bits of the gradients."""
    rng = np.random.default_rng(7)
    leaves = [torch.from_numpy(rng.standard_normal(4).astype(np.float32)).requires_grad_() for _ in range(3)]
    tensors, visits = list(leaves), list[int]()
    for number, (name, first, second) in enumerate(steps):
        value = computed(name, tensors[first % len(tensors)], tensors[second % len(tensors)])
        tensors.append(Noted.apply(value, number, visits))
    # A hook anywhere, here at a leaf that has no part in the graph, and passes look for hooks.
    elsewhere = torch.ones(1, requires_grad=True)
    if general:
        elsewhere.register_hook(lambda grad: None)
    chosen = [tensors[3 + number % len(steps)] for number in roots]
    for number in range(passes):  # the later ones add to gradients that are there
        torch.autograd.backward(chosen, [t.detach() for t in chosen], retain_graph=number < passes - 1)
    return visits, [None if leaf.grad is None else leaf.grad.numpy().tobytes() for leaf in leaves]


@pytest.mark.parametrize("seed", range(10))
def test_both_passes_visit_the_same_nodes_and_give_the_same_bits(seed: int) -> None:
    draw = random.Random(seed)
    for _ in range(12):
        steps = [(draw.choice(OPS), draw.randrange(40), draw.randrange(40)) for _ in range(draw.randint(1, 14))]
        roots = [draw.randrange(40) for _ in range(draw.randint(1, 3))]
        passes = draw.randint(1, 2)
        assert gradients(steps, roots, passes, False) == gradients(steps, roots, passes, True), (steps, roots, passes)


@pytest.fixture
def taken(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The passes that are taken, in order."""
    HOOKED.clear()  # of nodes that other tests left behind
    passes: list[str] = []

    def plain(start: Any, keep: bool) -> Any:
        left = plain_pass(start, keep)
        passes.append("plain" if not left else "left")
        return left

    def general(self: GeneralPass, start: Any) -> None:
        passes.append("general")
        run(self, start)

    run = GeneralPass.run
    monkeypatch.setattr(engine, "plain_pass", plain)
    monkeypatch.setattr(GeneralPass, "run", general)
    return passes


def test_training_takes_the_plain_pass(taken: list[str]) -> None:
    model = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.BatchNorm1d(4), torch.nn.ReLU(), torch.nn.Linear(4, 2))
    optimizer = torch.optim.AdamW(model.parameters())
    for _ in range(2):
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(model(torch.ones(5, 3)), torch.zeros(5, dtype=torch.int64)).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
    assert taken == ["plain", "plain"]


def test_whatever_is_out_of_the_ordinary_takes_the_general_pass(taken: list[str]) -> None:
    x = torch.ones(2, requires_grad=True)
    torch.autograd.grad((x * x).sum(), x)
    (x * x).sum().backward(inputs=x)
    (x * x).sum().backward(create_graph=True)
    x.grad = None
    with torch.autograd.detect_anomaly():
        (x * x).sum().backward()
    assert taken == ["general"] * 4


def test_hooks_take_the_general_pass_as_long_as_their_node_lives(taken: list[str]) -> None:
    x = torch.ones(2, requires_grad=True)
    y = x * x
    y.retain_grad()
    y.sum().backward()
    del y
    (x * x).sum().backward()
    assert taken == ["general", "plain"]


def test_hooks_that_were_removed_and_notes_on_nodes_leave_the_plain_pass(taken: list[str]) -> None:
    x = torch.ones(2, requires_grad=True)
    with x.register_hook(lambda grad: grad * 2):
        (x * x).sum().backward()
    y = x * x
    y.grad_fn.metadata["note"] = 1
    y.sum().backward()
    x.register_hook(lambda grad: grad * 100)
    (x * x).sum().backward()
    assert taken == ["general", "plain", "general"]
    assert x.grad is not None
    assert x.grad.tolist() == [206.0, 206.0]


def test_a_custom_backward_may_hook_nodes_that_are_still_to_come(taken: list[str]) -> None:
    seen = []

    class Hooking(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: Any) -> Any:
            return x.clone()

        @staticmethod
        def backward(ctx: Any, grad: Any) -> Any:
            y.register_hook(lambda grad: grad * 10)
            x.register_hook(lambda grad: seen.append(grad.tolist()))
            return grad

    x = torch.tensor([1.0, 2.0], requires_grad=True)
    first, second = (x * 3).split(1)
    y = torch.cat([second, first])
    (Hooking.apply(y).sum() + x.sum()).backward()
    assert seen == [[31.0, 31.0]]
    assert x.grad is not None
    assert x.grad.tolist() == [31.0, 31.0]
    assert taken == ["left", "general"]


def test_a_saved_gradient_of_before_is_added_to_last(taken: list[str]) -> None:
    x = torch.tensor([2.0, 3.0], requires_grad=True)
    (x * x).sum().backward()
    before = x.grad
    assert before is not None
    (x.sum() * (x * before).sum()).backward()  # backward needs `before`, to which it adds
    assert x.grad is before
    assert taken == ["plain", "plain"]


@pytest.mark.parametrize("general", [False, True])
def test_a_pass_that_raises_leaves_every_grad_as_it_was(general: bool) -> None:
    early, late = torch.ones(2, requires_grad=True), torch.ones(2, requires_grad=True)
    early.grad = torch.ones(2)
    written = late.exp()
    loss = (written.sin() + early).sum()
    written.mul_(2)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward(create_graph=general)
    assert early.grad.tolist() == [1, 1] and late.grad is None and torch.is_grad_enabled()
