"""The code of a row's public function: unwrap, harmonise, run forward, wrap, record.

Note [Slots set in line]
~~~~~~~~~~~~~~~~~~~~~~~~
The function sets the fields of the tensor and the node that it makes one by one. Through `from_array` and the
constructor of `Node`, which all other code calls, a recorded product of small matrices takes an eighth longer.
"""

from __future__ import annotations

from inspect import Parameter as Inspected
from typing import TYPE_CHECKING

from nanotorch.ops.rows.code_plan import Plan
from nanotorch.ops.rows.declaration import Parameter
from nanotorch.ops.rows.template import fill, lines

if TYPE_CHECKING:
    from collections.abc import Iterable


PLAIN = {  # by annotation: what no usual value is, and the function that looks closer
    "float": ("type({0}) is not float and type({0}) is not int", "need_number"),
    "int": ("type({0}) is not int", "whole"),
    "bool": ("{0} is not False and {0} is not True", "need_flag"),
}

FUNCTION = """
def $name($parameters):
    $keeps_caller
    $spread
    $writes_out
    $cast
    $quick
    $unwrapped
    $slow_path
    $checked
    device = $device
    xp = device.xp
    try:
        $computed
    $wraps_around
    except Exception as error:
        raise explain(row, error, ($publics)) from None
    $wrapped
    $viewed
    $recorded
    return result
"""
WRITES_OUT = """
if out is not None:
    return write_out(row.public_name, row.function, out, {$arguments})
"""
CAST = """
if dtype is not None:
    $q = cast_first('$op', $q, dtype)
"""
COMPUTED_HALF = """
half = $half
if half:
    exact = in_float32(forward, xp, $arguments)
    out = rounded_outputs(exact, $hidden, xp)
else:
    $no_exact
    out = forward(xp, $arguments)
"""
WRAPS_AROUND = """
except OverflowError as error:
    out = wrapped_around(row, forward, error, xp, [$arrays])
"""
WRAPPED_ALL = """
$apart
result = wrap_outputs(row.return_type, out, device)
"""
WRAPPED = """
$apart
if type(out) is not type($first):
    out = xp.asarray(out)
result = new(Tensor)
result._array = out
result.device = device
result._grad = result._cell = result._leaf = result._view = result._edge = None
result._requires_grad = False
"""

# ------------------------------------------------------------------------------------- arguments

SEVERAL = """
$q = tensors_of('$op', $q$casts)
a_$p = [tensor._array for tensor in $q]
$flag
"""
OPTIONAL = """
a_$p = None
r_$p = False
if $q is not None:
    $unwrapped
"""
TENSOR = """
if not isinstance($q, Tensor):
    $unknown
    $q = need_tensor('$op', '$q', $q$numbers)
$refreshed
a_$p = $q._array
$dtype
$flag
$floating
$matched
$kind
"""
UNKNOWN = """
if not is_operand($q):
    return UNKNOWN
"""
REFRESHED = """
if $q._view is not None:
    $q._refresh()
"""
NOT_FLOATING = """
if $dtype.kind != 'f':
    slow = True
"""
MATCHED = """
if a_$p.dtype is not $dtype or $q.device is not $first.device:
    $otherwise
"""
CASTS_ITSELF = """
if a_$reference.dtype.kind == 'f' and $q.device is $first.device:
    $q = $q.to($first.dtype)
    a_$p = $q._array
else:
    $same
"""
SAME_DEVICE = """
if $q.device is not $first.device:
    same('$op', '$first', $first, '$q', $q, False)
"""
KIND = """
if a_$p.dtype.kind not in '$kinds':
    raise DtypeError(f"$op(): argument '$q' must be a tensor of $what, not {$q.dtype}")
"""
SCALAR = """
if isinstance($q, Tensor):
    $refreshed
    if $q._array.dtype is not $dtype or $q.device is not $first.device:
        $change
    a_$p = $q._array
    r_$p = $q._requires_grad
else:
    a_$p = $q
    r_$p = False
    $number
"""
USUAL_NUMBER = """
if type($q) is float:
    if $dtype.kind != 'f':
        slow = True
elif type($q) is not int:
    slow = True
"""
SLOW_PATH = """
if slow:
    $unknown
    $absent
    $names = harmonize('$op', $floating, $given)
    $unwrapped
"""
ABSENT = """
if $q is None:
    need_tensor('$op', '$q', None, $scalar)
"""
HARMONIZED = """
a_$p = $q._array if isinstance($q, Tensor) else $q
$dtype
$flag
"""
FITTED = """
if type(a_$p) in NUMBERS and (not -100 < a_$p < 128 or a_$p < 0 and $dtype.kind == 'u'):
    a_$p = fitted('$op', a_$p, $dtype)
"""
CHECKED = """
if $unusual:
    $q = $look('$op', '$q', $q$further)
"""

