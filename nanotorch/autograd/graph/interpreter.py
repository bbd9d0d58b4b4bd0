"""The one place that says which interpreters rows run under.

Note [Interpreters]
~~~~~~~~~~~~~~~~~~~
What a program does with tensors comes down to five things: a row's forward runs on arrays, a tensor is made around the
result, a backward pass runs the row's formulas on saved arrays, an optimizer's rule runs on parameters, and all of them
take array primitives from `device.xp`, as do the engine and who clips gradients. An `Interpreter` that is `installed`
for a `with` block may do each of them in its own way, by overriding a method:

===========  =====================================  ================================================================
method       stands for                             who does it
===========  =====================================  ================================================================
`run`        `forward(xp, ...)` of a row            observers of ops, anomaly detection, what records programs
`make`       `object.__new__(Tensor)`               `inference_mode`
`formula`    `formula(...)` of a row's backward     what records programs: saved arrays enter here
`update`     an optimizer's rule on flat arrays     what records programs: parameters and host scalars enter here
`primitives` `device.xp`                            what records programs, in backward passes and optimizers too
===========  =====================================  ================================================================

Each gets what it stands for, goes on with it or does without. They nest: the innermost interpreter is asked first, and
what it goes on with is the next one outside, at last the plain thing. The ops that a `run` itself calls are its own
affair: no interpreter sees them. Under `create_graph` formulas run on tensors, that is, as rows in their turn.

**Programs without interpreters pay nothing.** A compiled row finds `forward`, `new` and its formulas as global
names of its own namespace (a *site*), and `Device.xp` is a slot. While somebody in some thread overrides a method,
the name stands for a function that asks a context variable which interpreters there are here; the last one to leave
puts the plain thing back. Other threads find none, and run as always. An asyncio task has the interpreters of the place
where it was made, and when it leaves their blocks they are still installed there.

Note [Recorders]
~~~~~~~~~~~~~~~~
A recorder has a step run once on values of its own, each around a real array, and writes down what is done with them,
to do it again with other inputs. The step itself does not know. This is all that there is to write down:

**Arrays** enter a step as arguments of `run`, `formula` and `update`, and of primitives. Tensors keep what rows return,
so these are values of the recorder already, or else raw arrays, of two kinds. What outlives the step is known by the
owner of its memory: it is all that the function of the step can reach. Constants of the host come by `asarray` or
`receive`, and a program that writes to one has to begin with a copy. Any other was made outside the table.

**Primitives** are what happens to values (Note [Array primitives]), with views and writes as NumPy has them. `FACTS`
and `PLACEMENT`, and the numbers that the section "layout" answers, follow from the shapes and strides of what came in:
answer them, and write nothing down. Of values nothing else may be asked: `to_numpy` comes before whatever reads them
for Python, "unsized" primitives and masks in `x[...]` give shapes that another run would not have, and every other name
is a method of NumPy's. Refuse them by an `InterpreterError`.

**Writes** are the section "writes", and in a rule `+=`, `-=`, `*=` and `/=`; `iadd` gives its left operand up.

**Draws**, the section "draws", are drawn anew by every run, in their order. A seed that is a function is to be called.

**Numbers of the host** that differ from run to run are the scalars of `update` (Note [Host scalars]), the `number` of
`window_step` or `step` of `dropout_counters`, what `seed_of` answers, and the probability `p` of dropout, which goes
from the layer to `keep_mask` and is only compared on its way. A recorder may put objects in their places that compute
lazily; what a comparison or a read of one says is an assumption. Everything else that Python computed is constant, and
holds as long as the shapes, the attributes of modules and the mode of training are what they were.

**Checks** are the "questions": what they answered is an assumption, None makes none. Rows ask them, but for arrays in
the index of `x[...]`, `put` and `add_at`, which NumPy checks where it uses them: there a recorder asks `indexable`. In
a step of training no question depends on what it has written before, so all can be asked first: a run that would raise
then leaves everything as it was, and the plain step says what is wrong.

**What outlives the step** is made under `set_aside`, by the plain `xp`: the state and the plan of an optimizer. After
recording the `.grad` of parameters that are not flat are values of the recorder, as are the results; whoever repeats a
program replaces both.

**The host's part** of a step is not in the program. `Optimizer.host_scalars` does it, also that of a `MovingAverage`,
and says with its booleans which program fits; where none does, the numbers have to be put back, and the plain step
runs. Who runs a program moves the versions of what it has written to, as the plain step would have.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from contextvars import ContextVar, Token
from functools import partial
from typing import Any

from nanotorch.autograd.graph.locks import INTERPRETERS
from nanotorch.backend.device import Device


class InterpreterError(RuntimeError):
    """What an interpreter says of a row: it reaches the user as it is."""


class Interpreter:
    """Plain Python; subclasses override what they do in their own way (Note [Interpreters])."""

    def run(self, row: Any, forward: Callable[..., Any], xp: Any, *args: Any, **kwargs: Any) -> Any:
        """Run a row's forward on arrays; return its array, or a tuple of them."""
        return forward(xp, *args, **kwargs)

    def formula(self, row: Any, formula: Callable[..., Any], *args: Any) -> Any:
        """Run a row's formula on arrays, or on tensors under `create_graph`; return the gradient."""
        return formula(*args)

    def update(
        self,
        segment: Any,
        rule: Callable[..., None],
        further: Callable[..., None],
        xp: Any,
        param: Any,
        grad: Any,
        state: dict[str, Any],
        scalars: Mapping[str, Any],
    ) -> None:
        """Have the parameters of an optimizer's segment updated in place: `rule(xp, param, grad, **state, **scalars)`,
        which `further` does in blocks that stay in the cache (Note [Host scalars]).
        """
        further(xp, param, grad, state, scalars)

    def make(self, new: Callable[[type], Any]) -> Callable[[type], Any]:
        """Return the function that makes an empty tensor of a class."""
        return new

    def primitives(self, device: Device, xp: Any) -> Any:
        """Return the array primitives of a device (Note [Array primitives])."""
        return xp


