"""The op row: one decorated function declares an operator, its derivatives, its variants and its tests.

Note [Op rows]
~~~~~~~~~~~~~~
A row is written like this::

    @op(
        self=lambda grad, other: grad * other,
        other=lambda grad, self: grad * self,
        cast="promote", inplace=True, operators="__mul__ __rmul__",
        samples=[sample(real(3, 2), real(2))],
    )
    def mul(xp, self: Array, other: Array | Number) -> Array:
        '''Elementwise product.'''
        return self * other

**forward** gets the array module ``xp`` of the device and raw arrays. Annotations say what a parameter is: ``Array`` (a
tensor that may carry gradients), ``Index`` (a tensor of integers), ``Mask`` (a tensor of booleans), ``Sequence[Array]``;
``| Number`` admits Python scalars, ``| None`` makes it optional; ``Dims`` is a tuple of ints that callers may also
spread, as in ``x.permute(1, 0)``; everything else is a plain argument.

**Formulas** give the gradient of one input each. The names of a formula's parameters say what it needs, and exactly
that is saved: an input, ``<input>_shape`` (metadata, no memory held), ``result`` (or an output's name), a plain
argument, ``grad``, ``xp``. An output whose name starts with an underscore is seen by formulas only.

Forward and formulas use nothing but operators and ``xp``. So the same text runs on raw arrays (eager forward and
first-order backward) and on Tensors, with ``xp`` the op namespace (``ops/tensor_namespace.py``): that is how
``create_graph`` differentiates derivatives without any further code.

**What follows from a row**: the function, the Tensor method, the operators, the in-place variant, the grad node with
PyTorch's name, type promotion (Note [Type promotion]), the device check, view tracking, documentation, and the tests,
which walk `ROWS`. Un-broadcasting of gradients happens in the generated backward, not in formulas.

**How**: interpreting rows on every call costs ten times what NumPy needs for a small product, so a row is compiled once,
at import, into straight-line Python: `Compiler` writes the source of the function and of its node class, which
``row.source`` keeps for reading.
"""

from __future__ import annotations

import inspect
import linecache
import re
import sys
from collections import namedtuple
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from nanotorch import dtypes
from nanotorch.autograd.errors import ShapeError, describe_operand, inside, user_line
from nanotorch.autograd.grad_mode import is_grad_enabled
from nanotorch.autograd.graph import (
    MULTI_VIEW,
    NO_GRAD_VIEW,
    CopySlices,
    Node,
    Steps,
    Version,
    View,
    modified_error,
    next_sequence,
    released_error,
)
from nanotorch.autograd.methods import TensorMethods
from nanotorch.autograd.tensor import Tensor, from_array, leaf_edge
from nanotorch.backend.device import CPU
from nanotorch.ops.sample import Sample

__all__ = ["COMPOSITES", "ROWS", "Array", "Dims", "Index", "Mask", "Number", "Row", "composite", "op"]

Array = Any
Dims = Any
Index = Any
Mask = Any
Number = Any

ROWS: dict[str, Row] = {}
COMPOSITES: dict[str, Composite] = {}


class Parameter:
    """One parameter of a row's forward, read from its annotation."""

    def __init__(self, parameter: inspect.Parameter) -> None:
        annotation = str(parameter.annotation)
        self.name = parameter.name
        self.public = "input" if self.name == "self" else self.name
        self.star = annotation == "Dims"
        self.keyword_only = parameter.kind is inspect.Parameter.KEYWORD_ONLY
        self.default = parameter.default
        self.annotation = annotation
        self.many = "Sequence[Array]" in annotation
        self.tensor = bool(re.search(r"\b(Array|Index|Mask)\b", annotation))
        self.value = self.tensor and "Array" in annotation
        self.kinds = {"Index": "iu", "Mask": "b"}.get(annotation.split(" ")[0], "")
        self.scalar = "Number" in annotation and self.tensor
        self.optional = "None" in annotation and self.tensor


