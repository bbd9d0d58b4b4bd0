"""Compiled and eager steps take turns, and everything around them may change: the bits are those of eager steps."""

from __future__ import annotations

import copy
import pickle
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import nanotorch as torch
from nanotorch import nn
from nanotorch.capture.recorder import CaptureError
from nanotorch.utils.checkpoint import checkpoint
from tests.support.captured_steps import F, Run, adam, batch, differing, momentum, programs, state

Change = Callable[[Run], Any]


def learning_rate(run: Run) -> None:
    run.optimizer.param_groups[0]["lr"] *= 0.5


def learning_rate_of_a_tensor(run: Run) -> None:
    run.optimizer.param_groups[0]["lr"] = torch.tensor(0.003)


def weight_decay(run: Run) -> None:
    run.optimizer.param_groups[0]["weight_decay"] = 0.1


def further_state(run: Run) -> None:
    run.optimizer.param_groups[0]["amsgrad"] = not run.optimizer.param_groups[0].get("amsgrad", False)


def own_state(run: Run) -> None:
    run.optimizer.load_state_dict(copy.deepcopy(run.optimizer.state_dict()))
    run.model.load_state_dict({name: value * 0.5 for name, value in run.model.state_dict().items()})


def other_memory(run: Run) -> None:
    run.model[0].weight.data = run.model[0].weight.data * 0.5


def memory_written(run: Run) -> None:
    with torch.no_grad():
        run.model[0].weight.mul_(0.5)


def another_dtype(run: Run) -> None:
    run.model.to(torch.float64)
    run.model.to(torch.float32)


def no_gradients(run: Run) -> None:
    run.optimizer.zero_grad()


def zeros_for_gradients(run: Run) -> None:
    run.optimizer.zero_grad(set_to_none=False)


def own_gradient(run: Run) -> None:
    run.model[0].bias.grad = torch.ones(8)


def frozen(run: Run) -> None:
    run.model[0].weight.requires_grad_(False)


def evaluation(run: Run) -> None:
    run.model.eval()


def another_layer(run: Run) -> None:
    run.model[1] = nn.Tanh()


def another_attribute(run: Run) -> None:
    run.model[1] = nn.LeakyReLU(0.1)
    run.model[1].negative_slope = 0.3


def another_parameter(run: Run) -> None:
    run.model[0].weight = nn.Parameter(run.model[0].weight.detach() * 2)


def edited_count(run: Run) -> None:
    for record in run.optimizer.state.values():
        if "step" in record:
            record["step"].fill_(7)


def edited_state(run: Run) -> None:
    record = run.optimizer.state[run.model[0].weight]
    for name in record:
        if name != "step":
            record[name] = record[name] * 0.5


def hook_of_a_module(run: Run) -> None:
    run.model[0].register_forward_hook(lambda module, args, output: output * 0.5)


def hook_of_a_tensor_made_and_removed(run: Run) -> None:
    run.model[0].weight.register_hook(lambda grad: grad * 2).remove()


def a_seed(run: Run) -> None:
    torch.manual_seed(5)


def another_optimizer(run: Run) -> None:
    run.optimizer = adam(run.model.parameters())


CHANGES: list[Change] = [
    learning_rate, learning_rate_of_a_tensor, weight_decay, further_state, own_state, other_memory, memory_written,
    another_dtype, no_gradients, zeros_for_gradients, own_gradient, frozen, evaluation, another_layer,
    another_attribute, another_parameter, edited_count, edited_state, hook_of_a_module,
    hook_of_a_tensor_made_and_removed, a_seed, another_optimizer,
]  # fmt: skip


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
@pytest.mark.parametrize("make", [adam, momentum])
def test_something_changes_between_two_calls(make: Any, change: Change) -> None:
    run, eager = (Run(make, lambda: nn.BatchNorm1d(8), lambda: nn.Dropout(0.2)) for _ in range(2))
    compiled = torch.compile(run.step)
    for number in range(13):
        if number in (5, 9):
            change(run)
            change(eager)
        results = []
        for step in (compiled if number != 7 else run.step, eager.step):
            torch.manual_seed(number)
            results.append(step(*batch(number)).item())
        assert results[0] == results[1]
        assert differing(state(run), state(eager)) == []
    assert programs(compiled) >= 1


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
def test_something_changes_before_every_call(change: Change) -> None:
    run, eager = Run(), Run()
    compiled = torch.compile(run.step, fallback="eager")
    for number in range(8):
        change(run)
        change(eager)
        assert compiled(*batch(number)).item() == eager.step(*batch(number)).item()
        assert differing(state(run), state(eager)) == []


