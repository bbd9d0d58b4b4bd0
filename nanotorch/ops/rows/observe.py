"""Watching ops run: a callback after every forward, at no cost to programs that do not watch.

Note [Observing]
~~~~~~~~~~~~~~~~
A compiled row finds its forward under the global name ``forward`` of its own namespace, at every call. `observing` puts
another function there, for all rows, and takes it away when the last observer leaves: until then, and after, compiled
rows are exactly what they were. While somebody observes, every thread calls the replacement, which asks a context
variable for the callbacks: the calls of other threads find none and run as always.

What is observed are forwards on arrays: those of composites, of modules, of in-place variants (whose value the
out-of-place row computes) and of backward passes under ``create_graph``. A first-order backward evaluates formulas on
arrays without calling ops, so it shows nothing here.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from contextvars import ContextVar, Token
from typing import Any

from nanotorch.autograd.graph import anomaly
from nanotorch.autograd.graph.locks import OBSERVING
from nanotorch.autograd.graph.tensor import Tensor
from nanotorch.ops.rows.row import ROWS, Row

Callback = Callable[[Row, dict[str, Any], Any], None]

_callbacks: ContextVar[tuple[tuple[Callback, Token[None]], ...]] = ContextVar("op_callbacks", default=())
_here: ContextVar[None] = ContextVar("op_callbacks_entered", default=None)
_active = 0


class observing:
    """Call ``callback(row, arguments, out)`` after every op that this thread runs inside the ``with``.

    ``arguments`` are those of the row's forward by parameter name: arrays, lists of arrays, numbers and options.
    ``out`` is what forward returned: an array, or a tuple of them with the hidden outputs. The callback must not write
    to them; the ops that it calls itself are not observed. Observers nest: the outer one sees what the inner one sees,
    first. See Note [Observing].

    >>> from nanotorch.ops.rows.observe import observing
    >>> with observing(lambda row, arguments, out: print(row.name, out.shape)):
    ...     y = (torch.ones(2, 3) * 2).sum()
    mul (2, 3)
    sum ()
    """

    def __init__(self, callback: Callback) -> None:
        self.callback = callback

    def __enter__(self) -> None:
        _callbacks.set((*_callbacks.get(), (self.callback, _here.set(None))))
        _change(1)

    def __exit__(self, *exception: object) -> None:
        kept = list(_callbacks.get())
        # The newest, should it be there twice; blocks need not end in the order of a stack.
        place = max(k for k, (callback, _) in enumerate(kept) if callback == self.callback)
        _, token = kept.pop(place)
        _callbacks.set(tuple(kept))
        with suppress(ValueError):  # a task leaves what it inherited: whoever made the task still observes
            _here.reset(token)
            _change(-1)


anomaly.OBSERVING.append(observing)


def _change(step: int) -> None:
    """Count the observers of all threads; the first one replaces the forwards, the last one puts them back."""
    global _active
    with OBSERVING:
        before, _active = _active, _active + step
        if bool(before) == bool(_active):
            return
        for row in tuple(ROWS.values()):
            row.compiler.namespace["forward"] = _observed(row) if _active else row.forward


def _observed(row: Row) -> Callable[..., Any]:
    """Return a row's forward that tells the callbacks of the calling thread."""
    forward, names = row.forward, [p.name for p in row.parameters]

    def observed(xp: Any, *args: Any, **kwargs: Any) -> Any:
        out = forward(xp, *args, **kwargs)
        callbacks = _callbacks.get()
        # A recorded backward recomputes hidden outputs with tensors: then the ops inside are what runs on arrays.
        if callbacks and not isinstance(out[0] if isinstance(out, tuple) else out, Tensor):
            arguments = dict(zip(names, args, strict=False)) | kwargs
            token = _callbacks.set(())
            try:
                for callback, _ in callbacks:
                    callback(row, arguments, out)
            finally:
                _callbacks.reset(token)
        return out

    return observed
