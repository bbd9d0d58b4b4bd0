"""A training step is a program over array primitives: it can be written down while it runs, and run again.

The recorder here is a toy: an `Interpreter` whose arrays write down what is done with them, and can do nothing but what
Note [Recorders] lists. What a step did outside the table would be missing from the program, or raise.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import nanotorch as torch
from nanotorch import Tensor, nn
from nanotorch.autograd.graph.interpreter import Interpreter, InterpreterError, at_rest, installed
from nanotorch.autograd.graph.tensor import from_array
from nanotorch.backend.numpy_backend import NUMPY, owner
from nanotorch.backend.primitives import FACTS, OPERATORS, PLACEMENT, PRIMITIVES, Column, Namespace
from nanotorch.capture.effects import Numbers
from nanotorch.capture.reach.reachable import Reachable
from nanotorch.nn.utils import clip_grad_norm_, flatten_parameters
from nanotorch.ops.create.counters import dropout_counters
from nanotorch.train.fit.moving_average import MovingAverage
from nanotorch.train.fit.window_step import StepOptions, window_step

ROWS = 8


class Value:
    """An array whose operators are written down; how it lies in memory is a fact of the run that is recorded."""

    __array_ufunc__ = None
    __hash__ = None  # type: ignore[assignment]

    def __init__(self, recorder: Recorder, array: Any) -> None:
        self.recorder, self.array = recorder, array

    T = property(lambda self: self.recorder.do("reversed_axes", self))

    def __bool__(self) -> bool:
        raise AssertionError("the step asks for the value of an array")

    __iter__ = __len__ = __float__ = __int__ = __index__ = __array__ = __bool__  # type: ignore[assignment]


for _name in (*FACTS, *PLACEMENT):
    setattr(Value, _name, property(operator.attrgetter(f"array.{_name}")))
for _form, (_, _function) in OPERATORS.items():
    _name, _special = _form.partition("(")[0], getattr(_function, "__name__", "").strip("_")
    if _name != "reversed_axes":
        setattr(Value, f"__{_special}__", lambda self, *other, n=_name: self.recorder.do(n, self, *other))
        setattr(Value, f"__r{_special}__", lambda self, other, n=_name: self.recorder.do(n, other, self))
for _special in ("add", "sub", "mul", "truediv"):
    _function = getattr(operator, _special)
    setattr(Value, f"__i{_special}__", lambda self, other, f=_function: self.recorder.written(self, f(self, other)))


class Number:
    """A number of the host, which `again` gives anew for every run of the program."""

    __array_ufunc__ = None
    __hash__ = None  # type: ignore[assignment]

    def __init__(self, again: Callable[[], Any]) -> None:
        self.again, self.value = again, again()

    def __bool__(self) -> bool:
        return bool(self.value)


def _of_numbers(function: Callable[..., Any], swapped: bool) -> Callable[..., Any]:
    def combined(self: Number, other: Any) -> Any:
        if isinstance(other, Value | np.ndarray):
            return NotImplemented
        number = other.again if isinstance(other, Number) else lambda: other
        return Number(lambda: function(*(number(), self.again()) if swapped else (self.again(), number())))

    return combined


for _special in ("add", "sub", "mul", "truediv", "pow"):
    setattr(Number, f"__{_special}__", _of_numbers(getattr(operator, _special), False))
    setattr(Number, f"__r{_special}__", _of_numbers(getattr(operator, _special), True))
for _special in ("lt", "le", "gt", "ge", "eq", "ne"):
    setattr(Number, f"__{_special}__", _of_numbers(getattr(operator, _special), False))


class ChangedAnswerError(Exception):
    """A run would not go the way of the one that was recorded."""


class HostReadingError(InterpreterError):
    """A number is read that would be folded into the program."""


class Recorder(Interpreter):
    """Writes down `program`: for each primitive that ran its name, its arguments and its result.

    `scalars` are those of each call of an optimizer's rule, in order.
    """

    def __init__(self, inputs: list[Any], memory: Callable[[], list[Any]]) -> None:
        self.scalars: list[dict[str, Any]] = []
        self.branches: list[dict[str, Any]] = []
        self.program: list[tuple[str, Any, Any, Any]] = []
        self.inputs = [Value(self, array) for array in inputs]
        self.memory, self.lasting = memory, {id(owner(array)): array for array in memory()}
        column = Column()
        for name in PRIMITIVES:
            column[name] = lambda *args, n=name, **options: self.do(n, *args, **options)
        self.xp = Namespace(column)

    def run(self, row: Any, forward: Callable[..., Any], xp: Any, *args: Any, **kwargs: Any) -> Any:
        return forward(self.xp, *map(self.value, args), **kwargs)

    def formula(self, row: Any, formula: Callable[..., Any], *args: Any) -> Any:
        return formula(*map(self.value, args))

    def update(
        self, segment: Any, rule: Any, further: Any, xp: Any, param: Any, grad: Any, state: Any, scalars: Any
    ) -> None:
        call = len(self.scalars)
        self.scalars.append(scalars)
        self.branches.append(branches(scalars))
        rule(
            self.xp,
            *self.value((param, grad)),
            **{name: self.value(array) for name, array in state.items()},
            **{name: self.number(value, lambda n=name: self.scalars[call][n]) for name, value in scalars.items()},
        )

    def number(self, value: Any, again: Callable[[], Any]) -> Any:
        if isinstance(value, tuple):
            return tuple(Number(lambda k=k: again()[k]) for k in range(len(value)))
        return Number(again) if type(value) is float else value

    def primitives(self, device: Any, xp: Any) -> Any:
        return self.xp

    def value(self, array: Any) -> Any:
        """An array that comes from outside: of the model or the optimizer, or else no op has made it."""
        if isinstance(array, list | tuple):
            return type(array)(map(self.value, array))
        if not isinstance(array, np.ndarray):
            return array
        if id(owner(array)) not in self.lasting:  # an optimizer may have made its state
            self.lasting = {id(owner(known)): known for known in self.memory() if isinstance(known, np.ndarray)}
        assert id(owner(array)) in self.lasting, f"an array of shape {array.shape} was made outside the table"
        return Value(self, array)

    def do(self, name: str, *args: Any, **options: Any) -> Any:
        if name == "to_numpy":
            raise HostReadingError("the host reads an array")
        if name == "seed_of":
            return Number(args[0].initial_seed)
        if not (name == "asarray" and isinstance(args[0], np.ndarray)):  # a constant of the host
            args = self.value(args)
        result = NUMPY[name](*each(args, array_of), **{k: each(v, array_of) for k, v in options.items()})
        if PRIMITIVES.get(name, PRIMITIVES["write"]).section == "layout":
            return result
        if isinstance(result, tuple | list):
            result = type(result)(Value(self, part) for part in result)
        elif isinstance(result, np.ndarray | np.generic):
            result = args[0] if name.endswith("_into") else Value(self, result)
        self.program.append((name, args, options, result))
        return result

    def written(self, place: Value, value: Any) -> Value:
        """What rules say by `x += y`."""
        self.do("write", place, value)
        return place

    def replay(self, inputs: list[Any], outputs: Any = ()) -> Any:
        """Run the program, its checks first: they raise before anything is written."""
        self.run_again(self.checks(), inputs, ())
        return self.run_again(self.program, inputs, outputs)

    def checks(self) -> list[Any]:
        """What leads to the questions, of which nothing may write."""
        wanted: set[int] = set()
        found = []
        for step in reversed(self.program):
            name, args, options, result = step
            if PRIMITIVES.get(name, PRIMITIVES["write"]).section == "questions" or wanted & set(ids(result)):
                assert PRIMITIVES[name].section != "writes"
                wanted.update(ids((args, tuple(options.values()))))
                found.append(step)
        return found[::-1]

    def run_again(self, program: list[Any], inputs: list[Any], outputs: Any) -> Any:
        found = {id(value): array for value, array in zip(self.inputs, inputs, strict=True)}

        def present(value: Any) -> Any:
            if isinstance(value, Number):
                return value.again()
            return found.get(id(value), value.array) if isinstance(value, Value) else value

        for name, args, options, result in program:
            again = NUMPY[name](*each(args, present), **{k: each(v, present) for k, v in options.items()})
            if isinstance(result, Value):
                found[id(result)] = again
            elif isinstance(result, tuple | list):
                found |= zip(map(id, result), again, strict=True)
            elif again != result:
                raise ChangedAnswerError(name)  # of a question, whose answer the program takes for granted
        return each(outputs, present)


def branches(scalars: dict[str, Any]) -> dict[str, Any]:
    """What a rule's text may depend on (Note [Host scalars])."""
    return {name: value if isinstance(value, bool) else bool(value) for name, value in scalars.items()}