class Row:
    """A declared operator.

    Attributes:
        name: its name in PyTorch.
        forward: the function on raw arrays.
        formulas: for every differentiable input its formula and the formula's parameter names.
        function: the compiled function on tensors.
        node: the class of its grad nodes.
        variant: the in-place function, or None.
        samples: the arguments that tests call it with.
    """

    def __init__(
        self,
        forward: Callable[..., Any],
        formulas: dict[str, Callable[..., Any]],
        *,
        samples: Sequence[Sample],
        cast: str | None,
        view: bool,
        inplace: bool,
        operators: str,
        outputs: str,
        node: str | None,
        where: str,
    ) -> None:
        self.name = forward.__name__
        self.forward = forward
        self.samples = list(samples)
        self.cast, self.view, self.inplace, self.where = cast, view, inplace, where
        self.operators = operators.split()
        self.outputs = outputs.split()
        self.visible = [name for name in self.outputs if not name.startswith("_")]
        self.many_outputs = outputs == "list" or len(self.visible) > 1
        camel = "".join(part[:1].upper() + part[1:] for part in self.name.split("_"))
        self.node_name = node or f"{camel}Backward0"
        self.parameters = [Parameter(p) for p in list(inspect.signature(forward).parameters.values())[1:]]
        self.tensors = [p for p in self.parameters if p.tensor]
        self.formulas = {
            name: (formula, tuple(inspect.signature(formula).parameters)) for name, formula in formulas.items()
        }
        unknown = set(self.formulas) - {p.name for p in self.tensors}
        if unknown:
            raise TypeError(f"row {self.name}: formulas for {sorted(unknown)}, which are not tensor parameters")
        self.saved = sorted({name for _, names in self.formulas.values() for name in names} - {"grad", "grads", "xp"})
        self.return_type = return_type(self.public_name, self.visible) if len(self.visible) > 1 else tuple
        compiler = Compiler(self)
        self.compiler = compiler
        self.function: Callable[..., Any] = compiler.function
        self.node: type[Node] | None = compiler.node
        self.function.__doc__ = forward.__doc__
        self.variant: Callable[..., Tensor] | None = None

    @property
    def public_name(self) -> str:
        """The name that users know: rows behind a composite, such as ``_max_dim``, speak for it."""
        return self.name.strip("_").removesuffix("_dim").removesuffix("_all") if self.name.startswith("_") else self.name

    @property
    def source(self) -> str:
        """The Python code that the row was compiled to so far."""
        return self.compiler.source

    def signature(self) -> str:
        """Return the public signature, such as ``sum(input, dim=None, keepdim=False)``."""
        return f"{self.name}({', '.join(public_parameters(self.parameters))})"


def return_type(name: str, fields: Sequence[str]) -> Any:
    """Return the type of several outputs: a named tuple that prints as PyTorch's do."""
    fields_type = namedtuple(name, fields)  # type: ignore[misc]  # the names are data here

    def text(self: Any) -> str:
        values = ",\n".join(f"{field}={getattr(self, field)!r}" for field in fields)
        return f"torch.return_types.{name}(\n{values})"

    fields_type.__repr__ = text  # type: ignore[method-assign]
    return fields_type


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