def test_a_new_group_of_parameters() -> None:
    run, eager = Run(), Run()
    compiled = torch.compile(run.step)
    for number in range(10):
        if number == 5:
            for each in (run, eager):
                each.optimizer.add_param_group({"params": [nn.Parameter(torch.zeros(3))], "lr": 0.5})
        assert compiled(*batch(number)).item() == eager.step(*batch(number)).item()
        assert differing(state(run), state(eager)) == []


def test_gradients_that_are_kept_stay_as_they_are() -> None:
    run, eager = Run(), Run()
    compiled = torch.compile(run.step)
    kept: list[list[Any]] = [[], []]
    for number in range(12):
        for each, step, memory in ((run, compiled, kept[0]), (eager, eager.step, kept[1])):
            step(*batch(number))
            if number % 2:
                parameters = list(each.model.parameters())
                memory += [parameters[0].grad, parameters[1].grad.detach(), parameters[2].grad.numpy()[1:]]
        for one, other in zip(*kept, strict=True):
            assert np.array_equal(np.asarray(one), np.asarray(other))
        assert differing(state(run), state(eager)) == []


def test_gradients_that_are_kept_as_tensors_cost_no_program() -> None:
    run = Run()
    compiled = torch.compile(run.step)
    kept = []
    for number in range(8):
        compiled(*batch(number))
        kept += [(p.grad, p.grad.tolist()) for p in run.model.parameters()]
    assert all(grad.tolist() == values for grad, values in kept)
    assert programs(compiled) == 1 and compiled._recorded == 1


def test_results_that_are_kept_stay_as_they_are() -> None:
    run = Run()
    compiled = torch.compile(run.step)
    losses = [compiled(*batch(number)) for number in range(8)]
    assert len({loss.item() for loss in losses}) == 8


def test_accumulation_over_calls() -> None:
    def make(run: Run) -> Any:
        def accumulate(x: Any, y: Any) -> Any:
            loss = F.cross_entropy(run.model(x), y)
            loss.backward()
            return loss

        return accumulate

    run, eager = Run(), Run()
    compiled, plain = torch.compile(make(run)), make(eager)
    for number in range(20):
        assert compiled(*batch(number)).item() == plain(*batch(number)).item()
        assert differing(state(run), state(eager)) == []
        if number % 3 == 2:
            for each in (run, eager):
                each.optimizer.step()
                each.optimizer.zero_grad(set_to_none=number % 2 == 0)
    assert programs(compiled) == 2


def alias(run: Any, kept: list[Any]) -> None:
    run.model[0].bias.grad = run.model[2].weight.grad[0]


ARRIVALS: list[Callable[[Any, list[Any]], Any]] = [
    lambda run, kept: kept.append(run.model[0].weight.grad),
    lambda run, kept: kept.append(run.model[0].weight.grad.numpy()[1:]),
    lambda run, kept: setattr(run.model[0].weight, "grad", torch.ones(8, 4)),
    lambda run, kept: setattr(run.model[0].bias, "grad", torch.zeros(16)[::2]),
    alias,
]


