"""Switches that decide whether operations are recorded, and what is told of every recorded node.

Note [Grad mode]
~~~~~~~~~~~~~~~~
One context variable answers the one question that an operation on tensors that require grad asks: `recording()` is
False (under `no_grad`), True, or, while somebody wants to hear of new nodes, a tuple of functions, which are called
with every node when it is complete. An operation thus pays for observers (saved tensor hooks, anomaly detection) only
while there are any. The observers are kept in a second variable, so that `enable_grad` inside `no_grad` brings them
back.

Context variables are per thread, and in asyncio per task: a new thread starts with recording on, a task with the mode
in which it was made. Each `with` restores what it found. A `with` inside a generator is a trap, here as in PyTorch:
it is in force from `next()` to the `with`'s end, the consumer's code between two values included, and if the
generator is never finished, for good. Decorated with the same context, a generator, coroutine or asynchronous generator
runs step by step in the mode, and whoever waits for the steps stays in its own.
"""

from __future__ import annotations

import functools
import inspect
import types
from collections.abc import Callable, Generator
from contextvars import ContextVar, Token
from typing import Any, TypeVar

NodeObserver = Callable[[Any], None]

_mode: ContextVar[bool | tuple[NodeObserver, ...]] = ContextVar("grad_mode", default=True)
_observers: ContextVar[tuple[NodeObserver, ...]] = ContextVar("node_observers", default=())
_inference: ContextVar[bool] = ContextVar("inference_mode", default=False)
recording = _mode.get
is_inference_mode_enabled: Callable[[], bool] = _inference.get
set_inference = _inference.set


def is_grad_enabled() -> bool:
    """Return whether operations are recorded."""
    return bool(recording())


def set_recording(enabled: bool) -> Token[Any]:
    """Switch recording on (for the observers there are) or off; return what `restore_recording` takes."""
    return _mode.set(enabled and (_observers.get() or True))


def announce(node: Any) -> None:
    """Tell the observers of a node that is complete; compiled rows do this themselves."""
    mode = recording()
    if isinstance(mode, tuple):
        for observer in mode:
            observer(node)


def restore_recording(token: Token[Any]) -> None:
    """Undo a `set_recording`; the observers are those there are now, which others may have joined or left since."""
    _mode.reset(token)
    mode = recording()
    if mode is not False and (_observers.get() or mode is not True):
        set_recording(True)


class observe_nodes:
    """Call a function with every node that is recorded inside the `with` block,
    when it is complete (Note [Grad mode]).
    """

    def __init__(self, observer: NodeObserver) -> None:
        self.observer = observer

    def __enter__(self) -> None:
        _observers.set((*_observers.get(), self.observer))
        set_recording(is_grad_enabled())

    def __exit__(self, *exception: object) -> None:
        kept = list(_observers.get())
        kept.reverse()
        kept.remove(self.observer)  # the newest, should it be there twice; blocks need not end in the order of a stack
        _observers.set(tuple(reversed(kept)))
        set_recording(is_grad_enabled())


F = TypeVar("F", bound=Callable[..., Any])
Restore = Callable[[], None]


