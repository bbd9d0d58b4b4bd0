"""What no program can repeat is refused, with the line and with everything as it was; or it runs as ever, if asked."""

from __future__ import annotations

import random
import re
import warnings
from collections import deque
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import nanotorch as torch
from nanotorch import nn
from nanotorch.capture.recorder import CaptureError
from tests.support.captured_steps import F, Run, batch, differing, programs, same, state

Step = Callable[[Run], Callable[..., Any]]


def training(run: Run, between: Callable[[Any], Any]) -> Callable[..., Any]:
    """A step that does something with the loss before it goes backward."""

    def step(x: Any, y: Any) -> Any:
        run.optimizer.zero_grad()
        loss = F.cross_entropy(run.model(x), y)
        between(loss)
        loss.backward()
        run.optimizer.step()
        return loss

    return step


def item(run: Run) -> Any:
    return training(run, lambda loss: loss.item())  # HERE


def as_list(run: Run) -> Any:
    return training(run, lambda loss: loss.tolist())  # HERE


def as_array(run: Run) -> Any:
    return training(run, lambda loss: loss.detach().numpy())  # HERE


def branch(run: Run) -> Any:
    return training(run, lambda loss: 1 if loss > 2 else 0)  # HERE


def swallowed(run: Run) -> Any:
    def look(loss: Any) -> Any:
        try:
            return loss.item()  # HERE
        except RuntimeError:
            return None

    return training(run, look)


def mask(run: Run) -> Any:
    def step(x: Any, y: Any) -> Any:
        run.optimizer.zero_grad()
        loss = (x[x > 0] * run.model[0].weight[0, 0]).sum()  # HERE
        loss.backward()
        run.optimizer.step()
        return loss

    return step


def positions(run: Run) -> Any:
    return training(run, lambda loss: loss.reshape(1).nonzero())  # HERE


def kept_in_a_list(run: Run) -> Any:
    kept: list[Any] = []
    return training(run, lambda loss: kept.append(loss.detach()))  # HERE


def kept_in_an_attribute(run: Run) -> Any:
    return training(run, lambda loss: setattr(run, "last", loss))


def counter(run: Run) -> Any:
    count = 0

    def step(x: Any, y: Any) -> Any:
        nonlocal count
        count += 1  # HERE
        return run.step(x * count, y)

    return step


def attribute_counter(run: Run) -> Any:
    run.model.calls = 0

    def step(x: Any, y: Any) -> Any:
        run.model.calls += 1  # HERE
        return run.step(x, y)

    return step


def numbers_of_an_iterator(run: Run) -> Any:
    numbers = iter(range(1, 1000))

    def step(x: Any, y: Any) -> Any:
        return run.step(x * next(numbers), y)  # HERE

    return step


def array_made_within(run: Run) -> Any:
    draw = np.random.default_rng(0)

    def step(x: Any, y: Any) -> Any:
        noise = torch.from_numpy(draw.standard_normal(4).astype(np.float32))
        return run.step(x + noise, y)

    return step


def writes_into_its_argument(run: Run) -> Any:
    def step(x: Any, y: Any) -> Any:
        x.mul_(2)  # HERE
        return run.step(x, y)

    return step


def replaces_memory(run: Run) -> Any:
    def step(x: Any, y: Any) -> Any:
        loss = run.step(x, y)
        run.model[0].bias.data = run.model[0].bias.data * 0.5  # HERE
        return loss

    return step


def average_of_all_batches(run: Run) -> Any:
    norm = nn.BatchNorm1d(4, momentum=None)
    return lambda x, y: run.step(norm(x), y)  # HERE


def finite_norms(run: Run) -> Any:
    def clip(loss: Any) -> None:
        nn.utils.clip_grad_norm_(run.model.parameters(), 1.0, error_if_nonfinite=True)  # HERE

    def step(x: Any, y: Any) -> Any:
        loss = F.cross_entropy(run.model(x), y)
        loss.backward()
        clip(loss)
        run.optimizer.step()
        return loss

    return step


def hook_of_an_optimizer(run: Run) -> Any:
    run.optimizer.register_step_post_hook(lambda *arguments: None)
    return run.step


def hook_of_a_parameter(run: Run) -> Any:
    run.model[0].weight.register_hook(lambda grad: grad * 2)
    return run.step


def unreachable(run: Run) -> Any:
    boxes = iter([torch.zeros(1)] * 1000)

    def step(x: Any, y: Any) -> Any:
        loss = run.step(x, y)
        next(boxes).add_(1)  # HERE
        return loss

    return step