def ids(values: Any) -> list[int]:
    return [found for value in values for found in ids(value)] if isinstance(values, list | tuple) else [id(values)]


def each(values: Any, what: Callable[[Any], Any]) -> Any:
    return type(values)(each(value, what) for value in values) if isinstance(values, list | tuple) else what(values)


def array_of(value: Any) -> Any:
    return value.array if isinstance(value, Value) else value.value if isinstance(value, Number) else value


class Run:
    """A model with its optimizer after two steps; all that a step changes is `lasting`."""

    def __init__(self, *layers: Callable[[], nn.Module], flat: bool, optimizer: Any, average: bool) -> None:
        torch.manual_seed(0)
        self.model = nn.Sequential(
            nn.Linear(4, 16), *[layer() for layer in layers], nn.ReLU(), nn.Dropout(0.3), nn.Linear(16, 3)
        )
        self.parameters = flatten_parameters(self.model.parameters()) if flat else list(self.model.parameters())
        self.optimizer = optimizer(self.model.parameters())
        self.average = MovingAverage(self.model, 0.9) if average else None

    def step(self, arrays: list[Any], number: Any, form: str) -> None:
        features, targets = from_array(arrays[0]), from_array(arrays[1])
        if form == "own":
            self.optimizer.zero_grad()
            with dropout_counters(number):
                loss = nn.functional.cross_entropy(self.model(features), targets)
            for parameter in self.model.parameters():
                loss = loss + 0.01 * (parameter * parameter).sum()
            loss.backward()
            clip_grad_norm_(self.parameters, 0.5)
            self.optimizer.step()
            return
        half = ROWS // 2
        batches = [(features, targets, from_array(arrays[2]))]
        if form == "two batches":
            batches = [tuple([t[part] for t in batches[0]]) for part in (slice(half), slice(half, ROWS))]
        criterion, options = nn.CrossEntropyLoss(reduction="sum"), StepOptions(clip_norm=0.5)
        window_step(
            self.model, criterion, self.optimizer, self.parameters, batches, options, self.average, number=number
        )

    def memory(self) -> list[Any]:
        return memory_of(self.step)

    def lasting(self) -> list[Any]:
        """What two runs have in common: gradients of parameters that are not flat are new arrays in every step."""
        models = [self.model] if self.average is None else [self.model, self.average.module]
        tensors = [tensor for model in models for tensor in model.state_dict().values()]
        state = [value for values in self.optimizer.state.values() for value in values.values()]
        return [tensor.numpy() for tensor in [*tensors, *state]]

    def host_part(self) -> list[dict[str, Any]]:
        """What a step does on the host alone."""
        scalars = [scalars for _, scalars in self.optimizer.host_scalars()]
        if self.average is not None:
            scalars += [scalars for _, scalars in self.average.host_scalars()]
        return scalars


