"""`summary(model, x)`: what every layer gives, holds, keeps for backward, computes, and how long it takes.

Note [Measuring layers]
~~~~~~~~~~~~~~~~~~~~~~~
The model runs forward once with observers: module hooks know which layers are at work, `observing` counts the
operations of every op (Note [FLOPs]), `observe_nodes` hears of every node that is recorded. Then it runs forward and
backward some more times with hooks that read the clock, and the shortest time counts. A layer is charged for all that
happens between the start and the end of its call, its parts included; a node's backward is charged to the layers that
were at work when it was recorded. The watching itself is in the times: some microseconds for each layer and node.

*Saved bytes* are the memory that nodes keep alive for backward, without parameters and buffers, which live anyway.
Memory that several nodes keep, such as a result that the next layer saves as its input, is charged to the first of
them: the layers of a model add up to its total. Of a view at most the memory that it views is counted.

Buffers (the statistics of a batch norm) and the random generator are put back afterwards, and no `.grad` changes.
"""

from __future__ import annotations

import textwrap
import weakref
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from time import perf_counter
from typing import TYPE_CHECKING, Any, NamedTuple

from nanotorch.autograd.graph.engine import grad
from nanotorch.autograd.graph.grad_mode import observe_nodes
from nanotorch.autograd.graph.node import AccumulateGrad, Node, nodes_below
from nanotorch.autograd.graph.tensor import Tensor, gradient_edge
from nanotorch.autograd.graph.view import CopySlices
from nanotorch.autograd.walk import leaf_edges, saved_values, watching
from nanotorch.ops.create.creation import ones_like
from nanotorch.ops.create.random import fork_rng
from nanotorch.ops.rows.flops import count_flops
from nanotorch.ops.rows.observe import observing

if TYPE_CHECKING:
    from nanotorch.nn.module import Module


class Layer(NamedTuple):
    """One layer of a summary, or the model itself; its parts are included in all numbers.

    Attributes:
        path: its name in the model, such as `encoder.0`; '' for the model.
        kind: its class.
        output_shape: of the last call: a shape, or shapes in tuples, lists and dicts; None if it was not called.
        calls: how often one forward pass of the model calls it.
        parameters: the number of elements of its parameters.
        saved_bytes: what it keeps for backward; None if it was not called.
        flops: floating-point operations of its forward; None if it was not called.
        forward_seconds: the time of its forward; None if it was not called.
        backward_seconds: the time of its backward; None if it has none.
    """

    path: str
    kind: str
    output_shape: Any
    calls: int
    parameters: int
    saved_bytes: int | None
    flops: int | None
    forward_seconds: float | None
    backward_seconds: float | None


class Summary:
    """The layers of a model with what they cost; prints as a table.

    Attributes:
        rows: one `Layer` for the model and each of its submodules, in the order of `named_modules()`.
        total_parameters: the number of elements of all parameters.
        trainable_parameters: of those that require grad.
        parameter_bytes: the memory of all parameters.
    """

    def __init__(
        self, rows: tuple[Layer, ...], total_parameters: int, trainable_parameters: int, parameter_bytes: int
    ) -> None:
        self.rows = rows
        self.total_parameters, self.trainable_parameters = total_parameters, trainable_parameters
        self.parameter_bytes = parameter_bytes

    def __getitem__(self, path: str) -> Layer:
        """Return the layer with a path."""
        for row in self.rows:
            if row.path == path:
                return row
        raise KeyError(f"no layer {path!r}; there are: {', '.join(repr(row.path) for row in self.rows)}")

    @property
    def total_flops(self) -> int:
        """The floating-point operations of one forward pass."""
        return self.rows[0].flops or 0

    @property
    def total_saved_bytes(self) -> int:
        """The memory that one forward pass keeps for backward."""
        return self.rows[0].saved_bytes or 0

    @property
    def forward_seconds(self) -> float:
        """The time of one forward pass."""
        return self.rows[0].forward_seconds or 0.0

    @property
    def backward_seconds(self) -> float | None:
        """The time of one backward pass; None if nothing was recorded."""
        return self.rows[0].backward_seconds

    def text(self, width: int = 100) -> str:
        """Return the table in at most `width` columns, as far as numbers leave room for names."""
        return _table(self, width)

    def __str__(self) -> str:
        import shutil  # for printing only

        return self.text(max(60, min(shutil.get_terminal_size((100, 24)).columns - 1, 120)))

    __repr__ = __str__


