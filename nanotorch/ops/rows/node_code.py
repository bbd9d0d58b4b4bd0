"""The code of a row's node class and of its backward.

Note [Names in compiled code]
~~~~~~~~~~~~~~~~~~~~~~~~~~~~~
A letter before the name of an argument or an output says which of its properties a variable of the function, or a slot
of the node, holds. In the function: `a_x` the array of `x`, or the number that it is, `r_x` whether it requires
grad, `d_x` its dtype. In the node: `s_x` the input `x` and `v_x` the version it had, `r_y` the array of the
output `y`, `c_y` its version cell and `w_y` the version, `h_x_shape` a shape that a formula asks for, `b_x`
the shape to which the gradient of `x` is summed, `p_k` the plain argument `k`. In the backward: `g_x` the
gradient of `x`. Nothing but the writers of this code knows these letters.
"""

from __future__ import annotations

from nanotorch.autograd.graph.saved_slot import SavedSlot
from nanotorch.ops.rows.code_plan import Plan
from nanotorch.ops.rows.template import fill, lines

NODE = """
class $node(Node):
    __slots__ = ($slots)
    __init__ = object.__init__  # Note [Slots set in line]
    apply, apply_recorded = compile_apply, compile_recorded
    $overload
    $saved

    def release(self):
        $released
$half
"""
OVERLOAD = """
def name(self):
    return '$node' if self.p_$argument is None else '$numbered'
"""
SAVED = """
saved_slots = saved_slots
pack = pack_slots
"""
RELEASED = """
self.$emptied = None
self._released = True
"""
HALF_NODE = """


class ${node}_half($node):
    __slots__ = ()
    apply, apply_recorded = compile_apply_half, compile_recorded_half
${node}_half.__name__ = ${node}_half.__qualname__ = '$node'
"""

BACKWARD = """
def $name(node, $grads, wanted=None):
    $not_released
    $namespace
    $first_grad
    $saved
    $widened
    $recomputed
    edges = wanted or node.edges
    $gradients
    results = $results
    return $returned
"""
NOT_RELEASED = """
if node._released:
    raise released_error(node)
"""
SAVED_INPUT = """
$name = node.s_$name
if $there:
    if $name._cell is not None and $name._cell.number != node.v_$name:
        raise modified_error(node, '$public', $name.shape, node.v_$name, $name._cell)
    $taken
"""
NOT_DETACHED = """
if node.edges[$edge] is not None and not $name._requires_grad:
    raise detached_error(node, '$public')
"""
SAVED_INPUTS = """
$name = node.s_$name
for tensor, version in zip($name, node.v_$name):
    if tensor._cell is not None and tensor._cell.number != version:
        raise modified_error(node, '$public', tensor.shape, version, tensor._cell)
$taken
"""
SAVED_RESULT = """
$name = node.r_$name
$checked
$wrapped
"""
CHECKED_RESULT = """
if $name is not None and node.c_$name.number != node.w_$name:
    raise modified_error(node, '$name', $name.shape, node.w_$name, node.c_$name)
"""
WRAPPED_RESULT = """
if $name is not None:
    $name = recorded_output(node, $name, $number, node.c_$name)
"""
GRADIENT = """
g_$name = None
if edges[$number] is not None:
    g_$name = $call
    $summed
"""
SUMMED = """
if g_$name is not None and g_$name.shape != node.b_$name:
    g_$name = sum_to(xp, g_$name, node.b_$name)
"""


def saved_slots(plan: Plan) -> tuple[SavedSlot, ...]:
    """Describe the tensors and arrays that a node saves."""
    inputs = [SavedSlot(n, "input", f"s_{n}", f"v_{n}") for n in plan.saved_inputs]
    checked = {n: (f"w_{n}", f"c_{n}") for n in plan.checked}
    return (*inputs, *[SavedSlot(n, "result", f"r_{n}", *checked.get(n, ())) for n in plan.saved_results])


def argument_slots(plan: Plan) -> tuple[SavedSlot, ...]:
    """Describe the plain arguments that a node keeps."""
    return tuple([SavedSlot(n, "argument", f"p_{n}") for n in plan.saved_plain])


