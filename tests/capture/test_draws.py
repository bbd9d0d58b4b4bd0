"""Random numbers of captured steps: drawn anew at every call, in the order in which the plain function draws them."""

from __future__ import annotations

from typing import Any

import numpy as np

import nanotorch as torch
from nanotorch import Tensor, nn
from nanotorch.capture.entry import compile


def agree(plain: Any, compiled: Any, seeds: Any) -> None:
    """Compare a function with what is compiled of it: what each call returns, and where it leaves the generator."""
    x = torch.tensor([[0.25, -1.0, 2.0], [0.5, 3.0, -0.5]])
    for seed in seeds:
        results = []
        for function in (plain, compiled):
            torch.manual_seed(seed)
            results.append(([t.numpy() for t in function(x)], torch.get_rng_state()))
        (expected, state), (found, after) = results
        for one, other in zip(expected, found, strict=True):
            assert one.dtype == other.dtype and np.array_equal(one, other)
        assert state == after


def test_every_draw_is_drawn_by_every_call() -> None:
    def numbers(x: Tensor) -> list[Tensor]:
        torch.rand(7)  # for nobody: what follows comes after it all the same
        drawn = [torch.randn_like(x), torch.randint(9, (3,)), torch.randperm(4), torch.rand(3, dtype=torch.float16)]
        filled = [torch.zeros(3).uniform_(-1, 1), torch.empty(3).exponential_(), torch.empty(3).bernoulli_(0.5)]
        return [x + 1, *drawn, *filled, nn.functional.dropout(x, 0.5), nn.functional.rrelu(x, training=True)]

    compiled = compile(numbers)
    agree(numbers, compiled, range(6))
    assert [captured.confirmed for captured in compiled._programs.popitem()[1]] == [True]


def test_a_question_about_a_draw_keeps_the_order_of_draws() -> None:
    def numbers(x: Tensor) -> list[Tensor]:
        first, chance = torch.rand(3), torch.rand(3)
        return [x * first, torch.bernoulli(chance)]

    compiled = compile(numbers)
    agree(numbers, compiled, range(6))
    assert [captured.confirmed for captured in compiled._programs.popitem()[1]] == [True]


def test_the_seed_of_counted_dropout_is_read_by_every_call() -> None:
    def dropped(x: Tensor) -> list[Tensor]:
        with torch.random.dropout_counters(5):
            return [nn.functional.dropout(x.repeat(8, 1), 0.5)]

    compiled = compile(dropped)
    agree(dropped, compiled, [1, 1, 1, 2, 3, 1])
    assert [captured.confirmed for captured in compiled._programs.popitem()[1]] == [True]
