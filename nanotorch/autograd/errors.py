"""Error types, and where in the user's code an operation was called."""

from __future__ import annotations

from pathlib import Path
from types import CodeType, FrameType
from typing import Any

__all__ = ["ShapeError", "describe_line", "inside", "user_line"]

INNER = ("<nanotorch op ", *(str(Path(__file__).parents[1] / folder) for folder in ("autograd", "ops", "nn", "optim")))


class Inside(dict[str, bool]):
    """Whether the file of a code object is one of the library's inner folders; asked at every recorded operation."""

    def __missing__(self, filename: str) -> bool:
        self[filename] = filename.startswith(INNER)
        return self[filename]


inside = Inside()


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


def user_line(frame: FrameType) -> tuple[CodeType, int]:
    """Return the code and the instruction of the nearest caller outside the library's inner folders."""
    code = frame.f_code
    while inside[code.co_filename]:
        caller = frame.f_back
        if caller is None:
            break
        frame, code = caller, caller.f_code
    return code, frame.f_lasti


def describe_operand(value: Any) -> str:
    """Return an operand as errors show it: its shape, or the value of a scalar."""
    return str(tuple(value.shape)) if hasattr(value, "shape") else repr(value)
