"""A program runs only where all is there that it was recorded with; what it holds for nobody is let go."""

from __future__ import annotations

import enum
import gc
import sys
import types
import weakref
from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np
import pytest

import nanotorch as torch
from nanotorch import nn
from nanotorch.autograd.graph.interpreter import Interpreter, installed
from nanotorch.backend.numpy_backend import owner
from nanotorch.capture import recording
from nanotorch.capture.reach.reachable import Reachable
from nanotorch.capture.recorder import Recorder
from tests.support.captured_steps import Run, batch, differing, programs, state

SCALE = 2.0
TABLE = {"scale": 2.0, "deep": [1.0, (2.0,)]}


class Config:
    """A class of the user's, with a constant of its own."""

    factor = 1.0
    shared: ClassVar = {"a": [1.0]}

    def __init__(self) -> None:
        self.scale, self.parts = 2.0, {"a": [1.0]}

    def scaled(self, x: Any) -> Any:
        return x * self.scale * self.factor * self.parts["a"][0]


class Slotted:
    """A class whose objects have no dictionary."""

    __slots__ = ("scale",)

    def __init__(self) -> None:
        self.scale = 2.0


class Mode(enum.Enum):
    """What a step looks at by identity."""

    PLAIN = 1
    DOUBLE = 2


class Model(nn.Module):
    """A module with plain attributes."""

    def __init__(self) -> None:
        super().__init__()
        self.inner, self.scale, self.sizes = nn.Linear(4, 4), 2.0, [1.0]

    def forward(self, x: Any) -> Any:
        return self.inner(x) * self.scale * self.sizes[0] * SCALE


def changes() -> list[tuple[str, Callable[[], tuple[Callable[..., Any], Callable[[], Any]]]]]:
    """Functions, each with what changes around it."""

    def of_a_cell() -> Any:
        scale = 2.0

        def change() -> None:
            nonlocal scale
            scale = 3.0

        return (lambda x: x * scale), change

    def of_a_global() -> Any:
        module = sys.modules[__name__]
        return (lambda x: x * SCALE), (lambda: setattr(module, "SCALE", module.SCALE + 1))

    def of_a_global_read_by_a_module() -> Any:
        module, model = sys.modules[__name__], Model()
        return model, (lambda: setattr(module, "SCALE", module.SCALE + 1))

    def of_a_dictionary() -> Any:
        return (lambda x: x * TABLE["scale"]), (lambda: TABLE.update(scale=TABLE["scale"] + 1))

    def within_a_dictionary() -> Any:
        return (lambda x: x * TABLE["deep"][0]), (lambda: TABLE["deep"].__setitem__(0, TABLE["deep"][0] + 1))

    def of_the_length_of_a_list() -> Any:
        parts = [1, 2]
        return (lambda x: x * len(parts)), (lambda: parts.append(3))

    def of_an_object() -> Any:
        config = Config()
        return (lambda x: config.scaled(x)), (lambda: setattr(config, "scale", 3.0))

    def within_an_object() -> Any:
        config = Config()
        return (lambda x: config.scaled(x)), (lambda: config.parts["a"].__setitem__(0, 5.0))

    def of_a_class() -> Any:
        config = Config()
        return (lambda x: config.scaled(x)), (lambda: setattr(Config, "factor", Config.factor + 1))

    def of_a_class_by_its_name() -> Any:
        return (lambda x: x * Config.factor), (lambda: setattr(Config, "factor", Config.factor + 1))

    def within_a_class() -> Any:
        return (lambda x: x * Config.shared["a"][0]), (lambda: Config.shared["a"].__setitem__(0, 5.0))

    def of_an_object_that_hides_the_class_s() -> Any:
        config = Config()
        return (lambda x: config.scaled(x)), (lambda: setattr(config, "factor", 7.0))

    def of_a_slot() -> Any:
        holder = Slotted()
        return (lambda x: x * holder.scale), (lambda: setattr(holder, "scale", holder.scale + 1))

    def of_an_attribute_by_any_name() -> Any:
        config, parts = Config(), ("sc", "ale")
        return (lambda x: x * getattr(config, "".join(parts))), (lambda: setattr(config, "scale", 3.0))

    def of_a_member_of_an_enum() -> Any:
        box = [Mode.DOUBLE]
        return (lambda x: x * 2 if box[0] is Mode.DOUBLE else x), (lambda: box.__setitem__(0, Mode.PLAIN))

    def of_a_default() -> Any:
        def function(x: Any, scale: float = 2.0) -> Any:
            return x * scale

        return function, (lambda: setattr(function, "__defaults__", (3.0,)))

    def of_the_sign_of_a_zero() -> Any:
        box = [0.0]
        return (lambda x: torch.atan2(x * 0, torch.tensor(box[0]))), (lambda: box.__setitem__(0, -0.0))

    def of_an_array_that_is_copied() -> Any:
        array = np.ones(4, np.float32)
        return (lambda x: x * torch.tensor(array) + float(array[0])), (lambda: array.__imul__(3))

    def of_an_attribute_of_a_module() -> Any:
        model = Model()
        return model, (lambda: setattr(model, "scale", 3.0))

    def within_an_attribute_of_a_module() -> Any:
        model = Model()
        return model, (lambda: model.sizes.__setitem__(0, 4.0))

    def of_a_function() -> Any:
        helper = [lambda x: x * 2]
        return (lambda x: helper[0](x)), (lambda: helper.__setitem__(0, lambda x: x * 3))

    def of_a_module_of_python() -> Any:
        settings = types.ModuleType("settings")
        settings.scale = 2.0  # type: ignore[attr-defined]
        return (lambda x: x * settings.scale), (lambda: setattr(settings, "scale", 3.0))

    def of_a_tensor() -> Any:
        box = {"weight": torch.ones(4)}
        return (lambda x: x * box["weight"]), (lambda: box.update(weight=torch.ones(4) * 3))

    def of_an_array() -> Any:
        array = np.ones(4, np.float32)
        return (lambda x: x * torch.from_numpy(array)), (lambda: array.__imul__(3))

    def of_the_type_of_a_number() -> Any:
        box = [2]
        return (lambda x: (x * 0 + 1).to(torch.int64) * box[0]), (lambda: box.__setitem__(0, 2.0))

    def of_a_builtin() -> Any:
        namespace: dict[str, Any] = {"__name__": "mine"}
        exec("def function(x): return x * max(2, 3)", namespace)
        return namespace["function"], (lambda: namespace.update(max=min))

    def of_the_class_of_an_object() -> Any:
        config, other = Config(), type("Other", (Config,), {"scaled": lambda self, x: x * 7})
        return (lambda x: config.scaled(x)), (lambda: setattr(config, "__class__", other))

    def of_the_class_of_a_module() -> Any:
        model = nn.Sequential(nn.Linear(4, 4), nn.ReLU())
        return model, (lambda: setattr(model[1], "__class__", nn.Tanh))

    def of_the_default_dtype() -> Any:
        return (lambda x: x.sum() + torch.ones(2)), (lambda: torch.set_default_dtype(torch.float64))

    return [(make.__name__, make) for name, make in locals().items() if callable(make)]