class Mode:
    """A mode as a context manager, which restores the previous one, and as a decorator (Note [Grad mode])."""

    def __init__(self) -> None:
        self._restore: list[Restore] = []

    def _switch(self) -> Restore:
        """Switch the mode on; return what switches back."""
        raise NotImplementedError

    def _again(self) -> Mode:
        """Return another context of the same mode, for one call of a decorated function."""
        raise NotImplementedError

    def __enter__(self) -> None:
        self._restore.append(self._switch())

    def __exit__(self, *exception: object) -> None:
        # The newest one that was made in this thread, nearly always the last: the object may be in use in several.
        for restore in reversed(self._restore):
            try:
                restore()
            except ValueError:
                continue
            self._restore.remove(restore)
            break
        # None at all: a generator that was not finished is closed by another thread or task, whose mode is its own.

    def __call__(self, function: F) -> F:
        """Decorate a function, generator, coroutine or asynchronous generator."""
        again = self._again
        wrapper: Any
        if inspect.isgeneratorfunction(function):

            def wrapper(*args: Any, **kwargs: Any) -> Any:
                return (yield from _in_steps(again, function(*args, **kwargs)))

        elif inspect.iscoroutinefunction(function):

            async def wrapper(*args: Any, **kwargs: Any) -> Any:
                return await _in_steps(again, function(*args, **kwargs))

        elif inspect.isasyncgenfunction(function):

            async def wrapper(*args: Any, **kwargs: Any) -> Any:
                steps = function(*args, **kwargs)
                step = steps.asend(None)
                try:
                    while True:
                        try:
                            value = await _in_steps(again, step.__await__())
                        except StopAsyncIteration:
                            return
                        try:
                            step = steps.asend((yield value))
                        except GeneratorExit:
                            raise
                        except BaseException as error:
                            step = steps.athrow(error)
                finally:
                    await _in_steps(again, steps.aclose().__await__())

        else:

            def wrapper(*args: Any, **kwargs: Any) -> Any:
                with again():
                    return function(*args, **kwargs)

        return functools.wraps(function)(wrapper)  # type: ignore[return-value]


@types.coroutine
def _in_steps(again: Callable[[], Mode], steps: Any) -> Generator[Any, Any, Any]:
    """Run a generator or coroutine: each of its steps in the mode, what happens between them outside."""
    advance, value = steps.send, None
    try:
        while True:
            with again():
                try:
                    produced = advance(value)
                except StopIteration as stop:
                    return stop.value
            try:
                advance, value = steps.send, (yield produced)
            except GeneratorExit:
                raise
            except BaseException as error:
                advance, value = steps.throw, error
    finally:
        with again():
            steps.close()


class _GradMode(Mode):
    """Sets the grad mode."""

    def __init__(self, mode: bool) -> None:
        super().__init__()
        self.mode = mode

    def _switch(self) -> Restore:
        token = set_recording(self.mode and not is_inference_mode_enabled())
        return lambda: restore_recording(token)

    def _again(self) -> Mode:
        return _GradMode(self.mode)


class no_grad(_GradMode):
    """Do not record operations: a context manager and a decorator.

    >>> x = torch.ones(2, requires_grad=True)
    >>> with torch.no_grad():
    ...     y = x * 2
    >>> y.requires_grad
    False
    """

    def __init__(self) -> None:
        super().__init__(False)

    def __new__(cls, function: Any = None) -> Any:
        """Allow the bare `@torch.no_grad` beside `@torch.no_grad()`."""
        return super().__new__(cls) if function is None else cls()(function)


class enable_grad(_GradMode):
    """Record operations again inside a `no_grad` block: a context manager and a decorator.

    Inside `inference_mode` it changes nothing.
    """

    def __init__(self) -> None:
        super().__init__(True)

    def __new__(cls, function: Any = None) -> Any:
        """Allow the bare `@torch.enable_grad` beside `@torch.enable_grad()`."""
        return super().__new__(cls) if function is None else cls()(function)


class set_grad_enabled(_GradMode):
    """Set the grad mode to `mode`, at once when called and until the end of a `with` block or function.

    >>> _ = torch.set_grad_enabled(False)
    >>> torch.is_grad_enabled()
    False
    >>> _ = torch.set_grad_enabled(True)
    """

    def __init__(self, mode: bool) -> None:
        super().__init__(bool(mode))
        self._previous = is_grad_enabled()
        set_recording(self.mode and not is_inference_mode_enabled())

    def __enter__(self) -> None:
        set_recording(self.mode and not is_inference_mode_enabled())

    def __exit__(self, *exception: object) -> None:
        set_recording(self._previous)

    def __call__(self, function: F) -> F:
        """Decorate a function; the mode outside stays as it was."""
        set_recording(self._previous)
        return super().__call__(function)