class Compiler:
    """Writes the source of a row's function and node class, and executes it once."""

    def __init__(self, row: Row) -> None:
        self.row = row
        self.lines: list[str] = []
        self.margin = 0
        self.namespace: dict[str, Any] = {
            "CPU": CPU, "Node": Node, "Tensor": Tensor, "Version": Version, "arrays": _arrays, "explain": explain,
            "compile_recorded": lambda node, grad: self.compile_recorded(node, grad),
            "forward": row.forward, "from_array": from_array, "getframe": sys._getframe, "harmonize": harmonize,
            "is_grad_enabled": is_grad_enabled, "leaf_edge": leaf_edge, "make_view": make_view,
            "modified_error": modified_error, "need_tensor": need_tensor, "inside": inside, "new": object.__new__, "user_line": user_line,
            "next_sequence": next_sequence, "recorded_output": recorded_output, "released_error": released_error,
            "row": row, "same": same, "star_argument": star_argument, "sum_to": sum_to, "tensors_of": tensors_of,
            "wrap_outputs": wrap_outputs, "TENSORS": TENSORS,
        }  # fmt: skip
        for name, (formula, _) in row.formulas.items():
            self.namespace[f"formula_{name}"] = formula
        self.values = [p for p in row.tensors if p.value]
        self.hidden = [n for n in row.outputs if n.startswith("_")]
        self.inputs = {p.name: p for p in row.tensors}
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
        if row.formulas:
            self.write_node()
        self.write_function()
        self.source = self.execute(f"<nanotorch op {row.name}>")
        self.function = self.namespace[row.name]
        self.node = self.namespace.get(row.node_name)

    def emit(self, indent: int, *lines: str) -> None:
        """Add lines of code."""
        self.lines += ["    " * (indent + self.margin) + line for line in lines]

    def execute(self, filename: str) -> str:
        """Compile and run the lines; return them as text, which tracebacks show too."""
        source = "\n".join(self.lines) + "\n"
        exec(compile(source, filename, "exec"), self.namespace)
        linecache.cache[filename] = (len(source), None, source.splitlines(keepends=True), filename)
        return source

    def compile_recorded(self, node: Node, grad: Any) -> Any:
        """Stand in for a node's apply_recorded until its first call: most rows never need theirs, and import stays fast."""
        self.lines, self.margin = [], -1
        self.write_apply(recorded=True)
        self.margin = 0
        self.source += self.execute(f"<nanotorch op {self.row.name}, recorded>")
        assert self.node is not None
        self.node.apply_recorded = self.namespace["apply_recorded"]
        return self.node.apply_recorded(node, grad)

    # ----------------------------------------------------------------------------------------- the grad node

    def write_node(self) -> None:
        """Write the node class: slots for what the formulas name, apply, apply_recorded, release."""
        row, emit = self.row, self.emit
        slots = [f"s_{n}" for n in self.saved_inputs] + [f"v_{n}" for n in self.saved_inputs]
        slots += [f"h_{n}" for n in self.shapes] + [f"p_{n}" for n in self.saved_plain]
        slots += [f"r_{n}" for n in self.saved_results] + [f"{kind}_{n}" for n in self.checked for kind in "cw"]
        slots += [f"b_{n}" for n in self.unbroadcast] + (["outputs"] if row.many_outputs else [])
        emit(0, f"class {row.node_name}(Node):", f"    __slots__ = ({', '.join(map(repr, slots))}{',' if slots else ''})")
        self.write_apply(recorded=False)
        emit(1, "apply_recorded = compile_recorded")
        freed = [f"s_{n}" for n in self.saved_inputs] + [f"r_{n}" for n in self.saved_results]
        emit(1, "def release(self):")
        emit(2, *([f"self.{' = self.'.join(freed)} = None", "self._released = True"] if freed else ["pass"]))

    def write_apply(self, recorded: bool) -> None:
        row, emit = self.row, self.emit
        emit(1, f"def apply{'_recorded' if recorded else ''}(node, {'grads' if row.many_outputs else 'grad'}):")
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
        if recorded and any(name in self.hidden for name in self.saved_results):
            call = ", ".join(f"{p.name}={p.name}" for p in row.parameters)
            emit(2, f"{', '.join(row.outputs)} = forward(TENSORS[0](node.device), {call})")
        emit(2, "edges = node.edges")
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
        emit(2, f"return {results[0]}" if many else f"return ({', '.join(results)},)")

    def unpack_input(self, name: str, recorded: bool) -> None:
        """Write the checks of a saved input's version, and take its array when not recording."""
        p, emit = self.inputs[name], self.emit
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

    # ----------------------------------------------------------------------------------------- the function

    def write_function(self) -> None:
        """Write the public function: unwrap, harmonise, run forward, wrap, record."""
        row, emit = self.row, self.emit
        emit(0, f"def {row.name}({', '.join(public_parameters(row.parameters))}):")
        for p in row.parameters:
            if p.star:
                emit(1, f"{p.public} = star_argument({row.name!r}, {p.public!r}, {p.public}_, {p.public})")
        first = row.tensors[0]
        casting = row.cast is not None
        if casting:
            emit(1, "slow = False")
        for p in row.tensors:
            self.unwrap(p, casting)
        if casting:
            self.write_slow_path()
        device = f"{first.public}[0].device" if first.many else f"{first.public}.device"
        emit(1, f"device = {device}", "xp = device.xp")
        arguments = ", ".join(
            (f"{p.name}=" if p.keyword_only else "") + (f"a_{p.name}" if p.tensor else p.public) for p in row.parameters
        )
        emit(1, "try:", f"    out = forward(xp, {arguments})", "except Exception as error:")
        publics = ", ".join(p.public for p in row.parameters)
        emit(2, f"raise explain(row, error, ({publics}{',' if publics else ''})) from None")
        if row.many_outputs:
            emit(1, "result = wrap_outputs(row, out, device)")
        else:
            if self.hidden:
                emit(1, f"{', '.join('out' if n in row.visible else n for n in row.outputs)} = out")
            emit(1, f"if type(out) is not type({'a_' + first.name + ('[0]' if first.many else '')}):")
            emit(2, "out = xp.asarray(out)")
            emit(1, "result = new(Tensor)", "result._array = out", "result.device = device")
            emit(1, "result.grad = result._cell = result._leaf = result._view = result._edge = None")
            emit(1, "result._requires_grad = False")
        if row.view:
            plain = ", ".join(p.public for p in row.parameters if not p.tensor)
            emit(1, f"make_view(row, {first.public}, result, ({plain}{',' if plain else ''}))")
        if row.formulas:
            self.record()
        emit(1, "return result")

    def unwrap(self, p: Parameter, casting: bool) -> None:
        """Write the code that turns a tensor argument into ``a_<name>`` (array) and ``r_<name>`` (requires grad)."""
        row, emit, q, first = self.row, self.emit, p.public, self.row.tensors[0]
        reference = self.values[0] if self.values else first  # dtypes are compared with that of the first value
        if p.many:
            emit(1, f"{q} = tensors_of({row.name!r}, {q}{', True' if casting else ''})")
            emit(1, f"a_{p.name} = arrays({row.name!r}, {q})")
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
        numbers = ", True" + "".join(f", {o.public}" for o in self.values[1:]) if p.scalar else ""
        emit(indent, f"if not isinstance({q}, Tensor):")
        emit(indent + 1, f"{q} = need_tensor({row.name!r}, {q!r}, {q}{numbers})")
        emit(indent, f"if {q}._view is not None:", f"    {q}._refresh()", f"a_{p.name} = {q}._array")
        if p.name in row.formulas or p.optional:
            emit(indent, f"r_{p.name} = {q}._requires_grad")
        if p is reference and row.cast == "float":
            emit(indent, f"if a_{p.name}.dtype.kind != 'f':", "    slow = True")
        if p.value and p is not reference:
            emit(indent, f"if a_{p.name}.dtype is not a_{reference.name}.dtype or {q}.device is not {reference.public}.device:")
            check = f"same({row.name!r}, {reference.public!r}, {reference.public}, {q!r}, {q})"
            emit(indent + 1, "slow = True" if casting else check)
        elif p is not first:
            emit(indent, f"if {q}.device is not {first.public}.device:")
            emit(indent + 1, f"same({row.name!r}, {first.public!r}, {first.public}, {q!r}, {q}, False)")
        if p.kinds:
            self.check_kind(p, indent)

    def unwrap_scalar(self, p: Parameter, reference: Parameter, indent: int, casting: bool) -> None:
        """Write the same for an argument that may be a Python number, which stays one."""
        emit, q = self.emit, p.public
        emit(indent, f"if isinstance({q}, Tensor):", f"    if {q}._view is not None:", f"        {q}._refresh()")
        differs = f"{q}._array.dtype is not a_{reference.name}.dtype or {q}.device is not {reference.public}.device"
        change = "slow = True" if casting else f"{q} = {q}.to({reference.public}.device, {reference.public}.dtype)"
        emit(indent + 1, f"if {differs}:", f"    {change}")
        emit(indent + 1, f"a_{p.name} = {q}._array", f"r_{p.name} = {q}._requires_grad")
        emit(indent, "else:", f"    a_{p.name} = {q}", f"    r_{p.name} = False")
        if casting:
            emit(indent + 1, f"if type({q}) is float:", f"    if a_{reference.name}.dtype.kind != 'f':", "        slow = True")
            emit(indent + 1, f"elif type({q}) is not int:", "    slow = True")

    def check_kind(self, p: Parameter, indent: int) -> None:
        """Write the check that an index is of integers, a mask of booleans."""
        what = "integers (int64)" if p.kinds == "iu" else "booleans (torch.bool)"
        self.emit(indent, f"if a_{p.name}.dtype.kind not in {p.kinds!r}:")
        self.emit(
            indent + 1,
            f"raise TypeError(f\"{self.row.name}(): argument '{p.public}' must be a tensor of {what}, not {{{p.public}.dtype}}\")",
        )

    def write_slow_path(self) -> None:
        """Write what happens when dtypes or devices differ or an operand is unusual: harmonise and unwrap again."""
        emit, values = self.emit, self.values
        if any(p.many for p in values):
            return
        names = ", ".join(p.public for p in values)
        emit(1, "if slow:")
        emit(2, f"{names}{',' if len(values) == 1 else ''} = harmonize({self.row.name!r}, {self.row.cast == 'float'}, {names})")
        for p in values:
            q = p.public
            emit(2, f"a_{p.name} = {q}._array if isinstance({q}, Tensor) else {q}")
            if p.name in self.row.formulas:
                emit(2, f"r_{p.name} = isinstance({q}, Tensor) and {q}._requires_grad")

    def record(self) -> None:
        """Write the code that makes the node."""
        row, emit = self.row, self.emit
        flags = [f"r_{name}" for name in row.formulas]
        emit(1, f"if ({' or '.join(flags)}) and is_grad_enabled():")
        emit(2, f"node = {row.node_name}()", "node._hooks = None")
        emit(2, "node._released = False", "node.device = device", "frame = getframe(1)")
        emit(2, "if inside[frame.f_code.co_filename]:", "    node._code, node._last_instruction = user_line(frame)")
        emit(2, "else:", "    node._code = frame.f_code", "    node._last_instruction = frame.f_lasti")
        edges = []
        for name in row.formulas:
            q = self.inputs[name].public
            if self.inputs[name].many:
                edges.append(f"*[(t._edge or leaf_edge(t)) if t._requires_grad else None for t in {q}]")
            else:
                edges.append(f"({q}._edge or leaf_edge({q})) if r_{name} else None")
        emit(2, f"node.edges = ({', '.join(edges)},)")
        emit(2, "node._sequence = next_sequence()")  # after the edges: a leaf's AccumulateGrad has to be older
        for name in self.saved_inputs:
            self.save_input(name)
        for name in self.shapes:
            p = self.inputs[name[:-6]]
            emit(2, f"node.h_{name} = {f'[a.shape for a in a_{p.name}]' if p.many else f'a_{p.name}.shape'}")
        for name in self.saved_plain:
            public = next((p.public for p in row.parameters if p.name == name), None)
            if public is None:
                raise TypeError(f"row {row.name}: a formula names {name!r}, which is no input, output or argument")
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
            for name in self.hidden:
                if name in self.saved_results:
                    emit(2, f"node.r_{name} = {name}")

    def only_if_needed(self, name: str, slot: str) -> int:
        """Write the test whether a formula that names a value will run, unless all do; return the indent of what follows."""
        users = [n for n, (_, wanted) in self.row.formulas.items() if name in wanted]
        if len(users) == len(self.row.formulas):
            return 2
        self.emit(2, f"{slot} = None", f"if {' or '.join(f'r_{n}' for n in users)}:")
        return 3

    def save_input(self, name: str) -> None:
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


