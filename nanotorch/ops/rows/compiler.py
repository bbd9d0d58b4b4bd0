"""The compiler of op rows: executes the source of a row's function and of its node class, each part at its first call.

`ROWS["mul"].source` shows what was executed. What it looks like stands in `function_code.py` and `node_code.py`.
See Note [Op rows] in `row.py`.

Note [Compiled at the first call]
~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~
Compiling all rows at import would take longer than importing NumPy, and a program uses few of them. So a row's function
starts with the code of `first_call`, which compiles the row, gives the function its real code, and calls it again: the
function object, which is exported and attached as a method by then, stays the same. The node's two backward methods
are compiled at their own first calls.

Note [Operators]
~~~~~~~~~~~~~~~~
`torch.add(x, None)` raises; `x + other` has to give an object that tensors do not know the chance to answer by its
own `__radd__`, and `x == "text"` to be False, so there NotImplemented is returned. That is said where an operand
turns out to be unusual, in a second function that is compiled from the same text: calls with usual operands run what
they ran before.

Note [Half precision]
~~~~~~~~~~~~~~~~~~~~~
A row on float16 computes in float32, forward and formulas, and rounds once, at its end: sums do not stop growing at
2048, squares and counts beyond 65504 do not overflow, and a number outside float16's range, from Python or in a tensor
without dimensions, scales like any other. PyTorch calls this the accumulation type. It is said here, so no row says it
again. Hidden outputs and saved results stay in float32; views and rows that say `widens=False`, because they look at
the type itself, are left as they are. A composite of several steps says `widens=True` to be rounded at its end only;
a test finds those that forgot.
"""

from __future__ import annotations

import linecache
import sys
from collections.abc import Callable
from types import FunctionType
from typing import Any

from nanotorch.autograd.graph.errors import DtypeError, note_line
from nanotorch.autograd.graph.grad_mode import recording
from nanotorch.autograd.graph.interpreter import add_site
from nanotorch.autograd.graph.locks import COMPILING
from nanotorch.autograd.graph.node import Node, detached_error, modified_error, next_sequence, released_error
from nanotorch.autograd.graph.saved_tensors import pack_slots, saved_property
from nanotorch.autograd.graph.tensor import Tensor, from_array, leaf_edge
from nanotorch.autograd.graph.version import Version
from nanotorch.backend.device import CPU
from nanotorch.ops.rows.code_plan import Plan
from nanotorch.ops.rows.declaration import Declaration
from nanotorch.ops.rows.dims import check_dim, check_dims, whole
from nanotorch.ops.rows.function_code import function_code
from nanotorch.ops.rows.inplace import write_out
from nanotorch.ops.rows.node_code import argument_slots, backward_code, node_code, saved_slots
from nanotorch.ops.rows.runtime import (
    HALF,
    around,
    cast_first,
    exact_output,
    explain,
    fitted,
    harmonize,
    in_float32,
    is_operand,
    make_view,
    need_flag,
    need_number,
    need_tensor,
    not_differentiable,
    recorded_output,
    rounded,
    rounded_outputs,
    same,
    star_argument,
    sum_to,
    tensors_of,
    widened,
    with_elements,
    wrap_outputs,
    wrapped_around,
)
from nanotorch.ops.rows.tensors import namespace


def become(function: FunctionType, written: FunctionType) -> None:
    """Give a function the code of another one."""
    function.__defaults__, function.__kwdefaults__ = written.__defaults__, written.__kwdefaults__
    function.__code__ = written.__code__


