"""`nanotorch.compile`: a function of tensors that is recorded once, and replayed as a program.

Note [Compiled steps]
~~~~~~~~~~~~~~~~~~~~~
A call of a compiled function is one of three things:

- the first call runs as ever: what exists from the first step on, such as an optimizer's state, is then there;
- the next two calls with arguments of a shape are recorded, which is running as ever, too, and have to give the same
  program with the same constants: a number that changes from call to call would else be frozen silently. The first
  program is checked against its recording, statement by statement, from the same memory;
- from then on the program runs, as long as what it was recorded with is there: the same arguments but for their values,
  the same memory of parameters, buffers and optimizer state, the same plain values (Note [What a function can reach]),
  gradients to begin with or none, the same decisions.

Whatever does not fit runs as ever, and is recorded anew. What no program can repeat is refused, with everything as it
was before the call, or runs as ever for good. An error of the function itself is raised by running it as ever.

Gradients lie in the program's own memory, where the next call writes the next ones. A gradient that somebody has kept
must not change: the count of references tells (`Gradients`), and then the kept tensor gets memory of its own, or, where
arrays are kept that nobody can move, the program is given up. Gradients that come with a call and are added to lie
wherever somebody has made them: the program adds in memory of its own, into and out of which they are copied.

What a function does beside tensors, and to what it can reach, is not seen: it prints, reads a clock or a file in the
calls that run as ever, and in no other. A function whose results have a history is two programs (Note [Programs that
are differentiated]).

Note [Recorded ahead]
~~~~~~~~~~~~~~~~~~~~~
With a table it matters to the last bit which steps ran as a program. So a training that is stopped and goes on must not
run its first steps again as ever, to record them. `ahead` records before a call: the call runs as ever, twice or three
times, everything is put back (`Position`), and then the program takes it, from the very first call on. One call alone
is as ever: the one in which an optimizer begins its state, and that is the first of a training, not of a process.

One recording is enough where another one in the process, as of a fit with other settings, has given the same program
and constants, a second agreed with it, and its table was checked.
"""

from __future__ import annotations

import functools
import sys
import warnings
from collections.abc import Callable, Mapping, Sequence
from operator import is_
from types import MappingProxyType, MethodType
from typing import Any, Literal, NamedTuple

import numpy as np

from nanotorch.autograd.graph.errors import inside
from nanotorch.autograd.graph.grad_mode import is_inference_mode_enabled, recording
from nanotorch.autograd.graph.interpreter import undisturbed
from nanotorch.autograd.graph.locks import give_lock
from nanotorch.autograd.graph.tensor import Tensor
from nanotorch.backend.device import CPU
from nanotorch.capture.captured import Captured
from nanotorch.capture.conditions import Conditions
from nanotorch.capture.differentiable import Differentiable, Recorded, Through
from nanotorch.capture.effects import Position
from nanotorch.capture.explanation import Explanation
from nanotorch.capture.many_steps import run
from nanotorch.capture.page import name_inputs
from nanotorch.capture.program import CallNumber
from nanotorch.capture.reach.reachable import Reachable, spelling
from nanotorch.capture.reach.watch import Watch
from nanotorch.capture.recorder import CaptureError
from nanotorch.capture.recording import Build, OtherPlanError, Recording, replaced_within
from nanotorch.capture.table.machine import MACHINE, installed
from nanotorch.dtypes import get_default_dtype
from nanotorch.ops.create.counters import position
from nanotorch.ops.create.random import source
from nanotorch.optim import Optimizer

MODES = (recording, is_inference_mode_enabled, get_default_dtype, source)
"""What is asked at every call, beside its arguments: of another answer there is another program."""
MOST_PROGRAMS = 16
"""So many programs are recorded of a function; whoever needs more runs as ever."""
ATTEMPTS = 4
"""So many calls are recorded ahead: two have to agree, and what they leave may ask for another program."""
Key = tuple[Any, ...]
Fallback = Literal["eager"] | Callable[[str], None] | None
"""What is done where a function cannot be recorded: it runs as ever, with a warning or with a call that gets the
reason; or it raises.
"""


class Call(NamedTuple):
    """A call of a function: its arguments, the tensors, the numbers (`CallNumber`) and the objects among them, and what
    builds arguments of others.
    """

    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    tensors: Sequence[Tensor]
    build: Build
    key: Key
    numbers: Sequence[int] = ()
    objects: Mapping[str, Any] = MappingProxyType({})


