"""Switches that decide whether operations are recorded, and what is told of every recorded node.

Note [Grad mode]
~~~~~~~~~~~~~~~~
One context variable answers the one question that an operation on tensors that require grad asks: ``recording()`` is
False (under `no_grad`), True, or, while somebody wants to hear of new nodes, a tuple of functions, which are called with
every node when it is complete. An operation thus pays for observers (saved tensor hooks, anomaly detection) only
while there are any. Context variables are per thread, and each ``with`` restores what it found; the observers are kept
in a second one, so that `enable_grad` inside `no_grad` brings them back.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from contextvars import ContextVar, Token
from typing import Any, TypeVar

__all__ = [
    "NodeObserver", "announce", "enable_grad", "is_grad_enabled", "no_grad", "observe_nodes", "recording", "restore_recording",
    "set_grad_enabled", "set_recording",
]  # fmt: skip

NodeObserver = Callable[[Any], None]

_mode: ContextVar[bool | tuple[NodeObserver, ...]] = ContextVar("grad_mode", default=True)
_observers: ContextVar[tuple[NodeObserver, ...]] = ContextVar("node_observers", default=())
recording = _mode.get
restore_recording = _mode.reset


def is_grad_enabled() -> bool:
    """Return whether operations are recorded."""
    return bool(recording())


def set_recording(enabled: bool) -> Token[Any]:
    """Switch recording on (for the observers there are) or off; return what ``restore_recording`` takes."""
    return _mode.set(enabled and (_observers.get() or True))


def announce(node: Any) -> None:
    """Tell the observers of a node that is complete; compiled rows do this themselves."""
    mode = recording()
    if isinstance(mode, tuple):
        for observer in mode:
            observer(node)


class observe_nodes:
    """Call a function with every node that is recorded inside the ``with`` block, when it is complete (Note [Grad mode])."""

    def __init__(self, observer: NodeObserver) -> None:
        self.observer = observer
        self._tokens: list[tuple[Token[Any], Token[Any]]] = []

    def __enter__(self) -> None:
        token = _observers.set((*_observers.get(), self.observer))
        self._tokens.append((token, set_recording(is_grad_enabled())))

    def __exit__(self, *exception: object) -> None:
        observers, mode = self._tokens.pop()
        restore_recording(mode)
        _observers.reset(observers)


F = TypeVar("F", bound=Callable[..., Any])


class _GradMode:
    """A context manager and decorator that sets the grad mode and restores the previous one.

    See Note [Grad mode].
    """

    def __init__(self, mode: bool) -> None:
        self.mode = mode
        self._tokens: list[Token[Any]] = []

    def __enter__(self) -> None:
        self._tokens.append(set_recording(self.mode))

    def __exit__(self, *exception: object) -> None:
        restore_recording(self._tokens.pop())

    def __call__(self, function: F) -> F:
        mode = self.mode
        if inspect.isgeneratorfunction(function):

            @functools.wraps(function)
            def generator(*args: Any, **kwargs: Any) -> Any:
                """Every step of the generator runs in the mode, its consumer in its own."""
                steps = function(*args, **kwargs)
                sent = None
                try:
                    while True:
                        with _GradMode(mode):
                            try:
                                value = steps.send(sent)
                            except StopIteration as stop:
                                return stop.value
                        sent = yield value
                finally:
                    with _GradMode(mode):
                        steps.close()

            return generator  # type: ignore[return-value]

        @functools.wraps(function)
        def wrapper(*args: Any, **kwargs: Any) -> Any:
            with _GradMode(mode):
                return function(*args, **kwargs)

        return wrapper  # type: ignore[return-value]


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
        """Allow the bare ``@torch.no_grad`` beside ``@torch.no_grad()``."""
        return super().__new__(cls) if function is None else cls()(function)


class enable_grad(_GradMode):
    """Record operations again inside a ``no_grad`` block: a context manager and a decorator."""

    def __init__(self) -> None:
        super().__init__(True)


class set_grad_enabled(_GradMode):
    """Set the grad mode to ``mode``, at once when called and until the end of a ``with`` block or function.

    >>> _ = torch.set_grad_enabled(False)
    >>> torch.is_grad_enabled()
    False
    >>> _ = torch.set_grad_enabled(True)
    """

    def __init__(self, mode: bool) -> None:
        super().__init__(bool(mode))
        self._previous = is_grad_enabled()
        set_recording(self.mode)

    def __enter__(self) -> None:
        set_recording(self.mode)

    def __exit__(self, *exception: object) -> None:
        set_recording(self._previous)

    def __call__(self, function: F) -> F:
        """Decorate a function; the mode outside stays as it was."""
        set_recording(self._previous)
        return super().__call__(function)
