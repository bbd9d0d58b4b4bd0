"""The hooks of a module, and a call of a module that has some."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

from nanotorch.autograd.graph import RemovableHandle
from nanotorch.autograd.graph.changes import changes
from nanotorch.nn.backward_hooks import Boundary


class ModuleHooks:
    """The hooks of a module by number, made when the first one is registered.

    A forward pre-hook stands with `with_kwargs`, a forward hook with `with_kwargs` and `always_call`. Hooks are held
    as the user gave them, without closures around them: those that pickle can find by name go into a pickle.
    """

    __slots__ = ("backward", "backward_pre", "forward", "forward_pre", "load", "load_pre", "state", "state_pre")

    def __init__(self) -> None:
        self.forward_pre: dict[int, tuple[Callable[..., Any], bool]] = {}
        self.forward: dict[int, tuple[Callable[..., Any], bool, bool]] = {}
        self.backward_pre: dict[int, Callable[..., Any]] = {}
        self.backward: dict[int, Callable[..., Any]] = {}
        self.state_pre: dict[int, Callable[..., Any]] = {}
        self.state: dict[int, Callable[..., Any]] = {}
        self.load_pre: dict[int, Callable[..., Any]] = {}
        self.load: dict[int, Callable[..., Any]] = {}

    def __copy__(self) -> ModuleHooks:
        """Return the same hooks, to which others can be added without changing the original."""
        twin = ModuleHooks()
        for kind in ModuleHooks.__slots__:
            setattr(twin, kind, dict(getattr(self, kind)))
        return twin


def add_hook(hooks: dict[int, Any], hook: Any, prepend: bool) -> RemovableHandle:
    """Add a hook at the end, or before all others, under a number of its own."""
    changes[0] += 1
    handle = RemovableHandle(hooks)
    while handle.id in hooks:  # hooks that came out of a pickle brought their numbers along
        handle = RemovableHandle(hooks)
    others = dict(hooks) if prepend else {}
    if prepend:
        hooks.clear()
    hooks[handle.id] = hook
    hooks.update(others)
    return handle


def call_with_hooks(module: Any, hooks: ModuleHooks, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Call `forward` between the hooks; forward hooks with `always_call` run also where it fails."""
    done: set[int] = set()
    output = None
    try:
        for pre_hook, with_kwargs in tuple(hooks.forward_pre.values()):
            if with_kwargs:
                changed = pre_hook(module, args, kwargs)
                if changed is not None:
                    if not (isinstance(changed, tuple) and len(changed) == 2):
                        raise RuntimeError(
                            "a forward pre-hook with_kwargs returns None or a tuple (args, kwargs), "
                            f"got {type(changed).__name__}"
                        )
                    args, kwargs = changed
            else:
                changed = pre_hook(module, args)
                if changed is not None:
                    args = changed if isinstance(changed, tuple) else (changed,)
        boundary = None
        if hooks.backward or hooks.backward_pre:
            boundary = Boundary(module, tuple(hooks.backward_pre.values()), tuple(hooks.backward.values()))
            args = boundary.enter(args)
        output = module.forward(*args, **kwargs)
        for number, (hook, with_kwargs, _) in tuple(hooks.forward.items()):
            done.add(number)
            changed = hook(module, args, kwargs, output) if with_kwargs else hook(module, args, output)
            if changed is not None:
                output = changed
        return output if boundary is None else boundary.leave(output)
    except Exception:
        for number, (hook, with_kwargs, always_call) in tuple(hooks.forward.items()):
            if always_call and number not in done:
                _call_quietly(hook, (module, args, kwargs, output) if with_kwargs else (module, args, output))
        raise


def _call_quietly(hook: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    """Call a hook while another error is on its way: that one is what the user has to see."""
    try:
        hook(*arguments)
    except Exception as error:
        warnings.warn(
            f"a forward hook with always_call=True failed after an error in forward, which is raised: {error}",
            UserWarning,
            stacklevel=3,
        )