def summary(model: Module, *inputs: Any, kwargs: dict[str, Any] | None = None, repeats: int = 3) -> Summary:
    """Run a model on inputs, forward and backward, and return a table of its layers (Note [Measuring layers]).

    The model runs in the mode in which it is; in `train()` a dropout drops. Print the result, or read its `rows`.

    Args:
        model: any module.
        inputs: what it is called with.
        kwargs: keyword arguments of the call.
        repeats: how often the times are measured; the shortest counts.

    >>> model = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.Tanh(), torch.nn.Linear(8, 3))
    >>> table = torch.summary(model, torch.zeros(5, 4))
    >>> [(row.path, row.output_shape, row.parameters, row.saved_bytes, row.flops) for row in table.rows[1:]]
    [('0', (5, 8), 40, 80, 320), ('1', (5, 8), 0, 160, 40), ('2', (5, 3), 27, 0, 240)]
    >>> table.total_parameters
    67
    """
    if repeats < 1:
        raise ValueError(f"repeats must be at least 1, got {repeats}")
    named = dict(model.named_modules())
    measured = _Measured(model, named)
    with _put_back(model):
        output, nodes = measured.observe(inputs, kwargs or {})
        measured.count_saved_bytes(nodes)
        shapes = dict(measured.shapes)
        del output, nodes
        for _ in range(repeats):
            measured.time(inputs, kwargs or {})
    rows = []
    for path, module in named.items():
        called = module in measured.calls
        rows.append(
            Layer(
                path,
                type(module).__name__,
                shapes.get(module),
                measured.calls.get(module, 0),
                sum(p.numel() for p in module.parameters()),
                measured.saved.get(module, 0) if called else None,
                measured.flops.get(module, 0) if called else None,
                measured.forward.get(module),
                measured.backward.get(module),
            )
        )
    parameters = list(model.parameters())
    return Summary(
        tuple(rows),
        sum(p.numel() for p in parameters),
        sum(p.numel() for p in parameters if p.requires_grad),
        sum(p.nbytes for p in parameters),
    )


