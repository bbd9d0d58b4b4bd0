"""Watching ops run: a callback after every forward, at no cost to programs that do not watch.

Note [Observing]
~~~~~~~~~~~~~~~~
What is observed are forwards on arrays (Note [Interpreters]): those of composites, of modules, of in-place variants
(whose value the out-of-place row computes) and of backward passes under `create_graph`. A first-order backward
evaluates formulas on arrays without calling ops, so it shows nothing here.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from nanotorch.autograd.graph.interpreter import Interpreter, installed
from nanotorch.ops.rows.row import Row

Callback = Callable[[Row, dict[str, Any], Any], None]


class Observer(Interpreter):
    """Tells a callback of every row that ran."""

    def __init__(self, callback: Callback) -> None:
        self.callback = callback

    def run(self, row: Row, forward: Callable[..., Any], xp: Any, *args: Any, **kwargs: Any) -> Any:
        """Run a row's forward and call the callback."""
        out = forward(xp, *args, **kwargs)
        self.callback(row, row.arguments(args, kwargs), out)
        return out


class observing(installed):
    """Call `callback(row, arguments, out)` after every op that this thread runs inside the `with`.

    `arguments` are those of the row's forward by parameter name: arrays, lists of arrays, numbers and options.
    `out` is what forward returned: an array, or a tuple of them with the hidden outputs. The callback must not write
    to them; the ops that it calls itself are not observed. Observers nest: the outer one sees what the inner one sees,
    first. See Note [Observing].

    >>> from nanotorch.ops.rows.observe import observing
    >>> with observing(lambda row, arguments, out: print(row.name, out.shape)):
    ...     y = (torch.ones(2, 3) * 2).sum()
    mul (2, 3)
    sum ()
    """

    def __init__(self, callback: Callback) -> None:
        super().__init__(Observer(callback))
