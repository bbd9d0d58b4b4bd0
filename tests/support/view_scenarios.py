"""Small programs around views and in-place writes, each run with PyTorch and with nanotorch;
what they return has to agree.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

Scenario = Callable[[Any, Any], Any]
SCENARIOS: dict[str, Scenario] = {}

PHRASES = [
    "a leaf Variable that requires grad",
    "a view of a leaf Variable",
    "multiple views",
    "created in no_grad mode",
    "is being modified inplace",
    "its base or another view of its base has been modified",
    "view of a view",
    "custom Function",
    "single memory location",
    "Can't detach views",
    "only change requires_grad flags of leaf",
    "modified by an inplace operation",
    "out of bounds",
    "shape of the mask",
    "too many indices",
]


def scenario(function: Scenario) -> Scenario:
    SCENARIOS[function.__name__] = function
    return function


def outcome(torch: Any, function: Scenario) -> Any:
    """Run a scenario on `x = [0., 1., 2., 3.]`; return its results as plain values, or which error it raised."""
    x = torch.arange(4, dtype=torch.float64).requires_grad_()
    try:
        return plain(torch, function(torch, x))
    except (RuntimeError, IndexError) as error:
        return [phrase for phrase in PHRASES if phrase in str(error)]


def plain(torch: Any, value: Any) -> Any:
    if isinstance(value, tuple | list):
        return [plain(torch, v) for v in value]
    if isinstance(value, torch.Tensor):
        return value.tolist()
    return value.name().removeprefix("torch::autograd::") if hasattr(value, "next_functions") else value


def state(t: Any) -> list[Any]:
    return [t, t.requires_grad, t.is_leaf, t._version, t.grad_fn, t._is_view()]


def grad(torch: Any, y: Any, x: Any) -> Any:
    return torch.autograd.grad((y * y).sum(), x, retain_graph=True, allow_unused=True)[0]


@scenario
def a_write_to_a_row(torch: Any, x: Any) -> Any:
    base = (x * 1).view(2, 2)
    row = base[0]
    row.mul_(2)
    return state(row), state(base), grad(torch, base, x), grad(torch, row, x)


@scenario
def a_chain_of_views(torch: Any, x: Any) -> Any:
    base = x * 1
    views = [base.view(2, 2)]
    views.append(views[-1].t())
    views.append(views[-1][1:])
    views.append(views[-1].squeeze(0))
    views[-1].mul_(3)
    return [state(v) for v in views], [v._base is base for v in views], [grad(torch, v, x) for v in views]


@scenario
def names_before_and_after_a_write_to_the_base(torch: Any, x: Any) -> Any:
    base = x * 1
    square = base.view(2, 2)
    views = [
        base[0],
        base[1:],
        base[::2],
        square,
        square.t(),
        base.unsqueeze(0),
        base[None],
        base.expand(2, 4),
        square.transpose(0, 1),
        square.permute(1, 0),
        square.diagonal(),
        base.view(1, 4).squeeze(),
        base.view(1, 4).squeeze(0),
        base.view(1, 4).squeeze((0,)),
        base.unfold(0, 2, 1),
        base.as_strided((2,), (1,)),
        base.narrow(0, 0, 2),
        base.select(0, 1),
        square.movedim(0, 1),
        square.swapaxes(0, 1),
        square.mT,
        square.adjoint(),
        base.unflatten(0, (2, 2)),
        square.flatten(),
        base[..., 1],
        base.tensor_split(2)[0],
        base.view_as(square),
        base.reshape(2, 2),
        square[:, 1],
        torch.atleast_2d(base),
        torch.atleast_3d(base),
        torch.broadcast_tensors(base, square[:, :1])[0],
    ]
    before = [v.grad_fn for v in views]
    base.mul_(2)
    return before, [v.grad_fn for v in views], [grad(torch, v, x) for v in views]


@scenario
def several_outputs_name_their_functions(torch: Any, x: Any) -> Any:
    base = x * 1
    parts = [
        base.split(2)[0],
        base.split([1, 3])[0],
        base.chunk(2)[1],
        base.unbind()[0],
        base.hsplit(2)[1],
        next(iter(base)),
    ]
    return [state(p) for p in parts], [p.output_nr for p in parts]


def _refusal(make: Callable[[Any], Any], use: Callable[[Any, Any], Any]) -> Scenario:
    def run(torch: Any, x: Any) -> Any:
        base = x * 1
        return plain(torch, use(base, make(base)))

    return run


MULTIPLE = {
    "split": lambda b: b.split(2)[0],
    "split_with_sizes": lambda b: b.split([1, 3])[1],
    "chunk": lambda b: b.chunk(2)[0],
    "unbind": lambda b: b.unbind(0)[1],
    "iteration": lambda b: next(iter(b)),
    "a_slice_of_a_part": lambda b: b.split(2)[0][:1],
    "tensor_split": lambda b: b.tensor_split(2)[0],
    "vsplit": lambda b: b.view(2, 2).vsplit(2)[0],
}
USES = {
    "written": lambda b, v: [v.mul_(2), b],
    "written_by_setitem": lambda b, v: [v.__setitem__(..., 2.0), b],
    "squeezed_in_place": lambda b, v: [v.unsqueeze_(0), b],
    "used_after_a_write_to_the_base": lambda b, v: [b.mul_(2), v * 2],
    "asked_after_a_write_to_the_base": lambda b, v: [b.mul_(2), v.requires_grad],
    "asked_for_its_history_after_a_write_to_the_base": lambda b, v: [b.mul_(2), v.is_leaf],
    "used_after_a_detached_write_to_the_base": lambda b, v: [b.detach().mul_(2), v * 2],
    "used_after_a_write_to_data": lambda b, v: [b.data.mul_(2), v * 2],
    "used_before_a_write": lambda b, v: [v * 2, b.mul_(2)],
}
for _name, _make in MULTIPLE.items():
    for _use, _with in USES.items():
        SCENARIOS[f"{_name}_{_use}"] = _refusal(_make, _with)


@scenario
def a_part_without_history_may_be_written(torch: Any, x: Any) -> Any:
    base = torch.zeros(4)
    part = base.split(2)[0]
    part.add_(1)
    return state(base), state(part)


@scenario
def a_part_is_written_in_no_grad(torch: Any, x: Any) -> Any:
    base = x * 1
    part = base.split(2)[0]
    with torch.no_grad():
        part.mul_(2)
        double = part * 2
    return state(base), double, part.requires_grad


@scenario
def a_part_of_a_plain_base_that_gets_a_history(torch: Any, x: Any) -> Any:
    base = torch.zeros(4, dtype=torch.float64)
    part = base.split(2)[0]
    base.add_(x)
    return part.requires_grad, base.grad_fn


def no_grad_view(torch: Any, base: Any) -> Any:
    with torch.no_grad():
        return base[:2]


@scenario
def a_no_grad_view_is_a_leaf_of_its_own(torch: Any, x: Any) -> Any:
    base = x * 1
    view = no_grad_view(torch, base)
    double = view * 2
    double.sum().backward()
    return state(view), double.grad_fn, view.grad, x.grad


@scenario
def a_no_grad_view_of_a_leaf(torch: Any, x: Any) -> Any:
    view = no_grad_view(torch, x)
    return state(view), view._base is x


@scenario
def a_no_grad_view_follows_whether_its_base_requires_grad(torch: Any, x: Any) -> Any:
    view = no_grad_view(torch, x)
    found = [view.requires_grad]
    x.requires_grad_(False)
    found.append(view.requires_grad)
    view.requires_grad_()
    found.append(view.requires_grad)
    return found


@scenario
def a_no_grad_view_is_written(torch: Any, x: Any) -> Any:
    return no_grad_view(torch, x * 1).mul_(2)


@scenario
def a_no_grad_view_of_a_leaf_is_written(torch: Any, x: Any) -> Any:
    return no_grad_view(torch, x).mul_(2)


@scenario
def a_view_of_a_no_grad_view_is_written(torch: Any, x: Any) -> Any:
    return no_grad_view(torch, x * 1)[:1].mul_(2)


@scenario
def a_no_grad_view_is_written_in_no_grad(torch: Any, x: Any) -> Any:
    base = x * 1
    view = no_grad_view(torch, base)
    with torch.no_grad():
        view.mul_(2)
    return state(base), view._version


@scenario
def a_no_grad_view_is_used_after_a_no_grad_write(torch: Any, x: Any) -> Any:
    base = x * 1
    view = no_grad_view(torch, base)
    with torch.no_grad():
        base.mul_(2)
    return view * 2


@scenario
def a_no_grad_view_of_a_plain_base(torch: Any, x: Any) -> Any:
    view = no_grad_view(torch, torch.zeros(4, dtype=torch.float64))
    view.add_(1)
    return state(view)


@scenario
def a_no_grad_view_of_a_plain_base_gets_a_history(torch: Any, x: Any) -> Any:
    return no_grad_view(torch, torch.zeros(4, dtype=torch.float64)).add_(x[:2])


@scenario
def a_split_in_no_grad_is_written(torch: Any, x: Any) -> Any:
    base = x * 1
    with torch.no_grad():
        part = base.split(2)[0]
    return part.mul_(2)


@scenario
def a_normal_view_is_written_in_no_grad(torch: Any, x: Any) -> Any:
    base = x * 1
    view = base[:2]
    with torch.no_grad():
        view.mul_(2)
    return state(view), state(base), grad(torch, view, x)


@scenario
def detach_shares_memory_and_version(torch: Any, x: Any) -> Any:
    base = x * 1
    view, alone = base[:2], base.detach()
    alone.mul_(2)
    return state(view), state(base), state(alone), alone._base is None


@scenario
def a_detached_view(torch: Any, x: Any) -> Any:
    base = x * 1
    alone = base[1:].detach()
    alone[0] = 9.0
    return state(alone), state(base), alone.storage_offset()


@scenario
def detach_of_a_saved_value_is_written(torch: Any, x: Any) -> Any:
    base = x * 1
    y = base.sin()
    base.detach().zero_()
    return grad(torch, y, x)


@scenario
def data_of_a_saved_value_is_written(torch: Any, x: Any) -> Any:
    base = x * 1
    y = base.sin()
    base.data.zero_()
    return base._version, grad(torch, y, x)


@scenario
def a_view_of_data_is_written(torch: Any, x: Any) -> Any:
    base = x * 1
    base[:2].data.mul_(5)
    return state(base)


@scenario
def requires_grad_is_set_on_a_view_of_a_plain_base(torch: Any, x: Any) -> Any:
    base = torch.ones(3, dtype=torch.float64)
    view = base[:2].requires_grad_()
    before = [*state(view), base.requires_grad]
    base.mul_(2)
    (view * 3).sum().backward()
    return before, state(view), base.requires_grad, view.grad


@scenario
def a_view_that_requires_grad_is_written(torch: Any, x: Any) -> Any:
    return torch.ones(3)[:2].requires_grad_().mul_(2)


@scenario
def the_base_of_a_view_that_requires_grad_gets_a_history(torch: Any, x: Any) -> Any:
    base = torch.ones(4, dtype=torch.float64)
    view = base[:2].requires_grad_()
    base.mul_(x)
    return state(view), grad(torch, view, x)


@scenario
def requires_grad_cannot_be_taken_from_a_view_with_history(torch: Any, x: Any) -> Any:
    return (x * 1)[:2].requires_grad_(False)


@scenario
def a_view_cannot_be_detached_in_place(torch: Any, x: Any) -> Any:
    return (x * 1)[:2].detach_()


@scenario
def a_view_of_a_plain_base_cannot_be_detached_in_place(torch: Any, x: Any) -> Any:
    return torch.ones(3)[:2].detach_()


@scenario
def the_base_is_detached_in_place(torch: Any, x: Any) -> Any:
    base = x * 1
    view = base[:2]
    base.detach_()
    return state(view), state(base), grad(torch, view, x)


@scenario
def the_base_is_detached_in_place_and_written(torch: Any, x: Any) -> Any:
    base = x * 1
    view = base[:2]
    base.detach_()
    base.mul_(2)
    return state(view), state(base), view.grad_fn.next_functions


@scenario
def the_base_is_detached_in_place_and_the_view_written(torch: Any, x: Any) -> Any:
    base = x * 1
    view = base[:2]
    base.detach_()
    return view.mul_(2)


@scenario
def view_and_base_are_both_written(torch: Any, x: Any) -> Any:
    base = x * 1
    view = base[1:3]
    view.mul_(2)
    base.add_(view.sum())
    view.mul_(base[0].detach())
    return state(view), state(base), grad(torch, view, x), grad(torch, base, x)


@scenario
def a_sibling_sees_the_write(torch: Any, x: Any) -> Any:
    base = torch.zeros(4, dtype=torch.float64)
    view, sibling = base[:3], base[1:]
    view.add_(x[:3])
    return state(sibling), state(view), state(base), grad(torch, sibling, x)


@scenario
def windows_over_one_memory(torch: Any, x: Any) -> Any:
    base = x * 1
    windows, strided = base.unfold(0, 2, 1), base.as_strided((3, 2), (1, 1))
    base.mul_(2)
    return state(windows), state(strided), grad(torch, windows, x), grad(torch, strided, x)


@scenario
def overlapping_input_of_as_strided(torch: Any, x: Any) -> Any:
    expanded = (x * 1)[:2].unsqueeze(0).expand(3, 2)
    (g,) = torch.autograd.grad((expanded.as_strided((2,), (1,)) ** 2).sum(), expanded)
    windows = (x * 1).unfold(0, 3, 1)
    (h,) = torch.autograd.grad((windows.as_strided((2, 2), (1, 2), 0) ** 2).sum(), windows)
    return g, h


@scenario
def windows_are_filled(torch: Any, x: Any) -> Any:
    base = x * 1
    base.unfold(0, 2, 1).fill_(5.0)
    return state(base), grad(torch, base, x)


@scenario
def a_column_by_as_strided_is_written(torch: Any, x: Any) -> Any:
    base = (x * 1).view(2, 2)
    base.as_strided((2,), (2,), 1).mul_(x[1:3])
    return state(base), grad(torch, base, x)


@scenario
def as_strided_beyond_the_view(torch: Any, x: Any) -> Any:
    base = x * 1
    view = base[1:2].as_strided((3,), (1,), 0)
    view.mul_(2)
    return state(view), base, grad(torch, view, x)


@scenario
def as_strided_of_a_transposed_base(torch: Any, x: Any) -> Any:
    base = (x * 1).view(2, 2).t() * 1
    return base.stride(), base.as_strided((3,), (1,)), grad(torch, base.as_strided((3,), (1,)), x)


WRITTEN_EXPANDED = {
    "add": lambda v: v.add_(1),
    "copy": lambda v: v.copy_(v.new_ones(3)),
    "index_add": lambda v: v.index_add_(0, v.new_zeros(1).long(), v.new_ones(1)),
    "uniform": lambda v: v.uniform_(),
    "fill": lambda v: v.fill_(2.0),
    "zero": lambda v: v.zero_(),
    "setitem": lambda v: v.__setitem__(0, 3.0) or v,
    "scatter": lambda v: v.scatter_(0, v.new_zeros(1).long(), 1.0),
}


def _expanded(write: Callable[[Any], Any]) -> Scenario:
    def run(torch: Any, x: Any) -> Any:
        base = torch.ones(3)
        return [base[:1].expand(3).shape, write(base[:1].expand(3)), base]

    return run


for _name, _write in WRITTEN_EXPANDED.items():
    SCENARIOS[f"expanded_memory_is_written_by_{_name}"] = _expanded(_write)

OVERLAPS = {
    "copy_of_a_shifted_part": lambda b: b[1:].copy_(b[:-1]),
    "add_of_a_shifted_part": lambda b: b[1:].add_(b[:-1]),
    "add_of_the_transpose": lambda b: b.view(2, 2).add_(b.view(2, 2).t()),
    "mul_by_a_row": lambda b: b.view(2, 2).mul_(b.view(2, 2)[0]),
    "mul_by_an_element": lambda b: b.mul_(b[0]),
    "add_of_itself": lambda b: b.add_(b),
    "add_of_the_same_view": lambda b: b[1:].add_(b[1:]),
    "add_of_the_other_half": lambda b: b[:2].add_(b[2:]),
    "gaps_are_not_looked_at": lambda b: b[::2].add_(b[1::2]),
}
for _name, _write in OVERLAPS.items():
    SCENARIOS[f"operand_that_overlaps_{_name}"] = lambda torch, x, write=_write: [write(torch.arange(4.0))]  # type: ignore[misc]


@scenario
def leaves_refuse(torch: Any, x: Any) -> Any:
    return x.mul_(2)


@scenario
def views_of_leaves_refuse(torch: Any, x: Any) -> Any:
    return x[0].mul_(2)


@scenario
def setitem_on_a_leaf(torch: Any, x: Any) -> Any:
    x[0] = 2.0


@scenario
def setitem_by_tensor_on_a_leaf(torch: Any, x: Any) -> Any:
    x[torch.tensor([0])] = 2.0


@scenario
def shapes_change_in_place(torch: Any, x: Any) -> Any:
    found = []
    y = (x * 1).view(2, 2).clone()
    for change in (
        lambda t: t.t_(),
        lambda t: t.transpose_(0, 1),
        lambda t: t.unsqueeze_(0),
        lambda t: t.swapaxes_(0, 1),
        lambda t: t.squeeze_(1),
        lambda t: t.squeeze_(),
        lambda t: t.swapdims_(0, 1),
        lambda t: t.squeeze_((0,)),
        lambda t: t.as_strided_((3,), (1,)),
    ):
        same = change(y) is y
        found.append([same, *state(y), list(y.shape), list(y.stride())])
    return found, grad(torch, y, x)


@scenario
def the_shape_of_a_view_changes_in_place(torch: Any, x: Any) -> Any:
    base = x * 1
    view = base.view(2, 2)
    row = view[0]
    view.t_()
    before = [*state(view), view._base is base, *state(base), *state(row)]
    view.mul_(torch.tensor([1.0, 2.0], dtype=torch.float64))
    return before, state(view), state(base), state(row), grad(torch, base, x)


@scenario
def the_shape_of_a_base_changes_in_place(torch: Any, x: Any) -> Any:
    base = (x * 1).view(2, 2).clone()
    row = base[0]
    base.t_()
    row.mul_(2)
    return state(row), state(base), grad(torch, base, x), grad(torch, row, x)


@scenario
def the_shape_of_a_leaf_changes_in_place(torch: Any, x: Any) -> Any:
    return x.unsqueeze_(0)


@scenario
def the_shape_of_a_leaf_changes_in_no_grad(torch: Any, x: Any) -> Any:
    with torch.no_grad():
        x.unsqueeze_(0)
    return state(x), list(x.shape)


@scenario
def the_diagonal_is_filled(torch: Any, x: Any) -> Any:
    square = torch.zeros(3, 3)
    tall, wrapped = torch.zeros(7, 3), torch.zeros(7, 3)
    base = (x * 1).view(2, 2)
    base.fill_diagonal_(7.0)
    return (
        square.fill_diagonal_(1),
        tall.fill_diagonal_(1),
        wrapped.fill_diagonal_(2, wrap=True),
        grad(torch, base, x),
        base,
    )