def memory_of(step: Any) -> list[Any]:
    """The arrays that a function can reach."""
    things = [getattr(thing, "_array", thing) for thing in Reachable({"": step}).objects]
    return [thing for thing in things if isinstance(thing, np.ndarray)]


def batch(seed: int) -> list[Any]:
    draw = np.random.default_rng(seed)
    features = draw.standard_normal((ROWS, 4)).astype(np.float32)
    return [features, draw.integers(0, 3, ROWS), draw.random(ROWS).astype(np.float32)]


def adam(parameters: Any) -> Any:
    return torch.optim.Adam(parameters, lr=0.01)


def momentum(parameters: Any) -> Any:
    return torch.optim.SGD(parameters, lr=0.1, momentum=0.9)


def norm() -> nn.Module:
    return nn.BatchNorm1d(16)


def layer_norm() -> nn.Module:
    return nn.LayerNorm(16)


@pytest.mark.parametrize(
    "form, layers, options",
    [
        ("window", [], {}),
        ("window", [norm], {}),
        ("window", [layer_norm], {"optimizer": momentum}),
        ("window", [], {"average": True}),
        ("window", [], {"flat": False}),
        ("two batches", [norm], {}),
        ("two batches", [], {"flat": False}),
        ("own", [], {}),
    ],
)
def test_a_step_is_a_program_over_primitives(form: str, layers: list[Any], options: dict[str, Any]) -> None:
    settings: dict[str, Any] = {"flat": True, "optimizer": adam, "average": False, **options}
    recorded, eager = Run(*layers, **settings), Run(*layers, **settings)
    for number in range(2):  # plans of optimizers exist from then on
        for run in (recorded, eager):
            run.step(batch(number), number, form)
    lasting, steps = recorded.lasting(), [2]
    recorder = Recorder(batch(2), recorded.memory)
    with installed(recorder):
        recorded.step(recorder.inputs, Number(lambda: steps[-1]), form)
    assert at_rest()
    eager.step(batch(2), 2, form)
    for number in range(3, 6):
        for run in (recorded, eager):
            run.optimizer.param_groups[0]["lr"] *= 0.5
        steps.append(number)
        recorder.scalars = recorded.host_part()
        assert recorder.branches == [branches(scalars) for scalars in recorder.scalars]
        recorder.replay(batch(number))
        eager.step(batch(number), number, form)
        for ours, theirs in zip(lasting, eager.lasting(), strict=True):
            np.testing.assert_array_equal(ours, theirs)
    if recorded.average is not None and eager.average is not None:
        assert recorded.average.updates == eager.average.updates == 6