# ------------------------------------------------------------------------------- what compiled rows call on rare paths

TENSORS: list[Callable[[Any], Any]] = []
"""Holds the function that gives the op namespace of a device (``ops/tensor_namespace.py``), which is made of rows."""


def need_tensor(name: str, argument: str, value: Any, scalar: bool = False, *others: Any) -> Tensor:
    """Turn an array or (where allowed) a number into a tensor, or say that a tensor is needed."""
    if isinstance(value, np.ndarray):
        return from_array(value)
    if scalar and isinstance(value, bool | int | float | np.generic):
        reference = next((o for o in others if isinstance(o, Tensor)), None)
        device = CPU if reference is None else reference.device
        plain = value.item() if isinstance(value, np.generic) else value
        operands = [o for o in others if isinstance(o, Tensor)]
        dtype = dtypes.result_dtype([plain, *operands]) if operands else dtypes.scalar_dtype(plain)
        return from_array(device.xp.asarray(device.xp.full((), plain, dtype.numpy)), device)
    raise TypeError(f"{name}(): argument '{argument}' must be Tensor{' or Number' * scalar}, not {type(value).__name__}")


def harmonize(name: str, floating: bool, *operands: Any) -> tuple[Any, ...]:
    """Bring operands to one dtype and device (Note [Type promotion]); the casts are recorded."""
    values: list[Any] = []
    for operand in operands:
        if isinstance(operand, np.ndarray):
            operand = from_array(operand)
        elif isinstance(operand, np.generic):
            operand = operand.item()
        elif operand is not None and not isinstance(operand, Tensor | bool | int | float):
            raise TypeError(f"{name}(): operands must be Tensor or Number, not {type(operand).__name__}")
        values.append(operand)
    tensors = [value for value in values if isinstance(value, Tensor)]
    device = next((t.device for t in tensors if t._array.ndim), tensors[0].device)
    dtype = dtypes.result_dtype([value for value in values if value is not None])
    if floating and not dtype.is_floating_point:
        dtype = dtypes.get_default_dtype()
    for position, value in enumerate(values):
        if isinstance(value, Tensor):
            if value.device is not device:
                if value._array.ndim or value.device is not CPU:
                    places = " and ".join(f"argument {k + 1} on {v.device}" for k, v in enumerate(values) if isinstance(v, Tensor))
                    raise RuntimeError(
                        f"{name}(): expected all tensors to be on the same device, but found {places}; move one with .to(device)"
                    )
                value = value.to(device)
            values[position] = value if value.dtype is dtype else value.to(dtype)
    return tuple(values)


