"""Error types, and where in the user's code an operation was called.

Note [Forward lines]
~~~~~~~~~~~~~~~~~~~~
Every node remembers the line that recorded it: as the code object of the caller and the number of its last instruction,
which `describe_line` turns into a line when an error needs it. A call from inside the library is none of the user's
lines: then the nearest caller outside of it counts. To ask for that, a file name has to be looked up, which costs as
much as all the rest; so each row keeps the last code object that it found to be outside, and asks again only when
another one calls. `benchmarks/op_overhead.py` measures what remains: less than a tenth of the recorded op.
"""

from __future__ import annotations

import os
from types import CodeType, FrameType
from typing import Any

PACKAGE = os.path.abspath(os.path.join(__file__, *[os.pardir] * 3))
INNER = ("<nanotorch op ", *(os.path.join(PACKAGE, folder) for folder in ("autograd", "ops", "nn", "optim", "capture")))


class Inside(dict[str, bool]):
    """Whether the file of a code object is one of the library's inner folders; asked at every recorded operation."""

    def __missing__(self, filename: str) -> bool:
        self[filename] = filename.startswith(INNER)
        return self[filename]


inside = Inside()


class ShapeError(RuntimeError, ValueError):
    """Shapes that do not fit: the message names the op, the shapes and, inside a Module, the layer."""


class OutOfRangeError(IndexError, RuntimeError):
    """An index or a class number outside its range: the message names op, number and range.
    PyTorch raises the one or the other, by op.
    """


class DtypeError(TypeError, RuntimeError):
    """A tensor of a dtype that an argument cannot have. Here, too, PyTorch raises the one or the other, by op."""


class LinAlgError(RuntimeError):
    """A factorisation or solution that does not exist, such as the inverse of a singular matrix."""


def describe_line(code: CodeType | None, last_instruction: int) -> str:
    """Return `file:line, in function` for an instruction of a code object, or '' for None."""
    if code is None:
        return ""
    line: int | None = code.co_firstlineno
    for start, end, number in code.co_lines():
        if start <= last_instruction < end:
            line = number
            break
    return f'"{code.co_filename}", line {line}, in {code.co_name}'


def note_line(frame: FrameType, caller: CodeType | None) -> tuple[CodeType, int, CodeType | None]:
    """Return the code and instruction of the user's line, and the code object of the last caller that was outside."""
    code, instruction = user_line(frame)
    return code, instruction, code if code is frame.f_code else caller


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