@pytest.mark.parametrize("arrival", ARRIVALS)
def test_gradients_that_come_with_a_call_are_added_to_where_they_lie(arrival: Callable[[Any, list[Any]], Any]) -> None:
    def make(run: Run) -> Any:
        def accumulate(x: Any, y: Any) -> Any:
            loss = F.cross_entropy(run.model(x), y)
            loss.backward()
            return loss

        return accumulate

    runs, kept = (Run(), Run()), ([], [])
    compiled, plain = torch.compile(make(runs[0]), backend="numpy"), make(runs[1])
    for number in range(20):
        assert compiled(*batch(number)).item() == plain(*batch(number)).item()
        for run, of in zip(runs, kept, strict=True):
            if number % 4 == 3:
                run.optimizer.zero_grad()
            if number == 13:
                assert programs(compiled) == 2
                arrival(run, of)
        assert differing(state(runs[0]), state(runs[1])) == []
        assert [each.tolist() for each in kept[0]] == [each.tolist() for each in kept[1]]


def every_other_row(array: Any) -> Any:
    return np.repeat(array, 2, 0)[::2]


def columns_of_a_wider_table(array: Any) -> Any:
    return np.repeat(array, 2, -1).reshape(*array.shape[:-1], -1)[..., : array.shape[-1]]


def one_row_repeated(array: Any) -> Any:
    return np.broadcast_to(array[:1], array.shape)


@pytest.mark.parametrize("backend", ["numpy", "table"])
@pytest.mark.parametrize("laid_out", [every_other_row, columns_of_a_wider_table, one_row_repeated])
def test_arguments_with_gaps_in_memory(laid_out: Callable[[Any], Any], backend: Any) -> None:
    run, eager = Run(), Run()

    def step(run: Run, x: Any, y: Any) -> Any:
        loss = run.step(x * x.T.reshape(-1)[3] + x[2:5].sum(), y)
        return loss, x[1:], x.sum(1)

    compiled = torch.compile(lambda x, y: step(run, x, y), backend=backend)
    for number in range(6):
        x, y = (torch.from_numpy(laid_out(tensor.numpy())) for tensor in batch(number))
        for ours, theirs in zip(compiled(x, y), step(eager, x, y), strict=True):
            np.testing.assert_allclose(
                ours.detach().numpy(), theirs.detach().numpy(), rtol=0 if backend == "numpy" else 1e-4
            )
    assert programs(compiled) == 1


def test_arguments_that_lie_backwards_are_refused() -> None:
    compiled = torch.compile(lambda x: x + 1)
    x = torch.from_numpy(np.arange(4.0)[::-1])
    compiled(x)
    with pytest.raises(CaptureError, match="backwards"):
        compiled(x)


def test_a_ragged_last_batch() -> None:
    run, eager = Run(), Run()
    compiled = torch.compile(run.step)
    for epoch in range(4):
        for number, rows in enumerate((6, 6, 6, 2)):
            assert (
                compiled(*batch(epoch * 4 + number, rows)).item() == eager.step(*batch(epoch * 4 + number, rows)).item()
            )
            assert differing(state(run), state(eager)) == []
    assert programs(compiled) == 2


def test_training_and_evaluation_by_turns() -> None:
    run, eager = (Run(adam, lambda: nn.BatchNorm1d(8), lambda: nn.Dropout(0.5)) for _ in range(2))
    steps = [torch.compile(run.step), eager.step]
    looks = [torch.compile(run.model), eager.model]
    for epoch in range(5):
        for each, step, look in zip((run, eager), steps, looks, strict=True):
            torch.manual_seed(epoch)
            each.model.train()
            each.losses = [step(*batch(number)).item() for number in range(3)]
            each.model.eval()
            with torch.no_grad():
                each.losses += look(batch(9)[0]).tolist()
        assert run.losses == eager.losses
        assert differing(state(run), state(eager)) == []
    assert programs(steps[0]) == programs(looks[0]) == 1