# ------------------------------------------------------------------------------------- the node

RECORDED = """
$constant
if ($flags) and (observers := recording()):
    $half
    node = $made
    node._hooks = None
    node._released = False
    node.device = device
    frame = getframe(1)  # Note [Forward lines]
    code = node._code = frame.f_code
    if code is caller:
        node._last_instruction = frame.f_lasti
    else:
        node._code, node._last_instruction, caller = note_line(frame, caller)
    node.edges = ($edges,)
    node._sequence = next_sequence()  # after the edges: a leaf's AccumulateGrad has to be older
    $saved
    $attached
    $saved_results
    if observers is not True:
        for observer in observers:
            observer(node)
"""
CONSTANT = """
if r_$p and recording():
    raise not_differentiable(row.public_name, '$q')
"""
ATTACHED = """
result._edge = (node, 0)
result._requires_grad = True
"""
ATTACHED_ALL = """
node.outputs = tuple([(tensor._array.shape, tensor._array.dtype) for tensor in result])
for number, tensor in enumerate(result):
    if tensor._array.dtype.kind == 'f':
        tensor._edge = (node, number)
        tensor._requires_grad = True
"""
NEEDED = """
$slot = None
if $flags:
    $saved
"""
SAVED_INPUTS = """
node.s_$p = $q
node.v_$p = [t._version for t in $q]
"""
SAVED_INPUT = """
node.s_$p = $q
node.v_$p = 0 if $q._cell is None else $q._cell.number
"""
SAVED_OPERAND = """
node.s_$p = $q
if isinstance($q, Tensor):
    node.v_$p = 0 if $q._cell is None else $q._cell.number
"""
SAVED_RESULT = """
cell = $tensor._cell
if cell is None:
    cell = $tensor._cell = Version()
node.r_$name = $array
node.c_$name = cell
node.w_$name = cell.number
$exact
"""
EXACT_RESULT = """
if exact is not None:
    node.r_$name = xp.asarray($part)
"""


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
        parts.append(p.public if p.default is Inspected.empty else f"{p.public}={p.default!r}")
    return parts


def function_code(plan: Plan, operator: str = "") -> str:
    """Write the public function, or what its operators call."""
    return FunctionCode(plan, operator).function()