class Compiled:
    """A function of tensors that runs as a recorded program (Note [Compiled steps]).

    Args:
        function: what is compiled.
        backend: what runs its programs.
        fallback: what is done where it cannot be recorded.
        ahead: record before a call, with all put back (Note [Recorded ahead]).
    """

    _lock: Any

    def __init__(self, function: Callable[..., Any], backend: str, fallback: Fallback, ahead: bool = False) -> None:
        self._begin(function, backend, fallback, ahead)

    def _begin(self, function: Callable[..., Any], backend: str, fallback: Fallback, ahead: bool = False) -> None:
        functools.update_wrapper(self, function, updated=())
        self.function, self.backend, self.fallback, self.ahead = function, backend, fallback, ahead
        give_lock(self)
        self._programs: dict[Key, list[Captured | Differentiable]] = {}
        self._roots: dict[str, Any] = {"": function}
        self._words: set[str] = set()
        self._plans: list[Any] | None = None
        self._replaced: str | None = None
        self._as_ever: set[Key] = set()
        self._quick: Captured | None = None
        self._ran: dict[Key, Captured] = {}  # what ran last for arguments of a form
        self._recorded = 0
        self._latest: Captured | Differentiable | None = None
        self._because = ""
        self._said = False
        if backend not in ("auto", "numpy", "table"):
            raise ValueError(f"backend is 'auto', 'numpy' or 'table', got {backend!r}")
        if backend == "table" and not installed():
            raise RuntimeError("backend='table' needs numba: pip install numba; 'auto' goes without where it is not")
        if backend != "numpy":
            MACHINE.start()

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Do what the function does."""
        if not undisturbed():  # it is recorded as a part of something else, or somebody observes its ops
            return self.function(*args, **kwargs)
        with self._lock:
            known = self._quick
            takes = None if known is None or kwargs else known.takes
            if known is not None and takes is not None and takes(args) and known.fits(args):
                done, result = known.replay(args)
                if done:
                    return result
            call = self._call(args, kwargs)
            for captured in self._programs.get(call.key, ()):
                if captured.fits(call.tensors):
                    done, result = captured.replay(call.tensors, call.numbers)
                    if done:
                        if call.tensors is args and isinstance(captured, Captured):
                            if captured.takes is None:
                                captured.takes = _taking(call.tensors)
                            self._quick = captured
                        return result
            return self._other(call)

    def run(
        self,
        tensors: Sequence[Tensor],
        order: Any = None,
        *,
        batch_size: int,
        steps: int | None = None,
        numbers: Sequence[int] | None = None,
        between: Callable[[], Any] | None = None,
        schedule: Callable[[], Any] | None = None,
    ) -> Any:
        """Call the function with one batch of rows after the other, and return what it gives for all of them.

        Args:
            tensors: tables of one length, of which each batch has the same rows.
            order: the numbers of rows in the order in which they are taken, in one dimension; None as they lie.
            batch_size: rows of a batch; the last one may have fewer.
            steps: how many batches; by default as many as the rows give.
            numbers: for each batch an integer that is passed after it, as the number of the step.
            between: what is called after each batch, and may look at all that the step has left. With it the steps of a
                table are calls of their own.
            schedule: what is called after each batch and changes numbers of optimizers alone, as the `step` of a
                scheduler: it may be called ahead, so that a table still takes many steps in a call.

        Returns:
            What the function returns, each tensor stacked over the steps in a new first dimension, without a graph. A
            tensor whose shape is another one for the last batch, of fewer rows, comes as a list of those of each step.

        >>> x, total = torch.arange(6.0), torch.zeros(())
        >>> @torch.compile
        ... def add(rows):
        ...     return total.add_(rows.sum()).clone()
        >>> add.run([x], batch_size=2)
        tensor([ 1.,  6., 15.])
        """
        return run(self, tensors, order, batch_size, steps, numbers, between, schedule)

    def known(self, form: Key, arguments: Callable[[], tuple[Any, ...]]) -> Captured | None:
        """Return the program that would run for calls with arguments of a form, in memory that nobody else has, if
        there is one.
        """
        if not undisturbed():
            return None
        form = (*[ask() for ask in MODES], *form)
        last = self._ran.get(form)
        if last is not None and last.fits(()):
            return last
        call = self._call(arguments(), {})
        programs = [captured for captured in self._programs.get(call.key, ()) if isinstance(captured, Captured)]
        found = next((captured for captured in programs if captured.fits(call.tensors)), None)
        if found is not None:
            self._ran = {form: found} if len(self._ran) > MOST_PROGRAMS else {**self._ran, form: found}
        return found

    def _call(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Call:
        """Tell the tensors of a call from the rest: what the program depends on is the key."""
        mode = tuple([ask() for ask in MODES])
        if not kwargs and all([isinstance(arg, Tensor) for arg in args]):
            return Call(args, kwargs, args, _positional, (mode, *[_form(arg) for arg in args]))
        tensors: list[Tensor] = []
        numbers: list[int] = []
        objects: dict[str, Any] = {}
        spelled: list[Any] = [mode]
        build = self._taken_apart((args, kwargs), tensors, numbers, objects, spelled)
        return Call(args, kwargs, tensors, build, (*spelled, *map(_form, tensors)), numbers, objects)

    def _taken_apart(
        self, value: Any, tensors: list[Tensor], numbers: list[int], objects: dict[str, Any], spelled: list[Any]
    ) -> Build:
        """Add the tensors of nested arguments to a list, numbers that are no part of the program to another, what is
        no plain value to objects, and how all of it is spelled to the last; return what builds them again, of all
        tensors and after them the numbers.
        """
        if isinstance(value, Tensor):
            place = len(tensors)
            tensors.append(value)
            spelled.append(Tensor)
            return lambda given: given[place]
        kind = type(value)
        if kind is CallNumber:
            place = len(numbers)
            numbers.append(value)
            spelled.append(kind)
            return lambda given: given[len(tensors) + place]
        if kind in (tuple, list, dict) or (isinstance(value, tuple) and hasattr(value, "_fields")):
            names = tuple(value) if kind is dict else None
            spelled.append((kind, len(value), names))
            inside = value.values() if names else value
            parts = [self._taken_apart(part, tensors, numbers, objects, spelled) for part in inside]
            if names is not None:
                return lambda given: {name: part(given) for name, part in zip(names, parts, strict=True)}
            if hasattr(value, "_fields"):
                return lambda given: kind(*[part(given) for part in parts])
            return lambda given: kind([part(given) for part in parts])
        if isinstance(value, bool | int | float | complex | str | bytes | np.generic | None):
            spelled.append(spelling(value))
        else:
            objects[f"argument {kind.__name__} {id(value)}"] = value
            spelled.append((kind, id(value)))
        return lambda given: value

    # ------------------------------------------------------------------------------------------- calls of another kind

    def _other(self, call: Call) -> Any:
        """Run a call for which no program is known to be the right one."""
        if call.key in self._as_ever:
            return self.function(*call.args, **call.kwargs)
        if isinstance(recording(), tuple) or position() is not None or any(t.device is not CPU for t in call.tensors):
            return self.function(*call.args, **call.kwargs)
        programs = self._programs.get(call.key, [])
        if not programs and (self._recorded >= MOST_PROGRAMS or len(self._programs) > MOST_PROGRAMS):
            return self._too_many(call)
        self._programs[call.key] = programs
        self._roots.update(call.objects)  # they live as long as their ids count
        for captured in programs:
            if isinstance(captured, Differentiable):
                captured.finish()
        reachable = self._renew(programs)
        plans = plans_of(reachable)
        done, result = self._replayed(call, programs)
        if done:
            return result
        programs[:] = [captured for captured in programs if not captured.given_up]
        if self._recorded >= MOST_PROGRAMS and all([captured.confirmed for captured in programs]):
            return self._too_many(call)
        known = self._plans is not None and plans is not None and _same(plans, self._plans)
        if self.ahead:
            return self._record_ahead(call, programs, known, reachable)
        if not known:
            return self._warm_up(call)
        self._replaced = None
        self._because = self._why(programs, reachable)
        return self._record(call, programs)

    def _replayed(self, call: Call, programs: list[Captured | Differentiable]) -> tuple[bool, Any]:
        """Run the program of a call, if one of them is."""
        for captured in programs:
            if captured.fits(call.tensors):
                done, result = captured.replay(call.tensors, call.numbers)
                if done:
                    return True, result
        return False, None

    def _record_ahead(
        self, call: Call, programs: list[Captured | Differentiable], known: bool, reachable: Reachable
    ) -> Any:
        """Record a call, put back what that has changed, and run it as a program (Note [Recorded ahead])."""
        if not known:
            before = Position(reachable)
            result = self._warm_up(call)
            if before.has_begun():
                return result
            before.restore()
            reachable = self._renew(programs)
        for _ in range(ATTEMPTS):
            self._replaced = None
            self._because = self._why(programs, reachable)
            before = Position(self._run_by_recording(reachable))
            result = self._record(call, programs)
            if before.has_begun():
                return result
            if call.key in self._as_ever:
                return self._given_up(call, before, result)
            before.restore()
            done, result = self._replayed(call, programs)
            if done:  # all that a step finds is seen to be as it was, without another walk
                return result
            reachable = self._renew(programs)
            done, result = self._replayed(call, programs)
            if done:
                return result
        self._give_up(call, "what its calls leave asks for another program each time")
        return self.function(*call.args, **call.kwargs)

    def _given_up(self, call: Call, before: Position, result: Any) -> Any:
        """Return what a call gave that has no program."""
        return result

    def _run_by_recording(self, reachable: Reachable) -> Reachable:
        """Return what can be reached by that which runs when a call is recorded."""
        return reachable

    def _too_many(self, call: Call) -> Any:
        """Run as ever for want of a program."""
        self._say(
            f"{MOST_PROGRAMS} programs were recorded of it: arguments of ever new shapes, or values around it that "
            "change from call to call"
        )
        return self.function(*call.args, **call.kwargs)

    def _why(self, programs: list[Captured | Differentiable], reachable: Reachable) -> str:
        """Say why a call has no program."""
        if not self._recorded:
            return "as the first one"
        found = [captured.misfit(reachable) for captured in programs if isinstance(captured, Captured)]
        return f"since {max(found, default=(0, 'no program was for arguments of this form'))[1]}"

    def _walk(self) -> Reachable:
        """Look what the function can reach."""
        return Reachable(self._roots, self._words)

    def _renew(self, programs: list[Captured | Differentiable]) -> Reachable:
        """Walk what the function can reach, and tell the programs of it."""
        reachable = self._walk()
        reachable.forget_gradients()  # before somebody counts who holds them
        self._words |= reachable.words
        for captured in programs:
            captured.renew(reachable)
        return reachable

    def _warm_up(self, call: Call) -> Any:
        """Run as ever, and see which parameters the optimizers update, and where: the next call will find the same."""
        if self._replaced is not None and self.fallback is None:
            raise CaptureError(self._replaced)
        reachable = self._walk()
        before = [(path, tensor, tensor._array) for path, tensor in reachable.tensors.items()]
        result = self.function(*call.args, **call.kwargs)
        replaced = next((path for path, tensor, array in before if tensor._array is not array), None)
        if self._replaced is not None:
            self._give_up(call, self._replaced)
        if replaced is not None:
            self._replaced = replaced_within(reachable, replaced)
        self._plans = plans_of(self._walk()) or []
        return result

    def _record(self, call: Call, programs: list[Captured | Differentiable]) -> Any:
        recording, result = self._recorded_call(call, self.function, self._roots)
        if recording is None:
            return result
        name_inputs(recording.program, self.function, call.args, call.kwargs)
        try:
            if recording.differentiable:
                return self._take_in_forward(call, recording, programs)
            self._take_in(recording, programs)
        except BaseException as error:
            if self.fallback is not None and isinstance(error, CaptureError):
                self._give_up(call, str(error))  # what was recorded has run as ever
                return result
            recording.undo()
            raise
        return result

    def _recorded_call(
        self, call: Call, function: Callable[..., Any], roots: Mapping[str, Any]
    ) -> tuple[Recording | None, Any]:
        """Record a function in a call; return the result of the call as well, of which there may be nothing else."""
        try:
            recording = Recording(function, call.tensors, call.build, roots, self._words, call.numbers)
            return recording, recording.result
        except CaptureError as error:
            if self.fallback is None:
                raise
            self._give_up(call, str(error))
            return None, self.function(*call.args, **call.kwargs)
        except OtherPlanError:
            return None, self._warm_up(call)
        except Exception as error:
            # The function's own error comes again, as it is without a recorder; what it has changed was undone.
            result = self.function(*call.args, **call.kwargs)
            self._give_up(call, f"recording it failed: {type(error).__name__}: {error}")
            return None, result

    def _give_up(self, call: Call, why: str) -> None:
        """Run calls of this kind as ever from now on."""
        self._as_ever.add(call.key)
        self._say(why)

    def _take_in(self, recording: Recording, programs: list[Captured | Differentiable]) -> None:
        """Make a program of a recording, or confirm the one that there is."""
        for captured in programs:
            if isinstance(captured, Captured) and agree(captured, recording):
                captured.confirm(Watch(recording.reachable))
                recording.forget()
                return
        self._latest = captured = self._captured(recording)
        programs.append(captured)
        self._recorded += 1
        if captured.proven:
            captured.confirm(Watch(recording.reachable))

    def _take_in_forward(self, call: Call, recording: Recording, programs: list[Captured | Differentiable]) -> Any:
        """Keep a recording until its backward pass has come, and return what it can come to."""
        recorded = Recorded(recording, call.tensors)
        for captured in programs:
            if isinstance(captured, Differentiable) and captured.second is None and agree(captured, recording):
                captured.take(recorded)
                break
        else:

            def again(given: Sequence[Any]) -> Any:
                args, kwargs = call.build(given)
                return self.function(*args, **kwargs)

            self._latest = captured = Differentiable(recorded, again, self._roots, self._because)
            programs.append(captured)
            self._recorded += 1
        return recording.build(Through.apply(recorded, (), *recorded.tensors))

    def _captured(self, recording: Recording) -> Captured:
        return Captured(recording, self.backend, self._because, trusting=self.ahead)

    def _say(self, why: str) -> None:
        if self._said:
            return
        self._said = True
        if callable(self.fallback):
            self.fallback(why)
            return
        level, frame = 1, sys._getframe(0)
        while inside[frame.f_code.co_filename] and frame.f_back is not None:
            level, frame = level + 1, frame.f_back
        warnings.warn(f"{self.called} runs as ever, not as a program: {why}", stacklevel=level)

    @property
    def called(self) -> str:
        """What it is called in a warning."""
        name = getattr(self.function, "__qualname__", type(self.function).__name__)
        return f"the compiled function {name}"

    # ------------------------------------------------------------------------------------------------------ to be read

    @property
    def code(self) -> str:
        """The program that was recorded last, as a page of Python to read (Note [Pages])."""
        return "\n".join([page.text for page in self._last().pages()])

    def explain(self) -> Explanation:
        """Return what the program that was recorded last is made of and costs; printed, it is a text."""
        return self._last().explanation()

    def _last(self) -> Captured | Differentiable:
        if self._latest is None:
            raise RuntimeError(
                "no program has been recorded yet: the first call of a function runs as ever, the next two with "
                "arguments of its shapes are recorded"
            )
        return self._latest

    # ------------------------------------------------------------------------------------------- as what it stands for

    def __get__(self, instance: Any, owner: Any = None) -> Any:
        return self if instance is None else MethodType(self, instance)

    def __getattr__(self, name: str) -> Any:
        """Have a compiled module look like the module."""
        if name.startswith("__") or "function" not in self.__dict__:
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        return getattr(self.function, name)

    def __getstate__(self) -> dict[str, Any]:
        """A copy has no programs: its function may be another one."""
        return {name: self.__dict__[name] for name in ("function", "backend", "fallback", "ahead")}

    def __setstate__(self, state: Mapping[str, Any]) -> None:
        self._begin(**state)

    def __repr__(self) -> str:
        return f"torch.compile({self.function!r})"


def agree(captured: Captured | Differentiable, recording: Recording) -> bool:
    """Whether a recording is the second one of a program; raise where it is, and gives another program."""
    if captured.confirmed or captured.given_up or not captured.recording.is_like(recording):
        return False
    difference = captured.recording.difference(recording)
    if difference is not None:
        raise CaptureError(
            f"{difference}: the function did something else in the call before, though nothing around it has changed, "
            "so a program would go on with a value of one call: pass what changes as a tensor argument"
        )
    return True


def _positional(tensors: Sequence[Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
    return tuple(tensors), {}


def _taking(tensors: Sequence[Tensor]) -> Callable[[Any], bool]:
    """Return whether the key of another call of tensors alone is that of this one."""
    conditions = Conditions()
    for mode in MODES:
        conditions.add("{}() is {}", mode, mode())
    conditions.add(f"len(given) == {len(tensors)}")
    for place, tensor in enumerate(tensors):
        array, (*_, requires_grad) = tensor._array, _form(tensor)
        conditions.add(f"type(given[{place}]) is {{}}", type(tensor))
        conditions.add(f"(array := given[{place}]._array).shape == {{}}", array.shape)
        conditions.add("array.strides == {} and array.dtype is {}", array.strides, array.dtype)
        own = f"given[{place}]._requires_grad if given[{place}]._view is None else given[{place}].requires_grad"
        conditions.add(f"({own}) is {{}}", requires_grad)
    return conditions.build("given")


def _form(tensor: Tensor) -> tuple[Any, ...]:
    array = tensor._array
    requires_grad = tensor._requires_grad if tensor._view is None else tensor.requires_grad
    return array.shape, array.strides, array.dtype, requires_grad


def plans_of(reachable: Reachable) -> list[Any] | None:
    """Return the plans of all optimizers; None where one of them has to be made anew."""
    plans = []
    for optimizer in reachable.objects:
        if isinstance(optimizer, Optimizer):
            for plan in optimizer._plans.values():
                if not all([segment.holds(optimizer.state) for segment in plan.segments]):
                    return None
                plans.append(plan)
    return plans


def _same(some: list[Any], others: list[Any]) -> bool:
    return len(some) == len(others) and all(map(is_, some, others))
