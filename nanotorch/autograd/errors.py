"""Error types, and where in the user's code an operation was called."""

from __future__ import annotations

from types import CodeType
from typing import Any

__all__ = ["ShapeError", "describe_line"]


class ShapeError(RuntimeError, ValueError):
    """Shapes that do not fit: the message names the op, the shapes and, inside a Module, the layer."""


def describe_line(code: CodeType | None, last_instruction: int) -> str:
    """Return ``file:line, in function`` for an instruction of a code object, or '' for None."""
    if code is None:
        return ""
    line: int | None = code.co_firstlineno
    for start, end, number in code.co_lines():
        if start <= last_instruction < end:
            line = number
            break
    return f'"{code.co_filename}", line {line}, in {code.co_name}'


def describe_operand(value: Any) -> str:
    """Return an operand as errors show it: its shape, or the value of a scalar."""
    return str(tuple(value.shape)) if hasattr(value, "shape") else repr(value)
