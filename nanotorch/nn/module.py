"""Module: a part of a model that knows its parameters, buffers and submodules.

Note [Attributes of modules]
~~~~~~~~~~~~~~~~~~~~~~~~~~~~
Parameters, buffers and submodules are ordinary attributes of the instance, so that reading `self.weight` costs a
dictionary lookup and no more. What assignment adds is their registration: three dictionaries remember, in order,
which names are which. `_parameters`, `_buffers` and `_modules` show them as read-only mappings.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from copy import copy
from types import MappingProxyType
from typing import Any, ParamSpec, Protocol, Self, TypeVar

from nanotorch.autograd.graph.changes import changes, plain_changes
from nanotorch.autograd.graph.grad_mode import no_grad
from nanotorch.autograd.graph.node import RemovableHandle
from nanotorch.autograd.graph.tensor import Tensor, clear_grad
from nanotorch.backend.device import Device
from nanotorch.dtypes import DType, float16, float32, float64, need_dtype
from nanotorch.nn.errors import cannot_assign, locate
from nanotorch.nn.hooks import ModuleHooks, add_hook, call_with_hooks
from nanotorch.nn.loading import EXTRA_STATE, IncompatibleKeys, load_state_dict
from nanotorch.nn.parameter import Parameter

Arguments = ParamSpec("Arguments")
Output = TypeVar("Output", covariant=True)


class HasForward(Protocol[Arguments, Output]):
    """What a call of a module takes and gives, for type checkers: that of its `forward`."""

    def forward(self, *args: Arguments.args, **kwargs: Arguments.kwargs) -> Output:
        """Compute the output."""
        ...


class Module:
    """Base class of all layers and models: assign parameters and submodules in `__init__`, define `forward`.

    >>> class Net(torch.nn.Module):
    ...     def __init__(self):
    ...         super().__init__()
    ...         self.hidden = torch.nn.Linear(4, 8)
    ...         self.output = torch.nn.Linear(8, 3)
    ...
    ...     def forward(self, x):
    ...         return self.output(self.hidden(x).relu())
    >>> net = Net()
    >>> net
    Net(
      (hidden): Linear(in_features=4, out_features=8, bias=True)
      (output): Linear(in_features=8, out_features=3, bias=True)
    )
    >>> net(torch.zeros(5, 4)).shape
    torch.Size([5, 3])
    """

    training: bool = True
    _hooks: ModuleHooks | None = None

    def __init__(self) -> None:
        self.__dict__.update(_parameter_names={}, _buffer_names={}, _module_names={}, training=True)

    # --------------------------------------------------------------------------------------------- calling

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Compute the output; every subclass defines it, and `module(...)` calls it."""
        raise NotImplementedError(f"{type(self).__name__} does not define forward()")

    def __call__(self: HasForward[Arguments, Output], *args: Arguments.args, **kwargs: Arguments.kwargs) -> Output:
        """Call `forward`, and the hooks if there are any."""
        try:
            if self._hooks is None:  # type: ignore[attr-defined]
                return self.forward(*args, **kwargs)
            return call_with_hooks(self, self._hooks, args, kwargs)  # type: ignore
        except (RuntimeError, TypeError, ValueError, IndexError) as error:
            locate(error, self)
            raise

    def extra_repr(self) -> str:
        """Return what stands between the parentheses in the module's repr."""
        return ""

    def __repr__(self) -> str:
        extra = self.extra_repr().splitlines()
        children = [f"({name}): {_indent(repr(child))}" for name, child in self._modules.items()]
        if not children and len(extra) <= 1:
            return f"{self._get_name()}({''.join(extra)})"
        return "\n  ".join([f"{self._get_name()}(", *extra, *children]) + "\n)"

    def _get_name(self) -> str:
        return type(self).__name__

    # --------------------------------------------------------------------------------------------- attributes

    @property
    def _parameters(self) -> Mapping[str, Parameter | None]:
        return self._registered("_parameter_names")

    @property
    def _buffers(self) -> Mapping[str, Tensor | None]:
        return self._registered("_buffer_names")

    @property
    def _modules(self) -> Mapping[str, Module | None]:
        return self._registered("_module_names")

    def _registered(self, kind: str) -> Mapping[str, Any]:
        attributes = self.__dict__
        return MappingProxyType({name: attributes[name] for name in attributes[kind]})

    def __setattr__(self, name: str, value: Any) -> None:
        if isinstance(value, Parameter):
            self._register("_parameter_names", name, value, replace=True)
        elif isinstance(value, Module):
            self._register("_module_names", name, value, replace=True)
        else:
            plain_changes[0] += 1
            attributes = self.__dict__
            if value is not None:
                if name in attributes.get("_parameter_names", ()):
                    raise TypeError(cannot_assign(value, "parameter", name, "torch.nn.Parameter"))
                if name in attributes.get("_module_names", ()):
                    raise TypeError(cannot_assign(value, "submodule", name, "torch.nn.Module"))
                if name in attributes.get("_buffer_names", ()) and not isinstance(value, Tensor):
                    raise TypeError(cannot_assign(value, "buffer", name, "torch.Tensor"))
            object.__setattr__(self, name, value)

    def __delattr__(self, name: str) -> None:
        object.__delattr__(self, name)
        self._forget(name)

    def register_parameter(self, name: str, param: Parameter | None) -> None:
        """Add a parameter under a name; None reserves the name, as `bias=False` does."""
        if param is not None and not isinstance(param, Parameter):
            raise TypeError(cannot_assign(param, "parameter", name, "torch.nn.Parameter"))
        self._register("_parameter_names", name, param)

    def register_buffer(self, name: str, tensor: Tensor | None, persistent: bool = True) -> None:
        """Add a tensor that moves and is saved with the module but is no parameter, such as a running mean.

        With `persistent=False` it is left out of `state_dict()`.
        """
        if tensor is not None and not isinstance(tensor, Tensor):
            raise TypeError(cannot_assign(tensor, "buffer", name, "torch.Tensor"))
        self._register("_buffer_names", name, tensor)
        self.__dict__["_buffer_names"][name] = persistent

    def add_module(self, name: str, module: Module | None) -> None:
        """Add a submodule under a name, which need not be an identifier."""
        if module is not None and not isinstance(module, Module):
            raise TypeError(cannot_assign(module, "submodule", name, "torch.nn.Module"))
        self._register("_module_names", name, module)

    register_module = add_module

    def _register(self, kind: str, name: str, value: Any, replace: bool = False) -> None:
        changes[0] += 1
        attributes = self.__dict__
        if kind not in attributes:
            raise AttributeError(
                f"{type(self).__name__}: call super().__init__() before assigning parameters, buffers or modules"
            )
        if not isinstance(name, str):
            raise TypeError(f"a name in a module is a string, got {type(name).__name__}")
        if not name or "." in name:
            raise KeyError(f"{name!r} cannot name a part of a module: it is empty or has a '.' in it")
        if isinstance(value, Parameter) and not value.is_leaf:
            raise ValueError(f"parameter {name!r} has to be a leaf, but it is the result of an operation")
        if name not in attributes[kind]:
            if not replace and hasattr(self, name):
                raise KeyError(f"{type(self).__name__} already has an attribute {name!r}")
            self._forget(name)
            attributes[kind][name] = True
        attributes[name] = value

    def _forget(self, name: str) -> None:
        changes[0] += 1
        for kind in ("_parameter_names", "_buffer_names", "_module_names"):
            self.__dict__.get(kind, {}).pop(name, None)

    def __copy__(self) -> Self:
        """Return a module with the same parts, to which others can be assigned without changing this one."""
        twin = object.__new__(type(self))
        attributes = twin.__dict__
        attributes.update(self.__dict__)
        for kind in ("_parameter_names", "_buffer_names", "_module_names"):
            attributes[kind] = dict(attributes[kind])
        if self._hooks is not None:
            attributes["_hooks"] = copy(self._hooks)
        return twin

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)

    # --------------------------------------------------------------------------------------------- walking

    def named_modules(
        self, memo: set[Module] | None = None, prefix: str = "", remove_duplicate: bool = True
    ) -> Iterator[tuple[str, Module]]:
        """Iterate over this module (under `prefix`) and all below it, with dotted names; shared ones once."""
        memo = set() if memo is None else memo
        if self in memo:
            return
        if remove_duplicate:
            memo.add(self)
        yield prefix, self
        attributes = self.__dict__
        for name in attributes["_module_names"]:
            if attributes[name] is not None:
                yield from attributes[name].named_modules(memo, _join(prefix, name), remove_duplicate)

    def modules(self) -> Iterator[Module]:
        """Iterate over this module and all below it, shared ones once."""
        return (module for _, module in self.named_modules())

    def named_children(self) -> Iterator[tuple[str, Module]]:
        """Iterate over the direct submodules with their names, shared ones once."""
        seen: set[Module] = set()
        for name, module in self._modules.items():
            if module is not None and module not in seen:
                seen.add(module)
                yield name, module

    def children(self) -> Iterator[Module]:
        """Iterate over the direct submodules, shared ones once."""
        return (module for _, module in self.named_children())

    def named_parameters(
        self, prefix: str = "", recurse: bool = True, remove_duplicate: bool = True
    ) -> Iterator[tuple[str, Parameter]]:
        """Iterate over the parameters with dotted names, shared ones once."""
        return self._named_members("_parameter_names", prefix, recurse, remove_duplicate)

    def parameters(self, recurse: bool = True) -> Iterator[Parameter]:
        """Iterate over the parameters, shared ones once: what an optimizer is given."""
        return (parameter for _, parameter in self.named_parameters(recurse=recurse))

    def named_buffers(
        self, prefix: str = "", recurse: bool = True, remove_duplicate: bool = True
    ) -> Iterator[tuple[str, Tensor]]:
        """Iterate over the buffers with dotted names, shared ones once."""
        return self._named_members("_buffer_names", prefix, recurse, remove_duplicate)

    def buffers(self, recurse: bool = True) -> Iterator[Tensor]:
        """Iterate over the buffers, shared ones once."""
        return (buffer for _, buffer in self.named_buffers(recurse=recurse))

    def _named_members(
        self, kind: str, prefix: str, recurse: bool, remove_duplicate: bool
    ) -> Iterator[tuple[str, Any]]:
        seen: set[int] = set()
        modules = self.named_modules(None, prefix, remove_duplicate) if recurse else [(prefix, self)]
        for path, module in modules:
            attributes = module.__dict__
            for name in attributes[kind]:
                value = attributes[name]
                if value is not None and id(value) not in seen:
                    if remove_duplicate:
                        seen.add(id(value))
                    yield _join(path, name), value

    def get_submodule(self, target: str) -> Module:
        """Return the submodule with a dotted name; "" is this module."""
        module = self
        for name in target.split(".") if target else ():
            child = module._modules.get(name)
            if child is None:
                known = ", ".join(module._modules) or "none"
                raise AttributeError(f"{type(module).__name__} has no submodule {name!r} (it has: {known})")
            module = child
        return module

    def set_submodule(self, target: str, module: Module) -> None:
        """Put another module in the place of the submodule with a dotted name."""
        path, _, name = target.rpartition(".")
        parent = self.get_submodule(path)
        self.get_submodule(target)
        parent.add_module(name, module)

    def get_parameter(self, target: str) -> Parameter:
        """Return the parameter with a dotted name."""
        return self._member("_parameter_names", "parameter", target)

    def get_buffer(self, target: str) -> Tensor:
        """Return the buffer with a dotted name."""
        return self._member("_buffer_names", "buffer", target)

    def _member(self, kind: str, word: str, target: str) -> Any:
        path, _, name = target.rpartition(".")
        members = self.get_submodule(path)._registered(kind)
        if members.get(name) is None:
            known = ", ".join(members) or "none"
            raise AttributeError(f"{type(self.get_submodule(path)).__name__} has no {word} {name!r} (it has: {known})")
        return members[name]

    # --------------------------------------------------------------------------------------------- modes

    def apply(self, fn: Callable[[Module], None]) -> Self:
        """Call `fn` on every submodule, children first, and on this module; returns the module."""
        for module in self.children():
            module.apply(fn)
        fn(self)
        return self

    def train(self, mode: bool = True) -> Self:
        """Switch the module and all below it to training, where dropout is on and batch statistics are used."""
        if not isinstance(mode, bool):
            raise ValueError(f"the training mode is True or False, got {mode!r}")
        if self.training is not mode:
            self.training = mode
        for module in self.children():
            module.train(mode)
        return self

    def eval(self) -> Self:
        """Switch the module and all below it to evaluation."""
        return self.train(False)

    def requires_grad_(self, requires_grad: bool = True) -> Self:
        """Switch the recording of all parameters on or off; returns the module."""
        for parameter in self.parameters():
            parameter.requires_grad_(requires_grad)
        return self

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forget the gradients of all parameters, or with `set_to_none=False` fill them with zeros."""
        for parameter in self.parameters():
            clear_grad(parameter, set_to_none)

    # --------------------------------------------------------------------------------------------- moving

    def to(self, *args: Any, **kwargs: Any) -> Self:
        """Move the parameters and buffers to a device and floating ones to a dtype, in place; returns the module.

        Takes `device`, `dtype`, or a tensor that has both, by position or by name.
        """
        device, dtype = _destination(*args, **kwargs)
        return self._convert(lambda tensor: tensor.to(device or tensor.device, _floating(tensor, dtype)))

    def cpu(self) -> Self:
        """Move the parameters and buffers to the CPU, in place."""
        return self.to(Device("cpu"))

    def cuda(self, device: int | str | Device | None = None) -> Self:
        """Move the parameters and buffers to a GPU, the first one unless a number is given, in place."""
        return self.to(Device("cuda", device) if isinstance(device, int) else Device(device or "cuda"))

    def type(self, dst_type: DType) -> Self:
        """Convert all parameters and buffers, in place."""
        return self._convert(lambda tensor: tensor.to(dst_type))

    def float(self) -> Self:
        """Convert floating point parameters and buffers to float32, in place."""
        return self.to(float32)

    def double(self) -> Self:
        """Convert floating point parameters and buffers to float64, in place."""
        return self.to(float64)

    def half(self) -> Self:
        """Convert floating point parameters and buffers to float16, in place."""
        return self.to(float16)

    def bfloat16(self) -> Self:
        """Raise TypeError, which says why there are no such numbers."""
        return self.to(need_dtype("bfloat16", "bfloat16"))

    def _convert(self, convert: Callable[[Tensor], Tensor]) -> Self:
        changes[0] += 1
        with no_grad():
            for module in self.modules():
                for parameter in module._parameters.values():
                    if parameter is not None:
                        data = parameter.data
                        converted = convert(data)
                        if converted is not data:
                            parameter.data = converted
                        if parameter.grad is not None:
                            parameter.grad = convert(parameter.grad.detach())
                for name, buffer in module._buffers.items():
                    if buffer is not None:
                        module.__dict__[name] = convert(buffer)
        return self

    # --------------------------------------------------------------------------------------------- saving

    def state_dict(self, *, prefix: str = "", keep_vars: bool = False) -> OrderedDict[str, Any]:
        """Return the parameters and persistent buffers by dotted name, sharing memory with the module.

        They are detached unless `keep_vars` is true.
        """
        found: OrderedDict[str, Any] = OrderedDict()
        self._collect(found, prefix.removesuffix("."), keep_vars)
        return found

    def _collect(self, found: OrderedDict[str, Any], path: str, keep_vars: bool) -> None:
        """Add what `state_dict` gives of this module and those below it, with hooks before and after."""
        attributes, prefix = self.__dict__, f"{path}." if path else ""
        hooks = self._hooks
        for hook in () if hooks is None else tuple(hooks.state_pre.values()):
            hook(self, prefix, keep_vars)
        persistent = [name for name, kept in attributes["_buffer_names"].items() if kept]
        for name in [*attributes["_parameter_names"], *persistent]:
            tensor = attributes[name]
            if tensor is not None:
                found[prefix + name] = tensor if keep_vars else tensor.detach()
        if self._has_extra_state():
            found[prefix + EXTRA_STATE] = self.get_extra_state()
        for name in attributes["_module_names"]:
            if attributes[name] is not None:
                attributes[name]._collect(found, prefix + name, keep_vars)
        for hook in () if hooks is None else tuple(hooks.state.values()):
            if hook(self, found, prefix, {}) is not None:
                raise RuntimeError("a state_dict post-hook changes the dict in place and returns None")

    def _has_extra_state(self) -> bool:
        return type(self).get_extra_state is not Module.get_extra_state

    def get_extra_state(self) -> Any:
        """Return what a subclass wants in `state_dict()` beside tensors: it defines this and `set_extra_state`."""
        raise NotImplementedError(f"{type(self).__name__} does not define get_extra_state()")

    def set_extra_state(self, state: Any) -> None:
        """Take what `get_extra_state` gave, in `load_state_dict()`."""
        raise NotImplementedError(f"{type(self).__name__} does not define set_extra_state()")

    def load_state_dict(
        self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False
    ) -> IncompatibleKeys:
        """Copy values into the parameters and persistent buffers of the same names; shapes have to agree.

        Values are tensors, NumPy arrays or PyTorch's tensors (what `state_dict()` of the same model gives there); they
        are converted to the dtype and device that is there, or with `assign` put in its place as they are. Everything
        that does not fit is reported in one RuntimeError, and then nothing is changed. With `strict=False` missing and
        unexpected keys are returned instead. With `assign` the parameters are other objects afterwards: make the
        optimizer, and call `flatten_parameters`, after it.
        """
        modules = list(self.named_modules(remove_duplicate=False))
        return load_state_dict(modules, state_dict, strict, assign)

    # --------------------------------------------------------------------------------------------- hooks

    def register_state_dict_pre_hook(self, hook: Callable[..., Any]) -> RemovableHandle:
        """Call `hook(module, prefix, keep_vars)` before `state_dict()` collects what is in this module."""
        return add_hook(self._ensure_hooks().state_pre, hook, False)

    def register_state_dict_post_hook(self, hook: Callable[..., Any]) -> RemovableHandle:
        """Call `hook(module, state_dict, prefix, {})` when `state_dict()` has this module and those below it; it may
        change the dict in place.
        """
        return add_hook(self._ensure_hooks().state, hook, False)

    def register_load_state_dict_pre_hook(self, hook: Callable[..., Any]) -> RemovableHandle:
        """Call `hook(module, state_dict, prefix, {}, True, missing_keys, unexpected_keys, errors)`
        before a state dict is compared.

        It gets a shallow copy of the dict, and may change it and the three lists in place.
        """
        return add_hook(self._ensure_hooks().load_pre, hook, False)

    def register_load_state_dict_post_hook(self, hook: Callable[..., Any]) -> RemovableHandle:
        """Call `hook(module, incompatible_keys)` after `load_state_dict()`;
        it may change the two lists of keys in place.
        """
        return add_hook(self._ensure_hooks().load, hook, False)

    def register_forward_pre_hook(
        self, hook: Callable[..., Any], *, prepend: bool = False, with_kwargs: bool = False
    ) -> RemovableHandle:
        """Call `hook(module, args)` before every `forward`; what it returns, unless None, replaces the arguments.

        With `with_kwargs` the call is `hook(module, args, kwargs)`, and it returns None or both.
        """
        return add_hook(self._ensure_hooks().forward_pre, (hook, with_kwargs), prepend)

    def register_forward_hook(
        self, hook: Callable[..., Any], *, prepend: bool = False, with_kwargs: bool = False, always_call: bool = False
    ) -> RemovableHandle:
        """Call `hook(module, args, output)` after every `forward`; what it returns, unless None, replaces the output.

        With `with_kwargs` the call is `hook(module, args, kwargs, output)`. With `always_call` the hook also runs
        when `forward` or another hook raises, with the output so far, None before there is one.
        """
        return add_hook(self._ensure_hooks().forward, (hook, with_kwargs, always_call), prepend)

    def register_full_backward_pre_hook(self, hook: Callable[..., Any], prepend: bool = False) -> RemovableHandle:
        """Call `hook(module, grad_output)` when the gradients of the outputs are there; it may return others."""
        return add_hook(self._ensure_hooks().backward_pre, hook, prepend)

    def register_full_backward_hook(self, hook: Callable[..., Any], prepend: bool = False) -> RemovableHandle:
        """Call `hook(module, grad_input, grad_output)` when the gradients of the inputs are there.

        Both are tuples with one entry per positional tensor argument and per output tensor, None where there is no
        gradient. What the hook returns, unless None, replaces `grad_input`.
        """
        return add_hook(self._ensure_hooks().backward, hook, prepend)

    def _ensure_hooks(self) -> ModuleHooks:
        if self._hooks is None:
            object.__setattr__(self, "_hooks", ModuleHooks())
        assert self._hooks is not None
        return self._hooks


def _join(prefix: str, name: str) -> str:
    return f"{prefix}.{name}" if prefix else name


def _indent(text: str) -> str:
    return text.replace("\n", "\n  ")


def _destination(*args: Any, **kwargs: Any) -> tuple[Device | None, DType | None]:
    """Return the device and dtype that the arguments of `Module.to` mean."""
    device, dtype = kwargs.pop("device", None), kwargs.pop("dtype", None)
    kwargs.pop("non_blocking", None)
    if kwargs:
        raise TypeError(f"Module.to() takes device and dtype, got {', '.join(kwargs)}")
    for argument in args:
        if isinstance(argument, DType):
            dtype = argument
        elif isinstance(argument, Tensor):
            device, dtype = argument.device, argument.dtype
        elif isinstance(argument, str | Device):
            device = argument
        elif argument is not None:
            raise TypeError(f"Module.to() takes a device, a dtype or a tensor, got {type(argument).__name__}")
    if dtype is not None and not dtype.is_floating_point:
        raise TypeError(f"Module.to() converts to floating point dtypes only, got {dtype}")
    return (None if device is None else Device(device)), dtype


def _floating(tensor: Tensor, dtype: DType | None) -> DType:
    return dtype if dtype is not None and tensor.is_floating_point() else tensor.dtype
