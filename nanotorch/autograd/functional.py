"""Derivatives of functions: Jacobians, Hessians, and their products with vectors.

Note [Forward mode]
~~~~~~~~~~~~~~~~~~~
Reverse mode gives vector-Jacobian products, `u -> J^T u`, for the price of one backward pass. Forward mode gives the
other product, `v -> J v`. Dual numbers compute it beside the values, which needs a second formula for every operator:
how a tangent goes through it. We have only formulas that say how a gradient comes back, and get `J v` from those: the
product `J^T u` is linear in `u` whatever `u` is, its own Jacobian with respect to `u` is `J^T`, and so a
vector-Jacobian product *of the vector-Jacobian product* is `(J^T)^T v = J v`::

    x ---- f ----> y                   forward, recorded
    J^T u <------- u (ones)            backward, recorded: a function of u
          v -----> J v                 backward of that backward

No operator needs anything new, every custom Function whose backward can be differentiated takes part, and the product
can itself be differentiated. The price: for MLPs of four layers of width (and batch) 32, 128 and 512 on two cores of an
AMD EPYC, `jvp` took 5.0, 3.4 and 1.6 times as long as dual numbers written out by hand, which take twice the forward
pass (`python -m benchmarks.forward_mode`). The factor is overhead of small models and tends to the ratio of matrix
products, 3 to
2. Memory grows with depth as for any recorded pass, where dual numbers need none.

Reverse mode trains networks; `jvp` serves checks, sensitivities and Hessian-vector products. One text per operator is
worth more there than the factor. And a function with fewer inputs than outputs does gain from it: the two recorded
passes are run once, then every column of the Jacobian costs one backward (`strategy="forward-mode"`,
`nanotorch.func.jacfwd`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from nanotorch.autograd.function import Function
from nanotorch.autograd.graph.engine import grad
from nanotorch.autograd.graph.grad_mode import enable_grad, is_inference_mode_enabled
from nanotorch.autograd.graph.inference import inference_mode
from nanotorch.autograd.graph.tensor import Tensor, from_array

__all__ = ["hessian", "hvp", "jacobian", "jvp", "vhp", "vjp"]

Tensors = tuple[Tensor, ...]
TensorOrTensors = Tensor | Tensors
Gradients = tuple[Tensor | None, ...]


class Stack(Function):
    """Stacks tensors of one shape along a new first dimension."""

    @staticmethod
    def forward(ctx: Any, *tensors: Tensor) -> Tensor:
        """Return the stacked tensors."""
        device = tensors[0].device
        return from_array(device.xp.stack([tensor._array for tensor in tensors]), device)

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        """Hand every tensor its slice of the gradient."""
        return grads[0].unbind(0)


def vjp(
    func: Callable[..., Any],
    inputs: TensorOrTensors,
    v: TensorOrTensors | None = None,
    create_graph: bool = False,
    strict: bool = False,
) -> tuple[TensorOrTensors, TensorOrTensors]:
    """Return `func(*inputs)` and the vector-Jacobian product `v^T J`, one tensor for every input.

    Args:
        func: a function of tensors that returns a tensor or a tuple of tensors.
        inputs: its arguments, a tensor or a tuple of tensors.
        v: the vector, of the shape of the outputs; may be left out for a single one-element output.
        create_graph: make both results differentiable.
        strict: raise where an output does not depend on an input instead of returning zeros.

    >>> torch.autograd.functional.vjp(lambda x: x**2, torch.tensor([1.0, 3.0]), torch.tensor([1.0, 10.0]))
    (tensor([1., 9.]), tensor([ 2., 60.]))
    """
    many, given = as_tensors(inputs, "inputs", "vjp")
    with recording_on():
        variables = fresh(given, create_graph)
        many_outputs, outputs = _call(func, variables, "vjp", strict)
        if v is None:
            _need_scalar(outputs, "output")
        vectors = None if v is None else _vectors(v, outputs, many_outputs, "vjp", create_graph)
        products = gradients(outputs, variables, vectors, create_graph)
        found = _filled(products, variables, strict, create_graph, BACKWARD)
    return _result(outputs, many_outputs, create_graph), _result(found, many, create_graph)


def jvp(
    func: Callable[..., Any],
    inputs: TensorOrTensors,
    v: TensorOrTensors | None = None,
    create_graph: bool = False,
    strict: bool = False,
) -> tuple[TensorOrTensors, TensorOrTensors]:
    """Return `func(*inputs)` and the Jacobian-vector product `J v`, one tensor for every output.

    It is computed by two backward passes (Note [Forward mode]).

    Args:
        func: a function of tensors that returns a tensor or a tuple of tensors.
        inputs: its arguments, a tensor or a tuple of tensors.
        v: the vector, of the shape of the inputs; may be left out for a single one-element input.
        create_graph: make both results differentiable.
        strict: raise where an output does not depend on an input instead of returning zeros.

    >>> torch.autograd.functional.jvp(lambda x: x**2, torch.tensor([1.0, 3.0]), torch.tensor([1.0, 10.0]))
    (tensor([1., 9.]), tensor([ 2., 60.]))
    """
    many, given = as_tensors(inputs, "inputs", "jvp")
    if v is None:
        _need_scalar(given, "input")
    with recording_on():
        variables = fresh(given, create_graph)
        directions = _vectors(v, variables, many, "jvp", create_graph)
        many_outputs, outputs = _call(func, variables, "jvp", strict)
        cotangents = ones_requiring_grad(outputs)
        products = gradients(outputs, variables, cotangents, create_graph=True)
        if strict:
            _check_recorded(
                products,
                "The gradient with respect to input {} is independent of the inputs of the user-provided function.",
            )
        tangents = gradients(products, cotangents, directions, create_graph)
        found = _filled(tangents, outputs, strict, create_graph, FORWARD)
    return _result(outputs, many_outputs, create_graph), _result(found, many_outputs, create_graph)


def jacobian(
    func: Callable[..., Any],
    inputs: TensorOrTensors,
    create_graph: bool = False,
    strict: bool = False,
    vectorize: bool = False,
    strategy: str = "reverse-mode",
) -> Any:
    """Return the Jacobian of a function.

    With one input and one output it is a tensor of shape `(*output.shape, *input.shape)`; a tuple on one side gives a
    tuple of such tensors, tuples on both sides give `jacobian[output][input]`.

    Args:
        func: a function of tensors that returns a tensor or a tuple of tensors.
        inputs: its arguments, a tensor or a tuple of tensors.
        create_graph: make the Jacobian differentiable.
        strict: raise where an output does not depend on an input instead of returning zeros.
        vectorize: changes nothing here; PyTorch runs all rows as one batch, we run them one after the other.
        strategy: `"reverse-mode"` runs one backward for every output element, `"forward-mode"` one for every input
            element (Note [Forward mode]): better where there are fewer inputs than outputs.

    >>> torch.autograd.functional.jacobian(lambda x: x.cumsum(0) ** 2, torch.tensor([1.0, 2.0]))
    tensor([[2., 0.],
            [6., 6.]])
    """
    if strategy not in ("forward-mode", "reverse-mode"):
        raise ValueError(f'jacobian: strategy must be "reverse-mode" or "forward-mode", got {strategy!r}')
    many, given = as_tensors(inputs, "inputs", "jacobian")
    with recording_on():
        variables = fresh(given, create_graph)
        many_outputs, outputs = _call(func, variables, "jacobian", strict)
        if strategy == "forward-mode":
            if strict:
                raise RuntimeError(
                    'jacobian: strict=True needs strategy="reverse-mode", which sees which output depends on which'
                    " input"
                )
            blocks = columns(outputs, variables, create_graph)
        else:
            blocks = [rows(output, number, variables, create_graph, strict) for number, output in enumerate(outputs)]
    found = tuple([_result(block, many, create_graph) for block in blocks])
    return found if many_outputs else found[0]


def hessian(
    func: Callable[..., Any],
    inputs: TensorOrTensors,
    create_graph: bool = False,
    strict: bool = False,
    vectorize: bool = False,
    outer_jacobian_strategy: str = "reverse-mode",
) -> Any:
    """Return the Hessian of a function with a single one-element output: the Jacobian of its gradient.

    With one input it is a tensor of shape `(*input.shape, *input.shape)`; with a tuple of inputs `hessian[i][j]`
    has the shape of input i followed by that of input j.

    Args:
        func: a function of tensors that returns a one-element tensor.
        inputs: its arguments, a tensor or a tuple of tensors.
        create_graph: make the Hessian differentiable.
        strict: raise where the output or its gradient does not depend on an input instead of returning zeros.
        vectorize: changes nothing here, as in `jacobian`.
        outer_jacobian_strategy: the strategy of the outer `jacobian`.

    >>> torch.autograd.functional.hessian(lambda x: x[0] ** 2 * x[1], torch.tensor([1.0, 3.0]))
    tensor([[6., 2.],
            [2., 0.]])
    """
    many, given = as_tensors(inputs, "inputs", "hessian")

    def scalar(*values: Tensor) -> Tensor:
        return _scalar_output(*_call(func, values, "hessian", strict), "hessian").reshape(())

    def gradient(*values: Tensor) -> Any:
        found = jacobian(scalar, values, create_graph=True)
        if strict:
            _check_recorded(found, INDEPENDENT_JACOBIAN)
        return found

    found = jacobian(gradient, given, create_graph, strict, vectorize, outer_jacobian_strategy)
    return found if many else found[0][0]


def vhp(
    func: Callable[..., Any],
    inputs: TensorOrTensors,
    v: TensorOrTensors | None = None,
    create_graph: bool = False,
    strict: bool = False,
) -> tuple[Tensor, TensorOrTensors]:
    """Return `func(*inputs)`, a one-element tensor, and the product `v^T H` with its Hessian,
    one tensor for every input.

    Args:
        func: a function of tensors that returns a one-element tensor.
        inputs: its arguments, a tensor or a tuple of tensors.
        v: the vector, of the shape of the inputs; may be left out for a single one-element input.
        create_graph: make both results differentiable.
        strict: raise where the output or its gradient does not depend on an input instead of returning zeros.

    >>> torch.autograd.functional.vhp(lambda x: (x**3).sum(), torch.tensor([1.0, 2.0]), torch.tensor([1.0, 1.0]))
    (tensor(9.), tensor([ 6., 12.]))
    """
    many, given = as_tensors(inputs, "inputs", "vhp")
    with recording_on():
        variables, vectors, output, first = _gradient(func, given, many, v, create_graph, strict, "vhp")
        products = gradients(first, variables, vectors, create_graph)
        found = _filled(products, variables, strict, create_graph, DOUBLE_BACKWARD)
    return output if create_graph else output.detach(), _result(found, many, create_graph)


def hvp(
    func: Callable[..., Any],
    inputs: TensorOrTensors,
    v: TensorOrTensors | None = None,
    create_graph: bool = False,
    strict: bool = False,
) -> tuple[Tensor, TensorOrTensors]:
    """Return `func(*inputs)`, a one-element tensor, and the product `H v` with its Hessian,
    one tensor for every input.

    Where second derivatives are continuous H is symmetric: then `vhp` gives the same with one backward pass less.

    Args:
        func: a function of tensors that returns a one-element tensor.
        inputs: its arguments, a tensor or a tuple of tensors.
        v: the vector, of the shape of the inputs; may be left out for a single one-element input.
        create_graph: make both results differentiable.
        strict: raise where the output or its gradient does not depend on an input instead of returning zeros.

    >>> torch.autograd.functional.hvp(lambda x: (x**3).sum(), torch.tensor([1.0, 2.0]), torch.tensor([1.0, 1.0]))
    (tensor(9.), tensor([ 6., 12.]))
    """
    many, given = as_tensors(inputs, "inputs", "hvp")
    with recording_on():
        variables, vectors, output, first = _gradient(func, given, many, v, create_graph, strict, "hvp")
        cotangents = ones_requiring_grad(variables)
        double = gradients(first, variables, cotangents, create_graph=True)
        if strict:
            _check_recorded(double, INDEPENDENT_HESSIAN)
        products = gradients(double, cotangents, vectors, create_graph)
        found = _filled(products, variables, strict, create_graph, DOUBLE_FORWARD)
    return output if create_graph else output.detach(), _result(found, many, create_graph)


# ----------------------------------------------------------------------------------------------- what they share


@contextmanager
def recording_on() -> Iterator[None]:
    """Record inside the `with` block, also where the caller does not: a derivative is a value like any other."""
    if is_inference_mode_enabled():
        with inference_mode(False):
            yield
    else:
        with enable_grad():
            yield


def as_tensors(value: Any, what: str, name: str) -> tuple[bool, Tensors]:
    """Return whether a tuple of tensors was given, and the tuple."""
    many = isinstance(value, tuple)
    values = value if many else (value,)
    for number, item in enumerate(values):
        if not isinstance(item, Tensor):
            where = f"the value at index {number}" if many else "the given value"
            raise TypeError(
                f"The {what} of {name} must be either a Tensor or a tuple of Tensors, but {where} has type"
                f" {type(item).__name__}"
            )
    return many, values


def fresh(tensors: Tensors, create_graph: bool) -> Tensors:
    """Return new tensors that share the values: uses of the given ones inside the function then count as constants.

    Under `create_graph` derivatives also have to reach the tensors that were given: then the new ones are views.
    """
    values = [t.clone() if t.is_inference() else t for t in tensors]  # recording has to know whether a value is written
    return tuple([t.view_as(t) if create_graph and t.requires_grad else t.detach().requires_grad_() for t in values])


def ones_requiring_grad(tensors: Tensors) -> Tensors:
    """Return the vectors on which a backward pass depends linearly (Note [Forward mode]).

    Their values do not matter, except to code that leaves out what is multiplied by 0: so they are ones.
    """
    return tuple([from_array(t.device.xp.ones_like(t._array), t.device, t.is_floating_point()) for t in tensors])


def gradients(
    outputs: Gradients, inputs: Tensors, vectors: Tensors | None, create_graph: bool, retain_graph: bool | None = None
) -> Gradients:
    """Return `autograd.grad` of those outputs that have a history, None for inputs that they do not depend on."""
    starts: Sequence[Tensor | None] = (None,) * len(outputs) if vectors is None else vectors
    pairs = [(o, v) for o, v in zip(outputs, starts, strict=True) if o is not None and o.requires_grad]
    if not pairs:
        return (None,) * len(inputs)
    recorded, given = zip(*pairs, strict=True)
    return grad(recorded, inputs, given, retain_graph, create_graph, allow_unused=True)


def rows(output: Tensor, number: int, inputs: Tensors, create_graph: bool, strict: bool = False) -> Tensors:
    """Return the Jacobian of one output with respect to every input, from one backward pass for every element."""
    count, xp = output.numel(), output.device.xp
    found: list[list[Tensor]] = [[] for _ in inputs]
    for element in range(count):
        vector = xp.zeros((count,), output.dtype.numpy)
        vector[element] = 1
        start = from_array(xp.reshape(vector, tuple(output.shape)), output.device)
        products = gradients((output,), inputs, (start,), create_graph, retain_graph=True)
        for position, (product, variable) in enumerate(zip(products, inputs, strict=True)):
            if product is None:
                if strict:
                    raise RuntimeError(
                        f"Output {number} of the user-provided function is independent of input {position}.{STRICT}"
                    )
                product = from_array(xp.zeros_like(variable._array), variable.device)
            elif strict and create_graph and not product.requires_grad:
                raise RuntimeError(INDEPENDENT_WITH_GRAPH.format("jacobian", position))
            found[position].append(product)
    if not count:
        return tuple([from_array(xp.zeros((*output.shape, *t.shape), t.dtype.numpy), t.device) for t in inputs])
    return tuple([Stack.apply(*parts).reshape(*output.shape, *t.shape) for parts, t in zip(found, inputs, strict=True)])


def columns(outputs: Tensors, inputs: Tensors, create_graph: bool) -> list[Tensors]:
    """Return for every output its Jacobian with respect to every input,
    from one backward pass for every input element.
    """
    cotangents = ones_requiring_grad(outputs)
    products = gradients(outputs, inputs, cotangents, create_graph=True)
    blocks: list[list[Tensor]] = [[] for _ in outputs]
    for variable, product in zip(inputs, products, strict=True):
        # What comes out is the transposed Jacobian, split by outputs: its rows run over the elements of the input.
        source = (
            from_array(variable.device.xp.zeros_like(variable._array), variable.device) if product is None else product
        )
        for block, output, part in zip(blocks, outputs, rows(source, 0, cotangents, create_graph), strict=True):
            order = (*range(variable.ndim, variable.ndim + output.ndim), *range(variable.ndim))
            block.append(part.permute(order))
    return [tuple(block) for block in blocks]


# ----------------------------------------------------------------------------------------------- checks

STRICT = " This is not allowed in strict mode."
STRICT_WITH_GRAPH = " This is not allowed in strict mode when create_graph=True."
INDEPENDENT_WITH_GRAPH = "The {} of the user-provided function is independent of input {}." + STRICT_WITH_GRAPH
INDEPENDENT_JACOBIAN = (
    "While computing the hessian, found that the jacobian of the user-provided function with respect to input {} is"
    " independent of the input, as that of a linear function is."
)
INDEPENDENT_HESSIAN = "The hessian of the user-provided function with respect to input {} is independent of the input."
# Which result is missing where a pass gives None, and whose name the message with create_graph has.
BACKWARD = ("The output of the user-provided function is independent of input {}.", "jacobian")
FORWARD = ("The gradient of the user-provided function is independent of the vector for output {}.", "jacobian")
DOUBLE_BACKWARD = ("The jacobian of the user-provided function is independent of input {}.", "hessian")
DOUBLE_FORWARD = ("The hessian of the user-provided function is independent of the vector for input {}.", "hessian")


def _call(func: Callable[..., Any], variables: Tensors, name: str, strict: bool) -> tuple[bool, Tensors]:
    many, outputs = as_tensors(func(*variables), "outputs of the user-provided function", name)
    if strict:
        _check_recorded(
            outputs,
            "Output {} of the user-provided function does not require gradients: it has to be computed from the"
            " inputs.",
        )
    return many, outputs


def _gradient(
    func: Callable[..., Any], inputs: Tensors, many: bool, v: Any, create_graph: bool, strict: bool, name: str
) -> tuple[Tensors, Tensors, Tensor, Gradients]:
    """Return fresh inputs, the vectors, the scalar output, and its recorded gradient."""
    if v is None:
        _need_scalar(inputs, "input")
    variables = fresh(inputs, create_graph)
    vectors = _vectors(v, variables, many, name, create_graph)
    output = _scalar_output(*_call(func, variables, name, strict), name)
    first = gradients((output,), variables, None, create_graph=True)
    if strict:
        _check_recorded(first, INDEPENDENT_JACOBIAN)
    return variables, vectors, output, first


def _scalar_output(many: bool, outputs: Tensors, name: str) -> Tensor:
    if many:
        raise RuntimeError(f"The function given to {name} should return a single Tensor, got a tuple of {len(outputs)}")
    if outputs[0].numel() != 1:
        raise RuntimeError(
            f"The Tensor returned by the function given to {name} should contain a single element, got shape"
            f" {tuple(outputs[0].shape)}"
        )
    return outputs[0]


def _need_scalar(tensors: Tensors, what: str) -> None:
    if len(tensors) != 1 or tensors[0].numel() != 1:
        shapes = ", ".join(str(tuple(tensor.shape)) for tensor in tensors)
        raise RuntimeError(
            f"The vector v can only be None if the {what} of the user-provided function is a single element; got"
            f" {shapes}"
        )


def _vectors(v: Any, like: Tensors, many: bool, name: str, create_graph: bool) -> Tensors:
    """Return the vectors to multiply with, checked against the shapes of `like`; ones for None."""
    if v is None:
        return tuple([from_array(t.device.xp.ones_like(t._array), t.device) for t in like])
    _, vectors = as_tensors(v, "v", name)
    if len(vectors) != len(like):
        raise RuntimeError(f"v is a tuple of invalid length: should be {len(like)} but got {len(vectors)}.")
    for number, (vector, tensor) in enumerate(zip(vectors, like, strict=True)):
        if vector.shape != tensor.shape:
            entry = f"Entry {number} in v" if many else "v"
            raise RuntimeError(
                f"{entry} has invalid size: should be {tuple(tensor.shape)} but got {tuple(vector.shape)}."
            )
    return tuple([vector if create_graph else vector.detach() for vector in vectors])


def _check_recorded(tensors: Gradients | Tensor, message: str) -> None:
    """Raise in strict mode unless every tensor is there and has a history."""
    for number, tensor in enumerate((tensors,) if isinstance(tensors, Tensor) else tensors):
        if tensor is None:
            raise RuntimeError(f"{BACKWARD[0].format(number)}{STRICT}")
        if not tensor.requires_grad:
            raise RuntimeError(f"{message.format(number)}{STRICT}")


def _filled(found: Gradients, like: Tensors, strict: bool, create_graph: bool, stage: tuple[str, str]) -> Tensors:
    """Replace None by zeros, or raise in strict mode."""
    message, name = stage
    tensors = []
    for number, (value, reference) in enumerate(zip(found, like, strict=True)):
        if value is None:
            if strict:
                raise RuntimeError(f"{message.format(number)}{STRICT}")
            value = from_array(reference.device.xp.zeros_like(reference._array), reference.device)
        elif strict and create_graph and not value.requires_grad:
            raise RuntimeError(INDEPENDENT_WITH_GRAPH.format(name, number))
        tensors.append(value)
    return tuple(tensors)


def _result(tensors: Tensors, many: bool, create_graph: bool) -> TensorOrTensors:
    """Return results as they were given, a tensor or a tuple, without history unless that was asked for."""
    values = tensors if create_graph else tuple([tensor.detach() for tensor in tensors])
    return values if many else values[0]