def test_two_models_with_two_optimizers() -> None:
    class Pair:
        def __init__(self) -> None:
            torch.manual_seed(0)
            self.first, self.second = nn.Linear(4, 4), nn.Linear(4, 3)
            self.model = nn.ModuleList([self.first, self.second])
            self.optimizers = [adam(self.first.parameters()), momentum(self.second.parameters())]
            self.optimizer = self.optimizers[0]

        def step(self, x: Any, y: Any) -> dict[str, Any]:
            hidden = self.first(x).tanh()
            loss = F.cross_entropy(self.second(hidden), y)
            for optimizer in self.optimizers:
                optimizer.zero_grad()
            loss.backward()
            for optimizer in self.optimizers:
                optimizer.step()
            self.optimizers[0].step()  # twice, with the same gradients
            return {"loss": loss, "parts": (hidden.detach(), [loss.detach() * 2, None])}

    pair, eager = Pair(), Pair()
    compiled = torch.compile(pair.step)
    for number in range(7):
        one, other = compiled(*batch(number)), eager.step(*batch(number))
        assert one.keys() == other.keys()
        assert one["loss"].item() == other["loss"].item()
        assert one["parts"][0].tolist() == other["parts"][0].tolist()
        assert one["parts"][1][0].item() == other["parts"][1][0].item() and one["parts"][1][1] is None
        assert differing(state(pair), state(eager)) == []
    assert programs(compiled) == 1


def test_nested_arguments_numbers_and_models() -> None:
    def step(run: Run, data: dict[str, Any], pair: tuple[Any, list[Any]], *, scale: float = 1.0) -> Any:
        return run.step(data["x"] * scale + pair[0] * pair[1][0], data["y"])

    compiled = torch.compile(step)
    runs = [(Run(), Run()) for _ in range(2)]
    for number in range(10):
        for run, eager in runs:
            x, y = batch(number)
            one, other = torch.ones(4) * number, torch.tensor(0.1)
            scale = 0.5 if number % 2 else 2.0
            found = compiled(run, {"x": x, "y": y}, (one, [other]), scale=scale)
            assert found.item() == step(eager, {"x": x, "y": y}, (one, [other]), scale=scale).item()
            assert differing(state(run), state(eager)) == []
    assert programs(compiled) == 4


def test_the_same_tensor_twice() -> None:
    def make(run: Run) -> Any:
        def step(x: Any, y: Any) -> Any:
            run.optimizer.zero_grad()
            loss = F.mse_loss(run.model(x).sum(1), y.sum(1))
            loss.backward()
            run.optimizer.step()
            return loss

        return step

    run, eager = Run(), Run()
    compiled, plain = torch.compile(make(run)), make(eager)
    for number in range(6):
        x, _ = batch(number)
        assert compiled(x, x).item() == plain(x, x).item()
        assert differing(state(run), state(eager)) == []
    assert programs(compiled) == 1


def test_a_method_of_a_class() -> None:
    class Trainer:
        def __init__(self) -> None:
            self.run = Run()
            self.calls = 0

        @torch.compile
        def step(self, x: Any, y: Any) -> Any:
            return self.run.step(x, y)

    trainer, eager = Trainer(), Run()
    for number in range(6):
        trainer.calls += 1  # what the step does not read may change
        assert trainer.step(*batch(number)).item() == eager.step(*batch(number)).item()
    assert programs(Trainer.step) == 1
    assert Trainer.step.__name__ == "step"


def test_copies_have_programs_of_their_own() -> None:
    model = torch.compile(nn.Sequential(nn.Linear(4, 8), nn.ReLU()))
    x = batch(0)[0]
    with torch.no_grad():
        expected = [model(x) for _ in range(4)][-1].tolist()
        for other in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
            assert [other(x).tolist() for _ in range(4)] == [expected] * 4
            other.function[0].weight.mul_(2)
            assert other(x).tolist() != expected
        assert model(x).tolist() == expected
    assert len(list(model.parameters())) == 2


