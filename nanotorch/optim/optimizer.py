"""The base of all optimizers: parameter groups, state, and the step that applies one rule to every parameter."""

from __future__ import annotations

import copy
import functools
import inspect
import typing
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import chain
from typing import Annotated, Any, ClassVar, TypedDict

import numpy as np

from nanotorch.autograd.graph import RemovableHandle
from nanotorch.autograd.graph.changes import changes
from nanotorch.autograd.graph.grad_mode import enable_grad
from nanotorch.autograd.graph.interpreter import set_aside
from nanotorch.autograd.graph.tensor import Tensor, clear_grad
from nanotorch.dtypes import from_numpy_dtype
from nanotorch.optim.segment import Segment, state_dtype
from nanotorch.optim.segment_plan import Plan
from nanotorch.registry import Between

_PLAIN = (float, int, bool, type(None))
_global_pre_hooks: dict[int, Callable[..., Any]] = {}
_global_post_hooks: dict[int, Callable[..., Any]] = {}


class Execution(TypedDict, total=False):
    """Options of PyTorch's optimizers that say how a step is computed, not what: every optimizer takes them.

    `foreach` and `fused` choose between loops that give the same numbers, of which there is one here. `capturable` and
    `differentiable` steps are refused.
    """

    foreach: bool | None
    fused: bool | None
    capturable: bool
    differentiable: bool


def register_optimizer_step_pre_hook(hook: Callable[..., Any]) -> RemovableHandle:
    """Call `hook(optimizer, args, kwargs)` before every step of every optimizer."""
    return _add_hook(_global_pre_hooks, hook)


def register_optimizer_step_post_hook(hook: Callable[..., Any]) -> RemovableHandle:
    """Call `hook(optimizer, args, kwargs)` after every step of every optimizer."""
    return _add_hook(_global_post_hooks, hook)


def number_of(value: Any) -> Any:
    """Return an option as the number it stands for: a tensor of one element as its item."""
    if isinstance(value, tuple):
        return tuple([each if type(each) in _PLAIN else number_of(each) for each in value])
    if not isinstance(value, Tensor):
        return value
    with set_aside():
        return value.item()


