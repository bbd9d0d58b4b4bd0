"""Switches that decide whether operations are recorded."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from contextvars import ContextVar, Token
from typing import Any, TypeVar

__all__ = ["enable_grad", "is_grad_enabled", "no_grad", "set_grad_enabled"]

_enabled: ContextVar[bool] = ContextVar("grad_mode", default=True)
is_grad_enabled = _enabled.get

F = TypeVar("F", bound=Callable[..., Any])


class _GradMode:
    """A context manager and decorator that sets the grad mode and restores the previous one.

    The mode is held by a context variable: it is per thread, and each ``with`` restores what it found.
    """

    def __init__(self, mode: bool) -> None:
        self.mode = mode
        self._tokens: list[Token[bool]] = []

    def __enter__(self) -> None:
        self._tokens.append(_enabled.set(self.mode))

    def __exit__(self, *exception: object) -> None:
        _enabled.reset(self._tokens.pop())

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
        _enabled.set(self.mode)

    def __enter__(self) -> None:
        _enabled.set(self.mode)

    def __exit__(self, *exception: object) -> None:
        _enabled.set(self._previous)

    def __call__(self, function: F) -> F:
        """Decorate a function; the mode outside stays as it was."""
        _enabled.set(self._previous)
        return super().__call__(function)