class _Here:
    """What is installed at a point of a program: the interpreters, outermost first, and what follows from them.

    The first `resting` ones are running a row: the ops that they call are not for them.
    """

    __slots__ = ("differentiating", "entries", "namespaces", "new", "resting", "running", "updating")

    def __init__(self, entries: tuple[tuple[Interpreter, Token[None]], ...], resting: int) -> None:
        self.entries, self.resting = entries, resting
        self.running = tuple([i for i, _ in entries[resting:] if _overrides(i, "run")])
        self.differentiating = tuple([i for i, _ in entries[resting:] if _overrides(i, "formula")])
        self.updating = tuple([i for i, _ in entries[resting:] if _overrides(i, "update")])
        self.namespaces = tuple([i for i, _ in entries if _overrides(i, "primitives")])
        self.new: Callable[[type], Any] = object.__new__
        for interpreter, _ in entries:
            self.new = interpreter.make(self.new)


_NONE = _Here((), 0)
_here: ContextVar[_Here] = ContextVar("interpreters", default=_NONE)
_entered: ContextVar[None] = ContextVar("interpreter_entered", default=None)
_users = {"run": 0, "formula": 0, "update": 0, "make": 0, "primitives": 0}
_sites: list[dict[str, Any]] = []
_plain_xp: Any = vars(Device)["xp"]


def _overrides(interpreter: Interpreter, method: str) -> bool:
    return getattr(type(interpreter), method) is not getattr(Interpreter, method)


class installed:
    """Run what this thread (in asyncio, this task) does inside the `with` block under an interpreter.

    Blocks need not end in the order of a stack. See Note [Interpreters].
    """

    def __init__(self, interpreter: Interpreter) -> None:
        self.interpreter = interpreter

    def __enter__(self) -> None:
        here = _here.get()
        _here.set(_Here((*here.entries, (self.interpreter, _entered.set(None))), here.resting))
        _count(self.interpreter, 1)

    def __exit__(self, *exception: object) -> None:
        here = _here.get()
        # The newest, should it be there twice; a ValueError where it was not installed.
        place = max(k for k, (interpreter, _) in enumerate(here.entries) if interpreter is self.interpreter)
        _, token = here.entries[place]
        entries = here.entries[:place] + here.entries[place + 1 :]
        _here.set(_Here(entries, here.resting - (place < here.resting)))
        with suppress(ValueError):  # a task leaves what it inherited: it is still installed where the task was made
            _entered.reset(token)
            _count(self.interpreter, -1)