KNOWN: dict[str, Any] = {
    "CPU": CPU,
    "DtypeError": DtypeError,
    "HALF": HALF,
    "NUMBERS": (int, float),
    "Node": Node,
    "Tensor": Tensor,
    "UNKNOWN": NotImplemented,
    "Version": Version,
    "around": around,
    "cast_first": cast_first,
    "check_dim": check_dim,
    "check_dims": check_dims,
    "detached_error": detached_error,
    "exact_output": exact_output,
    "explain": explain,
    "fitted": fitted,
    "from_array": from_array,
    "getframe": sys._getframe,
    "harmonize": harmonize,
    "in_float32": in_float32,
    "is_operand": is_operand,
    "leaf_edge": leaf_edge,
    "make_view": make_view,
    "modified_error": modified_error,
    "need_flag": need_flag,
    "need_number": need_number,
    "need_tensor": need_tensor,
    "next_sequence": next_sequence,
    "not_differentiable": not_differentiable,
    "note_line": note_line,
    "pack_slots": pack_slots,
    "recorded_output": recorded_output,
    "recording": recording,
    "released_error": released_error,
    "rounded": rounded,
    "rounded_outputs": rounded_outputs,
    "same": same,
    "star_argument": star_argument,
    "sum_to": sum_to,
    "tensors_of": tensors_of,
    "whole": whole,
    "widened": widened,
    "with_elements": with_elements,
    "wrap_outputs": wrap_outputs,
    "wrapped_around": wrapped_around,
    "write_out": write_out,
    "tensor_xp": namespace,
}
"""What the code of every row finds by name; the row's own functions come to it."""


class Compiler:
    """Executes the code of a row's function and node class, each part once.

    Attributes:
        source: what was written so far.
        node: the node class, None where there is no derivative.
    """

    def __init__(self, row: Declaration) -> None:
        self.row, self.plan = row, Plan(row)
        self.source = ""
        self.node: type[Node] | None = None
        self.namespace = row.namespace
        self.namespace |= KNOWN
        self.namespace |= {f"formula_{name}": formula for name, (formula, _) in row.formulas.items()}
        self.namespace |= {
            "on_tensors": row.forward,
            "saved_slots": saved_slots(self.plan),
            "caller": None,
            "compile_apply": self.at_first_call("apply"),
            "compile_recorded": self.at_first_call("apply_recorded"),
            "compile_apply_half": self.at_first_call("apply", True),
            "compile_recorded_half": self.at_first_call("apply_recorded", True),
        }

    def compile(self) -> None:
        """Write the function and the node class, unless that is done (Note [Compiled at the first call])."""
        if self.source:
            return
        add_site(self.namespace)
        code = function_code(self.plan)
        if self.row.formulas:
            code = f"{node_code(self.plan)}\n\n\n{code}"
        self.execute(self.row.name, code)
        self.node = self.namespace.get(self.row.node_name)
        if self.node is not None:
            for slot in (*saved_slots(self.plan), *argument_slots(self.plan)):
                setattr(self.node, f"_saved_{slot.name}", saved_property(slot))
        become(self.row.function, self.namespace[self.row.name])

    def compile_operation(self) -> None:
        """Write the function that the operators call, unless that is done (Note [Operators])."""
        name = self.row.operators[0]
        with COMPILING:
            self.compile()
            if name not in self.namespace:
                self.execute(f"{self.row.name}, {name}", function_code(self.plan, name))
                become(self.row.operation, self.namespace[name])

    def execute(self, name: str, code: str) -> None:
        """Execute code in the row's namespace and keep its text, which tracebacks show too."""
        filename, source = f"<nanotorch op {name}>", f"{code}\n"
        exec(compile(source, filename, "exec"), self.namespace)
        linecache.cache[filename] = (len(source), None, source.splitlines(keepends=True), filename)
        self.source += source

    def at_first_call(self, name: str, half: bool = False) -> Callable[..., Any]:
        """Return what stands for a method of the node until its first call, which compiles it.

        See Note [Compiled at the first call].
        """
        written, owner = (f"{name}_half", f"{self.row.node_name}_half") if half else (name, self.row.node_name)

        def method(node: Node, grad: Any, wanted: Any = None) -> Any:
            with COMPILING:
                if written not in self.namespace:  # another thread may have been first
                    code = backward_code(self.plan, written, name == "apply_recorded", half)
                    self.execute(f"{self.row.name}, {written}", code)
                    setattr(self.namespace[owner], name, self.namespace[written])
            return self.namespace[written](node, grad, wanted)

        return method
