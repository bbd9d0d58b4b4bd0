"""Fits that are trained together, in one process and in one call, leave the bits of fits that are trained alone."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

import nanotorch as torch
from nanotorch import nn
from nanotorch.ops.create.random import drawing_from
from nanotorch.train.config.loading import loads
from nanotorch.train.fit.build import Setup, build
from nanotorch.train.fit.chunks import Chunks, Due
from nanotorch.train.fit.loop import fit
from nanotorch.train.fit.prepare import prepare

BASE = """
name: one
seed: 3
device: cpu
data: {name: iris}
model: {hidden: [6], dropout: 0.3}
loss: {name: CrossEntropyLoss}
optimizer: {name: Adam, lr: 0.02}
train: {epochs: 4, batch_size: 16}
"""  # 90 rows: 6 steps an epoch, the last of 10 rows


def made(*overrides: str, compile: Any = True) -> tuple[Setup, Chunks]:
    config = loads(BASE, overrides=overrides)
    setup = build(config, prepare(config))
    training, loader, _, options = setup
    return setup, Chunks(training, loader, options, options.accumulate, compile)


def events_of(setup: Setup, chunks: Chunks | None) -> Iterator[Any]:
    return fit(setup.training, setup.loader, setup.parts["validation"], setup.options, chunks=chunks)


def left(setup: Setup) -> dict[str, Any]:
    """All that a training decides by: its state, its weights, those of its optimizer, its records."""
    training = setup.training
    found: dict[str, Any] = {"state": training.state()}
    for name, tensor in {**training.model.state_dict(), **training.weights()}.items():
        found[name] = tensor.numpy().tobytes()
    for number, state in training.optimizer.state_dict()["state"].items():
        for name, value in state.items():
            found[f"{number}.{name}"] = value.numpy().tobytes()
    found["records"] = [{k: v for k, v in record.items() if k != "seconds"} for record in training.history]
    return found


class Noise(nn.Module):
    """Draws without a generator, as a model of the user's may."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        return input + 0.1 * torch.randn_like(input)


@pytest.mark.parametrize("compile", [True, False])
@pytest.mark.parametrize("noise", [True, False])
def test_trainings_draw_side_by_side_what_each_draws_alone(compile: bool, noise: bool) -> None:
    def built(seed: int) -> tuple[Setup, Chunks]:
        setup, chunks = made(f"seed={seed}", compile=compile)
        if noise:
            setup.training.model.append(Noise())
        return setup, chunks

    alone = [built(seed) for seed in (1, 2)]
    for one in alone:
        list(events_of(*one))
    before = torch.get_rng_state()
    side = [built(seed) for seed in (1, 2)]
    torch.manual_seed(0)
    open_ = [events_of(*one) for one in side]
    while any([next(events, None) is not None for events in open_]):
        torch.rand(1)  # draws between the steps are nothing to them
    torch.set_rng_state(before)
    assert [left(setup) for setup, _ in side] == [left(setup) for setup, _ in alone]
    states = [setup.training.state()["generators"]["dropout"] for setup, _ in side]
    assert states[0]["seed"] != states[1]["seed"]
    assert (states[0] == setup_state(1)) is not noise


def setup_state(seed: int) -> Any:
    return made(f"seed={seed}")[0].training.generator.get_state()


def test_a_program_is_of_the_generator_that_it_was_recorded_with() -> None:
    ours = torch.Generator().manual_seed(5)
    step = torch.compile(lambda x: nn.functional.dropout(x, 0.5) + torch.rand(3), backend="numpy")
    x = torch.ones(3)
    drawn: list[Any] = []
    for number in range(12):
        torch.manual_seed(7)
        for generator in (ours.manual_seed(number), None):
            with drawing_from(torch.default_generator if generator is None else generator):
                drawn.append((step(x).tolist(), torch.get_rng_state()["state"]))
    expected: list[Any] = []
    for number in range(12):
        for seed in (number, 7):
            torch.manual_seed(seed)
            expected.append(((nn.functional.dropout(x, 0.5) + torch.rand(3)).tolist(), torch.get_rng_state()["state"]))
    assert drawn == expected


def test_a_checkpointed_region_draws_again_from_the_generator_of_its_forward_pass() -> None:
    ours = torch.Generator().manual_seed(5)
    x = torch.ones(8, requires_grad=True)
    with drawing_from(ours):
        y = torch.utils.checkpoint.checkpoint(lambda x: x.sin() * torch.rand(8), x, use_reentrant=False)
    state = ours.get_state()
    y.sum().backward()
    assert ours.get_state() == state
    assert torch.equal(x.grad, x.detach().cos() * torch.rand(8, generator=torch.Generator().manual_seed(5)))


@pytest.mark.parametrize("compile", ["auto", True])
def test_steps_that_are_due_may_be_taken_by_whoever_iterates(compile: Any) -> None:
    """Some or all of them, in the first epoch or later; what is not taken the fit takes."""
    alone, _ = made()
    list(events_of(alone, None))
    for taken in (set(range(20)), {0}, {1, 2}, set[int]()):
        setup, chunks = made(compile=compile)
        seen = 0
        for event in events_of(setup, chunks):
            if isinstance(event, Due):
                assert setup.training.step == event.numbers[0] - 1
                if seen in taken:
                    event.count = min(event.count, 2)
                    event.given = chunks._run(event)
                seen += 1
        assert left(setup) == left(alone)