def same(name: str, first: str, tensor: Tensor, second: str, other: Tensor, dtype: bool = True) -> None:
    """Raise unless two tensors share the device and, for values, the dtype."""
    if tensor.device is not other.device:
        raise RuntimeError(
            f"{name}(): expected all tensors to be on the same device, but found '{first}' on {tensor.device} and "
            f"'{second}' on {other.device}; move one with .to(device)"
        )
    if dtype and tensor._array.dtype != other._array.dtype:
        raise RuntimeError(
            f"{name}(): expected tensors of the same dtype, but '{first}' is {tensor.dtype} and '{second}' is {other.dtype}; "
            f"convert one, for example with .to({other.dtype!r})"
        )


def tensors_of(name: str, tensors: Any, cast: bool = False) -> tuple[Tensor, ...]:
    """Check a sequence of tensors, refresh views among them and (for casting rows) promote their dtypes."""
    if isinstance(tensors, Tensor):
        tensors = tensors.unbind(0)
    tensors = tuple(tensors)
    if not tensors:
        raise RuntimeError(f"{name}(): expected a non-empty list of Tensors")
    for position, tensor in enumerate(tensors):
        if not isinstance(tensor, Tensor):
            raise TypeError(f"{name}(): expected Tensor as element {position} of its argument, but got {type(tensor).__name__}")
        if tensor._view is not None:
            tensor._refresh()
        if tensor.device is not tensors[0].device:
            same(name, "element 0", tensors[0], f"element {position}", tensor)
    if cast and any(t._array.dtype != tensors[0]._array.dtype for t in tensors):
        dtype = dtypes.result_dtype(tensors)
        tensors = tuple(t if t.dtype is dtype else t.to(dtype) for t in tensors)
    return tensors