def node_code(plan: Plan) -> str:
    """Write the node class: slots for what the formulas name, and what frees them."""
    row = plan.row
    slots = [f"s_{n}" for n in plan.saved_inputs] + [f"v_{n}" for n in plan.saved_inputs]
    slots += [f"h_{n}" for n in plan.shapes] + [f"p_{n}" for n in plan.saved_plain]
    slots += [f"r_{n}" for n in plan.saved_results] + [f"{kind}_{n}" for n in plan.checked for kind in "cw"]
    slots += [f"b_{n}" for n in plan.unbroadcast] + (["outputs"] if row.many_outputs else [])
    freed = [slot.value for slot in saved_slots(plan)]
    return fill(
        NODE,
        node=row.node_name,
        slots=", ".join(map(repr, slots)) + "," * bool(slots),
        overload=fill(OVERLOAD, node=row.node_name, argument=row.overload, numbered=row.node_name[:-1] + "1")
        if row.overload
        else "",
        saved=fill(SAVED) if freed else "",
        released=fill(RELEASED, emptied=" = self.".join(freed)) if freed else "pass",
        half=fill(HALF_NODE, node=row.node_name) if row.widens else "",
    )


def backward_code(plan: Plan, name: str, recorded: bool, half: bool) -> str:
    """Write the method that maps the gradient of the output to those of the inputs, for `half` in float32."""
    row = plan.row
    names = {name for _, wanted in row.formulas.values() for name in wanted}
    grads = "grads" if row.many_outputs else "grad"
    first_grad = "grad = grads[0]" if row.many_outputs and "grad" in names else ""
    namespace = ""
    if not recorded:
        namespace = "xp = node.device.xp"  # which also makes a GPU the current one, for formulas of bare operators
    elif "xp" in names or plan.unbroadcast:
        namespace = "xp = tensor_xp(node.device)"
    widened = []
    if half:
        arrays = "" if recorded else ", xp"
        widened = [f"{n} = widened({n}{arrays})" for n in (grads, *plan.saved_inputs)]
        if recorded:
            widened += [f"{n} = exact_output(node, {n}, {plan.results.get(n, 0)})" for n in plan.checked]
        widened.append(first_grad)
    recomputed = ""
    if recorded and any(n in plan.hidden for n in plan.saved_results):
        call = ", ".join(f"{p.name}={p.name}" for p in row.parameters)
        recomputed = f"{', '.join(row.outputs)} = on_tensors(tensor_xp(node.device), {call})"
    calls = {n: f"formula_{n}({', '.join(wanted)})" for n, (_, wanted) in row.formulas.items()}
    if any(plan.inputs[n].many for n in row.formulas):
        gradients, results = [], next(iter(calls.values()))
    else:
        gradients = [_gradient(plan, number, n, call) for number, (n, call) in enumerate(calls.items())]
        results = f"({', '.join(f'g_{n}' for n in calls)},)"
    return fill(
        BACKWARD,
        name=name,
        grads=grads,
        not_released=fill(NOT_RELEASED) if plan.saved_inputs or plan.saved_results else "",
        namespace=namespace,
        first_grad=first_grad,
        saved=lines(
            *[_saved_input(plan, n, recorded) for n in plan.saved_inputs],
            *[f"{n} = node.h_{n}" for n in plan.shapes],
            *[f"{n} = node.p_{n}" for n in plan.saved_plain],
            *[_saved_result(plan, n, recorded) for n in plan.saved_results if not (recorded and n in plan.hidden)],
        ),
        widened=lines(*widened),
        recomputed=recomputed,
        gradients=lines(*gradients),
        results=results,
        returned=f"[rounded(g{'' if recorded else ', xp'}) for g in results]" if half else "results",
    )


def _saved_input(plan: Plan, name: str, recorded: bool) -> str:
    """Write the checks of a saved input's version, and take its array when not recording."""
    p = plan.inputs[name]
    if p.many:
        taken = "" if recorded else f"{name} = [tensor._array for tensor in {name}]"
        return fill(SAVED_INPUTS, name=name, public=p.public, taken=taken)
    taken = f"{name} = {name}._array"
    if recorded:
        taken = ""
        if name in plan.row.formulas:
            edge = list(plan.row.formulas).index(name)
            taken = fill(NOT_DETACHED, name=name, public=p.public, edge=str(edge))
    there = f"isinstance({name}, Tensor)" if p.scalar else f"{name} is not None"
    return fill(SAVED_INPUT, name=name, public=p.public, there=there, taken=taken)


def _saved_result(plan: Plan, name: str, recorded: bool) -> str:
    """Write the check of a saved result's version, and make it an output of the node again when recording."""
    wrapped = fill(WRAPPED_RESULT, name=name, number=str(plan.results.get(name, 0)))
    checked = fill(CHECKED_RESULT, name=name)
    return fill(
        SAVED_RESULT, name=name, checked=checked if name in plan.checked else "", wrapped=wrapped if recorded else ""
    )


def _gradient(plan: Plan, number: int, name: str, call: str) -> str:
    """Write the call of a formula, and what sums its result to the shape of a broadcast input."""
    summed = fill(SUMMED, name=name) if name in plan.unbroadcast else ""
    return fill(GRADIENT, name=name, number=str(number), call=call, summed=summed)