CHANGES = changes()


@pytest.mark.parametrize("make", [make for _, make in CHANGES], ids=[name for name, _ in CHANGES])
@pytest.mark.parametrize("mode", [torch.no_grad, torch.enable_grad])
def test_a_value_around_a_function_changes(make: Any, mode: Any) -> None:
    function, change = make()
    compiled = torch.compile(function)
    try:
        with mode():
            for number in range(11):
                if number in (4, 8):
                    change()
                x, _ = batch(number)
                found, expected = compiled(x), function(x)
                assert found.dtype == expected.dtype
                assert found.tolist() == expected.tolist()
    finally:
        torch.set_default_dtype(torch.float32)
    assert programs(compiled) >= 1


def test_what_the_code_does_not_mention_may_change() -> None:
    class Trainer:
        def __init__(self) -> None:
            self.run, self.epoch, self.history = Run(), 0, []

        def step(self, x: Any, y: Any) -> Any:
            return self.run.step(x, y)

        def loop(self) -> None:
            self.step = torch.compile(self.step)
            for number in range(8):
                self.epoch += 1
                self.history.append(self.step(*batch(number)).item())

    trainer, eager = Trainer(), Run()
    trainer.loop()
    assert trainer.history == [eager.step(*batch(number)).item() for number in range(8)]
    assert programs(trainer.step) == 1 and trainer.step._recorded == 1


@pytest.mark.parametrize(
    "form",
    [
        lambda x: torch.cat([x, x]),
        lambda x: x.T.contiguous().T,
        lambda x: x.double(),
        lambda x: x[0],
        lambda x: x.to(torch.int64),
    ],
)
def test_arguments_of_another_form_are_another_program(form: Any) -> None:
    def function(x: Any) -> Any:
        return (x * 2).sum(-1)

    compiled = torch.compile(function)
    for number in range(9):
        x, _ = batch(number)
        x = form(x) if number % 2 else x
        found, expected = compiled(x), function(x)
        assert found.tolist() == expected.tolist() and found.dtype == expected.dtype
    assert programs(compiled) == 2


def test_modes_are_programs_of_their_own() -> None:
    layer = nn.Linear(4, 4)
    compiled = torch.compile(layer)
    x, _ = batch(0)
    for _ in range(4):
        for mode in (torch.no_grad, torch.enable_grad, torch.inference_mode):
            with mode():
                found, expected = compiled(x), layer(x)
            assert found.tolist() == expected.tolist()
            assert (found.requires_grad, found.is_inference()) == (expected.requires_grad, expected.is_inference())
    assert programs(compiled) == 3


def test_plain_arguments_are_told_apart_by_their_bits() -> None:
    compiled = torch.compile(lambda x, number: x / number)
    with np.errstate(all="ignore"):
        for number in [0.0] * 4 + [-0.0] * 4 + [np.float32(2)] * 4 + [float("nan")] * 4:
            expected = torch.ones(2) / number
            assert compiled(torch.ones(2), number).numpy().tobytes() == expected.numpy().tobytes()
    assert programs(compiled) == 4