def _arrays(name: str, tensors: tuple[Tensor, ...]) -> list[Any]:
    return [tensor._array for tensor in tensors]


def star_argument(name: str, argument: str, positional: tuple[Any, ...], keyword: Any) -> tuple[int, ...]:
    """Return a size or a list of dims given as ``f(x, 2, 3)``, ``f(x, (2, 3))`` or ``f(x, size=(2, 3))``."""
    if keyword is not None:
        value = keyword
    elif len(positional) == 1 and not isinstance(positional[0], int | np.integer):
        value = positional[0]
        if isinstance(value, Tensor):
            value = (value,) if value._array.ndim == 0 else value.tolist()
    else:
        value = positional
    if isinstance(value, int):
        value = (value,)
    try:
        return tuple([v if type(v) is int else v.__index__() for v in value])
    except (TypeError, AttributeError):
        raise TypeError(f"{name}(): argument '{argument}' must be ints or a tuple of ints, got {value!r}") from None


def explain(row: Row, error: Exception, operands: tuple[Any, ...]) -> Exception:
    """Turn an error of the array module into one that names the op and the shapes."""
    if isinstance(error, MemoryError | KeyboardInterrupt | ShapeError | NotImplementedError):
        return error
    shapes = [describe_operand(o) for o, p in zip(operands, row.parameters, strict=True) if p.tensor and not p.many and o is not None]
    for operand, p in zip(operands, row.parameters, strict=True):
        if p.many:
            shapes += [describe_operand(o) for o in operand]
    text = " and ".join(shapes) if len(shapes) < 3 else ", ".join(shapes)
    plain = "".join(
        f", {p.public}={o!r}" for o, p in zip(operands, row.parameters, strict=True) if not p.tensor and o is not p.default
    )
    name, reason = row.public_name, str(error)
    if reason.startswith(f"{name}:"):
        return error  # the row's own words
    if row.where == "internal":
        plain = ""
    if isinstance(error, np.exceptions.AxisError):
        ndim = operands[0][0].ndim if row.parameters[0].many else operands[0].ndim
        bounds = f"[{-ndim}, {ndim - 1}]" if ndim else "[-1, 0]"
        return IndexError(f"{name}: Dimension out of range (expected to be in range of {bounds}, but got {error.axis}); input shape {text}")
    if isinstance(error, IndexError):
        return IndexError(f"{name}: {reason}; input shape {text}{plain}")
    if isinstance(error, ValueError):
        if "broadcast" in reason:
            reason = "these shapes cannot be broadcast together: aligned at the right, lengths must be equal or 1"
        return ShapeError(f"{name}: shapes {text}{plain}: {reason}")
    if isinstance(error, RuntimeError):
        return RuntimeError(f"{name}: {reason}")
    if isinstance(error, TypeError):
        kinds = ", ".join(str(o.dtype) if isinstance(o, Tensor) else type(o).__name__ for o in operands if not isinstance(o, tuple | list))
        return TypeError(f"{name}(): {reason} (called with {kinds})")
    return error


def sum_to(xp: Any, grad: Any, shape: tuple[int, ...]) -> Any:
    """Sum a gradient over the dimensions along which its input was broadcast."""
    lead = grad.ndim - len(shape)
    if lead < 0:
        return xp.broadcast_to(grad, shape)
    axes = tuple(range(lead)) + tuple(
        lead + axis for axis, length in enumerate(shape) if length == 1 and grad.shape[lead + axis] != 1
    )
    if axes:
        grad = xp.sum(grad, axis=axes)
    return xp.reshape(grad, shape) if tuple(grad.shape) != tuple(shape) else grad


def recorded_output(node: Node, array: Any, output_nr: int, cell: Version) -> Tensor:
    """Wrap a saved result again as an output of its node, for recorded backwards."""
    result = from_array(array, node.device, True)
    result._edge = (node, output_nr)
    result._cell = cell
    return result


