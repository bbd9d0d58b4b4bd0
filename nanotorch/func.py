"""Transformations of functions: from a function to the function that computes its derivative.

Note [Function transforms]
~~~~~~~~~~~~~~~~~~~~~~~~~~
`grad(f)` calls f on fresh tensors that share the values of the arguments, records, and differentiates with respect to
those. Transforms nest because every level makes its own: in `grad(grad(f))` the outer level's fresh tensor requires
grad, so the inner level's one is a view of it, recorded, and the inner derivative is recorded too. Whether a
derivative has to be recorded is read off the graph: it does if it leads to anything that requires grad other than the
level's own fresh tensors, be it an outer level's tensor, an argument that requires grad, or a parameter that f uses.
Results that lead to nothing else come back without history.

Arguments and results may be tensors, and tuples, lists and dicts of them, nested: `grad` with respect to a dict of
parameters gives a dict of gradients, as `functional_call` takes them.

There is no `vmap`: it would need a batching rule for every operator, that is a second text beside each row's formula,
where most rows batch already by broadcasting. Per-sample gradients come from a loop over `grad`, and Jacobians run
one backward pass for every row or column.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from nanotorch.autograd.functional import columns, fresh, gradients, ones_requiring_grad, recording_on, rows
from nanotorch.autograd.graph.grad_mode import is_grad_enabled
from nanotorch.autograd.graph.node import AccumulateGrad, nodes_below
from nanotorch.autograd.graph.tensor import Tensor, gradient_edge
from nanotorch.autograd.tree import leaves, mapped, replaced
from nanotorch.ops.create.creation import zeros_like

if TYPE_CHECKING:
    from nanotorch.nn.module import Module

__all__ = ["functional_call", "grad", "grad_and_value", "hessian", "jacfwd", "jacrev", "jvp", "vjp"]

Argnums = int | tuple[int, ...]
Function = Callable[..., Any]


def grad(func: Function, argnums: Argnums = 0, has_aux: bool = False) -> Function:
    """Return the function that computes the gradient of `func`, a function with a 0-d result.

    Args:
        func: the function to differentiate.
        argnums: which argument to differentiate with respect to; a tuple gives a tuple of gradients.
        has_aux: `func` returns a pair (result, other things); then the gradient function returns (gradient, other
            things).

    >>> torch.func.grad(torch.func.grad(lambda x: x**3))(torch.tensor(2.0))
    tensor(12.)
    """
    both = grad_and_value(func, argnums, has_aux)

    def gradient(*args: Any, **kwargs: Any) -> Any:
        found, value = both(*args, **kwargs)
        return (found, value[1]) if has_aux else found

    return gradient


def grad_and_value(func: Function, argnums: Argnums = 0, has_aux: bool = False) -> Function:
    """Return the function that computes the pair (gradient, value) of `func`; arguments as in `grad`.

    >>> torch.func.grad_and_value(lambda x: (x * x).sum())(torch.tensor([1.0, 2.0]))
    (tensor([2., 4.]), tensor(5.))
    """

    def both(*args: Any, **kwargs: Any) -> Any:
        call = Call("grad", func, args, kwargs, argnums, has_aux)
        output = call.output
        if not isinstance(output, Tensor):
            raise RuntimeError(f"grad: expected the function to return a 0-d tensor, got a {type(output).__name__}")
        if output.ndim:
            raise RuntimeError(
                f"grad: expected the function to return a scalar (0-d) tensor, got shape {tuple(output.shape)}; use"
                " jacrev, or reduce it"
            )
        found = call.per_argument(call.backward((output,), None, call.recorded))
        value = call.settled(output)
        return found, ((value, call.settled(call.aux)) if has_aux else value)

    return both


def vjp(func: Function, *primals: Any, has_aux: bool = False) -> Any:
    """Return `func(*primals)` and the function that maps a vector to the vector-Jacobian products,
    a tuple of one per primal.

    With `has_aux`, `func` returns (result, other things) and the other things come third.

    >>> y, pullback = torch.func.vjp(lambda x: x**2, torch.tensor([1.0, 3.0]))
    >>> pullback(torch.tensor([1.0, 10.0]))
    (tensor([ 2., 60.]),)
    """
    call = Call("vjp", func, primals, {}, tuple(range(len(primals))), has_aux)
    outputs = tuple(leaves(call.output))

    def pullback(cotangents: Any) -> Any:
        vectors = _matching("vjp", cotangents, outputs)
        recorded = is_grad_enabled() and (call.recorded or any(vector.requires_grad for vector in vectors))
        return call.per_argument(call.backward(outputs, vectors, recorded, retain_graph=True))

    value = call.settled(call.output)
    return (value, pullback, call.settled(call.aux)) if has_aux else (value, pullback)


def jvp(
    func: Function, primals: tuple[Any, ...], tangents: tuple[Any, ...], *, strict: bool = False, has_aux: bool = False
) -> Any:
    """Return `func(*primals)` and the Jacobian-vector product with the tangents, by two backward passes.

    See Note [Forward mode] in `autograd/functional.py`. With `strict` an output that does not depend on the primals
    raises; with `has_aux`, `func` returns (result, other things) and the other things come third.

    >>> torch.func.jvp(torch.sin, (torch.tensor(0.0),), (torch.tensor(2.0),))
    (tensor(0.), tensor(2.))
    """
    if not isinstance(primals, tuple) or not isinstance(tangents, tuple):
        raise TypeError("jvp: primals and tangents are tuples with one entry for every argument of the function")
    call = Call("jvp", func, primals, {}, tuple(range(len(primals))), has_aux)
    vectors = _matching("jvp", tangents, call.variables)
    outputs = tuple(leaves(call.output))
    recorded = call.recorded or (is_grad_enabled() and any(vector.requires_grad for vector in vectors))
    with recording_on():
        cotangents = ones_requiring_grad(outputs)
        products = gradients(outputs, call.variables, cotangents, create_graph=True)
        found = gradients(products, cotangents, vectors, recorded)
    if strict and any(product is None for product in found):
        raise RuntimeError("jvp: an output is independent of the primals, which is not allowed in strict mode")
    tangent = replaced(call.output, iter(_zeros_for_none(found, outputs)))
    value = call.settled(call.output)
    return (value, tangent, call.settled(call.aux)) if has_aux else (value, tangent)


def jacrev(func: Function, argnums: Argnums = 0, *, has_aux: bool = False, chunk_size: int | None = None) -> Function:
    """Return the function that computes the Jacobian of `func` with one backward pass for every output element.

    Args:
        func: the function to differentiate; its result gives the outer structure of the Jacobian, the argument the
            inner.
        argnums: which argument to differentiate with respect to; a tuple gives a tuple of Jacobians.
        has_aux: `func` returns (result, other things); then the Jacobian function returns (Jacobian, other things).
        chunk_size: changes nothing here, since rows are computed one after the other.

    >>> torch.func.jacrev(lambda x: x.cumsum(0) ** 2)(torch.tensor([1.0, 2.0]))
    tensor([[2., 0.],
            [6., 6.]])
    """

    def blocks(call: Call, outputs: tuple[Tensor, ...]) -> list[tuple[Tensor, ...]]:
        return [rows(output, number, call.variables, call.recorded) for number, output in enumerate(outputs)]

    return _jacobian("jacrev", blocks, func, argnums, has_aux)


def jacfwd(func: Function, argnums: Argnums = 0, has_aux: bool = False) -> Function:
    """Return the function that computes the Jacobian of `func` with one backward pass for every input element.

    Arguments as in `jacrev`. Better than that where there are fewer inputs than outputs (Note [Forward mode]).

    >>> torch.func.jacfwd(lambda x: torch.stack([x, x**2, x**3]))(torch.tensor(2.0))
    tensor([ 1.,  4., 12.])
    """

    def blocks(call: Call, outputs: tuple[Tensor, ...]) -> list[tuple[Tensor, ...]]:
        return columns(outputs, call.variables, call.recorded)

    return _jacobian("jacfwd", blocks, func, argnums, has_aux)


def hessian(func: Function, argnums: Argnums = 0) -> Function:
    """Return the function that computes the Hessian of `func`: `jacrev` of `jacrev`.

    >>> torch.func.hessian(lambda x: x[0] ** 2 * x[1])(torch.tensor([1.0, 3.0]))
    tensor([[6., 2.],
            [2., 0.]])
    """
    return jacrev(jacrev(func, argnums), argnums)


def functional_call(
    module: Module,
    parameter_and_buffer_dicts: Mapping[str, Tensor] | Sequence[Mapping[str, Tensor]],
    args: Any = None,
    kwargs: dict[str, Any] | None = None,
    *,
    tie_weights: bool = True,
    strict: bool = False,
) -> Any:
    """Call a module with other tensors in place of its parameters and buffers.

    The module is as before when the call ends. While it runs no other thread may use it.

    Args:
        module: the module to call.
        parameter_and_buffer_dicts: the tensors by their dotted names, or several such dicts; what they do not name
            stays.
        args: the arguments, a tuple; anything else is the only argument.
        kwargs: the keyword arguments.
        tie_weights: a tensor given for one name of a shared parameter also stands in for its other names.
        strict: raise if the names are not exactly those of all parameters and buffers.

    >>> linear = torch.nn.Linear(2, 1)
    >>> weights = {"weight": torch.ones(1, 2), "bias": torch.zeros(1)}
    >>> torch.func.functional_call(linear, weights, torch.tensor([3.0, 4.0]))
    tensor([7.])
    >>> loss = lambda weights, x: torch.func.functional_call(linear, weights, x).sum()
    >>> torch.func.grad(loss)(weights, torch.tensor([3.0, 4.0]))
    {'weight': tensor([[3., 4.]]), 'bias': tensor([1.])}
    """
    dicts = (
        [parameter_and_buffer_dicts] if isinstance(parameter_and_buffer_dicts, Mapping) else parameter_and_buffer_dicts
    )
    values: dict[str, Tensor] = {}
    for given in dicts:
        repeated = values.keys() & given.keys()
        if repeated:
            raise ValueError(f"functional_call: {sorted(repeated)} appear in more than one of the dictionaries")
        values.update(given)
    own = dict(module.named_parameters(remove_duplicate=False)) | dict(module.named_buffers(remove_duplicate=False))
    unexpected, missing = [name for name in values if name not in own], [name for name in own if name not in values]
    if tie_weights:
        shared = {id(own[name]): value for name, value in values.items() if name in own}
        values |= {name: shared[id(own[name])] for name in missing if id(own[name]) in shared}
        missing = [name for name in missing if name not in values]
    if unexpected or (strict and missing):
        raise RuntimeError(
            f"functional_call: {type(module).__name__} has no parameters or buffers named {unexpected}"
            if unexpected
            else f"functional_call: strict=True, and these parameters and buffers are not given: {missing}"
        )
    places = []
    for name, value in values.items():
        path, _, attribute = name.rpartition(".")
        places.append((module.get_submodule(path).__dict__, attribute, value))
    before = [attributes[name] for attributes, name, _ in places]
    arguments = () if args is None else args if isinstance(args, tuple) else (args,)
    try:
        for attributes, attribute, value in places:
            attributes[attribute] = value
        return module(*arguments, **(kwargs or {}))
    finally:
        for (attributes, attribute, _), value in zip(places, before, strict=True):
            attributes[attribute] = value


class Call:
    """One call of a function on fresh arguments, recorded (Note [Function transforms]).

    Attributes:
        variables: the fresh tensors that stand in for those in the arguments to differentiate with respect to.
        output: what the function returned, without `aux`.
        aux: the second part of what it returned, with `has_aux`.
        recorded: whether derivatives have to be recorded.
    """

    def __init__(
        self, name: str, func: Function, args: tuple[Any, ...], kwargs: Any, argnums: Argnums, has_aux: bool
    ) -> None:
        self.single = isinstance(argnums, int)
        positions = (argnums,) if isinstance(argnums, int) else argnums
        for position in positions:
            if not -len(args) <= position < len(args):
                raise RuntimeError(
                    f"{name}: argnums {argnums} names an argument that the call has not: it has {len(args)} positional"
                    " arguments"
                )
        self.trees = tuple([args[position] for position in positions])
        given = tuple(leaves(self.trees))
        for tensor in given:
            if not tensor.is_floating_point():
                raise RuntimeError(
                    f"{name}: arguments to differentiate with respect to have a floating point dtype, got"
                    f" {tensor.dtype}"
                )
        outside = is_grad_enabled()
        with recording_on():
            self.variables = fresh(given, create_graph=True)
            self.own = {edge[0] for t in self.variables if t.is_leaf and (edge := gradient_edge(t)) is not None}
            arguments = list(args)
            for position, tree in zip(positions, replaced(self.trees, iter(self.variables)), strict=True):
                arguments[position] = tree
            result = func(*arguments, **kwargs)
        self.aux = None
        if has_aux:
            if not isinstance(result, tuple) or len(result) != 2:
                raise RuntimeError(f"{name}: with has_aux=True the function returns a pair (result, other things)")
            result, self.aux = result
        self.output = result
        self.recorded = outside and self.leads_further([*leaves(self.output), *leaves(self.aux)])

    def leads_further(self, tensors: Sequence[Tensor]) -> bool:
        """Return whether any path through the graph ends in a leaf other than the call's own fresh tensors."""
        return any(
            isinstance(node, AccumulateGrad) and node not in self.own
            for node in nodes_below(map(gradient_edge, tensors))
        )

    def backward(
        self,
        outputs: tuple[Tensor, ...],
        vectors: tuple[Tensor, ...] | None,
        recorded: bool,
        retain_graph: bool | None = None,
    ) -> list[Tensor]:
        """Return the gradient with respect to every variable, zeros where the outputs do not depend on it."""
        return _zeros_for_none(gradients(outputs, self.variables, vectors, recorded, retain_graph), self.variables)

    def per_argument(self, values: Sequence[Any]) -> Any:
        """Arrange one value for every variable as the arguments are."""
        trees = replaced(self.trees, iter(values))
        return trees[0] if self.single else trees

    def settled(self, tree: Any) -> Any:
        """Return results without a history that would only lead to the call's own fresh tensors."""
        return mapped(lambda t: t if self.recorded and self.leads_further([t]) else t.detach(), tree, Tensor)