def another_generator(run: Run) -> Any:
    def step(x: Any, y: Any) -> Any:
        generator = torch.Generator().manual_seed(3)
        return run.step(x + torch.rand(4, generator=generator), y)  # HERE

    return step


def result_of_another_kind(run: Run) -> Any:
    def step(x: Any, y: Any) -> Any:
        run.step(x, y)
        return {1, 2}

    return step


def python_numbers(run: Run) -> Any:
    return lambda x, y: run.step(x * (2.0 if random.random() > 2 else 1.0), y)


def numpy_numbers(run: Run) -> Any:
    return lambda x, y: run.step(x * (2.0 if np.random.rand() > 2 else 1.0), y)


def numbers_of_a_generator(run: Run) -> Any:
    draw = np.random.default_rng(0)
    return lambda x, y: run.step(x * (2.0 if draw.random() > 2 else 1.0), y)


def a_seed_within(run: Run) -> Any:
    def step(x: Any, y: Any) -> Any:
        torch.manual_seed(3)  # HERE
        return run.step(x, y)

    return step


def a_deque(run: Run) -> Any:
    seen: Any = deque(maxlen=100)

    def step(x: Any, y: Any) -> Any:
        seen.append(1)  # HERE
        return run.step(x, y)

    return step


def a_rate_set_within(run: Run) -> Any:
    def step(x: Any, y: Any) -> Any:
        run.optimizer.param_groups[0]["lr"] *= 0.9
        return run.step(x, y)

    return step


def a_scheduler_within(run: Run) -> Any:
    scheduler = torch.optim.lr_scheduler.ExponentialLR(run.optimizer, 0.9)

    def step(x: Any, y: Any) -> Any:
        loss = run.step(x, y)
        scheduler.step()  # HERE
        return loss

    return step


REFUSED: list[Step] = [
    python_numbers, numpy_numbers, numbers_of_a_generator, a_seed_within, a_deque, a_rate_set_within,
    a_scheduler_within,
    item, as_list, as_array, branch, swallowed, mask, positions, kept_in_a_list, kept_in_an_attribute, counter,
    attribute_counter, numbers_of_an_iterator, array_made_within, writes_into_its_argument, replaces_memory,
    average_of_all_batches, finite_norms, hook_of_an_optimizer, hook_of_a_parameter, unreachable, another_generator,
    result_of_another_kind,
]  # fmt: skip


def line_of(step: Step) -> str | None:
    """The line that is marked in the code of a step."""
    with open(__file__) as file:
        lines = file.readlines()
    for number in range(step.__code__.co_firstlineno - 1, len(lines)):
        if "# HERE" in lines[number]:
            return f"test_refusals.py:{number + 1}"
        if number >= step.__code__.co_firstlineno and lines[number].startswith("def "):
            return None
    return None


@pytest.mark.parametrize("make", REFUSED, ids=lambda make: make.__name__)
def test_a_refusal_names_the_line_and_leaves_everything_as_it_was(make: Step) -> None:
    run, eager = Run(), Run()
    compiled, plain = torch.compile(make(run)), make(eager)
    seen = 0
    for number in range(4):
        before, drawn = state(run), np.random.get_state()[1].copy()
        try:
            compiled(*batch(number))
        except CaptureError as error:
            seen += 1
            line = line_of(make)
            assert line is None or line in str(error)
            assert differing(state(run), before) == []
            assert same(np.random.get_state()[1], drawn)
        else:
            plain(*batch(number))
            assert not differing(state(run), state(eager))
    assert seen >= 1
    assert programs(compiled) == 0


@pytest.mark.parametrize("make", REFUSED, ids=lambda make: make.__name__)
def test_with_a_fallback_it_runs_as_ever_and_says_so_once(make: Step) -> None:
    run, eager = Run(), Run()
    compiled, plain = torch.compile(make(run), fallback="eager"), make(eager)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for number in range(6):
            torch.manual_seed(number)
            one = compiled(*batch(number))
            torch.manual_seed(number)
            other = plain(*batch(number))
            assert not isinstance(one, torch.Tensor) or one.tolist() == other.tolist()
            assert not differing(state(run), state(eager))
    warned = [warning for warning in caught if "runs as ever" in str(warning.message)]
    said = [str(warning.message) for warning in warned]
    assert all(warning.filename == __file__ for warning in warned)
    line = line_of(make)
    assert len(said) == 1
    assert line is None or line in said[0]


