"""A training step is a program over array primitives: it can be written down while it runs, and run again.

The recorder here is a toy: an `Interpreter` whose arrays write down what is done with them, and can do nothing but what
Note [Array primitives] lists. What a step did outside the table would be missing from the program, or raise.
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
from nanotorch.backend.primitives import OPERATORS, PRIMITIVES, Column, Namespace
from nanotorch.nn.utils import clip_grad_norm_, flatten_parameters
from nanotorch.ops.create.counters import dropout_counters
from nanotorch.train.fit.moving_average import MovingAverage
from nanotorch.train.fit.window_step import StepOptions, window_step

ROWS = 8


class Value:
    """An array whose operators are written down; the engine also asks for `base`, whether its memory is its own."""

    __array_ufunc__ = None
    __hash__ = None  # type: ignore[assignment]

    def __init__(self, recorder: Recorder, array: Any) -> None:
        self.recorder, self.array = recorder, array

    shape = property(lambda self: self.array.shape)
    ndim = property(lambda self: self.array.ndim)
    dtype = property(lambda self: self.array.dtype)
    size = property(lambda self: self.array.size)
    base = property(lambda self: self.array.base)
    T = property(lambda self: self.recorder.do("reversed_axes", self))

    def __bool__(self) -> bool:
        raise AssertionError("the step asks for the value of an array")

    __iter__ = __len__ = __float__ = __int__ = __index__ = __array__ = __bool__  # type: ignore[assignment]


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


class HostReadingError(InterpreterError):
    """A number is read that would be folded into the program."""


class Recorder(Interpreter):
    """Writes down `program`: for each primitive that ran its name, its arguments and its result.

    `scalars` are those of each call of an optimizer's rule, in order.
    """

    def __init__(self, inputs: list[Any], lasting: list[Any]) -> None:
        self.scalars: list[dict[str, Any]] = []
        self.program: list[tuple[str, Any, Any, Any]] = []
        self.inputs = [Value(self, array) for array in inputs]
        self.lasting = {id(owner(array)) for array in lasting}
        column = Column()
        for name in PRIMITIVES:
            column[name] = lambda *args, n=name, **options: self.do(n, *args, **options)
        self.xp = Namespace(column)

    def run(self, row: Any, forward: Callable[..., Any], xp: Any, *args: Any, **kwargs: Any) -> Any:
        return forward(self.xp, *map(self.value, args), **kwargs)

    def formula(self, row: Any, formula: Callable[..., Any], *args: Any) -> Any:
        return formula(*map(self.value, args))

    def update(self, rule: Any, further: Any, xp: Any, param: Any, grad: Any, state: Any, scalars: Any) -> None:
        call = len(self.scalars)
        self.scalars.append(scalars)
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
        assert id(owner(array)) in self.lasting, f"an array of shape {array.shape} was made outside the table"
        return Value(self, array)

    def do(self, name: str, *args: Any, **options: Any) -> Any:
        if name == "to_numpy":
            raise HostReadingError("the host reads an array")
        args = self.value(args)
        result = NUMPY[name](*each(args, array_of), **{k: each(v, array_of) for k, v in options.items()})
        if isinstance(result, np.ndarray | np.generic):
            result = args[0] if name.endswith("_into") else Value(self, result)
        self.program.append((name, args, options, result))
        return result

    def written(self, place: Value, value: Any) -> Value:
        """What rules say by `x += y`."""
        self.do("write", place, value)
        return place

    def replay(self, inputs: list[Any]) -> None:
        found = {id(value): array for value, array in zip(self.inputs, inputs, strict=True)}

        def present(value: Any) -> Any:
            if isinstance(value, Number):
                return value.again()
            return found.get(id(value), value.array) if isinstance(value, Value) else value

        for name, args, options, result in self.program:
            again = NUMPY[name](*each(args, present), **{k: each(v, present) for k, v in options.items()})
            if isinstance(result, Value):
                found[id(result)] = again
            else:
                assert again == result  # a question, whose answer the program takes for granted


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

    def lasting(self) -> list[Any]:
        models = [self.model] if self.average is None else [self.model, self.average.module]
        tensors = [tensor for model in models for tensor in model.state_dict().values()]
        state = [value for values in self.optimizer.state.values() for value in values.values()]
        return [tensor.numpy() for tensor in [*tensors, *state]]

    def host_part(self) -> list[dict[str, Any]]:
        """What a step does on the host alone."""
        scalars = [scalars for _, scalars in self.optimizer.host_scalars()]
        if self.average is not None:
            self.average.updates += 1
            for average, present in zip(self.average.module.parameters(), self.model.parameters(), strict=True):
                average.grad = present.detach()
            scalars += [scalars for _, scalars in self.average.host_scalars()]
            self.average.zero_grad()
        return scalars

    def gradients(self) -> list[Any]:
        """The memory of gradients, and what an optimizer gathers small parameters in."""
        segments = [s for o in (self.optimizer, self.average) if o for p in o._plans.values() for s in p.segments]
        found = [p.grad.numpy() for p in self.model.parameters() if p.grad is not None]
        return [*found, *[a for s in segments for a in (s.flat, s.grad) if isinstance(a, np.ndarray)]]


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
    recorder = Recorder(batch(2), [*lasting, *recorded.gradients()])
    with installed(recorder):
        recorded.step(recorder.inputs, Number(lambda: steps[-1]), form)
    assert at_rest()
    eager.step(batch(2), 2, form)
    for number in range(3, 6):
        for run in (recorded, eager):
            run.optimizer.param_groups[0]["lr"] *= 0.5
        steps.append(number)
        recorder.scalars = recorded.host_part()
        recorder.replay(batch(number))
        eager.step(batch(number), number, form)
        for ours, theirs in zip(lasting, eager.lasting(), strict=True):
            np.testing.assert_array_equal(ours, theirs)


def test_dropout_draws_anew_where_a_program_is_repeated() -> None:
    """Outside `dropout_counters` a call takes its seed from a generator: so does the program, whenever it runs."""
    torch.manual_seed(1)
    recorder = Recorder([np.ones((4, 5), np.float32)], [])
    with installed(recorder):
        out = nn.functional.dropout(from_array(recorder.inputs[0]))
    torch.manual_seed(2)
    expected = nn.functional.dropout(torch.ones(4, 5))
    torch.manual_seed(2)
    drawn: dict[int, Any] = {}
    for name, args, options, result in recorder.program:
        given = [drawn.get(id(a), array_of(a)) for a in args]
        drawn[id(result)] = NUMPY[name](*given, **options)
    assert np.array_equal(drawn[id(out._array)], expected.numpy())


@pytest.mark.parametrize("read", [Tensor.item, Tensor.tolist, Tensor.numpy, bool, float, int])
def test_a_recorder_sees_what_the_host_reads(read: Callable[[Any], Any]) -> None:
    weight = torch.tensor(2.0)
    with installed(Recorder([], [weight.numpy()])), pytest.raises(HostReadingError):
        read(weight)


def test_a_cumulative_batch_norm_is_refused_by_a_recorder() -> None:
    """Its momentum is a count that the host reads."""
    layer = nn.BatchNorm1d(4, momentum=None)
    state = [tensor.numpy() for tensor in layer.state_dict().values()]
    recorder = Recorder([np.ones((4, 4), np.float32)], state)
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
