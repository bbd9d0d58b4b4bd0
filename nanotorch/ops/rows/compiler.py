"""The compiler of op rows: writes the source of a row's function and of its node class, and executes it once.

``ROWS["mul"].source`` shows what it wrote. See Note [Op rows] in ``row.py``.

Note [Compiled at the first call]
~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~
Compiling all rows at import would take longer than importing NumPy, and a program uses few of them. So a row's function
starts with the code of `first_call`, which compiles the row, gives the function its real code, and calls it again: the
function object, which is exported and attached as a method by then, stays the same. The node's two backward methods
are compiled at their own first calls.

Note [Operators]
~~~~~~~~~~~~~~~~
``torch.add(x, None)`` raises; ``x + other`` has to give an object that tensors do not know the chance to answer by its
own ``__radd__``, and ``x == "text"`` to be False, so there NotImplemented is returned. That is said where an operand
turns out to be unusual, in a second function that is compiled from the same text: calls with usual operands run what
they ran before.

Note [Half precision]
~~~~~~~~~~~~~~~~~~~~~
A row on float16 computes in float32, forward and formulas, and rounds once, at its end: sums do not stop growing at
2048, squares and counts beyond 65504 do not overflow, and a number outside float16's range, from Python or in a tensor
without dimensions, scales like any other. PyTorch calls this the accumulation type. It is said here, so no row says it
again. Hidden outputs and saved results stay in float32; views and rows that say ``widens=False``, because they look at
the type itself, are left as they are. A composite of several steps says ``widens=True`` to be rounded at its end only;
a test finds those that forgot.
"""

from __future__ import annotations

import inspect
import linecache
import sys
from collections.abc import Callable, Iterable, Mapping
from types import FunctionType, MappingProxyType
from typing import TYPE_CHECKING, Any