def test_a_question_that_is_answered_in_turn_differently_gives_two_programs() -> None:
    compiled = torch.compile(torch.nn.functional.cross_entropy)
    x, y = batch(0)
    for number in range(12):
        labels = y.clone()
        labels[0] = -100 if number % 2 else 0  # none is ignored in every other batch
        assert compiled(x, labels).item() == pytest.approx(torch.nn.functional.cross_entropy(x, labels).item())
    assert programs(compiled) == 2


def test_an_optimizer_whose_state_is_dropped_begins_anew() -> None:
    compiled, eager = Run(), Run()
    step = torch.compile(compiled.step, backend="numpy")
    for number in range(12):
        if number == 6:
            compiled.optimizer.state.clear()
            eager.optimizer.state.clear()
        step(*batch(number))
        eager.step(*batch(number))
        assert not differing(state(compiled), state(eager))


def test_observers_see_the_ops() -> None:
    layer = nn.Linear(4, 4)
    compiled = torch.compile(layer)
    x, _ = batch(0)
    seen: list[str] = []

    class Observer(Interpreter):
        def run(self, row: Any, forward: Any, xp: Any, *args: Any, **kwargs: Any) -> Any:
            seen.append(row.name)
            return forward(xp, *args, **kwargs)

    with torch.no_grad():
        for _ in range(5):
            compiled(x)
        with installed(Observer()):
            compiled(x)
    assert seen == ["linear"]


def test_recordings_are_let_go(monkeypatch: pytest.MonkeyPatch) -> None:
    run = Run()
    compiled = torch.compile(run.step)
    results: list[Any] = []

    class Watching(Recorder):
        def _state(self, *args: Any) -> None:
            super()._state(*args)
            results.extend(map(weakref.ref, self.program.statements[-1].result))

    monkeypatch.setattr(recording, "Recorder", Watching)
    for number in range(2):
        compiled(*batch(number))
    assert results
    gc.collect()
    ((captured,),) = compiled._programs.values()
    living = {id(owner(param.grad.numpy())) for param in run.model.parameters()} | {*Reachable({"": run.step}).names}
    living |= {id(buffer.array) for buffer in captured.recording.program.buffers if buffer.kind == "constant"}
    left = [array for reference in results if (array := reference()) is not None]
    assert [array for array in left if id(owner(array)) not in living] == []

    for number in range(4):
        compiled(*batch(number))
    (captured,) = compiled._programs.popitem()[1]
    assert captured.confirmed
    program = captured.recording.program
    assert all(statement.result == () for statement in program.statements)
    assert all(buffer.before is buffer.after is None for buffer in program.buffers)


def test_statements_name_the_line_of_the_op_whose_derivative_they_are() -> None:
    weight = nn.Parameter(torch.ones(4))
    optimizer = torch.optim.SGD([weight], lr=0.1)

    def step(x: Any) -> Any:
        optimizer.zero_grad()
        hidden = (x * weight).exp()  # FORWARD
        loss = hidden.sum()
        loss.backward()
        optimizer.step()  # UPDATE
        return loss

    compiled = torch.compile(step)
    for number in range(4):
        compiled(batch(number)[0])
    with open(__file__) as file:
        marked = {
            line.split("# ")[1].strip(): n
            for n, line in enumerate(file, 1)
            if line.rstrip().endswith(("D", "E")) and "  # " in line
        }
    (captured,) = compiled._programs.popitem()[1]
    found = {(s.row, s.line) for s in captured.recording.program.statements}
    assert ("exp", f"test_guards.py:{marked['FORWARD']}") in found
    assert ("mul backward", f"test_guards.py:{marked['FORWARD']}") in found
    assert any(row == "sgd" and line == f"test_guards.py:{marked['UPDATE']}" for row, line in found)


def test_a_learning_rate_that_the_function_reads() -> None:
    def make(run: Run) -> Any:
        def step(x: Any, y: Any) -> Any:
            loss = run.step(x, y)
            with torch.no_grad():
                for group in run.optimizer.param_groups:
                    for parameter in group["params"]:
                        parameter.mul_(1 - group["lr"] * 0.5)
            return loss

        return step

    run, eager = Run(), Run()
    compiled, plain = torch.compile(make(run)), make(eager)
    for number in range(12):
        if number in (5, 9):
            for each in (run, eager):
                each.optimizer.param_groups[0]["lr"] *= 0.1
        assert compiled(*batch(number)).item() == plain(*batch(number)).item()
        assert differing(state(run), state(eager)) == []


def test_a_plan_of_an_optimizer_is_guarded() -> None:
    run, eager = Run(), Run()
    compiled = torch.compile(run.step)
    for number in range(12):
        if number in (4, 8):
            for each in (run, eager):
                each.optimizer.load_state_dict(each.optimizer.state_dict())
                each.optimizer.step()  # eager, with the gradients of the step before
        assert compiled(*batch(number)).item() == eager.step(*batch(number)).item()
        assert differing(state(run), state(eager)) == []