def test_threads_take_turns() -> None:
    model = nn.Linear(4, 4)
    compiled = torch.compile(model)
    inputs = [batch(number)[0] for number in range(8)]
    failures: list[Any] = []
    with torch.no_grad():
        expected = [model(x).tolist() for x in inputs]

    def work(start: int) -> None:
        with torch.no_grad():
            for turn in range(200):
                place = (start + turn) % 8
                if compiled(inputs[place]).tolist() != expected[place]:
                    failures.append(place)

    threads = [threading.Thread(target=work, args=(start,)) for start in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert programs(compiled) == 1


def adversarial(run: Run) -> Any:
    def step(x: Any, y: Any) -> Any:
        run.optimizer.zero_grad()
        z = x.clone().requires_grad_()
        F.cross_entropy(run.model(z), y).backward()
        return run.step((z + 0.1 * z.grad.sign()).detach(), y)

    return step


def gradient_penalty(run: Run) -> Any:
    def step(x: Any, y: Any) -> Any:
        run.optimizer.zero_grad()
        z = x.clone().requires_grad_()
        (slope,) = torch.autograd.grad(run.model(z).tanh().sum(), z, create_graph=True)
        loss = F.cross_entropy(run.model(x), y) + ((slope.norm(dim=1) - 1) ** 2).mean()
        loss.backward()
        run.optimizer.step()
        return loss

    return step


def gradients_that_stay(run: Run) -> Any:
    def step(x: Any, y: Any) -> Any:
        run.optimizer.zero_grad(set_to_none=False)
        loss = F.cross_entropy(run.model(x), y)
        loss.backward()
        run.optimizer.step()
        return loss

    return step


def recomputed(run: Run) -> Any:
    def step(x: Any, y: Any) -> Any:
        run.optimizer.zero_grad()
        result = checkpoint(run.model, x, use_reentrant=False)
        loss = F.cross_entropy(result, y)
        loss.backward()
        run.optimizer.step()
        return loss

    return step


def by_a_closure(run: Run) -> Any:
    def step(x: Any, y: Any) -> Any:
        def closure() -> Any:
            run.optimizer.zero_grad()
            loss = F.cross_entropy(run.model(x), y)
            loss.backward()
            return loss

        return run.optimizer.step(closure)

    return step


def reparametrized(run: Run) -> Any:
    torch.manual_seed(1)
    nn.utils.parametrizations.weight_norm(run.model[0])
    nn.utils.parametrizations.spectral_norm(run.model[2])
    run.optimizer = adam(run.model.parameters())
    return run.step


def flat(run: Run) -> Any:
    parameters = nn.utils.flatten_parameters(run.model.parameters())
    run.optimizer = adam(run.model.parameters())

    def step(x: Any, y: Any) -> Any:
        run.optimizer.zero_grad()
        loss = F.cross_entropy(run.model(x), y)
        loss.backward()
        nn.utils.clip_grad_norm_(parameters, 0.1)
        run.optimizer.step()
        return loss

    return step


def noise_on_parameters(run: Run) -> Any:
    def step(x: Any, y: Any) -> Any:
        loss = run.step(x + 0.1 * torch.randn_like(x), y)
        with torch.no_grad():
            for parameter in run.model.parameters():
                parameter.add_(torch.randn(parameter.shape) * 1e-3)
        return loss

    return step


def without_an_optimizer(run: Run) -> Any:
    parameters = list(run.model.parameters())

    def step(x: Any, y: Any) -> Any:
        loss = F.cross_entropy(run.model(x), y)
        slopes = torch.autograd.grad(loss, parameters)
        with torch.no_grad():
            for parameter, slope in zip(parameters, slopes, strict=True):
                parameter.sub_(0.1 * slope)
        return loss.detach()

    return step


KINDS = [
    adversarial, gradient_penalty, gradients_that_stay, recomputed, by_a_closure, reparametrized, flat,
    noise_on_parameters, without_an_optimizer,
]  # fmt: skip


@pytest.mark.parametrize("make", KINDS, ids=lambda make: make.__name__)
def test_steps_of_many_kinds(make: Any) -> None:
    run, eager = Run(), Run()
    compiled, plain = torch.compile(make(run)), make(eager)
    for number in range(7):
        results = []
        for step in (compiled if number != 5 else compiled.function, plain):
            torch.manual_seed(number)
            results.append(step(*batch(number)).item())
        assert results[0] == results[1]
        assert differing(state(run), state(eager)) == []
    assert programs(compiled) == 1