def test_python_values_of_a_refused_call_are_put_back() -> None:
    run, seen = Run(), []

    def step(x: Any, y: Any) -> Any:
        seen.append(len(seen))
        loss = run.step(x, y)
        loss.item()
        return loss

    compiled = torch.compile(step)
    compiled(*batch(0))
    for _ in range(3):
        with pytest.raises(CaptureError):
            compiled(*batch(1))
    assert seen == [0]


def test_a_scheduler_within_is_told_where_it_belongs() -> None:
    compiled = torch.compile(a_scheduler_within(Run()))
    compiled(*batch(0))
    with pytest.raises(CaptureError, match="between="):
        compiled(*batch(1))


def test_arguments_that_share_memory_with_a_parameter() -> None:
    run = Run()
    compiled = torch.compile(
        lambda x, y: run.step(x @ run.model[0].weight.detach().T @ run.model[0].weight.detach(), y)
    )
    compiled(*batch(0))
    shared = run.model[0].weight.detach()[:6]
    y = batch(0)[1]
    before = state(run)
    with pytest.raises(CaptureError, match=r"argument 0 .* shares memory with .*weight: pass tensor.clone"):
        compiled(shared, y)
    assert not differing(state(run), before)
    for number in range(4):
        compiled(*batch(number))
    assert programs(compiled) == 1
    with pytest.raises(CaptureError, match="shares memory"):
        compiled(shared, y)


def test_an_error_of_the_function_is_the_plain_error() -> None:
    run, eager = Run(), Run()
    compiled = torch.compile(run.step)
    x, y = batch(0)
    wrong = [(x[:, :3].contiguous(), y), (x, y + 1), (x, y[:4]), (x.double(), y)]
    for number in range(8):
        compiled(*batch(number))
        eager.step(*batch(number))
        for arguments in wrong:
            errors = []
            for step in (compiled, eager.step):
                with pytest.raises(Exception) as caught:
                    step(*arguments)
                errors.append(caught)
            assert type(errors[0].value) is type(errors[1].value)
            assert str(errors[0].value) == str(errors[1].value)
            assert not differing(state(run), state(eager))
    assert programs(compiled) == 1


def test_a_singular_matrix_in_a_program_is_the_plain_error_in_the_plain_state() -> None:
    norms: list[nn.BatchNorm1d] = []

    def make(run: Run) -> Callable[..., Any]:
        norms.append(nn.BatchNorm1d(4))
        norm = norms[-1]

        def step(x: Any, y: Any, matrix: Any) -> Any:
            return run.step(norm(x) @ torch.linalg.inv(matrix), y)

        return step

    run, eager = Run(), Run()
    compiled, plain = torch.compile(make(run)), make(eager)
    for number in range(5):
        matrix = torch.eye(4) * (number + 1)
        assert compiled(*batch(number), matrix).item() == plain(*batch(number), matrix).item()
    assert programs(compiled) == 1
    errors = []
    for step in (compiled, plain):
        with pytest.raises(RuntimeError) as caught:
            step(*batch(5), torch.zeros(4, 4))
        errors.append(str(caught.value))
    assert errors[0] == errors[1]
    assert not differing(state(run), state(eager))
    assert norms[0].running_mean.tolist() == norms[1].running_mean.tolist()


def test_too_many_programs() -> None:
    run, eager = Run(), Run()
    compiled = torch.compile(run.step)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for rows in range(2, 24):
            for number in range(3):
                assert compiled(*batch(number, rows)).item() == eager.step(*batch(number, rows)).item()
    assert programs(compiled) == 16
    assert len([w for w in caught if re.search("16 programs were recorded", str(w.message))]) == 1
    assert not differing(state(run), state(eager))


@pytest.mark.filterwarnings("ignore:the compiled function")
@pytest.mark.parametrize("make", [float, lambda number: torch.nn.Linear(4, 4)], ids=["numbers", "objects"])
@pytest.mark.parametrize("fallback", [None, "eager"])
def test_arguments_of_ever_new_kinds_are_not_remembered(make: Any, fallback: Any) -> None:
    def function(x: Any, other: Any) -> Any:
        return (x * other if isinstance(other, float) else other(x)) * (1.0 if fallback is None else x.sum().item())

    compiled = torch.compile(function, fallback=fallback)
    with torch.no_grad():
        for number in range(40):
            other = make(number)
            assert compiled(*batch(number)[:1], other).tolist() == function(*batch(number)[:1], other).tolist()
    assert len(compiled._programs) <= 17
    assert len(compiled._roots) <= 18
    assert len(compiled._as_ever) <= 17