def test_a_rule_that_branches_anew_is_another_program() -> None:
    """RAdam divides from its sixth step on: the scalars say so before anything runs."""
    layers: dict[str, Any] = {"flat": True, "optimizer": torch.optim.RAdam, "average": False}
    recorded, eager = Run(**layers), Run(**layers)
    for run in (recorded, eager):
        run.step(batch(0), 0, "window")
    programs: list[Recorder] = []
    steps = [0]
    for number in range(1, 9):
        steps.append(number)
        before, scalars = Numbers(recorded.optimizer), recorded.host_part()
        known = [p for p in programs if p.branches == list(map(branches, scalars))]
        if known:
            known[0].scalars = scalars
            known[0].replay(batch(number))
        else:
            before.restore()
            programs.append(Recorder(batch(number), recorded.memory))
            with installed(programs[-1]):
                recorded.step(programs[-1].inputs, Number(lambda: steps[-1]), "window")
        eager.step(batch(number), number, "window")
        for ours, theirs in zip(recorded.lasting(), eager.lasting(), strict=True):
            np.testing.assert_array_equal(ours, theirs)
    assert [program.branches[0]["rectified"] for program in programs] == [False, True]


@pytest.mark.parametrize("flat", [True, False])
def test_what_outlives_a_step_is_made_plainly(flat: bool) -> None:
    """The first step makes the optimizer's state: it holds no arrays of the recorder, and the next step finds it."""
    recorded, eager = (Run(norm, flat=flat, optimizer=adam, average=False) for _ in range(2))
    recorder = Recorder(batch(0), recorded.memory)
    with installed(recorder):
        recorded.step(recorder.inputs, 0, "window")
    eager.step(batch(0), 0, "window")
    for number in range(1, 3):
        for run in (recorded, eager):
            run.step(batch(number), number, "window")
    for ours, theirs in zip(recorded.lasting(), eager.lasting(), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_indices_are_checked_before_anything_is_written() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Embedding(5, 4), nn.BatchNorm1d(4), nn.Linear(4, 3))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    flatten_parameters(model.parameters())

    def step(arrays: list[Any]) -> Tensor:
        optimizer.zero_grad()
        outputs = model(from_array(arrays[0]))
        picked = outputs[torch.arange(ROWS), from_array(arrays[1])]
        loss = picked.sum() + nn.functional.nll_loss(outputs, from_array(arrays[1]))
        loss.backward()
        optimizer.step()
        return loss.detach()

    def indices(seed: int) -> list[Any]:
        draw = np.random.default_rng(seed)
        return [draw.integers(0, 5, ROWS), draw.integers(0, 3, ROWS)]

    step(indices(0))
    memory = memory_of(step)
    recorder = Recorder(indices(1), lambda: memory)
    with installed(recorder):
        out = step(recorder.inputs)
    before = [array.copy() for array in memory]
    for wrong in ([np.full(ROWS, 5), indices(2)[1]], [indices(2)[0], np.full(ROWS, 3)], [np.full(ROWS, -1)] * 2):
        recorder.scalars = [scalars for _, scalars in optimizer.host_scalars()]
        with pytest.raises((ChangedAnswerError, IndexError)):
            recorder.replay(wrong)
        assert all(map(np.array_equal, memory, before))
    loss = recorder.replay(indices(2), out._array)
    after = [array.copy() for array in memory]
    for array, old in zip(memory, before, strict=True):
        array[...] = old
    assert step(indices(2)).item() == loss.item() and all(map(np.array_equal, memory, after))


def test_numbers_of_dropout_are_arguments_of_primitives() -> None:
    """Its probability may be a number that the recorder gives the layer; the seed comes by a primitive."""
    layer, probability, step, x = nn.Dropout(0.25), [0.25], [0], np.ones((6, 50), np.float32)
    layer.p = Number(lambda: probability[-1])
    recorder = Recorder([x], list)
    torch.manual_seed(1)
    with installed(recorder), dropout_counters(Number(lambda: step[-1])):
        out = layer(from_array(recorder.inputs[0]))
    for seed, p, number in ((1, 0.25, 0), (1, 0.5, 0), (2, 0.5, 3), (3, 0.875, 4)):
        torch.manual_seed(seed)
        probability.append(p)
        step.append(number)
        with dropout_counters(number):
            expected = nn.functional.dropout(torch.from_numpy(x), p)
        assert np.array_equal(recorder.replay([x], out._array), expected.numpy())