@contextmanager
def set_aside() -> Iterator[None]:
    """Compute plainly in the `with` block: it makes what outlives a step,
    such as an optimizer's state (Note [Recorders]).
    """
    aside = _Here((), 0)
    aside.new = _here.get().new
    token = _here.set(aside)
    try:
        yield
    finally:
        _here.reset(token)


def add_site(namespace: dict[str, Any]) -> None:
    """Have tensors made, and forward and formulas of the `row` called, if there is one, by what interpreters say.

    The code of the namespace finds them under the names `new`, `forward` and `formula_<argument>`.
    """
    with INTERPRETERS:
        _sites.append(namespace)
        _furnish(namespace)
        _furnish_formulas(namespace)


def at_rest() -> bool:
    """Return whether no thread has an interpreter, and every site is as it was."""
    rows = [site for site in _sites if "row" in site]
    return (
        not any(_users.values())
        and vars(Device)["xp"] is _plain_xp
        and all([site["new"] is object.__new__ for site in _sites])
        and all([site["forward"] is site["row"].forward for site in rows])
        and all([site[f"formula_{n}"] is f for site in rows for n, (f, _) in site["row"].formulas.items()])
    )


def _furnish(site: dict[str, Any]) -> None:
    site["new"] = _make if _users["make"] else object.__new__
    if "row" in site:
        site["forward"] = _forward_of(site["row"]) if _users["run"] else site["row"].forward


def _furnish_formulas(site: dict[str, Any]) -> None:
    row = site.get("row")
    for name, (formula, _) in row.formulas.items() if row is not None else ():
        site[f"formula_{name}"] = _formula_of(row, formula) if _users["formula"] else formula


def _count(interpreter: Interpreter, step: int) -> None:
    """Count who overrides which method, in all threads; the first and the last one change what the names stand for."""
    with INTERPRETERS:
        before = dict(_users)
        for method in _users:
            _users[method] += step * _overrides(interpreter, method)
        changed = [method for method in _users if bool(before[method]) != bool(_users[method])]
        if "primitives" in changed:
            type.__setattr__(Device, "xp", property(_primitives) if _users["primitives"] else _plain_xp)
        if "run" in changed or "make" in changed:
            for site in _sites:
                _furnish(site)
        if "formula" in changed:
            for site in _sites:
                _furnish_formulas(site)


def _forward_of(row: Any) -> Callable[..., Any]:
    """Return what stands for a row's forward while somebody overrides `run`."""
    forward = row.forward

    def interpreted(xp: Any, *args: Any, **kwargs: Any) -> Any:
        here = _here.get()
        if not here.running:
            return forward(xp, *args, **kwargs)
        further = forward
        for interpreter in here.running:
            further = partial(interpreter.run, row, further)
        token = _here.set(_Here(here.entries, len(here.entries)))
        try:
            return further(xp, *args, **kwargs)
        finally:
            _here.reset(token)

    return interpreted


def _formula_of(row: Any, formula: Callable[..., Any]) -> Callable[..., Any]:
    """Return what stands for a formula of a row while somebody overrides `formula`."""

    def interpreted(*args: Any) -> Any:
        further = formula
        for interpreter in _here.get().differentiating:
            further = partial(interpreter.formula, row, further)
        return further(*args)

    return interpreted


def updater(segment: Any, rule: Callable[..., None], plain: Callable[..., None]) -> Callable[..., None]:
    """Return what updates the parameters of a segment by a rule: `plain`, unless somebody overrides `update`."""
    if _users["update"]:
        for interpreter in _here.get().updating:
            plain = partial(interpreter.update, segment, rule, plain)
    return plain


def _make(cls: type) -> Any:
    """Stand for `object.__new__` where tensors are made, while somebody overrides `make`."""
    new = _here.get().new
    return new(cls)


def _primitives(device: Device) -> Any:
    """Stand for the slot `Device.xp` while somebody overrides `primitives`."""
    try:
        xp = _plain_xp.__get__(device)
    except AttributeError:
        xp = device.__getattr__("xp")  # a GPU's
    for interpreter in _here.get().namespaces:
        xp = interpreter.primitives(device, xp)
    return xp


def undisturbed() -> bool:
    """Return whether no interpreter looks at rows, formulas, rules or primitives here."""
    here = _here.get()
    if here is _NONE:
        return True
    return not (here.resting or here.running or here.differentiating or here.updating or here.namespaces)