def wrap_outputs(row: Row, out: Sequence[Any], device: Any) -> Any:
    """Wrap the arrays of a row with several outputs."""
    tensors = [from_array(device.xp.asarray(array), device) for array in out]
    return row.return_type(*tensors) if row.return_type is not tuple else tuple(tensors)


def make_view(row: Row, parent: Tensor, result: Any, arguments: tuple[Any, ...]) -> None:
    """Note that ``result`` views ``parent`` (Note [Views and in-place])."""
    refusal = None if is_grad_enabled() else NO_GRAD_VIEW
    cell = parent._version_cell()
    steps: Steps | None
    if parent._view is None:
        base, steps = parent, None if refusal else (None, row, arguments)
    else:
        base, before = parent._view.base, parent._view.steps
        steps = None if refusal or before is None else (before, row, arguments)
        refusal = parent._view.refusal or refusal
    if isinstance(result, tuple):
        for number, tensor in enumerate(result):
            tensor._cell = cell
            picked = None if steps is None else (steps, PICK, (number,))
            tensor._view = View(base, picked, refusal or MULTI_VIEW.format(row.node_name))
        return
    result._cell = cell
    result._view = View(base, steps, refusal)


class _Pick:
    """The last step of a view that is one of several outputs: choose the output by its number."""

    @staticmethod
    def function(value: Sequence[Tensor], number: int) -> Tensor:
        return value[number]

    @staticmethod
    def forward(xp: Any, value: Sequence[Any], number: int) -> Any:
        return value[number]


PICK = _Pick()


# ------------------------------------------------------------------------------- in-place variants