def _jacobian(
    name: str,
    blocks: Callable[[Call, tuple[Tensor, ...]], list[tuple[Tensor, ...]]],
    func: Function,
    argnums: Argnums,
    has_aux: bool,
) -> Function:

    def jacobian(*args: Any, **kwargs: Any) -> Any:
        call = Call(name, func, args, kwargs, argnums, has_aux)
        outputs = tuple(leaves(call.output))
        if not outputs:
            raise RuntimeError(
                f"{name}: expected the function to return at least one tensor, got a {type(call.output).__name__}"
            )
        with recording_on():
            found = [
                call.per_argument(block if call.recorded else [t.detach() for t in block])
                for block in blocks(call, outputs)
            ]
        result = replaced(call.output, iter(found))
        return (result, call.settled(call.aux)) if has_aux else result

    return jacobian


def _matching(name: str, tree: Any, like: Sequence[Tensor]) -> tuple[Tensor, ...]:
    """Return the tensors of a structure of vectors, checked against what they go with."""
    vectors = tuple(leaves(tree))
    shapes, wanted = [tuple(v.shape) for v in vectors], [tuple(t.shape) for t in like]
    if shapes != wanted:
        raise RuntimeError(f"{name}: expected vectors of the shapes {wanted}, got {shapes}")
    return vectors


def _zeros_for_none(found: Sequence[Tensor | None], like: Sequence[Tensor]) -> list[Tensor]:
    return [zeros_like(t) if v is None else v for v, t in zip(found, like, strict=True)]