class _Measured:
    """What is learnt of the modules of a model, by module."""

    def __init__(self, model: Module, named: dict[str, Module]) -> None:
        self.model, self.modules = model, list(named.values())
        self.working: list[Module] = []  # the modules whose forward runs, from the outermost
        self.calls: dict[Module, int] = {}
        self.shapes: dict[Module, Any] = {}
        self.flops: dict[Module, int] = {}
        self.saved: dict[Module, int] = {}
        self.forward: dict[Module, float] = {}
        self.backward: dict[Module, float] = {}
        self.owners: weakref.WeakKeyDictionary[Node, tuple[Module, ...]] = weakref.WeakKeyDictionary()

    def charge(self, account: dict[Module, Any], amount: Any, modules: Any) -> None:
        """Add an amount to modules, to each once."""
        for module in dict.fromkeys(modules):
            account[module] = account.get(module, 0) + amount

    @contextmanager
    def hooked(self, start: Callable[[Module], None], end: Callable[[Module, Any], None]) -> Iterator[None]:
        """Keep `working` up to date, and call functions where a module starts and ends."""
        self.working = []

        def enter(module: Module, args: Any) -> None:
            self.working.append(module)
            start(module)

        def leave(module: Module, args: Any, output: Any) -> None:
            end(module, output)
            self.working.pop()

        with ExitStack() as stack:
            for module in self.modules:
                stack.enter_context(module.register_forward_pre_hook(enter))
                stack.enter_context(module.register_forward_hook(leave, prepend=True, always_call=True))
            yield

    def observe(self, inputs: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, list[weakref.ref[Node]]]:
        """Run forward with observers; return the output, which keeps the graph, and the nodes."""
        nodes: list[weakref.ref[Node]] = []

        def started(module: Module) -> None:
            self.calls[module] = self.calls.get(module, 0) + 1

        def ended(module: Module, output: Any) -> None:
            self.shapes[module] = _shapes(output)

        def computed(*call: Any) -> None:
            self.charge(self.flops, count_flops(*call), self.working)

        def recorded(node: Node) -> None:
            nodes.append(weakref.ref(node))
            self.owners[node] = tuple(self.working)

        with self.hooked(started, ended), observing(computed), observe_nodes(recorded):
            return self.model(*inputs, **kwargs), nodes

    def count_saved_bytes(self, nodes: list[weakref.ref[Node]]) -> None:
        """Charge what nodes that are still there keep for backward, each piece of memory to the first that keeps it."""
        seen = {id(_memory(t._array)) for t in (*self.model.parameters(), *self.model.buffers())}
        for reference in nodes:
            node = reference()
            for _, value in () if node is None else saved_values(node):
                array = value._array if isinstance(value, Tensor) else value
                memory = _memory(array)
                if id(memory) not in seen:
                    seen.add(id(memory))
                    assert node is not None
                    self.charge(self.saved, min(array.nbytes, memory.nbytes), self.owners[node])

    def time(self, inputs: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Run forward and backward, and keep the times of modules that are shorter than those known."""
        tensors = [t for t in (*self.model.parameters(), *_tensors(inputs), *_tensors(kwargs))]
        wait = tensors[0].device.xp.synchronize if tensors else lambda: None
        taken: dict[Module, float] = {}
        starts: list[float] = []

        def now() -> float:
            wait()
            return perf_counter()

        def ended(module: Module, output: Any) -> None:
            self.charge(taken, now() - starts.pop(), [module])

        def recorded(node: Node) -> None:
            self.owners[node] = tuple(self.working)

        with self.hooked(lambda module: starts.append(now()), ended), observe_nodes(recorded):
            output = self.model(*inputs, **kwargs)
        _keep_shorter(self.forward, taken)
        roots = [t for t in _tensors(output) if t.requires_grad]
        nodes = [node for node in nodes_below(map(gradient_edge, roots)) if not isinstance(node, AccumulateGrad)]
        taken, begun = {}, [0.0]

        def arrives(node: Node, gradients: Any) -> None:
            begun[0] = now()

        def leaves(node: Node, gradients: Any, outputs: Any) -> None:
            seconds = now() - begun[0]
            inner = node.inner if isinstance(node, CopySlices) else node
            owners = self.owners.get(inner, ()) if inner is not None else ()
            self.charge(taken, seconds, owners or (self.model,))

        if roots:
            seeds = [ones_like(t) for t in roots]
            with watching(nodes, leaves, before=arrives):
                grad(roots, leaf_edges(nodes_below(map(gradient_edge, roots))), seeds, allow_unused=True)
        _keep_shorter(self.backward, taken)


def _keep_shorter(known: dict[Module, float], taken: dict[Module, float]) -> None:
    for module, seconds in taken.items():
        known[module] = min(seconds, known.get(module, seconds))


def _memory(array: Any) -> Any:
    """Return the array that owns the memory of a view."""
    while getattr(array, "base", None) is not None and hasattr(array.base, "nbytes"):
        array = array.base
    return array


def _tensors(value: Any) -> list[Tensor]:
    """Return the tensors in a value made of tuples, lists and dicts."""
    if isinstance(value, Tensor):
        return [value]
    parts = value.values() if isinstance(value, dict) else value if isinstance(value, tuple | list) else ()
    return [tensor for part in parts for tensor in _tensors(part)]


def _shapes(value: Any) -> Any:
    """Return a value with shapes in the place of tensors, and None in the place of all else that is no container."""
    if isinstance(value, Tensor):
        return tuple(value.shape)
    if isinstance(value, dict):
        return {key: _shapes(part) for key, part in value.items()}
    if isinstance(value, tuple | list):
        parts = [_shapes(part) for part in value]
        return parts if isinstance(value, list) else tuple(parts)
    return None


@contextmanager
def _put_back(model: Module) -> Iterator[None]:
    """Restore buffers and the random generator at the end."""
    buffers = [
        (m, name, b, None if b is None else b.detach().clone())
        for m in model.modules()
        for name, b in m._buffers.items()
    ]
    try:
        with fork_rng():
            yield
    finally:
        for module, name, buffer, values in buffers:
            setattr(module, name, buffer)
            if buffer is not None:
                buffer.data.copy_(values)


# ------------------------------------------------------------------------------------------------- text

HEADINGS = ("layer", "output", "parameters", "saved", "FLOPs", "forward", "backward")
NARROWEST, WIDEST_SHAPE = 16, 24  # columns for the names of layers, and for shapes


def _table(table: Summary, width: int) -> str:
    cells = [_cells(row) for row in table.rows]
    widths = [max(len(HEADINGS[k]), *(len(row[k]) for row in cells)) for k in range(len(HEADINGS))]
    widths[0] = max(NARROWEST, min(widths[0], width - sum(widths[1:]) - 2 * len(widths[1:])))
    lines = []
    for row in (HEADINGS, *cells):
        numbers = [cell.rjust(w) for cell, w in zip(row[2:], widths[2:], strict=True)]
        lines.append(
            "  ".join([_shortened(row[0], widths[0]).ljust(widths[0]), row[1].ljust(widths[1]), *numbers]).rstrip()
        )
    rule = "-" * min(width, sum(widths) + 2 * len(widths[1:]))
    frozen = table.total_parameters - table.trainable_parameters
    total = f"{table.total_parameters:,} parameters ({bytes_text(table.parameter_bytes)})" + (
        f", {frozen:,} of them frozen" if frozen else ""
    )
    backward = "" if table.backward_seconds is None else f", backward {_seconds(table.backward_seconds)}"
    cost = (
        f"{bytes_text(table.total_saved_bytes)} kept for backward, {_number(table.total_flops)}FLOPs forward; "
        f"forward {_seconds(table.forward_seconds)}{backward}"
    )
    return "\n".join([lines[0], rule, *lines[1:], rule, *textwrap.wrap(total, width), *textwrap.wrap(cost, width)])


def _cells(row: Layer) -> tuple[str, ...]:
    depth = row.path.count(".") + 1 if row.path else 0
    name = "  " * depth + f"{row.path.rpartition('.')[2]} {row.kind}".strip()
    calls = f" ({row.calls} calls)" if row.calls > 1 else ""
    return (
        name + calls,
        "" if row.output_shape is None else _shortened(str(row.output_shape), WIDEST_SHAPE),
        f"{row.parameters:,}" if row.parameters else "",
        "" if row.saved_bytes is None else bytes_text(row.saved_bytes),
        "" if row.flops is None else _number(row.flops).rstrip(),
        "" if row.forward_seconds is None else _seconds(row.forward_seconds),
        "" if row.backward_seconds is None else _seconds(row.backward_seconds),
    )


def _shortened(text: str, width: int) -> str:
    return text if len(text) <= width else text[: width - 3] + "..."


def bytes_text(count: float) -> str:
    """Return an amount of memory with the unit that suits it."""
    amount, unit = float(count), "B"
    for larger in ("KiB", "MiB", "GiB"):
        if amount < 1024:
            break
        amount, unit = amount / 1024, larger
    return f"{amount:.0f} {unit}" if unit == "B" else f"{amount:.1f} {unit}"


def _number(count: int) -> str:
    """Return a count with three digits and a prefix, ready for a unit to follow."""
    amount, prefix = float(count), ""
    for larger in ("k", "M", "G", "T"):
        if amount < 999.5:
            break
        amount, prefix = amount / 1000, larger
    return f"{amount:.3g} {prefix}"


def _seconds(seconds: float) -> str:
    for factor, unit in ((1e6, "us"), (1e3, "ms")):
        if seconds * factor < 999.5:
            return f"{seconds * factor:.3g} {unit}"
    return f"{seconds:.3g} s"