def apply_inplace(row: Row, target: Tensor, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor:
    """Run a row's in-place variant: the out-of-place op on the old value, then the write (Note [Views and in-place])."""
    if not isinstance(target, Tensor):
        raise TypeError(f"{row.name}_(): argument 'input' must be Tensor, not {type(target).__name__}")
    name = row.name.lstrip("_").removesuffix("_") + "_"
    check_writable(name, target)
    if row.cast is not None:
        args = tuple([narrowed(target, o) for o in args])
        kwargs = {key: narrowed(target, o) for key, o in kwargs.items()}
    others = [o for o in (*args, *kwargs.values()) if isinstance(o, Tensor)]
    base = target if target._view is None else target._view.base
    if not (is_grad_enabled() and (base.requires_grad or target._requires_grad or any([o.requires_grad for o in others]))):
        write(name, target, row.function(target, *args, **kwargs))
        return target
    if target._view is not None and target._view.refusal is not None:
        raise RuntimeError(target._view.refusal)
    old = alias(target)
    first = row.tensors[0].name
    if any(first in names for _, names in row.formulas.values()):
        old._array, old._cell = target._array.copy(), None
    args = tuple([alias(o) if isinstance(o, Tensor) and overlaps(target, o) else o for o in args])
    kwargs = {key: alias(o) if isinstance(o, Tensor) and overlaps(target, o) else o for key, o in kwargs.items()}
    result = row.function(old, *args, **kwargs)
    write(name, target, result)
    if result._requires_grad:
        node = result._edge[0]
        node._code, node._last_instruction = user_line(sys._getframe(1))
        rebase_history(target, node)
        if getattr(node, "r_result", None) is not None:
            cell = target._version_cell()
            node.r_result, node.c_result, node.w_result = target._array, cell, cell.number
    return target


def narrowed(target: Tensor, operand: Any) -> Any:
    """Cast a wider floating operand to the dtype of the tensor that is written."""
    if isinstance(operand, Tensor) and operand.is_floating_point() and target.is_floating_point() and operand.dtype is not target.dtype:
        return operand.to(target.dtype)
    return operand


def overlaps(target: Tensor, operand: Tensor) -> bool:
    """Return whether an operand sees the memory of the tensor that is written."""
    return operand is target or (operand._cell is not None and operand._cell is target._cell)


def alias(tensor: Tensor) -> Tensor:
    """Return a tensor of the same memory, version and place in the graph, which a node may save.

    The node of a write becomes the history of the tensor that is written: holding that tensor, or a view of it, would
    close a cycle.
    """
    result = from_array(tensor._array, tensor.device, tensor.requires_grad)
    result._edge, result._cell = gradient_edge_of(tensor), tensor._version_cell()
    return result


def gradient_edge_of(target: Tensor) -> Any:
    """Return the edge of a tensor's present history, or None."""
    return (target._edge or leaf_edge(target)) if target._requires_grad else None


def check_writable(name: str, target: Tensor) -> None:
    """Raise if a leaf that requires grad would be written while recording."""
    base = target
    if target._view is not None:
        target._refresh()
        base = target._view.base
    if base._requires_grad and base._edge is None and is_grad_enabled():
        what = "a leaf Variable" if base is target else "a view of a leaf Variable"
        raise RuntimeError(
            f"{name}: {what} that requires grad is being used in an in-place operation. Write inside torch.no_grad(), "
            "or to a clone() if the write should be differentiated."
        )


def write(name: str, target: Tensor, result: Tensor) -> None:
    """Copy a result into a tensor's memory and bump the version."""
    array, source = target._array, result._array
    if array.shape != source.shape:
        raise ShapeError(
            f"{name}: output with shape {list(array.shape)} doesn't match the broadcast shape {list(source.shape)}; "
            "the tensor written to cannot grow"
        )
    if result.dtype.category > target.dtype.category:
        raise RuntimeError(f"{name}: result type {result.dtype} can't be cast to the desired output type {target.dtype}")
    if 0 in array.strides and array.size > 1 and any(s == 0 and n > 1 for s, n in zip(array.strides, array.shape, strict=True)):
        raise RuntimeError(
            f"{name}: unsupported operation: more than one element of the written-to tensor refers to a single memory "
            "location. Please clone() the tensor before performing the operation."
        )
    target.device.xp.copyto(array, source, casting="unsafe")
    target._bump_version(name)


def rebase_history(target: Tensor, node: Node) -> None:
    """Make ``node``, whose first input is the tensor's old value, the tensor's history."""
    if target._view is None:
        target._set_history((node, 0))
        return
    base = target._view.base
    steps = target._view.steps
    assert steps is not None
    base._set_history((CopySlices(base, gradient_edge_of(base), steps, node), 0))
    target._refresh()


# ------------------------------------------------------------------------------- declaring


def op(
    *,
    samples: Sequence[Sample] = (),
    cast: str | None = None,
    view: bool = False,
    inplace: bool = False,
    operators: str = "",
    outputs: str = "",
    node: str | None = None,
    where: str = "both",
    **formulas: Callable[..., Any],
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Declare an op (Note [Op rows]).

    Args:
        samples: arguments that the tests call the op with.
        cast: None (operands must share the dtype), "promote" (bring them to a common one) or "float" (and a floating one).
        view: the result shares the memory of the first input.
        inplace: also make the variant with a trailing underscore.
        operators: names of the special methods to make, such as ``"__mul__ __rmul__"``.
        outputs: names of several outputs; "list" for a varying number; a leading underscore hides one from the caller.
        node: the name of the grad node, where it is not the op's name in camel case with ``Backward0``.
        where: "both", "method", "function" (of nanotorch), "functional" (of nn.functional) or "internal".
        formulas: for every differentiable input the formula of its gradient.
    """

    def declare(forward: Callable[..., Any]) -> Callable[..., Any]:
        row = Row(
            forward, formulas, samples=samples, cast=cast, view=view, inplace=inplace, operators=operators,
            outputs=outputs, node=node, where=where,
        )  # fmt: skip
        if row.name in ROWS:
            raise ValueError(f"op {row.name!r} is declared twice")
        ROWS[row.name] = row
        function = row.function
        function.__module__ = forward.__module__
        attach(row.name, function, where, row.operators)
        if inplace:

            def variant(input: Tensor, *args: Any, **kwargs: Any) -> Tensor:
                return apply_inplace(row, input, args, kwargs)

            variant.__name__ = variant.__qualname__ = row.name + "_"
            variant.__doc__ = f"In-place version of `{row.name}`: {(forward.__doc__ or '').splitlines()[0]}"
            row.variant = variant
            special = [f"__i{row.operators[0][2:]}"] if row.operators else []
            attach(row.name.lstrip("_") + "_", variant, "both" if where == "internal" else where, special)
        return function

    return declare


class Composite:
    """A function made of other ops, attached and tested like a row."""

    def __init__(self, function: Callable[..., Any], samples: Sequence[Sample], where: str) -> None:
        self.name, self.function, self.samples, self.where = function.__name__, function, list(samples), where


def composite(
    *, samples: Sequence[Sample] = (), where: str = "both", operators: str = "", aliases: str = ""
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Declare a function over tensors that is made of other ops: its derivative follows from theirs."""

    def declare(function: Callable[..., Any]) -> Callable[..., Any]:
        entry = Composite(function, samples, where)
        COMPOSITES[entry.name] = entry
        attach(entry.name, function, where, operators.split())
        return function

    return declare


def attach(name: str, function: Callable[..., Any], where: str, operators: Sequence[str]) -> None:
    """Make a function a method of Tensor, and its operators."""
    if where in ("both", "method") and not name.startswith("_"):
        setattr(TensorMethods, name, function)
    for operator in operators:
        setattr(TensorMethods, operator, function)
