"""Errors of modules: they name the layer that they came from."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

from nanotorch.autograd.graph.errors import ShapeError


def locate(error: Exception, module: Any) -> None:
    """Begin the message of an error with the class and path of the innermost module that it came through.

    Of errors raised by code that is not ours only shape errors are touched.
    """
    details = error.__dict__
    if "_came_through" not in details:
        ours = isinstance(error, ShapeError) or type(module).__module__.startswith("nanotorch.nn.")
        details.update(_came_through=[] if ours else None, _plain_message=str(error))
    modules = details["_came_through"]
    if modules is None:
        return
    modules.append(module)
    names = []
    for inner, outer in pairwise(modules):
        names.append(next((name for name, child in outer.named_modules() if child is inner), "?"))
    path = ".".join(name for name in reversed(names) if name)
    error.args = (f"{type(modules[0]).__name__}{f' {path!r}' if path else ''}: {details['_plain_message']}",)


def cannot_assign(value: Any, word: str, name: str, wanted: str) -> str:
    """Return the message of assigning something to a name that stands for something else."""
    return f"cannot assign a {type(value).__name__} as {word} {name!r} ({wanted} or None expected)"