from nanotorch.autograd.graph.errors import DtypeError, note_line
from nanotorch.autograd.graph.grad_mode import recording
from nanotorch.autograd.graph.locks import COMPILING
from nanotorch.autograd.graph.node import Node, Version, detached_error, modified_error, next_sequence, released_error
from nanotorch.autograd.graph.saved_tensors import pack_slots, saved_property
from nanotorch.autograd.graph.tensor import Tensor, add_birthplace, from_array, leaf_edge
from nanotorch.backend.device import CPU
from nanotorch.ops.rows.dims import check_dim, check_dims, whole
from nanotorch.ops.rows.inplace import write_out
from nanotorch.ops.rows.runtime import (
    HALF,
    TENSORS,
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

if TYPE_CHECKING:
    from nanotorch.ops.rows.row import Parameter, Row

PLAIN = {  # by annotation: what no usual value is, and the function that looks closer
    "float": ("type({0}) is not float and type({0}) is not int", "need_number"),
    "int": ("type({0}) is not int", "whole"),
    "bool": ("{0} is not False and {0} is not True", "need_flag"),
}


def public_parameters(parameters: Iterable[Parameter]) -> list[str]:
    """Return the parameters of the public function as source text."""
    parts, keyword_only = [], False
    for p in parameters:
        if p.star:
            parts += [f"*{p.public}_", f"{p.public}=None"]
            keyword_only = True
            continue
        if p.keyword_only and not keyword_only:
            parts.append("*")
            keyword_only = True
        parts.append(p.public if p.default is inspect.Parameter.empty else f"{p.public}={p.default!r}")
    return parts


class PublicSignature(inspect.Signature):
    """The signature of a public function, which is not written before its first call; read when somebody asks."""

    __slots__ = ("row",)

    def __init__(self, row: Row) -> None:
        super().__init__()
        self.row = row

    @property
    def parameters(self) -> Mapping[str, inspect.Parameter]:  # type: ignore[override]
        """The parameters by name."""
        made, only = [], False
        for p in self.row.parameters:
            if p.star:
                made.append(inspect.Parameter(f"{p.public}_", inspect.Parameter.VAR_POSITIONAL))
                made.append(inspect.Parameter(p.public, inspect.Parameter.KEYWORD_ONLY, default=None))
                only = True
                continue
            only = only or p.keyword_only
            kind = inspect.Parameter.KEYWORD_ONLY if only else inspect.Parameter.POSITIONAL_OR_KEYWORD
            made.append(inspect.Parameter(p.public, kind, default=p.default))
        return MappingProxyType({parameter.name: parameter for parameter in made})

    def replace(self, **changes: Any) -> inspect.Signature:  # type: ignore[override]
        """Return an ordinary signature that differs."""
        return inspect.Signature(list(self.parameters.values())).replace(**changes)


def first_call(*args: Any, **kwargs: Any) -> Any:
    """Compile the row and call its function: the code of every row's function at first."""
    row.compile()  # type: ignore[name-defined]  # noqa: F821  (a name of the namespace that the function gets)
    return row.function(*args, **kwargs)  # type: ignore[name-defined]  # noqa: F821


def first_operation(*args: Any) -> Any:
    """Compile what the row's operators call, and call it: the code of that function at first."""
    row.compiler.compile_operation()  # type: ignore[name-defined]  # noqa: F821
    return row.operation(*args)  # type: ignore[name-defined]  # noqa: F821


def become(function: FunctionType, written: FunctionType) -> None:
    """Give a function the code of another one."""
    function.__defaults__, function.__kwdefaults__ = written.__defaults__, written.__kwdefaults__
    function.__code__ = written.__code__


class Compiler:
    """Writes the source of a row's function and node class, and executes it once."""

    def __init__(self, row: Row) -> None:
        self.row = row
        self.lines: list[str] = []
        self.margin = 0
        self.operator = ""
        self.takes_out = row.where in ("both", "function", "linalg") and not row.view and row.outputs != ["list"]
        self.namespace = row.namespace
        self.namespace |= {
            "CPU": CPU,
            "detached_error": detached_error,
            "Node": Node,
            "Tensor": Tensor,
            "Version": Version,
            "cast_first": cast_first,
            "check_dim": check_dim,
            "check_dims": check_dims,
            "explain": explain,
            "compile_apply": self.at_first_call("apply"),
            "compile_recorded": self.at_first_call("apply_recorded"),
            "compile_apply_half": self.at_first_call("apply", True),
            "compile_recorded_half": self.at_first_call("apply_recorded", True),
            "forward": row.forward,
            "from_array": from_array,
            "is_operand": is_operand,
            "UNKNOWN": NotImplemented,
            "getframe": sys._getframe,
            "harmonize": harmonize,
            "recording": recording,
            "leaf_edge": leaf_edge,
            "make_view": make_view,
            "modified_error": modified_error,
            "need_flag": need_flag,
            "need_number": need_number,
            "need_tensor": need_tensor,
            "note_line": note_line,
            "caller": None,
            "next_sequence": next_sequence,
            "not_differentiable": not_differentiable,
            "recorded_output": recorded_output,
            "released_error": released_error,
            "pack_slots": pack_slots,
            "same": same,
            "saved_property": saved_property,
            "star_argument": star_argument,
            "sum_to": sum_to,
            "tensors_of": tensors_of,
            "with_elements": with_elements,
            "DtypeError": DtypeError,
            "whole": whole,
            "wrap_outputs": wrap_outputs,
            "wrapped_around": wrapped_around,
            "fitted": fitted,
            "around": around,
            "NUMBERS": (int, float),
            "HALF": HALF,
            "in_float32": in_float32,
            "exact_output": exact_output,
            "rounded": rounded,
            "rounded_outputs": rounded_outputs,
            "widened": widened,
            "write_out": write_out,
            "TENSORS": TENSORS,
        }
        for name, (formula, _) in row.formulas.items():
            self.namespace[f"formula_{name}"] = formula
        self.values = [p for p in row.tensors if p.value]
        self.first_dtype, self.names_dtype = "", bool(self.values) and not self.values[0].many
        if (
            self.values
        ):  # the one that the other dtypes are compared with, and that says whether the row runs on float16
            self.first_dtype = f"d_{self.values[0].name}" if self.names_dtype else f"a_{self.values[0].name}[0].dtype"
        self.hidden = [n for n in row.outputs if n.startswith("_")]
        self.inputs = {p.name: p for p in row.tensors}
        self.constant = [p for p in self.values if row.formulas and p.name not in row.formulas]
        self.results = {name: k for k, name in enumerate(row.outputs)} if row.outputs != ["list"] else {}
        self.shapes = [n for n in row.saved if n.endswith("_shape") and n[:-6] in self.inputs]
        self.saved_inputs = [n for n in row.saved if n in self.inputs]
        if any(name in row.saved for name in self.hidden):
            self.saved_inputs = list(self.inputs)  # a hidden output is recomputed from the inputs when recording
        self.saved_results = [n for n in row.saved if n == "result" or n in self.results]
        self.checked = [n for n in self.saved_results if n not in self.hidden]  # nobody can write to a hidden output
        known = {*self.shapes, *self.saved_inputs, *self.saved_results}
        self.saved_plain = [n for n in row.saved if n not in known]
        if self.hidden and self.saved_results:
            names = {p.name for p in row.parameters if not p.tensor}
            self.saved_plain = sorted(set(self.saved_plain) | names)
        self.unbroadcast = list(row.formulas) if len(self.values) > 1 and not any(p.many for p in self.values) else []
        unknown = set(self.saved_plain) - {p.name for p in row.parameters}
        if unknown:
            raise TypeError(
                f"row {row.name}: a formula names {sorted(unknown)}, which are no inputs, outputs or arguments"
            )
        self.source = ""
        self.node: type[Node] | None = None

    def compile(self) -> None:
        """Write and execute the function and the node class, unless that is done (Note [Compiled at the first
        call]).
        """
        if self.source:
            return
        add_birthplace(self.namespace)
        self.lines = []
        if self.row.formulas:
            self.write_node()
        self.write_function()
        self.source = self.execute(f"<nanotorch op {self.row.name}>")
        self.node = self.namespace.get(self.row.node_name)
        become(self.row.function, self.namespace[self.row.name])

    def compile_operation(self) -> None:
        """Write and execute the function that the operators call, unless that is done (Note [Operators])."""
        name = self.row.operators[0]
        self.row.compile()
        with COMPILING:
            if name in self.namespace:
                return
            self.lines = []
            self.write_function(name)
            self.source += self.execute(f"<nanotorch op {self.row.name}, {name}>")
            written = self.namespace[name]
            become(self.row.operation, written)

    def emit(self, indent: int, *lines: str) -> None:
        """Add lines of code."""
        self.lines += ["    " * (indent + self.margin) + line for line in lines]

    def execute(self, filename: str) -> str:
        """Compile and run the lines; return them as text, which tracebacks show too."""
        source = "\n".join(self.lines) + "\n"
        exec(compile(source, filename, "exec"), self.namespace)
        linecache.cache[filename] = (len(source), None, source.splitlines(keepends=True), filename)
        return source

    def at_first_call(self, name: str, half: bool = False) -> Callable[..., Any]:
        """Return what stands for a method of the node until its first call, which compiles it.

        See Note [Compiled at the first call].
        """
        written = f"{name}_half" if half else name

        def method(node: Node, grad: Any, wanted: Any = None) -> Any:
            with COMPILING:
                if written not in self.namespace:  # another thread may have been first
                    self.lines, self.margin = [], -1
                    self.write_apply(name == "apply_recorded", half)
                    self.margin = 0
                    self.source += self.execute(f"<nanotorch op {self.row.name}, {written}>")
                    setattr(
                        self.namespace[f"{self.row.node_name}_half"] if half else self.node,
                        name,
                        self.namespace[written],
                    )
            return self.namespace[written](node, grad, wanted)

        return method

    # ----------------------------------------------------------------------------------------- the grad node

    def write_node(self) -> None:
        """Write the node class: slots for what the formulas name, apply, apply_recorded, release."""
        row, emit = self.row, self.emit
        slots = [f"s_{n}" for n in self.saved_inputs] + [f"v_{n}" for n in self.saved_inputs]
        slots += [f"h_{n}" for n in self.shapes] + [f"p_{n}" for n in self.saved_plain]
        slots += [f"r_{n}" for n in self.saved_results] + [f"{kind}_{n}" for n in self.checked for kind in "cw"]
        slots += [f"b_{n}" for n in self.unbroadcast] + (["outputs"] if row.many_outputs else [])
        emit(
            0, f"class {row.node_name}(Node):", f"    __slots__ = ({', '.join(map(repr, slots))}{',' if slots else ''})"
        )
        emit(1, "apply, apply_recorded = compile_apply, compile_recorded")
        if row.overload:
            numbered = row.node_name[:-1] + "1"
            emit(
                1, "def name(self):", f"    return {row.node_name!r} if self.p_{row.overload} is None else {numbered!r}"
            )
        freed = [f"s_{n}" for n in self.saved_inputs] + [f"r_{n}" for n in self.saved_results]
        if freed:
            emit(1, f"saved_slots = ({', '.join(map(repr, freed))},)", "pack = pack_slots")
        for slot in [*freed, *(f"p_{n}" for n in self.saved_plain)]:
            emit(1, f"_saved_{slot[2:]} = saved_property({slot!r})")
        emit(1, "def release(self):")
        emit(2, *([f"self.{' = self.'.join(freed)} = None", "self._released = True"] if freed else ["pass"]))
        if row.widens:
            name = f"{row.node_name}_half"
            emit(
                0,
                f"class {name}({row.node_name}):",
                "    __slots__ = ()",
                "    apply, apply_recorded = compile_apply_half, compile_recorded_half",
            )
            emit(0, f"{name}.__name__ = {name}.__qualname__ = {row.node_name!r}")

    def write_apply(self, recorded: bool, half: bool) -> None:
        """Write the method that maps the gradient of the output to those of the inputs, for ``half`` in float32."""
        row, emit = self.row, self.emit
        emit(
            1,
            f"def apply{'_recorded' if recorded else ''}{'_half' if half else ''}(node,"
            f" {'grads' if row.many_outputs else 'grad'}, wanted=None):",
        )
        if self.saved_inputs or self.saved_results:
            emit(2, "if node._released:", "    raise released_error(node)")
        names = {name for _, wanted in row.formulas.values() for name in wanted}
        if not recorded:
            emit(2, "xp = node.device.xp")  # which also makes a GPU the current one, for formulas of bare operators
        elif "xp" in names or self.unbroadcast:
            emit(2, "xp = TENSORS[0](node.device)")
        if row.many_outputs and "grad" in names:
            emit(2, "grad = grads[0]")
        for name in self.saved_inputs:
            self.unpack_input(name, recorded)
        for name in self.shapes:
            emit(2, f"{name} = node.h_{name}")
        for name in self.saved_plain:
            emit(2, f"{name} = node.p_{name}")
        for name in self.saved_results:
            if recorded and name in self.hidden:
                continue
            emit(2, f"{name} = node.r_{name}")
            if name in self.checked:
                emit(2, f"if {name} is not None and node.c_{name}.number != node.w_{name}:")
                emit(3, f"raise modified_error(node, {name!r}, {name}.shape, node.w_{name}, node.c_{name})")
            if recorded:
                emit(2, f"if {name} is not None:")
                emit(3, f"{name} = recorded_output(node, {name}, {self.results.get(name, 0)}, node.c_{name})")
        if half:
            emit(
                2,
                *[
                    f"{name} = widened({name})"
                    for name in ("grads" if row.many_outputs else "grad", *self.saved_inputs)
                ],
            )
            if recorded:
                emit(2, *[f"{name} = exact_output(node, {name}, {self.results.get(name, 0)})" for name in self.checked])
            if row.many_outputs and "grad" in names:
                emit(2, "grad = grads[0]")
        if recorded and any(name in self.hidden for name in self.saved_results):
            call = ", ".join(f"{p.name}={p.name}" for p in row.parameters)
            emit(2, f"{', '.join(row.outputs)} = forward(TENSORS[0](node.device), {call})")
        emit(2, "edges = wanted or node.edges")
        many = any(self.inputs[n].many for n in row.formulas)
        results = []
        for number, (name, (_, wanted)) in enumerate(row.formulas.items()):
            call = f"formula_{name}({', '.join(wanted)})"
            if many:
                results.append(call)
                continue
            emit(2, f"g_{name} = None", f"if edges[{number}] is not None:", f"    g_{name} = {call}")
            if name in self.unbroadcast:
                emit(3, f"if g_{name} is not None and g_{name}.shape != node.b_{name}:")
                emit(4, f"g_{name} = sum_to(xp, g_{name}, node.b_{name})")
            results.append(f"g_{name}")
        emit(2, f"results = {results[0]}" if many else f"results = ({', '.join(results)},)")
        emit(2, "return [rounded(g) for g in results]" if half else "return results")

    def unpack_input(self, name: str, recorded: bool) -> None:
        """Write the checks of a saved input's version, and take its array when not recording."""
        row, p, emit = self.row, self.inputs[name], self.emit
        emit(2, f"{name} = node.s_{name}")
        if p.many:
            emit(2, f"for tensor, version in zip({name}, node.v_{name}):")
            emit(3, "if tensor._cell is not None and tensor._cell.number != version:")
            emit(4, f"raise modified_error(node, {p.public!r}, tensor.shape, version, tensor._cell)")
            if not recorded:
                emit(2, f"{name} = [tensor._array for tensor in {name}]")
            return
        emit(2, f"if isinstance({name}, Tensor):" if p.scalar else f"if {name} is not None:")
        emit(3, f"if {name}._cell is not None and {name}._cell.number != node.v_{name}:")
        emit(4, f"raise modified_error(node, {p.public!r}, {name}.shape, node.v_{name}, {name}._cell)")
        if not recorded:
            emit(3, f"{name} = {name}._array")
        elif name in row.formulas:
            edge = list(row.formulas).index(name)
            emit(3, f"if node.edges[{edge}] is not None and not {name}._requires_grad:")
            emit(4, f"raise detached_error(node, {p.public!r})")

    # ----------------------------------------------------------------------------------------- the function

    def write_function(self, operator: str = "") -> None:
        """Write the public function, or what its operators call: unwrap, harmonise, run forward, wrap, record."""
        row, emit = self.row, self.emit
        self.operator = operator
        parameters = public_parameters(row.parameters)
        if self.takes_out and not operator:
            parameters += ["out=None"] if any(p.star or p.keyword_only for p in row.parameters) else ["*", "out=None"]
        emit(0, f"def {operator or row.name}({', '.join(parameters)}):")
        if row.formulas:
            emit(1, "global caller")
        for p in row.parameters:
            if p.star:
                emit(1, f"{p.public} = star_argument({row.public_name!r}, {p.public!r}, {p.public}_, {p.public})")
        if self.takes_out and not operator:
            arguments = ", ".join(f"{p.public!r}: {p.public}" for p in row.parameters)
            emit(1, "if out is not None:", f"    return write_out(row.public_name, row.function, out, {{{arguments}}})")
        first = row.tensors[0]
        if any(p.keyword_only and p.name == "dtype" for p in row.parameters):
            emit(
                1,
                "if dtype is not None:",
                f"    {first.public} = cast_first({row.public_name!r}, {first.public}, dtype)",
            )
        casting = row.cast is not None
        if casting:
            emit(1, "slow = False")
        for p in row.tensors:
            self.unwrap(p, casting)
        if casting:
            self.write_slow_path()
        for p in self.values:
            if p.fitting:
                number, dtype = f"a_{p.name}", f"a_{self.values[0].name}.dtype"
                emit(
                    1,
                    f"if type({number}) in NUMBERS and (not -100 < {number} < 128 or {number} < 0 and {dtype}.kind =="
                    " 'u'):",
                )
                emit(2, f"{number} = fitted({row.public_name!r}, {number}, {dtype})")
        for p in row.parameters:
            self.check_plain(p)
            if p.dim:
                self.check_dimension(p, f"a_{first.name}[0]" if first.many else f"a_{first.name}")
        device = f"{first.public}[0].device" if first.many else f"{first.public}.device"
        emit(1, f"device = {device}", "xp = device.xp")
        arguments = ", ".join(
            (f"{p.name}=" if p.keyword_only else "") + (f"a_{p.name}" if p.tensor else p.public) for p in row.parameters
        )
        emit(1, "try:")
        widens = row.widens and not row.view and bool(self.values)
        if widens:
            value = self.values[0]
            hidden = tuple(number for number, name in enumerate(row.outputs) if name in self.hidden)
            half = [f"{self.first_dtype} is HALF"]
            if casting and not value.many:  # an operand without dimensions may have come as a wider type
                half += [f"slow and getattr(a_{p.name}, 'dtype', None) is HALF" for p in self.values[1:]]
            emit(2, f"half = {' or '.join(half)}", "if half:")
            emit(3, f"exact = in_float32(forward, xp, {arguments})", f"out = rounded_outputs(exact, {hidden})")
            emit(2, "else:", *["    exact = None"] * bool(self.checked))
        emit(2 + widens, f"out = forward(xp, {arguments})")
        if casting:
            emit(1, "except OverflowError as error:")
            emit(
                2,
                "out = wrapped_around(row, error, xp,"
                f" [{', '.join(f'a_{p.name}' if p.tensor else p.public for p in row.parameters)}])",
            )
        emit(1, "except Exception as error:")
        publics = ", ".join(p.public for p in row.parameters)
        emit(2, f"raise explain(row, error, ({publics}{',' if publics else ''})) from None")
        if row.many_outputs:
            if self.hidden:
                emit(1, f"*out, {', '.join(self.hidden)} = out")
            emit(1, "result = wrap_outputs(row, out, device)")
        else:
            if self.hidden:
                emit(1, f"{', '.join('out' if n in row.visible else n for n in row.outputs)} = out")
            emit(1, f"if type(out) is not type({'a_' + first.name + ('[0]' if first.many else '')}):")
            emit(2, "out = xp.asarray(out)")
            emit(1, "result = new(Tensor)", "result._array = out", "result.device = device")
            emit(1, "result._grad = result._cell = result._leaf = result._view = result._edge = None")
            emit(1, "result._requires_grad = False")
        if row.view:
            emit(1, f"make_view({first.public}, result)")
        if row.formulas:
            self.record()
        emit(1, "return result")

    def unwrap(self, p: Parameter, casting: bool) -> None:
        """Write the code that turns a tensor argument into ``a_<name>`` (array) and ``r_<name>`` (requires grad)."""
        row, emit, q, first = self.row, self.emit, p.public, self.row.tensors[0]
        reference = self.values[0] if self.values else first  # dtypes are compared with that of the first value
        if p.many:
            emit(1, f"{q} = tensors_of({row.public_name!r}, {q}{', True' if casting else ''})")
            emit(1, f"a_{p.name} = [tensor._array for tensor in {q}]")
            if p.name in row.formulas:
                emit(1, f"r_{p.name} = any([tensor._requires_grad for tensor in {q}])")
            return
        indent = 1
        if p.optional:
            emit(1, f"a_{p.name} = None", f"r_{p.name} = False", f"if {q} is not None:")
            indent = 2
        if p.scalar and p is not reference:
            self.unwrap_scalar(p, reference, indent, casting)
            return
        numbers = (
            f", {'fitted' if p.fitting else 'around'}" + "".join(f", {o.public}" for o in self.values[1:])
            if p.scalar
            else ""
        )
        emit(indent, f"if not isinstance({q}, Tensor):")
        if self.operator and p is not first:
            emit(indent + 1, f"if not is_operand({q}):", "    return UNKNOWN")
        emit(indent + 1, f"{q} = need_tensor({row.public_name!r}, {q!r}, {q}{numbers})")
        if row.formulas:  # what records nothing may also read a view whose history is lost
            emit(indent, f"if {q}._view is not None:", f"    {q}._refresh()")
        emit(indent, f"a_{p.name} = {q}._array")
        if p is reference and self.names_dtype:
            emit(indent, f"d_{p.name} = a_{p.name}.dtype")
        if p.name in row.formulas or p.optional or p in self.constant:
            emit(indent, f"r_{p.name} = {q}._requires_grad")
        if p is reference and row.cast == "float":
            emit(indent, f"if d_{p.name}.kind != 'f':", "    slow = True")
        if p.value and p is not reference:
            emit(
                indent, f"if a_{p.name}.dtype is not {self.first_dtype} or {q}.device is not {reference.public}.device:"
            )
            check = f"same({row.public_name!r}, {reference.public!r}, {reference.public}, {q!r}, {q})"
            if p.cast:
                emit(
                    indent + 1, f"if a_{reference.name}.dtype.kind == 'f' and {q}.device is {reference.public}.device:"
                )
                emit(indent + 2, f"{q} = {q}.to({reference.public}.dtype)", f"a_{p.name} = {q}._array")
                emit(indent + 1, "else:", f"    {check}")
            else:
                emit(indent + 1, "slow = True" if casting else check)
        elif p is not first:
            emit(indent, f"if {q}.device is not {first.public}.device:")
            emit(indent + 1, f"same({row.public_name!r}, {first.public!r}, {first.public}, {q!r}, {q}, False)")
        if p.kinds:
            self.check_kind(p, indent)

    def unwrap_scalar(self, p: Parameter, reference: Parameter, indent: int, casting: bool) -> None:
        """Write the same for an argument that may be a Python number, which stays one."""
        emit, q = self.emit, p.public
        emit(indent, f"if isinstance({q}, Tensor):", f"    if {q}._view is not None:", f"        {q}._refresh()")
        differs = f"{q}._array.dtype is not {self.first_dtype} or {q}.device is not {reference.public}.device"
        change = "slow = True" if casting else f"{q} = {q}.to({reference.public}.device, {reference.public}.dtype)"
        emit(indent + 1, f"if {differs}:", f"    {change}")
        emit(indent + 1, f"a_{p.name} = {q}._array", f"r_{p.name} = {q}._requires_grad")
        emit(indent, "else:", f"    a_{p.name} = {q}", f"    r_{p.name} = False")
        if casting:
            emit(
                indent + 1, f"if type({q}) is float:", f"    if {self.first_dtype}.kind != 'f':", "        slow = True"
            )
            emit(indent + 1, f"elif type({q}) is not int:", "    slow = True")

    def check_plain(self, p: Parameter) -> None:
        """Write the check that a number is one, a whole number whole, a flag True or False: arrays would broadcast."""
        kind, *rest = p.annotation.split(" | ")
        if p.dim or self.operator or rest not in ([], ["None"]) or kind not in PLAIN:
            return
        q, (test, function) = p.public, PLAIN[kind]
        given = [test.format(q)] + [f"{q} is not None"] * bool(rest)
        self.emit(1, f"if {' and '.join(given)}:", f"    {q} = {function}({self.row.public_name!r}, {q!r}, {q})")

    def check_dimension(self, p: Parameter, array: str) -> None:
        """Write the check of a dimension, which costs the usual case, a number in range, one comparison."""
        count = f"{array}.ndim + 1" if p.new_dim else f"({array}.ndim or 1)"
        number = f"type({p.public}) is not int or not -({count}) <= {p.public} < {count}"
        given = [f"{p.public} is not None"] * ("None" in p.annotation or p.annotation.startswith("Dim"))
        given += [f"type({p.public}) is not bool"] * ("bool" in p.annotation)
        self.emit(1, f"if {' and '.join([*given, f'({number})'])}:")
        function = "check_dims" if p.several else "check_dim"
        if self.row.tensors[0].many and not p.new_dim:
            array = f"with_elements(a_{self.row.tensors[0].name})"
            count = f"({array}.ndim or 1)"
        self.emit(
            2, f"{p.public} = {function}({self.row.public_name!r}, {p.public!r}, {p.public}, {array}.shape, {count})"
        )

    def check_kind(self, p: Parameter, indent: int) -> None:
        """Write the check that an index is of integers, a mask of booleans."""
        what = "integers (int64)" if p.kinds == "iu" else "booleans (torch.bool)"
        self.emit(indent, f"if a_{p.name}.dtype.kind not in {p.kinds!r}:")
        self.emit(
            indent + 1,
            f"raise DtypeError(f\"{self.row.public_name}(): argument '{p.public}' must be a tensor of {what}, not"
            f' {{{p.public}.dtype}}")',
        )

    def write_slow_path(self) -> None:
        """Write what happens when dtypes or devices differ or an operand is unusual: harmonise and unwrap again."""
        emit, values = self.emit, self.values
        if any(p.many for p in values):
            return
        names = ", ".join(p.public for p in values)
        emit(1, "if slow:")
        if self.operator:
            emit(2, f"if not is_operand({values[-1].public}):", "    return UNKNOWN")
        for p in values[1:]:
            if not p.optional:
                emit(
                    2,
                    f"if {p.public} is None:",
                    f"    need_tensor({self.row.public_name!r}, {p.public!r}, None, {'around' if p.scalar else None})",
                )
        emit(
            2,
            f"{names}{',' if len(values) == 1 else ''} = harmonize({self.row.public_name!r},"
            f" {self.row.cast == 'float'}, {names})",
        )
        for p in values:
            q = p.public
            emit(2, f"a_{p.name} = {q}._array if isinstance({q}, Tensor) else {q}")
            if p is values[0]:
                emit(2, f"d_{p.name} = a_{p.name}.dtype")
            if p.name in self.row.formulas:
                emit(2, f"r_{p.name} = isinstance({q}, Tensor) and {q}._requires_grad")

    def record(self) -> None:
        """Write the code that makes the node."""
        row, emit = self.row, self.emit
        flags = [f"r_{name}" for name in row.formulas]
        for p in self.constant:
            emit(1, f"if r_{p.name} and recording():", f"    raise not_differentiable(row.public_name, {p.public!r})")
        emit(1, f"if ({' or '.join(flags)}) and (observers := recording()):")
        if row.widens and row.view:
            emit(2, f"half = {self.first_dtype} is HALF")
        emit(2, f"node = {f'{row.node_name}_half() if half else ' * row.widens}{row.node_name}()", "node._hooks = None")
        emit(2, "node._released = False", "node.device = device")
        emit(2, "frame = getframe(1)", "code = node._code = frame.f_code")  # Note [Forward lines]
        emit(2, "if code is caller:", "    node._last_instruction = frame.f_lasti")
        emit(2, "else:", "    node._code, node._last_instruction, caller = note_line(frame, caller)")
        edges = []
        for name in row.formulas:
            q = self.inputs[name].public
            if self.inputs[name].many:
                edges.append(f"*[(t._edge or t._leaf or leaf_edge(t)) if t._requires_grad else None for t in {q}]")
            else:
                edges.append(f"({q}._edge or {q}._leaf or leaf_edge({q})) if r_{name} else None")
        emit(2, f"node.edges = ({', '.join(edges)},)")
        emit(2, "node._sequence = next_sequence()")  # after the edges: a leaf's AccumulateGrad has to be older
        for name in self.saved_inputs:
            self.save_input(name)
        for name in self.shapes:
            p = self.inputs[name[:-6]]
            emit(2, f"node.h_{name} = {f'[a.shape for a in a_{p.name}]' if p.many else f'a_{p.name}.shape'}")
        for name in self.saved_plain:
            public = next(p.public for p in row.parameters if p.name == name)
            emit(2, f"node.p_{name} = {public}")
        for name in self.unbroadcast:
            p = self.inputs[name]
            shape = f"a_{name}.shape"
            if p.scalar or p.optional:
                shape = f"{shape} if r_{name} else None"
            emit(2, f"node.b_{name} = {shape}")
        if row.many_outputs:
            emit(2, "node.outputs = tuple([(tensor._array.shape, tensor._array.dtype) for tensor in result])")
            emit(2, "for number, tensor in enumerate(result):", "    if tensor._array.dtype.kind == 'f':")
            emit(4, "tensor._edge = (node, number)", "tensor._requires_grad = True")
        else:
            emit(2, "result._edge = (node, 0)", "result._requires_grad = True")
        if self.saved_results:
            for name in self.checked:
                tensor = f"result[{self.results[name]}]" if row.many_outputs else "result"
                source = f"{tensor}._array" if row.many_outputs else "out"
                indent = self.only_if_needed(name, f"node.r_{name}")
                emit(indent, f"cell = {tensor}._cell", "if cell is None:", f"    cell = {tensor}._cell = Version()")
                emit(indent, f"node.r_{name} = {source}", f"node.c_{name} = cell", f"node.w_{name} = cell.number")
                if row.widens and not row.view and self.values:
                    part = f"exact[{self.results[name]}]" if len(row.outputs) > 1 else "exact"
                    emit(indent, "if exact is not None:", f"    node.r_{name} = xp.asarray({part})")
            for name in self.hidden:
                if name in self.saved_results:
                    emit(2, f"node.r_{name} = {name}")
        emit(2, "if observers is not True:", "    for observer in observers:", "        observer(node)")

    def only_if_needed(self, name: str, slot: str) -> int:
        """Write the test whether a formula that names a value will run, unless all do; return the indent of what
        follows.
        """
        users = [n for n, (_, wanted) in self.row.formulas.items() if name in wanted]
        if len(users) == len(self.row.formulas):
            return 2
        self.emit(2, f"{slot} = None", f"if {' or '.join(f'r_{n}' for n in users)}:")
        return 3

    def save_input(self, name: str) -> None:
        """Write the code that saves an input and its version, where a formula that will run names it."""
        row, emit, p = self.row, self.emit, self.inputs[name]
        q = p.public
        if p.many:
            emit(2, f"node.s_{name} = {q}", f"node.v_{name} = [t._version for t in {q}]")
            return
        hidden = any(n in self.hidden for n in row.saved)
        indent = 2 if hidden else self.only_if_needed(name, f"node.s_{name}")
        emit(indent, f"node.s_{name} = {q}")
        if p.scalar or p.optional:
            emit(indent, f"if isinstance({q}, Tensor):")
            indent += 1
        emit(indent, f"node.v_{name} = 0 if {q}._cell is None else {q}._cell.number")