def test_draws_and_constants_are_made_anew_by_every_run() -> None:
    def numbers(x: Tensor) -> list[Tensor]:
        count = torch.zeros(3).add_(1.0)
        chance = torch.bernoulli(x.clamp(0.0, 1.0)) + torch.empty(3).bernoulli_(0.5) + torch.full((3,), 2.0)
        drawn = [torch.rand(3), torch.randn_like(x), torch.randint(9, (3,)), torch.randperm(3)]
        filled = [torch.empty(3).uniform_(-1, 1), torch.empty(3).exponential_(), torch.rand(3, dtype=torch.float16)]
        more = [torch.normal(x, x.abs()), nn.functional.rrelu(x, training=True)]
        return [count * torch.arange(3) + torch.eye(3), chance, *drawn, *filled, *more]

    x = np.array([-0.5, 0.25, 2.0], np.float32)
    recorder = Recorder([x], list)
    with installed(recorder):
        out = [tensor._array for tensor in numbers(from_array(recorder.inputs[0]))]
    for seed in range(2):
        torch.manual_seed(seed)
        found = recorder.replay([x], out)
        torch.manual_seed(seed)
        for ours, theirs in zip(found, numbers(torch.from_numpy(x)), strict=True):
            assert np.array_equal(ours, theirs.numpy()) and ours.dtype == theirs.numpy().dtype


def test_half_precision_is_widened_and_rounded_by_primitives() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 5), nn.LayerNorm(5), nn.Tanh(), nn.Linear(5, 3)).half()
    parameters = [parameter.detach().numpy() for parameter in model.parameters()]

    def gradients(x: Tensor) -> Any:
        return torch.autograd.grad(model(x).square().mean(), list(model.parameters()))

    inputs = [np.random.default_rng(k).standard_normal((ROWS, 4)).astype(np.float16) for k in range(3)]
    recorder = Recorder(inputs[:1], lambda: parameters)
    with installed(recorder):
        out = [grad._array for grad in gradients(from_array(recorder.inputs[0]))]
    for k in (1, 2):
        parameters[0] += np.float16(0.5)
        for ours, theirs in zip(recorder.replay([inputs[k]], out), gradients(torch.from_numpy(inputs[k])), strict=True):
            assert np.array_equal(ours, theirs.numpy()) and ours.dtype == np.float16


def test_dropout_draws_anew_where_a_program_is_repeated() -> None:
    """Outside `dropout_counters` a call takes its seed from a generator: so does the program, whenever it runs."""
    torch.manual_seed(1)
    recorder = Recorder([np.ones((4, 5), np.float32)], list)
    with installed(recorder):
        out = nn.functional.dropout(from_array(recorder.inputs[0]))
    torch.manual_seed(2)
    expected = nn.functional.dropout(torch.ones(4, 5))
    torch.manual_seed(2)
    assert np.array_equal(recorder.replay([np.ones((4, 5), np.float32)], out._array), expected.numpy())


@pytest.mark.parametrize("read", [Tensor.item, Tensor.tolist, Tensor.numpy, bool, float, int])
def test_a_recorder_sees_what_the_host_reads(read: Callable[[Any], Any]) -> None:
    weight = torch.tensor(2.0)
    with installed(Recorder([], lambda: [weight._array])), pytest.raises(HostReadingError):
        read(weight)


def test_a_cumulative_batch_norm_is_refused_by_a_recorder() -> None:
    """Its momentum is a count that the host reads."""
    layer = nn.BatchNorm1d(4, momentum=None)
    state = [tensor.numpy() for tensor in layer.state_dict().values()]
    recorder = Recorder([np.ones((4, 4), np.float32)], lambda: state)
    with installed(recorder), pytest.raises(HostReadingError):
        layer(from_array(recorder.inputs[0]))


def test_formulas_are_a_seat_of_their_own() -> None:
    seen: list[str] = []

    class Formulas(Interpreter):
        def formula(self, row: Any, formula: Callable[..., Any], *args: Any) -> Any:
            seen.append(row.name)
            return formula(*args)

    x: Tensor = torch.tensor([1.0, 2.0], requires_grad=True)
    with installed(Formulas()):
        (x.exp() * 2.0).sum().backward()
    assert seen == ["sum", "mul", "exp"] and at_rest()
    x.exp().sum().backward()
    assert len(seen) == 3
