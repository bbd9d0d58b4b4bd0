"""The base of all optimizers: parameter groups, state, and the step that applies one rule to every parameter."""

from __future__ import annotations

import copy
import functools
import inspect
import typing
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from typing import Annotated, Any, ClassVar

import numpy as np

from nanotorch.autograd.grad_mode import enable_grad
from nanotorch.autograd.tensor import Tensor
from nanotorch.optim.segment import Plan
from nanotorch.registry import Between

__all__ = ["Optimizer"]


class Optimizer:
    """Holds parameters in groups with options of their own, and updates them by one rule.

    A subclass gives its options as `defaults` (their ranges stand in its constructor's annotations) and a `rule`:

        rule(xp, param, grad, *state, **options)

    The rule gets flat raw arrays of one dtype and device and updates `param` and the state in place, with operators
    and functions of `xp` only; `grad` is not to be changed. Its keyword-only arguments are options of the group by
    name, or `step` (1 at a parameter's first update), or `first` (whether this is it). `state_names(group)` names
    the state arrays after `grad`, as they appear in `state_dict()`, with "step" among them where updates are counted.

    `params` is an iterable of tensors, or of dicts, one per group: `{"params": [...], "lr": 0.1}`.
    """

    rule: ClassVar[Callable[..., None]]
    _option_names: ClassVar[tuple[str, ...]] = ()

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        if "rule" in cls.__dict__:
            parameters = inspect.signature(cls.rule).parameters.values()
            cls._option_names = tuple(p.name for p in parameters if p.kind is p.KEYWORD_ONLY)

    def __init__(self, params: Iterable[Any], defaults: dict[str, Any]) -> None:
        if isinstance(params, Tensor):
            raise TypeError(
                f"{type(self).__name__} needs a list of tensors or of dicts, got a single tensor: [param]"
            )
        self.defaults = defaults
        self.state: defaultdict[Tensor, dict[str, Any]] = defaultdict(dict)
        self.param_groups: list[dict[str, Any]] = []
        self._plans: dict[int, Plan] = {}
        self._step_called = False
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
        """The names of the state that each parameter of this group has."""
        return ()

    def initial_value(self, name: str, group: Mapping[str, Any]) -> float:
        """The number that a state array is filled with before the first update."""
        return 0.0

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a dict with "params" and options; options that are missing get the optimizer's defaults."""
        if not isinstance(param_group, dict):
            raise TypeError(f"a parameter group is a dict, got {type(param_group).__name__}")
        params = param_group["params"]
        if isinstance(params, set):
            raise TypeError("parameters in a set have no fixed order, which state_dict needs; give a list")
        params = [params] if isinstance(params, Tensor) else list(params)
        for param in params:
            if not isinstance(param, Tensor):
                raise TypeError(
                    f"an optimizer updates tensors, got {type(param).__name__} among the parameters"
                )
            if not param.is_leaf:
                raise ValueError("an optimizer updates leaf tensors, got the result of an operation")
        known = {id(param) for group in self.param_groups for param in group["params"]}
        if len(set(map(id, params))) < len(params):
            raise ValueError("a parameter appears twice in one parameter group")
        if not known.isdisjoint(map(id, params)):
            raise ValueError("a parameter appears in more than one parameter group")
        options = {**self.defaults, **param_group, "params": None}
        group = {k: v.item() if isinstance(v, Tensor | np.generic) else v for k, v in options.items()}
        group["params"] = params
        for name, allowed in _ranges(type(self).__init__).items():
            value = group.get(name)
            values = value if isinstance(value, tuple | list) else () if value is None else (value,)
            if any(number not in allowed for number in values):
                raise ValueError(f"{type(self).__name__}: {name} must be {allowed.describe()}, got {value}")
        param_group.update(group)
        self.param_groups.append(param_group)

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forget the gradients of all parameters, or with `set_to_none=False` fill them with zeros."""
        for group in self.param_groups:
            for param in group["params"]:
                if set_to_none:
                    param._grad = None  # the slot: reading and setting .grad is checked
                elif param.grad is not None:
                    param.grad = param.grad.detach()
                    param.grad.zero_()

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Update every parameter that has a gradient; returns what `closure` returned, if one was given.

        A closure clears the gradients, computes the loss and calls `backward()` on it.
        """
        loss = None
        if closure is not None:
            with enable_grad():
                loss = closure()
        self._step_called = True
        for index, group in enumerate(self.param_groups):
            params = [param for param in group["params"] if param._grad is not None]
            if not params:
                continue
            names = self.state_names(group)
            plan = self._plans.get(index)
            if plan is None or not plan.fits(params, names, self.state):
                initial = {name: self.initial_value(name, group) for name in names}
                plan = self._plans[index] = Plan(params, self.state, names, initial, plan)
            options = {name: group.get(name) for name in self._option_names}
            for segment in plan.segments:
                segment.update(self.rule, options, f"{type(self).__name__}.step")
        return loss

    def state_dict(self) -> dict[str, Any]:
        """The state and the groups, with parameters by number: `{"state": {0: {...}}, "param_groups": [...]}`.

        The tensors in it are the optimizer's own, as in PyTorch: copy them to keep them as they are now.
        """
        params = self._params()
        number = {id(param): index for index, param in enumerate(params)}
        groups = [
            {**group, "params": [number[id(param)] for param in group["params"]]}
            for group in self.param_groups
        ]
        state = {number[id(param)]: dict(record) for param, record in self.state.items() if record}
        return {"state": state, "param_groups": groups}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Continue from what `state_dict()` returned, matching parameters by their order; values are copied.

        Options, such as the learning rate, come from the dict as well. A dict that does not match the groups or
        the shapes of the parameters is a ValueError, and changes nothing.
        """
        saved = state_dict["param_groups"]
        sizes = [len(group["params"]) for group in self.param_groups]
        saved_sizes = [len(group["params"]) for group in saved]
        if sizes != saved_sizes:
            raise ValueError(
                f"the state_dict has groups of {saved_sizes} parameters, but this optimizer has groups of {sizes}"
            )
        numbers = [number for group in saved for number in group["params"]]
        state: defaultdict[Tensor, dict[str, Any]] = defaultdict(dict)
        for number, param in zip(numbers, self._params(), strict=True):
            if number in state_dict["state"]:
                record = state_dict["state"][number]
                state[param] = {name: _restored(number, name, value, param) for name, value in record.items()}
        self.state = state
        self.param_groups = [
            {
                **copy.deepcopy({name: value for name, value in new.items() if name != "params"}),
                "params": old["params"],
            }
            for old, new in zip(self.param_groups, saved, strict=True)
        ]
        self._plans.clear()

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_plans": {}}

    def __repr__(self) -> str:
        lines = []
        for index, group in enumerate(self.param_groups):
            lines.append(f"Parameter Group {index}")
            lines += [f"    {name}: {group[name]}" for name in sorted(group) if name != "params"]
        return "\n".join([f"{type(self).__name__} (", *lines, ")"])

    def _params(self) -> list[Tensor]:
        return [param for group in self.param_groups for param in group["params"]]


def _restored(number: int, name: str, value: Any, param: Tensor) -> Any:
    """A saved value of a parameter's state, copied, with the parameter's dtype and device unless it is the count."""
    if not isinstance(value, Tensor):
        return copy.deepcopy(value)
    if name == "step":
        return value.clone()
    if value.shape != param.shape:
        raise ValueError(
            f"the state_dict has {name!r} of shape {tuple(value.shape)} for parameter {number}, whose shape is "
            f"{tuple(param.shape)}"
        )
    return value.detach().to(param.device, param.dtype).clone()


@functools.cache
def _ranges(constructor: Callable[..., None]) -> dict[str, Between]:
    """The ranges of options, from the annotations of an optimizer's constructor."""
    try:
        hints = typing.get_type_hints(constructor, include_extras=True)
    except NameError:  # annotations of somebody's own optimizer that only a type checker can read
        return {}
    return {
        name: marker
        for name, hint in hints.items()
        if typing.get_origin(hint) is Annotated
        for marker in typing.get_args(hint)[1:]
        if isinstance(marker, Between)
    }