def arguments(names: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options of an optimizer among the local names of its constructor, which its signature declares."""
    return {k: v for k, v in names.items() if k not in ("self", "params", "execution", "__class__")}


def _add_hook(hooks: dict[int, Any], hook: Callable[..., Any], prepend: bool = False) -> RemovableHandle:
    changes[0] += 1
    handle = RemovableHandle(hooks)
    others = dict(hooks) if prepend else {}
    if prepend:
        hooks.clear()
    hooks[handle.id] = hook
    hooks.update(others)
    return handle


def _hooked(step: Callable[..., Any]) -> Callable[..., Any]:
    """Return a `step` that runs the hooks around it; where it calls that of a class above, they run once."""

    @functools.wraps(step)
    def hooked(self: Optimizer, *args: Any, **kwargs: Any) -> Any:
        self._step_called = True
        hooks = self._step_pre_hooks or self._step_post_hooks or _global_pre_hooks or _global_post_hooks
        if not hooks or type(self).step is not hooked:
            return step(self, *args, **kwargs)
        args = (self, *args)
        for hook in (*_global_pre_hooks.values(), *self._step_pre_hooks.values()):
            changed = hook(self, args, kwargs)
            if changed is not None:
                if not (isinstance(changed, tuple) and len(changed) == 2):
                    raise RuntimeError(
                        f"a step pre-hook returns None or a tuple (args, kwargs), got {type(changed).__name__}"
                    )
                args, kwargs = changed
        result = step(*args, **kwargs)
        for hook in (*self._step_post_hooks.values(), *_global_post_hooks.values()):
            hook(self, args, kwargs)
        return result

    return hooked


class Optimizer:
    """Holds parameters in groups with options of their own, and updates them by one rule.

    A subclass gives its options as `defaults` (their ranges stand in its constructor's annotations) and a `rule`:

        rule(xp, param, grad, *state, **scalars)

    The rule gets flat raw arrays of one dtype and device and updates `param` and the state in place, with operators
    and functions of `xp` only; `grad` is not to be changed. Its keyword-only arguments are options of the group by
    name, or `step` (1 at a parameter's first update), or `first` (whether this is it). `state_names(group)` names
    the state arrays after `grad`, as they appear in `state_dict()`, with "step" among them where updates are counted.
    State that is one number for each parameter is listed in `number_names`, and kept in float32 unless float64 is the
    default dtype, as in PyTorch; all but the count. `scalars(numbers, group)` moves these numbers on, on the host, and
    returns what the rule gets of them.

    Note [Host scalars]
    ~~~~~~~~~~~~~~~~~~~
    Every number that a rule depends on is an argument of this call of it: nothing is folded in when it is built, and
    it does nothing with numbers but arithmetic. It branches on booleans (`maximize`, `first`, `rectified`), on state
    that may be None, and on whether a number is 0 (`if weight_decay`); what else decides, `scalars` compares, and gives
    a boolean. So the text of a rule is a program over arrays with scalars as inputs: run once with arrays and scalars
    that write down what is done with them, it can be replayed with another learning rate or count, as long as its
    branches go the same way, which the scalars tell before anything runs.

    `params` is an iterable of tensors, of pairs (name, tensor) as `named_parameters()` gives them, or of dicts, one
    per group: `{"params": [...], "lr": 0.1}`. An option may be a tensor of one element: each step reads it.
    """

    rule: ClassVar[Callable[..., Any]]
    number_names: ClassVar[tuple[str, ...]] = ("step",)
    _scalar_names: ClassVar[tuple[str, ...]] = ()

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        if "step" in cls.__dict__:
            cls.step = _hooked(cls.__dict__["step"])  # type: ignore[method-assign]
        if "rule" in cls.__dict__:
            parameters = inspect.signature(cls.rule).parameters.values()
            cls._scalar_names = tuple(p.name for p in parameters if p.kind is p.KEYWORD_ONLY)

    def __init__(self, params: Iterable[Any], defaults: dict[str, Any], **execution: Any) -> None:
        for name in execution:
            if name not in Execution.__annotations__:
                raise TypeError(f"{type(self).__name__}.__init__() got an unexpected keyword argument {name!r}")
        if isinstance(params, Tensor):
            raise TypeError(f"{type(self).__name__} needs a list of tensors or of dicts, got a single tensor: [param]")
        self.defaults: dict[str, Any] = {**defaults, **execution}
        self.state: defaultdict[Any, dict[str, Any]] = defaultdict(dict)
        self.param_groups: list[dict[str, Any]] = []
        self._plans: dict[int, Plan] = {}
        self._scheduled = False
        self._step_called = False
        self._begin_hooks()
        groups = list(params)
        if not groups:
            raise ValueError(
                f"{type(self).__name__} got an empty list of parameters; if it came from model.parameters(), "
                "the model has none, or the generator was used up before"
            )
        if not isinstance(groups[0], dict):
            groups = [{"params": groups}]
        for group in groups:
            self.add_param_group(group)

    def state_names(self, group: Mapping[str, Any]) -> tuple[str, ...]:
        """Return the names of the state that each parameter of this group has."""
        return ()

    def scalars(self, numbers: dict[str, Any], group: Mapping[str, Any]) -> dict[str, Any]:
        """Move the numbers of parameters on by one update, and return those that the rule gets (Note [Host scalars]).

        `numbers` has an array for each name, with one equal entry for each parameter, to be written in place.
        """
        steps = numbers.get("step")
        if steps is not None:
            steps.fill(steps.item(0) + 1)  # all are equal; a third of the time of an addition to an array
        return {name: entries.item(0) for name, entries in numbers.items()}

    def initial_value(self, name: str, group: Mapping[str, Any]) -> float:
        """Return the number that a state array is filled with before the first update."""
        return 0.0

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a dict with "params" and options; options that are missing get the optimizer's defaults."""
        if not isinstance(param_group, dict):
            raise TypeError(f"a parameter group is a dict, got {type(param_group).__name__}")
        params = param_group["params"]
        if isinstance(params, set):
            raise TypeError("parameters in a set have no fixed order, which state_dict needs; give a list")
        params = [params] if isinstance(params, Tensor) else list(params)
        named = [item for item in params if isinstance(item, tuple) and len(item) == 2]
        if named and len(named) < len(params):
            raise ValueError("some parameters of a group have names and others do not: name all of them, or none")
        if any(("param_names" in group) != bool(named) for group in self.param_groups):
            raise ValueError(
                f"the groups before this one have parameters {'without' if named else 'with'} names: name the "
                "parameters of all groups, or of none"
            )
        params = [param for _, param in named] or params
        for param in params:
            if not isinstance(param, Tensor):
                raise TypeError(f"an optimizer updates tensors, got {type(param).__name__} among the parameters")
            if not param.is_leaf:
                raise ValueError("an optimizer updates leaf tensors, got the result of an operation")
        known = {id(param) for group in self.param_groups for param in group["params"]}
        if len(set(map(id, params))) < len(params):
            raise ValueError("a parameter appears twice in one parameter group")
        if not known.isdisjoint(map(id, params)):
            raise ValueError("a parameter appears in more than one parameter group")
        options = {**self.defaults, **param_group, "params": None}
        group = {k: v.item() if isinstance(v, np.generic) else v for k, v in options.items()}
        self._check_options(group)
        group["params"] = params
        if named:
            group["param_names"] = [name for name, _ in named]
        param_group.update(group)
        self.param_groups.append(param_group)

    def _check_options(self, group: Mapping[str, Any]) -> None:
        kind = type(self).__name__
        for name, purpose in (("capturable", "a CUDA graph can hold"), ("differentiable", "gradients flow through")):
            if group.get(name):
                raise ValueError(f"{kind}: {name}=True asks for a step that {purpose}, which there is none here of")
        if group.get("fused") and group.get("foreach"):
            raise RuntimeError(f"{kind}: fused and foreach choose between two loops, so only one of them can be True")
        for name, value in group.items():
            for number in value if isinstance(value, tuple) else (value,):
                if isinstance(number, Tensor) and number.numel() != 1:
                    raise ValueError(f"{kind}: {name} as a tensor has one element, got {number.numel()}")
        for name, (allowed, several) in _ranges(type(self).__init__).items():
            if name not in group:
                continue
            value = number_of(group[name])
            values = value if several and isinstance(value, tuple | list) else (value,)
            if not all(isinstance(number, int | float) for number in values):
                raise TypeError(f"{kind}: {name} must be {'numbers' if several else 'a number'}, got {value!r}")
            if any(number not in allowed for number in values):
                raise ValueError(f"{kind}: {name} must be {allowed.describe()}, got {value}")

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forget the gradients of all parameters, or with `set_to_none=False` fill them with zeros."""
        for group in self.param_groups:
            for param in group["params"]:
                clear_grad(param, set_to_none)

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Update every parameter that has a gradient; returns what `closure` returned, if one was given.

        A closure clears the gradients, computes the loss and calls `backward()` on it.
        """
        loss = None
        if closure is not None:
            with enable_grad():
                loss = closure()
        for segment, scalars in self.host_scalars():
            segment.update(self.rule, scalars, f"{type(self).__name__}.step")
        return loss

    def host_scalars(self) -> Iterator[tuple[Segment, dict[str, Any]]]:
        """Move the numbers of all parameters that have a gradient on by one update, and give what is to be done: for
        each segment the rule's scalars (Note [Host scalars]).

        This is all of a step that the host does. Who replays a step's program knows the segments: it calls
        `count_step`, and `next_scalars` for each of them.
        """
        self.count_step()
        for index, group in enumerate(self.param_groups):
            params = [param for param in group["params"] if param._grad is not None]
            if not params:
                continue
            names = self.state_names(group)
            plan = self._plans.get(index)
            if plan is None or not plan.fits(params, names, self.state):
                initial = {name: 0.0 if name == "step" else self.initial_value(name, group) for name in names}
                with set_aside():
                    plan = self._plans[index] = Plan(params, self.state, names, initial, self.number_names, plan)
            for segment in plan.segments:
                yield segment, self.next_scalars(segment, group)

    def count_step(self) -> None:
        """Move on what the optimizer itself counts, beside the numbers of parameters."""

    def next_scalars(self, segment: Segment, group: Mapping[str, Any]) -> dict[str, Any]:
        """Move the numbers of a segment's parameters on by one update, and return the scalars of its rule."""
        option = group.get
        scalars = {n: value if type(value := option(n)) in _PLAIN else number_of(value) for n in self._scalar_names}
        if "first" in scalars:
            scalars["first"] = segment.first
        for name, value in self.scalars(segment.numbers, group).items():
            if name in scalars:
                scalars[name] = value
        segment.moved_on()
        return scalars

    def register_step_pre_hook(self, hook: Callable[..., Any]) -> RemovableHandle:
        """Call `hook(optimizer, args, kwargs)` before every step; it may return others as a tuple (args, kwargs).

        `args` begins with the optimizer itself, as in PyTorch.
        """
        return _add_hook(self._step_pre_hooks, hook)

    def register_step_post_hook(self, hook: Callable[..., Any]) -> RemovableHandle:
        """Call `hook(optimizer, args, kwargs)` after every step."""
        return _add_hook(self._step_post_hooks, hook)

    def register_state_dict_pre_hook(self, hook: Callable[..., Any], prepend: bool = False) -> RemovableHandle:
        """Call `hook(optimizer)` before `state_dict()` collects anything."""
        return _add_hook(self._state_dict_pre_hooks, hook, prepend)

    def register_state_dict_post_hook(self, hook: Callable[..., Any], prepend: bool = False) -> RemovableHandle:
        """Call `hook(optimizer, state_dict)` on what `state_dict()` collected; it may return another dict."""
        return _add_hook(self._state_dict_post_hooks, hook, prepend)

    def register_load_state_dict_pre_hook(self, hook: Callable[..., Any], prepend: bool = False) -> RemovableHandle:
        """Call `hook(optimizer, state_dict)` on a shallow copy of what is to be loaded; it may return another dict."""
        return _add_hook(self._load_state_dict_pre_hooks, hook, prepend)

    def register_load_state_dict_post_hook(self, hook: Callable[..., Any], prepend: bool = False) -> RemovableHandle:
        """Call `hook(optimizer)` after `load_state_dict()`."""
        return _add_hook(self._load_state_dict_post_hooks, hook, prepend)

    def state_dict(self) -> dict[str, Any]:
        """Return the state and the groups, with parameters by number: `{"state": {0: {...}}, "param_groups": [...]}`.

        The tensors in it are the optimizer's own, as in PyTorch: copy them to keep them as they are now.
        """
        for hook in self._state_dict_pre_hooks.values():
            hook(self)
        number = {id(param): index for index, param in enumerate(self._parameters())}
        groups = [{**group, "params": [number[id(param)] for param in group["params"]]} for group in self.param_groups]
        state: dict[Any, Any] = {}
        for key, record in self.state.items():
            if not isinstance(key, Tensor):
                state[key] = record  # of an optimizer of one's own: it belongs to no parameter
            elif record:
                state[number[id(key)]] = dict(record)
        found: dict[str, Any] = {"state": state, "param_groups": groups}
        for hook in self._state_dict_post_hooks.values():
            changed = hook(self, found)
            found = found if changed is None else changed
        return found

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Continue from what `state_dict()` returned, matching parameters by their order; values are copied.

        Options, such as the learning rate, come from the dict as well; names of parameters decide nothing. A dict
        that does not match the groups or the shapes of the parameters is a ValueError, and changes nothing.
        """
        state_dict = dict(state_dict)
        for hook in self._load_state_dict_pre_hooks.values():
            changed = hook(self, state_dict)
            state_dict = state_dict if changed is None else changed
        saved = state_dict["param_groups"]
        sizes = [len(group["params"]) for group in self.param_groups]
        saved_sizes = [len(group["params"]) for group in saved]
        if sizes != saved_sizes:
            raise ValueError(
                f"the state_dict has groups of {saved_sizes} parameters, but this optimizer has groups of {sizes}"
            )
        groups = []
        for old, new in zip(self.param_groups, saved, strict=True):
            names = {"param_names": old["param_names"]} if "param_names" in old else {}
            options = copy.deepcopy({name: value for name, value in new.items() if name != "params"})
            options |= {"params": old["params"]}
            found = {**self.defaults, **names, **options}
            groups.append({**{name: found[name] for name in new}, **found})  # saved anew, it is the same text
        arrays = [set(self.state_names(group)) - {*self.number_names} for group in groups for _ in group["params"]]
        numbers = [number for group in saved for number in group["params"]]
        state: defaultdict[Any, dict[str, Any]] = defaultdict(dict)
        for number, param, names_of_arrays in zip(numbers, self._parameters(), arrays, strict=True):
            for name, value in state_dict["state"].get(number, {}).items():
                if name in names_of_arrays and isinstance(value, Tensor) and value.shape != param.shape:
                    raise ValueError(
                        f"the state_dict has {name!r} of shape {tuple(value.shape)} for parameter {number}, whose "
                        f"shape is {tuple(param.shape)}"
                    )
                state[param][name] = _restored(value, param, cast=name not in self.number_names)
        state.update({key: value for key, value in state_dict["state"].items() if key not in set(numbers)})
        self.state = state
        self.param_groups = groups
        self._plans.clear()
        for hook in self._load_state_dict_post_hooks.values():
            hook(self)

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if not name.endswith("_hooks")} | {"_plans": {}}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._begin_hooks()

    def __repr__(self) -> str:
        lines = []
        for index, group in enumerate(self.param_groups):
            lines.append(f"Parameter Group {index}")
            lines += [f"    {name}: {group[name]}" for name in sorted(group) if name != "params"]
        return "\n".join([f"{type(self).__name__} (", *lines, ")"])

    def _begin_hooks(self) -> None:
        """No hooks: a copy of an optimizer does not take them along, as in PyTorch."""
        self._step_pre_hooks: dict[int, Callable[..., Any]] = {}
        self._step_post_hooks: dict[int, Callable[..., Any]] = {}
        self._state_dict_pre_hooks: dict[int, Callable[..., Any]] = {}
        self._state_dict_post_hooks: dict[int, Callable[..., Any]] = {}
        self._load_state_dict_pre_hooks: dict[int, Callable[..., Any]] = {}
        self._load_state_dict_post_hooks: dict[int, Callable[..., Any]] = {}

    def _parameters(self) -> list[Tensor]:
        return list(chain.from_iterable(group["params"] for group in self.param_groups))


def _restored(value: Any, param: Tensor, cast: bool) -> Any:
    """Return a saved value of a parameter's state, copied;
    with `cast`, tensors get the dtype of its state, and its device.
    """
    if isinstance(value, Tensor):
        value = value.detach()
        return (value.to(param.device, from_numpy_dtype(state_dtype(param))) if cast else value).clone()
    if isinstance(value, list):
        return [_restored(item, param, cast) for item in value]
    return copy.deepcopy(value)


@functools.cache
def _ranges(constructor: Callable[..., None]) -> dict[str, tuple[Between, bool]]:
    """Return the ranges of options in a constructor's annotations, and whether an option is several numbers."""
    try:
        hints = typing.get_type_hints(constructor, include_extras=True)
    except NameError:  # annotations of somebody's own optimizer that only a type checker can read
        return {}
    return {
        name: (marker, typing.get_origin(typing.get_args(hint)[0]) is tuple)
        for name, hint in hints.items()
        if typing.get_origin(hint) is Annotated
        for marker in typing.get_args(hint)[1:]
        if isinstance(marker, Between)
    }


Optimizer.step = _hooked(Optimizer.step)  # type: ignore[method-assign]