class FunctionCode:
    """Writes the public function of a row, or (`operator` is its name) what its operators call."""

    def __init__(self, plan: Plan, operator: str) -> None:
        self.plan, self.row, self.operator = plan, plan.row, operator
        self.op = plan.row.public_name
        self.casting = plan.row.cast is not None
        self.first = plan.row.tensors[0]
        self.reference = plan.values[0] if plan.values else self.first  # dtypes are compared with that of the first
        self.widens = plan.row.widens and not plan.row.view and bool(plan.values)

    def function(self) -> str:
        """Return the code."""
        row, plan, first = self.row, self.plan, self.first
        parameters, writes_out = public_parameters(row.parameters), ""
        if plan.takes_out and not self.operator:
            parameters += ["out=None"] if any(p.star or p.keyword_only for p in row.parameters) else ["*", "out=None"]
            writes_out = fill(WRITES_OUT, arguments=", ".join(f"{p.public!r}: {p.public}" for p in row.parameters))
        casts = any(p.keyword_only and p.name == "dtype" for p in row.parameters)
        arrays = ", ".join(f"a_{p.name}" if p.tensor else p.public for p in row.parameters)
        publics = ", ".join(p.public for p in row.parameters)
        return fill(
            FUNCTION,
            name=self.operator or row.name,
            parameters=", ".join(parameters),
            keeps_caller="global caller" if row.formulas else "",
            spread=lines(
                *[
                    f"{p.public} = star_argument({self.op!r}, {p.public!r}, {p.public}_, {p.public})"
                    for p in row.parameters
                    if p.star
                ]
            ),
            writes_out=writes_out,
            cast=fill(CAST, q=first.public, op=self.op) if casts else "",
            quick="slow = False" if self.casting else "",
            unwrapped=lines(*[self.unwrapped(p) for p in row.tensors]),
            slow_path=self.slow_path() if self.casting else "",
            checked=lines(
                *[self.fitted(p) for p in plan.values if p.fitting], *[self.checked(p) for p in row.parameters]
            ),
            device=f"{first.public}[0].device" if first.many else f"{first.public}.device",
            computed=self.computed(),
            wraps_around=fill(WRAPS_AROUND, arrays=arrays) if self.casting else "",
            publics=publics + "," * bool(publics),
            wrapped=self.wrapped(),
            viewed=f"make_view({first.public}, result)" if row.view else "",
            recorded=self.recorded() if row.formulas else "",
        )

    # ---------------------------------------------------------------------------------------- arguments

    def unwrapped(self, p: Parameter) -> str:
        """Write what turns a tensor argument into its array and whether it requires grad."""
        q, flag = p.public, f"r_{p.name} = {p.public}._requires_grad"
        if p.many:
            flag = f"r_{p.name} = any([tensor._requires_grad for tensor in {q}])" * (p.name in self.row.formulas)
            return fill(SEVERAL, p=p.name, q=q, op=self.op, casts=", True" if self.casting else "", flag=flag)
        if p.scalar and p is not self.reference:
            code = self.scalar(p)
        else:
            is_reference = p is self.reference
            numbers = ""
            if p.scalar:
                others = "".join([f", {o.public}" for o in self.plan.values[1:]])
                numbers = f", {'fitted' if p.fitting else 'around'}{others}"
            code = fill(
                TENSOR,
                p=p.name,
                q=q,
                op=self.op,
                unknown=fill(UNKNOWN, q=q) if self.operator and p is not self.first else "",
                numbers=numbers,
                # What records nothing may also read a view whose history is lost.
                refreshed=fill(REFRESHED, q=q) if self.row.formulas else "",
                dtype=f"d_{p.name} = a_{p.name}.dtype" if is_reference and self.plan.names_dtype else "",
                flag=flag if p.name in self.row.formulas or p.optional or p in self.plan.constant else "",
                floating=fill(NOT_FLOATING, dtype=f"d_{p.name}") if is_reference and self.row.cast == "float" else "",
                matched=self.matched(p),
                kind=self.kind(p) if p.kinds else "",
            )
        return fill(OPTIONAL, p=p.name, q=q, unwrapped=code) if p.optional else code

    def matched(self, p: Parameter) -> str:
        """Write the comparison of an argument's dtype and device with those of the reference."""
        q, first = p.public, self.reference.public
        if not p.value or p is self.reference:
            return fill(SAME_DEVICE, q=q, first=self.first.public, op=self.op) if p is not self.first else ""
        same = f"same({self.op!r}, {first!r}, {first}, {q!r}, {q})"
        otherwise = "slow = True" if self.casting else same
        if p.cast:
            otherwise = fill(CASTS_ITSELF, p=p.name, q=q, reference=self.reference.name, first=first, same=same)
        return fill(MATCHED, p=p.name, q=q, dtype=self.plan.dtype, first=first, otherwise=otherwise)

    def kind(self, p: Parameter) -> str:
        """Write the check that an index is of integers, a mask of booleans."""
        what = "integers (int64)" if p.kinds == "iu" else "booleans (torch.bool)"
        return fill(KIND, p=p.name, q=p.public, op=self.op, kinds=p.kinds, what=what)

    def scalar(self, p: Parameter) -> str:
        """Write the same for an argument that may be a Python number, which stays one."""
        q, first = p.public, self.reference.public
        return fill(
            SCALAR,
            p=p.name,
            q=q,
            refreshed=fill(REFRESHED, q=q),
            dtype=self.plan.dtype,
            first=first,
            change="slow = True" if self.casting else f"{q} = {q}.to({first}.device, {first}.dtype)",
            number=fill(USUAL_NUMBER, q=q, dtype=self.plan.dtype) if self.casting else "",
        )

    def slow_path(self) -> str:
        """Write what happens when dtypes or devices differ or an operand is unusual: harmonise and unwrap again."""
        values = self.plan.values
        if any(p.many for p in values):
            return ""
        names, last = ", ".join(p.public for p in values), values[-1].public
        absent = [
            fill(ABSENT, q=p.public, op=self.op, scalar="around" if p.scalar else "None")
            for p in values[1:]
            if not p.optional
        ]
        unwrapped = [
            fill(
                HARMONIZED,
                p=p.name,
                q=p.public,
                dtype=f"d_{p.name} = a_{p.name}.dtype" if p is values[0] else "",
                flag=f"r_{p.name} = isinstance({p.public}, Tensor) and {p.public}._requires_grad"
                if p.name in self.row.formulas
                else "",
            )
            for p in values
        ]
        return fill(
            SLOW_PATH,
            unknown=fill(UNKNOWN, q=last) if self.operator else "",
            absent=lines(*absent),
            names=names + "," * (len(values) == 1),
            op=self.op,
            floating=str(self.row.cast == "float"),
            given=names,
            unwrapped=lines(*unwrapped),
        )

    def fitted(self, p: Parameter) -> str:
        """Write the check that a number is one that the dtype of the first value holds."""
        return fill(FITTED, p=p.name, op=self.op, dtype=f"a_{self.plan.values[0].name}.dtype")

    def checked(self, p: Parameter) -> str:
        """Write the check that a number is one, a whole number whole, a flag True or False: arrays would broadcast."""
        if p.dim:
            return self.checked_dimension(p)
        kind, *rest = p.annotation.split(" | ")
        if self.operator or rest not in ([], ["None"]) or kind not in PLAIN:
            return ""
        test, look = PLAIN[kind]
        unusual = " and ".join([test.format(p.public)] + [f"{p.public} is not None"] * bool(rest))
        return fill(CHECKED, q=p.public, op=self.op, unusual=unusual, look=look, further="")

    def checked_dimension(self, p: Parameter) -> str:
        """Write the check of a dimension, which costs the usual case, a number in range, one comparison."""
        array = f"a_{self.first.name}[0]" if self.first.many else f"a_{self.first.name}"
        count = f"{array}.ndim + 1" if p.new_dim else f"({array}.ndim or 1)"
        number = f"type({p.public}) is not int or not -({count}) <= {p.public} < {count}"
        given = [f"{p.public} is not None"] * ("None" in p.annotation or p.annotation.startswith("Dim"))
        given += [f"type({p.public}) is not bool"] * ("bool" in p.annotation)
        if self.first.many and not p.new_dim:
            array = f"with_elements(a_{self.first.name})"
            count = f"({array}.ndim or 1)"
        return fill(
            CHECKED,
            q=p.public,
            op=self.op,
            unusual=" and ".join([*given, f"({number})"]),
            look="check_dims" if p.several else "check_dim",
            further=f", {array}.shape, {count}",
        )

    # ---------------------------------------------------------------------------------------- the result

    def computed(self) -> str:
        """Write the call of forward, with another one in float32 (Note [Half precision])."""
        row, plan = self.row, self.plan
        arguments = ", ".join(
            [
                f"{f'{p.name}=' if p.keyword_only else ''}{f'a_{p.name}' if p.tensor else p.public}"
                for p in row.parameters
            ]
        )
        if not self.widens:
            return f"out = forward(xp, {arguments})"
        half = [f"{plan.dtype} is HALF"]
        if self.casting and not plan.values[0].many:  # an operand without dimensions may have come as a wider type
            half += [f"slow and getattr(a_{p.name}, 'dtype', None) is HALF" for p in plan.values[1:]]
        return fill(
            COMPUTED_HALF,
            half=" or ".join(half),
            arguments=arguments,
            hidden=str(tuple([number for number, name in enumerate(row.outputs) if name in plan.hidden])),
            no_exact="exact = None" if plan.checked else "",
        )

    def wrapped(self) -> str:
        """Write what makes tensors of what forward returned."""
        row, plan, apart = self.row, self.plan, ""
        if row.many_outputs:
            if plan.hidden:
                apart = f"*out, {', '.join(plan.hidden)} = out"
            return fill(WRAPPED_ALL, apart=apart)
        if plan.hidden:
            apart = f"{', '.join('out' if n in row.visible else n for n in row.outputs)} = out"
        return fill(WRAPPED, apart=apart, first=f"a_{self.first.name}{'[0]' if self.first.many else ''}")

    # ---------------------------------------------------------------------------------------- the node

    def recorded(self) -> str:
        """Write what makes the node (Note [Slots set in line])."""
        row, plan = self.row, self.plan
        made = f"{row.node_name}()"
        if row.widens:
            made = f"{row.node_name}_half() if half else {made}"
        publics = {p.name: p.public for p in row.parameters}
        hidden = [f"node.r_{n} = {n}" for n in plan.hidden if n in plan.saved_results]
        return fill(
            RECORDED,
            constant=lines(*[fill(CONSTANT, p=p.name, q=p.public) for p in plan.constant]),
            flags=" or ".join(f"r_{name}" for name in row.formulas),
            half=f"half = {plan.dtype} is HALF" if row.widens and row.view else "",
            made=made,
            edges=", ".join(map(self.edge, row.formulas)),
            saved=lines(
                *map(self.saved_input, plan.saved_inputs),
                *map(self.saved_shape, plan.shapes),
                *[f"node.p_{name} = {publics[name]}" for name in plan.saved_plain],
                *map(self.saved_broadcast, plan.unbroadcast),
            ),
            attached=fill(ATTACHED_ALL if row.many_outputs else ATTACHED),
            saved_results=lines(*map(self.saved_result, plan.checked), *hidden),
        )

    def edge(self, name: str) -> str:
        """Write the edge, or the edges, to the history of an input."""
        p = self.plan.inputs[name]
        if p.many:
            return f"*[(t._edge or t._leaf or leaf_edge(t)) if t._requires_grad else None for t in {p.public}]"
        return f"({p.public}._edge or {p.public}._leaf or leaf_edge({p.public})) if r_{name} else None"

    def saved_shape(self, name: str) -> str:
        """Write what keeps the shape that a formula names."""
        p = self.plan.inputs[name[:-6]]
        return f"node.h_{name} = {f'[a.shape for a in a_{p.name}]' if p.many else f'a_{p.name}.shape'}"

    def saved_broadcast(self, name: str) -> str:
        """Write what keeps the shape that the gradient of an input is to have."""
        p = self.plan.inputs[name]
        there = f" if r_{name} else None" if p.scalar or p.optional else ""
        return f"node.b_{name} = a_{name}.shape{there}"

    def saved_input(self, name: str) -> str:
        """Write what keeps an input and its version, where a formula that will run names it."""
        p = self.plan.inputs[name]
        if p.many:
            return fill(SAVED_INPUTS, p=name, q=p.public)
        saved = fill(SAVED_OPERAND if p.scalar or p.optional else SAVED_INPUT, p=name, q=p.public)
        recomputes = any(n in self.plan.hidden for n in self.row.saved)
        return saved if recomputes else self.if_needed(name, f"node.s_{name}", saved)

    def saved_result(self, name: str) -> str:
        """Write what keeps an output, its version cell and its version."""
        plan, exact = self.plan, ""
        if self.widens:
            part = f"exact[{plan.results[name]}]" if len(self.row.outputs) > 1 else "exact"
            exact = fill(EXACT_RESULT, name=name, part=part)
        tensor = f"result[{plan.results[name]}]" if self.row.many_outputs else "result"
        array = f"{tensor}._array" if self.row.many_outputs else "out"
        saved = fill(SAVED_RESULT, name=name, tensor=tensor, array=array, exact=exact)
        return self.if_needed(name, f"node.r_{name}", saved)

    def if_needed(self, name: str, slot: str, saved: str) -> str:
        """Write the test whether a formula that names a value will run, unless all do, around what keeps it."""
        users = [n for n, (_, wanted) in self.row.formulas.items() if name in wanted]
        if len(users) == len(self.row.formulas):
            return saved
        return fill(NEEDED, slot=slot, flags=" or ".join(f"r_{n}" for n in users), saved=saved)
